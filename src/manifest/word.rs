//! Words of closed lists: reasons, counters, settings. They mean the same to every build, so they travel instead of numbers,
//! each once in a manifest, with a number of that manifest wherever it stands.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A word: one of this program's own, or one that came from another process and may be unknown here.
#[derive(Clone)]
pub struct Word(Text);

#[derive(Clone)]
enum Text {
    Own(&'static str),
    Came(Arc<str>),
}

impl Word {
    /// One of this program's own.
    pub const fn own(word: &'static str) -> Self {
        Self(Text::Own(word))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Own(word) => word,
            Text::Came(word) => word,
        }
    }
}

impl From<&'static str> for Word {
    fn from(word: &'static str) -> Self {
        Self::own(word)
    }
}

impl From<String> for Word {
    fn from(word: String) -> Self {
        Self(Text::Came(word.into()))
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Word {}

impl Hash for Word {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Word {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(out)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Words and their numbers in one manifest, in the order in which they were first written.
#[derive(Debug, Default)]
pub(super) struct Words {
    numbers: HashMap<Word, u32>,
    texts: Vec<Word>,
}

impl Words {
    /// The number of this word.
    pub(super) fn number(&mut self, word: &Word) -> u32 {
        if let Some(number) = self.numbers.get(word.as_str()) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(word.clone(), number);
        self.texts.push(word.clone());
        number
    }

    /// All of them, by their numbers.
    pub(super) fn texts(&self) -> Vec<String> {
        self.texts.iter().map(|word| word.as_str().to_owned()).collect()
    }
}
