//! `least_latency`: of two members drawn by weight, the one with the smaller `latency * (owed + 1) / weight`.
//!
//! Latency is what an answer takes, a peak, or how long those are waited for that it owes; of one that never answered anybody
//! it is what a connect takes, and sessions count instead of answers.

use super::ask::{Ask, Pick};
use super::candidates::{Candidate, Candidates, LoadRatio};
use super::random::Lottery;
use super::two_choices::better_of_two;

pub(super) fn pick(candidates: &Candidates, lottery: &Lottery, ask: &Ask<'_>) -> Pick {
    let cost = |candidate: &Candidate| {
        let load = &*candidate.load;
        let is_answering = load.is_answering();
        Cost {
            load_ratio: if is_answering { candidate.owed_ratio() } else { candidate.load_ratio() },
            latency_ns: load.latency_ns(ask.now_ns).map(|peak_ns| peak_ns.max(load.owed_ns(ask.now_ns))),
        }
    };
    better_of_two(candidates, lottery, ask, cost, Cost::is_less)
}

/// What a session would meet at a member.
#[derive(Debug, Clone, Copy)]
struct Cost {
    load_ratio: LoadRatio,
    latency_ns: Option<f32>,
}

impl Cost {
    /// A member of unknown latency counts as slightly faster than the one it is compared with: it is tried, but never
    /// flooded, as a latency of 0 would have it while its first connect hangs.
    fn is_less(self, other: Self) -> bool {
        match (self.latency_ns, other.latency_ns) {
            (Some(own), Some(others)) => {
                // Exact enough: a product is off by less than one part in a million.
                let scaled = |latency_ns: f32, sessions: u64, weight: u64| {
                    f64::from(latency_ns) * (sessions * weight) as f64
                };
                scaled(own, self.load_ratio.sessions, other.load_ratio.weight)
                    < scaled(others, other.load_ratio.sessions, self.load_ratio.weight)
            }
            (None, Some(_)) => !other.load_ratio.is_less(self.load_ratio),
            _ => self.load_ratio.is_less(other.load_ratio),
        }
    }
}
