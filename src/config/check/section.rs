//! Walking a map with known keys, and reading its values: numbers, durations, words. What is wrong goes to the report.
//!
//! Pure. A reader returns `None` after it told a mistake, so that the caller goes on and finds the others.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys::{Section, nearest, unknown_key};
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Place, Report, listed, quoted};
use crate::config::settings::Rate;
use crate::config::units::{
    DurationError, parse_duration, parse_rate, parse_size, parse_whole, show_duration, show_size, show_whole,
};

/// A map of the file whose keys are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// A map that says nothing.
    pub(super) const NONE: Self = Self { entries: &[] };

    /// The map in `node`; unknown keys are told. Nothing (`log:` alone) is a map that says nothing.
    pub(super) fn open(node: &'a Node, section: &Section, report: &mut Report) -> Option<Self> {
        let entries = entries_of(node, section.what, report)?;
        for entry in entries {
            if !section.all_keys().any(|key| key == &*entry.key) {
                report.tell(entry.place, unknown_key(&entry.key, section));
            }
        }
        Some(Self { entries })
    }

    /// The map under `key`; without it a map that says nothing.
    pub(super) fn section(&self, key: &str, section: &Section, report: &mut Report) -> Self {
        self.get(key).and_then(|entry| Self::open(&entry.value, section, report)).unwrap_or(Self::NONE)
    }

    /// The map of these entries, whose keys are known.
    pub(super) fn over(entries: &'a [Entry]) -> Self {
        Self { entries }
    }

    /// The map of this one entry.
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self { entries: std::slice::from_ref(entry) }
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

    /// The value of `key` as `read` understands it; the default when it is not written or was told to be wrong.
    pub(super) fn read<T>(
        &self,
        key: &str,
        default: T,
        report: &mut Report,
        read: impl FnOnce(&'a Entry, &mut Report) -> Option<T>,
    ) -> T {
        self.get(key).and_then(|entry| read(entry, report)).unwrap_or(default)
    }

    /// A whole number within a range.
    pub(super) fn whole<N: TryFrom<u64>>(
        &self,
        key: &str,
        default: N,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> N {
        self.read(key, default, report, |entry, report| whole(entry, &range, None, report))
    }

    /// A whole number within a range, or `word` for `None`: the first of `word`, whose others are for the message alone.
    pub(super) fn whole_or<N: TryFrom<u64>>(
        &self,
        key: &str,
        word: &'static str,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> Option<N> {
        self.read(key, None, report, |entry, report| {
            let is_word = word.split(' ').next().is_some_and(|word| is_word(&entry.value, word));
            if is_word { Some(None) } else { whole(entry, &range, Some(word), report).map(Some) }
        })
    }

    /// A duration within a range.
    pub(super) fn duration(
        &self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
        report: &mut Report,
    ) -> Duration {
        self.read(key, default, report, |entry, report| duration(entry, &range, "", report))
    }

    /// A size within a range.
    pub(super) fn size(
        &self,
        key: &str,
        default: u32,
        range: RangeInclusive<u32>,
        report: &mut Report,
    ) -> u32 {
        self.read(key, default, report, |entry, report| size(entry, &range, report))
    }

    /// A rate, or `off`.
    pub(super) fn rate_or_off(&self, key: &str, report: &mut Report) -> Option<Rate> {
        self.read(key, None, report, |entry, report| {
            let off = is_word(&entry.value, "off");
            if off { Some(None) } else { rate(entry, report).map(Some) }
        })
    }

    /// `on` or `off`.
    pub(super) fn switch(&self, key: &str, default: bool, report: &mut Report) -> bool {
        self.word(key, default, &[("on", true), ("off", false)], report)
    }

    /// A duration within a range, or `off`.
    pub(super) fn duration_or_off(
        &self,
        key: &str,
        default: Option<Duration>,
        range: RangeInclusive<Duration>,
        report: &mut Report,
    ) -> Option<Duration> {
        self.read(key, default, report, |entry, report| {
            let off = is_word(&entry.value, "off");
            if off { Some(None) } else { duration(entry, &range, ", or `off`", report).map(Some) }
        })
    }

    /// One word of a list.
    pub(super) fn word<T: Copy>(
        &self,
        key: &str,
        default: T,
        words: &[(&'static str, T)],
        report: &mut Report,
    ) -> T {
        self.read(key, default, report, |entry, report| word(entry, words, report))
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

/// The text of a scalar. `expected` ends the message when it is none.
pub(super) fn scalar<'a>(name: &str, node: &'a Node, expected: &str, report: &mut Report) -> Option<&'a str> {
    let found = match &node.value {
        Value::Text(text) => return Some(text),
        Value::Empty => "has no value",
        Value::Told => return None,
        Value::List(_) => "is a list",
        Value::Map(_) => "is a map",
    };
    report.tell(node.place, format!("`{name}` {found}; it must be {expected}"));
    None
}

/// Whether the scalar is this word; `off` and `on` may be written `false` and `true`.
pub(super) fn is_word(node: &Node, word: &str) -> bool {
    let Value::Text(text) = &node.value else { return false };
    let other = match word {
        "off" => "false",
        "on" => "true",
        word => word,
    };
    **text == *word || **text == *other
}

/// One word of a list.
pub(super) fn word<T: Copy>(entry: &Entry, words: &[(&'static str, T)], report: &mut Report) -> Option<T> {
    let choices: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let expected = listed(&choices);
    let text = scalar(&entry.key, &entry.value, &expected, report)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| is_word(&entry.value, word)) {
        return Some(*value);
    }
    let message = match nearest(text, choices.into_iter()) {
        Some(near) => format!("`{}` cannot be {}; did you mean `{near}`?", entry.key, quoted(text)),
        None => format!("`{}` must be {expected}, not {}", entry.key, quoted(text)),
    };
    report.tell(entry.value.place, message);
    None
}

/// A name that users put into commands, logs and labels.
pub(super) fn check_name(name: &str, what: &str, place: Place, report: &mut Report) {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '/' | '\\');
    if name.is_empty() || name.chars().count() > NAME_MAX {
        report.tell(place, format!("the name of {what} has 1 to {NAME_MAX} characters"));
    } else if let Some(bad) = name.chars().find(|c| bad(*c)) {
        let message = format!("the name of {what} cannot contain {}", quoted(&bad.to_string()));
        report.tell_with_hint(
            place,
            message,
            "names stand in commands as POOL/BACKEND: no spaces, quotes, slashes, backslashes",
        );
    }
}

fn whole<N: TryFrom<u64>>(
    entry: &Entry,
    range: &RangeInclusive<u64>,
    word: Option<&str>,
    report: &mut Report,
) -> Option<N> {
    let or_word =
        word.map_or(String::new(), |word| format!(", or {}", listed(&word.split(' ').collect::<Vec<_>>())));
    let expected = format!(
        "a whole number from {} to {}{or_word}",
        show_whole(*range.start()),
        show_whole(*range.end())
    );
    let text = scalar(&entry.key, &entry.value, &expected, report)?;
    let number = parse_whole(text).ok().filter(|number| range.contains(number));
    let number = number.and_then(|number| N::try_from(number).ok());
    if number.is_none() {
        report.tell(entry.value.place, format!("`{}` must be {expected}, not {}", entry.key, quoted(text)));
    }
    number
}

fn duration(
    entry: &Entry,
    range: &RangeInclusive<Duration>,
    or_off: &str,
    report: &mut Report,
) -> Option<Duration> {
    let (from, to) = (show_duration(*range.start()), show_duration(*range.end()));
    let expected = format!("a duration from {from} to {to}{or_off}");
    let text = scalar(&entry.key, &entry.value, &expected, report)?;
    match parse_duration(text) {
        Ok(duration) if range.contains(&duration) => return Some(duration),
        // `never`, or `off` where it cannot be: no duration was tried.
        Err(DurationError::Form) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
            report
                .tell(entry.value.place, format!("`{}` must be {expected}, not {}", entry.key, quoted(text)));
        }
        Ok(_) => report
            .tell(entry.value.place, format!("`{}` must be {expected}, not {}", entry.key, quoted(text))),
        Err(error) => {
            report.tell(
                entry.value.place,
                format!("`{}` must be {expected}; {} {error}", entry.key, quoted(text)),
            );
        }
    }
    None
}

fn size(entry: &Entry, range: &RangeInclusive<u32>, report: &mut Report) -> Option<u32> {
    let (from, to) = (show_size((*range.start()).into()), show_size((*range.end()).into()));
    let expected = format!("a size from {from} to {to}");
    let text = scalar(&entry.key, &entry.value, &expected, report)?;
    let message = match parse_size(text) {
        Ok(bytes) => match u32::try_from(bytes).ok().filter(|bytes| range.contains(bytes)) {
            Some(bytes) => return Some(bytes),
            None => format!("`{}` must be {expected}, not {}", entry.key, quoted(text)),
        },
        Err(error) => format!("`{}` must be {expected}; {} {error}", entry.key, quoted(text)),
    };
    report.tell(entry.value.place, message);
    None
}

fn rate(entry: &Entry, report: &mut Report) -> Option<Rate> {
    let expected = format!("a rate like 500/s or 600/m, at most {}/s, or `off`", show_whole(RATE_MAX));
    let text = scalar(&entry.key, &entry.value, &expected, report)?;
    let tell = |report: &mut Report, why: &str| {
        report.tell(entry.value.place, format!("`{}` must be {expected}{why}", entry.key));
        None
    };
    match parse_rate(text) {
        Ok((0, _)) => {
            let message = format!("`{}`: {} would let nobody in", entry.key, quoted(text));
            report.tell_with_hint(entry.value.place, message, "write `off` for no limit");
            None
        }
        Ok((count, per)) if count <= RATE_MAX * per.as_secs() => {
            Some(Rate { count: u32::try_from(count).unwrap_or(u32::MAX), per })
        }
        Ok(_) => tell(report, &format!(", not {}", quoted(text))),
        Err(error) => tell(report, &format!("; {} {error}", quoted(text))),
    }
}

/// Between two of them is a microsecond: what the clock tells apart.
const RATE_MAX: u64 = 1_000_000;
const NAME_MAX: usize = 128;
