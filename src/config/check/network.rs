//! Networks (CIDR) as users write them: `10.0.0.0/8`, `2001:db8::/32`, and an address alone for just that one.
//!
//! Pure. Must stay true: a network has one form. Bits behind the prefix are a slip that would widen or narrow a list in
//! silence, so they are told and not cut off.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::mistake::quoted;
use crate::config::settings::Cidr;
use crate::config::units::parse_whole;

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CidrError {
    #[error("{} is not an IP address", quoted(.0))]
    NotAnIp(String),
    #[error("{} is not a prefix length of {family}: 0 to {most}", quoted(.text))]
    Prefix { text: String, family: &'static str, most: u8 },
    #[error("{} has bits set behind its prefix", quoted(.text))]
    HostBits {
        text: String,
        /// The network it is in.
        network: String,
        /// The address it names.
        address: String,
    },
}

/// Reads `ADDRESS` or `ADDRESS/BITS`. IPv4 written as IPv6 (`::ffff:10.0.0.0/104`) is IPv4.
pub(super) fn parse_cidr(text: &str) -> Result<Cidr, CidrError> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let written: IpAddr = address.parse().map_err(|_| CidrError::NotAnIp(address.to_owned()))?;
    let (family, most) = if written.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
    let bits = match bits {
        None => most,
        Some(text) => parse_whole(text)
            .ok()
            .and_then(|bits| u8::try_from(bits).ok())
            .filter(|bits| *bits <= most)
            .ok_or_else(|| CidrError::Prefix { text: text.to_owned(), family, most })?,
    };
    let ip = written.to_canonical();
    // IPv4 within IPv6 begins behind 96 bits that are not all 0: a shorter prefix has bits behind it.
    let own_bits = if ip.is_ipv4() && most == 128 { bits.saturating_sub(96) } else { bits };
    if masked(written, bits) != written {
        return Err(CidrError::HostBits {
            text: text.to_owned(),
            network: format!("{}/{own_bits}", masked(ip, own_bits)),
            address: ip.to_string(),
        });
    }
    Ok(Cidr { ip, bits: own_bits })
}

/// The address with all bits behind the first `bits` cleared.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::from((ip.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_are_read_as_written() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0", 8),
            ("10.1.2.3", "10.1.2.3", 32),
            ("0.0.0.0/0", "0.0.0.0", 0),
            ("::/0", "::", 0),
            ("2001:db8::/32", "2001:db8::", 32),
            ("2001:db8::1", "2001:db8::1", 128),
            ("::ffff:10.0.0.0/104", "10.0.0.0", 8),
            ("::ffff:10.0.0.1", "10.0.0.1", 32),
            ("::ffff:0.0.0.0/96", "0.0.0.0", 0),
        ];
        for (text, ip, bits) in cases {
            assert_eq!(parse_cidr(text), Ok(Cidr { ip: ip.parse().unwrap(), bits }), "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        let not_an_ip = |text: &str| CidrError::NotAnIp(text.to_owned());
        let prefix = |text: &str, family, most| CidrError::Prefix { text: text.to_owned(), family, most };
        let host_bits = |text: &str, network: &str, address: &str| CidrError::HostBits {
            text: text.to_owned(),
            network: network.to_owned(),
            address: address.to_owned(),
        };
        let cases = [
            ("", not_an_ip("")),
            ("/8", not_an_ip("")),
            ("all", not_an_ip("all")),
            ("10.0.0/8", not_an_ip("10.0.0")),
            ("10.00.0.0/8", not_an_ip("10.00.0.0")),
            ("[::1]/128", not_an_ip("[::1]")),
            ("fe80::1%eth0", not_an_ip("fe80::1%eth0")),
            ("10.0.0.0/", prefix("", "IPv4", 32)),
            ("10.0.0.0/33", prefix("33", "IPv4", 32)),
            ("10.0.0.0/-1", prefix("-1", "IPv4", 32)),
            ("10.0.0.0/08", prefix("08", "IPv4", 32)),
            ("10.0.0.0/255.0.0.0", prefix("255.0.0.0", "IPv4", 32)),
            ("::/129", prefix("129", "IPv6", 128)),
            ("::/1000", prefix("1000", "IPv6", 128)),
            ("10.1.2.3/8", host_bits("10.1.2.3/8", "10.0.0.0/8", "10.1.2.3")),
            ("10.0.0.1/0", host_bits("10.0.0.1/0", "0.0.0.0/0", "10.0.0.1")),
            ("2001:db8::1/64", host_bits("2001:db8::1/64", "2001:db8::/64", "2001:db8::1")),
            ("::ffff:0.0.0.0/95", host_bits("::ffff:0.0.0.0/95", "0.0.0.0/0", "0.0.0.0")),
            ("::ffff:10.1.2.3/104", host_bits("::ffff:10.1.2.3/104", "10.0.0.0/8", "10.1.2.3")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_cidr(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_network_holds_its_addresses_and_its_correction_is_right(ip: IpAddr, bits in 0_u8..=128) {
            let bits = if ip.is_ipv4() { bits % 33 } else { bits };
            match parse_cidr(&format!("{ip}/{bits}")) {
                Ok(cidr) => prop_assert!(cidr.contains(ip)),
                Err(CidrError::HostBits { network, address, .. }) => {
                    let cidr = parse_cidr(&network).unwrap();
                    prop_assert!(cidr.contains(ip));
                    prop_assert!(parse_cidr(&address).unwrap().contains(ip));
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn any_text_is_answered(text in "[0-9a-f:./]{0,30}|.*") {
            let _ = parse_cidr(&text);
        }
    }
}
