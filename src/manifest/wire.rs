//! Values as bytes and back: little-endian numbers, lengths in front, nothing else.
//!
//! What must stay true: reading never panics, never allocates more than a few times what there is to read, and a value
//! that was written comes back equal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What is read is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Bytes that are read from the front.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Over all of these.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next so many.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        self.bytes(N)?.try_into().map_err(|_| Broken)
    }

    /// How many values follow. Each takes at least a byte, so there cannot be more than bytes.
    fn count(&mut self) -> Result<usize, Broken> {
        let count = usize::try_from(u32::take(self)?).map_err(|_| Broken)?;
        (count <= self.0.len()).then_some(count).ok_or(Broken)
    }
}

/// A value that travels.
pub trait Wire: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes it off the front.
    fn take(from: &mut Reader<'_>) -> Result<Self, Broken>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
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
    fn put(&self, out: &mut Vec<u8>) {
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
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let count = from.count()?;
        // Grows as values are really there.
        let mut values = Self::with_capacity(count.min(CAPACITY_MAX));
        for _ in 0..count {
            values.push(T::take(from)?);
        }
        Ok(values)
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        out.extend_from_slice(self.as_bytes());
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
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let count = from.count()?;
        Ok(Self(from.bytes(count)?.to_vec()))
    }
}

impl Wire for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            Self::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
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
    fn put(&self, out: &mut Vec<u8>) {
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
fn put_count(count: usize, out: &mut Vec<u8>) {
    u32::try_from(count).unwrap_or(u32::MAX).put(out);
}

/// A structure whose fields travel in their order.
macro_rules! travels {
    ($(#[$about:meta])* $see:vis struct $name:ident { $($(#[$what:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        $see struct $name { $($(#[$what])* pub $field: $kind,)* }

        impl $crate::manifest::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(
                from: &mut $crate::manifest::Reader<'_>,
            ) -> Result<Self, $crate::manifest::Broken> {
                Ok(Self { $($field: $crate::manifest::Wire::take(from)?,)* })
            }
        }
    };
}
pub(super) use travels;

const CAPACITY_MAX: usize = 4_096;
