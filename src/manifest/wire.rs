//! Values as bytes and back: little-endian numbers, lengths in front, records that may grow.
//!
//! A record is its length and its fields in a fixed order, which grows only at its end. Whoever reads takes the fields it
//! knows; bytes behind them are skipped, and fields that are not there are what [`travels`] says of them. Numbers, texts,
//! addresses, pairs and lists have no length of their own and stay as they are for ever.
//!
//! What must stay true: reading never panics, never allocates more than a few times what there is to read, and a value
//! that was written comes back equal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::word::{Word, Words};

/// What is read is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Bytes that are read from the front.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// By their numbers in these bytes.
    words: &'a [Word],
}

impl<'a> Reader<'a> {
    /// Over all of these, in which no words are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, words: &[] }
    }

    /// Over all of these, with the words that their numbers stand for.
    pub(super) fn with_words(bytes: &'a [u8], words: &'a [Word]) -> Self {
        Self { bytes, words }
    }

    /// Everything was read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next so many.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Broken)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The fields of the next record.
    pub(super) fn record(&mut self) -> Result<Self, Broken> {
        let length = usize::try_from(u32::take(self)?).map_err(|_| Broken)?;
        Ok(Self { bytes: self.bytes(length)?, words: self.words })
    }

    /// Which of several kinds comes next, and its fields.
    pub(super) fn variant(&mut self) -> Result<(u8, Self), Broken> {
        Ok((u8::take(self)?, self.record()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        self.bytes(N)?.try_into().map_err(|_| Broken)
    }

    /// How many values follow. Each takes at least a byte, so there cannot be more than bytes.
    fn count(&mut self) -> Result<usize, Broken> {
        let count = usize::try_from(u32::take(self)?).map_err(|_| Broken)?;
        (count <= self.bytes.len()).then_some(count).ok_or(Broken)
    }
}

/// Bytes under way, and the words that were numbered in them.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    words: Words,
    /// What a later build might add to the end of every record.
    #[cfg(test)]
    pub(super) more: Vec<u8>,
}

impl Writer {
    /// With room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Appends a record: its length, and what `fields` appends.
    pub(super) fn record(&mut self, fields: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        fields(self);
        #[cfg(test)]
        self.bytes.extend_from_slice(&self.more);
        let length = self.bytes.len() - at - LENGTH_BYTES;
        // A manifest of 2^32 bytes is not read anyhow.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes[at..at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    }

    /// Appends one of several kinds, and its fields.
    pub(super) fn variant(&mut self, kind: u8, fields: impl FnOnce(&mut Self)) {
        self.bytes.push(kind);
        self.record(fields);
    }

    /// The words so far, by their numbers.
    pub(super) fn words(&self) -> Vec<String> {
        self.words.texts()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A value that travels.
pub trait Wire: Sized {
    /// Appends it.
    fn put(&self, out: &mut Writer);
    /// Takes it off the front.
    fn take(from: &mut Reader<'_>) -> Result<Self, Broken>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            fn put(&self, out: &mut Writer) {
                out.bytes.extend_from_slice(&self.to_le_bytes());
            }
            fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32);

impl Wire for bool {
    fn put(&self, out: &mut Writer) {
        out.bytes.push(u8::from(*self));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Broken),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Writer) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        if bool::take(from)? { T::take(from).map(Some) } else { Ok(None) }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Writer) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Writer) {
        put_count(self.len(), out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let count = from.count()?;
        // No more room than there are bytes: it grows as values are really there.
        let room = from.bytes.len() / size_of::<T>().max(1) + 1;
        let mut values = Self::with_capacity(count.min(room));
        for _ in 0..count {
            values.push(T::take(from)?);
        }
        Ok(values)
    }
}

impl Wire for String {
    fn put(&self, out: &mut Writer) {
        put_count(self.len(), out);
        out.bytes.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let count = from.count()?;
        let bytes = from.bytes(count)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Broken)
    }
}

/// Bytes as they are: quicker than a list of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Wire for Bytes {
    fn put(&self, out: &mut Writer) {
        put_count(self.0.len(), out);
        out.bytes.extend_from_slice(&self.0);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let count = from.count()?;
        Ok(Self(from.bytes(count)?.to_vec()))
    }
}

/// As its number among the words of the manifest.
impl Wire for Word {
    fn put(&self, out: &mut Writer) {
        out.words.number(self).put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let number = usize::try_from(u32::take(from)?).map_err(|_| Broken)?;
        from.words.get(number).cloned().ok_or(Broken)
    }
}

impl Wire for IpAddr {
    fn put(&self, out: &mut Writer) {
        match self {
            Self::V4(ip) => {
                out.bytes.push(4);
                out.bytes.extend_from_slice(&ip.octets());
            }
            Self::V6(ip) => {
                out.bytes.push(6);
                out.bytes.extend_from_slice(&ip.octets());
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        match u8::take(from)? {
            4 => Ok(Ipv4Addr::from(from.array::<4>()?).into()),
            6 => Ok(Ipv6Addr::from(from.array::<16>()?).into()),
            _ => Err(Broken),
        }
    }
}

impl Wire for SocketAddr {
    fn put(&self, out: &mut Writer) {
        self.ip().put(out);
        self.port().put(out);
        if let Self::V6(v6) = self {
            v6.flowinfo().put(out);
            v6.scope_id().put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let (ip, port) = <(IpAddr, u16)>::take(from)?;
        Ok(match ip {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
            IpAddr::V6(ip) => {
                let (flow, scope) = <(u32, u32)>::take(from)?;
                SocketAddrV6::new(ip, port, flow, scope).into()
            }
        })
    }
}

/// Lists are far below 2^32; one that is not could not be read back, and is refused there.
fn put_count(count: usize, out: &mut Writer) {
    u32::try_from(count).unwrap_or(u32::MAX).put(out);
}

/// A record. A field that was added to it later says what it is where it is not there: `pub field: Kind = value`.
macro_rules! travels {
    ($(#[$about:meta])* $see:vis struct $name:ident {
        $($(#[doc = $what:literal])* $(#[cfg($when:meta)])? pub $field:ident: $kind:ty $(= $missing:expr)?,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        $see struct $name { $($(#[doc = $what])* $(#[cfg($when)])? pub $field: $kind,)* }

        impl $crate::manifest::Wire for $name {
            fn put(&self, out: &mut $crate::manifest::Writer) {
                out.record(|out| {
                    $($(#[cfg($when)])? self.$field.put(out);)*
                });
            }
            fn take(
                from: &mut $crate::manifest::Reader<'_>,
            ) -> Result<Self, $crate::manifest::Broken> {
                let fields = &mut from.record()?;
                Ok(Self {
                    $($(#[cfg($when)])? $field: $crate::manifest::wire::field!(fields $(, $missing)?),)*
                })
            }
        }

        #[cfg(test)]
        impl $crate::manifest::made::Made for $name {
            fn made(by: &mut $crate::manifest::made::Chance) -> Self {
                Self { $($(#[cfg($when)])? $field: $crate::manifest::made::Made::made(by),)* }
            }
        }
    };
}
pub(super) use travels;

/// The next field of a record; where there is none, the value that stands for it.
macro_rules! field {
    ($from:ident) => {
        $crate::manifest::Wire::take($from)?
    };
    ($from:ident, $missing:expr) => {
        if $from.is_empty() { $missing } else { $crate::manifest::Wire::take($from)? }
    };
}
pub(super) use field;

const LENGTH_BYTES: usize = 4;

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
