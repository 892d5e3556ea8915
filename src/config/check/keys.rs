//! Every key there is, by the map it stands in, and what to say about one that is not.
//!
//! Pure. A key is listed here when it works, not before.

use crate::config::mistake::quoted;

/// A kind of map in the file.
#[derive(Debug)]
pub(super) struct Section {
    /// How messages call it.
    pub(super) what: &'static str,
    /// Its keys.
    keys: &'static [&'static str],
    /// A section whose keys may stand here too.
    inline: Option<&'static Self>,
    /// Its keys are the choices of a value: one of them stands there, and none of them belongs elsewhere.
    choice: bool,
}

impl Section {
    pub(super) fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        let inline = self.inline.map_or(&[][..], |section| section.keys);
        self.keys.iter().chain(inline).copied()
    }
}

/// What to tell about a key that `section` does not have.
pub(super) fn unknown_key(key: &str, section: &Section) -> String {
    let what = section.what;
    let key_shown = quoted(key);
    if let Some(near) = nearest(key, section.all_keys()) {
        return format!("unknown key {key_shown} in {what}; did you mean `{near}`?");
    }
    let elsewhere: Vec<&str> =
        ALL.iter().filter(|other| other.keys.contains(&key)).map(|other| other.what).collect();
    if !elsewhere.is_empty() && !section.choice {
        return format!("unknown key {key_shown} in {what}; it is a key of {}", elsewhere.join(" and of "));
    }
    let keys: Vec<&str> = section.all_keys().collect();
    format!("unknown key {key_shown} in {what}; its keys are {}", keys.join(", "))
}

/// The candidate a writer of `word` probably meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_MAX {
        return None;
    }
    let bare = |text: &str| text.to_lowercase().replace(['_', '-', ' '], "");
    let word = bare(word);
    let misses_max = word.chars().count().div_ceil(4).min(3);
    let misses = |candidate: &str| {
        let candidate = bare(candidate);
        // `leastconn`, `round`: the beginning of a longer word is no slip of the finger, but clear enough.
        if word.len() >= 4 && candidate.starts_with(&word) {
            return Some(0);
        }
        let misses = strsim::osa_distance(&word, &candidate);
        (misses <= misses_max).then_some(misses)
    };
    let near = candidates.filter(|candidate| candidate.len() <= WORD_MAX);
    near.filter_map(|candidate| Some((misses(candidate)?, candidate))).min().map(|(_, candidate)| candidate)
}

/// Those that each listener has of its own come first.
const LISTENER_KEYS: [&str; 13] = [
    "bind",
    "pool",
    "protocol",
    "allow",
    "deny",
    "limits",
    "accept_proxy",
    "timeouts",
    "keepalive",
    "backlog",
    "freebind",
    "log_sessions",
    "udp",
];
/// Those that each pool has of its own come first.
const POOL_KEYS: [&str; 13] = [
    "backends",
    "balance",
    "max_sessions",
    "sticky",
    "connect",
    "connect_from",
    "send_proxy",
    "health",
    "passive",
    "slow_start",
    "on_down",
    "when_none",
    "queue",
];

/// Longer words are not compared: the cost is the product of the lengths.
const WORD_MAX: usize = 64;

const fn section(what: &'static str, keys: &'static [&'static str]) -> Section {
    Section { what, keys, inline: None, choice: false }
}

const fn choice(what: &'static str, keys: &'static [&'static str]) -> Section {
    Section { what, keys, inline: None, choice: true }
}

pub(super) const TOP: Section = section(
    "the file",
    &["workers", "hash_seed", "log", "admin", "shutdown", "limits", "defaults", "listeners", "pools"],
);
pub(super) const LOG: Section = section("`log`", &["level", "format", "sessions"]);
pub(super) const ADMIN: Section = section("`admin`", &["socket", "http"]);
pub(super) const SHUTDOWN: Section = section("`shutdown`", &["grace"]);
pub(super) const LIMITS: Section = section("`limits`", &["tcp_sessions", "udp_sessions"]);
pub(super) const LISTENER_LIMITS: Section =
    section("the `limits` of a listener", &["sessions", "sessions_per_source", "rate", "rate_per_source"]);
pub(super) const UDP: Section = section("`udp`", &["responses", "requests", "receive_buffer"]);
pub(super) const DEFAULTS: Section = section("`defaults`", &["listener", "pool"]);
pub(super) const DEFAULTS_LISTENER: Section =
    section("the `listener` of `defaults`", LISTENER_KEYS.split_at(2).1);
pub(super) const DEFAULTS_POOL: Section = section("the `pool` of `defaults`", POOL_KEYS.split_at(1).1);
pub(super) const LISTENER: Section =
    Section { what: "a listener", keys: &LISTENER_KEYS, inline: Some(&POOL), choice: false };
pub(super) const TIMEOUTS: Section =
    section("`timeouts`", &["header", "idle", "half_closed", "lifetime", "unacknowledged"]);
pub(super) const KEEPALIVE: Section = section("`keepalive`", &["idle", "interval", "count"]);
pub(super) const POOL: Section = section("a pool", &POOL_KEYS);
pub(super) const BALANCE: Section = choice("`balance`", &["source_hash"]);
pub(super) const SOURCE_HASH: Section =
    section("`source_hash`", &["key", "bounded_load", "mask_v4", "mask_v6"]);
pub(super) const BACKEND: Section =
    section("a backend", &["address", "name", "weight", "tier", "max_sessions"]);
pub(super) const STICKY: Section = section("`sticky`", &["for", "entries"]);
pub(super) const PASSIVE: Section = section("`passive`", &["failures", "eject", "max_ejected"]);
pub(super) const QUEUE: Section = section("`queue`", &["sessions", "timeout"]);
pub(super) const CONNECT: Section = section("`connect`", &["timeout", "attempts"]);
pub(super) const HEALTH: Section =
    section("`health`", &["check", "interval", "timeout", "rise", "fall", "port"]);
pub(super) const CHECK: Section = choice("`check`", &["tcp", "udp", "dns"]);
pub(super) const TALK: Section = section("`tcp`", &["send", "expect"]);
pub(super) const UDP_TALK: Section = section("the `udp` of `check`", &["send", "expect"]);
pub(super) const DNS: Section = section("`dns`", &["name", "type"]);

pub(super) const ALL: [&Section; 23] = [
    &TOP,
    &LOG,
    &ADMIN,
    &SHUTDOWN,
    &LIMITS,
    &LISTENER_LIMITS,
    &UDP,
    &LISTENER,
    &TIMEOUTS,
    &KEEPALIVE,
    &POOL,
    &BALANCE,
    &SOURCE_HASH,
    &BACKEND,
    &STICKY,
    &PASSIVE,
    &QUEUE,
    &CONNECT,
    &HEALTH,
    &CHECK,
    &TALK,
    &UDP_TALK,
    &DNS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let cases = [
            ("wieght", &BACKEND, Some("weight")),
            ("max-sessions", &BACKEND, Some("max_sessions")),
            ("maxSessions", &BACKEND, Some("max_sessions")),
            ("adress", &BACKEND, Some("address")),
            ("backend", &LISTENER, Some("backends")),
            ("timeout", &LISTENER, Some("timeouts")),
            ("listener", &TOP, Some("listeners")),
            ("zone", &BACKEND, None),
            ("x", &BACKEND, None),
            ("", &BACKEND, None),
        ];
        for (word, section, expected) in cases {
            assert_eq!(nearest(word, section.all_keys()), expected, "{word}");
        }
    }

    #[test]
    fn a_key_of_another_section_is_sent_there() {
        assert_eq!(
            unknown_key("interval", &POOL),
            "unknown key `interval` in a pool; it is a key of `keepalive` and of `health`"
        );
        assert_eq!(
            unknown_key("zzz", &LIMITS),
            "unknown key `zzz` in `limits`; its keys are tcp_sessions, udp_sessions"
        );
    }
}
