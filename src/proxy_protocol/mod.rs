//! PROXY protocol, versions 1 and 2: who a connection or datagram comes from when a proxy hands it on.
//!
//! Pure: bytes in, header out, and back. Must stay true: nothing of what a peer sends can panic or be read beyond its
//! header; a header that claims more than the limits is malformed at once, not when so much has come; strict where
//! HAProxy's `proxy-protocol.txt` is, since a guessed address would be believed by access lists and logs.

mod crc32c;
mod header;
mod v1;
mod v2;

pub use header::{Addresses, Carried, Decoded, HEADER_BYTES_MAX, Header, Malformed, Transport, V1_BYTES_MAX};

/// Reads the header a stream begins with, of either version.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    let begins = |whole: &[u8]| bytes.iter().zip(whole).all(|(byte, expected)| byte == expected);
    if begins(&v2::SIGNATURE) && !bytes.is_empty() {
        v2::decode(bytes)
    } else if begins(v1::START) {
        v1::decode(bytes)
    } else {
        Decoded::Malformed(Malformed::NoHeader)
    }
}

/// Reads the header of v2 that a datagram begins with; `None`: it begins with none.
pub fn decode_datagram(bytes: &[u8]) -> Result<Option<Header<'_>>, Malformed> {
    if !bytes.starts_with(&v2::SIGNATURE) {
        return Ok(None);
    }
    match v2::decode(bytes) {
        Decoded::Header(header) => Ok(Some(header)),
        Decoded::Incomplete { .. } => Err(Malformed::V2Cut),
        Decoded::Malformed(malformed) => Err(malformed),
    }
}

/// Is one of this kind among them?
pub fn has_tlv(tlvs: &[u8], kind: u8) -> bool {
    v2::tlvs_of(tlvs).flatten().any(|(one, _)| one == kind)
}

/// A header of v1 for these addresses; without them `UNKNOWN`. At most [`V1_BYTES_MAX`] bytes.
pub fn encode_v1(addresses: Option<&Addresses>) -> Vec<u8> {
    v1::encode(addresses)
}

/// A header of v2 for these addresses; without them `LOCAL`. `tlvs` is what [`Header::tlvs`] gave: all of it goes on but
/// an old checksum, which gives way to one of the new header. At most [`HEADER_BYTES_MAX`] bytes; a header that has no
/// room left for its checksum goes without.
pub fn encode_v2(addresses: Option<&Addresses>, transport: Transport, tlvs: &[u8]) -> Vec<u8> {
    v2::encode(addresses, transport, tlvs)
}

/// The kind of a TLV: the name that the client asked for (PP2_TYPE_AUTHORITY).
pub const AUTHORITY: u8 = 2;

#[cfg(test)]
mod tests;
