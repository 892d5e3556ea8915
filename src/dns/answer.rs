//! DNS answer, judged against what was asked: addresses, nobody, a failure, or something that is no answer to it.
//!
//! What must stay true: only records are believed whose owner is the name that was asked for, or one that its aliases lead to; a
//! message that cannot be read to the last record says nothing at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::message::{Data, Header, Record};
use super::{Name, Offer, RecordType, RecordTypes, Service};

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The number of the question.
    pub id: u16,
    /// Of whom.
    pub name: Name,
    /// For what.
    pub record_type: RecordType,
}

/// What a server says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These, in the order of the addresses, for so long.
    Addresses(Vec<IpAddr>, u32),
    /// These services, in an order that is theirs, for so long.
    Services(Vec<Offer>, u32),
    /// There is no such name, or nothing of this type; for so long, where it says.
    Nobody(&'static str, Option<u32>),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It did not understand the question.
    #[error("FORMERR")]
    NotUnderstood,
    /// It could not.
    #[error("SERVFAIL")]
    Failed,
    /// It would not.
    #[error("REFUSED")]
    Refused,
    /// It does not do that.
    #[error("NOTIMP")]
    NotDone,
    /// A code that means nothing here.
    #[error("it answers with code {0}")]
    Code(u8),
    /// The message is broken.
    #[error("its answer cannot be read")]
    Garbled,
    /// Too many aliases, or a circle of them.
    #[error("more than 8 aliases, or a circle of them")]
    Aliases,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// Not the answer to this question: somebody else's, or a forgery.
    Stranger,
    /// There is more than a datagram holds.
    Cut,
    /// No answer, and why.
    Failure(Failure),
    /// The answer.
    Answer(Answer),
}

/// What this message says to that question.
pub fn judge(message: &[u8], asked: &Asked) -> Judged {
    let Some(header) = Header::take(message).filter(|header| header.is_answer && header.id == asked.id)
    else {
        return Judged::Stranger;
    };
    let question = header.question(message);
    let begins = match &question {
        Some((name, record_type, begins)) if (name, *record_type) == (&asked.name, asked.record_type) => {
            *begins
        }
        // Some leave out the question that they do not understand.
        None if header.code == 1 => return Judged::Failure(Failure::NotUnderstood),
        _ => return Judged::Stranger,
    };
    if header.is_cut {
        return Judged::Cut;
    }
    match header.code {
        0 | 3 => {}
        1 => return Judged::Failure(Failure::NotUnderstood),
        2 => return Judged::Failure(Failure::Failed),
        4 => return Judged::Failure(Failure::NotDone),
        5 => return Judged::Failure(Failure::Refused),
        code => return Judged::Failure(Failure::Code(code)),
    }
    let asks_services = asked.record_type == RecordTypes::SRV;
    let Some(records) = header.records(message, begins, asks_services) else {
        return Judged::Failure(Failure::Garbled);
    };
    let found = if asks_services {
        follow(&asked.name, &records, of_services).map(|(services, ttl_s)| offered(services, &records, ttl_s))
    } else {
        let found = follow(&asked.name, &records, of_addresses);
        found.map(|(all, ttl_s)| {
            (!all.is_empty()).then(|| Answer::Addresses(all.into_iter().collect(), ttl_s))
        })
    };
    match found {
        Err(failure) => Judged::Failure(failure),
        Ok(Some(answer)) if header.code == 0 => Judged::Answer(answer),
        Ok(_) => {
            let ttl_s = records.iter().find_map(|record| match record.data {
                Data::NegativeTtl(ttl_s) => Some(ttl_s),
                _ => None,
            });
            let what = if header.code == 3 {
                "NXDOMAIN: there is no such name"
            } else if asks_services {
                "NODATA: the name has no service"
            } else {
                "NODATA: the name has no such address"
            };
            Judged::Answer(Answer::Nobody(what, ttl_s))
        }
    }
}

fn of_addresses(data: &Data) -> Option<IpAddr> {
    if let Data::Address(ip) = data { Some(*ip) } else { None }
}

fn of_services(data: &Data) -> Option<Service> {
    if let Data::Service(service) = data { Some(service.clone()) } else { None }
}

/// Services with what the answer says of their targets, and of nobody else; nothing where there are none. Where the only target is
/// the root, there are decidedly none.
fn offered(services: BTreeSet<Service>, records: &[Record], mut ttl_s: u32) -> Option<Answer> {
    if services.is_empty() {
        return None;
    }
    let mut known: BTreeMap<&Name, (BTreeSet<IpAddr>, u32)> = BTreeMap::new();
    for record in records {
        if let Data::Address(ip) = record.data {
            let (addresses, until_s) = known.entry(&record.owner).or_insert((BTreeSet::new(), u32::MAX));
            addresses.insert(ip);
            *until_s = record.ttl_s.min(*until_s);
        }
    }
    let mut offers = Vec::with_capacity(services.len());
    for service in services.into_iter().filter(|service| !service.target.is_root()) {
        let mut addresses = Vec::new();
        if let Some((own, until_s)) = known.get(&service.target) {
            ttl_s = ttl_s.min(*until_s);
            addresses.extend(own);
        }
        offers.push(Offer { service, addresses });
    }
    if offers.is_empty() {
        return Some(Answer::Nobody("its only target is `.`: the service is not here", Some(ttl_s)));
    }
    Some(Answer::Services(offers, ttl_s))
}

/// What of this kind the name has, through its aliases, and the least of the times that all of it holds.
fn follow<T: Ord>(
    name: &Name,
    records: &[Record],
    pick: fn(&Data) -> Option<T>,
) -> Result<(BTreeSet<T>, u32), Failure> {
    let (mut at, mut ttl_s) = (name, u32::MAX);
    for _ in 0..=ALIASES_MAX {
        let own = || records.iter().filter(|record| record.owner == *at);
        let mut picked = BTreeSet::new();
        for record in own() {
            if let Some(one) = pick(&record.data) {
                ttl_s = ttl_s.min(record.ttl_s);
                picked.insert(one);
            }
        }
        let alias = own().find_map(|record| match &record.data {
            Data::Alias(other) => Some((other, record.ttl_s)),
            _ => None,
        });
        match alias {
            Some((other, until_s)) if picked.is_empty() => {
                ttl_s = ttl_s.min(until_s);
                at = other;
            }
            _ => return Ok((picked, ttl_s)),
        }
    }
    Err(Failure::Aliases)
}

/// Any message, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(message: &[u8]) {
    let Some(header) = Header::take(message) else { return };
    let Some((name, record_type, _)) = header.question(message) else { return };
    let asked = Asked { id: header.id, name, record_type };
    match judge(message, &asked) {
        Judged::Answer(Answer::Addresses(addresses, _)) => {
            assert!(!addresses.is_empty() && addresses.len() * 10 <= message.len());
        }
        Judged::Answer(Answer::Services(offers, _)) => {
            assert!(!offers.is_empty() && offers.len() * 17 <= message.len());
            let weights: Vec<u16> = offers.iter().map(|offer| offer.service.weight).collect();
            assert!(super::scaled(&weights).iter().all(|weight| (1..=256).contains(weight)));
        }
        _ => {}
    }
}

const ALIASES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{RecordTypes, question};
    use super::*;

    fn asked() -> Asked {
        Asked { id: 7, name: Name::parse("db.example.org").unwrap(), record_type: RecordTypes::A }
    }

    /// An answer with these records behind the question, which stands at byte 12.
    fn answer(flags: [u8; 2], records: &[Vec<u8>]) -> Vec<u8> {
        let asked = asked();
        let mut message = question(asked.id, &asked.name, asked.record_type, None);
        message[2] = 0x80 | flags[0];
        message[3] = flags[1];
        message[7] = u8::try_from(records.len()).unwrap();
        message.extend(records.concat());
        message
    }

    fn record(owner: &[u8], record_type: u8, ttl_s: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = owner.to_vec();
        bytes.extend([0, record_type, 0, 1]);
        bytes.extend(ttl_s.to_be_bytes());
        bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(data);
        bytes
    }

    const HERE: &[u8] = &[0xc0, 12];

    #[test]
    fn addresses_come_in_their_own_order_with_the_least_of_their_times() {
        let message = answer(
            [0, 0],
            &[
                record(HERE, 1, 60, &[10, 0, 0, 2]),
                record(HERE, 1, 5, &[10, 0, 0, 1]),
                record(HERE, 1, 60, &[10, 0, 0, 2]),
            ],
        );
        let expected = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).to_vec();
        assert_eq!(judge(&message, &asked()), Judged::Answer(Answer::Addresses(expected, 5)));
    }

    #[test]
    fn aliases_are_followed_and_strangers_among_the_records_are_not_believed() {
        let message = answer(
            [0, 0],
            &[
                record(b"\x04evil\0", 1, 60, &[6, 6, 6, 6]),
                record(b"\x01b\0", 1, 60, &[10, 0, 0, 1]),
                record(HERE, 5, 30, b"\x01a\0"),
                record(b"\x01a\0", 5, 20, b"\x01b\0"),
            ],
        );
        let expected = vec!["10.0.0.1".parse().unwrap()];
        assert_eq!(judge(&message, &asked()), Judged::Answer(Answer::Addresses(expected, 20)));
        let circle = answer([0, 0], &[record(HERE, 5, 30, HERE)]);
        assert_eq!(judge(&circle, &asked()), Judged::Failure(Failure::Aliases));
    }

    /// The same to a question for services, with others beside them.
    fn services(records: &[Vec<u8>], others: &[Vec<u8>]) -> Judged {
        let asked = Asked { record_type: RecordTypes::SRV, ..asked() };
        let mut message = question(asked.id, &asked.name, asked.record_type, None);
        message[2] = 0x80;
        message[7] = u8::try_from(records.len()).unwrap();
        message[11] = u8::try_from(others.len()).unwrap();
        message.extend(records.concat());
        message.extend(others.concat());
        judge(&message, &asked)
    }

    #[test]
    fn services_come_with_the_addresses_of_their_targets_alone() {
        let service = |priority: u8, weight: u8, target: &[u8]| {
            record(HERE, 33, 60, &[&[0, priority, 0, weight, 0x15, 0x38][..], target].concat())
        };
        let others = [
            record(b"\x01a\0", 1, 5, &[10, 0, 0, 2]),
            record(b"\x01a\0", 1, 5, &[10, 0, 0, 1]),
            record(b"\x04evil\0", 1, 60, &[6, 6, 6, 6]),
            record(b"\0", 41, 0, &[]),
        ];
        let found = services(&[service(2, 7, b"\x01b\0"), service(1, 0, b"\x01a\0")], &others);
        let Judged::Answer(Answer::Services(offers, 5)) = found else { panic!("{found:?}") };
        let shown: Vec<String> = offers
            .iter()
            .map(|Offer { service, addresses }| {
                format!(
                    "{} {} {} {} {addresses:?}",
                    service.priority, service.weight, service.target, service.port
                )
            })
            .collect();
        assert_eq!(shown, ["1 0 a 5432 [10.0.0.1, 10.0.0.2]", "2 7 b 5432 []"]);

        let nobody = |judged: Judged| matches!(judged, Judged::Answer(Answer::Nobody(..)));
        assert!(nobody(services(&[service(0, 0, b"\0")], &[])), "decidedly not here");
        assert!(nobody(services(&[], &others)));
        let short = record(HERE, 33, 60, &[0, 1, 0, 1, 0, 1]);
        assert_eq!(services(&[short], &[]), Judged::Failure(Failure::Garbled));
        let mut cut = others.to_vec();
        cut[3].pop();
        let broken = services(&[service(1, 1, b"\x01a\0")], &cut);
        assert_eq!(broken, Judged::Failure(Failure::Garbled), "one record spoils it all");
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_a_strangers() {
        let good = answer([0, 0], &[record(HERE, 1, 60, &[10, 0, 0, 1])]);
        let other = Asked { id: 8, ..asked() };
        assert_eq!(judge(&good, &other), Judged::Stranger, "another number");
        let other = Asked { name: Name::parse("db2.example.org").unwrap(), ..asked() };
        assert_eq!(judge(&good, &other), Judged::Stranger, "another name");
        let other = Asked { record_type: RecordTypes::AAAA, ..asked() };
        assert_eq!(judge(&good, &other), Judged::Stranger, "another type");
        let asked = asked();
        assert_eq!(judge(&question(7, &asked.name, asked.record_type, None), &asked), Judged::Stranger);
        assert_eq!(judge(b"", &asked), Judged::Stranger);
    }

    #[test]
    fn nobody_and_failures_are_told_apart() {
        let nobody = |message: &[u8]| matches!(judge(message, &asked()), Judged::Answer(Answer::Nobody(..)));
        assert!(nobody(&answer([0, 0], &[])) && nobody(&answer([0, 3], &[])));
        let mut soa = record(HERE, 6, 100, &[[0; 18].as_slice(), &[0, 0, 0, 9]].concat());
        soa[3] = 6;
        let timed = judge(&answer([0, 3], &[soa]), &asked());
        assert_eq!(timed, Judged::Answer(Answer::Nobody("NXDOMAIN: there is no such name", Some(9))));
        for (code, failure) in [
            (1, Failure::NotUnderstood),
            (2, Failure::Failed),
            (4, Failure::NotDone),
            (5, Failure::Refused),
            (9, Failure::Code(9)),
        ] {
            assert_eq!(judge(&answer([0, code], &[]), &asked()), Judged::Failure(failure));
        }
        assert_eq!(judge(&answer([2, 0], &[]), &asked()), Judged::Cut);
        let mut short = answer([0, 0], &[record(HERE, 1, 60, &[10, 0, 0, 1])]);
        short.pop();
        assert_eq!(judge(&short, &asked()), Judged::Failure(Failure::Garbled), "one record spoils it all");
        let odd = answer([0, 0], &[record(HERE, 1, 60, &[10, 0, 0])]);
        assert_eq!(judge(&odd, &asked()), Judged::Failure(Failure::Garbled));
    }

    proptest! {
        #[test]
        fn any_message_is_judged(tail: Vec<u8>, flags: [u8; 2], counts: [u8; 2]) {
            let mut message = answer(flags, &[]);
            (message[7], message[9]) = (counts[0], counts[1]);
            message.extend(tail);
            let _ = judge(&message, &asked());
            message[12 + 16 + 1] = 33;
            let _ = judge(&message, &Asked { record_type: RecordTypes::SRV, ..asked() });
        }
    }
}
