//! History for the dashboard: the last ten minutes in small samples, so that a page that is opened now shows them.
//!
//! Pure: sums and the time in, JSON out. Must stay true: never more than `SAMPLES_MAX` samples of `POOLS_MAX` pools, 12 bytes
//! each: below 2 MB with the room that lists keep in reserve.

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

/// Sums of one moment, of a pool or of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Sessions there are.
    pub(super) active: u64,
    /// Sessions so far.
    pub(super) begun: u64,
    /// Bytes so far.
    pub(super) bytes: u64,
}

impl Sums {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            active: self.active + other.active,
            begun: self.begun + other.begun,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct History {
    last_ms: Option<u64>,
    at_ms: VecDeque<u64>,
    all: Line,
    pools: HashMap<String, Line>,
}

#[derive(Debug, Default)]
struct Line {
    last: Option<Sums>,
    samples: VecDeque<Sample>,
}

/// Sessions there are; sessions that began and bytes, each per second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample([f32; 3]);

impl History {
    /// Adds one moment. Pools that are not named any more are forgotten.
    pub(super) fn add<'a>(
        &mut self,
        now_ms: u64,
        all: Sums,
        pools: impl ExactSizeIterator<Item = (&'a str, Sums)>,
    ) {
        let elapsed_ms = self.last_ms.map(|last_ms| now_ms.saturating_sub(last_ms));
        if elapsed_ms == Some(0) {
            return;
        }
        self.last_ms = Some(now_ms);
        self.all.add(elapsed_ms, all);
        if elapsed_ms.is_some() {
            self.at_ms.push_back(now_ms);
            if self.at_ms.len() > SAMPLES_MAX {
                self.at_ms.pop_front();
            }
        }
        let mut before = std::mem::take(&mut self.pools);
        self.pools.reserve(pools.len().min(POOLS_MAX));
        for (name, sums) in pools.take(POOLS_MAX) {
            let (name, mut line) =
                before.remove_entry(name).unwrap_or_else(|| (name.to_owned(), Line::default()));
            line.add(elapsed_ms, sums);
            self.pools.insert(name, line);
        }
    }

    /// `at_ms`, and for everything and each pool `active`, `begun` and `bytes`. A pool that came later has fewer samples: the
    /// last ones.
    pub(super) fn told(&self) -> Value {
        let pools: serde_json::Map<String, Value> =
            self.pools.iter().map(|(name, line)| (name.clone(), line.told())).collect();
        json!({ "at_ms": self.at_ms, "all": self.all.told(), "pools": pools })
    }
}

impl Line {
    fn add(&mut self, elapsed_ms: Option<u64>, now: Sums) {
        let last = self.last.replace(now);
        let (Some(last), Some(elapsed_ms)) = (last, elapsed_ms) else { return };
        // A backend that left takes its sums along.
        let rate = |last: u64, now: u64| per_second(now.saturating_sub(last), elapsed_ms);
        let sample = [now.active as f32, rate(last.begun, now.begun), rate(last.bytes, now.bytes)];
        self.samples.push_back(Sample(sample));
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    fn told(&self) -> Value {
        let of =
            |at: usize| -> Vec<Value> { self.samples.iter().map(|sample| rounded(sample.0[at])).collect() };
        json!({ "active": of(0), "begun": of(1), "bytes": of(2) })
    }
}

/// Seven digits are more than a chart shows.
#[allow(clippy::cast_possible_truncation)]
fn per_second(more: u64, elapsed_ms: u64) -> f32 {
    (more as f64 * 1_000.0 / elapsed_ms as f64) as f32
}

/// A tenth is as fine as a chart shows; whole numbers are written without one.
fn rounded(value: f32) -> Value {
    let tenths = (f64::from(value) * 10.0).round();
    if tenths % 10.0 == 0.0 {
        // A cast of a float saturates, and none is below nothing.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return json!((tenths / 10.0) as u64);
    }
    json!(tenths / 10.0)
}

/// Ten minutes, a sample a second.
pub(super) const SAMPLES_MAX: usize = 600;
/// Pools beyond these have no history, until the page makes one of its own.
const POOLS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(begun: u64) -> Sums {
        Sums { active: 3, begun, bytes: begun * 100 }
    }

    #[test]
    fn samples_are_rates_between_two_moments() {
        let mut history = History::default();
        history.add(1_000, sums(10), [("p", sums(5))].into_iter());
        assert_eq!(
            history.told(),
            json!({ "at_ms": [], "all": history.all.told(), "pools": { "p": history.all.told() } })
        );
        history.add(3_000, sums(15), [("p", sums(10)), ("new", sums(7))].into_iter());
        history.add(3_000, sums(99), [("p", sums(99))].into_iter());
        history.add(4_000, sums(15), [("p", sums(3)), ("new", sums(8))].into_iter());
        assert_eq!(
            history.told(),
            json!({
                "at_ms": [3_000, 4_000],
                "all": { "active": [3, 3], "begun": [2.5, 0], "bytes": [250, 0] },
                "pools": {
                    "p": { "active": [3, 3], "begun": [2.5, 0], "bytes": [250, 0] },
                    "new": { "active": [3], "begun": [1], "bytes": [100] },
                },
            })
        );
        history.add(5_000, sums(15), [("new", sums(8))].into_iter());
        assert_eq!(history.pools.len(), 1, "who left is forgotten");
    }

    #[test]
    fn it_is_bounded_in_time_and_pools() {
        let mut history = History::default();
        let names: Vec<String> = (0..2 * POOLS_MAX).map(|at| format!("pool {at}")).collect();
        for second in 1..=(2 * SAMPLES_MAX as u64) {
            history.add(second * 1_000, sums(second), names.iter().map(|name| (name.as_str(), sums(second))));
        }
        assert_eq!((history.at_ms.len(), history.pools.len()), (SAMPLES_MAX, POOLS_MAX));
        assert!(history.pools.values().all(|line| line.samples.len() == SAMPLES_MAX));
        assert_eq!(history.at_ms.back(), Some(&1_200_000));
    }
}
