//! Load balancing algorithms: which backend gets the next session. One algorithm, one file, named by its YAML word.
//!
//! Pure: values in, an index out. The randomness and the time of a pick are arguments; the only shared state is the
//! atomics of [`load::Load`] and the cursor kept from one picker to the next. What must stay true of every algorithm:
//!
//! - a picked member is eligible, was not full when it was looked at, and was not tried;
//! - if there is such a member it is found, whatever the algorithm's own order says;
//! - a pick allocates nothing, takes no lock, and looks at each member a bounded number of times.

mod candidates;
mod first;
mod least_connections;
mod least_latency;
pub mod load;
mod maglev;
mod preview;
mod random;
mod round_robin;
mod source_hash;
mod two_choices;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize};

use crate::config::settings::Balance;
use candidates::Candidates;
use load::Load;
pub use preview::Preview;
use random::Lottery;
use round_robin::Schedule;
use source_hash::Affinity;

/// One backend as the builder of a [`Picker`] is given it. All backends of the pool are given, eligible or not.
#[derive(Debug, Clone)]
pub struct Member {
    /// Identity for hashing and ordering ties; unique in the pool.
    pub name: Arc<str>,
    /// 0 to 256.
    pub weight: u16,
    /// Lower serves first.
    pub tier: u8,
    /// Up, or not asked.
    pub up: bool,
    /// An operator took it out (`drain`, `down`).
    pub out: bool,
    /// Its live numbers.
    pub load: Arc<Load>,
}

/// What a pick may know.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Who asks. IPv4-mapped IPv6 addresses count as IPv4.
    pub client: SocketAddr,
    /// Fresh random bits, for this pick alone.
    pub random: u64,
    /// A monotonic clock.
    pub now_ns: u64,
    /// Members this session has tried already, by index; they are passed over. Searched one by one: at most 16.
    pub tried: &'a [u32],
}

/// What came of a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This member, by its index in the list given to [`Picker::build`].
    Member(u32),
    /// Some are eligible, but each of them is full.
    Full,
    /// Some are eligible and not full, but each of them was tried already.
    Tried,
    /// None is eligible.
    NoneEligible,
}

/// Chooses among the members of one pool. Immutable but for its atomic cursor; rebuilt when eligibility changes.
#[derive(Debug)]
pub struct Picker {
    candidates: Candidates,
    /// The eligible, by index, in list order.
    eligible: Vec<u32>,
    algorithm: Algorithm,
    cursor: Arc<Cursor>,
}

/// Whose turn it is. Shared by a picker and its successors, and by all workers.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cursor {
    /// Turns of `round_robin` given out so far.
    turn: AtomicUsize,
    /// Where the next scan that gives equals their turns begins.
    scan_from: AtomicU32,
}

/// An algorithm with the tables it needs.
#[derive(Debug)]
enum Algorithm {
    RoundRobin(Schedule),
    LeastConnections,
    Random(Lottery),
    TwoChoices(Lottery),
    LeastLatency(Lottery),
    First,
    SourceHash(Box<Affinity>),
}

impl Picker {
    /// Builds the tables. `try_all` is `when_none: try_all`; `previous` lends its cursor, so that turns go on. Of a list
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
            Balance::Random => Algorithm::Random(Lottery::new(&candidates)),
            Balance::TwoChoices => Algorithm::TwoChoices(Lottery::new(&candidates)),
            Balance::LeastLatency => Algorithm::LeastLatency(Lottery::new(&candidates)),
            Balance::First => Algorithm::First,
            Balance::SourceHash(settings) => {
                // Only the names may decide, so that balancers whose files list the backends differently agree.
                candidates.sort_by_name(members);
                Algorithm::SourceHash(Box::new(Affinity::new(settings, hash_seed, members, &candidates)))
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
            Algorithm::Random(lottery) => random::pick(candidates, lottery, ask),
            Algorithm::TwoChoices(lottery) => two_choices::pick(candidates, lottery, ask),
            Algorithm::LeastLatency(lottery) => least_latency::pick(candidates, lottery, ask),
            Algorithm::First => first::pick(candidates, ask),
            Algorithm::SourceHash(affinity) => affinity.pick(candidates, ask),
        }
    }

    /// The members that may be picked now, in list order (before fullness).
    pub fn eligible(&self) -> &[u32] {
        &self.eligible
    }
}

/// Members a pool can have: a place among them fits 16 bits, and the table of `source_hash` has an entry for each.
pub const MEMBERS_MAX: usize = 65_536;

#[cfg(test)]
mod tests;
