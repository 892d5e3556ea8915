//! Redis Sentinel, the `sentinels` of `check: { redis: … }`: which server the majority of the Sentinels names as the primary, and since
//! which failover (quorum by configuration epoch).
//!
//! Pure. A server that says it is the primary is believed where more than half of all Sentinels name it and none knows of a later
//! failover: an old primary that comes back says `master` for some ten seconds more, until it is told. What a server says of
//! itself is still needed: Sentinels name one that is dead until they agree on another.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::outcome::{Cause, Excerpt, Outcome};
use super::redis::{self, Server};
use super::resp::Reply;
use crate::roles::{Answer, Claim, Generation};

/// What one Sentinel says of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// The address of the primary: an IP address, or a name.
    pub host: Box<str>,
    /// Where it serves.
    pub port: u16,
    /// The number that server was given when it started; empty while it has not told.
    pub run_id: Box<str>,
    /// Grows with each failover.
    pub epoch: u64,
}

/// What came of asking one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It named this one.
    Named(Named),
    /// What went wrong, for people.
    Trouble(String),
    /// It has not answered yet.
    Nothing,
}

impl Said {
    fn named(&self) -> Option<&Named> {
        match self {
            Self::Named(named) => Some(named),
            Self::Trouble(_) | Self::Nothing => None,
        }
    }
}

/// Reads the answer to `SENTINEL MASTER name`.
pub(super) fn named(replies: &[Reply<'_>]) -> Result<Named, Cause> {
    let pairs = match replies {
        [Reply::Array(pairs)] => pairs,
        [Reply::Error(error)] => return Err(redis::refused(error)),
        _ => return Err(Cause::WrongAnswer { excerpt: Excerpt::text("it names no primary") }),
    };
    let value = |key: &str| {
        let pair = pairs.chunks_exact(2).find(|pair| pair[0].text() == Some(key.as_bytes()))?;
        std::str::from_utf8(pair[1].text()?).ok().filter(|value| value.len() <= VALUE_BYTES_MAX)
    };
    let read = || {
        Some(Named {
            host: value("ip").filter(|host| !host.is_empty())?.into(),
            port: value("port")?.parse().ok()?,
            run_id: value("runid").unwrap_or_default().into(),
            epoch: value("config-epoch")?.parse().ok()?,
        })
    };
    read().ok_or_else(|| Cause::WrongAnswer { excerpt: Excerpt::text("it names no primary") })
}

/// What the Sentinels say together. Each of them has a place, with nothing in it where it did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agreement<'a> {
    /// More than half of all name this one, and none knows of a later failover.
    On(&'a Named),
    /// A failover is under way, or they see different sets. The highest epoch of any.
    Divided(u64),
    /// Half of them or more are silent.
    Silent,
}

fn agreement(said: &[Said]) -> Agreement<'_> {
    let heard: Vec<&Named> = said.iter().filter_map(Said::named).collect();
    let is_most = |count: usize| count * 2 > said.len();
    let Some(latest) = heard.iter().map(|named| named.epoch).max().filter(|_| is_most(heard.len())) else {
        return Agreement::Silent;
    };
    let agree = |one: &Named, other: &Named| {
        (one.epoch, &one.host, one.port) == (other.epoch, &other.host, other.port)
    };
    let together = |one: &&&Named| is_most(heard.iter().filter(|other| agree(one, other)).count());
    match heard.iter().filter(|named| named.epoch == latest).find(together) {
        Some(named) => Agreement::On(named),
        None => Agreement::Divided(latest),
    }
}

/// Who a server is, as far as Sentinels may name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    /// Where it is asked. The port counts only where clients are served by the same.
    pub address: SocketAddr,
    /// Checks ask another port than clients.
    pub is_asked_elsewhere: bool,
    /// The number it says it was given when it started.
    pub run_id: &'a str,
}

impl Identity<'_> {
    /// By the number it has: where Sentinels know it by a name, or by an address that is translated, nothing else tells.
    fn is(self, named: &Named) -> bool {
        let host: Option<IpAddr> = named.host.parse().ok();
        let is_there = host.map(|host| host.to_canonical()) == Some(self.address.ip().to_canonical())
            && (self.is_asked_elsewhere || named.port == self.address.port());
        is_there || !self.run_id.is_empty() && *self.run_id == *named.run_id
    }
}

/// What comes of a server's own word and the Sentinels'. `name` is that of the set.
pub(super) fn judge(server: &Server, address: (SocketAddr, bool), said: &[Said], name: &str) -> Outcome {
    let answer = &server.answer;
    if answer.claim != Claim::Primary {
        return Outcome::Role(answer.clone());
    }
    let identity = Identity { address: address.0, is_asked_elsewhere: address.1, run_id: &server.run_id };
    let since = |epoch| Some(Generation { lineage: Arc::from(name), number: epoch });
    let role = |claim, epoch| Outcome::Role(Answer { claim, generation: since(epoch), ..answer.clone() });
    match agreement(said) {
        Agreement::On(named) if identity.is(named) => role(Claim::Primary, named.epoch),
        Agreement::On(named) => role(Claim::Former, named.epoch),
        Agreement::Divided(latest) => {
            let mut named = said.iter().filter_map(Said::named).filter(|named| named.epoch == latest);
            if named.any(|named| identity.is(named)) {
                unconfirmed(said, "name it so far")
            } else {
                role(Claim::Former, latest)
            }
        }
        Agreement::Silent => unconfirmed(said, "answer"),
    }
}

/// It says that it is the primary, and there is nobody to ask: it is what it was.
fn unconfirmed(said: &[Said], what: &str) -> Outcome {
    let (heard, all) = (said.iter().filter_map(Said::named).count(), said.len());
    let trouble = said.iter().find_map(|said| match said {
        Said::Trouble(why) => Some(format!("; {why}")),
        Said::Named(_) | Said::Nothing => None,
    });
    let trouble = trouble.unwrap_or_default();
    let why = format!(
        "it says that it is the primary, and too few Sentinels {what} ({heard} of {all} answer{trouble})"
    );
    Outcome::Unconfirmed { excerpt: Excerpt::text(&why) }
}

/// A name of a host has 253.
const VALUE_BYTES_MAX: usize = 256;

/// Whatever a server or a Sentinel says, in pieces of whatever size, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let [whom, piece, said @ ..] = bytes else { return };
    let pieces = said.chunks(usize::from(*piece).max(1));
    let login = (&b"check"[..], if whom & 1 == 0 { &b"secret"[..] } else { b"" });
    let mut talk = if whom & 2 == 0 {
        let judge = |replies: &[Reply<'_>]| Ok(Outcome::Role(redis::server(replies)?.answer));
        redis::Talk::new(login, false, &redis::QUESTIONS, Box::new(judge))
    } else {
        let judge = |replies: &[Reply<'_>]| named(replies).map(|_| Outcome::Good);
        redis::Talk::new(login, false, &[&[b"SENTINEL", b"MASTER", b"main"]], Box::new(judge))
    };
    super::dialogue::fuzz(&mut talk, pieces);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::health::resp;

    /// As Sentinel 7.0.15 answers.
    fn answer(ip: &str, port: u16, run_id: &str, epoch: u64) -> Vec<u8> {
        let (port, epoch) = (port.to_string(), epoch.to_string());
        let pairs: [&str; 12] = [
            "name",
            "main",
            "ip",
            ip,
            "port",
            &port,
            "runid",
            run_id,
            "flags",
            "master",
            "config-epoch",
            &epoch,
        ];
        resp::command(&pairs.map(str::as_bytes))
    }

    fn read(bytes: &[u8]) -> Result<Named, Cause> {
        let (reply, _) = resp::first(bytes).unwrap().unwrap();
        named(&[reply])
    }

    fn says(ip: &str, epoch: u64) -> Said {
        Said::Named(Named { host: ip.into(), port: 6379, run_id: format!("run-{ip}").into(), epoch })
    }

    const NO: Said = Said::Nothing;

    fn server(claim: Claim, run_id: &str) -> Server {
        Server { answer: Answer { claim, generation: None, position: Some(7) }, run_id: run_id.into() }
    }

    fn judged(ip: &str, said: &[Said]) -> String {
        let address = SocketAddr::new(ip.parse().unwrap(), 6379);
        match judge(&server(Claim::Primary, ""), (address, false), said, "main") {
            Outcome::Role(Answer { claim, generation: Some(generation), .. }) => {
                assert_eq!(&*generation.lineage, "main");
                format!("{} {}", claim.word(), generation.number)
            }
            Outcome::Unconfirmed { .. } => "unconfirmed".to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_sentinel_says_is_read() {
        let expected = Named { host: "10.0.0.1".into(), port: 6380, run_id: "e899".into(), epoch: 4 };
        assert_eq!(read(&answer("10.0.0.1", 6380, "e899", 4)), Ok(expected));
        for (bytes, word) in [
            (&b"-ERR No such master with that name\r\n"[..], "wrong_answer"),
            (b"-NOAUTH Authentication required.\r\n", "auth"),
            (b"*0\r\n", "wrong_answer"),
            (b"$-1\r\n", "wrong_answer"),
            (b"*3\r\n$2\r\nip\r\n$1\r\n1\r\n$4\r\nport\r\n", "wrong_answer"),
        ] {
            assert_eq!(read(bytes).unwrap_err().word(), word, "{}", bytes.escape_ascii());
        }
        assert!(read(&answer("", 1, "", 1)).is_err() && read(&answer("10.0.0.1", 1, "", 1)).is_ok());
    }

    #[test]
    fn more_than_half_decide_and_the_latest_failover_counts() {
        let (a, b) = ("10.0.0.1", "10.0.0.2");
        let table: [(&[Said], &str, &str); 9] = [
            (&[says(a, 3), says(a, 3), says(a, 3)], "primary 3", "stale 3"),
            (&[says(a, 3), says(a, 3), NO], "primary 3", "stale 3"),
            (&[says(a, 3), NO, NO], "unconfirmed", "unconfirmed"),
            (&[NO, NO, NO], "unconfirmed", "unconfirmed"),
            // One knows of a failover that the others have not heard of: the old one is out at once.
            (&[says(a, 3), says(a, 3), says(b, 4)], "stale 4", "unconfirmed"),
            (&[says(a, 3), says(b, 4), says(b, 4)], "stale 4", "primary 4"),
            (&[NO, says(a, 3), says(b, 4)], "stale 4", "unconfirmed"),
            (&[says(a, 3), NO, says(a, 3), says(b, 3)], "unconfirmed", "unconfirmed"),
            (&[says(a, 1)], "primary 1", "stale 1"),
        ];
        for (said, of_a, of_b) in table {
            assert_eq!((&*judged(a, said), &*judged(b, said)), (of_a, of_b), "{said:?}");
        }
    }

    #[test]
    fn a_server_is_known_by_its_address_or_by_the_number_of_its_start() {
        let is = |host: &str, run_id: &str, address: &str, own: &str, is_asked_elsewhere| {
            let named = Named { host: host.into(), port: 6379, run_id: run_id.into(), epoch: 1 };
            let address = address.parse().unwrap();
            Identity { address, is_asked_elsewhere, run_id: own }.is(&named)
        };
        assert!(is("10.0.0.1", "", "10.0.0.1:6379", "x", false));
        assert!(is("10.0.0.1", "", "[::ffff:10.0.0.1]:6379", "x", false));
        assert!(!is("10.0.0.1", "", "10.0.0.1:6380", "x", false));
        assert!(is("10.0.0.1", "", "10.0.0.1:6380", "x", true), "checks ask another port");
        assert!(is("redis-0.redis", "x", "10.0.0.1:6379", "x", false), "by a name");
        assert!(!is("redis-0.redis", "", "10.0.0.1:6379", "", false), "nobody has told a number");
        assert!(!is("redis-0.redis", "y", "10.0.0.1:6379", "x", false));
    }

    #[test]
    fn a_replica_is_one_by_its_own_word() {
        let address = "10.0.0.2:6379".parse().unwrap();
        let said = [says("10.0.0.2", 4), says("10.0.0.2", 4)];
        let outcome = judge(&server(Claim::Replica, ""), (address, false), &said, "main");
        assert_eq!(outcome.word(), "replica");
    }

    proptest! {
        #[test]
        fn of_two_servers_one_at_most_is_confirmed(
            said in prop::collection::vec(prop::option::of((0u8..3, 0u64..3)), 1..6)
        ) {
            let one = |(at, epoch)| says(&format!("10.0.0.{at}"), epoch);
            let said: Vec<Said> = said.into_iter().map(|said| said.map_or(NO, one)).collect();
            let primaries = (0..3).filter(|at| judged(&format!("10.0.0.{at}"), &said).starts_with("primary")).count();
            prop_assert!(primaries <= 1);
        }
    }
}
