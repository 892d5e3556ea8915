//! What a value may be, in words: for messages (`expected`), for tables (`range`), and the parts of both.
//!
//! Pure.

use std::fmt::{self, Display, Formatter};

use super::{Default, Kind, Section};
use crate::config::mistake::listed;
use crate::config::settings::in_a_row;
use crate::config::units::{show_size, show_whole};
use crate::durations::exact;

impl Kind {
    /// How it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Section(_) | Self::SectionOr(..) => "section",
            Self::Choice(..) => "choice",
            Self::Named(..) => "named sections",
            Self::Backends(..) => "list of backends",
            Self::Maps(..) => "list of maps",
            Self::Whole(..) => "whole number",
            Self::Duration(..) | Self::Seconds(..) => "duration",
            Self::Size(..) => "size",
            Self::Rate(..) => "rate",
            Self::Percent(_) => "percentage",
            Self::Factor(..) => "number",
            Self::Words(_) => "word",
            Self::Text(_) | Self::TextOr(..) => "text",
            Self::List(..) | Self::ListOr(..) => "list",
        }
    }

    /// The map it is, or may be.
    pub(in crate::config) fn section(&self) -> Option<&'static Section> {
        match self {
            Self::Section(section)
            | Self::SectionOr(section, _)
            | Self::Choice(_, section)
            | Self::Named(section, _)
            | Self::TextOr(_, section)
            | Self::Backends(section, _)
            | Self::Maps(section, _) => Some(section),
            _ => None,
        }
    }

    /// The words that may stand there.
    pub fn words(&self) -> &'static [&'static str] {
        match self {
            Self::SectionOr(_, words)
            | Self::Choice(words, _)
            | Self::Whole(_, _, words)
            | Self::Duration(_, _, words)
            | Self::Size(_, _, words)
            | Self::Rate(_, words)
            | Self::Factor(_, _, words)
            | Self::Words(words) => words,
            Self::Text(text) | Self::TextOr(text, _) | Self::List(text, _) | Self::ListOr(text, ..) => {
                text.words
            }
            Self::Section(_)
            | Self::Named(..)
            | Self::Backends(..)
            | Self::Maps(..)
            | Self::Seconds(..)
            | Self::Percent(_) => &[],
        }
    }

    /// The most entries of a list or a map of names, or characters of a text.
    pub(in crate::config) fn most(&self) -> usize {
        match self {
            Self::Named(_, most)
            | Self::Backends(_, most)
            | Self::Maps(_, most)
            | Self::List(_, most)
            | Self::ListOr(_, most, _) => *most,
            Self::Text(text) | Self::TextOr(text, _) => text.most,
            _ => usize::MAX,
        }
    }

    /// From where to where a value goes: `100ms to 1h`. Nothing where only words or a form decide.
    pub fn bounds(&self) -> Option<String> {
        let at_most = |most: &usize| format!("at most {}", show_whole(*most as u64));
        Some(match self {
            Self::Whole(min, max, _) => format!("{} to {}", show_whole(*min), show_whole(*max)),
            Self::Duration(min, max, _) | Self::Seconds(min, max) => {
                format!("{} to {}", exact(*min), exact(*max))
            }
            Self::Size(min, max, _) => {
                format!("{} to {}", show_size((*min).into()), show_size((*max).into()))
            }
            Self::Rate(most, _) => format!("at most {}/s", show_whole(*most)),
            Self::Percent(max) => format!("0% to {max}%"),
            Self::Factor(min, max, _) => format!("{min}.0 to {max}"),
            Self::List(_, most)
            | Self::ListOr(_, most, _)
            | Self::Named(_, most)
            | Self::Maps(_, most)
            | Self::Backends(_, most) => at_most(most),
            Self::Section(_)
            | Self::SectionOr(..)
            | Self::Choice(..)
            | Self::Words(_)
            | Self::Text(_)
            | Self::TextOr(..) => return None,
        })
    }

    /// Everything a value may be, in a line: `100ms to 1h, or off`.
    pub fn range(&self) -> String {
        let words = in_a_row(self.words());
        match self {
            // Where the form does not say it.
            Self::Text(text) if text.most < usize::MAX && !text.form.contains(&text.most.to_string()) => {
                format!("{}; at most {} bytes", text.form.replace('`', ""), text.most)
            }
            Self::Text(text) => text.form.replace('`', ""),
            Self::List(text, most) | Self::ListOr(text, most, _) => {
                format!("{}; at most {}", text.form.replace('`', ""), show_whole(*most as u64))
            }
            Self::Section(_) => "its own keys".to_owned(),
            Self::SectionOr(..) => format!("its own keys, or {words}"),
            Self::Choice(_, section) => {
                let keys: Vec<&str> = section.all_keys().collect();
                format!("{words}; or a map with the settings of {}", in_a_row(&keys))
            }
            Self::Named(..) | Self::Maps(..) => {
                format!("{}, each with its own keys", self.bounds().unwrap_or_default())
            }
            Self::Backends(..) => {
                format!("{} in the file, one at least", self.bounds().unwrap_or_default())
            }
            Self::Words(_) => words,
            Self::Seconds(..) => format!("whole seconds, {}", self.bounds().unwrap_or_default()),
            _ if words.is_empty() => self.bounds().unwrap_or_default(),
            _ => format!("{}, or {words}", self.bounds().unwrap_or_default()),
        }
    }

    /// What a value must be, as a message about another one ends; worked out when such a message is written.
    pub(in crate::config) fn expected(&self) -> Expected<'_> {
        Expected(self)
    }
}

/// What a value must be, for a message.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Expected<'a>(&'a Kind);

impl Display for Expected<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = self.0;
        let bounds = kind.bounds().unwrap_or_default();
        let words = listed(kind.words());
        let or_words = if words.is_empty() { String::new() } else { format!(", or {words}") };
        match kind {
            Kind::Whole(..) => write!(f, "a whole number from {bounds}{or_words}"),
            Kind::Duration(..) | Kind::Seconds(..) => write!(f, "a duration from {bounds}{or_words}"),
            Kind::Size(..) => write!(f, "a size from {bounds}{or_words}"),
            Kind::Rate(..) => write!(f, "a rate like 500/s or 600/m, {bounds}{or_words}"),
            Kind::Percent(_) => write!(f, "a percentage from {bounds}"),
            Kind::Factor(..) => write!(f, "a number from {bounds}, e.g. 1.25{or_words}"),
            Kind::Words(_) | Kind::Choice(..) => f.write_str(&words),
            Kind::Text(text) | Kind::List(text, _) | Kind::ListOr(text, ..) => f.write_str(text.form),
            Kind::TextOr(text, section) => {
                let keys: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
                write!(f, "{}, or a map of {}", text.form, keys.join(", "))
            }
            Kind::SectionOr(section, words) => {
                write!(f, "`{}` or a map like `{}`", words.join("`, `"), section.example())
            }
            Kind::Maps(..) => f.write_str("a list of maps of keys"),
            Kind::Section(_) | Kind::Named(..) | Kind::Backends(..) => f.write_str("a map of keys"),
        }
    }
}

impl Section {
    /// The map with all its defaults written.
    fn example(&self) -> String {
        let pairs = self.keys.iter().filter_map(|key| match key.default {
            Default::Is(text) => Some(format!("{}: {text}", key.name)),
            _ => None,
        });
        format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
    }
}

impl Display for Default {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Is("") => "''",
            Self::Is("{}") => "its own defaults",
            Self::Is(text) | Self::Told(text) => text,
            Self::Required => "needed",
            Self::Parts => "its own defaults",
            Self::Absent => "none",
        })
    }
}
