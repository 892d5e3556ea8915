//! Reading a value by its kind: words, numbers, durations, sizes, rates. What is wrong goes to the report.
//!
//! Pure. A reader returns `None` after it told a mistake, so that the caller goes on and finds the others.

use std::fmt::Display;
use std::time::Duration;

use crate::config::document::{Entry, Node, Value};
use crate::config::foreign;
use crate::config::mistake::{Report, quoted};
use crate::config::nearest::nearest;
use crate::config::settings::Rate;
use crate::config::spec::Kind;
use crate::config::units::{DurationError, parse_duration, parse_rate, parse_size, parse_whole};

/// The text of a scalar. `expected` ends the message when it is none.
pub(super) fn scalar<'a>(
    name: &str,
    node: &'a Node,
    expected: impl Display,
    report: &mut Report,
) -> Option<&'a str> {
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

/// The word of this kind that stands there, if one does.
pub(super) fn found_word(kind: &Kind, entry: &Entry) -> Option<&'static str> {
    kind.words().iter().find(|word| is_word(&entry.value, word)).copied()
}

/// One of the words of this kind.
pub(super) fn word(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<&'static str> {
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    let found = found_word(kind, entry);
    if found.is_none() {
        if let Some(here) = foreign::value(&entry.key, text) {
            report.tell(entry.value.place, format!("`{}` cannot be {}; {here}", entry.key, quoted(text)));
            return None;
        }
        match nearest(text, kind.words().iter().copied()) {
            Some(near) => {
                let message = format!("`{}` cannot be {}; did you mean `{near}`?", entry.key, quoted(text));
                report.tell(entry.value.place, message);
            }
            None => tell_not(kind, entry, text, report),
        }
    }
    found
}

/// What `read` understands, or nothing for one of the words of this kind.
pub(super) fn or_word<T>(
    kind: &Kind,
    entry: &Entry,
    report: &mut Report,
    read: impl Fn(&Kind, &Entry, &mut Report) -> Option<T>,
) -> Option<Option<T>> {
    if found_word(kind, entry).is_some() { Some(None) } else { read(kind, entry, report).map(Some) }
}

/// A whole number within the range of this kind.
pub(super) fn whole<N: TryFrom<u64>>(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<N> {
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    let fits = |number: &u64| matches!(kind, Kind::Whole(min, max, _) if (min..=max).contains(&number));
    let number = parse_whole(text).ok().filter(fits).and_then(|number| N::try_from(number).ok());
    if number.is_none() {
        tell_not(kind, entry, text, report);
    }
    number
}

/// A duration within the range of this kind.
pub(super) fn duration(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<Duration> {
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    let fits = |duration: &Duration| match kind {
        Kind::Duration(min, max, _) | Kind::Seconds(min, max) => (min..=max).contains(&duration),
        _ => false,
    };
    match parse_duration(text) {
        Ok(duration) if fits(&duration) => {
            if matches!(kind, Kind::Seconds(..)) && duration.subsec_millis() != 0 {
                let message = format!("`{}` must be whole seconds; the kernel counts in them", entry.key);
                report.tell(entry.value.place, message);
            }
            return Some(duration);
        }
        Ok(_) => tell_not(kind, entry, text, report),
        // `never`, or `off` where it cannot be: no duration was tried.
        Err(DurationError::Form) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
            tell_not(kind, entry, text, report);
        }
        Err(error) => tell_why(kind, entry, text, &error, report),
    }
    None
}

/// A size within the range of this kind.
pub(super) fn size(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<u32> {
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    let fits = |bytes: &u32| matches!(kind, Kind::Size(min, max, _) if (min..=max).contains(&bytes));
    match parse_size(text) {
        Ok(bytes) => match u32::try_from(bytes).ok().filter(fits) {
            Some(bytes) => return Some(bytes),
            None => tell_not(kind, entry, text, report),
        },
        Err(error) => tell_why(kind, entry, text, &error, report),
    }
    None
}

/// A rate up to the most of this kind.
pub(super) fn rate(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<Rate> {
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    let most = if let Kind::Rate(most, _) = kind { *most } else { 0 };
    match parse_rate(text) {
        Ok((0, _)) => {
            let message = format!("`{}`: {} would let nobody in", entry.key, quoted(text));
            report.tell_with_hint(entry.value.place, message, "write `off` for no limit");
        }
        Ok((count, per)) if count <= most * per.as_secs() => {
            return Some(Rate { count: u32::try_from(count).unwrap_or(u32::MAX), per });
        }
        Ok(_) => tell_not(kind, entry, text, report),
        Err(error) => tell_why(kind, entry, text, &error, report),
    }
    None
}

/// A percentage within the range of this kind.
pub(super) fn percent(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<u8> {
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let fits = |percent: &u8| matches!(kind, Kind::Percent(max) if percent <= max);
    let percent = digits.and_then(|digits| digits.parse().ok()).filter(fits);
    if percent.is_none() {
        tell_not(kind, entry, text, report);
    }
    percent
}

/// A number with a point within the range of this kind.
pub(super) fn factor(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<f64> {
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    // Digits and a point: Rust's own reader would also take `inf` and `1e9`.
    let has_digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let fits = |factor: &f64| matches!(kind, Kind::Factor(min, max, _) if (f64::from(*min)..=f64::from(*max)).contains(factor));
    let factor = text.parse().ok().filter(|factor| has_digits && fits(factor));
    if factor.is_none() {
        tell_not(kind, entry, text, report);
    }
    factor
}

/// Tells that this is not what it must be.
pub(super) fn tell_not(kind: &Kind, entry: &Entry, text: &str, report: &mut Report) {
    let message = format!("`{}` must be {}, not {}", entry.key, kind.expected(), quoted(text));
    report.tell(entry.value.place, message);
}

fn tell_why(kind: &Kind, entry: &Entry, text: &str, why: &dyn Display, report: &mut Report) {
    let message = format!("`{}` must be {}; {} {why}", entry.key, kind.expected(), quoted(text));
    report.tell(entry.value.place, message);
}
