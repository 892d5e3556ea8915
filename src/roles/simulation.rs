//! Simulation of clusters that fail over, by seeds: promotions, servers that insist on a role they lost, freezes, partitions,
//! crashes, late and lost answers; reloads, restarts and crashes of two balancers that remember different things.
//!
//! What a balancer was told is kept beside it in plain words, and after each answer what it believes is held against that.
//! `EVENKEEL_ROLES_SEEDS=n` runs so many seeds.

use super::*;
use crate::random::Random;

const STEP_MS: u64 = 10;
const TIMEOUT_MS: u64 = 200;
const INTERVAL_MS: u64 = 100;
const FALL: u8 = 2;
const UNREST_MS: u64 = 20_000;
const PEACE_MS: u64 = 2_000;

#[derive(Debug, Clone)]
struct Node {
    claim: Claim,
    number: u64,
    frozen_until: u64,
    dead_until: u64,
    starts_until: u64,
    full_until: u64,
    /// A primary that others have followed: it notices then.
    yields_at: Option<u64>,
    cut_until: [u64; 2],
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    Primary(u64),
    Replica,
    Former,
    Starting,
}

/// What a balancer was told by one server since it began.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    word: Option<Word>,
    silences: u8,
    is_down: bool,
    answers: bool,
    /// Its last question got no answer.
    is_silent: bool,
    /// The order of beginning to say that it is the primary.
    claimed: u64,
}

struct Flight {
    sent: u64,
    arrives: u64,
    returns: Option<(u64, Said)>,
    delay: u64,
    is_lost: bool,
}

struct Watcher {
    roles: Roles,
    /// Which node stands in which place.
    nodes: Vec<usize>,
    told: Vec<Told>,
    claims: u64,
    flights: Vec<Option<Flight>>,
    due: Vec<u64>,
    /// The highest generation that any node was heard to be the primary of.
    highest: u64,
}

struct World {
    random: Random,
    seed: u64,
    now: u64,
    with_numbers: bool,
    is_told: bool,
    rules: Rules,
    promotions: u64,
    nodes: Vec<Node>,
    watchers: Vec<Watcher>,
    writes: u64,
    changes: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + below(&mut random, 4);
        let with_numbers = seed % 4 != 3;
        let rules = Rules {
            max_lag_ms: None,
            max_lag_bytes: None,
            contested: Contested::Refuse,
            majority: seed % 8 == 5,
            writers: Writers::One,
            rise: 2,
        };
        let node = |at: usize| Node {
            claim: if at == 0 { Claim::Primary } else { Claim::Replica },
            number: 1,
            frozen_until: 0,
            dead_until: 0,
            starts_until: 0,
            full_until: 0,
            yields_at: None,
            cut_until: [0; 2],
        };
        let watcher = |_| Watcher {
            roles: Roles::new(rules, count, Memory::default()),
            nodes: (0..count).collect(),
            told: vec![Told::default(); count],
            claims: 0,
            flights: (0..count).map(|_| None).collect(),
            due: vec![0; count],
            highest: 0,
        };
        let nodes = (0..count).map(node).collect();
        let watchers = (0..2).map(watcher).collect();
        Self {
            random,
            seed,
            now: 0,
            with_numbers,
            is_told: seed % 4 == 1,
            rules,
            promotions: 1,
            nodes,
            watchers,
            writes: 0,
            changes: 0,
        }
    }

    fn below(&mut self, most: u64) -> u64 {
        chance(&mut self.random, most)
    }

    fn pick(&mut self, of: usize) -> usize {
        below(&mut self.random, of)
    }

    fn run(&mut self) {
        while self.now < UNREST_MS {
            self.unrest();
            self.step();
        }
        self.make_peace();
        while self.now < UNREST_MS + PEACE_MS {
            self.step();
        }
        let primary = self.nodes.iter().position(|node| node.claim == Claim::Primary);
        for (at, watcher) in self.watchers.iter().enumerate() {
            let believed = watcher.roles.primary().map(|place| watcher.nodes[place]);
            assert_eq!(believed, primary, "seed {}: balancer {at} in peace: {:?}", self.seed, watcher.roles);
            let replicas = watcher.roles.standings().iter().filter(|one| one.is_replica()).count();
            assert_eq!(replicas, watcher.nodes.len() - 1, "seed {}: {:?}", self.seed, watcher.roles);
        }
    }

    /// Something may befall somebody.
    fn unrest(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at]
                .yields_at
                .is_some_and(|due| due <= self.now && self.nodes[at].frozen_until <= self.now)
            {
                (self.nodes[at].claim, self.nodes[at].yields_at) = (Claim::Replica, None);
                self.nodes[at].number = self.promotions;
            }
        }
        if self.below(40) != 0 {
            return;
        }
        let at = self.pick(self.nodes.len());
        let until = self.now + 50 + self.below(3_000);
        match self.below(10) {
            0 | 1 => self.promote(at),
            2 => self.nodes[at].frozen_until = until,
            3 => (self.nodes[at].dead_until, self.nodes[at].starts_until) = (until, until + 200),
            4 | 5 => {
                let watcher = self.pick(2);
                self.nodes[at].cut_until[watcher] = until;
            }
            6 => self.nodes[at].cut_until = [until; 2],
            7 => self.nodes[at].full_until = until,
            8 => {
                let watcher = self.pick(2);
                self.restart(watcher);
            }
            _ => {
                let watcher = self.pick(2);
                self.reload(watcher);
            }
        }
    }

    fn promote(&mut self, at: usize) {
        // Now and then two are promoted at once, to the same number.
        if self.promotions == 1 || self.below(8) != 0 {
            self.promotions += 1;
        }
        let number = self.promotions;
        for other in 0..self.nodes.len() {
            if other != at && self.nodes[other].claim == Claim::Primary {
                // Some hear of it before, some late.
                let later = if self.below(2) == 0 { 0 } else { self.below(4_000) };
                self.nodes[other].yields_at = Some(self.now + later);
            } else if other != at {
                self.nodes[other].number = number;
            }
        }
        let node = &mut self.nodes[at];
        (node.claim, node.number, node.yields_at) = (Claim::Primary, number, None);
    }

    /// A balancer goes on as another process, or begins with what it remembers.
    fn restart(&mut self, at: usize) {
        let is_handover = self.below(2) == 0;
        let (rules, now) = (self.rules, self.now);
        let watcher = &mut self.watchers[at];
        let memory = watcher.roles.memory().clone();
        let count = watcher.nodes.len();
        watcher.roles = if is_handover {
            let known = (0..count).map(|place| watcher.roles.known(place)).collect();
            Roles::resumed(rules, known, watcher.roles.primary(), memory, now)
        } else {
            watcher.told = vec![Told::default(); count];
            Roles::new(rules, count, memory)
        };
        watcher.flights = (0..count).map(|_| None).collect();
        watcher.due = vec![now; count];
        for told in &mut watcher.told {
            // Checks begin anew.
            told.silences = 0;
        }
        self.look(at);
    }

    /// Another order, and one of the servers is new to it.
    fn reload(&mut self, at: usize) {
        let count = self.nodes.len();
        let (turn, fresh) = (self.pick(count), self.pick(count * 2));
        let (rules, now) = (self.rules, self.now);
        let watcher = &mut self.watchers[at];
        let count = watcher.nodes.len();
        let places: Vec<Option<usize>> =
            (0..count).map(|place| Some((place + turn) % count).filter(|_| place != fresh)).collect();
        watcher.roles = watcher.roles.with_servers(rules, &places, now);
        watcher.nodes.rotate_left(turn);
        watcher.told.rotate_left(turn);
        watcher.flights.rotate_left(turn);
        watcher.due.rotate_left(turn);
        if fresh < count {
            (watcher.told[fresh], watcher.flights[fresh]) = (Told::default(), None);
        }
        self.look(at);
    }

    fn make_peace(&mut self) {
        let latest =
            self.nodes.iter().filter(|node| node.claim == Claim::Primary).map(|node| node.number).max();
        let first =
            self.nodes.iter().position(|node| node.claim == Claim::Primary && Some(node.number) == latest);
        let heard = self.watchers.iter().map(|watcher| watcher.highest).max();
        // Where the last primary is gone for good, somebody is promoted.
        let first = first.filter(|_| latest >= heard);
        let winner = first.unwrap_or(0);
        if first.is_none() {
            self.promotions += 1;
        }
        for (at, node) in self.nodes.iter_mut().enumerate() {
            (node.frozen_until, node.dead_until, node.starts_until, node.full_until) = (0, 0, 0, 0);
            (node.cut_until, node.yields_at) = ([0; 2], None);
            node.claim = if at == winner { Claim::Primary } else { Claim::Replica };
            node.number = self.promotions;
        }
    }

    fn step(&mut self) {
        self.now += STEP_MS;
        for watcher in 0..self.watchers.len() {
            for place in 0..self.nodes.len() {
                if let Some(said) = self.answer(watcher, place) {
                    self.hear(watcher, place, &said);
                }
            }
            if self.watchers[watcher].roles.primary().is_some() {
                self.writes += 1;
            }
        }
    }

    /// Moves a question on; tells what came of it when it is over.
    fn answer(&mut self, watcher: usize, place: usize) -> Option<Said> {
        let node_at = self.watchers[watcher].nodes[place];
        if self.watchers[watcher].flights[place].is_none() {
            if self.watchers[watcher].due[place] > self.now {
                return None;
            }
            let (there, back) = (self.below(60), self.below(60));
            let lost = self.below(50) == 0 && self.now < UNREST_MS;
            let pause =
                if self.watchers[watcher].roles.primary().is_some() { INTERVAL_MS } else { INTERVAL_MS / 4 };
            self.watchers[watcher].due[place] = self.now + pause + self.below(20);
            let flight = Flight {
                sent: self.now,
                arrives: self.now + there,
                returns: None,
                delay: back,
                is_lost: lost,
            };
            self.watchers[watcher].flights[place] = Some(flight);
        }
        let (now, with_numbers) = (self.now, self.with_numbers);
        let node = &self.nodes[node_at];
        let flight = self.watchers[watcher].flights[place].as_mut()?;
        let is_cut = node.cut_until[watcher] > now;
        if flight.returns.is_none() && flight.arrives <= now && !is_cut && node.frozen_until <= now {
            let said = if node.dead_until > now {
                Said::Nothing
            } else if node.starts_until > now {
                Said::Starting
            } else if node.full_until > now {
                Said::Full
            } else {
                // Somebody may be there who knows of the last promotion.
                let is_former = self.is_told && node.claim == Claim::Primary && node.number < self.promotions;
                let number = if is_former { self.promotions } else { node.number };
                let generation = Generation { lineage: "main".into(), number };
                Said::Role(Answer {
                    claim: if is_former { Claim::Former } else { node.claim },
                    generation: Some(generation).filter(|_| with_numbers),
                    position: None,
                })
            };
            flight.returns = Some((now + flight.delay, said));
        }
        let returned = flight.returns.as_ref().filter(|(at, _)| *at <= now && !flight.is_lost && !is_cut);
        let said = match returned {
            Some((_, said)) => said.clone(),
            None if now - flight.sent >= TIMEOUT_MS => Said::Nothing,
            None => return None,
        };
        self.watchers[watcher].flights[place] = None;
        Some(said)
    }

    fn hear(&mut self, at: usize, place: usize, said: &Said) {
        let watcher = &mut self.watchers[at];
        let before = watcher.roles.primary();
        let highest_before = watcher.highest;
        let told = &mut watcher.told[place];
        let claimed_before = matches!(told.word, Some(Word::Primary(_)));
        match said {
            Said::Role(answer) => {
                let number = answer.generation.as_ref().map_or(0, |generation| generation.number);
                told.word = Some(word(answer.claim, number, told.word));
                (told.silences, told.is_down, told.is_silent, told.answers) = (0, false, false, true);
                if answer.claim != Claim::Replica {
                    watcher.highest = watcher.highest.max(number);
                }
                if answer.claim == Claim::Primary && !claimed_before {
                    watcher.claims += 1;
                    told.claimed = watcher.claims;
                }
            }
            Said::Starting => {
                told.silences = told.silences.saturating_add(1);
                (told.word, told.is_down) = (Some(Word::Starting), told.silences >= FALL);
                told.is_silent = false;
                told.answers = !told.is_down;
            }
            Said::Full => {
                (told.silences, told.is_silent, told.is_down, told.answers) = (0, false, false, true);
            }
            Said::Nothing => {
                told.is_silent = true;
                told.silences = told.silences.saturating_add(1);
                if told.silences >= FALL {
                    (told.is_down, told.answers, told.word) = (true, false, None);
                }
            }
        }
        let (is_down, told) = (told.is_down, *told);
        watcher.roles.hear(place, said.clone(), is_down, self.now);
        if watcher.roles.primary() != before {
            self.changes += 1;
        }
        let seed = self.seed;
        let watcher = &self.watchers[at];
        let believed = watcher.roles.primary();
        let others_claim = watcher
            .told
            .iter()
            .enumerate()
            .any(|(other, told)| other != place && matches!(told.word, Some(Word::Primary(_))));
        if let Some(Word::Primary(number)) = told.word
            && matches!(said, Said::Role(_))
            && !self.rules.majority
        {
            // At the very answer, whatever the others have said and however silent they are.
            let is_later = self.with_numbers && number > highest_before;
            let is_alone = !others_claim && number >= watcher.highest;
            if is_later || is_alone {
                assert_eq!(believed, Some(place), "seed {seed} at {}: {:?}", self.now, watcher.roles);
            }
        }
        let says_nothing_new = *said == Said::Full || *said == Said::Nothing && !is_down;
        if says_nothing_new && before == Some(place) && !others_claim && !self.rules.majority {
            assert_eq!(believed, before, "seed {seed} at {}: one silence", self.now);
        }
        self.look(at);
    }

    /// Holds what a balancer believes against what it was told.
    fn look(&self, at: usize) {
        let (seed, now, watcher) = (self.seed, self.now, &self.watchers[at]);
        let standings = watcher.roles.standings();
        let why = || format!("seed {seed} at {now}, balancer {at}: {:?}\n{:?}", watcher.told, watcher.roles);
        assert!(standings.iter().filter(|one| one.is_primary()).count() <= 1, "{}", why());
        for (standing, told) in standings.iter().zip(&watcher.told) {
            if standing.is_primary() || standing.is_replica() {
                assert!(told.word.is_some(), "nobody asked it: {}", why());
            }
            assert!(!standing.is_replica() || told.word == Some(Word::Replica), "{}", why());
        }
        let speakers: Vec<usize> = (0..watcher.told.len())
            .filter(|place| watcher.told[*place].word == Some(Word::Primary(watcher.highest)))
            .filter(|place| !watcher.told[*place].is_silent)
            .collect();
        let is_latest = |place: usize| {
            let others = watcher.told.iter().filter(|told| matches!(told.word, Some(Word::Primary(_))));
            others.map(|told| told.claimed).max() == Some(watcher.told[place].claimed)
        };
        if let [only] = speakers[..]
            && is_latest(only)
            && !self.rules.majority
        {
            assert_eq!(watcher.roles.primary(), Some(only), "the others were silent: {}", why());
        }
        let Some(primary) = watcher.roles.primary() else { return };
        let Some(Word::Primary(number)) = watcher.told[primary].word else {
            panic!("it said that it is something else: {}", why())
        };
        assert!(number >= watcher.highest, "a later one was heard: {}", why());
        let mine = &watcher.told[primary];
        for (place, told) in watcher.told.iter().enumerate().filter(|(place, _)| *place != primary) {
            let Some(Word::Primary(other)) = told.word else { continue };
            let speaks = !told.is_silent;
            if other == number && speaks {
                // Two of one number: only the later to say so, against one that fell silent.
                panic!("{place} says so as well: {}", why());
            }
            if other == number && !mine.is_silent {
                assert!(mine.claimed > told.claimed, "the silent one came later: {}", why());
            }
        }
        self.majority_holds(at);
    }

    fn majority_holds(&self, at: usize) {
        let watcher = &self.watchers[at];
        let why = || format!("seed {} at {}, balancer {at}: {:?}", self.seed, self.now, watcher.roles);
        if self.rules.majority {
            let there = watcher.told.iter().filter(|told| told.answers).count();
            assert!(there * 2 > watcher.told.len(), "{}", why());
        }
    }
}

fn word(claim: Claim, number: u64, before: Option<Word>) -> Word {
    match (claim, before) {
        (Claim::Primary, _) => Word::Primary(number),
        (Claim::Replica, _) | (_, Some(Word::Replica)) => Word::Replica,
        _ => Word::Former,
    }
}

fn below(random: &mut Random, most: usize) -> usize {
    usize::try_from(chance(random, most as u64)).unwrap()
}

fn chance(random: &mut Random, most: u64) -> u64 {
    random.bits() % most
}

#[test]
fn no_write_goes_where_it_must_not_whatever_befalls_a_cluster() {
    let seeds =
        std::env::var("EVENKEEL_ROLES_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(256);
    let (mut writes, mut changes) = (0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        world.run();
        writes += world.writes;
        changes += world.changes;
    }
    assert!(changes > seeds * 20, "{changes}");
    assert!(writes > seeds * 1_000, "somebody is believed most of the time: {writes}");
}
