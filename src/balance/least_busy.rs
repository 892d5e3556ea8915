//! `least_busy`: the member with the least work for its speed, by an exact scan of all: the fewest owed answers among the quick,
//! and the slower one is, the fewer it gets (after Prequal, NSDI 2024, and C3, NSDI 2015).
//!
//! Busy is who owes answers, not who has sessions: an idle session is no work. The cost of a member is `slowness * q^1.5`,
//! where `q` is `(owed + 1) / weight` and slowness is how long its answers take, or are waited for, over the harmonic mean of all
//! (which one that never answers cannot raise). Up to 1.5 times that mean all are equally quick, so that chance does not
//! decide; equals are told apart by their sessions, and then take turns. `q` counts more than slowness, so that one that was slow
//! is asked again as soon as the others are busy. Compared in `tests/bench/gray`.

use std::sync::atomic::Ordering;

use super::ask::{Ask, Pick};
use super::candidates::{Candidate, Candidates, LoadRatio};
use super::cursor::Cursor;

pub(super) fn pick(candidates: &Candidates, cursor: &Cursor, ask: &Ask<'_>) -> Pick {
    let quick_ns = usual_ns(candidates, ask).map(|usual_ns| usual_ns * QUICK);
    let key = |candidate: &Candidate| Key::of(candidate, quick_ns, ask.now_ns);
    let from = cursor.scan_from.load(Ordering::Relaxed) as usize % candidates.len();
    match candidates.find_best(from, ask.tried, key, Key::is_less) {
        Some(place) => {
            cursor.scan_behind(place);
            candidates.member(place)
        }
        None => candidates.closed(ask.tried),
    }
}

/// What an answer takes at the members that have given any: the harmonic mean, in which the slow count little.
fn usual_ns(candidates: &Candidates, ask: &Ask<'_>) -> Option<f32> {
    let known = candidates.iter().filter_map(|candidate| candidate.load.answer_ns(ask.now_ns));
    let (count, sum) = known.fold((0.0, 0.0), |(count, sum), ns| (count + 1.0_f32, sum + ns.recip()));
    (sum > 0.0).then(|| count / sum)
}

/// What a session would meet at a member.
#[derive(Debug, Clone, Copy)]
struct Key {
    cost: f32,
    /// Decides between equals.
    sessions: LoadRatio,
}

impl Key {
    fn of(candidate: &Candidate, quick_ns: Option<f32>, now_ns: u64) -> Self {
        let load = &*candidate.load;
        // Nobody knows yet how quick it is: as quick as the others, until answers are waited for.
        let takes_ns = load.answer_ns(now_ns).unwrap_or(0.0).max(load.owed_ns(now_ns));
        let slowness = match quick_ns {
            Some(quick_ns) if takes_ns > quick_ns => takes_ns / quick_ns * QUICK,
            _ => 1.0,
        };
        let LoadRatio { sessions, weight } = candidate.owed_ratio();
        // Exact enough, and the same for the same.
        let work = sessions as f32 / weight as f32;
        Self { cost: slowness * work * work.sqrt(), sessions: candidate.load_ratio() }
    }

    fn is_less(self, other: Self) -> bool {
        self.cost < other.cost || self.cost <= other.cost && self.sessions.is_less(other.sessions)
    }
}

/// So many times the usual time is quick.
const QUICK: f32 = 1.5;
