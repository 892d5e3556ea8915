//! Replication lag by positions inside the pool: how far a replica is behind what the primary said, in bytes and in time.
//!
//! What a replica thinks of itself is not asked: cut off from its primary it believes to be up to date. The time behind is
//! the age of the oldest position of the primary that the replica has not reached; no clock of a server is looked at.

use std::collections::VecDeque;

/// How far a replica is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// In bytes of the stream.
    pub bytes: u64,
    /// In time.
    pub ms: u64,
}

/// Where the primary was, and when. Bounded: what is old is kept coarser, and forgotten in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Samples {
    /// Times and positions, both growing.
    taken: VecDeque<(u64, u64)>,
}

impl Samples {
    /// Another primary: what the one before said is no measure.
    pub(super) fn clear(&mut self) {
        self.taken.clear();
    }

    /// The primary is there now.
    pub(super) fn note(&mut self, position: u64, now_ms: u64) {
        match self.taken.back() {
            // It idles: whoever has reached this has reached all.
            Some(&(_, last)) if position == last => return,
            // It went back, as no server does: begin anew.
            Some(&(_, last)) if position < last => self.taken.clear(),
            _ => {}
        }
        self.taken.push_back((now_ms, position));
        self.thin_out(now_ms);
    }

    /// Keeps the old the coarser the older it is: some 8 samples for each doubling of the age.
    fn thin_out(&mut self, now_ms: u64) {
        let mut kept: VecDeque<(u64, u64)> = VecDeque::with_capacity(self.taken.len());
        for (at, sample) in self.taken.iter().enumerate() {
            let next_ms = self.taken.get(at + 1).map(|next| next.0);
            let is_spare = kept.back().zip(next_ms).is_some_and(|((last_ms, _), next_ms)| {
                next_ms.saturating_sub(*last_ms) <= now_ms.saturating_sub(next_ms) / COARSENESS
            });
            if !is_spare {
                kept.push_back(*sample);
            }
        }
        let more = kept.len().saturating_sub(SAMPLES_MAX);
        kept.drain(..more);
        self.taken = kept;
    }

    /// How far somebody at this position is behind; `None`: the primary has said nothing yet.
    pub(super) fn behind(&self, position: u64, now_ms: u64) -> Option<Lag> {
        let &(_, newest) = self.taken.back()?;
        let reached = self.taken.partition_point(|&(_, sample)| sample <= position);
        let since_ms = self.taken.get(reached).map(|&(at_ms, _)| at_ms);
        Some(Lag {
            // One that was asked after the primary may be ahead of what that said.
            bytes: newest.saturating_sub(position),
            ms: since_ms.map_or(0, |at_ms| now_ms.saturating_sub(at_ms)),
        })
    }
}

/// A lag is told too short by this part of it at most.
const COARSENESS: u64 = 8;
/// 16 bytes each. Half of them serve for a year of checks every 500 ms.
const SAMPLES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_primary_leaves_nobody_behind_and_a_busy_one_all_that_stand_still() {
        let mut samples = Samples::default();
        assert_eq!(samples.behind(7, 0), None);
        for at_ms in (0..60_000).step_by(500) {
            samples.note(100, at_ms);
        }
        assert_eq!(samples.behind(100, 60_000), Some(Lag { bytes: 0, ms: 0 }));
        assert_eq!(samples.behind(300, 60_000), Some(Lag { bytes: 0, ms: 0 }), "asked later");
        for at_ms in (60_000..70_000).step_by(500) {
            samples.note(100 + at_ms, at_ms);
        }
        // It has what there was before 60 s, and not what was said at 60 s.
        assert_eq!(samples.behind(100, 70_000), Some(Lag { bytes: 69_500, ms: 10_000 }));
        assert_eq!(samples.behind(100 + 69_000, 70_000), Some(Lag { bytes: 500, ms: 500 }));
    }

    #[test]
    fn long_lags_are_told_within_an_eighth_and_in_a_bounded_memory() {
        let mut samples = Samples::default();
        for second in 0..100_000_u64 {
            samples.note(second * 10, second * 1_000);
        }
        assert!(samples.taken.len() < SAMPLES_MAX / 2, "{}", samples.taken.len());
        for behind_s in [1, 2, 10, 100, 3_000, 50_000, 99_000] {
            let lag = samples.behind((99_999 - behind_s) * 10, 99_999_000).unwrap();
            let expected_ms = (behind_s - 1) * 1_000;
            assert!(lag.ms <= expected_ms && lag.ms * 8 / 7 + 1 >= expected_ms, "{behind_s}: {lag:?}");
            assert_eq!(lag.bytes, behind_s * 10);
        }
    }
}
