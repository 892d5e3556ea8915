//! What two readings tell that one does not: rates, times, and how it went in the last minute.
//!
//! Pure: the clock is the balancer's own, `uptime_ms`. Must stay true: a balancer that started anew has no past, a counter
//! that fell back counts from nothing, and no more than a minute is kept.

use std::collections::{HashMap, VecDeque};

use super::reading::{Reading, Timed, Traffic};

/// How much happens in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) begun: f64,
    pub(super) bytes: f64,
}

/// A pool, between the last two readings.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PoolRates {
    /// Of all its backends.
    pub(super) all: Option<Rates>,
    /// What a connect took lately, on average.
    pub(super) dial_us: Option<f64>,
    /// What a health check took lately, on average.
    pub(super) check_us: Option<f64>,
    /// In the order of the reading; `None`: it was not there before.
    pub(super) backends: Vec<Option<Rates>>,
}

/// One point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    at_ms: u64,
    pub(super) active: f64,
    pub(super) begun: f64,
    pub(super) bytes: f64,
}

/// The last reading and what it means after those before it.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) reading: Reading,
    /// Of all listeners; `None`: nothing to compare with yet.
    pub(super) rates: Option<Rates>,
    /// In the order of the reading.
    pub(super) pools: Vec<PoolRates>,
    past: VecDeque<Point>,
    pool_past: HashMap<String, VecDeque<Point>>,
}

impl Picture {
    /// Goes on to the next reading.
    pub(super) fn take(&mut self, reading: Reading) {
        let before = &self.reading;
        let is_same = before.pid == reading.pid && before.uptime_ms <= reading.uptime_ms && before.pid != 0;
        if !is_same {
            *self = Self::default();
        }
        let elapsed_ms = reading.uptime_ms.saturating_sub(self.reading.uptime_ms);
        // Two looks within one millisecond: the earlier one stays what rates are told from.
        if is_same && elapsed_ms == 0 {
            self.reading = reading;
            self.pools.resize_with(self.reading.pools.len(), PoolRates::default);
            for (rates, pool) in self.pools.iter_mut().zip(&self.reading.pools) {
                rates.backends.resize(pool.backends.len(), None);
            }
            return;
        }
        let before = is_same.then_some(&self.reading);
        self.rates = before.map(|before| rates(before.traffic(), reading.traffic(), elapsed_ms));
        let known: HashMap<&str, &PoolRates> = match before {
            Some(before) => before.pools.iter().map(|pool| &*pool.name).zip(&self.pools).collect(),
            None => HashMap::new(),
        };
        let pools: Vec<PoolRates> = compared(before, &reading, &known, elapsed_ms);
        let (at_ms, active) = (reading.uptime_ms, reading.traffic().active);
        if let Some(rates) = self.rates {
            note(&mut self.past, at_ms, active, rates);
        }
        self.pool_past.retain(|name, _| reading.pools.iter().any(|pool| pool.name == *name));
        for (pool, seen) in reading.pools.iter().zip(&pools) {
            if let Some(rates) = seen.all {
                let past = self.pool_past.entry(pool.name.clone()).or_default();
                note(past, at_ms, pool.traffic().active, rates);
            }
        }
        self.pools = pools;
        self.reading = reading;
    }

    /// A curve of all listeners over the last minute in so many columns, the newest last.
    pub(super) fn curve(&self, columns: usize, of: impl Fn(&Point) -> f64) -> Vec<u64> {
        curve(&self.past, self.reading.uptime_ms, columns, of)
    }

    /// Likewise of one pool.
    pub(super) fn pool_curve(&self, pool: &str, columns: usize, of: impl Fn(&Point) -> f64) -> Vec<u64> {
        match self.pool_past.get(pool) {
            Some(past) => curve(past, self.reading.uptime_ms, columns, of),
            None => vec![0; columns],
        }
    }
}

fn compared(
    before: Option<&Reading>,
    now: &Reading,
    known: &HashMap<&str, &PoolRates>,
    elapsed_ms: u64,
) -> Vec<PoolRates> {
    let earlier: HashMap<&str, _> =
        before.into_iter().flat_map(|before| &before.pools).map(|pool| (&*pool.name, pool)).collect();
    let pools = now.pools.iter().map(|pool| {
        let Some(earlier) = earlier.get(&*pool.name) else {
            return PoolRates { backends: vec![None; pool.backends.len()], ..PoolRates::default() };
        };
        // What was seen last stays on show while nothing happens.
        let last = known.get(&*pool.name);
        let by_name: HashMap<&str, Traffic> =
            earlier.backends.iter().map(|backend| (&*backend.name, backend.traffic)).collect();
        let backends: Vec<Option<Rates>> = pool
            .backends
            .iter()
            .map(|backend| Some(rates(*by_name.get(&*backend.name)?, backend.traffic, elapsed_ms)))
            .collect();
        let all = backends.iter().flatten().fold(Rates::default(), |sum, rates| Rates {
            begun: sum.begun + rates.begun,
            bytes: sum.bytes + rates.bytes,
        });
        PoolRates {
            all: Some(all),
            dial_us: mean(earlier.dials, pool.dials).or(last.and_then(|last| last.dial_us)),
            check_us: mean(earlier.checks, pool.checks).or(last.and_then(|last| last.check_us)),
            backends,
        }
    });
    pools.collect()
}

fn rates(before: Traffic, now: Traffic, elapsed_ms: u64) -> Rates {
    let per_second = |before: u64, now: u64| {
        let more = if now >= before { now - before } else { now };
        more as f64 * 1_000.0 / elapsed_ms.max(1) as f64
    };
    Rates { begun: per_second(before.begun, now.begun), bytes: per_second(before.bytes, now.bytes) }
}

fn mean(before: Timed, now: Timed) -> Option<f64> {
    let count = now.count.checked_sub(before.count).filter(|count| *count > 0)?;
    Some(now.sum_us.saturating_sub(before.sum_us) as f64 / count as f64)
}

fn note(past: &mut VecDeque<Point>, at_ms: u64, active: u64, rates: Rates) {
    past.push_back(Point { at_ms, active: active as f64, begun: rates.begun, bytes: rates.bytes });
    while past.len() > POINTS_MAX || past.front().is_some_and(|first| first.at_ms + PAST_MS <= at_ms) {
        past.pop_front();
    }
}

/// The highest point within each column. A column without one shows the point before it.
fn curve(past: &VecDeque<Point>, now_ms: u64, columns: usize, of: impl Fn(&Point) -> f64) -> Vec<u64> {
    let mut heights: Vec<Option<f64>> = vec![None; columns];
    for point in past {
        let age_ms = now_ms.saturating_sub(point.at_ms).min(PAST_MS - 1);
        // Both are far below 2^52.
        #[allow(clippy::cast_possible_truncation)]
        let back = (age_ms as u128 * columns as u128 / u128::from(PAST_MS)) as usize;
        if let Some(height) = columns.checked_sub(1 + back).and_then(|column| heights.get_mut(column)) {
            *height = Some(height.unwrap_or(0.0).max(of(point)));
        }
    }
    let mut last = 0.0;
    let filled = heights.into_iter().map(|height| {
        last = height.unwrap_or(last);
        // Thousandths, so that one session in ten seconds is more than nothing; a cast of a float saturates.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let height = (last * 1_000.0) as u64;
        height
    });
    filled.collect()
}

const PAST_MS: u64 = 60_000;
/// Of the shortest interval there is.
const POINTS_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use super::super::reading::{Backend, Listener, Pool};
    use super::*;

    fn reading(pid: u64, uptime_ms: u64, begun: u64, bytes: u64) -> Reading {
        let traffic = Traffic { active: 5, begun, bytes };
        let backend = Backend { name: "b".into(), traffic, ..Backend::default() };
        let dials = Timed { count: begun, sum_us: begun * 300 };
        let pool = Pool { name: "p".into(), dials, backends: vec![backend], ..Pool::default() };
        let listener = Listener { traffic, ..Listener::default() };
        Reading { pid, uptime_ms, listeners: vec![listener], pools: vec![pool], ..Reading::default() }
    }

    fn after(readings: &[Reading]) -> Picture {
        let mut picture = Picture::default();
        readings.iter().for_each(|reading| picture.take(reading.clone()));
        picture
    }

    #[test]
    fn rates_are_told_from_two_readings_by_the_balancers_clock() {
        let table = [
            ("a second", 1_000, 10, 2_000, (10.0, 2_000.0)),
            ("two", 2_000, 10, 2_000, (5.0, 1_000.0)),
            ("half a one", 500, 10, 0, (20.0, 0.0)),
            ("nothing", 1_000, 0, 0, (0.0, 0.0)),
        ];
        for (what, ms, begun, bytes, (begun_s, bytes_s)) in table {
            let picture =
                after(&[reading(1, 10_000, 100, 50), reading(1, 10_000 + ms, 100 + begun, 50 + bytes)]);
            let expected = Some(Rates { begun: begun_s, bytes: bytes_s });
            assert_eq!(picture.rates, expected, "{what}");
            assert_eq!(picture.pools[0].all, expected, "{what}");
            assert_eq!(picture.pools[0].backends, [expected], "{what}");
            assert_eq!(picture.pools[0].dial_us, (begun > 0).then_some(300.0), "{what}");
        }
    }

    #[test]
    fn one_reading_tells_no_rate_and_a_new_process_has_no_past() {
        assert_eq!(after(&[reading(1, 1_000, 9, 9)]).rates, None);
        let first = [reading(1, 1_000, 0, 0), reading(1, 2_000, 9, 9)];
        for anew in [reading(2, 3_000, 9, 9), reading(1, 500, 1, 1)] {
            let picture = after(&[first[0].clone(), first[1].clone(), anew]);
            assert_eq!((picture.rates, picture.past.len(), picture.pool_past.len()), (None, 0, 0));
            assert_eq!(picture.pools[0].backends, [None]);
        }
        let fallen = after(&[reading(1, 1_000, 500, 0), reading(1, 2_000, 7, 0)]);
        assert_eq!(fallen.rates.map(|rates| rates.begun), Some(7.0), "a counter that began anew");
    }

    #[test]
    fn two_looks_in_one_millisecond_keep_the_rates() {
        let mut changed = reading(1, 2_000, 9, 9);
        changed.pools.push(Pool { name: "q".into(), backends: vec![Backend::default()], ..Pool::default() });
        let picture = after(&[reading(1, 1_000, 0, 0), reading(1, 2_000, 9, 9), changed]);
        assert_eq!(picture.rates.map(|rates| rates.begun), Some(9.0));
        assert_eq!(picture.pools.len(), 2);
        assert_eq!(picture.pools[1].backends, [None]);
    }

    #[test]
    fn a_time_stays_on_show_while_nothing_happens() {
        let picture = after(&[reading(1, 1_000, 0, 0), reading(1, 2_000, 3, 0), reading(1, 3_000, 3, 0)]);
        assert_eq!(picture.pools[0].dial_us, Some(300.0));
        assert_eq!(picture.pools[0].check_us, None);
    }

    #[test]
    fn a_curve_is_one_minute_and_no_more() {
        let second = |second: u64| reading(1, second * 1_000, second * second, 0);
        let picture = after(&(1..=200).map(second).collect::<Vec<_>>());
        assert_eq!(picture.past.len(), 60);
        let curve = picture.curve(6, |point| point.begun);
        // In second n, 2n - 1 begin; a column is ten seconds, its last one the highest.
        assert_eq!(curve, [150, 160, 170, 180, 190, 200].map(|last| (2 * last - 1) * 1_000));
        assert_eq!(picture.curve(1, |point| point.active), [5_000]);
        assert!(picture.curve(0, |point| point.active).is_empty());
        assert_eq!(picture.pool_curve("nobody", 3, |point| point.active), [0, 0, 0]);
        let wide = picture.pool_curve("p", 240, |point| point.begun);
        assert!(wide.windows(2).all(|pair| pair[0] <= pair[1]), "no gaps: {wide:?}");
        let fast: Vec<Reading> = (1..=2_000).map(|at| reading(1, at * 10, at, 0)).collect();
        assert_eq!(after(&fast).past.len(), POINTS_MAX);
    }

    #[test]
    fn pools_that_left_are_forgotten() {
        let mut last = reading(1, 3_000, 2, 2);
        last.pools.clear();
        let picture = after(&[reading(1, 1_000, 0, 0), reading(1, 2_000, 1, 1), last]);
        assert!(picture.pool_past.is_empty() && picture.pools.is_empty());
    }
}
