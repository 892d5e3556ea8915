//! Ways to pick: the program's own, and the state of the art.

use std::collections::VecDeque;
use std::net::SocketAddr;

use evenkeel::balance::{Ask, Pick, Picker};
use evenkeel::config::settings::Balance;

use super::engine::{Chance, Seen};

/// Picks one of those that are in the pool.
pub trait Policy {
    fn pick(&mut self, now_s: f64, chance: &mut Chance, pool: &[Seen]) -> usize;
}

/// Makes one that has seen nothing yet.
pub type New = fn() -> Box<dyn Policy>;

/// The one that is held against the others stands last.
pub const POLICIES: [(&str, New); 6] = [
    ("round_robin", || Box::new(Own::new(Balance::RoundRobin))),
    ("least_connections", || Box::new(Own::new(Balance::LeastConnections))),
    ("peak-EWMA", || Box::new(PeakEwma)),
    ("C3", || Box::new(C3)),
    ("Prequal", || Box::new(Prequal::default())),
    ("least_busy", || Box::new(Own::new(Balance::LeastBusy))),
];

/// The program's.
struct Own {
    balance: Balance,
    picker: Option<(usize, Picker)>,
}

impl Own {
    fn new(balance: Balance) -> Self {
        Self { balance, picker: None }
    }
}

impl Policy for Own {
    fn pick(&mut self, now_s: f64, chance: &mut Chance, pool: &[Seen]) -> usize {
        let joined = pool.iter().filter(|one| one.member.up).count();
        let before = self.picker.take();
        let (_, picker) = match before {
            Some((count, picker)) if count == joined => self.picker.insert((count, picker)),
            before => {
                let members: Vec<_> = pool.iter().map(|one| one.member.clone()).collect();
                let previous = before.as_ref().map(|(_, picker)| picker);
                let picker = Picker::build(&self.balance, "evenkeel", false, &members, previous);
                self.picker.insert((joined, picker))
            }
        };
        let client = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let ask =
            Ask { client, random: chance.bits(), now_ns: super::engine::clock_us(now_s) * 1_000, tried: &[] };
        match picker.pick(&ask) {
            Pick::Member(index) => index as usize,
            other => unreachable!("{other:?}"),
        }
    }
}

/// Finagle's and linkerd's: of two, the smaller latency (a peak that fades) times what is owed.
struct PeakEwma;

impl Policy for PeakEwma {
    fn pick(&mut self, now_s: f64, chance: &mut Chance, pool: &[Seen]) -> usize {
        let joined = joined(pool);
        let one = joined[chance.below(joined.len())];
        let other = loop {
            let other = joined[chance.below(joined.len())];
            if other != one {
                break other;
            }
        };
        let cost = |at: usize| pool[at].peak_now_s(now_s).max(1e-6) * (f64::from(pool[at].owed()) + 1.0);
        if cost(other) < cost(one) { other } else { one }
    }
}

/// Suresh et al., NSDI 2015: response time less service time, and the cube of the queue times it.
struct C3;

impl Policy for C3 {
    fn pick(&mut self, _: f64, chance: &mut Chance, pool: &[Seen]) -> usize {
        let score = |at: usize| {
            let queue = 1.0 + f64::from(pool[at].owed());
            pool[at].response_s - pool[at].service_s + queue.powi(3) * pool[at].service_s
        };
        let joined = joined(pool);
        let from = chance.below(joined.len());
        let around = (0..joined.len()).map(|step| joined[(from + step) % joined.len()]);
        around.min_by(|one, other| score(*one).total_cmp(&score(*other))).unwrap_or(0)
    }
}

/// Wydrowski et al., NSDI 2024: a pool of 16 probes of up to a second, three more with each pick; the quickest of those that are
/// not hot, the emptiest where all are. Hot: above the 84th percentile of requests in flight.
#[derive(Default)]
struct Prequal {
    probes: VecDeque<Probe>,
    in_flight: VecDeque<u32>,
    picks: u64,
}

struct Probe {
    at_s: f64,
    backend: usize,
    in_flight: u32,
    latency_s: f64,
}

impl Policy for Prequal {
    fn pick(&mut self, now_s: f64, chance: &mut Chance, pool: &[Seen]) -> usize {
        let joined = joined(pool);
        for _ in 0..3 {
            let backend = joined[chance.below(joined.len())];
            let in_flight = pool[backend].owed();
            let latency_s = pool[backend].latency_at_s(in_flight);
            self.probes.push_back(Probe { at_s: now_s, backend, in_flight, latency_s });
            self.in_flight.push_back(in_flight);
        }
        self.probes.drain(..self.probes.len().saturating_sub(16));
        self.in_flight.drain(..self.in_flight.len().saturating_sub(128));
        self.probes.retain(|probe| now_s - probe.at_s < 1.0);
        let mut sorted: Vec<u32> = self.in_flight.iter().copied().collect();
        sorted.sort_unstable();
        let hot = sorted[((sorted.len() - 1) as f64 * 0.84) as usize].max(1);
        let each = || self.probes.iter().enumerate();
        let cold = each().filter(|(_, probe)| probe.in_flight < hot);
        let quickest = cold.min_by(|(_, one), (_, other)| one.latency_s.total_cmp(&other.latency_s));
        let chosen = quickest.or_else(|| each().min_by_key(|(_, probe)| probe.in_flight));
        let backend = self.probes.remove(chosen.map_or(0, |(at, _)| at)).map_or(0, |probe| probe.backend);
        self.picks += 1;
        if self.picks.is_multiple_of(2) && self.probes.len() > 2 {
            let worst = (0..self.probes.len()).max_by(|one, other| {
                let key = |at: &usize| (self.probes[*at].in_flight, self.probes[*at].latency_s);
                key(one).partial_cmp(&key(other)).unwrap_or(std::cmp::Ordering::Equal)
            });
            self.probes.remove(worst.unwrap_or(0));
        }
        self.probes
            .iter_mut()
            .filter(|probe| probe.backend == backend)
            .for_each(|probe| probe.in_flight += 1);
        backend
    }
}

fn joined(pool: &[Seen]) -> Vec<usize> {
    (0..pool.len()).filter(|at| pool[*at].member.up).collect()
}
