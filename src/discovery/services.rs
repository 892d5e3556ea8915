//! Services of a name (SRV): a ledger of hosts and ports, and for each host the one address that it has.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::choice::Taken;
use super::ledger::{Heard, Ledger, Rules};
use super::names::{LOST_MS, Looked, Names, Told};
use super::standing::Standing;
use crate::config::settings::{Addresses, Family, HostName, ServiceName};
use crate::dns::{self, Service};
use crate::manifest;

/// A host, and the port there; ports of a source that says its own are 0 here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    host: String,
    port: u16,
}

/// What came of a question for services.
#[derive(Debug)]
pub(super) struct LookedServices {
    /// Who there is.
    pub(super) heard: Heard<Target>,
    /// With what is said of each, in an order that is theirs.
    pub(super) offers: Vec<Service>,
    /// What came of the questions for their hosts.
    pub(super) addresses: Vec<(dns::Name, Looked)>,
}

/// What is known of a name's services.
#[derive(Debug)]
pub(super) struct Services {
    rules: Rules,
    ledger: Ledger<Target>,
    /// Priority and weight of each member.
    said: BTreeMap<Target, (u16, u16)>,
    hosts: BTreeMap<String, Names>,
}

/// One that may be a backend: its name, where it is, and what is said of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    pub(super) port: Option<u16>,
    pub(super) weight: u16,
    pub(super) tier: u8,
}

impl Target {
    /// Of a record.
    pub(super) fn of(service: &Service) -> Self {
        Self { host: service.target.to_string(), port: service.port }
    }
}

impl Services {
    /// Of a name that nobody has been asked for.
    pub(super) fn new(rules: Rules, now_ms: u64) -> Self {
        Self { rules, ledger: Ledger::new(rules, now_ms), said: BTreeMap::new(), hosts: BTreeMap::new() }
    }

    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.ledger.set_rules(rules);
        self.hosts.values_mut().for_each(|names| names.set_rules(rules));
    }

    /// When it is to be asked.
    pub(super) fn next_ms(&self) -> u64 {
        self.hosts.values().map(Names::next_ms).fold(self.ledger.next_ms(), u64::min)
    }

    /// It is to be asked at once.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        self.ledger.hurry(now_ms);
    }

    /// A question of it is under way.
    pub(super) fn note_asked(&mut self, now_ms: u64) {
        self.ledger.note_asked(now_ms + LOST_MS);
        self.hosts.values_mut().for_each(|names| names.note_asked(now_ms));
    }

    /// Takes what came of its questions.
    pub(super) fn hear(
        &mut self,
        looked: LookedServices,
        port: impl Fn(u16) -> Option<u16>,
        taken: Taken<'_>,
        answers: &mut [u64; 3],
        now_ms: u64,
        random: u64,
    ) -> Told {
        let mut told = Told::default();
        let kind = match &looked.heard {
            Heard::Members(..) => 0,
            Heard::Nobody(..) => 1,
            Heard::Failure(_) => 2,
        };
        answers[kind] += 1;
        // In the order of priorities: of two records of one target the first counts.
        let mut said = BTreeMap::new();
        for service in &looked.offers {
            said.entry(Target::of(service)).or_insert((service.priority, service.weight));
        }
        let change = self.ledger.hear(looked.heard, now_ms, random);
        self.said.append(&mut said);
        let members: BTreeSet<&Target> = self.ledger.members().collect();
        self.said.retain(|target, _| members.contains(target));
        let hosts: BTreeSet<&str> = members.iter().map(|target| &*target.host).collect();
        self.hosts.retain(|host, _| hosts.contains(&**host));
        for (host, looked) in looked.addresses {
            let host = host.to_string();
            if !hosts.contains(&*host) {
                continue;
            }
            // Which port it is does not matter to whether its address may be one: it is looked at for the first.
            let first = members.iter().find(|target| target.host == host).map(|target| target.port);
            let names = self.hosts.entry(host).or_insert_with(|| Names::new(&name_of(), self.rules, now_ms));
            let own = names.hear((looked, first.and_then(&port)), taken, &mut [0; 3], now_ms, random);
            told.refused.extend(own.refused);
        }
        told.found.extend(change.found.iter().map(|target| shown(&target.host, port(target.port))));
        told.left.extend(change.left.iter().map(|target| shown(&target.host, port(target.port))));
        told
    }

    /// What time brings: who left.
    pub(super) fn on_time(&mut self, now_ms: u64) -> Vec<String> {
        self.hosts.values_mut().for_each(|names| drop(names.on_time(now_ms)));
        let left = self.ledger.on_time(now_ms).left;
        left.iter().map(|target| shown(&target.host, Some(target.port))).collect()
    }

    /// Those whose address is known, in an order that is theirs. Each priority is a tier.
    pub(super) fn placed(
        &mut self,
        hash_seed: &str,
        first_tier: u8,
        port: impl Fn(u16) -> Option<u16>,
    ) -> Vec<Placed> {
        let members: Vec<Target> = self.ledger.members().cloned().collect();
        let said = |target: &Target| self.said.get(target).copied().unwrap_or((0, 1));
        let (priorities, weights): (Vec<u16>, Vec<u16>) = members.iter().map(said).unzip();
        let tiers = dns::tiers(&priorities, first_tier);
        let mut placed = Vec::new();
        for ((target, tier), weight) in members.iter().zip(tiers).zip(dns::scaled(&weights)) {
            let port = port(target.port);
            let name = shown(&target.host, port);
            let ip = self.hosts.get_mut(&target.host).and_then(|names| names.one(hash_seed, &name));
            placed.extend(ip.map(|ip| Placed { name, ip, port, weight, tier }));
        }
        placed
    }

    /// How it stands as a whole, since when, and why.
    pub(super) fn standing(&self) -> (Standing, u64, Option<&str>) {
        let is_placed = |names: &Names| names.found().next().is_some();
        let has_some = self.hosts.values().any(is_placed);
        // One host without an address says nothing of the others.
        let hosts = self.hosts.values().map(Names::standing);
        let hosts = hosts.filter(|(standing, ..)| !(has_some && *standing == Standing::Nobody));
        let all = std::iter::once(self.ledger.standing()).chain(hosts);
        all.max_by_key(|(standing, since_ms, _)| (*standing, *since_ms)).unwrap_or(self.ledger.standing())
    }

    /// There was an answer, or a failure.
    pub(super) fn is_heard(&self) -> bool {
        self.ledger.is_heard()
    }

    /// When it answered last.
    pub(super) fn answered_ms(&self) -> Option<u64> {
        self.ledger.answered_ms()
    }

    /// How many hosts and ports there are.
    pub(super) fn found(&self) -> usize {
        self.ledger.members().count()
    }

    /// What the next process is told.
    pub(super) fn export(&self) -> Vec<manifest::FoundBackend> {
        let priorities: Vec<u16> =
            self.ledger.members().map(|target| self.said.get(target).map_or(0, |said| said.0)).collect();
        let record = |(target, tier): (&Target, u8)| {
            let ip =
                self.hosts.get(&target.host).and_then(|names| names.current().or(names.found().next()))?;
            Some(manifest::FoundBackend {
                name: Some(target.host.clone()),
                ip,
                port: Some(target.port),
                weight: self.said.get(target).map(|said| said.1),
                tier: Some(tier),
                max_sessions: None,
                drains: None,
            })
        };
        self.ledger.members().zip(dns::tiers(&priorities, 0)).filter_map(record).collect()
    }

    /// What the process before had heard.
    pub(super) fn remember(&mut self, before: &manifest::Source, why: Option<&String>, now_ms: u64) {
        for record in &before.listed {
            let (Some(host), Some(port)) = (&record.name, record.port) else { continue };
            let target = Target { host: host.clone(), port };
            self.said.insert(target, (record.tier.unwrap_or(0).into(), record.weight.unwrap_or(1)));
            let mut names = Names::new(&name_of(), self.rules, now_ms);
            let own = manifest::Source {
                text: String::new(),
                found: vec![record.ip],
                current: Some(record.ip),
                answered_ms: before.answered_ms,
                failing_since_ms: None,
                listed: Vec::new(),
            };
            names.remember(&own, why);
            self.hosts.insert(host.clone(), names);
        }
        self.ledger.remember(self.said.keys().cloned(), (before.answered_ms, why.cloned()));
    }
}

/// A host of a service is one backend a port, whichever of its addresses that is.
fn name_of() -> HostName {
    HostName { host: String::new(), port: None, addresses: Addresses::One, family: Family::Any, name: None }
}

/// The port that a backend has, where its service says `said`: the file's, its own, or none.
pub(super) fn port_of(of: &ServiceName, ignores: bool, said: u16) -> Option<u16> {
    of.port.or((!ignores).then_some(said))
}

fn shown(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        keeps_on_empty: true,
        keep_for_ms: None,
        max_removed_percent: 50,
        refresh_min_ms: 1_000,
        refresh_max_ms: 60_000,
    };

    /// Services of `priority weight host port address`.
    fn looked(all: &[(u16, u16, &str, u16, &str)]) -> LookedServices {
        let mut offers = Vec::new();
        let mut addresses = Vec::new();
        for (priority, weight, host, port, ip) in all {
            let target = dns::Name::parse(host).unwrap();
            offers.push(Service {
                priority: *priority,
                weight: *weight,
                port: *port,
                target: target.clone(),
            });
            let v4 = match *ip {
                "" => Heard::Failure("SERVFAIL".into()),
                ip => Heard::Members([ip.parse().unwrap()].into(), 1_000),
            };
            let heard = [Some(v4), Some(Heard::Nobody("NODATA".into(), None))];
            addresses.push((target, Looked { heard, may_be_loopback: false }));
        }
        offers.sort();
        let heard = Heard::Members(offers.iter().map(Target::of).collect(), 1_000);
        LookedServices { heard, offers, addresses }
    }

    fn hear(services: &mut Services, all: &[(u16, u16, &str, u16, &str)], now_ms: u64) -> Told {
        let from = crate::config::settings::ConnectFrom::Any;
        let taken = Taken { networks: &[], needs_port: false, doors: &[], from: &from };
        services.hear(looked(all), Some, taken, &mut [0; 3], now_ms, 0)
    }

    fn all(services: &mut Services) -> Vec<String> {
        let shown = |one: Placed| format!("{} {} {} {}", one.name, one.ip, one.weight, one.tier);
        services.placed("seed", 1, Some).into_iter().map(shown).collect()
    }

    #[test]
    fn services_are_named_by_host_and_port_and_their_priorities_are_tiers() {
        let mut services = Services::new(RULES, 0);
        let told = hear(
            &mut services,
            &[
                (20, 1, "c.test", 2, "10.0.0.3"),
                (10, 600, "a.test", 1, "10.0.0.1"),
                (10, 300, "b.test", 1, "10.0.0.2"),
            ],
            0,
        );
        assert_eq!(told.found, ["a.test:1", "b.test:1", "c.test:2"]);
        let expected = ["a.test:1 10.0.0.1 150 1", "b.test:1 10.0.0.2 75 1", "c.test:2 10.0.0.3 1 2"];
        assert_eq!(all(&mut services), expected);
        assert_eq!(services.standing().0, Standing::Ok);

        let mut next = Services::new(RULES, 9_000);
        let before = manifest::Source {
            text: String::new(),
            found: Vec::new(),
            current: None,
            answered_ms: Some(8_000),
            failing_since_ms: None,
            listed: services.export(),
        };
        next.remember(&before, None, 9_000);
        assert_eq!(all(&mut next), expected);
        assert_eq!(next.standing().0, Standing::Remembered);
    }

    #[test]
    fn a_host_that_moves_keeps_its_place_and_one_that_is_not_found_keeps_its_address() {
        let mut services = Services::new(RULES, 0);
        hear(&mut services, &[(1, 1, "a.test", 1, "10.0.0.1")], 0);
        hear(&mut services, &[(1, 1, "a.test", 1, "")], 1_000);
        assert_eq!(all(&mut services), ["a.test:1 10.0.0.1 1 1"]);
        assert_eq!(services.standing(), (Standing::Failing, 1_000, Some("SERVFAIL")));
        for now_s in 2..=4 {
            hear(&mut services, &[(1, 1, "a.test", 1, "10.0.0.9")], now_s * 1_000);
        }
        assert_eq!(all(&mut services), ["a.test:1 10.0.0.1 1 1"]);
        hear(&mut services, &[(1, 1, "a.test", 1, "10.0.0.9")], 5_000);
        assert_eq!(all(&mut services), ["a.test:1 10.0.0.9 1 1"]);
    }

    #[test]
    fn one_that_an_answer_lacks_leaves_when_three_more_lack_it() {
        let mut services = Services::new(RULES, 0);
        let both = [(1, 1, "a.test", 1, "10.0.0.1"), (1, 1, "b.test", 1, "10.0.0.2")];
        hear(&mut services, &both, 0);
        for now_s in 1..=3 {
            assert!(hear(&mut services, &both[..1], now_s * 1_000).left.is_empty());
        }
        assert_eq!(hear(&mut services, &both[..1], 4_000).left, ["b.test:1"]);
        assert_eq!(all(&mut services).len(), 1);
        assert_eq!(services.hosts.len(), 1, "nothing is kept of who left");
    }
}
