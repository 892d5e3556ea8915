//! Access control lists (ACL), `allow` and `deny`: who may come in, decided by the longest match of both lists.
//!
//! Pure. Must stay true: of two equal networks the denied one counts; with `allow` given, who is in no network is refused;
//! IPv4 written as IPv6 is IPv4. A decision allocates nothing and costs one binary search.

mod ranges;
mod shared;
mod trusted_proxies;

use std::net::IpAddr;

use crate::config::settings::{Cidr, NetworkFile};
use ranges::Ranges;
pub use shared::{Networks, SharedAccess};
pub use trusted_proxies::TrustedProxies;

/// The two lists of a listener, worked out.
#[derive(Debug, Clone)]
pub struct Access {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Access {
    /// Both lists. Without any network everyone may come in.
    pub fn new(allow: &[Cidr], deny: &[Cidr]) -> Self {
        Self::made((allow, &[]), (deny, &[]))
    }

    /// Both lists, with the files in them.
    fn of(allow: &Networks, deny: &Networks) -> Self {
        Self::made((&allow.listed, &allow.files), (&deny.listed, &deny.files))
    }

    fn made(allow: (&[Cidr], &[NetworkFile]), deny: (&[Cidr], &[NetworkFile])) -> Self {
        let count = |(listed, files): &(&[Cidr], &[NetworkFile])| {
            listed.len() + files.iter().map(|file| file.list.len()).sum::<usize>()
        };
        let (mut v4, mut v6) = (Vec::with_capacity(count(&allow) + count(&deny)), Vec::new());
        for ((listed, files), allowed) in [(allow, true), (deny, false)] {
            for cidr in listed {
                match cidr.ip {
                    IpAddr::V4(ip) => v4.push((ip.to_bits(), cidr.bits, allowed)),
                    IpAddr::V6(ip) => v6.push((ip.to_bits(), cidr.bits, allowed)),
                }
            }
            for file in files {
                v4.extend(file.list.v4().map(|(first, bits)| (first, bits, allowed)));
                v6.extend(file.list.v6().map(|(first, bits)| (first, bits, allowed)));
            }
        }
        // A file that is named lets those in that it has, and if it has none, none.
        let others = allow.0.is_empty() && allow.1.is_empty();
        Self { v4: Ranges::new(v4, others), v6: Ranges::new(v6, others) }
    }

    /// May this client come in?
    pub fn allows(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(ip) => self.v4.allows(ip.to_bits()),
            IpAddr::V6(ip) => self.v6.allows(ip.to_bits()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        let (ip, bits) = text.split_once('/').unwrap();
        Cidr { ip: ip.parse().unwrap(), bits: bits.parse().unwrap() }
    }

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| cidr(text)).collect()
    }

    #[test]
    fn the_longest_match_of_both_lists_decides() {
        let everyone: [&str; 0] = [];
        let cases: [(&[&str], &[&str], &str, bool); 19] = [
            (&everyone, &everyone, "192.0.2.1", true),
            (&everyone, &["192.0.2.0/24"], "192.0.2.1", false),
            (&everyone, &["192.0.2.0/24"], "192.0.3.0", true),
            (&["192.0.2.0/24"], &everyone, "192.0.2.255", true),
            (&["192.0.2.0/24"], &everyone, "192.0.3.0", false),
            // The other family is in no network, either.
            (&["192.0.2.0/24"], &everyone, "2001:db8::1", false),
            (&everyone, &["0.0.0.0/0"], "2001:db8::1", true),
            // A tie is deny.
            (&["10.0.0.0/8"], &["10.0.0.0/8"], "10.1.2.3", false),
            (&["10.0.0.0/8", "10.1.0.0/16"], &["10.0.0.0/8"], "10.1.2.3", true),
            // Nested, three deep, and back out again.
            (&["10.0.0.0/8", "10.1.2.0/24"], &["10.1.0.0/16"], "10.1.2.3", true),
            (&["10.0.0.0/8", "10.1.2.0/24"], &["10.1.0.0/16"], "10.1.3.3", false),
            (&["10.0.0.0/8", "10.1.2.0/24"], &["10.1.0.0/16"], "10.2.0.0", true),
            (&["0.0.0.0/0"], &["255.255.255.255/32"], "255.255.255.255", false),
            (&["0.0.0.0/0"], &["255.255.255.255/32"], "255.255.255.254", true),
            (&everyone, &["0.0.0.0/1", "128.0.0.0/1"], "128.0.0.0", false),
            // IPv4 in IPv6 is IPv4.
            (&["192.0.2.0/24"], &everyone, "::ffff:192.0.2.1", true),
            (&["::/0"], &everyone, "::ffff:192.0.2.1", false),
            (&["2001:db8::/32"], &["2001:db8:1::/48"], "2001:db8:1::1", false),
            (&["2001:db8::/32"], &["2001:db8:1::/48"], "2001:db8:2::1", true),
        ];
        for (allow, deny, client, expected) in cases {
            let access = Access::new(&cidrs(allow), &cidrs(deny));
            let allows = access.allows(client.parse().unwrap());
            assert_eq!(allows, expected, "{client} with allow {allow:?}, deny {deny:?}");
        }
    }

    /// The rule as the documentation says it, one network after the other.
    fn naive(allow: &[Cidr], deny: &[Cidr], client: IpAddr) -> bool {
        let longest = |list: &[Cidr]| {
            list.iter().filter(|cidr| cidr.contains(client)).map(|cidr| i16::from(cidr.bits)).max()
        };
        match (longest(allow), longest(deny)) {
            (None, None) => allow.is_empty(),
            (allowed, denied) => allowed.unwrap_or(-1) > denied.unwrap_or(-1),
        }
    }

    /// Few different bits, so that networks nest, touch and repeat.
    fn network() -> impl Strategy<Value = Cidr> {
        let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(seed, bits)| {
            let ip = narrow(u128::from(seed), 32) as u32;
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Cidr { ip: Ipv4Addr::from_bits(ip & mask).into(), bits }
        });
        let v6 = (any::<u32>(), 0..=128_u8).prop_map(|(seed, bits)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Cidr { ip: Ipv6Addr::from_bits(narrow(u128::from(seed), 128) & mask).into(), bits }
        });
        prop_oneof![v4, v6]
    }

    /// An address of `width` bits, of which only its ends and its middle differ.
    fn narrow(seed: u128, width: u32) -> u128 {
        let (high, middle, low) = (seed & 3, seed >> 2 & 3, seed >> 4 & 3);
        high << (width - 2) | middle << (width / 2) | low | if seed >> 6 & 1 == 1 { 0xf0 } else { 0 }
    }

    proptest! {
        #[test]
        fn it_decides_as_the_rule_does(
            allow in prop::collection::vec(network(), 0..12),
            deny in prop::collection::vec(network(), 0..12),
            seeds in prop::collection::vec(any::<u32>(), 40),
        ) {
            let access = Access::new(&allow, &deny);
            let ranges = allow.iter().chain(&deny).flat_map(|cidr| around(*cidr));
            let drawn = seeds.iter().map(|seed| IpAddr::from(Ipv4Addr::from_bits(narrow(u128::from(*seed), 32) as u32)));
            let drawn6 = seeds.iter().map(|seed| IpAddr::from(Ipv6Addr::from_bits(narrow(u128::from(*seed), 128))));
            for client in ranges.chain(drawn).chain(drawn6) {
                prop_assert_eq!(access.allows(client), naive(&allow, &deny, client), "{}", client);
            }
        }
    }

    /// The first and last address of a network, and those beside them.
    fn around(cidr: Cidr) -> [IpAddr; 4] {
        match cidr.ip {
            IpAddr::V4(ip) => {
                let first = ip.to_bits();
                let last = first | u32::MAX.checked_shr(u32::from(cidr.bits)).unwrap_or(0);
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                    .map(|ip| Ipv4Addr::from_bits(ip).into())
            }
            IpAddr::V6(ip) => {
                let first = ip.to_bits();
                let last = first | u128::MAX.checked_shr(u32::from(cidr.bits)).unwrap_or(0);
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                    .map(|ip| Ipv6Addr::from_bits(ip).into())
            }
        }
    }
}
