//! `random`: chance by weight. Also the lottery that `two_choices` and `least_latency` draw with.

use super::ask::{Ask, Pick};
use super::candidates::Candidates;
use crate::random::Random;

/// Draws by weight; of closed members again, and after [`DRAWS_MAX`] draws by weight among those a scan finds open.
pub(super) fn pick(candidates: &Candidates, lottery: &Lottery, ask: &Ask<'_>) -> Pick {
    let mut bits = Random::new(ask.random);
    for _ in 0..DRAWS_MAX {
        let place = lottery.draw(&mut bits);
        if candidates.at(place).is_open(ask.tried) {
            return candidates.member(place);
        }
    }
    let mut chosen = None;
    let mut weights = 0;
    for (place, candidate) in candidates.iter().enumerate() {
        if candidate.is_open(ask.tried) {
            // Each takes over from those before it with its share of the weights so far: in the end all have theirs.
            weights += u32::from(candidate.weight);
            if bits.below(weights) < u32::from(candidate.weight) {
                chosen = Some(place);
            }
        }
    }
    chosen.map_or_else(|| candidates.closed(ask.tried), |place| candidates.member(place))
}

/// Draws places with the chance their weights give.
#[derive(Debug)]
pub(super) struct Lottery {
    /// For each place, the sum of the weights up to and with its own; at most 2^24.
    ends: Vec<u32>,
}

impl Lottery {
    pub(super) fn new(candidates: &Candidates) -> Self {
        let sums = candidates.iter().scan(0, |sum, candidate| {
            *sum += u32::from(candidate.weight);
            Some(*sum)
        });
        Self { ends: sums.collect() }
    }

    /// A place. There must be one.
    pub(super) fn draw(&self, bits: &mut Random) -> usize {
        self.holder(bits.below(self.total()))
    }

    /// A place other than `place`, as if drawn until it differs. There must be two.
    pub(super) fn draw_other(&self, place: usize, bits: &mut Random) -> usize {
        let end = self.ends[place];
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        let ticket = bits.below(self.total() - (end - start));
        self.holder(if ticket < start { ticket } else { ticket + (end - start) })
    }

    fn total(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn holder(&self, ticket: u32) -> usize {
        self.ends.partition_point(|end| *end <= ticket)
    }
}

/// Draws before a scan. With half of the weights closed, one pick in 256 scans.
pub(super) const DRAWS_MAX: usize = 8;
