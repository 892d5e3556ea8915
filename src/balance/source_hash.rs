//! `source_hash`: the same client to the same backend, on every machine that has the same names, weights and `hash_seed`.
//!
//! What is hashed is fixed for good, since balancers of different age must agree. The hash is SipHash-1-3.
//!
//! - Key: `k0` is the hash of the seed's UTF-8 bytes under the key (0, 0), `k1` under the key (0, 1).
//! - Under (k0, k1), of a backend: the byte `o` and its name in UTF-8, modulo 65,537: the offset of its preference; the
//!   byte `s` and its name, modulo 65,536, plus 1: the skip.
//! - Under (k0, k1), of a client: the byte `c`, its masked address in network order (4 bytes; 16 for IPv6 that is not
//!   IPv4-mapped), and with `source_ip_port` its port in 2 bytes, high byte first. Modulo 65,537: the entry of the table.
//!
//! Backends have their places by name, so the order of the list does not matter. If the member of the entry is closed, the
//! same walk follows for the same client: [`LOOKS_MAX`] more entries, then the open member that ranks first for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::ask::{Ask, Member, Pick};
use super::candidates::{Candidate, Candidates};
use super::maglev::{Preference, Table};
use crate::config::settings::{HashKey, SourceHash};
use crate::random::{Random, mix};

/// Whom every client belongs to.
#[derive(Debug)]
pub(super) struct Affinity {
    table: Arc<Table>,
    hasher: SipHasher13,
    settings: SourceHash,
    /// Of all candidates together.
    weights: u64,
}

impl Affinity {
    /// `candidates` must be sorted by name. Filling a table takes some 2 ms: that of `previous` is kept where it is the same.
    pub(super) fn new(
        settings: &SourceHash,
        hash_seed: &str,
        members: &[Member],
        candidates: &Candidates,
        previous: Option<&Self>,
    ) -> Self {
        let hasher = keyed(hash_seed);
        let mut bytes = Vec::new();
        let mut hash = |kind: u8, name: &str| {
            bytes.clear();
            bytes.push(kind);
            bytes.extend_from_slice(name.as_bytes());
            hasher.hash(&bytes)
        };
        let preferences: Vec<_> = (0..candidates.len())
            .map(|place| {
                let name = &members[candidates.index(place) as usize].name;
                (Preference::new(hash(b'o', name), hash(b's', name)), candidates.at(place).weight)
            })
            .collect();
        let table = match previous {
            Some(previous) if previous.table.is_of(&preferences) => Arc::clone(&previous.table),
            _ => Arc::new(Table::new(preferences)),
        };
        let weights = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
        Self { table, hasher, settings: *settings, weights }
    }

    pub(super) fn pick(&self, candidates: &Candidates, ask: &Ask<'_>) -> Pick {
        let hash = self.client_hash(ask.client);
        let is_open = |candidate: &Candidate| candidate.is_open(ask.tried);
        let within_bound = self.settings.bounded_load.and_then(|times| {
            let bound = Bound::new(times, self.weights, candidates);
            self.walk(candidates, hash, |candidate| bound.has_room(candidate) && is_open(candidate))
        });
        // Above the bound is better than nowhere.
        match within_bound.or_else(|| self.walk(candidates, hash, is_open)) {
            Some(place) => candidates.member(place),
            None => candidates.closed(ask.tried),
        }
    }

    /// What of a client is hashed.
    pub(super) fn key(&self) -> HashKey {
        self.settings.key
    }

    /// Machines where this is equal send each client to the backend of the same name, as far as their backends have room.
    pub(super) fn number(&self) -> u32 {
        let SourceHash { key, mask_v4, mask_v6, .. } = self.settings;
        let of_clients =
            u64::from(key == HashKey::SourceIpPort) << 16 | u64::from(mask_v4) << 8 | u64::from(mask_v6);
        let number = mix(self.table.number() ^ mix(of_clients) ^ self.hasher.hash(b"number"));
        // Half of it is enough to tell tables apart, and fits into a sample exactly.
        #[allow(clippy::cast_possible_truncation)]
        let half = number as u32;
        half
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    fn walk(
        &self,
        candidates: &Candidates,
        hash: u64,
        accepts: impl Fn(&Candidate) -> bool,
    ) -> Option<usize> {
        let home = self.table.place(hash);
        if accepts(candidates.at(home)) {
            return Some(home);
        }
        // Other entries than the neighbours': the clients of a closed member spread over all others by weight.
        let mut bits = Random::new(hash);
        for _ in 0..LOOKS_MAX {
            let place = self.table.place(bits.bits());
            if accepts(candidates.at(place)) {
                return Some(place);
            }
        }
        // Next to nobody is left: whoever ranks first for this client, so that no neighbour gets all of them.
        let rank = |place: usize| mix(hash ^ mix(place as u64));
        let accepted = candidates.iter().enumerate().filter(|(_, candidate)| accepts(candidate));
        accepted.map(|(place, _)| place).max_by_key(|place| rank(*place))
    }

    fn client_hash(&self, client: SocketAddr) -> u64 {
        let mut bytes = [0_u8; 1 + 16 + 2];
        bytes[0] = b'c';
        let mut end = match client.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let mask =
                    u32::MAX.checked_shl(32_u32.saturating_sub(self.settings.mask_v4.into())).unwrap_or(0);
                bytes[1..5].copy_from_slice(&(ip.to_bits() & mask).to_be_bytes());
                5
            }
            IpAddr::V6(ip) => {
                let mask =
                    u128::MAX.checked_shl(128_u32.saturating_sub(self.settings.mask_v6.into())).unwrap_or(0);
                bytes[1..17].copy_from_slice(&(ip.to_bits() & mask).to_be_bytes());
                17
            }
        };
        if self.settings.key == HashKey::SourceIpPort {
            bytes[end..end + 2].copy_from_slice(&client.port().to_be_bytes());
            end += 2;
        }
        self.hasher.hash(&bytes[..end])
    }
}

/// `bounded_load`: how many sessions each may have. Costs a look at every member's load for each pick.
#[derive(Debug)]
struct Bound {
    /// `times` the sessions there will be with this one, for each unit of weight.
    sessions_per_weight: f64,
}

impl Bound {
    fn new(times: f64, weights: u64, candidates: &Candidates) -> Self {
        let active: u64 = candidates.iter().map(|candidate| u64::from(candidate.load.active())).sum();
        Self { sessions_per_weight: times * (active + 1) as f64 / weights as f64 }
    }

    /// With one more session it is within its bound, rounded up. With `times` of 1 or more somebody always is.
    fn has_room(&self, candidate: &Candidate) -> bool {
        f64::from(candidate.load.active()) < (self.sessions_per_weight * f64::from(candidate.weight)).ceil()
    }
}

fn keyed(hash_seed: &str) -> SipHasher13 {
    let half = |number: u64| SipHasher13::new_with_keys(0, number).hash(hash_seed.as_bytes());
    SipHasher13::new_with_keys(half(0), half(1))
}

/// More entries looked at before a scan. With half of the table closed, one pick in 131,072 scans.
const LOOKS_MAX: usize = 16;
