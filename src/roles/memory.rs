//! Memory of the generations (split-brain protection): the highest one that was ever believed of each cluster, and which
//! cluster the pool is. What is below is not believed again, whoever asks, as long as somebody remembers.

use std::sync::Arc;

use super::answer::Generation;

/// What is remembered; the cluster of the pool stands last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    highest: Vec<Generation>,
}

impl Memory {
    /// From the process before, the cluster of the pool last.
    pub fn of(mut highest: Vec<Generation>) -> Self {
        let more = highest.len().saturating_sub(LINEAGES_MAX);
        highest.drain(..more);
        Self { highest }
    }

    /// For the next process.
    pub fn entries(&self) -> &[Generation] {
        &self.highest
    }

    /// The cluster of the pool: that of the primary believed last.
    pub fn lineage(&self) -> Option<&Arc<str>> {
        self.highest.last().map(|last| &last.lineage)
    }

    /// The highest that was believed of this cluster.
    pub fn highest(&self, lineage: &str) -> Option<u64> {
        self.highest.iter().find(|one| *one.lineage == *lineage).map(|one| one.number)
    }

    /// It is believed now.
    pub(super) fn note(&mut self, believed: &Generation) {
        let before = self.highest.iter().position(|one| one.lineage == believed.lineage);
        let before = before.map(|at| self.highest.remove(at).number);
        if self.highest.len() == LINEAGES_MAX {
            self.highest.remove(0);
        }
        let number = before.unwrap_or(0).max(believed.number);
        self.highest.push(Generation { lineage: Arc::clone(&believed.lineage), number });
    }
}

/// A pool has one cluster; restored backups and mistakes make others.
const LINEAGES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_each_is_kept_and_the_last_believed_is_the_pools() {
        let generation = |lineage: &str, number| Generation { lineage: lineage.into(), number };
        let mut memory = Memory::default();
        assert_eq!((memory.lineage(), memory.highest("a")), (None, None));
        memory.note(&generation("a", 4));
        memory.note(&generation("b", 2));
        assert_eq!(memory.lineage().map(|lineage| &**lineage), Some("b"));
        memory.note(&generation("a", 3));
        assert_eq!((memory.highest("a"), memory.highest("b")), (Some(4), Some(2)));
        assert_eq!(memory.lineage().map(|lineage| &**lineage), Some("a"));
        for number in 0..100 {
            memory.note(&generation(&number.to_string(), number));
        }
        assert_eq!(memory.entries().len(), LINEAGES_MAX);
        assert_eq!(Memory::of(memory.entries().to_vec()), memory);
    }
}
