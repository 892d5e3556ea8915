//! Which backend gets the next session. One algorithm, one file, named by its YAML word.
//!
//! Pure: values in, an index out. The randomness and the time of a pick are arguments; the only shared state is the
//! atomics of [`load::Load`] and the cursors kept from one picker to the next.

pub mod load;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::settings::Balance;
use load::Load;

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
    /// Members this session has tried already, by index; they are passed over.
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
pub struct Picker {}

impl Picker {
    /// Builds the tables. `try_all` is `when_none: try_all`; `previous` lends its cursor, so that turns go on.
    pub fn build(
        balance: &Balance,
        hash_seed: &str,
        try_all: bool,
        members: &[Member],
        previous: Option<&Self>,
    ) -> Self {
        let _ = (balance, hash_seed, try_all, members, previous);
        Self {}
    }

    /// Chooses. Does not take a place: the caller does, and asks again when it lost the race for the last one.
    pub fn pick(&self, ask: &Ask<'_>) -> Pick {
        let _ = ask;
        Pick::NoneEligible
    }

    /// The members that may be picked now, in list order (before fullness).
    pub fn eligible(&self) -> &[u32] {
        &[]
    }
}
