//! The codec by table, by property, against two other implementations, and under mutated input.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

mod fuzz;
mod oracles;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A header of v2, written by hand.
fn v2(version_and_command: u8, family: u8, claimed: u16, behind: &[u8]) -> Vec<u8> {
    [&v2::SIGNATURE[..], &[version_and_command, family], &claimed.to_be_bytes(), behind].concat()
}

fn carried(bytes: &[u8]) -> Result<(Carried, usize), Malformed> {
    match decode(bytes) {
        Decoded::Header(header) => Ok((header.carried, header.length)),
        Decoded::Malformed(malformed) => Err(malformed),
        Decoded::Incomplete { missing } => panic!("{missing} missing of {bytes:?}"),
    }
}

#[test]
fn lines_of_v1_are_read_strictly() {
    let proxy = |source: &str, destination: &str| Ok(Carried::Proxy(addresses(source, destination)));
    let cases: &[(&str, Result<Carried, Malformed>)] = &[
        ("TCP4 192.0.2.1 198.51.100.1 50000 443", proxy("192.0.2.1:50000", "198.51.100.1:443")),
        (
            "TCP4 255.255.255.255 255.255.255.255 65535 65535",
            proxy("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        ("TCP4 0.0.0.0 0.0.0.0 0 0", proxy("0.0.0.0:0", "0.0.0.0:0")),
        ("TCP6 2001:db8::1 2001:DB8::2 1 2", proxy("[2001:db8::1]:1", "[2001:db8::2]:2")),
        ("TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2", proxy("192.0.2.1:1", "192.0.2.2:2")),
        ("UNKNOWN", Ok(Carried::Unknown)),
        ("UNKNOWN ", Ok(Carried::Unknown)),
        ("UNKNOWN \n what \r ever é \0", Ok(Carried::Unknown)),
        ("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535", Ok(Carried::Unknown)),
        ("UNKNOWNS", Err(Malformed::V1Protocol)),
        ("TCP5 192.0.2.1 198.51.100.1 50000 443", Err(Malformed::V1Protocol)),
        ("tcp4 192.0.2.1 198.51.100.1 50000 443", Err(Malformed::V1Protocol)),
        (" TCP4 192.0.2.1 198.51.100.1 50000 443", Err(Malformed::V1Protocol)),
        ("TCP4", Err(Malformed::V1Protocol)),
        ("", Err(Malformed::V1Protocol)),
        ("TCP4 192.0.2.1 198.51.100.1 50000", Err(Malformed::V1Fields)),
        ("TCP4 192.0.2.1 198.51.100.1 50000 443 ", Err(Malformed::V1Fields)),
        ("TCP4 192.0.2.1 198.51.100.1 50000 443 1", Err(Malformed::V1Fields)),
        ("TCP4  192.0.2.1 198.51.100.1 50000 443", Err(Malformed::V1Fields)),
        ("TCP4 192.0.2.1\t198.51.100.1 50000 443", Err(Malformed::V1Fields)),
        ("TCP4 192.0.2.1 198.51.100.256 1 2", Err(Malformed::V1Address)),
        ("TCP4 192.0.2.01 198.51.100.1 1 2", Err(Malformed::V1Address)),
        ("TCP4 192.0.2 198.51.100.1 1 2", Err(Malformed::V1Address)),
        ("TCP4 ::1 ::1 1 2", Err(Malformed::V1Address)),
        ("TCP6 192.0.2.1 192.0.2.2 1 2", Err(Malformed::V1Address)),
        ("TCP6 fe80::1%eth0 ::1 1 2", Err(Malformed::V1Address)),
        ("TCP6 [::1] ::1 1 2", Err(Malformed::V1Address)),
        ("TCP4 192.0.2.1 198.51.100.1 050 443", Err(Malformed::V1Port)),
        ("TCP4 192.0.2.1 198.51.100.1 50 00", Err(Malformed::V1Port)),
        ("TCP4 192.0.2.1 198.51.100.1 +50 443", Err(Malformed::V1Port)),
        ("TCP4 192.0.2.1 198.51.100.1 50 65536", Err(Malformed::V1Port)),
        ("TCP4 192.0.2.1 198.51.100.1 50 ", Err(Malformed::V1Port)),
    ];
    for (line, expected) in cases {
        let whole = format!("PROXY {line}\r\n");
        let with_more = format!("{whole}PROXY \r\nmore");
        for bytes in [&whole, &with_more] {
            assert_eq!(carried(bytes.as_bytes()).map(|(carried, _)| carried), *expected, "{line}");
        }
        if expected.is_ok() {
            assert_eq!(carried(with_more.as_bytes()).unwrap().1, whole.len(), "{line}");
        }
    }
}

#[test]
fn what_begins_like_neither_version_is_refused_at_its_first_other_byte() {
    let refused = [
        &b"GET / HTTP/1.1\r\n"[..],
        b"P\0",
        b"PROXY\t",
        b"proxy TCP4",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\0",
        b"PING\r\n",
    ];
    for bytes in refused {
        assert_eq!(decode(bytes), Decoded::Malformed(Malformed::NoHeader), "{bytes:?}");
    }
    assert_eq!(decode(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), Decoded::Malformed(Malformed::V1LineFeed));
    let begun = v2(0x11, 0x11, 12, &[]);
    assert_eq!(decode(&begun[..13]), Decoded::Malformed(Malformed::V2Version(1)));
}

#[test]
fn a_line_of_v1_ends_within_107_bytes_or_not_at_all() {
    let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
    assert_eq!(carried(line(107).as_bytes()), Ok((Carried::Unknown, 107)));
    assert_eq!(carried(line(108).as_bytes()), Err(Malformed::V1TooLong));
    assert_eq!(carried(&[b"PROXY TCP4 "[..].to_vec(), vec![b'1'; 96]].concat()), Err(Malformed::V1TooLong));
    assert_eq!(decode(&line(107).as_bytes()[..106]), Decoded::Incomplete { missing: 1 });
    assert_eq!(decode(&line(107).as_bytes()[..105]), Decoded::Incomplete { missing: 2 });
    assert_eq!(decode(b""), Decoded::Incomplete { missing: 15 });
    assert_eq!(decode(b"PROXY"), Decoded::Incomplete { missing: 10 });
}

#[test]
fn headers_of_v2_are_read_strictly() {
    /// Version and command, family, what follows.
    type Case<'a> = (u8, u8, &'a [u8], Result<Carried, Malformed>);
    let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xc3, 0x50, 1, 0xbb];
    let v6 = [[0x20; 32].to_vec(), vec![0, 1, 0, 2]].concat();
    let proxy = Carried::Proxy(addresses("192.0.2.1:50000", "198.51.100.1:443"));
    let long = "[2020:2020:2020:2020:2020:2020:2020:2020]";
    let proxy6 = Carried::Proxy(addresses(&format!("{long}:1"), &format!("{long}:2")));
    let with = |tail: &[u8]| [&v4[..], tail].concat();
    let len = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap();
    let unknown = Ok(Carried::Unknown);
    let cases: &[Case<'_>] = &[
        (0x21, 0x11, &v4, Ok(proxy)),
        (0x21, 0x12, &v4, Ok(proxy)),
        (0x21, 0x21, &v6, Ok(proxy6)),
        (0x21, 0x22, &v6, Ok(proxy6)),
        (0x21, 0x11, &with(&[0xee, 0, 2, 1, 2]), Ok(proxy)),
        (0x21, 0x11, &with(&[0xee, 0, 0]), Ok(proxy)),
        (0x21, 0x11, &with(&[0xee, 0, 3, 1, 2]), Err(Malformed::V2Tlv)),
        (0x21, 0x11, &with(&[0xee, 0]), Err(Malformed::V2Tlv)),
        (0x21, 0x11, &with(&[0x03, 0, 3, 1, 2, 3]), Err(Malformed::V2Checksum)),
        (0x21, 0x11, &with(&[0x03, 0, 4, 1, 2, 3, 4]), Err(Malformed::V2Checksum)),
        (0x21, 0x11, &v4[..11], Err(Malformed::V2TooShort { claimed: 11, needed: 12 })),
        (0x21, 0x21, &v6[..35], Err(Malformed::V2TooShort { claimed: 35, needed: 36 })),
        (0x21, 0x31, &[0; 215], Err(Malformed::V2TooShort { claimed: 215, needed: 216 })),
        (0x21, 0x31, &[0; 216], unknown),
        (0x21, 0x00, &[], unknown),
        (0x21, 0x00, b"whatever", unknown),
        (0x21, 0x10, &[], unknown),
        (0x21, 0x02, &[], unknown),
        (0x21, 0x13, &v4, Err(Malformed::V2Family(0x13))),
        (0x21, 0x41, &v4, Err(Malformed::V2Family(0x41))),
        (0x20, 0x00, &[], Ok(Carried::Local)),
        (0x20, 0x11, &v4, Ok(Carried::Local)),
        (0x20, 0xff, b"whatever", Ok(Carried::Local)),
        (0x22, 0x11, &v4, Err(Malformed::V2Command(2))),
        (0x11, 0x11, &v4, Err(Malformed::V2Version(1))),
        (0x31, 0x11, &v4, Err(Malformed::V2Version(3))),
    ];
    for (command, family, behind, expected) in cases {
        let whole = v2(*command, *family, len(behind), behind);
        let with_more = [&whole[..], b"more"].concat();
        for bytes in [&whole, &with_more] {
            let read = carried(bytes);
            assert_eq!(read.map(|(carried, _)| carried), *expected, "{command:#x} {family:#x} {behind:?}");
            assert!(read.is_err() || read.unwrap().1 == whole.len());
        }
    }
}

#[test]
fn a_claim_beyond_4_kib_is_refused_before_its_bytes_come() {
    for (claimed, expected) in [(4_080, None), (4_081, Some(4_081)), (u16::MAX, Some(u16::MAX))] {
        for command in [0x20, 0x21] {
            let expected = match expected {
                Some(claimed) => Decoded::Malformed(Malformed::V2TooLong(claimed)),
                None => Decoded::Incomplete { missing: 4_080 },
            };
            assert_eq!(decode(&v2(command, 0x11, claimed, &[])), expected);
        }
    }
    let most = v2(0x20, 0, 4_080, &[7; 4_080]);
    assert_eq!(carried(&most), Ok((Carried::Local, HEADER_BYTES_MAX)));
}

#[test]
fn a_checksum_is_that_of_the_whole_header_and_any_other_bit_is_told() {
    let both = addresses("192.0.2.1:50000", "198.51.100.1:443");
    let written = encode_v2(Some(&both), Transport::Stream, &[0xe0, 0, 1, 9]);
    assert_eq!(written.len(), 16 + 12 + 4 + 7);
    // Written by another implementation for these bytes.
    assert_eq!(written[32..36], [3, 0, 4, written[35]]);
    assert!(matches!(decode(&written), Decoded::Header(_)));
    // Each bit behind the fixed bytes; those of the TLV heads change what is read.
    for bit in 16 * 8..written.len() * 8 {
        let mut broken = written.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let in_checksum_type = (32..35).contains(&(bit / 8));
        let told = matches!(decode(&broken), Decoded::Malformed(Malformed::V2Checksum | Malformed::V2Tlv));
        assert!(told || in_checksum_type, "bit {bit}");
    }
    let twice = [&written[16..], &written[32..]].concat();
    let twice = v2(0x21, 0x11, u16::try_from(twice.len()).unwrap(), &twice);
    assert_eq!(carried(&twice), Err(Malformed::V2Checksum));
}

#[test]
fn tlvs_go_on_without_the_old_checksum() {
    let both = addresses("[2001:db8::1]:1", "[2001:db8::2]:2");
    let tlvs = [0x01, 0, 2, b'h', b'2', 0x03, 0, 4, 1, 2, 3, 4, 0x05, 0, 1, 7];
    let written = encode_v2(Some(&both), Transport::Datagram, &tlvs);
    let Decoded::Header(header) = decode(&written) else { panic!("{written:?}") };
    assert_eq!(header.carried, Carried::Proxy(both));
    assert_eq!(header.tlvs[..9], [0x01, 0, 2, b'h', b'2', 0x05, 0, 1, 7]);
    assert_eq!(header.tlvs[9..12], [0x03, 0, 4]);
    assert_eq!(header.tlvs.len(), 16);
    let local = encode_v2(None, Transport::Stream, &[]);
    assert_eq!((carried(&local), local.len()), (Ok((Carried::Local, 23)), 23));
}

#[test]
fn a_header_of_the_greatest_length_goes_on_whole_and_without_a_checksum() {
    let both = addresses("192.0.2.1:1", "192.0.2.2:2");
    let tlvs = [&[0xe0, (4_065_u16 >> 8) as u8, (4_065 & 0xff) as u8][..], &[5; 4_065]].concat();
    let written = encode_v2(Some(&both), Transport::Stream, &tlvs);
    assert_eq!(written.len(), HEADER_BYTES_MAX);
    let Decoded::Header(header) = decode(&written) else { panic!() };
    assert_eq!(header.tlvs, tlvs);
}

#[test]
fn the_ends_of_mixed_families_share_the_larger_one() {
    let both = addresses("192.0.2.1:1", "[2001:db8::2]:2");
    assert_eq!(encode_v1(Some(&both)), b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
    for written in [encode_v1(Some(&both)), encode_v2(Some(&both), Transport::Stream, &[])] {
        assert_eq!(carried(&written), Ok((Carried::Proxy(both), written.len())));
    }
}

#[test]
fn a_datagram_begins_with_a_whole_header_or_with_none() {
    let both = addresses("192.0.2.1:1", "192.0.2.2:2");
    let written = encode_v2(Some(&both), Transport::Datagram, &[]);
    let header = decode_datagram(&written).unwrap().unwrap();
    assert_eq!((header.carried, header.length), (Carried::Proxy(both), written.len()));
    assert_eq!(decode_datagram(b"PROXY UNKNOWN\r\n"), Ok(None));
    assert_eq!(decode_datagram(b""), Ok(None));
    assert_eq!(decode_datagram(&written[..11]), Ok(None), "not even the signature");
    for length in 12..written.len() {
        assert_eq!(decode_datagram(&written[..length]), Err(Malformed::V2Cut));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        source: SocketAddr, destination: SocketAddr, datagram: bool,
        tlvs in proptest::collection::vec((0_u8..=255, proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
        behind in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let both = Addresses::new(without_scope(source), without_scope(destination));
        let tlvs: Vec<u8> = tlvs.iter().filter(|(kind, _)| *kind != 3).flat_map(|(kind, value)| {
            let length = u16::try_from(value.len()).unwrap().to_be_bytes();
            [&[*kind][..], &length, value].concat()
        }).collect();
        let transport = if datagram { Transport::Datagram } else { Transport::Stream };
        for written in [encode_v1(Some(&both)), encode_v2(Some(&both), transport, &tlvs)] {
            let is_v1 = written.starts_with(b"PROXY");
            let most = if is_v1 { V1_BYTES_MAX } else { HEADER_BYTES_MAX };
            prop_assert!(written.len() <= most);
            let bytes = [&written[..], &behind].concat();
            let Decoded::Header(header) = decode(&bytes) else { panic!("{bytes:?}") };
            prop_assert_eq!(header.carried, Carried::Proxy(both));
            prop_assert_eq!(header.length, written.len());
            let passed_on = if is_v1 { &[][..] } else { &tlvs };
            prop_assert_eq!(&header.tlvs[..passed_on.len()], passed_on);
            // Of each beginning it is told that something is missing, and never too much.
            for length in 0..written.len() {
                match decode(&written[..length]) {
                    Decoded::Incomplete { missing } => prop_assert!(missing >= 1 && missing <= written.len() - length),
                    other => prop_assert!(false, "{other:?} of {length} bytes"),
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300), signed: bool) {
        let bytes = if signed { [&v2::SIGNATURE[..], &bytes].concat() } else { bytes };
        fuzz::check_answer(&bytes);
    }
}

fn without_scope(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}
