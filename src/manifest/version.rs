//! Who may hand over to whom: what a process writes, what it reads, and why two of them cannot.
//!
//! [`VERSION`] rises with every change of what is written, and decides nothing by itself: records skip and default what
//! they do not know. Only a change of what something *means* raises the other two.

use std::fmt;

/// The format that this program writes: one more for every change of it. `tests/manifests` keeps one of each.
pub const VERSION: u32 = 16;
/// The oldest program that may read what this one writes, by the format that it writes itself. Rises when what is written
/// means something else than before, so that a program that does not know would get it wrong.
pub const OLDEST_READER: u32 = 3;
/// The oldest format that this program reads. Rises when it forgets how to.
pub const OLDEST_READ: u32 = 3;

/// What a process says of itself to the one before it: the formats that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// The one it writes itself; later ones, too, where they say so.
    pub newest: u32,
    /// The oldest.
    pub oldest: u32,
}

/// Why there is no handover between two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The next program does not understand what this one writes.
    #[error(
        "the new program is too old: it reads handovers of format {newest}, and this one writes format {VERSION}, which takes {OLDEST_READER} or later to read. Sessions go on only in a program that is new enough"
    )]
    TooOld {
        /// What it reads.
        newest: u32,
    },
    /// It no longer reads what this one writes.
    #[error(
        "the new program is too new: it reads handovers from format {oldest} on, and this one writes format {VERSION}. Upgrade to a release in between first, and sessions go on"
    )]
    TooNew {
        /// What it reads.
        oldest: u32,
    },
    /// What came is of a format that this program no longer reads.
    #[error(
        "what the process before gives is of format {format}, and this program reads {OLDEST_READ} and later: a release in between takes it over"
    )]
    FromTooOld {
        /// Its format.
        format: u32,
    },
    /// What came wants a newer reader.
    #[error(
        "what the process before gives takes a program of format {wanted} or later, and this one is of {VERSION}: it is too old for it"
    )]
    FromTooNew {
        /// Who may read it.
        wanted: u32,
    },
}

impl Reads {
    /// This program.
    pub const OWN: Self = Self { newest: VERSION, oldest: OLDEST_READ };

    /// Of words: two numbers, or one that is both; what is behind them is for later programs.
    pub fn parse(words: &str) -> Option<Self> {
        let mut words = words.split_whitespace();
        let newest = words.next()?.parse().ok()?;
        let oldest = words.next().map_or(Ok(newest), str::parse).ok()?;
        Some(Self { newest, oldest })
    }

    /// May this program give everything to one that reads these?
    pub fn may_be_given(self) -> Result<(), Misfit> {
        if self.newest < OLDEST_READER {
            Err(Misfit::TooOld { newest: self.newest })
        } else if self.oldest > VERSION {
            Err(Misfit::TooNew { oldest: self.oldest })
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Reads {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.newest, self.oldest)
    }
}

/// May this program read a manifest of this format, which takes a reader of `wanted` at least?
pub fn may_be_read(format: u32, wanted: u32) -> Result<(), Misfit> {
    if format < OLDEST_READ {
        Err(Misfit::FromTooOld { format })
    } else if wanted > VERSION {
        Err(Misfit::FromTooNew { wanted })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_what_the_other_writes_may_have_it() {
        let may = |words: &str| Reads::parse(words).map(Reads::may_be_given);
        assert_eq!(may(&Reads::OWN.to_string()), Some(Ok(())));
        assert_eq!(may("2"), Some(Err(Misfit::TooOld { newest: 2 })), "before records could grow");
        let newer = VERSION + 7;
        assert_eq!(may(&format!("{newer} {VERSION}")), Some(Ok(())), "a later one that still reads this");
        assert_eq!(may(&format!("{newer} {OLDEST_READ} more words")), Some(Ok(())));
        assert_eq!(may(&format!("{newer} {newer}")), Some(Err(Misfit::TooNew { oldest: newer })));
        assert_eq!(may(&newer.to_string()), Some(Err(Misfit::TooNew { oldest: newer })));
        for words in ["", "three", "3 three", "-1"] {
            assert_eq!(may(words), None, "{words:?}");
        }
    }

    #[test]
    fn whatever_says_that_this_program_may_read_it_is_read() {
        assert_eq!(may_be_read(VERSION, OLDEST_READER), Ok(()));
        assert_eq!(may_be_read(VERSION + 7, VERSION), Ok(()), "a later one that means the same");
        assert_eq!(may_be_read(2, 2), Err(Misfit::FromTooOld { format: 2 }));
        assert_eq!(may_be_read(VERSION + 7, VERSION + 1), Err(Misfit::FromTooNew { wanted: VERSION + 1 }));
    }
}
