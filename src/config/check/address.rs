//! Addresses as users write them: `10.0.0.1:5432`, `"[::1]:5432"`, `10.0.0.1`, and port ranges `27015-27030`.
//!
//! Pure. Must stay true: an address is an IP; nothing here could ask a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::config::mistake::quoted;
use crate::config::units::parse_whole;

/// Why a text is not an address, or not a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::config) enum AddressError {
    #[error("{} is a host name; an address is an IP here, names are not looked up", quoted(.0))]
    HostName(String),
    #[error("{} is not an IP address", quoted(.0))]
    NotAnIp(String),
    #[error(
        "an IPv6 address stands in brackets, and in quotes for YAML: \"[{0}]\", with a port \"[{0}]:5432\""
    )]
    NoBrackets(String),
    #[error("{} has a zone; IPv6 addresses with one are not supported", quoted(.0))]
    Zone(String),
    #[error("{} is not a port; a port is a number from 1 to 65535", quoted(.0))]
    NotAPort(String),
    #[error("port 0 is no port a client could find; use 1 to 65535")]
    PortZero,
    #[error("the port range {} ends before it begins", quoted(.0))]
    Backwards(String),
}

/// Reads `IP`, `IP:PORT` or `IP:PORT-PORT`; IPv6 in brackets.
pub(in crate::config) fn parse_address(
    text: &str,
) -> Result<(IpAddr, Option<RangeInclusive<u16>>), AddressError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| AddressError::NotAnIp(text.to_owned()))?;
        if host.contains('%') {
            return Err(AddressError::Zone(host.to_owned()));
        }
        let ip: Ipv6Addr = host.parse().map_err(|_| AddressError::NotAnIp(host.to_owned()))?;
        let ports = match after.strip_prefix(':') {
            Some(ports) => Some(parse_ports(ports)?),
            None if after.is_empty() => None,
            None => return Err(AddressError::NotAnIp(text.to_owned())),
        };
        return Ok((IpAddr::V6(ip), ports));
    }
    // Without brackets `fd00::1:5432` is an address without a port, and rarely meant.
    if text.matches(':').count() > 1
        && text.split('%').next().is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
    {
        return Err(AddressError::NoBrackets(text.to_owned()));
    }
    let (host, ports) = match text.split_once(':') {
        Some((host, ports)) => (host, Some(ports)),
        None => (text, None),
    };
    let ip: Ipv4Addr = host.parse().map_err(|_| not_an_ip(host))?;
    Ok((IpAddr::V4(ip), ports.map(parse_ports).transpose()?))
}

/// Reads `5432` or `27015-27030`.
pub(super) fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, AddressError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    if first > last { Err(AddressError::Backwards(text.to_owned())) } else { Ok(first..=last) }
}

/// The address as a file would say it, an IPv6 one in brackets.
pub(in crate::config) fn show_ip(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    match parse_whole(text).ok().and_then(|number| u16::try_from(number).ok()) {
        Some(0) => Err(AddressError::PortZero),
        Some(port) => Ok(port),
        None => Err(AddressError::NotAPort(text.to_owned())),
    }
}

fn not_an_ip(host: &str) -> AddressError {
    let name_like = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.chars().any(char::is_alphabetic) && host.chars().all(name_like) {
        AddressError::HostName(host.to_owned())
    } else {
        AddressError::NotAnIp(host.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_as_written() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let cases = [
            ("10.0.0.1", Ok((ip("10.0.0.1"), None))),
            ("10.0.0.1:80", Ok((ip("10.0.0.1"), Some(80..=80)))),
            ("10.0.0.1:80-90", Ok((ip("10.0.0.1"), Some(80..=90)))),
            ("[::1]", Ok((ip("::1"), None))),
            ("[fd00::1]:65535", Ok((ip("fd00::1"), Some(65535..=65535)))),
            ("::1", Err(AddressError::NoBrackets("::1".into()))),
            ("fd00::1:5432", Err(AddressError::NoBrackets("fd00::1:5432".into()))),
            ("[fe80::1%eth0]:80", Err(AddressError::Zone("fe80::1%eth0".into()))),
            ("[::1", Err(AddressError::NotAnIp("[::1".into()))),
            ("[::1]80", Err(AddressError::NotAnIp("[::1]80".into()))),
            ("[10.0.0.1]:80", Err(AddressError::NotAnIp("10.0.0.1".into()))),
            ("db1.example.org:5432", Err(AddressError::HostName("db1.example.org".into()))),
            ("localhost", Err(AddressError::HostName("localhost".into()))),
            ("10.0.0.256:1", Err(AddressError::NotAnIp("10.0.0.256".into()))),
            ("10.0.0:1", Err(AddressError::NotAnIp("10.0.0".into()))),
            ("", Err(AddressError::NotAnIp(String::new()))),
            (":80", Err(AddressError::NotAnIp(String::new()))),
            ("10.0.0.1:", Err(AddressError::NotAPort(String::new()))),
            ("10.0.0.1:0", Err(AddressError::PortZero)),
            ("10.0.0.1:65536", Err(AddressError::NotAPort("65536".into()))),
            ("10.0.0.1:http", Err(AddressError::NotAPort("http".into()))),
            ("10.0.0.1:9-8", Err(AddressError::Backwards("9-8".into()))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_address(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn addresses_round_trip(ip: IpAddr, port in 1..=u16::MAX) {
            let text = format!("{}:{port}", show_ip(ip));
            prop_assert_eq!(parse_address(&text), Ok((ip, Some(port..=port))));
        }

        #[test]
        fn any_text_is_answered(text in "[0-9a-f:.\\[\\]%-]{0,30}|.*") {
            let _ = parse_address(&text);
        }
    }
}
