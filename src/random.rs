//! Random numbers: one small generator for picks, jitter and tables, seeded by who uses it. Not for secrets.
//!
//! Pure: a seed in, numbers out. Must stay true: the same seed gives the same numbers on every machine and in every release;
//! the tables of `source_hash` are drawn with them.

/// Generator (splitmix64): every output passes for random though the seeds are near each other.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Whoever draws has a seed of its own.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `bound`. Its bias is below 2^-32 of a share.
    pub fn below(&mut self, bound: u32) -> u32 {
        // The product is below 2^96, so what is left of it fits.
        #[allow(clippy::cast_possible_truncation)]
        let number = ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u32;
        number
    }

    /// `value` moved by chance, at most `percent` of it up or down.
    pub fn jitter(&mut self, value: u64, percent: u64) -> u64 {
        let spread = value / 100 * percent;
        if spread == 0 {
            return value;
        }
        value - spread + self.bits() % (2 * spread + 1)
    }
}

/// Mixer: the finisher of splitmix64. One bit changed in changes half the bits out.
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Spreader: a seed for each of many that are counted, however near their numbers are.
pub fn spread(number: u64) -> u64 {
    number.wrapping_mul(STEP)
}

/// 2^64 over the golden ratio: its multiples never come near each other.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.bits(), random.bits(), random.bits()], expected);
    }

    #[test]
    fn a_number_below_a_bound_is_even_and_below_it() {
        let mut random = Random::new(3);
        let mut counts = [0_u32; 6];
        for _ in 0..60_000 {
            counts[random.below(6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(random.below(1), 0);
    }

    #[test]
    fn jitter_stays_within_its_percent_and_uses_both_sides() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.jitter(10_000, 10)).collect();
        assert!(drawn.iter().all(|d| (9_000..=11_000).contains(d)));
        assert!(drawn.iter().any(|&d| d < 9_500) && drawn.iter().any(|&d| d > 10_500));
        assert_eq!(random.jitter(5, 10), 5);
    }
}
