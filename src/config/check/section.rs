//! Walking a map with known keys, and reading their values by the rows of its section. What is wrong goes to the report.
//!
//! Pure. A reader returns `None` after it told a mistake, so that the caller goes on and finds the others.

use std::time::Duration;

use super::keys::unknown_key;
use super::values::{duration, factor, found_word, or_word, percent, rate, size, tell_not, whole, word};
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::nearest::nearest;
use crate::config::settings::{Protocol, Rate, Word};
use crate::config::spec::{Kind, NAME, Section};

/// A map of the file whose keys are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    entries: &'a [Entry],
    section: &'static Section,
    /// Rows that differ by protocol are read for this one.
    protocol: Option<Protocol>,
}

impl<'a> Fields<'a> {
    /// The map in `node`; unknown keys are told. Nothing (`log:` alone) is a map that says nothing.
    pub(super) fn open(node: &'a Node, section: &'static Section, report: &mut Report) -> Option<Self> {
        let entries = entries_of(node, section.what, report)?;
        for entry in entries {
            if !section.all_keys().any(|key| key == &*entry.key) {
                report.tell(entry.place, unknown_key(&entry.key, section));
                // A slip in the key shows no password: the line is shown with the mistake.
                let is_text = matches!(entry.value.value, Value::Text(_));
                if is_text && nearest(&entry.key, SECRETS.into_iter()).is_some() {
                    report.hide(entry.value.place);
                }
            }
        }
        Some(Self::over(entries, section))
    }

    /// The map of these entries, whose keys are known.
    pub(super) fn over(entries: &'a [Entry], section: &'static Section) -> Self {
        Self { entries, section, protocol: None }
    }

    /// The map of this one entry.
    pub(super) fn of(entry: &'a Entry, section: &'static Section) -> Self {
        Self::over(std::slice::from_ref(entry), section)
    }

    /// A map that says nothing.
    pub(super) fn none(section: &'static Section) -> Self {
        Self::over(&[], section)
    }

    /// The same, read for this protocol.
    pub(super) fn for_protocol(self, protocol: Protocol) -> Self {
        Self { protocol: Some(protocol), ..self }
    }

    /// The same where nothing is written.
    pub(super) fn without_entries(self) -> Fields<'static> {
        Fields { entries: &[], section: self.section, protocol: self.protocol }
    }

    /// The map under `key`; without it a map that says nothing.
    pub(super) fn section(&self, key: &str, report: &mut Report) -> Self {
        let section = self.kind(key).section().unwrap_or(self.section);
        let open = self.get(key).and_then(|entry| Self::open(&entry.value, section, report));
        Self { protocol: self.protocol, ..open.unwrap_or(Self::none(section)) }
    }

    /// What the value of a key may be.
    pub(super) fn kind(&self, key: &str) -> Kind {
        let row = self.section.row(key, self.protocol);
        debug_assert!(row.is_some(), "`{key}` has no row in {}", self.section.what);
        row.map_or(Kind::Words(&[]), |row| row.kind)
    }

    /// The keys written here, those of an inlined section aside, that cannot apply to a protocol. What stands in
    /// `defaults` is for those it is for.
    pub(super) fn strangers(&self, protocol: Protocol) -> impl Iterator<Item = &'a Entry> {
        let section = self.section;
        let is_stranger = move |entry: &&Entry| {
            let mut rows = section.keys.iter().filter(|row| row.name == &*entry.key).peekable();
            !entry.is_default && rows.peek().is_some() && rows.all(|row| !row.protocols.holds(protocol))
        };
        self.entries.iter().filter(is_stranger)
    }

    /// The entries as they are written, unknown ones included.
    pub(super) fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// Whether no key is written at all.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of a key, if it is written.
    pub(super) fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| &*entry.key == key)
    }

    /// The first of the keys of `section` that is written.
    pub(super) fn any_of(&self, section: &Section) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| section.all_keys().any(|key| key == &*entry.key))
    }

    /// The value of `key` as `read` understands it; when it is not written, or was told to be wrong, the default of its
    /// row as `read` understands that. `None`: it has no default either.
    pub(super) fn read<T>(
        &self,
        key: &str,
        report: &mut Report,
        read: impl Fn(&Entry, &mut Report) -> Option<T>,
    ) -> Option<T> {
        self.get(key).and_then(|entry| read(entry, report)).or_else(|| {
            let default = self.section.row(key, self.protocol)?.as_default()?;
            read(&default, &mut Report::default())
        })
    }

    /// A whole number within its range.
    pub(super) fn whole<N: TryFrom<u64> + Default>(&self, key: &str, report: &mut Report) -> N {
        self.whole_or(key, report).unwrap_or_default()
    }

    /// A whole number within its range; `None` for one of the words of its row.
    pub(super) fn whole_or<N: TryFrom<u64>>(&self, key: &str, report: &mut Report) -> Option<N> {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| or_word(&kind, entry, report, whole)).flatten()
    }

    /// A duration within its range.
    pub(super) fn duration(&self, key: &str, report: &mut Report) -> Duration {
        self.duration_or(key, report).unwrap_or_default()
    }

    /// A duration within its range; `None` for one of the words of its row.
    pub(super) fn duration_or(&self, key: &str, report: &mut Report) -> Option<Duration> {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| or_word(&kind, entry, report, duration)).flatten()
    }

    /// A size within its range.
    pub(super) fn size(&self, key: &str, report: &mut Report) -> u32 {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| size(&kind, entry, report)).unwrap_or_default()
    }

    /// A size within its range; `None` for one of the words of its row.
    pub(super) fn size_or(&self, key: &str, report: &mut Report) -> Option<u32> {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| or_word(&kind, entry, report, size)).flatten()
    }

    /// A rate; `None` for one of the words of its row.
    pub(super) fn rate_or(&self, key: &str, report: &mut Report) -> Option<Rate> {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| or_word(&kind, entry, report, rate)).flatten()
    }

    /// A percentage within its range.
    pub(super) fn percent(&self, key: &str, report: &mut Report) -> u8 {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| percent(&kind, entry, report)).unwrap_or_default()
    }

    /// A number with a point within its range; `None` for one of the words of its row.
    pub(super) fn factor_or(&self, key: &str, report: &mut Report) -> Option<f64> {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| or_word(&kind, entry, report, factor)).flatten()
    }

    /// `on` or `off`.
    pub(super) fn switch(&self, key: &str, report: &mut Report) -> bool {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| word(&kind, entry, report)) == Some("on")
    }

    /// What one of the words of its row stands for.
    pub(super) fn word_of<T: Word>(&self, key: &str, report: &mut Report) -> T {
        // There is a default, and it is one of them.
        self.word_or(key, report).unwrap_or(T::WORDS[0].1)
    }

    /// The same; `None` for words that stand for nothing by themselves, like `auto`.
    pub(super) fn word_or<T: Word>(&self, key: &str, report: &mut Report) -> Option<T> {
        let kind = self.kind(key);
        self.read(key, report, |entry, report| word(&kind, entry, report)).and_then(T::of_word)
    }

    /// The map of a key that may be a word instead; `None`: it is `off`.
    pub(super) fn section_or_off<T>(
        &self,
        key: &str,
        report: &mut Report,
        read: impl Fn(Fields<'_>, &mut Report) -> T,
    ) -> Option<T> {
        let kind = self.kind(key);
        let section = kind.section().unwrap_or(self.section);
        let whole = |entry: &Entry, report: &mut Report| {
            if let Some(word) = found_word(&kind, entry) {
                return Some((word != "off").then(|| read(Fields::none(section), report)));
            }
            if let Value::Text(text) = &entry.value.value {
                tell_not(&kind, entry, text, report);
                return None;
            }
            Some(Some(read(Fields::open(&entry.value, section, report)?, report)))
        };
        self.read(key, report, whole).flatten()
    }
}

/// The entries of a map; nothing is an empty one.
pub(super) fn entries_of<'a>(node: &'a Node, what: &str, report: &mut Report) -> Option<&'a [Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        Value::Empty => Some(&[]),
        Value::Told => None,
        Value::List(_) => {
            report.tell(node.place, format!("{what} is a map of keys, not a list"));
            None
        }
        Value::Text(text) => {
            let message = format!("{what} is a map of keys, not {}", quoted(text));
            // `bind:6379` is one word in YAML.
            match text.split_once(':') {
                Some((_, after)) if !after.starts_with(' ') => {
                    report.tell_with_hint(node.place, message, "YAML wants a space after the `:` of a key");
                }
                _ => report.tell(node.place, message),
            }
            None
        }
    }
}

/// A name that users put into commands, logs and labels.
pub(super) fn check_name(name: &str, what: &str, place: Place, report: &mut Report) {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '/' | '\\');
    if name.is_empty() || name.chars().count() > NAME.most {
        report.tell(place, format!("the name of {what} has 1 to {} characters", NAME.most));
    } else if let Some(bad) = name.chars().find(|c| bad(*c)) {
        let message = format!("the name of {what} cannot contain {}", quoted(&bad.to_string()));
        report.tell_with_hint(
            place,
            message,
            "names stand in commands as POOL/BACKEND: no spaces, quotes, slashes, backslashes",
        );
    }
}

/// Keys whose values nobody is shown.
const SECRETS: [&str; 2] = ["password", "sentinel_password"];
