//! `least_latency` in a simulation with virtual time: sessions come, last a while, and are measured.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const MS_NS: u64 = 1_000_000;

/// A pool whose members answer after a time of their own.
struct Simulation {
    members: Vec<Member>,
    picker: Picker,
    now_ns: u64,
    bits: Random,
    /// Sessions under way: end, member, latency to report.
    ends: BinaryHeap<Reverse<(u64, u32, u64)>>,
}

impl Simulation {
    fn new(members: Vec<Member>) -> Self {
        let picker = build(&Balance::LeastLatency, &members);
        Self { members, picker, now_ns: 0, bits: Random::new(7), ends: BinaryHeap::new() }
    }

    /// One session each ms for `seconds`; counts who got them. `latency_ms` is by member; a session lasts as long.
    fn run(&mut self, seconds: u64, latency_ms: &[u64]) -> Vec<u32> {
        let mut counts = vec![0; self.members.len()];
        for _ in 0..seconds * 1_000 {
            self.now_ns += MS_NS;
            while self.ends.peek().is_some_and(|Reverse((end_ns, ..))| *end_ns <= self.now_ns) {
                let Reverse((end_ns, index, sample_ns)) = self.ends.pop().unwrap();
                let load = &self.members[index as usize].load;
                load.observe_answer(end_ns, sample_ns);
                load.settle((end_ns - sample_ns) / 1_000);
                load.give_back();
            }
            let ask = Ask { client: client(1), random: self.bits.bits(), now_ns: self.now_ns, tried: &[] };
            let Pick::Member(index) = self.picker.pick(&ask) else { panic!() };
            assert!(self.members[index as usize].load.try_take());
            counts[index as usize] += 1;
            self.members[index as usize].load.ask(self.now_ns / 1_000);
            let sample_ns = latency_ms[index as usize] * MS_NS;
            self.ends.push(Reverse((self.now_ns + sample_ns, index, sample_ns)));
        }
        counts
    }
}

#[test]
fn the_slow_get_little_and_the_fast_get_most() {
    let mut simulation = Simulation::new(members(&[1; 4]));
    simulation.run(5, &[2, 2, 2, 40]);
    let counts = simulation.run(20, &[2, 2, 2, 40]);
    // 20,000 sessions: an even share is 5,000.
    assert!(counts[3] < 100, "{counts:?}");
    assert!(counts[..3].iter().all(|count| (5_000..9_000).contains(count)), "{counts:?}");
}

#[test]
fn one_that_was_slow_once_is_asked_again_and_comes_back() {
    let mut simulation = Simulation::new(members(&[1; 4]));
    simulation.run(5, &[2, 2, 2, 2]);
    // A second of stalls, then well again.
    simulation.run(1, &[2, 2, 2, 2_000]);
    let at_once = simulation.run(5, &[2; 4]);
    assert!(at_once[3] < 50, "{at_once:?}");
    // 2 s are a thousand times 2 ms: it takes up to 70 s to fade, and the first samples after that still count it in.
    simulation.run(115, &[2; 4]);
    let back = simulation.run(10, &[2; 4]);
    // Of 10,000; an even share is 2,500, and a tenth of a millisecond decides between two idle ones.
    assert!(back[3] > 1_000, "{back:?}");
}

#[test]
fn one_that_stays_slow_is_asked_now_and_then_only() {
    let mut simulation = Simulation::new(members(&[1; 4]));
    simulation.run(5, &[2, 2, 2, 2_000]);
    let counts = simulation.run(300, &[2, 2, 2, 2_000]);
    // Each time it has faded it gets a few before the first of them has been measured.
    assert!((1..100).contains(&counts[3]), "{counts:?}");
}

#[test]
fn a_new_one_is_tried_at_once_but_not_flooded() {
    let mut list = members(&[1; 4]);
    for member in &list[..3] {
        member.load.observe_answer(0, 5 * MS_NS);
    }
    list[3].load = Arc::new(Load::new(None));
    let mut simulation = Simulation::new(list);
    // Its first connect hangs for longer than this runs.
    let counts = simulation.run(2, &[5, 5, 5, 10_000]);
    // 1,000 sessions a second of 5 ms keep about two under way at each of the others.
    assert!((1..20).contains(&counts[3]), "{counts:?}");
}

#[test]
fn weights_count() {
    let list = members(&[1, 4]);
    for member in &list {
        member.load.observe_answer(0, MS_NS);
    }
    let mut simulation = Simulation::new(list);
    let counts = simulation.run(10, &[20, 20]);
    let ratio = f64::from(counts[1]) / f64::from(counts[0]);
    assert!((3.0..5.0).contains(&ratio), "{counts:?}");
}
