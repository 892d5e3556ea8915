//! `two_choices`: two members drawn by weight, the less loaded wins. Near `least_connections` at any number of members.

use super::ask::{Ask, Pick};
use super::candidates::{Candidate, Candidates, LoadRatio};
use super::random::{DRAWS_MAX, Lottery};
use crate::random::Random;

pub(super) fn pick(candidates: &Candidates, lottery: &Lottery, ask: &Ask<'_>) -> Pick {
    better_of_two(candidates, lottery, ask, Candidate::load_ratio, LoadRatio::is_less)
}

/// The better of two distinct open members drawn by weight, the first drawn if equal. If so many are closed that
/// [`DRAWS_MAX`] draws do not find two, the best of all that are open.
pub(super) fn better_of_two<K: Copy>(
    candidates: &Candidates,
    lottery: &Lottery,
    ask: &Ask<'_>,
    key: impl Fn(&Candidate) -> K,
    is_better: impl Fn(K, K) -> bool,
) -> Pick {
    let mut bits = Random::new(ask.random);
    if candidates.len() > 1 {
        let mut first = None;
        for _ in 0..DRAWS_MAX {
            let place = match first {
                None => lottery.draw(&mut bits),
                Some(first) => lottery.draw_other(first, &mut bits),
            };
            if !candidates.at(place).is_open(ask.tried) {
                continue;
            }
            let Some(first) = first else {
                first = Some(place);
                continue;
            };
            let (old, new) = (key(candidates.at(first)), key(candidates.at(place)));
            return candidates.member(if is_better(new, old) { place } else { first });
        }
    }
    let from = lottery.draw(&mut bits);
    match candidates.find_best(from, ask.tried, key, is_better) {
        Some(place) => candidates.member(place),
        None => candidates.closed(ask.tried),
    }
}
