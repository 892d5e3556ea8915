//! Flow key: what a flow is found by, kept in 40 bytes, and its number.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use siphasher::sip::SipHasher13;

/// A client at one of our own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Who sends.
    pub client: SocketAddr,
    /// Where it sends to: never a wildcard, but the address in the datagram.
    pub local: SocketAddr,
}

/// A flow's place in the table, and which of the place's flows it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId {
    /// Its place: for slabs that run in parallel with the table. Free again only after the flow was handed out.
    pub index: u32,
    /// Which of the flows of this place; less than 2^29.
    pub generation: u32,
}

impl FlowId {
    /// As one number, whose upper three bits are 0 for the caller's own use.
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Back from the number; its upper three bits do not matter.
    // Both parts are cut to their width on purpose.
    #[allow(clippy::cast_possible_truncation)]
    pub fn unpack(packed: u64) -> Self {
        Self { index: packed as u32, generation: (packed >> 32) as u32 & GENERATION_MASK }
    }
}

/// A [`FlowKey`] as five words: both addresses as IPv6, both ports, the client's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct StoredKey([u64; 5]);

impl StoredKey {
    pub(super) fn new(key: &FlowKey) -> Self {
        let (client, local) = (bits(key.client.ip()), bits(key.local.ip()));
        // Two links may each have a client of the same link-local address.
        let scope = match key.client {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(client) => client.scope_id(),
        };
        let ports = u64::from(key.client.port()) << 48 | u64::from(key.local.port()) << 32 | u64::from(scope);
        // Each is one half of an address.
        #[allow(clippy::cast_possible_truncation)]
        Self([(client >> 64) as u64, client as u64, (local >> 64) as u64, local as u64, ports])
    }

    /// The key again; mapped IPv4 comes back as IPv4.
    pub(super) fn key(&self) -> FlowKey {
        let [client_high, client_low, local_high, local_low, ports] = self.0;
        // The halves of one word.
        #[allow(clippy::cast_possible_truncation)]
        let (client_port, local_port, scope) = ((ports >> 48) as u16, (ports >> 32) as u16, ports as u32);
        let client = match address(client_high, client_low) {
            IpAddr::V4(ip) => SocketAddr::from((ip, client_port)),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, client_port, 0, scope).into(),
        };
        FlowKey { client, local: SocketAddr::from((address(local_high, local_low), local_port)) }
    }

    /// Keyed, so that nobody outside can choose clients that meet in one place.
    pub(super) fn hash(&self, hasher: &SipHasher13) -> u64 {
        let [client_high, client_low, local_high, local_low, ports] = self.0;
        if (client_high, client_low >> 32, local_high, local_low >> 32) == (0, 0xffff, 0, 0xffff) {
            // IPv4 is hashed at half the cost. No longer key can have the same input: the length is hashed as well.
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(client_low << 32 | local_low & u64::from(u32::MAX)).to_ne_bytes());
            bytes[8..].copy_from_slice(&ports.to_ne_bytes());
            return hasher.hash(&bytes);
        }
        let mut bytes = [0; 40];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        hasher.hash(&bytes)
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(high: u64, low: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))).to_canonical()
}

/// Generations wrap here: an event would have to sleep through 500 million flows of its place to meet another's.
pub(super) const GENERATION_MASK: u32 = (1 << 29) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<FlowKey> {
        let mut keys = Vec::new();
        let locals = ["10.0.0.1:53", "10.0.0.1:54", "10.0.0.2:53", "[2001:db8::1]:53", "[::10.0.0.1]:53"];
        let clients =
            ["192.0.2.1:1", "192.0.2.1:2", "[2001:db8::2]:1", "[fe80::2%3]:1", "[fe80::2%4]:1", "0.0.0.0:0"];
        for local in locals {
            for client in clients {
                keys.push(FlowKey { client: client.parse().unwrap(), local: local.parse().unwrap() });
            }
        }
        keys
    }

    #[test]
    fn keys_come_back_and_none_equals_another() {
        let hasher = SipHasher13::new_with_key(&[4; 16]);
        let stored: Vec<StoredKey> = keys().iter().map(StoredKey::new).collect();
        for (number, key) in keys().iter().enumerate() {
            assert_eq!(stored[number].key(), *key);
            for other in &stored[..number] {
                assert!(*other != stored[number] && other.hash(&hasher) != stored[number].hash(&hasher));
            }
        }
    }

    #[test]
    fn the_hash_follows_its_key() {
        let key = StoredKey::new(&keys()[0]);
        let with = |hash_key: [u8; 16]| key.hash(&SipHasher13::new_with_key(&hash_key));
        assert_ne!(with([1; 16]), with([2; 16]));
        assert_eq!(with([1; 16]), with([1; 16]));
    }

    #[test]
    fn ids_come_back_whatever_the_upper_bits() {
        for id in [(0, 0), (u32::MAX, GENERATION_MASK), (7, 1)] {
            let id = FlowId { index: id.0, generation: id.1 };
            assert_eq!(id.pack() >> 61, 0);
            assert_eq!(FlowId::unpack(id.pack() | 5 << 61), id);
        }
    }
}
