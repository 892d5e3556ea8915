//! Latency of a backend, a peak-EWMA: a higher sample is taken at once, a lower one pulls the estimate down with the time
//! since the last. Without samples the estimate fades, so a backend that was slow once is asked again: one that was a
//! thousand times slower than the rest after about 70 s, and it gets one session, not all, unless it has become fast.

/// The peak-EWMA of one backend, in one word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    /// 0: unknown.
    value_ns: f32,
    /// When `value_ns` was right, in steps of 2^24 ns (17 ms). Wraps after 834 days without a sample.
    step: u32,
}

impl Latency {
    pub(super) const UNKNOWN: Self = Self { value_ns: 0.0, step: 0 };

    pub(super) fn from_bits(bits: u64) -> Self {
        // The two halves of the word.
        #[allow(clippy::cast_possible_truncation)]
        let (high, low) = ((bits >> 32) as u32, bits as u32);
        Self { value_ns: f32::from_bits(high), step: low }
    }

    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.value_ns.to_bits()) << 32 | u64::from(self.step)
    }

    /// With one more sample.
    pub(super) fn observe(self, now_ns: u64, sample_ns: u64) -> Self {
        // A sample of 0 must not look unknown.
        let sample_ns = sample_ns.max(1) as f32;
        let value_ns = if sample_ns >= self.value_ns {
            sample_ns
        } else {
            let kept = self.kept(now_ns);
            self.value_ns * kept + sample_ns * (1.0 - kept)
        };
        Self { value_ns, step: step(now_ns) }
    }

    /// With one more sample, as an average of the last twenty or so. What was measured long ago weighs less.
    pub(super) fn blend(self, now_ns: u64, sample_ns: u64) -> Self {
        let sample_ns = sample_ns.max(1) as f32;
        let kept = if self.value_ns > 0.0 { (1.0 - BLEND).min(self.kept(now_ns)) } else { 0.0 };
        Self { value_ns: self.value_ns * kept + sample_ns * (1.0 - kept), step: step(now_ns) }
    }

    /// What to expect now; never below [`FLOOR_NS`]. `None`: nothing was ever measured.
    pub(super) fn estimate_ns(self, now_ns: u64) -> Option<f32> {
        (self.value_ns > 0.0).then(|| (self.value_ns * self.kept(now_ns)).max(FLOOR_NS))
    }

    /// The part of the value that time has left.
    fn kept(self, now_ns: u64) -> f32 {
        // Workers read the clock on their own: one may be a little behind the writer, which is no age at all. Only a little:
        // half of all ages, as any wrapping difference has it, would make a peak of weeks ago new again.
        let age = step(now_ns).wrapping_sub(self.step);
        if age > u32::MAX - BEHIND_STEPS_MAX { 1.0 } else { (-(age as f32) / FADE_STEPS).exp() }
    }
}

fn step(now_ns: u64) -> u32 {
    // Wrapping is meant: ages are differences.
    #[allow(clippy::cast_possible_truncation)]
    let step = (now_ns >> STEP_SHIFT) as u32;
    step
}

const STEP_SHIFT: u32 = 24;
/// The part of a sample in the average.
const BLEND: f32 = 0.05;
/// 30 s: no thread is so late.
// 1,788: it fits.
#[allow(clippy::cast_possible_truncation)]
const BEHIND_STEPS_MAX: u32 = (30_000_000_000_u64 >> STEP_SHIFT) as u32;
/// After 10 s, 37 % of an estimate are left.
const FADE_STEPS: f32 = 10e9 / (1_u32 << STEP_SHIFT) as f32;
/// Below 1 us the clock and not the backend is measured; also keeps long idle members comparable by their sessions.
const FLOOR_NS: f32 = 1_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn after(samples: &[(u64, u64)]) -> Latency {
        samples
            .iter()
            .fold(Latency::UNKNOWN, |latency, (now_ns, sample_ns)| latency.observe(*now_ns, *sample_ns))
    }

    #[test]
    fn nothing_is_known_before_the_first_sample() {
        assert_eq!(Latency::UNKNOWN.estimate_ns(5 * SECOND_NS), None);
        assert!(after(&[(0, 0)]).estimate_ns(0).is_some());
    }

    #[test]
    fn a_word_holds_it_all() {
        let latency = after(&[(77 * SECOND_NS, 123_456), (78 * SECOND_NS, 100_000)]);
        assert_eq!(Latency::from_bits(latency.to_bits()), latency);
        assert_eq!(Latency::from_bits(0), Latency::UNKNOWN);
    }

    #[test]
    fn a_peak_is_taken_at_once_and_fades_by_the_clock() {
        let latency = after(&[(0, 1_000_000), (SECOND_NS, 50_000_000)]);
        assert_eq!(latency.estimate_ns(SECOND_NS), Some(50_000_000.0));
        let later = latency.estimate_ns(11 * SECOND_NS).unwrap();
        assert!((later / 50_000_000.0 - 0.368).abs() < 0.002, "{later}");
    }

    #[test]
    fn lower_samples_pull_it_down_in_tens_of_seconds_however_many_there_are() {
        for samples_per_second in [1, 10, 100] {
            let pulls = (0..30 * samples_per_second).map(|n| (n * SECOND_NS / samples_per_second, 1_000_000));
            let all: Vec<_> = std::iter::once((0, 100_000_000)).chain(pulls).collect();
            let value = after(&all).value_ns;
            // 1 + 99 * e^-3 = 5.9 ms after 30 s.
            assert!((4_500_000.0..8_000_000.0).contains(&value), "{samples_per_second}: {value}");
        }
    }

    /// After 26 days without a sample the age was taken for a clock that is behind, and the peak of then for one of now.
    #[test]
    fn a_peak_of_weeks_ago_is_not_new_again() {
        const DAY_NS: u64 = 86_400 * SECOND_NS;
        let latency = after(&[(SECOND_NS, 5_000_000_000)]);
        for days in [1, 20, 27, 40, 51, 53, 104, 400, 800] {
            assert_eq!(latency.estimate_ns(days * DAY_NS), Some(FLOOR_NS), "after {days} days");
        }
    }

    #[test]
    fn a_reader_whose_clock_is_behind_sees_no_age() {
        let latency = after(&[(100 * SECOND_NS, 9_000_000)]);
        assert_eq!(latency.estimate_ns(99 * SECOND_NS), Some(9_000_000.0));
    }
}
