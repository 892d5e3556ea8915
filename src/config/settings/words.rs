//! Words: each closed choice of the file with what its words stand for, the one place where they are spelt.
//!
//! The rules read by these tables, the table of keys lists their words, and whoever shows a setting asks for its word.

use super::{
    Addresses, Balance, Contested, Donors, Family, HashKey, Ignored, Leave, Level, LogFormat, LogSessions,
    OnDown, OnEmpty, OnRemoved, Protocol, Role, SendProxy, Speaks, WhenNone, Writers,
};

/// A choice of the file, and its words in the order in which people are told of them.
pub trait Word: Copy + PartialEq + 'static {
    /// Each word once.
    const WORDS: &'static [(&'static str, Self)];

    /// Its word in the file.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }

    /// All its words, for people.
    fn listed() -> String {
        let words: Vec<&str> = Self::WORDS.iter().map(|(word, _)| *word).collect();
        in_a_row(&words)
    }

    /// What a word stands for.
    fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }
}

impl Word for Level {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("text", Self::Text), ("json", Self::Json), ("auto", Self::Auto)];
}

impl Word for LogSessions {
    const WORDS: &'static [(&'static str, Self)] =
        &[("all", Self::All), ("failed", Self::Failed), ("off", Self::Off)];
}

impl Word for Protocol {
    const WORDS: &'static [(&'static str, Self)] = &[("tcp", Self::Tcp), ("udp", Self::Udp)];
}

impl Word for Role {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("any", Self::Any),
        ("primary", Self::Primary),
        ("replica", Self::Replica),
        ("prefer_replica", Self::PreferReplica),
    ];
}

impl Word for Speaks {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("postgres", Self::Postgres),
        ("mysql", Self::Mysql),
        ("redis", Self::Redis),
        ("minecraft", Self::Minecraft),
    ];
}

impl Word for Contested {
    const WORDS: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("keep", Self::Keep)];
}

impl Word for Writers {
    const WORDS: &'static [(&'static str, Self)] = &[("one", Self::One), ("all", Self::All)];
}

impl Word for Donors {
    const WORDS: &'static [(&'static str, Self)] = &[("in", Self::In), ("out", Self::Out)];
}

impl Word for Leave {
    const WORDS: &'static [(&'static str, Self)] = &[("close", Self::Close), ("keep", Self::Keep)];
}

impl Word for SendProxy {
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("v1", Self::V1), ("v2", Self::V2)];
}

impl Word for OnDown {
    const WORDS: &'static [(&'static str, Self)] =
        &[("keep", Self::Keep), ("close", Self::Close), ("rehome", Self::Rehome)];
}

impl Word for OnRemoved {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("keep", Self::Keep), ("close", Self::Close), ("rehome", Self::Rehome)];
}

impl Word for Addresses {
    const WORDS: &'static [(&'static str, Self)] = &[("all", Self::All), ("one", Self::One)];
}

impl Word for Family {
    const WORDS: &'static [(&'static str, Self)] = &[("any", Self::Any), ("v4", Self::V4), ("v6", Self::V6)];
}

impl Word for Ignored {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("weight", Self::Weight),
        ("tier", Self::Tier),
        ("max_sessions", Self::MaxSessions),
        ("port", Self::Port),
    ];
}

impl Word for OnEmpty {
    const WORDS: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("empty", Self::Empty)];
}

impl Word for WhenNone {
    const WORDS: &'static [(&'static str, Self)] =
        &[("reject", Self::Reject), ("try_all", Self::TryAll), ("wait", Self::Wait)];
}

impl Word for HashKey {
    const WORDS: &'static [(&'static str, Self)] =
        &[("source_ip", Self::SourceIp), ("source_ip_port", Self::SourceIpPort)];
}

/// Those without settings of their own; `source_hash` has some, and its word is [`SOURCE_HASH`].
impl Word for Balance {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("round_robin", Self::RoundRobin),
        ("least_connections", Self::LeastConnections),
        ("random", Self::Random),
        ("two_choices", Self::TwoChoices),
        ("least_latency", Self::LeastLatency),
        ("least_busy", Self::LeastBusy),
        ("first", Self::First),
    ];

    fn word(self) -> &'static str {
        let plain = Self::WORDS.iter().find(|(_, value)| *value == self);
        plain.map_or(SOURCE_HASH, |(word, _)| word)
    }
}

/// `a, b or c`.
pub fn in_a_row(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The word of [`Balance::SourceHash`].
pub const SOURCE_HASH: &str = "source_hash";

/// The `type` of a DNS question, with the numbers of RFC 1035 and its successors.
pub const RECORD_TYPES: [(&str, u16); 8] =
    [("A", 1), ("NS", 2), ("CNAME", 5), ("SOA", 6), ("PTR", 12), ("MX", 15), ("TXT", 16), ("AAAA", 28)];

#[cfg(test)]
mod tests {
    use super::*;

    fn holds<T: Word + std::fmt::Debug>(values: &[T]) {
        for value in values {
            assert_eq!(T::of_word(value.word()), Some(*value), "{value:?}");
        }
        assert_eq!(T::WORDS.len(), values.len());
        assert_eq!(T::of_word("zzz"), None);
    }

    #[test]
    fn each_value_has_one_word() {
        holds(&[Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace]);
        holds(&[LogFormat::Auto, LogFormat::Text, LogFormat::Json]);
        holds(&[LogSessions::All, LogSessions::Failed, LogSessions::Off]);
        holds(&[Protocol::Tcp, Protocol::Udp]);
        holds(&[SendProxy::Off, SendProxy::V1, SendProxy::V2]);
        holds(&[OnDown::Keep, OnDown::Close, OnDown::Rehome]);
        holds(&[Addresses::All, Addresses::One]);
        holds(&[Family::Any, Family::V4, Family::V6]);
        holds(&[Ignored::Weight, Ignored::Tier, Ignored::MaxSessions, Ignored::Port]);
        holds(&[OnEmpty::Keep, OnEmpty::Empty]);
        holds(&[OnRemoved::Auto, OnRemoved::Keep, OnRemoved::Close, OnRemoved::Rehome]);
        holds(&[WhenNone::Reject, WhenNone::TryAll, WhenNone::Wait]);
        holds(&[Role::Any, Role::Primary, Role::Replica, Role::PreferReplica]);
        holds(&[Contested::Refuse, Contested::Keep]);
        holds(&[Leave::Close, Leave::Keep]);
        holds(&[Writers::One, Writers::All]);
        holds(&[Donors::In, Donors::Out]);
        holds(&[HashKey::SourceIp, HashKey::SourceIpPort]);
        assert_eq!(Level::listed(), "error, warn, info, debug or trace");
    }
}
