//! Notes: what of a configuration is different here, or lost, or HTTP; each with its place and its reason, and each once.

use std::collections::HashSet;
use std::fmt;

use crate::config::foreign_key;

/// How a directive fared that was not simply translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has no counterpart, and what it did is not done.
    Lost,
    /// It is translated, and means something else in part.
    Different,
    /// Nothing is lost without it.
    NotNeeded,
    /// HTTP is not what this program balances.
    Http,
}

impl Standing {
    /// What the notes of this kind are headed with.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Different => "different",
            Self::NotNeeded => "not needed",
            Self::Http => "HTTP",
        }
    }

    /// In the order in which people should read them.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Different, Self::Http, Self::NotNeeded];
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// How it fared.
    pub standing: Standing,
    /// What is written there, and why it fared so.
    pub text: String,
    /// The listener or pool that it is of.
    pub part: Option<String>,
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub(super) file: String,
    pub(super) line: usize,
}

/// Gathers them.
pub(super) struct Notes {
    name: String,
    /// The balancer, as the tables of its words are called.
    whose: &'static str,
    list: Vec<Note>,
    told: HashSet<(String, usize, String)>,
    untold: usize,
    /// The part that is translated now.
    part: Option<String>,
}

impl Notes {
    pub(super) fn new(name: &str, whose: &'static str) -> Self {
        let name = name.to_owned();
        Self { name, whose, list: Vec::new(), told: HashSet::new(), untold: 0, part: None }
    }

    /// A place in the file that was named.
    pub(super) fn at(&self, line: usize) -> At {
        At { file: self.name.clone(), line }
    }

    /// What comes now is of this listener or pool.
    pub(super) fn enter(&mut self, part: &str) {
        self.part = Some(part.to_owned());
    }

    pub(super) fn leave(&mut self) {
        self.part = None;
    }

    pub(super) fn tell(&mut self, at: &At, standing: Standing, text: impl Into<String>) {
        let text = shown(&text.into());
        if self.list.len() >= NOTES_MAX {
            self.untold += 1;
            return;
        }
        // What `defaults` say is read for each that inherits it.
        if !self.told.insert((at.file.clone(), at.line, text.clone())) {
            return;
        }
        let (file, part) = (at.file.clone(), self.part.clone());
        self.list.push(Note { file, line: at.line, standing, text, part });
    }

    pub(super) fn lost(&mut self, at: &At, text: impl Into<String>) {
        self.tell(at, Standing::Lost, text);
    }

    pub(super) fn different(&mut self, at: &At, text: impl Into<String>) {
        self.tell(at, Standing::Different, text);
    }

    /// A directive that nothing was made of: what is known of its word is told.
    pub(super) fn unknown(&mut self, at: &At, word: &str, whole: &str) {
        let why = [whole, word].into_iter().find_map(|word| foreign_key(self.whose, word));
        let why = why.map_or_else(
            || format!("`{whole}`: has no counterpart here"),
            |why| {
                if whole == word { why } else { format!("`{whole}`: {why}") }
            },
        );
        self.lost(at, why);
    }

    pub(super) fn into_list(mut self) -> Vec<Note> {
        if self.untold > 0 {
            let text = format!("{} more notes are not told", self.untold);
            let file = self.name.clone();
            self.list.push(Note { file, line: 0, standing: Standing::Lost, text, part: None });
        }
        self.list
    }
}

/// For a terminal and a comment: one line, without what moves the cursor, and not endless.
fn shown(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut text: String = text.chars().take(TEXT_MAX + 1).map(plain).collect();
    if text.chars().count() > TEXT_MAX {
        text.pop();
        text.push('…');
    }
    text
}

const NOTES_MAX: usize = 5_000;
const TEXT_MAX: usize = 400;
