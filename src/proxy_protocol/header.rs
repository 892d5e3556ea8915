//! Header of the PROXY protocol, as both versions have it: whom it names, how long it may be, and why bytes are none.

use std::net::SocketAddr;

/// What the bytes at the beginning of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The beginning of a header, which at least so many more bytes belong to.
    Incomplete {
        /// At least 1.
        missing: usize,
    },
    /// A whole header, with or without bytes behind it.
    Header(Header<'a>),
    /// No header, or a broken one; more bytes would not help.
    Malformed(Malformed),
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// What it says.
    pub carried: Carried,
    /// How many bytes it has: what follows belongs to the payload.
    pub length: usize,
    /// Whole TLVs (v2 alone), an old checksum among them.
    pub tlvs: &'a [u8],
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// Handed on for this client.
    Proxy(Addresses),
    /// The proxy speaks for itself: a health check.
    Local,
    /// Handed on for a client whose address has no form here.
    Unknown,
}

/// Both ends of the connection or flow that is handed on. IPv4 is never written as IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where the client came to.
    pub destination: SocketAddr,
}

impl Addresses {
    /// Both ends, IPv4 as IPv4.
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { source: canonical(source), destination: canonical(destination) }
    }
}

/// What carries the payload, as v2 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Stream,
    /// UDP.
    Datagram,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither version begins so.
    #[error("no PROXY header: it begins with other bytes")]
    NoHeader,
    /// v1 has no end where it must have ended.
    #[error("PROXY v1: no CRLF within 107 bytes")]
    V1TooLong,
    /// v1 ends with a line feed alone.
    #[error("PROXY v1: LF without CR before it")]
    V1LineFeed,
    /// None of the three words.
    #[error("PROXY v1: the protocol is none of TCP4, TCP6, UNKNOWN")]
    V1Protocol,
    /// Not two addresses and two ports with one space between each.
    #[error("PROXY v1: not two addresses and two ports, one space between each")]
    V1Fields,
    /// Not an address of the protocol's family.
    #[error("PROXY v1: an address is not one of its protocol")]
    V1Address,
    /// Not 0 to 65535 without leading zeros.
    #[error("PROXY v1: a port is not a number from 0 to 65535 without leading zeros")]
    V1Port,
    /// The version after the signature of v2.
    #[error("PROXY v2: version {0}")]
    V2Version(u8),
    /// Neither LOCAL nor PROXY.
    #[error("PROXY v2: unknown command {0}")]
    V2Command(u8),
    /// A family or transport the protocol does not have.
    #[error("PROXY v2: unknown family and transport {0:#04x}")]
    V2Family(u8),
    /// More than is ever read.
    #[error("PROXY v2: it claims {0} bytes behind its first 16; the most is 4080")]
    V2TooLong(u16),
    /// Not even the addresses fit into what it claims.
    #[error("PROXY v2: it claims {claimed} bytes; its addresses alone have {needed}")]
    V2TooShort {
        /// What it claims.
        claimed: u16,
        /// What the addresses of its family need.
        needed: usize,
    },
    /// A TLV does not end where the header does.
    #[error("PROXY v2: a TLV does not fit into the header")]
    V2Tlv,
    /// A checksum that is none, or not this header's.
    #[error("PROXY v2: wrong CRC32C")]
    V2Checksum,
    /// The datagram ends before its header does.
    #[error("PROXY v2: the datagram ends within the header")]
    V2Cut,
}

/// The longest line of v1, its CRLF included.
pub const V1_BYTES_MAX: usize = 107;
/// The longest header of v2 that is taken: the protocol allows 64 KiB, and senders stay far below 1.
pub const HEADER_BYTES_MAX: usize = 4_096;
