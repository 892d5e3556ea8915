//! Load balancing algorithms: which backend gets the next session. One algorithm, one file, named by its YAML word.
//!
//! Pure: values in, an index out. The randomness and the time of a pick are arguments; the only shared state is the
//! atomics of [`load::Load`] and the cursor kept from one picker to the next. What must stay true of every algorithm:
//!
//! - a picked member is eligible, was not full when it was looked at, and was not tried;
//! - if there is such a member it is found, whatever the algorithm's own order says;
//! - a pick allocates nothing, takes no lock, and looks at each member a bounded number of times.

mod ask;
mod candidates;
mod cursor;
mod first;
mod latency;
mod least_busy;
mod least_connections;
mod least_latency;
pub mod load;
mod maglev;
mod preview;
mod random;
mod round_robin;
mod source_hash;
mod two_choices;

use std::sync::Arc;

use crate::config::settings::Balance;
pub use ask::{Ask, MEMBERS_MAX, Member, Pick};
use candidates::Candidates;
use cursor::Cursor;
pub use preview::Preview;
use random::Lottery;
use round_robin::Schedule;
use source_hash::Affinity;

/// Chooses among the members of one pool. Immutable but for its atomic cursor; rebuilt when eligibility changes.
#[derive(Debug)]
pub struct Picker {
    candidates: Candidates,
    /// The eligible, by index, in list order.
    eligible: Vec<u32>,
    algorithm: Algorithm,
    cursor: Arc<Cursor>,
}

/// An algorithm with the tables it needs.
#[derive(Debug)]
enum Algorithm {
    RoundRobin(Schedule),
    LeastConnections,
    LeastBusy,
    Random(Lottery),
    TwoChoices(Lottery),
    LeastLatency(Lottery),
    First,
    SourceHash(Box<Affinity>),
}

impl Picker {
    /// Builds the tables. `try_all` is `when_none: try_all`; `previous` lends its cursor, so that turns go on,
    /// and a table that would be the same. Of a list
    /// longer than [`MEMBERS_MAX`], the members behind it are never eligible.
    pub fn build(
        balance: &Balance,
        hash_seed: &str,
        try_all: bool,
        members: &[Member],
        previous: Option<&Self>,
    ) -> Self {
        let eligible = candidates::eligible(members, try_all);
        let mut candidates = Candidates::new(members, &eligible);
        let algorithm = match balance {
            Balance::RoundRobin => Algorithm::RoundRobin(Schedule::new(&candidates)),
            Balance::LeastConnections => Algorithm::LeastConnections,
            Balance::LeastBusy => Algorithm::LeastBusy,
            Balance::Random => Algorithm::Random(Lottery::new(&candidates)),
            Balance::TwoChoices => Algorithm::TwoChoices(Lottery::new(&candidates)),
            Balance::LeastLatency => Algorithm::LeastLatency(Lottery::new(&candidates)),
            Balance::First => Algorithm::First,
            Balance::SourceHash(settings) => {
                // Only the names may decide, so that balancers whose files list the backends differently agree.
                candidates.sort_by_name(members);
                let previous = previous.and_then(|previous| match &previous.algorithm {
                    Algorithm::SourceHash(affinity) => Some(&**affinity),
                    _ => None,
                });
                let affinity = Affinity::new(settings, hash_seed, members, &candidates, previous);
                Algorithm::SourceHash(Box::new(affinity))
            }
        };
        let cursor = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.cursor));
        Self { candidates, eligible, algorithm, cursor }
    }

    /// Chooses. Does not take a place: the caller does, and asks again when it lost the race for the last one.
    pub fn pick(&self, ask: &Ask<'_>) -> Pick {
        self.pick_at(&self.cursor, ask)
    }

    fn pick_at(&self, cursor: &Cursor, ask: &Ask<'_>) -> Pick {
        let candidates = &self.candidates;
        if candidates.is_empty() {
            return Pick::NoneEligible;
        }
        match &self.algorithm {
            Algorithm::RoundRobin(schedule) => schedule.pick(candidates, cursor, ask),
            Algorithm::LeastConnections => least_connections::pick(candidates, cursor, ask),
            Algorithm::LeastBusy => least_busy::pick(candidates, cursor, ask),
            Algorithm::Random(lottery) => random::pick(candidates, lottery, ask),
            Algorithm::TwoChoices(lottery) => two_choices::pick(candidates, lottery, ask),
            Algorithm::LeastLatency(lottery) => least_latency::pick(candidates, lottery, ask),
            Algorithm::First => first::pick(candidates, ask),
            Algorithm::SourceHash(affinity) => affinity.pick(candidates, ask),
        }
    }

    /// What tells the table of `source_hash` from others, on whichever machine; `None`: another algorithm has none.
    pub fn table_number(&self) -> Option<u32> {
        match &self.algorithm {
            Algorithm::SourceHash(affinity) => Some(affinity.number()),
            _ => None,
        }
    }

    /// The members that may be picked now, in list order (before fullness).
    pub fn eligible(&self) -> &[u32] {
        &self.eligible
    }
}

#[cfg(test)]
mod tests;
