//! Services (SRV, RFC 2782): what a name offers, and what its weights and priorities mean here.

use std::net::IpAddr;

use super::Name;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// A lower one comes first.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// Where it answers.
    pub port: u16,
    /// On which host.
    pub target: Name,
}

/// One of an answer, with the addresses of its target that the same answer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// It.
    pub service: Service,
    /// In their own order; none: the target must be asked for.
    pub addresses: Vec<IpAddr>,
}

/// Weights as they are here, 1 to 256: all divided by the smallest power of two that brings the largest to 256, rounded up, so that
/// ratios hold and one that leaves rarely changes the others. 0 is the least of all, and never nothing.
pub fn scaled(weights: &[u16]) -> Vec<u16> {
    let largest = weights.iter().copied().max().unwrap_or(0);
    let shift = (0..8).find(|shift| u32::from(largest).div_ceil(1 << shift) <= WEIGHT_MAX).unwrap_or(8);
    weights.iter().map(|weight| weight.div_ceil(1 << shift).max(1)).collect()
}

/// Tiers of priorities: each distinct one, ascending, is `first` and one more; 255 at most.
pub fn tiers(priorities: &[u16], first: u8) -> Vec<u8> {
    let mut distinct = priorities.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let rank = |priority: &u16| distinct.binary_search(priority).unwrap_or(0);
    priorities
        .iter()
        .map(|priority| first.saturating_add(u8::try_from(rank(priority)).unwrap_or(u8::MAX)))
        .collect()
}

const WEIGHT_MAX: u32 = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_keep_their_ratios_and_nobody_drains() {
        assert_eq!(scaled(&[10, 20, 0]), [10, 20, 1]);
        assert_eq!(scaled(&[256, 1]), [256, 1]);
        assert_eq!(scaled(&[257, 100, 1]), [129, 50, 1]);
        assert_eq!(scaled(&[65_535, 32_768, 3]), [256, 128, 1]);
        assert_eq!(scaled(&[1_000, 3_000]), [63, 188], "as 1 to 3");
        assert_eq!(scaled(&[0, 0]), [1, 1]);
        assert!(scaled(&[]).is_empty());
    }

    #[test]
    fn priorities_are_tiers_in_their_order() {
        assert_eq!(tiers(&[20, 10, 20, 30], 1), [2, 1, 2, 3]);
        assert_eq!(tiers(&[7], 0), [0]);
        let many: Vec<u16> = (0..300).collect();
        assert_eq!(tiers(&many, 0)[299], 255);
    }

    proptest! {
        #[test]
        fn weights_are_in_range_and_in_order(weights: Vec<u16>) {
            let all = scaled(&weights);
            prop_assert!(all.iter().all(|weight| (1..=256).contains(weight)));
            for (at, weight) in weights.iter().enumerate() {
                for (other_at, other) in weights.iter().enumerate() {
                    prop_assert!(weight > other || all[at] <= all[other_at]);
                }
            }
        }
    }
}
