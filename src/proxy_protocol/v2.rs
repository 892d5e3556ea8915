//! Version 2: 16 fixed bytes, the addresses, and TLVs (type, length, value).
//!
//! LOCAL discards everything behind its 16 bytes, as the protocol has it. Address families without a port (AF_UNIX) and
//! unspecified ones count as unknown. Where a checksum stands it must be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c;
use super::header::{Addresses, Carried, Decoded, HEADER_BYTES_MAX, Header, Malformed, Transport};
use super::v1::as_v6;

/// Reads a header that begins like [`SIGNATURE`].
pub(super) fn decode(bytes: &[u8]) -> Decoded<'_> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else {
        // What has come is looked at as it comes, so that no sender of nonsense is waited for.
        if let Some(malformed) = bytes.get(12).and_then(|&byte| check_command(byte).err()) {
            return Decoded::Malformed(malformed);
        }
        return Decoded::Incomplete { missing: FIXED_BYTES - bytes.len() };
    };
    let claimed = u16::from_be_bytes([fixed[14], fixed[15]]);
    let shape = match check_fixed(fixed[12], fixed[13], claimed) {
        Ok(shape) => shape,
        Err(malformed) => return Decoded::Malformed(malformed),
    };
    let length = FIXED_BYTES + usize::from(claimed);
    let Some(whole) = bytes.get(..length) else {
        return Decoded::Incomplete { missing: length - bytes.len() };
    };
    match read_whole(whole, shape) {
        Ok((carried, tlvs)) => Decoded::Header(Header { carried, length, tlvs }),
        Err(malformed) => Decoded::Malformed(malformed),
    }
}

pub(super) fn encode(addresses: Option<&Addresses>, transport: Transport, tlvs: &[u8]) -> Vec<u8> {
    let transport = match transport {
        Transport::Stream => 1,
        Transport::Datagram => 2,
    };
    let (command, family, addresses_bytes) =
        match addresses.map(|both| (both.source.is_ipv4(), both.destination.is_ipv4())) {
            None => (LOCAL, 0, 0),
            Some((true, true)) => (PROXY, 0x10 | transport, V4_BYTES),
            Some(_) => (PROXY, 0x20 | transport, V6_BYTES),
        };
    let mut bytes = Vec::with_capacity(FIXED_BYTES + addresses_bytes + tlvs.len() + CHECKSUM_TLV_BYTES);
    bytes.extend_from_slice(&SIGNATURE);
    // The length follows when it is known.
    bytes.extend_from_slice(&[VERSION | command, family, 0, 0]);
    if let Some(both) = addresses {
        for ip in [both.source.ip(), both.destination.ip()] {
            match ip {
                IpAddr::V4(ip) if addresses_bytes == V4_BYTES => bytes.extend_from_slice(&ip.octets()),
                ip => bytes.extend_from_slice(&as_v6(ip).octets()),
            }
        }
        bytes.extend_from_slice(&both.source.port().to_be_bytes());
        bytes.extend_from_slice(&both.destination.port().to_be_bytes());
    }
    for (kind, tlv) in tlvs_of(tlvs).flatten() {
        // What the limit has no room for is left out; received headers keep it, so nothing of theirs is.
        if kind != CHECKSUM && bytes.len() + tlv.len() <= HEADER_BYTES_MAX {
            bytes.extend_from_slice(tlv);
        }
    }
    let has_checksum = bytes.len() + CHECKSUM_TLV_BYTES <= HEADER_BYTES_MAX;
    if has_checksum {
        bytes.extend_from_slice(&[CHECKSUM, 0, 4, 0, 0, 0, 0]);
    }
    // At most the limit, which two bytes hold.
    let length = u16::try_from(bytes.len() - FIXED_BYTES).unwrap_or(u16::MAX);
    bytes[14..FIXED_BYTES].copy_from_slice(&length.to_be_bytes());
    if has_checksum {
        let checksum = crc32c::finish(crc32c::update(crc32c::START, &bytes));
        let place = bytes.len() - 4;
        bytes[place..].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

/// What the fixed bytes say of those behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Local,
    V4,
    V6,
    Unix,
    Unspecified,
}

fn check_command(byte: u8) -> Result<u8, Malformed> {
    if byte & 0xf0 != VERSION {
        return Err(Malformed::V2Version(byte >> 4));
    }
    match byte & 0x0f {
        command @ (LOCAL | PROXY) => Ok(command),
        other => Err(Malformed::V2Command(other)),
    }
}

fn check_fixed(version_and_command: u8, family: u8, claimed: u16) -> Result<Shape, Malformed> {
    let command = check_command(version_and_command)?;
    if usize::from(claimed) > HEADER_BYTES_MAX - FIXED_BYTES {
        return Err(Malformed::V2TooLong(claimed));
    }
    if command == LOCAL {
        return Ok(Shape::Local);
    }
    let (shape, needed) = match family {
        0x11 | 0x12 => (Shape::V4, V4_BYTES),
        0x21 | 0x22 => (Shape::V6, V6_BYTES),
        0x31 | 0x32 => (Shape::Unix, UNIX_BYTES),
        // A family without a transport or the other way round is allowed, and says nothing.
        0x00..=0x02 | 0x10 | 0x20 | 0x30 => (Shape::Unspecified, 0),
        other => return Err(Malformed::V2Family(other)),
    };
    if usize::from(claimed) < needed {
        return Err(Malformed::V2TooShort { claimed, needed });
    }
    Ok(shape)
}

/// The addresses and TLVs of a header that is all there.
fn read_whole(whole: &[u8], shape: Shape) -> Result<(Carried, &[u8]), Malformed> {
    let behind = &whole[FIXED_BYTES..];
    match shape {
        Shape::Local => Ok((Carried::Local, &[])),
        Shape::V4 | Shape::V6 => {
            let read = if shape == Shape::V4 { read_v4_addresses(behind) } else { read_v6_addresses(behind) };
            // That they fit was checked with the fixed bytes.
            let (addresses, tlvs) = read.ok_or(Malformed::V2Cut)?;
            check_tlvs(whole, tlvs)?;
            Ok((Carried::Proxy(addresses), tlvs))
        }
        Shape::Unix => {
            let tlvs = behind.get(UNIX_BYTES..).unwrap_or_default();
            check_tlvs(whole, tlvs)?;
            Ok((Carried::Unknown, tlvs))
        }
        // What stands behind an unspecified family need not be TLVs.
        Shape::Unspecified => match check_tlvs(whole, behind) {
            Ok(()) => Ok((Carried::Unknown, behind)),
            Err(Malformed::V2Tlv) => Ok((Carried::Unknown, &[])),
            Err(malformed) => Err(malformed),
        },
    }
}

fn read_v4_addresses(behind: &[u8]) -> Option<(Addresses, &[u8])> {
    let (from, rest) = behind.split_first_chunk::<4>()?;
    let (to, rest) = rest.split_first_chunk::<4>()?;
    let (ports, tlvs) = rest.split_first_chunk::<4>()?;
    Some((ends(Ipv4Addr::from(*from).into(), Ipv4Addr::from(*to).into(), *ports), tlvs))
}

fn read_v6_addresses(behind: &[u8]) -> Option<(Addresses, &[u8])> {
    let (from, rest) = behind.split_first_chunk::<16>()?;
    let (to, rest) = rest.split_first_chunk::<16>()?;
    let (ports, tlvs) = rest.split_first_chunk::<4>()?;
    Some((ends(Ipv6Addr::from(*from).into(), Ipv6Addr::from(*to).into(), *ports), tlvs))
}

fn ends(from: IpAddr, to: IpAddr, ports: [u8; 4]) -> Addresses {
    let [a, b, c, d] = ports;
    Addresses::new(
        SocketAddr::new(from, u16::from_be_bytes([a, b])),
        SocketAddr::new(to, u16::from_be_bytes([c, d])),
    )
}

/// Every TLV ends within the header, and the checksum, where there is one, is right.
fn check_tlvs(whole: &[u8], tlvs: &[u8]) -> Result<(), Malformed> {
    let mut checksum_at = None;
    let mut at = whole.len() - tlvs.len();
    for tlv in tlvs_of(tlvs) {
        let (kind, tlv) = tlv?;
        if kind == CHECKSUM {
            // Of two, neither could be computed over the other.
            if tlv.len() != CHECKSUM_TLV_BYTES || checksum_at.is_some() {
                return Err(Malformed::V2Checksum);
            }
            checksum_at = Some(at + 3);
        }
        at += tlv.len();
    }
    let Some(at) = checksum_at else { return Ok(()) };
    // Computed with zeros where it stands itself.
    let crc = crc32c::update(crc32c::START, &whole[..at]);
    let crc = crc32c::update(crc32c::update(crc, &[0; 4]), &whole[at + 4..]);
    let is_right = whole[at..at + 4] == crc32c::finish(crc).to_be_bytes();
    if is_right { Ok(()) } else { Err(Malformed::V2Checksum) }
}

/// Type and all bytes of each TLV; after one that does not fit, nothing.
pub(super) fn tlvs_of(tlvs: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Malformed>> {
    let mut rest = tlvs;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length =
            rest.first_chunk::<3>().map(|[_, high, low]| 3 + usize::from(u16::from_be_bytes([*high, *low])));
        let Some((tlv, after)) = length.and_then(|length| rest.split_at_checked(length)) else {
            rest = &[];
            return Some(Err(Malformed::V2Tlv));
        };
        rest = after;
        Some(Ok((tlv[0], tlv)))
    })
}

/// How every header begins.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;
const V4_BYTES: usize = 12;
const V6_BYTES: usize = 36;
/// Two paths of 108 bytes.
const UNIX_BYTES: usize = 216;
const VERSION: u8 = 0x20;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
/// PP2_TYPE_CRC32C.
const CHECKSUM: u8 = 0x03;
const CHECKSUM_TLV_BYTES: usize = 7;
