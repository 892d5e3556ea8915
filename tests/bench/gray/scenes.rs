//! The ten scenes.

use super::engine::{BACKENDS, Chance, SERVERS};

/// What happens to a pool.
pub struct Scene {
    pub name: &'static str,
    /// Sessions a second.
    pub rate: f64,
    /// Turns of a session: the client speaks, the backend answers.
    pub turns: usize,
    /// Work of one turn, in seconds.
    pub work: fn(&mut Chance, usize) -> f64,
    /// How many times longer it takes at a backend at a moment; infinite: it stands still.
    pub slowness: fn(usize, f64, u64) -> f64,
    /// From when on it is in the pool.
    pub joins_s: fn(usize) -> f64,
    /// What counts, and the end.
    pub measured_s: (f64, f64),
    /// Twice a second, for 50 ms, six times as many.
    pub bursts: bool,
}

const PLAIN: Scene = Scene {
    name: "",
    rate: load(0.6),
    turns: 1,
    work: |chance, _| chance.exponential(WORK_S),
    slowness: |_, _, _| 1.0,
    joins_s: |_| 0.0,
    measured_s: (2.0, 20.0),
    bursts: false,
};

pub const SCENES: [Scene; 10] = [
    Scene { name: "one slow of ten", slowness: |at, _, _| if at == 0 { 10.0 } else { 1.0 }, ..PLAIN },
    Scene { name: "black hole", slowness: |at, _, _| if at == 0 { f64::INFINITY } else { 1.0 }, ..PLAIN },
    Scene {
        name: "login fast, then slow",
        rate: load(0.5),
        turns: 2,
        work: |chance, turn| if turn == 0 { LOGIN_S } else { chance.exponential(WORK_S) },
        slowness: |at, _, _| if at == 0 { 20.0 } else { 1.0 },
        ..PLAIN
    },
    Scene {
        name: "GC pauses",
        slowness: |at, now_s, seed| {
            // 300 ms, once in each 5 s, at a moment of its own.
            let round = (now_s / 5.0).floor();
            let begins_s = Chance::of([at as u64, round as u64, seed]) * 4.5;
            let since_s = now_s - round * 5.0 - begins_s;
            if (0.0..0.3).contains(&since_s) { f64::INFINITY } else { 1.0 }
        },
        measured_s: (2.0, 30.0),
        ..PLAIN
    },
    Scene {
        name: "antagonist load",
        rate: load(0.5),
        slowness: |at, now_s, seed| {
            // Three of ten are two to four times slower, others each two seconds.
            let chance = Chance::of([at as u64, (now_s / 2.0) as u64, seed]);
            if chance < 0.3 { 2.0 + chance / 0.15 } else { 1.0 }
        },
        measured_s: (2.0, 30.0),
        ..PLAIN
    },
    Scene {
        name: "cold start",
        rate: load(0.7),
        slowness: |at, now_s, _| if at == 0 { 1.0 + 19.0 * ((10.0 - now_s) / 5.0).exp() } else { 1.0 },
        joins_s: |at| if at == 0 { 10.0 } else { 0.0 },
        measured_s: (10.0, 20.0),
        ..PLAIN
    },
    Scene { name: "half capacity", slowness: |at, _, _| if at < 5 { 2.0 } else { 1.0 }, ..PLAIN },
    Scene { name: "bursts", rate: load(0.5), bursts: true, ..PLAIN },
    Scene {
        name: "long and short",
        rate: 0.6 * (BACKENDS * SERVERS) as f64 / (0.05 * 0.1 + 0.95 * 0.003),
        work: |chance, _| {
            let is_long = chance.unit() < 0.05;
            chance.exponential(if is_long { 0.1 } else { 0.003 })
        },
        ..PLAIN
    },
    Scene {
        name: "recovery",
        rate: load(0.8),
        slowness: |at, now_s, _| if at == 0 && (5.0..10.0).contains(&now_s) { f64::INFINITY } else { 1.0 },
        measured_s: (10.0, 25.0),
        ..PLAIN
    },
];

/// So many sessions a second are this part of what the pool can do.
const fn load(part: f64) -> f64 {
    part * (BACKENDS * SERVERS) as f64 / WORK_S
}

const WORK_S: f64 = 0.005;
const LOGIN_S: f64 = 0.001;
