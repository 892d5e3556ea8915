//! The flow table against a shadow model: seeded runs on a virtual clock.
//!
//! `EVENKEEL_FLOW_SEED=n cargo test flow::simulation` replays one seed; `EVENKEEL_FLOW_SEEDS=n` runs so many.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Admission, Draining, FlowId, FlowKey, Flows, Heard, Terms};
use crate::limits::{PerSource, Permits, SessionLimits};
use crate::reason::Reason;

#[test]
fn the_table_is_its_model_for_every_seed() {
    let one = std::env::var("EVENKEEL_FLOW_SEED").ok().map(|seed| seed.parse::<u64>().expect("a seed"));
    let count =
        std::env::var("EVENKEEL_FLOW_SEEDS").ok().map_or(SEEDS, |count| count.parse().expect("a number"));
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    let (mut begun, mut words) = (0, HashMap::new());
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let Ok((opened, reasons)) = outcome else {
            panic!("seed {seed} failed; EVENKEEL_FLOW_SEED={seed} replays it");
        };
        begun += opened;
        reasons.into_iter().for_each(|reason| *words.entry(reason.word()).or_insert(0_u64) += 1);
    }
    if one.is_none() {
        // A simulation that never gets anywhere proves nothing.
        assert!(begun > 10_000, "{begun}");
        for reason in ["idle", "lifetime", "responses", "backend_down", "no_backend", "shutdown"] {
            assert!(words.contains_key(reason), "{reason} never happened: {words:?}");
        }
        for shed in ["shed drained", "shed denied", "shed limit_sessions", "shed limit_sessions_per_source"] {
            assert!(words.contains_key(&shed[5..]), "{shed} never happened: {words:?}");
        }
    }
}

/// A flow as the model has it.
struct Shadow {
    key: FlowKey,
    terms: usize,
    backend: u32,
    began_ms: u64,
    last_ms: u64,
    owed: u32,
    since_pick: u32,
    rehomed: u32,
    to_backend: u64,
    to_client: u64,
}

struct World {
    random: u64,
    now_ms: u64,
    swept_ms: u64,
    flows: Flows,
    terms: Vec<Arc<Terms>>,
    /// What the model believes the limits to be: listener, per source.
    caps: Vec<(u32, u32)>,
    process: Arc<Permits>,
    live: HashMap<FlowId, Shadow>,
    by_key: HashMap<FlowKey, FlowId>,
    /// Ended by the model's reckoning, not handed out yet.
    ending: HashMap<FlowId, (Shadow, Option<Reason>)>,
    draining: bool,
    opened: u64,
    closed: u64,
    reasons: Vec<Reason>,
}

fn run(seed: u64) -> (u64, Vec<Reason>) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
        world.audit();
    }
    world.flows.end_all(Reason::Shutdown);
    let left: Vec<FlowId> = world.live.keys().copied().collect();
    left.into_iter().for_each(|id| world.expect_end(id, Some(Reason::Shutdown)));
    world.take_ended(usize::MAX);
    world.audit();
    assert_eq!((world.live.len(), world.ending.len(), world.process.taken()), (0, 0, 0));
    assert_eq!(world.opened, world.closed);
    assert!(world.terms.iter().all(|terms| terms.limits.sources().unwrap().taken() == 0));
    (world.opened, world.reasons)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        let now_ms = draw(&mut random, 1 << 40);
        let process = Arc::new(Permits::new(Some(40)));
        let caps = vec![(24, 6), (30, 9), (12, 3)];
        let terms = caps.iter().enumerate().map(|(number, (listener, source))| {
            let sources = PerSource::new([seed as u8; 16], Some(*source), 4_096);
            Arc::new(Terms {
                idle_ms: [Some(1 + draw(&mut random, 90_000)), Some(500_000), Some(2_000)][number],
                lifetime_ms: [None, Some(200_000), None][number],
                responses: [None, None, NonZeroU32::new(1 + draw(&mut random, 3) as u32)][number],
                requests: [NonZeroU32::new(1 + draw(&mut random, 5) as u32), None, None][number],
                limits: Arc::new(SessionLimits::new(
                    Some(Arc::clone(&process)),
                    Some(*listener),
                    Some(sources),
                )),
                draining: Draining::default(),
            })
        });
        let terms = terms.collect();
        let flows = Flows::new([!seed as u8; 16], now_ms);
        Self {
            random,
            now_ms,
            swept_ms: now_ms,
            flows,
            terms,
            caps,
            process,
            live: HashMap::new(),
            by_key: HashMap::new(),
            ending: HashMap::new(),
            draining: false,
            opened: 0,
            closed: 0,
            reasons: Vec::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        draw(&mut self.random, below)
    }

    fn step(&mut self) {
        match self.draw(100) {
            0..45 => self.client_sends(),
            45..65 => self.backend_answers(),
            65..85 => self.time_passes(),
            85..90 => self.backend_dies(),
            90..93 => self.limits_change(),
            93..99 => {
                let most = self.draw(6) as usize;
                self.take_ended(most);
            }
            // Late, so that most of the run has flows that begin.
            _ if self.opened > 150 && self.draw(12) == 0 => self.begin_to_drain(),
            _ => self.take_ended(usize::MAX),
        }
    }

    fn client_sends(&mut self) {
        let listener = self.draw(3) as usize;
        let client = ([192, 0, 2, self.draw(8) as u8], 1_000 + self.draw(10) as u16).into();
        let key = FlowKey { client, local: ([10, 0, 0, 1], 53 + listener as u16).into() };
        let denied = self.draw(20) == 0;
        let terms = Arc::clone(&self.terms[listener]);
        let (taken, memory) = (self.process.taken(), self.flows.bytes());
        let known = self.by_key.get(&key).copied();
        match self.flows.admit(&key, self.now_ms, &terms, || denied) {
            Admission::Known(id) => assert_eq!(Some(id), known),
            Admission::New(id) => {
                assert!(known.is_none() && !denied && !self.is_draining(listener));
                self.opens(id, key, listener);
            }
            Admission::Shed(reason) => {
                assert!(known.is_none(), "a known flow was shed");
                assert_eq!((self.process.taken(), self.flows.bytes()), (taken, memory));
                assert_eq!(reason, self.expected_shed(listener, &key, denied));
                self.reasons.push(reason);
                return;
            }
        }
        let id = self.by_key[&key];
        if known.is_none() && self.draw(15) == 0 {
            assert!(self.flows.end(id, Reason::NoBackend));
            return self.expect_end(id, Some(Reason::NoBackend));
        }
        let datagrams = 1 + self.draw(3) as u32;
        self.client_reaches(id, datagrams);
    }

    fn client_reaches(&mut self, id: FlowId, datagrams: u32) {
        let (mut left, now_ms) = (datagrams, self.now_ms);
        while left > 0 {
            let shadow = self.live.get_mut(&id).unwrap();
            let terms = &self.terms[shadow.terms];
            let room = terms.requests.map_or(left, |requests| left.min(requests.get() - shadow.since_pick));
            let may_go = self.flows.requests_left(id).map_or(left, |most| left.min(most));
            assert_eq!(may_go, room);
            if room == 0 {
                self.flows.picked_anew(id);
                shadow.since_pick = 0;
                continue;
            }
            self.flows.on_client(id, room, u64::from(room) * 10, now_ms);
            shadow.since_pick += room;
            shadow.owed += room * terms.responses.map_or(0, NonZeroU32::get);
            shadow.to_backend += u64::from(room);
            shadow.last_ms = shadow.last_ms.max(now_ms);
            left -= room;
        }
    }

    fn opens(&mut self, id: FlowId, key: FlowKey, terms: usize) {
        self.opened += 1;
        let (began_ms, backend) = (self.now_ms, self.draw(4) as u32);
        let shadow = Shadow {
            key,
            terms,
            backend,
            began_ms,
            last_ms: began_ms,
            owed: 0,
            since_pick: 0,
            rehomed: 0,
            to_backend: 0,
            to_client: 0,
        };
        assert!(self.live.insert(id, shadow).is_none() && self.by_key.insert(key, id).is_none());
        let shares_place = |other: &FlowId| other.index == id.index;
        assert!(!self.ending.keys().any(shares_place), "a place was reused before its end was taken");
    }

    /// Why a new flow cannot begin, by the model.
    fn expected_shed(&self, listener: usize, key: &FlowKey, denied: bool) -> Reason {
        let held = || self.live.values().chain(self.ending.values().map(|(shadow, _)| shadow));
        let here = || held().filter(|shadow| shadow.terms == listener);
        let (most, most_per_source) = self.caps[listener];
        if self.is_draining(listener) {
            Reason::Drained
        } else if denied {
            Reason::Denied
        } else if here().filter(|flow| flow.key.client.ip() == key.client.ip()).count()
            >= most_per_source as usize
        {
            Reason::LimitSessionsPerSource
        } else if here().count() >= most as usize {
            Reason::LimitSessions
        } else {
            assert!(held().count() >= 40, "shed without a reason");
            Reason::LimitProcess
        }
    }

    fn backend_answers(&mut self) {
        let Some(id) = self.some_live() else { return };
        let (datagrams, now_ms) = (1 + self.draw(2) as u32, self.now_ms);
        let heard = self.flows.on_backend(id, datagrams, u64::from(datagrams) * 100, now_ms);
        let shadow = self.live.get_mut(&id).unwrap();
        shadow.last_ms = shadow.last_ms.max(now_ms);
        shadow.to_client += u64::from(datagrams);
        let was_owed = shadow.owed;
        shadow.owed = was_owed.saturating_sub(datagrams);
        if was_owed > 0 && shadow.owed == 0 {
            assert_eq!(heard, Heard::Complete);
            assert_eq!(self.flows.on_backend(id, 1, 1, now_ms), Heard::Nobody);
            self.expect_end(id, Some(Reason::Responses));
        } else {
            assert_eq!(heard, Heard::On);
        }
    }

    fn time_passes(&mut self) {
        self.now_ms += match self.draw(40) {
            0 => self.draw(400_000),
            1 => 1 << self.draw(44),
            2..20 => self.draw(64),
            _ => self.draw(3_000),
        };
        // The clock of a caller may stand, or seem to go back by a little.
        let now_ms = if self.draw(30) == 0 { self.swept_ms } else { self.now_ms };
        let most = if self.draw(4) == 0 { 1 + self.draw(5) as usize } else { usize::MAX };
        let more = self.flows.sweep(now_ms, most);
        self.swept_ms = self.swept_ms.max(now_ms);
        let ended: Vec<FlowId> =
            self.live.keys().copied().filter(|id| self.flows.get(*id).is_none()).collect();
        for id in ended {
            let shadow = &self.live[&id];
            let (earliest_ms, _) = self.deadline(shadow);
            assert!(now_ms >= earliest_ms, "{id:?} ended {} ms early", earliest_ms - now_ms);
            self.expect_end(id, None);
        }
        if !more {
            for (id, shadow) in &self.live {
                let (_, latest_ms) = self.deadline(shadow);
                assert!(now_ms < latest_ms.saturating_add(64), "{id:?} is {} ms late", now_ms - latest_ms);
            }
            let wake_ms = self.flows.next_wake_ms();
            assert_eq!(wake_ms.is_some(), !self.live.is_empty());
        }
    }

    /// The earliest and the latest moment at which a silent flow ends: a lifetime is spread.
    fn deadline(&self, shadow: &Shadow) -> (u64, u64) {
        let terms = &self.terms[shadow.terms];
        let idle_ms = shadow.last_ms + terms.idle_ms.unwrap();
        let life = |tenths: u64| terms.lifetime_ms.map_or(u64::MAX, |ms| shadow.began_ms + ms / 10 * tenths);
        (idle_ms.min(life(9)), idle_ms.min(life(11)))
    }

    fn backend_dies(&mut self) {
        let (dead, policy) = (self.draw(4) as u32, self.draw(3));
        let mut hit: Vec<FlowId> =
            self.live.iter().filter(|(_, shadow)| shadow.backend == dead).map(|(id, _)| *id).collect();
        hit.sort_by_key(|id| id.pack());
        for id in hit {
            match policy {
                0 => {
                    assert!(self.flows.end(id, Reason::BackendDown));
                    self.expect_end(id, Some(Reason::BackendDown));
                }
                1 => {
                    let resent = self.draw(2) as u32;
                    self.flows.rehomed(id, resent);
                    let shadow = self.live.get_mut(&id).unwrap();
                    shadow.rehomed += 1;
                    shadow.since_pick = resent;
                    if let Some(responses) = self.terms[shadow.terms].responses {
                        shadow.owed = resent * responses.get();
                    }
                    shadow.backend = (dead + 1) % 4;
                }
                _ => {}
            }
        }
    }

    fn limits_change(&mut self) {
        let listener = self.draw(3) as usize;
        let (most, per_source) = (1 + self.draw(30) as u32, 1 + self.draw(10) as u32);
        self.terms[listener].limits.listener().set_most(Some(most));
        self.terms[listener].limits.sources().unwrap().set_most(Some(per_source));
        self.caps[listener] = (most, per_source);
    }

    fn begin_to_drain(&mut self) {
        match self.draw(4) as usize {
            3 => {
                self.flows.drain();
                self.draining = true;
            }
            listener => self.terms[listener].draining.begin(),
        }
    }

    fn is_draining(&self, listener: usize) -> bool {
        self.draining || self.terms[listener].draining.is_on()
    }

    fn expect_end(&mut self, id: FlowId, reason: Option<Reason>) {
        let shadow = self.live.remove(&id).unwrap();
        self.by_key.remove(&shadow.key);
        assert!(self.ending.insert(id, (shadow, reason)).is_none());
    }

    fn take_ended(&mut self, most: usize) {
        for _ in 0..most {
            let Some(ended) = self.flows.take_ended() else { return assert!(self.ending.is_empty()) };
            let (shadow, reason) = self.ending.remove(&ended.id).expect("told twice, or never ended");
            assert!(reason.is_none_or(|reason| reason == ended.reason));
            if reason.is_none() {
                assert!(matches!(ended.reason, Reason::Idle | Reason::Lifetime));
            }
            let flow = ended.flow;
            assert_eq!(
                (flow.key, flow.rehomed, flow.began_ms),
                (shadow.key, shadow.rehomed, shadow.began_ms)
            );
            assert_eq!(
                (flow.to_backend.datagrams, flow.to_client.datagrams),
                (shadow.to_backend, shadow.to_client)
            );
            assert_eq!(
                (flow.to_backend.bytes, flow.to_client.bytes),
                (shadow.to_backend * 10, shadow.to_client * 100)
            );
            self.closed += 1;
            self.reasons.push(ended.reason);
        }
    }

    fn some_live(&mut self) -> Option<FlowId> {
        // In a fixed order, or a seed would not replay.
        let mut ids: Vec<FlowId> = self.live.keys().copied().collect();
        ids.sort_by_key(|id| id.pack());
        let chosen = self.draw(ids.len().max(1) as u64) as usize;
        ids.get(chosen).copied()
    }

    fn audit(&self) {
        assert_eq!(self.opened - self.closed, (self.live.len() + self.ending.len()) as u64);
        assert_eq!(self.flows.len(), self.live.len());
        assert_eq!(u64::from(self.process.taken()), self.opened - self.closed);
        assert!(self.process.taken() <= 40);
        let taken: u32 = self.terms.iter().map(|terms| terms.limits.listener().taken()).sum();
        assert_eq!(taken, self.process.taken());
    }
}

fn draw(random: &mut u64, below: u64) -> u64 {
    *random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    (*random >> 20) % below
}

const SEEDS: u64 = 256;
const STEPS: u32 = 3_000;
