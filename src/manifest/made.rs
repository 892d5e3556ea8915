//! Values by chance, for tests: every record, with every field.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::{Bytes, Carried, Count, Held, Manifest, Phase, Word};

/// Numbers out of one.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.bits() % most
    }
}

/// A value by chance.
pub(super) trait Made {
    fn made(by: &mut Chance) -> Self;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Made for $number {
            #[allow(clippy::cast_possible_truncation)]
            fn made(by: &mut Chance) -> Self {
                by.bits() as $number
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32);

impl Made for bool {
    fn made(by: &mut Chance) -> Self {
        by.below(2) == 1
    }
}

impl Made for String {
    fn made(by: &mut Chance) -> Self {
        let length = by.below(12);
        (0..length).map(|_| char::from_u32(u32::made(by) % 0x300).unwrap_or('x')).collect()
    }
}

impl Made for Word {
    fn made(by: &mut Chance) -> Self {
        match by.below(4) {
            0 => "keep".into(),
            1 => "client_closed".into(),
            2 => "".into(),
            _ => String::made(by).into(),
        }
    }
}

impl Made for Bytes {
    fn made(by: &mut Chance) -> Self {
        let length = by.below(100);
        Self((0..length).map(|_| u8::made(by)).collect())
    }
}

impl<T: Made> Made for Option<T> {
    fn made(by: &mut Chance) -> Self {
        bool::made(by).then(|| T::made(by))
    }
}

impl<T: Made> Made for Vec<T> {
    fn made(by: &mut Chance) -> Self {
        let length = by.below(4);
        (0..length).map(|_| T::made(by)).collect()
    }
}

impl<A: Made, B: Made> Made for (A, B) {
    fn made(by: &mut Chance) -> Self {
        (A::made(by), B::made(by))
    }
}

impl Made for IpAddr {
    fn made(by: &mut Chance) -> Self {
        if bool::made(by) {
            u32::made(by).to_be_bytes().into()
        } else {
            let half = |by: &mut Chance| u64::made(by).to_be_bytes();
            let mut octets = [0; 16];
            octets[..8].copy_from_slice(&half(by));
            octets[8..].copy_from_slice(&half(by));
            octets.into()
        }
    }
}

impl Made for SocketAddr {
    fn made(by: &mut Chance) -> Self {
        match IpAddr::made(by) {
            IpAddr::V4(ip) => (ip, u16::made(by)).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, u16::made(by), u32::made(by), u32::made(by)).into(),
        }
    }
}

impl Made for Count {
    fn made(by: &mut Chance) -> Self {
        Self { family: Word::made(by), word: Word::made(by), value: u64::made(by) }
    }
}

/// The number of a kind that there is not.
fn foreign(by: &mut Chance) -> u8 {
    u8::made(by) | 0x80
}

impl Made for Phase {
    fn made(by: &mut Chance) -> Self {
        match by.below(7) {
            0 => Self::AwaitingHeader(u64::made(by)),
            1 => Self::Dialling(u64::made(by), u64::made(by)),
            2 => Self::Queued(u64::made(by), u64::made(by)),
            3 => Self::Pausing(u64::made(by)),
            4 => Self::Relaying,
            5 => Self::Lingering(Word::made(by), u64::made(by)),
            _ => Self::Foreign(foreign(by)),
        }
    }
}

impl Made for Held {
    fn made(by: &mut Chance) -> Self {
        match by.below(4) {
            0 => Self::Nothing,
            1 => Self::Bytes(Bytes::made(by)),
            2 => Self::Piped {
                read_end: i32::made(by),
                write_end: i32::made(by),
                held_bytes: u64::made(by),
                size_bytes: u64::made(by),
            },
            _ => Self::Foreign(foreign(by)),
        }
    }
}

impl Made for Carried {
    fn made(by: &mut Chance) -> Self {
        match by.below(4) {
            0 => Self::Proxy(SocketAddr::made(by), SocketAddr::made(by)),
            1 => Self::Local,
            2 => Self::Unknown,
            _ => Self::Foreign(foreign(by)),
        }
    }
}

impl Made for Manifest {
    fn made(by: &mut Chance) -> Self {
        Self {
            head: Made::made(by),
            doors: Made::made(by),
            listeners: Made::made(by),
            pools: Made::made(by),
            terms: Made::made(by),
            flow_terms: Made::made(by),
            sessions: Made::made(by),
            flows: Made::made(by),
            #[cfg(feature = "manifest-next")]
            next: Made::made(by),
        }
    }
}
