//! Our reader and writer beside those of the crates `ppp` and `proxy-header`, over the same mutated headers.
//!
//! Neither of them caps lengths, checks checksums, or refuses TLVs that do not fit, and each forgives a little in lines of
//! v1: so what we read they must read likewise, and what they read and we refuse must be refused for such a reason.

use super::fuzz::{Chance, mutate, seeds};
use super::*;

type Read = Result<(Option<(SocketAddr, SocketAddr)>, usize), ()>;

fn by_ppp(bytes: &[u8]) -> Read {
    match ppp::HeaderResult::parse(bytes) {
        ppp::HeaderResult::V1(Ok(header)) => {
            let ends = match header.addresses {
                ppp::v1::Addresses::Unknown => None,
                ppp::v1::Addresses::Tcp4(a) => Some((
                    (a.source_address, a.source_port).into(),
                    (a.destination_address, a.destination_port).into(),
                )),
                ppp::v1::Addresses::Tcp6(a) => Some((
                    (a.source_address, a.source_port).into(),
                    (a.destination_address, a.destination_port).into(),
                )),
            };
            Ok((ends, header.header.len()))
        }
        ppp::HeaderResult::V2(Ok(header)) => {
            let is_proxy = header.command == ppp::v2::Command::Proxy
                && header.protocol != ppp::v2::Protocol::Unspecified;
            let ends = match header.addresses {
                ppp::v2::Addresses::IPv4(a) => Some((
                    (a.source_address, a.source_port).into(),
                    (a.destination_address, a.destination_port).into(),
                )),
                ppp::v2::Addresses::IPv6(a) => Some((
                    (a.source_address, a.source_port).into(),
                    (a.destination_address, a.destination_port).into(),
                )),
                _ => None,
            };
            Ok((ends.filter(|_| is_proxy), header.len()))
        }
        _ => Err(()),
    }
}

fn by_proxy_header(bytes: &[u8]) -> Read {
    // It looks for six bytes behind the word PROXY without asking whether they are there.
    let (header, length) =
        proxy_header::ProxyHeader::parse(bytes, proxy_header::ParseConfig::default()).map_err(|_| ())?;
    Ok((header.proxied_address().map(|both| (both.source, both.destination)), length))
}

fn compare(bytes: &[u8], reads: fn(&[u8]) -> Read) -> bool {
    let theirs = reads(bytes).map(|(ends, length)| (ends.map(|(from, to)| Addresses::new(from, to)), length));
    match decode(bytes) {
        Decoded::Header(header) => match header.carried {
            Carried::Proxy(both) => assert_eq!(theirs, Ok((Some(both), header.length)), "{bytes:?}"),
            // What stands in a LOCAL header, or behind UNKNOWN, is not for us to judge.
            Carried::Local | Carried::Unknown => {
                assert!(theirs.is_err() || theirs == Ok((None, header.length)), "{theirs:?} {bytes:?}");
            }
        },
        Decoded::Incomplete { .. } => assert_eq!(theirs, Err(()), "{bytes:?}"),
        Decoded::Malformed(malformed) => {
            let is_stricter = matches!(
                malformed,
                Malformed::V2Checksum
                    | Malformed::V2Tlv
                    | Malformed::V2TooLong(_)
                    | Malformed::V1Port
                    | Malformed::V1Protocol
                    | Malformed::V1TooLong
                    | Malformed::V1LineFeed
                    | Malformed::V1Fields
                    | Malformed::NoHeader
            );
            assert!(theirs.is_err() || is_stricter, "{malformed:?} {theirs:?} {bytes:?}");
        }
    }
    theirs.is_ok()
}

#[test]
fn others_read_what_we_read() {
    let mut chance = Chance::new(7);
    let seeds = seeds();
    let (mut ppp, mut proxy_header) = (0, 0);
    for _ in 0..50_000 {
        let mut bytes = seeds[chance.below(seeds.len())].clone();
        for _ in 0..chance.below(3) {
            mutate(&mut bytes, &seeds, &mut chance);
        }
        ppp += u32::from(compare(&bytes, by_ppp));
        proxy_header += u32::from(compare(&bytes, by_proxy_header));
    }
    assert!(ppp > 10_000 && proxy_header > 10_000, "{ppp} {proxy_header}");
}

proptest! {
    #[test]
    fn what_others_write_we_read(source: SocketAddr, destination: SocketAddr, tlv in proptest::collection::vec(any::<u8>(), 0..60)) {
        let both = Addresses::new(without_scope(source), without_scope(destination));
        let (source, destination) = (both.source, both.destination);
        prop_assume!(source.is_ipv4() == destination.is_ipv4());
        let header = proxy_header::ProxyHeader::with_tlvs(
            Some(proxy_header::ProxiedAddress::stream(source, destination)),
            [proxy_header::Tlv::UniqueId(tlv[..].into())],
        );
        let mut written = Vec::new();
        header.encode_v2(&mut written).unwrap();
        prop_assert_eq!(carried(&written), Ok((Carried::Proxy(both), written.len())));
        // And they read what we make of it.
        let Decoded::Header(read) = decode(&written) else { panic!() };
        let again = encode_v2(Some(&both), Transport::Stream, read.tlvs);
        let (theirs, _) = proxy_header::ProxyHeader::parse(&again, proxy_header::ParseConfig::default()).unwrap();
        let ids: Vec<_> = theirs.tlvs().filter_map(|tlv| match tlv.unwrap() {
            proxy_header::Tlv::UniqueId(id) => Some(id.into_owned()),
            _ => None,
        }).collect();
        prop_assert_eq!(ids, [tlv]);

        let written = ppp::v2::Builder::with_addresses(
            ppp::v2::Version::Two | ppp::v2::Command::Proxy, ppp::v2::Protocol::Datagram, (source, destination),
        ).build().unwrap();
        prop_assert_eq!(carried(&written), Ok((Carried::Proxy(both), written.len())));
    }
}
