//! Slices: how much of a table one turn looks through. A table of a million must not hold up the sessions in it.
//!
//! Pure. A walk names places of a table one by one, and stops when the turn's slice is spent; between two turns sessions
//! begin and end as they like. What must stay true: a walk comes to each place that there was when it began, or began anew,
//! exactly once; whoever stands there is judged by what is true of it then. Who came later is none of its business.

use crate::reason::Reason;
use crate::session_query::Filter;

/// A walk over the places of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    next: usize,
    left: usize,
    places: usize,
}

/// What is left of one turn's slice.
#[derive(Debug)]
pub struct Slice {
    looks: usize,
    ends: usize,
}

/// What somebody looks for in the tables.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// Which sessions and flows.
    pub filter: &'a Filter,
    /// Those that began later do not count.
    pub until_us: u64,
    /// Those that fit end for this.
    pub close: Option<Reason>,
}

impl Walk {
    /// Over all of so many places.
    pub fn over(places: usize) -> Self {
        Self { next: 0, left: places, places }
    }

    /// All of them once more, from where it stands: something happened that those behind it were not judged by. However
    /// often that is, it stays one walk.
    pub fn begin_anew(&mut self, places: usize) {
        (self.left, self.places) = (places, places);
        if self.next >= places {
            self.next = 0;
        }
    }

    /// It has been everywhere.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The next place to look at; `None`: it is over, or the slice is spent.
    pub fn step(&mut self, slice: &mut Slice) -> Option<usize> {
        if self.is_over() || !slice.may_look() {
            return None;
        }
        slice.looks -= 1;
        self.left -= 1;
        let place = self.next;
        self.next = if place + 1 < self.places { place + 1 } else { 0 };
        Some(place)
    }
}

impl Slice {
    /// What one turn may do for all walks together.
    pub fn of_a_turn() -> Self {
        Self { looks: LOOKS_PER_TURN, ends: ENDS_PER_TURN }
    }

    /// A session or flow was ended, which costs much more than a look.
    pub fn note_end(&mut self) {
        self.ends = self.ends.saturating_sub(1);
    }

    fn may_look(&self) -> bool {
        self.looks > 0 && self.ends > 0
    }
}

/// Places of a table that one turn looks at: some 0.1 ms when none of them is in a cache, measured in a table of 100,000.
pub const LOOKS_PER_TURN: usize = 2_048;
/// Sessions or flows that one turn ends: some 0.5 ms for sessions, which have two sockets each, and 0.1 ms for flows.
pub const ENDS_PER_TURN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of one turn.
    fn turn(walk: &mut Walk) -> Vec<usize> {
        let mut slice = Slice::of_a_turn();
        std::iter::from_fn(|| walk.step(&mut slice)).collect()
    }

    #[test]
    fn each_place_is_named_once_and_no_turn_names_more_than_its_slice() {
        for places in [0, 1, LOOKS_PER_TURN, LOOKS_PER_TURN + 1, 20_000] {
            let mut walk = Walk::over(places);
            let mut named = Vec::new();
            while !walk.is_over() {
                let places = turn(&mut walk);
                assert!((1..=LOOKS_PER_TURN).contains(&places.len()));
                named.extend(places);
            }
            assert_eq!(named, (0..places).collect::<Vec<_>>());
            assert!(turn(&mut walk).is_empty());
        }
    }

    #[test]
    fn ends_spend_a_slice_as_well() {
        let (mut walk, mut slice) = (Walk::over(20_000), Slice::of_a_turn());
        let mut looked = 0;
        while walk.step(&mut slice).is_some() {
            looked += 1;
            slice.note_end();
        }
        assert_eq!(looked, ENDS_PER_TURN);
    }

    #[test]
    fn a_walk_that_begins_anew_comes_to_all_places_from_where_it_stands() {
        let mut walk = Walk::over(5_000);
        assert_eq!(turn(&mut walk).len(), LOOKS_PER_TURN);
        walk.begin_anew(6_000);
        let mut named = Vec::new();
        while !walk.is_over() {
            named.extend(turn(&mut walk));
        }
        assert_eq!(named[0], LOOKS_PER_TURN);
        named.sort_unstable();
        assert_eq!(named, (0..6_000).collect::<Vec<_>>());
        // A table never shrinks under it, but one that began anew after its end may.
        walk.begin_anew(10);
        assert_eq!(turn(&mut walk).len(), 10);
    }
}
