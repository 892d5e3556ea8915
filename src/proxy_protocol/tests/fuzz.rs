//! Headers with bytes changed, cut, doubled and put together wrongly: whatever comes, the answer keeps its promises.
//!
//! `EVENKEEL_FUZZ_ROUNDS` asks for longer runs, `EVENKEEL_FUZZ_SEED` for another one.

use super::*;
use crate::random::Random;

/// What must be true of every answer to any bytes.
pub(super) fn check_answer(bytes: &[u8]) {
    match decode(bytes) {
        Decoded::Incomplete { missing } => {
            assert!(missing >= 1 && bytes.len() + missing <= HEADER_BYTES_MAX, "{missing} {bytes:?}");
            assert!(bytes.len() < HEADER_BYTES_MAX);
        }
        Decoded::Header(header) => {
            assert!(header.length <= bytes.len().min(HEADER_BYTES_MAX), "{bytes:?}");
            let is_v1 = bytes.starts_with(b"PROXY ");
            assert!(!is_v1 || header.length <= V1_BYTES_MAX);
            // It is the same header whatever stands behind it, and needs all its bytes.
            assert_eq!(decode(&bytes[..header.length]), Decoded::Header(header));
            let shorter = decode(&bytes[..header.length - 1]);
            assert!(matches!(shorter, Decoded::Incomplete { missing: 1.. }), "{shorter:?} {bytes:?}");
            // What is passed on is a header again, and says the same.
            let both = match header.carried {
                Carried::Proxy(both) => Some(both),
                Carried::Local | Carried::Unknown => None,
            };
            let again = encode_v2(both.as_ref(), Transport::Stream, header.tlvs);
            assert!(again.len() <= HEADER_BYTES_MAX);
            match (decode(&again), both) {
                (Decoded::Header(read), Some(both)) => assert_eq!(read.carried, Carried::Proxy(both)),
                (Decoded::Header(read), None) => assert_eq!(read.carried, Carried::Local),
                (other, _) => panic!("{other:?} {bytes:?}"),
            }
        }
        Decoded::Malformed(malformed) => {
            assert!(!malformed.to_string().is_empty());
            // No more bytes make it right.
            let longer = [bytes, b"\r\n"].concat();
            assert!(matches!(decode(&longer), Decoded::Malformed(_)), "{malformed:?} {bytes:?}");
        }
    }
    assert!(bytes.starts_with(&v2::SIGNATURE) || decode_datagram(bytes) == Ok(None));
}

#[test]
fn mutated_headers_are_answered() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("EVENKEEL_FUZZ_ROUNDS").unwrap_or(100_000);
    let mut chance = Chance::new(number("EVENKEEL_FUZZ_SEED").unwrap_or(1));
    let seeds = seeds();
    let (mut headers, mut refused) = (0_u64, 0_u64);
    for _ in 0..rounds {
        let mut bytes = seeds[chance.below(seeds.len())].clone();
        for _ in 0..chance.below(4) {
            mutate(&mut bytes, &seeds, &mut chance);
        }
        check_answer(&bytes);
        match decode(&bytes) {
            Decoded::Header(_) => headers += 1,
            Decoded::Malformed(_) => refused += 1,
            Decoded::Incomplete { .. } => {}
        }
    }
    // Mutations that broke everything, or nothing, would show nothing.
    assert!(
        headers > rounds / 10 && refused > rounds / 10,
        "{headers} headers, {refused} refused of {rounds}"
    );
}

/// Well-formed headers of every kind.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let pairs = [
        addresses("192.0.2.1:50000", "198.51.100.1:443"),
        addresses("[2001:db8::1]:1", "[2001:db8::2]:65535"),
        addresses("192.0.2.1:0", "[2001:db8::2]:2"),
    ];
    let tlvs: [&[u8]; 3] =
        [&[], &[0x01, 0, 2, b'h', b'2'], &[0x04, 0, 0, 0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 0]];
    let mut seeds = vec![encode_v1(None), encode_v2(None, Transport::Stream, &[])];
    seeds.push(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec());
    seeds.push(v2(0x21, 0x31, 219, &[[0x2f; 216].to_vec(), vec![4, 0, 0]].concat()));
    seeds.push(v2(0x21, 0x11, 12, &[1; 12]));
    seeds.push(v2(0x21, 0x00, 4, &[1; 4]));
    for both in &pairs {
        seeds.push(encode_v1(Some(both)));
        seeds.extend(tlvs.map(|tlvs| encode_v2(Some(both), Transport::Stream, tlvs)));
        seeds.push(encode_v2(Some(both), Transport::Datagram, &[]));
    }
    seeds
}

pub(super) fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(bytes.len() + 1);
    match chance.below(8) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, chance.byte()),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        4 if at < bytes.len() => bytes[at] = chance.byte(),
        5 => bytes.extend_from_slice(&seeds[chance.below(seeds.len())]),
        6 if bytes.len() >= 16 => {
            // A length that is a little or much off.
            let lengths = [0, 1, 11, 12, 13, 35, 36, 216, 4_080, 4_081, 65_535];
            bytes[14..16].copy_from_slice(&u16::to_be_bytes(lengths[chance.below(lengths.len())]));
        }
        _ => {
            let words: [&[u8]; 6] = [b"\r\n", b" ", b"\n", b"0", b"PROXY ", b"\x03\0\x04abcd"];
            let word = words[chance.below(words.len())];
            bytes.splice(at..at, word.iter().copied());
        }
    }
}

/// What happens to a header.
pub(super) struct Chance(Random);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub(super) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.0.bits() % most as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.0.bits().to_le_bytes()[0]
    }
}
