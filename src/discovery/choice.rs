//! Choice among what was found: which address a name that is one backend has, who is above the bound, what may be a backend at
//! all. Two machines that found the same choose the same.
//!
//! Pure.

use std::net::IpAddr;

use crate::config::settings::{Bind, Cidr, ConnectFrom};

/// What a pool makes of what is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken<'a> {
    /// Where its backends must be; nothing: anywhere.
    pub(super) networks: &'a [Cidr],
    /// Nobody could tell the port of one without.
    pub(super) needs_port: bool,
    /// Where its clients come in.
    pub(super) doors: &'a [Bind],
    /// Where its connections come from.
    pub(super) from: &'a ConnectFrom,
}

/// The address that a name keeps, or has from now on (rendezvous hashing).
pub(super) fn one_of(
    current: Option<IpAddr>,
    found: &[IpAddr],
    hash_seed: &str,
    name: &str,
) -> Option<IpAddr> {
    if let Some(current) = current.filter(|current| found.contains(current)) {
        return Some(current);
    }
    found.iter().copied().max_by_key(|ip| (hash(&[hash_seed, name, &ip.to_string()]), *ip))
}

/// The first so many by a hash of their names, in the order in which they were.
pub(super) fn first_by_name<T>(all: &mut Vec<T>, most: usize, hash_seed: &str, name: impl Fn(&T) -> &str) {
    if all.len() <= most {
        return;
    }
    let mut hashes: Vec<u64> = all.iter().map(|one| hash(&[hash_seed, name(one)])).collect();
    hashes.sort_unstable();
    let last = hashes[most - 1];
    // Two of one hash are as good as one: the order decides.
    let mut taken = 0;
    all.retain(|one| {
        let stays = taken < most && hash(&[hash_seed, name(one)]) <= last;
        taken += usize::from(stays);
        stays
    });
}

/// Why nobody may be sent to an address that was found; `None`: it may be a backend.
pub(super) fn refusal(
    ip: IpAddr,
    port: Option<u16>,
    may_be_loopback: bool,
    taken: Taken<'_>,
) -> Option<&'static str> {
    let Taken { networks, needs_port, doors: own_doors, from } = taken;
    let canonical = ip.to_canonical();
    let is_never = match canonical {
        IpAddr::V4(ip) => {
            ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast() || ip.octets() == METADATA
        }
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local(),
    };
    if is_never {
        return Some("it is no address of a backend");
    }
    if needs_port && port.is_none() {
        return Some(
            "it has no port, and its pool has not one listener with one: checks do not know which to ask",
        );
    }
    if canonical.is_loopback() && !may_be_loopback {
        return Some("it is loopback, and the server that says so is not");
    }
    if !networks.is_empty() && !networks.iter().any(|network| network.contains(canonical)) {
        return Some("it is in none of `networks`");
    }
    if let ConnectFrom::Addresses(all) = from
        && !all.iter().any(|own| own.is_ipv4() == canonical.is_ipv4())
    {
        return Some("`connect_from` has no address of its family");
    }
    let is_own = |door: &Bind| {
        let is_at = door.ip.is_none_or(|at| {
            at.to_canonical() == canonical || at.is_unspecified() && canonical.is_loopback()
        });
        // A door at every address is known to be this one on loopback alone.
        let is_here = door.ip.is_some() || canonical.is_loopback();
        is_at && is_here && port.is_none_or(|port| port == door.port)
    };
    own_doors.iter().any(is_own).then_some("it is the listener itself")
}

/// FNV-1a over the parts and their ends, mixed: the same in every build.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain(std::iter::once(0xff)));
    let folded = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (folded ^ (folded >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// Where clouds give out secrets.
const METADATA: [u8; 4] = [169, 254, 169, 254];

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_keeps_its_address_and_two_machines_choose_alike() {
        let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(ip);
        let first = one_of(None, &all, "seed", "db").unwrap();
        let reversed: Vec<IpAddr> = all.into_iter().rev().collect();
        assert_eq!(one_of(None, &reversed, "seed", "db"), Some(first));
        let other = all.into_iter().find(|ip| *ip != first).unwrap();
        assert_eq!(one_of(Some(other), &all, "seed", "db"), Some(other));
        let rest: Vec<IpAddr> = all.into_iter().filter(|ip| *ip != other).collect();
        assert_eq!(one_of(Some(other), &rest, "seed", "db"), Some(first), "it went");
        let names: std::collections::BTreeSet<_> =
            (0..50).filter_map(|at| one_of(None, &all, "seed", &format!("db{at}"))).collect();
        assert_eq!(names.len(), 3, "names are spread");
    }

    #[test]
    fn of_too_many_the_same_stay_whatever_the_order() {
        let mut all: Vec<String> = (0..100).map(|at| format!("10.0.0.{at}:1")).collect();
        let mut reversed: Vec<String> = all.iter().rev().cloned().collect();
        first_by_name(&mut all, 10, "seed", |one| one);
        first_by_name(&mut reversed, 10, "seed", |one| one);
        assert_eq!(all.len(), 10);
        reversed.reverse();
        assert_eq!(all, reversed);
    }

    #[test]
    fn not_everything_may_be_a_backend() {
        let any = Taken { networks: &[], needs_port: false, doors: &[], from: &ConnectFrom::Any };
        let refused = |text: &str| refusal(ip(text), Some(5432), false, any).is_some();
        for text in [
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.169.254",
            "::",
            "ff02::1",
            "fe80::1",
            "::ffff:0.0.0.0",
        ] {
            assert!(refused(text), "{text}");
        }
        assert!(!refused("10.0.0.1") && !refused("2001:db8::1"));
        assert!(refused("127.0.0.1") && refused("::1"));
        assert_eq!(refusal(ip("127.0.0.1"), None, true, any), None);
        let networks = Taken { networks: &[Cidr { ip: ip("10.0.0.0"), bits: 8 }], ..any };
        assert_eq!(refusal(ip("10.9.9.9"), None, false, networks), None);
        assert!(refusal(ip("11.0.0.1"), None, false, networks).is_some());
        let from = ConnectFrom::Addresses([ip("10.0.0.8")].into());
        let from = Taken { from: &from, ..any };
        assert_eq!(refusal(ip("10.9.9.9"), None, false, from), None);
        assert!(refusal(ip("2001:db8::1"), None, false, from).is_some(), "nobody could connect there");
        let door = |ip: Option<&str>| Bind { ip: ip.map(self::ip), port: 5432 };
        let is_own = |text: &str, port, doors: &[Bind]| {
            refusal(ip(text), port, true, Taken { doors, ..any }).is_some()
        };
        assert!(is_own("10.0.0.1", Some(5432), &[door(Some("10.0.0.1"))]));
        assert!(is_own("10.0.0.1", None, &[door(Some("10.0.0.1"))]), "at the port the client came to");
        assert!(!is_own("10.0.0.1", Some(5433), &[door(Some("10.0.0.1"))]));
        assert!(is_own("127.0.0.1", Some(5432), &[door(None)]));
        assert!(!is_own("10.0.0.1", Some(5432), &[door(None)]), "nobody knows whose address that is");
    }
}
