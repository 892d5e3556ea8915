//! A pick, seen from outside: what a picker is given of each backend, what a pick may know, what comes of it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::load::Load;

/// One backend as the builder of a [`Picker`](super::Picker) is given it. All backends of the pool are given, eligible or not.
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
    /// This member, by its index in the list given to [`Picker::build`](super::Picker::build).
    Member(u32),
    /// Some are eligible, but each of them is full.
    Full,
    /// Some are eligible and not full, but each of them was tried already.
    Tried,
    /// None is eligible.
    NoneEligible,
}

/// Members a pool can have: a place among them fits 16 bits, and the table of `source_hash` has an entry for each.
pub const MEMBERS_MAX: usize = 65_536;
