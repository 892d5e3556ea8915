//! What is one of several kinds: where a session stands, what it holds, whom a header carried.
//!
//! A kind has its number for ever, and fields that may grow at their end, as those of a record do. A number that this
//! program does not know is read as `Foreign`: whoever takes it over ends that one session or flow.

use std::net::SocketAddr;

use super::{Broken, Bytes, Reader, Wire, Word, Writer};

/// Where a session stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Waits for its PROXY header until then.
    AwaitingHeader(u64),
    /// A connect has been under way since (microseconds), until (milliseconds).
    Dialling(u64, u64),
    /// In the line for a place since (microseconds), until (milliseconds).
    Queued(u64, u64),
    /// The next attempt comes then.
    Pausing(u64),
    /// Bytes flow.
    Relaying,
    /// One side is gone, for this reason; the other gets its reset then at the latest.
    Lingering(Word, u64),
    /// Waits for the first message, by which a route goes, until then.
    AwaitingFirst(u64),
    /// A backend has been asked since (microseconds) whether it takes the TLS that the client was promised, until (milliseconds).
    AskingTls(u64, u64),
    /// Something that this program does not know, by its number.
    Foreign(u8),
}

/// What was read and not yet written.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// These bytes.
    Bytes(Bytes),
    /// What is in a pipe.
    Piped {
        /// Where it is read.
        read_end: i32,
        /// Where it is written.
        write_end: i32,
        /// How much there is.
        held_bytes: u64,
        /// How much there can be.
        size_bytes: u64,
    },
    /// Something that this program does not know, by its number.
    Foreign(u8),
}

/// Whom a PROXY header carried.
#[derive(Debug, Clone, PartialEq)]
pub enum Carried {
    /// This client, who came there.
    Proxy(SocketAddr, SocketAddr),
    /// The proxy itself.
    Local,
    /// Somebody.
    Unknown,
    /// Something that this program does not know, by its number.
    Foreign(u8),
}

impl Wire for Phase {
    fn put(&self, out: &mut Writer) {
        match self {
            Self::AwaitingHeader(until_ms) => out.variant(0, |out| until_ms.put(out)),
            Self::Dialling(since_us, until_ms) => out.variant(1, |out| (*since_us, *until_ms).put(out)),
            Self::Queued(since_us, until_ms) => out.variant(2, |out| (*since_us, *until_ms).put(out)),
            Self::Pausing(until_ms) => out.variant(3, |out| until_ms.put(out)),
            Self::Relaying => out.variant(4, |_| ()),
            Self::Lingering(reason, until_ms) => out.variant(5, |out| {
                reason.put(out);
                until_ms.put(out);
            }),
            Self::AwaitingFirst(until_ms) => out.variant(6, |out| until_ms.put(out)),
            Self::AskingTls(since_us, until_ms) => out.variant(7, |out| (*since_us, *until_ms).put(out)),
            Self::Foreign(kind) => out.variant(*kind, |_| ()),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let (kind, mut fields) = from.variant()?;
        let from = &mut fields;
        Ok(match kind {
            0 => Self::AwaitingHeader(u64::take(from)?),
            1 => Self::Dialling(u64::take(from)?, u64::take(from)?),
            2 => Self::Queued(u64::take(from)?, u64::take(from)?),
            3 => Self::Pausing(u64::take(from)?),
            4 => Self::Relaying,
            5 => Self::Lingering(Word::take(from)?, u64::take(from)?),
            6 => Self::AwaitingFirst(u64::take(from)?),
            7 => Self::AskingTls(u64::take(from)?, u64::take(from)?),
            other => Self::Foreign(other),
        })
    }
}

impl Wire for Held {
    fn put(&self, out: &mut Writer) {
        match self {
            Self::Nothing => out.variant(0, |_| ()),
            Self::Bytes(bytes) => out.variant(1, |out| bytes.put(out)),
            Self::Piped { read_end, write_end, held_bytes, size_bytes } => {
                out.variant(2, |out| ((*read_end, *write_end), (*held_bytes, *size_bytes)).put(out));
            }
            Self::Foreign(kind) => out.variant(*kind, |_| ()),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let (kind, mut fields) = from.variant()?;
        let from = &mut fields;
        Ok(match kind {
            0 => Self::Nothing,
            1 => Self::Bytes(Bytes::take(from)?),
            2 => {
                let ((read_end, write_end), (held_bytes, size_bytes)) = Wire::take(from)?;
                Self::Piped { read_end, write_end, held_bytes, size_bytes }
            }
            other => Self::Foreign(other),
        })
    }
}

impl Wire for Carried {
    fn put(&self, out: &mut Writer) {
        match self {
            Self::Proxy(source, destination) => out.variant(0, |out| (*source, *destination).put(out)),
            Self::Local => out.variant(1, |_| ()),
            Self::Unknown => out.variant(2, |_| ()),
            Self::Foreign(kind) => out.variant(*kind, |_| ()),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let (kind, mut fields) = from.variant()?;
        let from = &mut fields;
        Ok(match kind {
            0 => Self::Proxy(SocketAddr::take(from)?, SocketAddr::take(from)?),
            1 => Self::Local,
            2 => Self::Unknown,
            other => Self::Foreign(other),
        })
    }
}
