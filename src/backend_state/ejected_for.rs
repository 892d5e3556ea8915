//! Causes of an ejection (outlier detection): the closed list. The same words are in status, log and metric.

/// What of real traffic took a backend out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum EjectedFor {
    /// Connects failed, or flows were refused.
    #[default]
    Failures,
    /// It ended sessions without a byte.
    Empty,
    /// It owed answers for too long.
    Silent,
    /// It answered far more slowly than the others.
    Slow,
}

impl EjectedFor {
    /// Each with its word, in the order of their numbers.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("failures", Self::Failures),
        ("empty", Self::Empty),
        ("silent", Self::Silent),
        ("slow", Self::Slow),
    ];
    /// How many there are.
    pub const COUNT: usize = Self::WORDS.len();

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }

    /// The one of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, cause)| cause)
    }

    /// What people read.
    pub fn told(self) -> &'static str {
        match self {
            Self::Failures => "real traffic failed there",
            Self::Empty => "it ended sessions without a byte",
            Self::Silent => "it owed answers for too long",
            Self::Slow => "it answered far more slowly than the others",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list() {
        for (number, (word, cause)) in EjectedFor::WORDS.into_iter().enumerate() {
            assert_eq!(
                (cause as usize, cause.word(), EjectedFor::of_word(word)),
                (number, word, Some(cause))
            );
        }
    }
}
