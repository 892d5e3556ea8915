//! Addresses of a host name: a ledger for each of its two questions, and which of its addresses it is where it is one backend.
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::choice::{self, Taken};
use super::ledger::{Heard, Ledger, Rules};
use super::standing::Standing;
use crate::config::settings::{Family, HostName};
use crate::manifest;

/// What is known of a name.
#[derive(Debug)]
pub(super) struct Names {
    ledgers: [Option<Ledger<IpAddr>>; 2],
    /// Where a name that is one backend is.
    current: Option<IpAddr>,
    /// Addresses that nobody may be sent to, as they were told last.
    refused: BTreeSet<IpAddr>,
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
    /// Backends, by address, or by name where they have one.
    pub(super) found: Vec<String>,
    /// Likewise.
    pub(super) left: Vec<String>,
    /// Those that cannot be backends, each told once, and why.
    pub(super) refused: Vec<(String, &'static str)>,
}

impl Names {
    /// Of a name that nobody has been asked for.
    pub(super) fn new(name: &HostName, rules: Rules, now_ms: u64) -> Self {
        let wants = |family: Family| name.family == Family::Any || name.family == family;
        let ledger = |family| wants(family).then(|| Ledger::new(rules, now_ms));
        Self { ledgers: [ledger(Family::V4), ledger(Family::V6)], current: None, refused: BTreeSet::new() }
    }

    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.each_mut().for_each(|ledger| ledger.set_rules(rules));
    }

    /// What is to be asked.
    pub(super) fn families(&self) -> [bool; 2] {
        self.ledgers.each_ref().map(Option::is_some)
    }

    /// When it is to be asked.
    pub(super) fn next_ms(&self) -> u64 {
        self.each().map(Ledger::next_ms).min().unwrap_or(u64::MAX)
    }

    /// It is to be asked at once.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        self.each_mut().for_each(|ledger| ledger.hurry(now_ms));
    }

    /// A question of it is under way.
    pub(super) fn note_asked(&mut self, now_ms: u64) {
        // Whatever becomes of the question, it is asked again.
        self.each_mut().for_each(|ledger| ledger.note_asked(now_ms + LOST_MS));
    }

    /// Takes what came of its questions; counts answers that named somebody, that named nobody, and failures.
    pub(super) fn hear(
        &mut self,
        (looked, port): (Looked, Option<u16>),
        taken: Taken<'_>,
        answers: &mut [u64; 3],
        now_ms: u64,
        random: u64,
    ) -> Told {
        let mut told = Told::default();
        let mut refused = BTreeSet::new();
        for (ledger, heard) in self.ledgers.iter_mut().zip(looked.heard) {
            let (Some(ledger), Some(heard)) = (ledger, heard) else { continue };
            let heard = match heard {
                Heard::Members(members, ttl_ms) => {
                    let (good, bad) = sift(members, port, looked.may_be_loopback, taken);
                    for (ip, why) in bad {
                        if !self.refused.contains(&ip) {
                            told.refused.push((ip.to_string(), why));
                        }
                        refused.insert(ip);
                    }
                    if good.is_empty() {
                        Heard::Nobody(NONE_FIT.to_owned(), Some(ttl_ms))
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
            answers[kind] += 1;
            let change = ledger.hear(heard, now_ms, random);
            told.found.extend(change.found.iter().map(IpAddr::to_string));
            told.left.extend(change.left.iter().map(IpAddr::to_string));
        }
        self.refused = refused;
        told
    }

    /// What time brings: who left.
    pub(super) fn on_time(&mut self, now_ms: u64) -> Vec<String> {
        self.each_mut().flat_map(|ledger| ledger.on_time(now_ms).left).map(|ip| ip.to_string()).collect()
    }

    /// The addresses, in an order that is theirs.
    pub(super) fn found(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.each().flat_map(Ledger::members).copied()
    }

    /// The one address of a name that is one backend.
    pub(super) fn one(&mut self, hash_seed: &str, name: &str) -> Option<IpAddr> {
        let found: Vec<IpAddr> = self.found().collect();
        self.current = choice::one_of(self.current, &found, hash_seed, name);
        self.current
    }

    /// How it stands as a whole, since when, and why.
    pub(super) fn standing(&self) -> (Standing, u64, Option<&str>) {
        let each = || self.each().map(Ledger::standing);
        let has_some = self.found().next().is_some();
        // That a name has addresses of one kind alone is as it should be, also when it is remembered so.
        let is_beside =
            |standing: Standing| matches!(standing, Standing::Nobody | Standing::Waiting) && has_some;
        let is_well = each().any(|(standing, ..)| matches!(standing, Standing::Ok | Standing::Remembered));
        let worst = each().filter(|(standing, ..)| !(is_well && is_beside(*standing)));
        worst.max_by_key(|(standing, since_ms, _)| (*standing, *since_ms)).unwrap_or((
            Standing::Waiting,
            0,
            None,
        ))
    }

    /// Both questions have had an answer, or failed to.
    pub(super) fn is_heard(&self) -> bool {
        self.each().all(Ledger::is_heard)
    }

    /// When it answered last.
    pub(super) fn answered_ms(&self) -> Option<u64> {
        self.each().filter_map(Ledger::answered_ms).max()
    }

    /// Where a name that is one backend is.
    pub(super) fn current(&self) -> Option<IpAddr> {
        self.current
    }

    /// What the process before had heard.
    pub(super) fn remember(&mut self, before: &manifest::Source, why: Option<&String>) {
        for (ledger, family) in self.ledgers.iter_mut().zip([true, false]) {
            let own = before.found.iter().copied().filter(|ip| ip.is_ipv4() == family);
            if let Some(ledger) = ledger {
                ledger.remember(own, (before.answered_ms, why.cloned()));
            }
        }
        self.current = before.current;
    }

    fn each(&self) -> impl Iterator<Item = &Ledger<IpAddr>> {
        self.ledgers.iter().flatten()
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut Ledger<IpAddr>> {
        self.ledgers.iter_mut().flatten()
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

/// Why there is nobody where somebody was named.
pub(super) const NONE_FIT: &str = "none of its addresses can be a backend";
/// A question that nobody heard the end of.
pub(super) const LOST_MS: u64 = 10 * 60 * 1_000;
