//! Networks: one, and files of them, as they were read.
//!
//! Plain data, as small as may be: a million of IPv4 are 12 MB.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::Cidr;

/// The files of networks that a listener names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkFiles {
    /// In `allow`.
    pub allow: Vec<NetworkFile>,
    /// In `deny`.
    pub deny: Vec<NetworkFile>,
    /// In `accept_proxy`.
    pub accept_proxy: Vec<NetworkFile>,
}

/// A file of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFile {
    /// Its path.
    pub path: Arc<str>,
    /// What it says.
    pub list: Arc<NetworkList>,
}

/// Networks of a file, in its order, each with its line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkList {
    v4: Vec<Line<u32>>,
    v6: Vec<Line<u128>>,
}

/// A network on a line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line<T> {
    first: T,
    /// Counted from 1.
    line: u32,
    bits: u8,
}

impl NetworkList {
    /// One more, which stands on this line.
    pub fn push(&mut self, cidr: Cidr, line: u32) {
        match cidr.ip {
            IpAddr::V4(ip) => self.v4.push(Line { first: ip.to_bits(), line, bits: cidr.bits }),
            IpAddr::V6(ip) => self.v6.push(Line { first: ip.to_bits(), line, bits: cidr.bits }),
        }
    }

    /// Gives back what it does not need when no more come.
    pub fn close(&mut self) {
        self.v4.shrink_to_fit();
        self.v6.shrink_to_fit();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// First address and leading bits of those of IPv4.
    pub fn v4(&self) -> impl Iterator<Item = (u32, u8)> {
        self.v4.iter().map(|line| (line.first, line.bits))
    }

    /// First address and leading bits of those of IPv6.
    pub fn v6(&self) -> impl Iterator<Item = (u128, u8)> {
        self.v6.iter().map(|line| (line.first, line.bits))
    }

    /// The longest network that this address is in, and its line; of equal ones the first. Looks at each: for people.
    pub fn longest(&self, ip: IpAddr) -> Option<(Cidr, u32)> {
        let v4 = self.v4.iter().map(|one| (Ipv4Addr::from_bits(one.first).into(), one.bits, one.line));
        let v6 = self.v6.iter().map(|one| (Ipv6Addr::from_bits(one.first).into(), one.bits, one.line));
        let all = v4.chain(v6).map(|(ip, bits, line): (IpAddr, u8, u32)| (Cidr { ip, bits }, line));
        all.filter(|(cidr, _)| cidr.contains(ip)).min_by_key(|(cidr, line)| (u8::MAX - cidr.bits, *line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_network_of_an_address_is_found_with_its_line() {
        let mut list = NetworkList::default();
        for (at, (ip, bits)) in (1..).zip([("10.0.0.0", 8), ("10.1.0.0", 16), ("::", 0), ("10.1.0.0", 16)]) {
            list.push(Cidr { ip: ip.parse().unwrap(), bits }, at);
        }
        let line = |ip: &str| list.longest(ip.parse().unwrap()).map(|(_, line)| line);
        assert_eq!((line("10.1.2.3"), line("10.2.2.3"), line("11.0.0.1")), (Some(2), Some(1), None));
        assert_eq!((line("2001:db8::1"), line("::ffff:10.2.0.0"), list.len()), (Some(3), Some(1), 4));
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!((size_of::<Line<u32>>(), size_of::<Line<u128>>()), (12, 32));
    }
}
