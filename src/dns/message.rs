//! DNS message: a question as bytes, and the records of an answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Name, Service};

/// A type of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordType(pub u16);

/// The types that mean something here.
#[derive(Debug)]
pub struct RecordTypes;

impl RecordTypes {
    /// An IPv4 address.
    pub const A: RecordType = RecordType(1);
    /// Another name.
    pub const CNAME: RecordType = RecordType(5);
    /// The zone, and how long what is not there is not there.
    pub const SOA: RecordType = RecordType(6);
    /// An IPv6 address.
    pub const AAAA: RecordType = RecordType(28);
    /// A service: a host and a port.
    pub const SRV: RecordType = RecordType(33);
    /// EDNS.
    pub const OPT: RecordType = RecordType(41);
}

/// A question (RFC 1035 section 4) with recursion desired; with EDNS, if datagrams of so many bytes may come back.
pub fn question(id: u16, name: &Name, record_type: RecordType, edns_bytes: Option<u16>) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    let additional = u8::from(edns_bytes.is_some());
    bytes.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, additional]);
    bytes.extend_from_slice(name.wire());
    bytes.extend_from_slice(&record_type.0.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    if let Some(edns_bytes) = edns_bytes {
        bytes.push(0);
        bytes.extend_from_slice(&RecordTypes::OPT.0.to_be_bytes());
        bytes.extend_from_slice(&edns_bytes.to_be_bytes());
        bytes.extend_from_slice(&[0; 6]);
    }
    bytes
}

/// What the first bytes say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) is_answer: bool,
    pub(super) is_cut: bool,
    pub(super) code: u8,
    counts: [u16; 4],
}

/// One record.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) owner: Name,
    pub(super) ttl_s: u32,
    pub(super) data: Data,
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Data {
    Address(IpAddr),
    Alias(Name),
    Service(Service),
    /// How long what is not there is not there.
    NegativeTtl(u32),
    Other,
}

impl Header {
    pub(super) fn take(message: &[u8]) -> Option<Self> {
        let bytes = message.first_chunk::<12>()?;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            id: word(0),
            is_answer: bytes[2] & 0x80 != 0,
            is_cut: bytes[2] & 0x02 != 0,
            code: bytes[3] & 0x0f,
            counts: [word(4), word(6), word(8), word(10)],
        })
    }

    /// The only question, and where the records begin.
    pub(super) fn question(&self, message: &[u8]) -> Option<(Name, RecordType, usize)> {
        if self.counts[0] != 1 {
            return None;
        }
        let (name, at) = Name::take(message, 12)?;
        let [high, low, 0, 1] = message.get(at..at + 4)? else { return None };
        Some((name, RecordType(u16::from_be_bytes([*high, *low])), at + 4))
    }

    /// The records of the answer and of the authority, which are all that is believed, and those beside them where it is a question
    /// for services; `None`: they cannot be read.
    pub(super) fn records(&self, message: &[u8], mut at: usize, with_others: bool) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        let others = if with_others { u32::from(self.counts[3]) } else { 0 };
        for _ in 0..u32::from(self.counts[1]) + u32::from(self.counts[2]) + others {
            let (record, after) = Record::take(message, at)?;
            records.push(record);
            at = after;
        }
        Some(records)
    }
}

impl Record {
    fn take(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let (owner, at) = Name::take(message, at)?;
        let fixed = message.get(at..at + 10)?;
        let word = |from: usize| u16::from_be_bytes([fixed[from], fixed[from + 1]]);
        let ttl_s = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        // RFC 2181 section 8: with the highest bit set it counts as 0.
        let ttl_s = if ttl_s > i32::MAX as u32 { 0 } else { ttl_s };
        let (begins, ends) = (at + 10, at + 10 + usize::from(word(8)));
        let bytes = message.get(begins..ends)?;
        let data = match (RecordType(word(0)), word(2)) {
            (RecordTypes::A, 1) => {
                Data::Address(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)))
            }
            (RecordTypes::AAAA, 1) => {
                Data::Address(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)))
            }
            (RecordTypes::CNAME, 1) => Data::Alias(Name::take(message, begins)?.0),
            (RecordTypes::SRV, 1) => {
                let [p1, p2, w1, w2, port1, port2, _, ..] = *bytes else { return None };
                let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
                let (priority, weight, port) = (word(p1, p2), word(w1, w2), word(port1, port2));
                Data::Service(Service { priority, weight, port, target: Name::take(message, begins + 6)?.0 })
            }
            (RecordTypes::SOA, 1) => {
                let least = bytes.last_chunk::<4>()?;
                Data::NegativeTtl(u32::from_be_bytes(*least).min(ttl_s))
            }
            _ => Data::Other,
        };
        Some((Self { owner, ttl_s, data }, ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_as_the_standard_has_it() {
        let name = Name::parse("example.org").unwrap();
        let plain = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x1c\x00\x01";
        assert_eq!(question(0x1234, &name, RecordTypes::AAAA, None), plain);
        let with_edns = question(0x1234, &name, RecordTypes::AAAA, Some(1_232));
        assert_eq!(with_edns[10..12], [0, 1]);
        assert_eq!(with_edns[plain.len()..], [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    }
}
