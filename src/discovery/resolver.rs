//! DNS resolver (stub): sends the questions of a name and takes what comes back: UDP with EDNS from a fresh socket each time, TCP
//! where a datagram is not enough, one server after the other.
//!
//! Nothing is kept between two questions, so nothing can be poisoned or grow old. Whoever forges an answer must guess the port, the
//! number and the name.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::files::{Files, domains};
use super::ledger::Heard;
use super::names::Looked;
use super::services::{LookedServices, Target};
use super::source::{Came, Question};
use crate::config::settings::Dns;
use crate::dns::{
    Answer, Asked, Failure, Hosts, Judged, Name, Offer, RecordType, RecordTypes, candidates, judge, question,
};

/// How names are asked for at one moment.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    /// Whom to ask, in turn.
    pub(super) servers: Vec<SocketAddr>,
    /// Names that are known without.
    pub(super) hosts: Arc<Hosts>,
    /// Domains of short names.
    pub(super) search: Vec<Name>,
    /// A name of so many dots is asked for as it stands first.
    pub(super) ndots: usize,
    /// For one question to one server.
    pub(super) timeout: Duration,
    /// Rounds over all servers.
    pub(super) attempts: u8,
    /// Makes numbers that nobody can guess.
    pub(super) ids: Arc<Ids>,
}

/// Numbers of questions.
#[derive(Debug, Default)]
pub(super) struct Ids {
    keys: RandomState,
    used: AtomicU64,
}

impl Ids {
    fn next(&self) -> u16 {
        // The upper bits of a keyed hash; which of them does not matter.
        (self.keys.hash_one(self.used.fetch_add(1, Ordering::Relaxed)) >> 48) as u16
    }
}

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("no answer")]
    Timeout,
    #[error("{0}")]
    Failure(#[from] Failure),
    #[error("its answer does not fit into a datagram, and over TCP: {0}")]
    Tcp(Box<Self>),
    #[error("its answer does not fit into a datagram, and it does not answer over TCP")]
    NoTcp,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Resolver {
    /// As the settings say it, and the files where they leave it to those.
    pub(super) fn by(dns: &Dns, files: Option<&Files>, ids: &Arc<Ids>) -> Self {
        let conf = files.map(Files::conf);
        let hosts = files.map_or_else(Arc::default, |files| Arc::clone(files.hosts()));
        let servers = dns.servers.clone().or_else(|| Some(conf?.servers.clone()));
        let search = dns.search.as_ref().map(|search| domains(search)).or_else(|| Some(conf?.search.clone()));
        Self {
            servers: servers.unwrap_or_default(),
            hosts,
            search: search.unwrap_or_default(),
            ndots: conf.map_or(1, |conf| conf.ndots),
            timeout: dns.timeout,
            attempts: dns.attempts,
            ids: Arc::clone(ids),
        }
    }

    /// Looks up what is asked.
    pub(super) async fn answer(self, question: Question) -> Came {
        match question {
            Question::Addresses(host, families) => Came::Addresses(self.look(host, families).await),
            Question::Services(name) => Came::Services(self.look_services(name).await),
        }
    }

    /// Looks a name up, in the hosts file or by asking.
    pub(super) async fn look(self, host: String, families: [bool; 2]) -> Looked {
        let failure = |why: &str| {
            let heard = families.map(|wanted| wanted.then(|| Heard::Failure(why.to_owned())));
            Looked { heard, may_be_loopback: false }
        };
        let Ok(name) = Name::parse(&host) else { return failure("it is no name that could be asked for") };
        let names = candidates(&name, host.ends_with('.'), &self.search, self.ndots);
        if let Some(known) = std::iter::once(&name).chain(&names).find_map(|name| self.hosts.lookup(name)) {
            let heard = [0, 1].map(|at| families[at].then(|| of_hosts(&known, at == 0)));
            return Looked { heard, may_be_loopback: true };
        }
        let may_be_loopback = self.servers.iter().all(|server| server.ip().is_loopback());
        let mut last = failure("there is nothing to ask for").heard;
        for name in names {
            let (v4, v6) = tokio::join!(
                self.ask_if(families[0], &name, RecordTypes::A),
                self.ask_if(families[1], &name, RecordTypes::AAAA)
            );
            last = [v4, v6];
            // A failure must not turn a name into another one of the search list.
            if !last.iter().flatten().all(|heard| matches!(heard, Heard::Nobody(..))) {
                break;
            }
        }
        Looked { heard: last, may_be_loopback }
    }

    async fn ask_if(&self, wanted: bool, name: &Name, record_type: RecordType) -> Option<Heard<IpAddr>> {
        if !wanted {
            return None;
        }
        Some(self.ask(name, record_type).await)
    }

    async fn ask(&self, name: &Name, record_type: RecordType) -> Heard<IpAddr> {
        match self.ask_all(name, record_type).await {
            Ok(Answer::Addresses(all, ttl_s)) => Heard::Members(all.into_iter().collect(), millis(ttl_s)),
            Ok(Answer::Nobody(why, ttl_s)) => Heard::Nobody(why.to_owned(), ttl_s.map(millis)),
            Ok(Answer::Services(..)) => Heard::Failure(Failure::Garbled.to_string()),
            Err(why) => Heard::Failure(why),
        }
    }

    /// Looks the services of a name up, and the addresses of their hosts where the answer does not have them.
    async fn look_services(self, name: String) -> LookedServices {
        let none = |heard| LookedServices { heard, offers: Vec::new(), addresses: Vec::new() };
        let Ok(parsed) = Name::parse(&name) else {
            return none(Heard::Failure("it is no name that could be asked for".to_owned()));
        };
        let mut last = none(Heard::Failure("there is nothing to ask for".to_owned()));
        for name in candidates(&parsed, name.ends_with('.'), &self.search, self.ndots) {
            match self.ask_all(&name, RecordTypes::SRV).await {
                Ok(Answer::Services(offers, ttl_s)) => {
                    let addresses = self.addresses_of(&offers, millis(ttl_s)).await;
                    let targets = offers.iter().map(|offer| Target::of(&offer.service)).collect();
                    let heard = Heard::Members(targets, millis(ttl_s));
                    let offers = offers.into_iter().map(|offer| offer.service).collect();
                    return LookedServices { heard, offers, addresses };
                }
                Ok(Answer::Nobody(why, ttl_s)) => {
                    last = none(Heard::Nobody(why.to_owned(), ttl_s.map(millis)));
                }
                // A failure must not turn a name into another one of the search list.
                Ok(Answer::Addresses(..)) => return none(Heard::Failure(Failure::Garbled.to_string())),
                Err(why) => return none(Heard::Failure(why)),
            }
        }
        last
    }

    /// What is known of each host: by the answer itself, or by asking.
    async fn addresses_of(&self, offers: &[Offer], ttl_ms: u64) -> Vec<(Name, Looked)> {
        let may_be_loopback = self.servers.iter().all(|server| server.ip().is_loopback());
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        let mut asking = JoinSet::new();
        for Offer { service, addresses } in offers {
            if !seen.insert(&service.target) {
                continue;
            }
            if !addresses.is_empty() {
                let of = |v4| beside(addresses, v4, ttl_ms);
                all.push((
                    service.target.clone(),
                    Looked { heard: [Some(of(true)), Some(of(false))], may_be_loopback },
                ));
                continue;
            }
            if asking.len() >= TARGETS_ASKED {
                all.extend(asking.join_next().await.and_then(Result::ok));
            }
            let (own, target) = (self.clone(), service.target.clone());
            asking.spawn(async move {
                // Never extended: what stands in a record is the whole name.
                let looked = match own.hosts.lookup(&target) {
                    Some(known) => {
                        let heard = [true, false].map(|v4| Some(of_hosts(&known, v4)));
                        Looked { heard, may_be_loopback: true }
                    }
                    None => {
                        let (v4, v6) = tokio::join!(
                            own.ask(&target, RecordTypes::A),
                            own.ask(&target, RecordTypes::AAAA)
                        );
                        Looked { heard: [Some(v4), Some(v6)], may_be_loopback }
                    }
                };
                (target, looked)
            });
        }
        while let Some(over) = asking.join_next().await {
            all.extend(over.ok());
        }
        all
    }

    /// Asks the servers in turn, until one of them answers.
    async fn ask_all(&self, name: &Name, record_type: RecordType) -> Result<Answer, String> {
        let mut why = "there is no server to ask".to_owned();
        for _ in 0..self.attempts.max(1) {
            for server in &self.servers {
                let answer = if record_type == RecordTypes::SRV {
                    self.ask_for_services(*server, name).await
                } else {
                    self.ask_one(*server, name, record_type).await
                };
                match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) => why = format!("{server}: {error}"),
                }
            }
        }
        Err(why)
    }

    /// By TCP, since some servers leave out of a datagram what does not fit and do not say so; by a datagram where there is no TCP.
    async fn ask_for_services(&self, server: SocketAddr, name: &Name) -> Result<Answer, AskError> {
        let asked = Asked { id: self.ids.next(), name: name.clone(), record_type: RecordTypes::SRV };
        let deadline = Instant::now() + self.timeout;
        match timeout_at(deadline, by_stream(server, &asked)).await {
            Ok(Err(AskError::Io(_))) | Err(_) => {}
            Ok(answer) => return answer,
        }
        let deadline = Instant::now() + self.timeout;
        let asked = Asked { id: self.ids.next(), ..asked };
        match timeout_at(deadline, self.by_datagram(server, &asked)).await {
            Ok(Ok((Judged::Answer(answer), _))) => Ok(answer),
            Ok(Ok((Judged::Cut, _))) => Err(AskError::NoTcp),
            Ok(Ok((Judged::Failure(failure), _))) => Err(failure.into()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok((Judged::Stranger, _))) | Err(_) => Err(AskError::Timeout),
        }
    }

    async fn ask_one(
        &self,
        server: SocketAddr,
        name: &Name,
        record_type: RecordType,
    ) -> Result<Answer, AskError> {
        let asked = Asked { id: self.ids.next(), name: name.clone(), record_type };
        let deadline = Instant::now() + self.timeout;
        let by_datagram = match timeout_at(deadline, self.by_datagram(server, &asked)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(AskError::Timeout),
        };
        let (judged, length) = by_datagram;
        // Some servers leave out what does not fit, and do not say so.
        let whole = match judged {
            Judged::Answer(answer) if length <= SUSPICIOUS_BYTES => return Ok(answer),
            Judged::Answer(answer) => Some(answer),
            Judged::Failure(Failure::NotUnderstood) | Judged::Cut => None,
            Judged::Failure(failure) => return Err(failure.into()),
            Judged::Stranger => return Err(AskError::Timeout),
        };
        let deadline = Instant::now() + self.timeout;
        let asked = Asked { id: self.ids.next(), ..asked };
        let by_stream = match timeout_at(deadline, by_stream(server, &asked)).await {
            Ok(answer) => answer,
            Err(_) => Err(AskError::Timeout),
        };
        match (by_stream, whole) {
            (Ok(answer), _) => Ok(answer),
            // There is no TCP, but nothing says that anything is missing.
            (Err(AskError::Io(_)), Some(answer)) => Ok(answer),
            (Err(error), _) => Err(AskError::Tcp(Box::new(error))),
        }
    }

    /// Ends with the first answer to this question; until then strangers are passed over.
    async fn by_datagram(&self, server: SocketAddr, asked: &Asked) -> io::Result<(Judged, usize)> {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        // From now on the kernel takes datagrams of this server alone.
        socket.connect(server).await?;
        socket.send(&question(asked.id, &asked.name, asked.record_type, Some(EDNS_BYTES))).await?;
        let mut datagram = vec![0; DATAGRAM_MAX];
        loop {
            let length = socket.recv(&mut datagram).await?;
            match judge(&datagram[..length], asked) {
                Judged::Stranger => {}
                judged => return Ok((judged, length)),
            }
        }
    }
}

async fn by_stream(server: SocketAddr, asked: &Asked) -> Result<Answer, AskError> {
    let mut stream = TcpStream::connect(server).await?;
    let question = question(asked.id, &asked.name, asked.record_type, None);
    // A question has less than 300 bytes.
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    match judge(&message, asked) {
        Judged::Answer(answer) => Ok(answer),
        Judged::Failure(failure) => Err(failure.into()),
        Judged::Stranger | Judged::Cut => Err(Failure::Garbled.into()),
    }
}

/// What an answer says of a host beside its services.
fn beside(addresses: &[IpAddr], wants_v4: bool, ttl_ms: u64) -> Heard<IpAddr> {
    let own: BTreeSet<IpAddr> = addresses.iter().copied().filter(|ip| ip.is_ipv4() == wants_v4).collect();
    if own.is_empty() {
        return Heard::Nobody("the answer has no such address of it".to_owned(), Some(ttl_ms));
    }
    Heard::Members(own, ttl_ms)
}

fn millis(ttl_s: u32) -> u64 {
    u64::from(ttl_s) * 1_000
}

fn of_hosts(known: &[IpAddr], wants_v4: bool) -> Heard<IpAddr> {
    let members: BTreeSet<IpAddr> = known.iter().copied().filter(|ip| ip.is_ipv4() == wants_v4).collect();
    if members.is_empty() {
        return Heard::Nobody("the hosts file has no such address of it".to_owned(), Some(HOSTS_MS));
    }
    Heard::Members(members, HOSTS_MS)
}

/// What every path takes in one piece (DNS flag day 2020).
const EDNS_BYTES: u16 = 1_232;
/// Longer answers are asked for again by TCP.
const SUSPICIOUS_BYTES: usize = 1_000;
const DATAGRAM_MAX: usize = 4_096;
/// Hosts of services that are asked for at once, with two questions each.
const TARGETS_ASKED: usize = 8;
/// The file is looked at all the time: what it says holds until it changes.
const HOSTS_MS: u64 = 60_000;
