//! What a process before had found: of a process that hands over, or of one that is long gone.
//!
//! Pure.

use std::collections::BTreeMap;

use crate::manifest;

/// The sources of each pool, as they stood then.
#[derive(Debug, Clone, Default)]
pub struct Before(BTreeMap<String, Vec<Remembered>>);

/// One source.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// What it had found. When it had answered is said in the clock that both processes share, if they do.
    pub source: manifest::Source,
    /// How long before this process that was, where they share no clock; `None`: it hands over.
    pub age_s: Option<u64>,
}

impl Before {
    /// Of the process that hands over.
    pub fn handed_over(pools: &[manifest::Pool]) -> Self {
        let mut before = Self::default();
        for pool in pools {
            for source in &pool.sources {
                before.add(&pool.name, Remembered { source: source.clone(), age_s: None });
            }
        }
        before
    }

    /// One more.
    pub fn add(&mut self, pool: &str, one: Remembered) {
        self.0.entry(pool.to_owned()).or_default().push(one);
    }

    /// What is known of a source of a pool.
    pub fn of(&self, pool: &str, source: &str) -> Option<&Remembered> {
        self.0.get(pool)?.iter().find(|one| one.source.text == source)
    }

    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
