//! Answer of a server that was asked for its role: primary or replica, of which generation (timeline, term, epoch), and how
//! far it is in the stream of changes (log position).

use std::sync::Arc;

/// What a server says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
    /// It takes writes, as others of its cluster do: its protocol has many primaries (Galera).
    Writer,
    /// It says that it takes writes, and those who decide (Sentinels) name another since the generation that is told with it.
    Former,
}

impl Claim {
    /// Its word in logs, answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Writer => "writer",
            Self::Former => "stale",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Primary, Self::Replica, Self::Writer, Self::Former]
            .into_iter()
            .find(|claim| claim.word() == word)
    }
}

/// What grows with each promotion. Two can be compared where the lineage is the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Generation {
    /// Of which cluster: PostgreSQL's system identifier. Servers of one cluster say the same.
    pub lineage: Arc<str>,
    /// The timeline, term or epoch.
    pub number: u64,
}

/// A role that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it is.
    pub claim: Claim,
    /// Since which promotion; `None`: its protocol does not tell.
    pub generation: Option<Generation>,
    /// How far it is in the stream of changes, in bytes; `None`: not told.
    pub position: Option<u64>,
}

/// What came of asking one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// This.
    Role(Answer),
    /// That it serves nobody yet, or no more: it starts, or stops.
    Starting,
    /// That it is full: it lives, and is what it was.
    Full,
    /// Nothing, or an error.
    Nothing,
}
