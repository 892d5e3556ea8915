//! Keys of the file (schema, ranges, defaults): one row a key, one table a section. Name, kind, range, default,
//! protocols, since when, and a line on what it does.
//!
//! Pure. From these rows come the keys that are known and suggested (`check::keys`), the ranges and defaults that the
//! rules go by (`check::section`), the JSON Schema (`schema`), the answer of `evenkeel keys` (`find`), and by a test the
//! keys, defaults and ranges of `conf/reference.yaml`. Must stay true: nothing of a row is spelt anywhere else.

mod asked;
mod checks;
mod databases;
mod discovery;
mod find;
mod listener;
mod logins;
mod pool;
mod process;
mod range;
#[cfg(test)]
mod reference_tests;
mod routes;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use super::document::{Entry, Node, Value};
use super::mistake::Place;
use super::settings::Protocol;

pub(super) use asked::{CONSUL, DOCKER, HTTP, KUBERNETES, SOCKET_BYTES_MAX, TLS_OF_SOURCE};
pub(super) use checks::{CHECK, DNS, EXPECT, POSTGRES, TALK, UDP_TALK};
pub(super) use databases::{MONGODB, MYSQL, REDIS};
pub(super) use discovery::{FROM, LISTED, LISTED_MAX, TARGETS};
pub(super) use find::sections;
pub use find::{Asked, Found, all, ask, blocks, table_of_all};
pub(super) use listener::{DEFAULTS_LISTENER, LISTENER, NETWORK_FILE};
pub(super) use logins::{SECRET, TLS};
pub(super) use pool::{BACKEND, BALANCE, DEFAULTS_POOL, POOL, SOURCE_HASH};
pub(super) use process::TOP;
pub(super) use routes::ROUTE;

/// A map of the file whose keys are known.
#[derive(Debug)]
pub struct Section {
    /// How messages call it.
    pub(super) what: &'static str,
    /// Its rows. Two of one name differ by protocol and stand one behind the other.
    pub(super) keys: &'static [Key],
    /// A section whose keys may stand here too.
    pub(super) inline: Option<&'static Self>,
    /// Its keys are the choices of a value: one of them stands there, and none of them belongs elsewhere.
    pub(super) choice: bool,
    /// One of these keys is needed, and no two of them go together.
    pub(super) one_of: &'static [&'static str],
}

impl Section {
    const fn new(what: &'static str, keys: &'static [Key]) -> Self {
        Self { what, keys, inline: None, choice: false, one_of: &[] }
    }

    const fn choice(what: &'static str, keys: &'static [Key]) -> Self {
        Self { what, keys, inline: None, choice: true, one_of: &[] }
    }

    const fn with_one_of(self, one_of: &'static [&'static str]) -> Self {
        Self { one_of, ..self }
    }

    /// The names of its keys, each once, those of the inlined section behind its own.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        let inline = self.inline.map_or(&[][..], |section| section.keys);
        names(self.keys).chain(names(inline))
    }

    /// The row of a key for a protocol; where it does not differ by protocol, or none is known, the first one.
    pub(super) fn row(&self, name: &str, protocol: Option<Protocol>) -> Option<&'static Key> {
        let inline = self.inline.map_or(&[][..], |section| section.keys);
        let rows = || self.keys.iter().chain(inline).filter(|key| key.name == name);
        let fitting = rows().find(|key| protocol.is_none_or(|protocol| key.protocols.holds(protocol)));
        fitting.or_else(|| rows().next())
    }
}

/// Each name once: rows of one name stand one behind the other.
fn names(keys: &'static [Key]) -> impl Iterator<Item = &'static str> {
    let repeats = |at: usize| at > 0 && keys[at - 1].name == keys[at].name;
    keys.iter().enumerate().filter(move |(at, _)| !repeats(*at)).map(|(_, key)| key.name)
}

/// A row: one key of the file.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What leaving it out means.
    pub default: Default,
    /// Which sessions it is for; with another it is refused.
    pub protocols: Protocols,
    /// The first version that had it.
    pub since: &'static str,
    /// What it does, in a line.
    pub doc: &'static str,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Self {
        Self { name, kind, default, protocols: Protocols::Both, since: "0.1.0", doc }
    }

    /// For tcp alone.
    const fn tcp(self) -> Self {
        Self { protocols: Protocols::Tcp, ..self }
    }

    /// For udp alone.
    const fn udp(self) -> Self {
        Self { protocols: Protocols::Udp, ..self }
    }

    /// The default as if it stood in the file. `None`: there is none that can be written.
    pub(super) fn as_default(&self) -> Option<Entry> {
        let Default::Is(text) = self.default else { return None };
        let value = match text {
            "[]" => Value::List(Rc::from([])),
            "{}" => Value::Map(Rc::from([])),
            text => Value::Text(text.into()),
        };
        let value = Node { place: Place::FILE, value };
        Some(Entry { key: self.name.into(), place: Place::FILE, value, is_default: false })
    }
}

/// What leaving a key out means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// The same as this value, which may as well be written.
    Is(&'static str),
    /// This, which depends on something and cannot be written for all.
    Told(&'static str),
    /// A mistake.
    Required,
    /// What its own keys say when they are left out.
    Parts,
    /// Nothing: it is there or not.
    Absent,
}

/// For which protocols a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// For connections and flows.
    Both,
    /// For connections alone.
    Tcp,
    /// For flows alone.
    Udp,
}

impl Protocols {
    /// Whether a key of these is for it.
    pub fn holds(self, protocol: Protocol) -> bool {
        match self {
            Self::Both => true,
            Self::Tcp => protocol == Protocol::Tcp,
            Self::Udp => protocol == Protocol::Udp,
        }
    }
}

/// What a value may be. Where words are listed, they may stand instead of it; `off` and `on` also as `false` and `true`.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A map of keys.
    Section(&'static Section),
    /// A map of keys, or a word.
    SectionOr(&'static Section, &'static [&'static str]),
    /// A word, or a map of one key: a choice with settings.
    Choice(&'static [&'static str], &'static Section),
    /// A map of names that people give, at most so many, each with such a map.
    Named(&'static Section, usize),
    /// A list of at least one address or such a map; at most so many in the file.
    Backends(&'static Section, usize),
    /// A list of such maps, at most so many.
    Maps(&'static Section, usize),
    /// A whole number.
    Whole(u64, u64, &'static [&'static str]),
    /// A duration, or a word.
    Duration(Duration, Duration, &'static [&'static str]),
    /// A duration of whole seconds.
    Seconds(Duration, Duration),
    /// A size in bytes, or a word.
    Size(u32, u32, &'static [&'static str]),
    /// So many in a time, at most that many a second; or a word.
    Rate(u64, &'static [&'static str]),
    /// A percentage from 0.
    Percent(u8),
    /// A number with a point, or a word.
    Factor(u32, u32, &'static [&'static str]),
    /// One of these words.
    Words(&'static [&'static str]),
    /// Text of a form of its own.
    Text(Text),
    /// Such a text, or a map of keys.
    TextOr(Text, &'static Section),
    /// One, or a list of at most so many, of a form of its own.
    List(Text, usize),
    /// The same, in which such maps may stand too.
    ListOr(Text, usize, &'static Section),
}

/// A form of text.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// What it must be, for people; with the words that may stand there.
    pub(super) form: &'static str,
    /// The most characters or bytes there may be, where it is not the form that limits them.
    pub(super) most: usize,
    /// The words that may stand there instead.
    pub(super) words: &'static [&'static str],
    /// From where to where a number may go that stands for it: a port, a name of digits.
    pub(super) numbers: Option<(u64, u64)>,
}

impl Text {
    const fn new(form: &'static str) -> Self {
        Self { form, most: usize::MAX, words: &[], numbers: None }
    }

    /// Of at most so many characters or bytes.
    const fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }
}

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

const fn minutes(number: u64) -> Duration {
    Duration::from_secs(60 * number)
}

const fn hours(number: u64) -> Duration {
    Duration::from_secs(3_600 * number)
}

/// The words of a table of words, as many as the constant it becomes has room for.
const fn spelt<T, const N: usize>(table: &[(&'static str, T)]) -> [&'static str; N] {
    spelt_between(&[], table, &[])
}

/// The same with words of this key alone before and behind them.
const fn spelt_between<T, const N: usize>(
    before: &[&'static str],
    table: &[(&'static str, T)],
    behind: &[&'static str],
) -> [&'static str; N] {
    assert!(before.len() + table.len() + behind.len() == N, "each word has its place");
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = if at < before.len() {
            before[at]
        } else if at < before.len() + table.len() {
            table[at - before.len()].0
        } else {
            behind[at - before.len() - table.len()]
        };
        at += 1;
    }
    words
}

const ANY_NUMBER: Option<(u64, u64)> = Some((0, u64::MAX));
const OFF: &[&str] = &["off"];
/// The most sessions there may be: beyond what one machine can hold open.
const SESSIONS_MAX: u64 = 10_000_000;
/// What a name may be.
pub(super) const NAME: Text = Text {
    form: "1 to 128 characters, no spaces, quotes, slashes or backslashes",
    most: 128,
    words: &[],
    numbers: ANY_NUMBER,
};
