//! Version 1: a line of text, `PROXY TCP4 192.0.2.1 198.51.100.1 50000 443` and CRLF.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::header::{Addresses, Carried, Decoded, Header, Malformed, V1_BYTES_MAX};

/// Reads a line that begins like [`START`].
pub(super) fn decode(bytes: &[u8]) -> Decoded<'_> {
    let seen = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        // Behind UNKNOWN anything may stand until the CRLF.
        if seen.contains(&b'\n') && !seen.starts_with(UNKNOWN) {
            return Decoded::Malformed(Malformed::V1LineFeed);
        }
        if seen.len() == V1_BYTES_MAX {
            return Decoded::Malformed(Malformed::V1TooLong);
        }
        let to_end = if seen.ends_with(b"\r") { 1 } else { 2 };
        return Decoded::Incomplete { missing: SHORTEST_BYTES.saturating_sub(seen.len()).max(to_end) };
    };
    match read_line(&seen[..end]) {
        Ok(carried) => Decoded::Header(Header { carried, length: end + 2, tlvs: &[] }),
        Err(malformed) => Decoded::Malformed(malformed),
    }
}

pub(super) fn encode(addresses: Option<&Addresses>) -> Vec<u8> {
    let Some(Addresses { source, destination }) = addresses else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (from, to) = (source.ip(), destination.ip());
    let ports = (source.port(), destination.port());
    let line = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => format!("PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1),
        // One family for both ends: IPv4 beside IPv6 takes its IPv6 form.
        _ => format!("PROXY TCP6 {} {} {} {}\r\n", as_v6(from), as_v6(to), ports.0, ports.1),
    };
    line.into_bytes()
}

pub(super) fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn read_line(line: &[u8]) -> Result<Carried, Malformed> {
    if line.starts_with(UNKNOWN) && matches!(line.get(UNKNOWN.len()), None | Some(b' ')) {
        return Ok(Carried::Unknown);
    }
    // Only ASCII can be right, and so only text.
    let rest = line.get(START.len()..).and_then(|rest| std::str::from_utf8(rest).ok());
    let (protocol, rest) = rest.and_then(|rest| rest.split_once(' ')).ok_or(Malformed::V1Protocol)?;
    let read_ip = match protocol {
        "TCP4" => read_v4,
        "TCP6" => read_v6,
        _ => return Err(Malformed::V1Protocol),
    };
    let mut fields = rest.split(' ');
    let mut field = || fields.next().ok_or(Malformed::V1Fields);
    let (from, to, from_port, to_port) = (field()?, field()?, field()?, field()?);
    if fields.next().is_some() {
        return Err(Malformed::V1Fields);
    }
    Ok(Carried::Proxy(Addresses::new(
        SocketAddr::new(read_ip(from)?, read_port(from_port)?),
        SocketAddr::new(read_ip(to)?, read_port(to_port)?),
    )))
}

fn read_v4(text: &str) -> Result<IpAddr, Malformed> {
    text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Malformed::V1Address)
}

/// `::ffff:192.0.2.1` is read, too: HAProxy writes IPv4 clients of an IPv6 door so.
fn read_v6(text: &str) -> Result<IpAddr, Malformed> {
    text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Malformed::V1Address)
}

fn read_port(text: &str) -> Result<u16, Malformed> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(Malformed::V1Port)
}

/// How every line begins.
pub(super) const START: &[u8] = b"PROXY ";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";
/// `PROXY UNKNOWN` and CRLF.
const SHORTEST_BYTES: usize = 15;
