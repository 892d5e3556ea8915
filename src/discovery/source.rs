//! One source of a pool: what is known of it, and the backends that come of that.
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::before::Remembered;
use super::choice::{self, Taken};
use super::ledger::Rules;
use super::names::{Looked, NONE_FIT, Names, Told};
use super::services::{LookedServices, Placed, Services, port_of};
use super::standing::Standing;
use super::watch::{Answer, Listed};
use super::whole::{Whole, shown};
use crate::config::settings::{
    Addresses, Backend, Discovery, Dns, HostName, Ignored, OnEmpty, Source, SourceKind,
};
use crate::durations::age;
use crate::manifest;

/// A source as it stands.
#[derive(Debug)]
pub(super) struct Entry {
    /// What the file says of it.
    pub(super) source: Source,
    known: Known,
    /// It is being asked.
    pub(super) is_asked: bool,
    /// Those of a whole list that nobody may be sent to, as they were told last.
    refused: BTreeSet<String>,
    /// Answers that named somebody, that named nobody, and failures.
    pub(super) answers: [u64; 3],
}

#[derive(Debug)]
enum Known {
    Names(Names),
    Services(Services),
    Whole(Whole),
}

/// What is asked by DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// The addresses of a name, of these families.
    Addresses(String, [bool; 2]),
    /// The services of a name.
    Services(String),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Came {
    /// Of addresses.
    Addresses(Looked),
    /// Of services.
    Services(LookedServices),
}

impl Entry {
    /// One that has heard nothing.
    pub(super) fn new(source: &Source, discovery: &Discovery, dns: &Dns, now_ms: u64) -> Self {
        let rules = rules(discovery, dns);
        let known = match &source.from {
            SourceKind::Name(name) => Known::Names(Names::new(name, rules, now_ms)),
            SourceKind::Services(_) => Known::Services(Services::new(rules, now_ms)),
            _ => Known::Whole(Whole::new(rules, now_ms)),
        };
        Self { source: source.clone(), known, is_asked: false, refused: BTreeSet::new(), answers: [0; 3] }
    }

    /// The file says it as before, and of the pool perhaps something else.
    pub(super) fn follow(&mut self, source: &Source, discovery: &Discovery, dns: &Dns) {
        self.source = source.clone();
        let rules = rules(discovery, dns);
        match &mut self.known {
            Known::Names(names) => names.set_rules(rules),
            Known::Services(services) => services.set_rules(rules),
            Known::Whole(whole) => whole.set_rules(rules),
        }
    }

    /// Is it the same source, so that what it has found stays?
    pub(super) fn is_same(&self, source: &Source) -> bool {
        match (&self.source.from, &source.from) {
            (SourceKind::Name(own), SourceKind::Name(other)) => {
                let of = |name: &HostName| (name.host.clone(), name.port, name.addresses, name.family);
                of(own) == of(other)
            }
            (SourceKind::Name(_), _) | (_, SourceKind::Name(_)) => false,
            _ => self.source.text == source.text,
        }
    }

    /// The question that it is asked by, if it is one of DNS.
    pub(super) fn question(&self) -> Option<Question> {
        match (&self.source.from, &self.known) {
            (SourceKind::Name(name), Known::Names(names)) => {
                Some(Question::Addresses(name.host.clone(), names.families()))
            }
            (SourceKind::Services(of), _) => Some(Question::Services(of.name.clone())),
            _ => None,
        }
    }

    /// When it is to be asked, or to be told to hurry; `None`: it is asked, and tells by itself.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match &self.known {
            Known::Names(names) => (!self.is_asked).then(|| names.next_ms()),
            Known::Services(services) => (!self.is_asked).then(|| services.next_ms()),
            Known::Whole(whole) if self.is_asked => whole.hurry_ms(),
            Known::Whole(whole) => Some(whole.ask_ms()),
        }
    }

    /// When it is asked next, for people; `None`: it tells by itself.
    pub(super) fn next_ms(&self) -> Option<u64> {
        match &self.known {
            Known::Names(names) => Some(names.next_ms()),
            Known::Services(services) => Some(services.next_ms()),
            Known::Whole(whole) => whole.next_ms(),
        }
    }

    /// It is to be asked at once.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        match &mut self.known {
            Known::Names(names) => names.hurry(now_ms),
            Known::Services(services) => services.hurry(now_ms),
            Known::Whole(whole) => whole.hurry(now_ms),
        }
    }

    /// A question of it is under way, or one that was under way is told to hurry.
    pub(super) fn note_asked(&mut self, now_ms: u64) {
        match &mut self.known {
            Known::Names(names) => names.note_asked(now_ms),
            Known::Services(services) => services.note_asked(now_ms),
            Known::Whole(whole) if self.is_asked => whole.note_hurried(),
            Known::Whole(_) => {}
        }
        self.is_asked = true;
    }

    /// Takes what came of its questions.
    pub(super) fn hear(&mut self, came: Came, taken: Taken<'_>, now_ms: u64, random: u64) -> Told {
        self.is_asked = false;
        let ignores = self.source.ignore.contains(&Ignored::Port);
        match (&mut self.known, &self.source.from, came) {
            (Known::Names(names), SourceKind::Name(name), Came::Addresses(looked)) => {
                names.hear((looked, name.port), taken, &mut self.answers, now_ms, random)
            }
            (Known::Services(services), SourceKind::Services(of), Came::Services(looked)) => {
                let port = |said| port_of(of, ignores, said);
                services.hear(looked, port, taken, &mut self.answers, now_ms, random)
            }
            _ => Told::default(),
        }
    }

    /// Takes what one says that tells the whole. `pause_ms` is for how long it is left alone after a failure, where it says so.
    pub(super) fn hear_whole(
        &mut self,
        (answer, may_be_loopback, pause_ms): (Answer, bool, Option<u64>),
        taken: Taken<'_>,
        now_ms: u64,
        random: u64,
    ) -> Told {
        self.is_asked = false;
        let Known::Whole(whole) = &mut self.known else { return Told::default() };
        let all = match answer {
            Answer::Listed(all) => all,
            Answer::Failure(why) => {
                self.answers[2] += 1;
                let left = whole.fail(why, (now_ms, pause_ms), random).left;
                return Told { left, ..Told::default() };
            }
        };
        let nobody = if all.is_empty() { "it names nobody" } else { NONE_FIT };
        let ignores_port = self.source.ignore.contains(&Ignored::Port);
        let (mut told, mut refused, mut good) = (Told::default(), BTreeSet::new(), Vec::new());
        for one in all {
            let one = Listed { ip: one.ip.to_canonical(), name: one.name.as_deref().and_then(named), ..one };
            let port = one.port.filter(|_| !ignores_port);
            match choice::refusal(one.ip, port, may_be_loopback, taken) {
                None => good.push(one),
                Some(why) => {
                    let name = shown(one.ip, one.port);
                    if !self.refused.contains(&name) {
                        told.refused.push((name.clone(), why));
                    }
                    refused.insert(name);
                }
            }
        }
        self.refused = refused;
        self.answers[usize::from(good.is_empty())] += 1;
        let change = whole.hear(good, nobody, now_ms);
        (told.found, told.left) = (change.found, change.left);
        told
    }

    /// What time brings.
    pub(super) fn on_time(&mut self, now_ms: u64) -> Told {
        let left = match &mut self.known {
            Known::Names(names) => names.on_time(now_ms),
            Known::Services(services) => services.on_time(now_ms),
            Known::Whole(whole) => whole.on_time(now_ms).left,
        };
        Told { left, ..Told::default() }
    }

    /// The backends, in an order that is theirs.
    pub(super) fn backends(&mut self, hash_seed: &str) -> Vec<Backend> {
        let source = &self.source;
        match (&mut self.known, &source.from) {
            (Known::Names(names), SourceKind::Name(name)) => {
                let backend = |own: String, ip: IpAddr| Backend {
                    name: own,
                    ip,
                    port: name.port,
                    weight: source.weight,
                    tier: source.tier,
                    max_sessions: source.max_sessions,
                    drains: None,
                };
                match name.addresses {
                    Addresses::All => names.found().map(|ip| backend(shown(ip, name.port), ip)).collect(),
                    Addresses::One => {
                        let own = name.name.as_ref().unwrap_or(&source.text);
                        let one = names.one(hash_seed, own);
                        one.map(|ip| backend(own.clone(), ip)).into_iter().collect()
                    }
                }
            }
            (Known::Whole(whole), _) => whole.members().map(|listed| made_of(listed, source)).collect(),
            (Known::Services(services), SourceKind::Services(of)) => {
                let port = |said| port_of(of, source.ignore.contains(&Ignored::Port), said);
                services
                    .placed(hash_seed, source.tier, port)
                    .into_iter()
                    .map(|one| placed(one, source))
                    .collect()
            }
            (Known::Names(_) | Known::Services(_), _) => Vec::new(),
        }
    }

    /// What a backend is called that an answer speaks of; nothing of an address of what is one backend in any case.
    pub(super) fn called(&self, one: &str) -> Option<String> {
        match &self.source.from {
            SourceKind::Name(name) if name.addresses == Addresses::One => None,
            SourceKind::Name(name) => Some(one.parse().map_or(one.to_owned(), |ip| shown(ip, name.port))),
            _ => Some(one.to_owned()),
        }
    }

    /// How many there are.
    pub(super) fn found(&self) -> usize {
        match &self.known {
            Known::Names(names) => names.found().count(),
            Known::Services(services) => services.found(),
            Known::Whole(whole) => whole.members().count(),
        }
    }

    /// How it stands as a whole, since when, and why.
    pub(super) fn standing(&self) -> (Standing, u64, Option<&str>) {
        match &self.known {
            Known::Names(names) => names.standing(),
            Known::Services(services) => services.standing(),
            Known::Whole(whole) => whole.standing(),
        }
    }

    /// It has answered, or failed to.
    pub(super) fn is_heard(&self) -> bool {
        match &self.known {
            Known::Names(names) => names.is_heard(),
            Known::Services(services) => services.is_heard(),
            Known::Whole(whole) => whole.is_heard(),
        }
    }

    /// When it answered last.
    pub(super) fn answered_ms(&self) -> Option<u64> {
        match &self.known {
            Known::Names(names) => names.answered_ms(),
            Known::Services(services) => services.answered_ms(),
            Known::Whole(whole) => whole.answered_ms(),
        }
    }

    /// What the next process is told.
    pub(super) fn export(&self) -> manifest::Source {
        let (standing, since_ms, _) = self.standing();
        let (found, current, listed) = match &self.known {
            Known::Names(names) => (names.found().collect(), names.current(), Vec::new()),
            Known::Services(services) => (Vec::new(), None, services.export()),
            Known::Whole(whole) => (Vec::new(), None, whole.members().map(record).collect()),
        };
        manifest::Source {
            text: self.source.text.clone(),
            found,
            current,
            answered_ms: self.answered_ms(),
            failing_since_ms: (standing == Standing::Failing).then_some(since_ms),
            listed,
        }
    }

    /// What a process before had heard, as far as it may be a backend still.
    pub(super) fn remember(&mut self, known: &Remembered, taken: Taken<'_>, now_ms: u64) {
        let mut before = known.source.clone();
        // Whoever had said it might speak of loopback, or had not.
        let may_be = |ip: IpAddr, port| choice::refusal(ip, port, true, taken).is_none();
        before.found.retain(|ip| may_be(*ip, Some(0)));
        before.listed.retain(|one| may_be(one.ip, one.port));
        let why = known.age_s.map(|age_s| format!("found {} before this process began", age(age_s)));
        match &mut self.known {
            Known::Names(names) => names.remember(&before, why.as_ref()),
            Known::Services(services) => services.remember(&before, why.as_ref(), now_ms),
            Known::Whole(whole) => {
                whole.remember(before.listed.iter().map(listed), (before.answered_ms, why));
            }
        }
    }
}

/// What the source says, and the file where it says nothing or is not listened to.
fn made_of(listed: &Listed, source: &Source) -> Backend {
    let hears = |what: Ignored| !source.ignore.contains(&what);
    let port = listed.port.filter(|_| hears(Ignored::Port));
    Backend {
        name: listed.name.clone().unwrap_or_else(|| shown(listed.ip, port)),
        ip: listed.ip,
        port,
        weight: listed.weight.filter(|_| hears(Ignored::Weight)).unwrap_or(source.weight),
        tier: listed.tier.filter(|_| hears(Ignored::Tier)).unwrap_or(source.tier),
        max_sessions: listed.max_sessions.filter(|_| hears(Ignored::MaxSessions)).or(source.max_sessions),
        drains: listed.drains.clone(),
    }
}

/// The same of a service, whose name is its host and port.
fn placed(one: Placed, source: &Source) -> Backend {
    let hears = |what: Ignored| !source.ignore.contains(&what);
    Backend {
        name: named(&one.name).unwrap_or(one.name),
        ip: one.ip,
        port: one.port,
        weight: if hears(Ignored::Weight) { one.weight } else { source.weight },
        tier: if hears(Ignored::Tier) { one.tier } else { source.tier },
        max_sessions: source.max_sessions,
        drains: None,
    }
}

/// The name without characters that commands, logs and labels could not take; nothing of one that is empty.
fn named(name: &str) -> Option<String> {
    let fits = |c: char| {
        let is_bad = c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '/' | '\\');
        if is_bad { '-' } else { c }
    };
    let name: String = name.chars().take(NAME_MAX).map(fits).collect();
    (!name.is_empty()).then_some(name)
}

fn record(listed: &Listed) -> manifest::FoundBackend {
    manifest::FoundBackend {
        name: listed.name.clone(),
        ip: listed.ip,
        port: listed.port,
        weight: listed.weight,
        tier: listed.tier,
        max_sessions: listed.max_sessions,
        drains: listed.drains.clone(),
    }
}

fn listed(record: &manifest::FoundBackend) -> Listed {
    Listed {
        name: record.name.clone(),
        ip: record.ip,
        port: record.port,
        weight: record.weight,
        tier: record.tier,
        max_sessions: record.max_sessions,
        drains: record.drains.clone(),
    }
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

/// Characters of a name, as in the file.
const NAME_MAX: usize = 128;

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
