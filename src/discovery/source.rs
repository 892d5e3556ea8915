//! One source of a pool: a host name, with a ledger for each of its two questions, and the backends that come of them.
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::choice::{self, Taken};
use super::ledger::{Heard, Ledger, Rules, Standing};
use crate::config::settings::{Addresses, Backend, Discovery, Dns, Family, OnEmpty, Source};
use crate::manifest;

/// A source as it stands.
#[derive(Debug)]
pub(super) struct Entry {
    /// What the file says of it.
    pub(super) source: Source,
    ledgers: [Option<Ledger<IpAddr>>; 2],
    /// Where a name that is one backend is.
    current: Option<IpAddr>,
    /// A question is under way.
    pub(super) is_asked: bool,
    /// Addresses that nobody may be sent to, as they were told last.
    refused: BTreeSet<IpAddr>,
    /// Answers that named somebody, that named nobody, and failures.
    pub(super) answers: [u64; 3],
}

/// What came of both questions of a name, IPv4 first; `None`: that was not to be asked.
#[derive(Debug)]
pub(super) struct Looked {
    /// Of each.
    pub(super) heard: [Option<Heard<IpAddr>>; 2],
    /// Who said it may speak of this host's own loopback.
    pub(super) may_be_loopback: bool,
}

/// What an answer changed, for the log.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Backends, by address.
    pub(super) found: Vec<IpAddr>,
    /// Likewise.
    pub(super) left: Vec<IpAddr>,
    /// Addresses that cannot be backends, each told once, and why.
    pub(super) refused: Vec<(IpAddr, &'static str)>,
}

impl Entry {
    /// One that has heard nothing.
    pub(super) fn new(source: &Source, discovery: &Discovery, dns: &Dns, now_ms: u64) -> Self {
        let wants = |family: Family| source.family == Family::Any || source.family == family;
        let ledger = |family| wants(family).then(|| Ledger::new(rules(discovery, dns), now_ms));
        Self {
            source: source.clone(),
            ledgers: [ledger(Family::V4), ledger(Family::V6)],
            current: None,
            is_asked: false,
            refused: BTreeSet::new(),
            answers: [0; 3],
        }
    }

    /// The file says it as before, and of the pool perhaps something else.
    pub(super) fn follow(&mut self, source: &Source, discovery: &Discovery, dns: &Dns) {
        self.source = source.clone();
        self.ledgers.iter_mut().flatten().for_each(|ledger| ledger.set_rules(rules(discovery, dns)));
    }

    /// Is it asked in the same way?
    pub(super) fn is_same(&self, source: &Source) -> bool {
        let of = |source: &Source| (source.host.clone(), source.port, source.addresses, source.family);
        of(&self.source) == of(source)
    }

    /// What is to be asked.
    pub(super) fn families(&self) -> [bool; 2] {
        self.ledgers.each_ref().map(Option::is_some)
    }

    /// When it is to be asked.
    pub(super) fn next_ms(&self) -> u64 {
        self.ledgers.iter().flatten().map(Ledger::next_ms).min().unwrap_or(u64::MAX)
    }

    /// It is to be asked at once.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        self.ledgers.iter_mut().flatten().for_each(|ledger| ledger.hurry(now_ms));
    }

    /// A question of it is under way.
    pub(super) fn note_asked(&mut self, now_ms: u64) {
        self.is_asked = true;
        // Whatever becomes of the question, it is asked again.
        self.ledgers.iter_mut().flatten().for_each(|ledger| ledger.note_asked(now_ms + LOST_MS));
    }

    /// Takes what came of its questions.
    pub(super) fn hear(&mut self, looked: Looked, taken: Taken<'_>, now_ms: u64, random: u64) -> Told {
        self.is_asked = false;
        let mut told = Told::default();
        let mut refused = BTreeSet::new();
        for (ledger, heard) in self.ledgers.iter_mut().zip(looked.heard) {
            let (Some(ledger), Some(heard)) = (ledger, heard) else { continue };
            let heard = match heard {
                Heard::Members(members, ttl_ms) => {
                    let (good, bad) = sift(members, self.source.port, looked.may_be_loopback, taken);
                    for (ip, why) in bad {
                        if !self.refused.contains(&ip) {
                            told.refused.push((ip, why));
                        }
                        refused.insert(ip);
                    }
                    if good.is_empty() {
                        Heard::Nobody("none of its addresses can be a backend".to_owned(), Some(ttl_ms))
                    } else {
                        Heard::Members(good, ttl_ms)
                    }
                }
                other => other,
            };
            let kind = match &heard {
                Heard::Members(..) => 0,
                Heard::Nobody(..) => 1,
                Heard::Failure(_) => 2,
            };
            self.answers[kind] += 1;
            let change = ledger.hear(heard, now_ms, random);
            told.found.extend(change.found);
            told.left.extend(change.left);
        }
        self.refused = refused;
        told
    }

    /// What time brings.
    pub(super) fn on_time(&mut self, now_ms: u64) -> Told {
        let lefts = self.ledgers.iter_mut().flatten().map(|ledger| ledger.on_time(now_ms).left);
        Told { left: lefts.flatten().collect(), ..Told::default() }
    }

    /// The backends, in an order that is theirs.
    pub(super) fn backends(&mut self, hash_seed: &str) -> Vec<Backend> {
        let found: Vec<IpAddr> = self.found().collect();
        let source = &self.source;
        let backend = |name: String, ip: IpAddr| Backend {
            name,
            ip,
            port: source.port,
            weight: source.weight,
            tier: source.tier,
            max_sessions: source.max_sessions,
        };
        match source.addresses {
            Addresses::All => found.into_iter().map(|ip| backend(shown(ip, source.port), ip)).collect(),
            Addresses::One => {
                let name = source.name.as_ref().unwrap_or(&source.text);
                self.current = choice::one_of(self.current, &found, hash_seed, name);
                self.current.map(|ip| backend(name.clone(), ip)).into_iter().collect()
            }
        }
    }

    /// How it stands as a whole, since when, and why.
    pub(super) fn standing(&self) -> (Standing, u64, Option<&str>) {
        let each = || self.ledgers.iter().flatten().map(Ledger::standing);
        let has_some = self.found().next().is_some();
        // That a name has addresses of one kind alone is as it should be.
        let is_beside = |standing: Standing| standing == Standing::Nobody && has_some;
        let is_well = each().any(|(standing, ..)| standing == Standing::Ok);
        let worst = each().filter(|(standing, ..)| !(is_well && is_beside(*standing)));
        worst.max_by_key(|(standing, since_ms, _)| (*standing, *since_ms)).unwrap_or((
            Standing::Waiting,
            0,
            None,
        ))
    }

    /// Both questions have had an answer, or failed to.
    pub(super) fn is_heard(&self) -> bool {
        self.ledgers.iter().flatten().all(Ledger::is_heard)
    }

    /// When it answered last.
    pub(super) fn answered_ms(&self) -> Option<u64> {
        self.ledgers.iter().flatten().filter_map(Ledger::answered_ms).max()
    }

    /// What the next process is told.
    pub(super) fn export(&self) -> manifest::Source {
        let (standing, since_ms, _) = self.standing();
        manifest::Source {
            text: self.source.text.clone(),
            found: self.found().collect(),
            current: self.current,
            answered_ms: self.answered_ms(),
            failing_since_ms: (standing == Standing::Failing).then_some(since_ms),
        }
    }

    /// What the process before had heard.
    pub(super) fn remember(&mut self, before: &manifest::Source) {
        for (ledger, family) in self.ledgers.iter_mut().zip([true, false]) {
            let own = before.found.iter().copied().filter(|ip| ip.is_ipv4() == family);
            if let Some(ledger) = ledger {
                ledger.remember(own, before.answered_ms);
            }
        }
        self.current = before.current;
    }

    fn found(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ledgers.iter().flatten().flat_map(Ledger::members).copied()
    }
}

fn sift(
    members: BTreeSet<IpAddr>,
    port: Option<u16>,
    may_be_loopback: bool,
    taken: Taken<'_>,
) -> (BTreeSet<IpAddr>, Vec<(IpAddr, &'static str)>) {
    let (mut good, mut bad) = (BTreeSet::new(), Vec::new());
    for ip in members {
        match choice::refusal(ip, port, may_be_loopback, taken) {
            None => drop(good.insert(ip.to_canonical())),
            Some(why) => bad.push((ip, why)),
        }
    }
    (good, bad)
}

fn rules(discovery: &Discovery, dns: &Dns) -> Rules {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Rules {
        keeps_on_empty: discovery.on_empty == OnEmpty::Keep,
        keep_for_ms: discovery.keep_for.map(millis),
        max_removed_percent: discovery.max_removed_percent,
        refresh_min_ms: millis(dns.refresh_min),
        refresh_max_ms: millis(dns.refresh_max),
    }
}

/// As a file would have it, so that a list of addresses and a name for them are the same backends.
pub(super) fn shown(ip: IpAddr, port: Option<u16>) -> String {
    match (ip, port) {
        (ip, Some(port)) => SocketAddr::new(ip, port).to_string(),
        (IpAddr::V6(ip), None) => format!("[{ip}]"),
        (ip, None) => ip.to_string(),
    }
}

/// A question that nobody heard the end of.
const LOST_MS: u64 = 10 * 60 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn pool(entry: &str) -> (config::settings::Pool, Dns) {
        let file = format!("listeners: {{ door: {{ bind: 5432, backends: [{entry}] }} }}");
        let settings = config::read("test.yaml", file.as_bytes()).unwrap();
        (settings.pools[0].clone(), settings.dns)
    }

    fn looked(v4: &[&str], v6: Option<&str>) -> Looked {
        let v4 = Heard::Members(v4.iter().map(|ip| ip.parse().unwrap()).collect(), 1_000);
        let v6 = match v6 {
            None => Heard::Nobody("NODATA".into(), None),
            Some("") => Heard::Failure("SERVFAIL".into()),
            Some(ip) => Heard::Members([ip.parse().unwrap()].into(), 1_000),
        };
        Looked { heard: [Some(v4), Some(v6)], may_be_loopback: false }
    }

    #[test]
    fn backends_of_a_name_are_named_as_a_list_of_addresses_would_name_them() {
        let (pool, dns) = pool("{ address: 'db.example.org:5432', weight: 7, tier: 1, max_sessions: 9 }");
        let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
        let taken = Taken { networks: &[], doors: &[], from: &pool.connect_from };
        assert_eq!(entry.standing().0, Standing::Waiting);
        entry.hear(looked(&["10.0.0.2", "10.0.0.1"], Some("2001:db8::1")), taken, 0, 0);
        let (list, _) = self::pool(
            "{ address: '10.0.0.1:5432', weight: 7, tier: 1, max_sessions: 9 }, \
             { address: '10.0.0.2:5432', weight: 7, tier: 1, max_sessions: 9 }, \
             { address: '[2001:db8::1]:5432', weight: 7, tier: 1, max_sessions: 9 }",
        );
        assert_eq!(entry.backends("seed"), list.backends);
        // One question that fails keeps its own last answer, and is told.
        entry.hear(looked(&["10.0.0.1", "10.0.0.2"], Some("")), taken, 1_000, 0);
        assert_eq!(entry.backends("seed").len(), 3);
        assert_eq!(entry.standing(), (Standing::Failing, 1_000, Some("SERVFAIL")));
        let told = entry.export();
        let mut next = Entry::new(&pool.sources[0], &pool.discovery, &dns, 5_000);
        next.remember(&told);
        assert_eq!(next.backends("seed"), list.backends);
    }

    #[test]
    fn a_name_that_is_one_backend_moves_when_its_address_is_gone_for_good() {
        let (pool, dns) = pool("{ address: 'db.example.org', addresses: one, name: db }");
        let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
        let taken = Taken { networks: &[], doors: &[], from: &pool.connect_from };
        entry.hear(looked(&["10.0.0.1"], None), taken, 0, 0);
        let at = |entry: &mut Entry| {
            entry
                .backends("seed")
                .iter()
                .map(|one| (one.name.clone(), one.ip.to_string()))
                .collect::<Vec<_>>()
        };
        assert_eq!(at(&mut entry), [("db".to_owned(), "10.0.0.1".to_owned())]);
        assert_eq!(entry.standing().0, Standing::Ok, "of one kind alone is as it should be");
        for now_s in 1..=3 {
            entry.hear(looked(&["10.0.0.2"], None), taken, now_s * 1_000, 0);
            assert_eq!(at(&mut entry)[0].1, "10.0.0.1");
        }
        entry.hear(looked(&["10.0.0.2"], None), taken, 4_000, 0);
        assert_eq!(at(&mut entry), [("db".to_owned(), "10.0.0.2".to_owned())]);
    }

    #[test]
    fn what_cannot_be_a_backend_is_left_out_and_told_once() {
        let (pool, dns) = pool("db.example.org");
        let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
        let taken = Taken { networks: &[], doors: &[], from: &pool.connect_from };
        let told = entry.hear(looked(&["169.254.169.254", "10.0.0.1", "127.0.0.1"], None), taken, 0, 0);
        assert_eq!((told.refused.len(), entry.backends("seed").len()), (2, 1));
        let told = entry.hear(looked(&["169.254.169.254", "10.0.0.1", "127.0.0.1"], None), taken, 1_000, 0);
        assert!(told.refused.is_empty());
        let told = entry.hear(looked(&["0.0.0.0"], None), taken, 2_000, 0);
        assert_eq!(
            (told.refused.len(), entry.backends("seed").len()),
            (1, 1),
            "nobody is left: those found before stay"
        );
    }
}
