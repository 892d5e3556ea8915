//! `round_robin`: smooth weighted turns, written out by the builder and walked by one atomic cursor.
//!
//! A schedule is one round: each member as often as its weight says (divided by the weights' common divisor), spread
//! evenly. A pick is one `fetch_add` for all workers together, so over whole rounds the shares are exact. The cursor is
//! kept when the picker is rebuilt, so that turns do not begin again with the first member at each health event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

use super::ask::{Ask, Pick};
use super::candidates::Candidates;
use super::cursor::Cursor;

/// One round of turns, as places.
#[derive(Debug)]
pub(super) struct Schedule {
    turns: Vec<u16>,
}

impl Schedule {
    pub(super) fn new(candidates: &Candidates) -> Self {
        let weights: Vec<usize> = candidates.iter().map(|candidate| usize::from(candidate.weight)).collect();
        let weights = shortened(&weights);
        let length = weights.iter().sum::<usize>();
        let turns = if length == weights.len() {
            (0..=u16::MAX).take(length).collect()
        } else if length * weights.len() <= SMOOTH_STEPS_MAX {
            smooth(&weights)
        } else {
            windows(&weights)
        };
        Self { turns }
    }

    /// The member whose turn it is. A closed member's turn passes to the next in the schedule; after [`LOOKS_MAX`] of
    /// them the open members take turns without regard to weight, by a scan that begins behind the last one.
    pub(super) fn pick(&self, candidates: &Candidates, cursor: &Cursor, ask: &Ask<'_>) -> Pick {
        for _ in 0..LOOKS_MAX {
            // Turns wrap after 2^64 on the machines this runs on: never.
            let turn = cursor.turn.fetch_add(1, Ordering::Relaxed);
            let place = usize::from(self.turns[turn % self.turns.len()]);
            if candidates.at(place).is_open(ask.tried) {
                return candidates.member(place);
            }
        }
        let from = cursor.scan_from.load(Ordering::Relaxed) as usize % candidates.len();
        match candidates.find_open(from, ask.tried) {
            Some(place) => {
                cursor.scan_behind(place);
                candidates.member(place)
            }
            None => candidates.closed(ask.tried),
        }
    }
}

/// The weights over their common divisor. Where they still make a round longer than [`TURNS_MAX`], which takes more than
/// 1,024 members, they are scaled down to about that and rounded, each to at least 1.
fn shortened(weights: &[usize]) -> Vec<usize> {
    let divisor = weights.iter().copied().fold(0, common_divisor).max(1);
    let sum = weights.iter().sum::<usize>() / divisor;
    let shorten = |weight: &usize| {
        let weight = weight / divisor;
        if sum <= TURNS_MAX { weight } else { ((weight * TURNS_MAX + sum / 2) / sum).max(1) }
    };
    weights.iter().map(shorten).collect()
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// nginx's order: at each turn everyone earns its weight, the richest (of equals the first) is picked and pays the sum.
/// 5, 1, 1 gives a a b a c a a.
fn smooth(weights: &[usize]) -> Vec<u16> {
    let sum = weights.iter().sum::<usize>() as i64;
    let mut earned = vec![0_i64; weights.len()];
    let turn = |_| {
        let mut richest = 0;
        for (place, weight) in weights.iter().enumerate() {
            earned[place] += *weight as i64;
            if earned[place] > earned[richest] {
                richest = place;
            }
        }
        earned[richest] -= sum;
        place_number(richest)
    };
    (0..sum).map(turn).collect()
}

/// The same even spread in `length * log(members)` steps. The n-th turn of a member may come when it has earned more than
/// n - 1 turns and must come before it has earned more than n; among those that may, whoever must first, does. Unit jobs
/// with such windows always fit, and so at every point of the round each member has had its share to within one turn.
fn windows(weights: &[usize]) -> Vec<u16> {
    let length = weights.iter().sum::<usize>();
    let mut had = vec![0_usize; weights.len()];
    // For each turn, a linked list of the members whose window opens there; all open at the first.
    let mut opens = vec![NOBODY; length];
    let mut next: Vec<usize> = (1..=weights.len()).collect();
    next[weights.len() - 1] = NOBODY;
    opens[0] = 0;
    let mut waiting = BinaryHeap::with_capacity(weights.len());
    let mut turns = Vec::with_capacity(length);
    for turn in 0..length {
        let mut place = opens[turn];
        while place != NOBODY {
            // In 1/256 of a turn, so that members of different weight are told apart as their shares are.
            let due = ((had[place] + 1) * length * 256) / weights[place];
            // Of those due together the heavier first: its next window is the shorter.
            waiting.push(Reverse((due, Reverse(weights[place]), place_number(place))));
            place = next[place];
        }
        // Never empty: by now more turns were earned than the `turn` that were given out.
        let Some(Reverse((_, _, chosen))) = waiting.pop() else { break };
        turns.push(chosen);
        let place = usize::from(chosen);
        had[place] += 1;
        if had[place] < weights[place] {
            let opening = (had[place] * length / weights[place]).max(turn + 1);
            next[place] = opens[opening];
            opens[opening] = place;
        }
    }
    turns
}

fn place_number(place: usize) -> u16 {
    // A place is below MEMBERS_MAX, which is 2^16.
    #[allow(clippy::cast_possible_truncation)]
    let number = place as u16;
    number
}

/// Longest round, in turns of 2 bytes: 1,024 members of any weights have theirs exact.
const TURNS_MAX: usize = 1 << 18;
/// nginx's order costs turns times members; up to here that is a millisecond.
const SMOOTH_STEPS_MAX: usize = 1 << 20;
/// Turns looked at before a scan. With half of the turns closed, one pick in 65,536 scans.
const LOOKS_MAX: usize = 16;
const NOBODY: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letters(turns: &[u16]) -> String {
        turns.iter().map(|place| char::from(b"abc"[usize::from(*place)])).collect()
    }

    #[test]
    fn the_order_is_nginx_s() {
        for (weights, order) in [
            (&[5, 1, 1][..], "aabacaa"),
            (&[1, 1, 1], "abc"),
            (&[3, 2, 1], "abacba"),
            (&[1], "a"),
            (&[4, 2], "aba"),
        ] {
            assert_eq!(letters(&smooth(&shortened(weights))), order);
        }
    }

    #[test]
    fn one_heavy_member_is_spread_among_many_light_ones() {
        let mut weights = vec![1; 999];
        weights.push(256);
        let turns = windows(&weights);
        let at: Vec<usize> = (0..turns.len()).filter(|turn| turns[*turn] == 999).collect();
        assert_eq!((turns.len(), at.len()), (1_255, 256));
        // 1,255 / 256 = 4.9 turns apart.
        let gaps: Vec<usize> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (3..=7).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn a_round_is_bounded_and_nobody_is_left_out_of_it() {
        let weights: Vec<usize> = (0..65_536).map(|place| 1 + place % 256).collect();
        let short = shortened(&weights);
        assert!(short.iter().all(|weight| *weight >= 1));
        assert!(short.iter().sum::<usize>() <= TURNS_MAX + 65_536);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn both_orders_are_exact_and_even(weights in proptest::collection::vec(1_usize..=256, 1..60)) {
            let weights = shortened(&weights);
            let length: usize = weights.iter().sum();
            for (turns, off_max) in [(windows(&weights), 1.0), (smooth(&weights), weights.len() as f64)] {
                prop_assert_eq!(turns.len(), length);
                let mut had = vec![0_usize; weights.len()];
                for (turn, place) in turns.iter().enumerate() {
                    had[usize::from(*place)] += 1;
                    for (had, weight) in had.iter().zip(&weights) {
                        let earned = (turn as f64 + 1.0) * *weight as f64 / length as f64;
                        prop_assert!((*had as f64 - earned).abs() < off_max);
                    }
                }
                prop_assert_eq!(&had, &weights);
            }
        }
    }
}
