//! Who is not there: names that sources of a pool named until lately, or named and that cannot be backends.
//!
//! Pure.

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// What it was called, or would have been.
    pub name: String,
    /// The source.
    pub source: String,
    /// When it left, or was refused.
    pub since_ms: u64,
    /// Why it cannot be a backend; `None`: it left.
    pub refused: Option<&'static str>,
}

/// The last of a pool, the latest at the end.
#[derive(Debug, Default)]
pub(super) struct Absents(Vec<Absent>);

impl Absents {
    /// Another one; of each name the latest is known.
    pub(super) fn note(&mut self, one: Absent) {
        self.0.retain(|there| there.name != one.name);
        if self.0.len() >= KNOWN_MAX {
            self.0.remove(0);
        }
        self.0.push(one);
    }

    /// It is there now.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.retain(|there| there.name != name);
    }

    /// Those of the last hour.
    pub(super) fn known(&self, now_ms: u64) -> Vec<Absent> {
        let is_known = |one: &&Absent| now_ms < one.since_ms.saturating_add(KNOWN_MS);
        self.0.iter().filter(is_known).cloned().collect()
    }
}

/// Of one pool.
const KNOWN_MAX: usize = 100;
/// For so long.
const KNOWN_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_name_is_known_for_an_hour_and_in_bounds() {
        let mut absents = Absents::default();
        let one = |at: u64| Absent {
            name: format!("b{}", at % 150),
            source: "db.test".into(),
            since_ms: at,
            refused: None,
        };
        (0..300).for_each(|at| absents.note(one(at)));
        let known = absents.known(300);
        assert_eq!((known.len(), known[99].since_ms), (KNOWN_MAX, 299));
        absents.forget("b149");
        assert_eq!(absents.known(300).len(), KNOWN_MAX - 1);
        assert!(absents.known(300 + KNOWN_MS).is_empty());
    }
}
