//! Candidates of a pick: who may be picked at all, and who of them can take a session at this moment.
//!
//! The one place where eligibility, fullness and "tried already" are judged, for every algorithm. Algorithms speak of
//! places, 0 to `len`; only [`Candidates::member`] turns a place into the caller's index.

use std::sync::Arc;

use super::ask::{MEMBERS_MAX, Member, Pick};
use super::load::Load;

/// The eligible members by index, in list order: up, not out, of weight above 0, in the lowest tier that has such a
/// member. When there is none and `try_all` is set: all of every tier that no operator took out (weight 0 takes out too).
pub(super) fn eligible(members: &[Member], try_all: bool) -> Vec<u32> {
    let members = &members[..members.len().min(MEMBERS_MAX)];
    let usable = |member: &Member| !member.out && member.weight > 0;
    let serves = |member: &Member| usable(member) && member.up;
    let lowest = members.iter().filter(|member| serves(member)).map(|member| member.tier).min();
    let is_eligible = |member: &Member| match lowest {
        Some(tier) => serves(member) && member.tier == tier,
        None => try_all && usable(member),
    };
    // Indices fit: MEMBERS_MAX is far below 2^32.
    (0_u32..).zip(members).filter(|(_, member)| is_eligible(member)).map(|(index, _)| index).collect()
}

/// An eligible member as a pick sees it: 16 bytes, so that a scan reads little besides the loads themselves.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) load: Arc<Load>,
    /// In the list given to the builder.
    index: u32,
    /// 1 to 256.
    pub(super) weight: u16,
}

impl Candidate {
    /// Neither full nor tried.
    pub(super) fn is_open(&self, tried: &[u32]) -> bool {
        !self.load.is_full() && !self.is_tried(tried)
    }

    /// `(active + 1) / weight` as its two halves: what one more session would make of it.
    pub(super) fn load_ratio(&self) -> LoadRatio {
        LoadRatio { sessions: u64::from(self.load.active()) + 1, weight: u64::from(self.weight) }
    }

    /// The same of the answers that it owes.
    pub(super) fn owed_ratio(&self) -> LoadRatio {
        LoadRatio { sessions: u64::from(self.load.owed()) + 1, weight: u64::from(self.weight) }
    }

    fn is_tried(&self, tried: &[u32]) -> bool {
        tried.contains(&self.index)
    }
}

/// Sessions over weight, compared exactly by cross multiplication.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadRatio {
    pub(super) sessions: u64,
    pub(super) weight: u64,
}

impl LoadRatio {
    /// Fewer sessions for its weight.
    pub(super) fn is_less(self, other: Self) -> bool {
        self.sessions * other.weight < other.sessions * self.weight
    }
}

/// The eligible members, each at its place. At most [`MEMBERS_MAX`].
#[derive(Debug)]
pub(super) struct Candidates {
    places: Vec<Candidate>,
}

impl Candidates {
    /// Places in the order of `eligible`, which are indices into `members`.
    pub(super) fn new(members: &[Member], eligible: &[u32]) -> Self {
        let candidate = |index: &u32| {
            let member = &members[*index as usize];
            Candidate { load: Arc::clone(&member.load), index: *index, weight: member.weight }
        };
        Self { places: eligible.iter().map(candidate).collect() }
    }

    /// Gives the places anew, by name.
    pub(super) fn sort_by_name(&mut self, members: &[Member]) {
        let name = |candidate: &Candidate| &members[candidate.index as usize].name;
        self.places.sort_by(|a, b| name(a).cmp(name(b)));
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn at(&self, place: usize) -> &Candidate {
        &self.places[place]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.places.iter()
    }

    /// The index in the builder's list of the candidate at `place`.
    pub(super) fn index(&self, place: usize) -> u32 {
        self.places[place].index
    }

    /// The answer of a pick that chose `place`.
    pub(super) fn member(&self, place: usize) -> Pick {
        Pick::Member(self.index(place))
    }

    /// The place of the first that is open, from `from` (below `len`) on and around.
    pub(super) fn find_open(&self, from: usize, tried: &[u32]) -> Option<usize> {
        let (behind, ahead) = self.places.split_at(from);
        let mut around = (from..).zip(ahead).chain((0..).zip(behind));
        around.find(|(_, candidate)| candidate.is_open(tried)).map(|(place, _)| place)
    }

    /// The place of the best that is open by `is_better`, which is given the keys of a challenger and of the best before
    /// it; of equals the first, from `from` (below `len`) on and around. `key` is taken once of each.
    pub(super) fn find_best<K: Copy>(
        &self,
        from: usize,
        tried: &[u32],
        key: impl Fn(&Candidate) -> K,
        is_better: impl Fn(K, K) -> bool,
    ) -> Option<usize> {
        let mut best: Option<(usize, K)> = None;
        let mut visit = |first: usize, part: &[Candidate]| {
            for (offset, candidate) in part.iter().enumerate() {
                let key = key(candidate);
                // Most do not beat the best: whether they are open is asked of the few that do.
                if best.is_none_or(|(_, best)| is_better(key, best)) && candidate.is_open(tried) {
                    best = Some((first + offset, key));
                }
            }
        };
        let (behind, ahead) = self.places.split_at(from);
        visit(from, ahead);
        visit(0, behind);
        best.map(|(place, _)| place)
    }

    /// The answer when no place was found open: why, or the one that opened since.
    pub(super) fn closed(&self, tried: &[u32]) -> Pick {
        let mut answer = Pick::Full;
        for candidate in &self.places {
            if candidate.load.is_full() {
                continue;
            }
            if !candidate.is_tried(tried) {
                return Pick::Member(candidate.index);
            }
            answer = Pick::Tried;
        }
        answer
    }

    /// [`Self::find_open`] as an answer.
    pub(super) fn first_open(&self, from: usize, tried: &[u32]) -> Pick {
        self.find_open(from, tried).map_or_else(|| self.closed(tried), |place| self.member(place))
    }
}
