//! The simulation: a heap of events, backends with a queue and some servers each, and what is seen of them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use evenkeel::balance::Member;
use evenkeel::balance::load::Load;

use super::rivals::Policy;
use super::scenes::Scene;

pub const BACKENDS: usize = 10;
pub const SERVERS: usize = 4;

/// What came of a run, or of several.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub failed_percent: f64,
}

impl Outcome {
    pub fn mean(all: impl ExactSizeIterator<Item = Self>) -> Self {
        let count = all.len() as f64;
        all.fold(Self::default(), |sum, one| Self {
            p50_ms: sum.p50_ms + one.p50_ms / count,
            p99_ms: sum.p99_ms + one.p99_ms / count,
            failed_percent: sum.failed_percent + one.failed_percent / count,
        })
    }
}

/// Random numbers of a seed (splitmix64).
pub struct Chance(u64);

impl Chance {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }

    /// The same number for the same three.
    pub fn of([one, two, three]: [u64; 3]) -> f64 {
        let mut chance =
            Self(one.wrapping_mul(1_000_003) ^ two.wrapping_mul(7_919) ^ three.wrapping_mul(104_729));
        chance.bits();
        chance.unit()
    }
}

/// What a balancer sees of a backend: what the program keeps, and what the rivals keep of the same events.
pub struct Seen {
    pub member: Member,
    peak_s: (f64, f64),
    pub response_s: f64,
    /// The response time for each that was owed.
    pub service_s: f64,
    /// How much was owed, and how long it took.
    recent: VecDeque<(u32, f64)>,
}

impl Seen {
    fn new(at: usize) -> Self {
        let load = Arc::new(Load::new(None));
        let member =
            Member { name: format!("b{at}").into(), weight: 1, tier: 0, up: false, out: false, load };
        Self { member, peak_s: (0.0, 0.0), response_s: 0.0, service_s: 0.0, recent: VecDeque::new() }
    }

    pub fn owed(&self) -> u32 {
        self.member.load.owed()
    }

    pub fn peak_now_s(&self, now_s: f64) -> f64 {
        self.peak_s.0 * ((self.peak_s.1 - now_s) / 10.0).exp()
    }

    /// The median of the five latest times with about so much in flight.
    pub fn latency_at_s(&self, in_flight: u32) -> f64 {
        let mut near: Vec<(u32, f64)> =
            self.recent.iter().map(|(owed, took_s)| (owed.abs_diff(in_flight), *took_s)).collect();
        near.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        near.truncate(5);
        near.sort_by(|one, other| one.1.total_cmp(&other.1));
        near.get(near.len() / 2).map_or(0.0, |(_, took_s)| *took_s)
    }

    /// A turn took so long, or was waited for so long in vain.
    fn observe(&mut self, now_s: f64, took_s: f64, owed: u32, in_vain: bool) {
        let (now_ns, took_ns) = (clock_us(now_s) * 1_000, (took_s * 1e9) as u64);
        if in_vain {
            self.member.load.observe_wait(now_ns, took_ns);
            if took_s < self.response_s {
                return;
            }
        } else {
            self.member.load.observe_answer(now_ns, took_ns);
        }
        let kept = ((self.peak_s.1 - now_s) / 10.0).exp();
        let peak_s =
            if took_s >= self.peak_s.0 { took_s } else { self.peak_s.0 * kept + took_s * (1.0 - kept) };
        self.peak_s = (peak_s, now_s);
        let mean = |before: f64, sample: f64| if before > 0.0 { before * 0.9 + sample * 0.1 } else { sample };
        self.response_s = mean(self.response_s, took_s);
        self.service_s = mean(self.service_s, took_s / f64::from(owed.max(1)));
        self.recent.push_back((owed, took_s));
        self.recent.drain(..self.recent.len().saturating_sub(16));
    }
}

/// A clock of microseconds, which is nowhere near zero.
pub fn clock_us(now_s: f64) -> u64 {
    1_000_000_000 + (now_s * 1e6) as u64
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrives,
    Finishes(usize),
    GivesUp(usize),
    Leaves(usize),
    /// Who stood still may go on.
    Looks,
}

struct Session {
    backend: usize,
    began_s: f64,
    turn: usize,
    asked_s: f64,
    /// What was owed when it asked, itself included.
    owed: u32,
    /// It owes no answer any more, and how that ended.
    over: Option<Over>,
    slowest_s: f64,
    work_s: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Over {
    Answered,
    GaveUp,
}

struct World<'a> {
    scene: &'a Scene,
    udp: bool,
    seed: u64,
    chance: Chance,
    pool: Vec<Seen>,
    queues: Vec<VecDeque<usize>>,
    busy: Vec<usize>,
    sessions: Vec<Session>,
    events: BinaryHeap<Reverse<(u64, usize)>>,
    kinds: Vec<Event>,
    latencies_s: Vec<f64>,
    failed: usize,
}

/// Runs a scene.
pub fn run(scene: &Scene, udp: bool, policy: &mut dyn Policy, seed: u64) -> Outcome {
    let mut world = World {
        scene,
        udp,
        seed,
        chance: Chance(seed),
        pool: (0..BACKENDS).map(Seen::new).collect(),
        queues: vec![VecDeque::new(); BACKENDS],
        busy: vec![0; BACKENDS],
        sessions: Vec::new(),
        events: BinaryHeap::new(),
        kinds: Vec::new(),
        latencies_s: Vec::new(),
        failed: 0,
    };
    let mut picks = Chance(seed ^ 0x55);
    world.at(0.0, Event::Arrives);
    world.at(LOOK_S, Event::Looks);
    let until_s = scene.measured_s.1 + GIVE_UP_S + 1.0;
    while let Some(Reverse((at_us, kind))) = world.events.pop() {
        let now_s = at_us as f64 / 1e6;
        if now_s > until_s {
            break;
        }
        match world.kinds[kind] {
            Event::Arrives => world.arrive(now_s, policy, &mut picks),
            Event::Finishes(session) => world.finish(now_s, session),
            Event::GivesUp(session) => world.give_up(now_s, session),
            Event::Leaves(session) => world.leave(now_s, session),
            Event::Looks => {
                (0..BACKENDS).for_each(|backend| world.serve(now_s, backend));
                world.at(now_s + LOOK_S, Event::Looks);
            }
        }
    }
    world.latencies_s.sort_by(f64::total_cmp);
    let count = world.latencies_s.len();
    let quantile = |part: f64| world.latencies_s[((count - 1) as f64 * part) as usize] * 1e3;
    Outcome {
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        failed_percent: world.failed as f64 * 100.0 / count as f64,
    }
}

impl World<'_> {
    fn at(&mut self, at_s: f64, event: Event) {
        self.kinds.push(event);
        self.events.push(Reverse(((at_s * 1e6) as u64, self.kinds.len() - 1)));
    }

    fn arrive(&mut self, now_s: f64, policy: &mut dyn Policy, picks: &mut Chance) {
        if now_s >= self.scene.measured_s.1 {
            return;
        }
        let burst = if (now_s * 2.0).fract() < 0.1 { 4.0 } else { 2.0 / 3.0 };
        let rate = self.scene.rate * if self.scene.bursts { burst } else { 1.0 };
        let next_s = now_s + self.chance.exponential(1.0 / rate);
        self.at(next_s, Event::Arrives);
        for (at, seen) in self.pool.iter_mut().enumerate() {
            seen.member.up = now_s >= (self.scene.joins_s)(at);
        }
        let backend = policy.pick(now_s, picks, &self.pool);
        assert!(self.pool[backend].member.load.try_take());
        let work_s = (self.scene.work)(&mut self.chance, 0);
        let session = self.sessions.len();
        self.sessions.push(Session {
            backend,
            began_s: now_s,
            turn: 0,
            asked_s: now_s,
            owed: 0,
            over: None,
            slowest_s: 0.0,
            work_s,
        });
        self.ask(now_s, session);
        self.at(now_s + GIVE_UP_S, Event::GivesUp(session));
    }

    fn ask(&mut self, now_s: f64, session: usize) {
        let one = &mut self.sessions[session];
        let load = &self.pool[one.backend].member.load;
        load.ask(clock_us(now_s));
        (one.asked_s, one.owed) = (now_s, load.owed());
        let backend = one.backend;
        self.queues[backend].push_back(session);
        self.serve(now_s, backend);
    }

    fn serve(&mut self, now_s: f64, backend: usize) {
        while self.busy[backend] < SERVERS
            && let Some(&session) = self.queues[backend].front()
        {
            let slowness = (self.scene.slowness)(backend, now_s, self.seed);
            let one = &self.sessions[session];
            if one.over.is_none() && slowness.is_infinite() {
                return;
            }
            self.queues[backend].pop_front();
            if one.over.is_some() {
                continue;
            }
            // A login is done before the slow part begins.
            let is_login = self.scene.turns > 1 && one.turn == 0;
            let takes_s = one.work_s * if is_login { 1.0 } else { slowness };
            self.busy[backend] += 1;
            self.at(now_s + takes_s, Event::Finishes(session));
        }
    }

    fn finish(&mut self, now_s: f64, session: usize) {
        let backend = self.sessions[session].backend;
        self.busy[backend] -= 1;
        let one = &mut self.sessions[session];
        if one.over.is_none() {
            let took_s = now_s - one.asked_s;
            let seen = &mut self.pool[backend];
            seen.member.load.settle(clock_us(one.asked_s));
            // One for each session and second, and the slower ones behind it.
            if took_s > one.slowest_s {
                one.slowest_s = took_s;
                seen.observe(now_s, took_s, one.owed, false);
            }
            one.turn += 1;
            if one.turn < self.scene.turns {
                one.work_s = (self.scene.work)(&mut self.chance, one.turn);
                self.ask(now_s, session);
            } else {
                self.end(now_s, session, Over::Answered);
                let idle_s = if self.udp { FLOW_IDLE_S } else { self.chance.exponential(IDLE_S) };
                self.at(now_s + idle_s, Event::Leaves(session));
            }
        }
        self.serve(now_s, backend);
    }

    fn give_up(&mut self, now_s: f64, session: usize) {
        if self.sessions[session].over.is_some() {
            return;
        }
        self.end(now_s, session, Over::GaveUp);
        // A flow whose client went away looks like one that waits.
        if self.udp {
            self.at(now_s + FLOW_IDLE_S - GIVE_UP_S, Event::Leaves(session));
        } else {
            self.leave(now_s, session);
        }
    }

    fn end(&mut self, now_s: f64, session: usize, over: Over) {
        let one = &mut self.sessions[session];
        one.over = Some(over);
        if one.began_s >= self.scene.measured_s.0 {
            let gave_up = over == Over::GaveUp;
            self.latencies_s.push(if gave_up { GIVE_UP_S } else { now_s - one.began_s });
            self.failed += usize::from(gave_up);
        }
    }

    fn leave(&mut self, now_s: f64, session: usize) {
        let one = &self.sessions[session];
        let seen = &mut self.pool[one.backend];
        seen.member.load.give_back();
        if one.over == Some(Over::GaveUp) {
            seen.member.load.settle(clock_us(one.asked_s));
            seen.observe(now_s, now_s - one.asked_s, one.owed, true);
        }
    }
}

const GIVE_UP_S: f64 = 2.0;
/// A session after its last answer, on average.
const IDLE_S: f64 = 0.1;
/// A flow after its last datagram.
const FLOW_IDLE_S: f64 = 5.0;
const LOOK_S: f64 = 0.005;
