//! Cached texts: what `/metrics` and `/status` say is rendered once for all who ask within a second, so that many who ask
//! cost no more than one.
//!
//! Must stay true: whoever has changed something sees it in what is asked afterwards; where a backend's standing has changed,
//! a text is at most a tenth of a second old; and however many ask, no text is made more than ten times a second but for
//! changes that an operator makes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper::body::Bytes;

/// The texts of a process, for all its doors.
#[derive(Debug, Default)]
pub struct CachedTexts {
    pub(super) metrics: CachedText,
    pub(super) status: CachedText,
    /// Changes that somebody may look for.
    changes: AtomicU64,
}

/// Text that was rendered.
#[derive(Debug, Default)]
pub(super) struct CachedText(Mutex<Option<Made>>);

/// Text as it was rendered, and of what.
#[derive(Debug)]
struct Made {
    text: Bytes,
    of: Basis,
}

/// Basis of a text: what tells whether it still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) at_ms: u64,
    /// Changes by operators and files: a sum of what only grows.
    pub(super) changes: u64,
    /// Of the snapshot: how the backends stand.
    pub(super) generation: u64,
}

/// How old a text may be when nothing is known to have changed: counters move all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MaxAge {
    /// At the read-only address, where anybody may ask as often as they like.
    Second,
    /// At the socket, where operators look at what they do.
    Tenth,
}

impl CachedTexts {
    /// Something was changed on purpose: no text of before holds.
    pub fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}

impl CachedText {
    /// The text, made anew where the one of before does not hold any more.
    pub(super) fn get(&self, now: Basis, max_age: MaxAge, make: impl FnOnce() -> String) -> Bytes {
        // One who panicked over it left the text of before.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(before) if before.of.holds(now, max_age) => before.text.clone(),
            _ => {
                let text = Bytes::from(make());
                *made = Some(Made { text: text.clone(), of: now });
                text
            }
        }
    }
}

impl Basis {
    /// Validity: what was made of this still holds now.
    fn holds(self, now: Self, max_age: MaxAge) -> bool {
        let age_ms = now.at_ms.saturating_sub(self.at_ms);
        let most_ms =
            if self.generation == now.generation && max_age == MaxAge::Second { SECOND_MS } else { TENTH_MS };
        self.changes == now.changes && age_ms < most_ms
    }
}

const SECOND_MS: u64 = 1_000;
const TENTH_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_serves_all_who_ask_within_a_second_unless_something_changed() {
        let made_of = Basis { at_ms: 5_000, changes: 3, generation: 7 };
        let at = |at_ms: u64| Basis { at_ms, ..made_of };
        for (now, second, tenth) in [
            (at(5_000), true, true),
            (at(5_099), true, true),
            (at(5_100), true, false),
            (at(5_999), true, false),
            (at(6_000), false, false),
            (Basis { generation: 8, ..at(5_099) }, true, true),
            (Basis { generation: 8, ..at(5_100) }, false, false),
            (Basis { changes: 4, ..at(5_000) }, false, false),
        ] {
            let holds = [MaxAge::Second, MaxAge::Tenth].map(|max_age| made_of.holds(now, max_age));
            assert_eq!(holds, [second, tenth], "{now:?}");
        }
    }

    #[test]
    fn it_is_made_once_while_it_holds() {
        let (cache, mut times) = (CachedText::default(), 0);
        let basis = |at_ms| Basis { at_ms, changes: 0, generation: 1 };
        let mut ask = |at_ms| {
            cache.get(basis(at_ms), MaxAge::Second, || {
                times += 1;
                times.to_string()
            })
        };
        let said: Vec<Bytes> = [0, 10, 999, 1_000, 1_500, 2_000].map(&mut ask).into();
        assert_eq!(said, ["1", "1", "1", "2", "2", "3"]);
    }
}
