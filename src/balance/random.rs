//! `random`: chance by weight. Also the lottery and the random bits that `two_choices` and `least_latency` draw with.

use super::candidates::Candidates;
use super::{Ask, Pick};

/// Draws by weight; of closed members again, and after [`DRAWS_MAX`] draws by weight among those a scan finds open.
pub(super) fn pick(candidates: &Candidates, lottery: &Lottery, ask: &Ask<'_>) -> Pick {
    let mut bits = Bits::new(ask.random);
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
    pub(super) fn draw(&self, bits: &mut Bits) -> usize {
        self.holder(bits.below(self.total()))
    }

    /// A place other than `place`, as if drawn until it differs. There must be two.
    pub(super) fn draw_other(&self, place: usize, bits: &mut Bits) -> usize {
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

/// More random bits out of 64: splitmix64, whose every output passes for random though the seeds are near each other.
#[derive(Debug)]
pub(super) struct Bits(u64);

impl Bits {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`. Its bias is below 2^-32 of a share.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        // The product is below 2^96, so what is left of it fits.
        #[allow(clippy::cast_possible_truncation)]
        let number = ((u128::from(self.next()) * u128::from(bound)) >> 64) as u32;
        number
    }
}

/// The finisher of splitmix64: one bit changed in changes half the bits out.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Draws before a scan. With half of the weights closed, one pick in 256 scans.
pub(super) const DRAWS_MAX: usize = 8;
