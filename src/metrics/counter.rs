//! Counters and histograms of a single writer each, and their spread over the workers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread changes and any thread reads. Two writers would lose counts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owner calls this.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Takes away; only the owner calls this.
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(amount), Ordering::Relaxed);
    }

    /// Replaces it; only the owner calls this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; Self::BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl Histogram {
    /// Upper bounds of the buckets; the last bucket has none.
    pub const BOUNDS_US: [u64; 12] =
        [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

    /// Counts one duration; only the owner calls this.
    pub fn observe(&self, us: u64) {
        let bucket = Self::BOUNDS_US.partition_point(|&bound| bound < us);
        self.buckets[bucket].add(1);
        self.sum_us.add(us);
    }

    /// Begins with these values, in that order.
    pub fn begin_with(&self, values: &[u64]) {
        begin_with(&self.counters().collect::<Vec<_>>(), values);
    }

    /// All its counters, in an order that stays.
    pub fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.buckets.iter().chain([&self.sum_us])
    }

    /// Counts per bucket (not cumulated).
    pub fn counts(&self) -> [u64; Self::BOUNDS_US.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].value())
    }

    /// The sum of all durations.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.value()
    }
}

/// One `T` per worker.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[Padded<T>]>);

/// Two cache lines, because the CPU fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerWorker<T> {
    /// For this many workers, at least one.
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Padded::default()).collect())
    }
}

impl<T> PerWorker<T> {
    /// What each of these counters comes to over all workers.
    pub fn totals(&self, counters: impl Fn(&T) -> Vec<&Counter>) -> Vec<u64> {
        let mut totals = Vec::new();
        for shard in self.iter() {
            let values = counters(shard);
            totals.resize(values.len(), 0_u64);
            for (total, counter) in totals.iter_mut().zip(values) {
                *total = total.wrapping_add(counter.value());
            }
        }
        totals
    }

    /// Begins with these totals. Before any worker counts.
    pub fn begin_with(&self, totals: &[u64], counters: impl Fn(&T) -> Vec<&Counter>) {
        if let Some(shard) = self.iter().next() {
            begin_with(&counters(shard), totals);
        }
    }

    /// The shard of this worker. Only that worker may write to it.
    pub fn of(&self, worker: usize) -> &T {
        &self.0[worker].0
    }

    /// The sum over all workers.
    pub fn sum(&self, part: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().map(|shard| part(&shard.0)).sum()
    }

    /// All shards.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }
}

/// Sets counters to these values, as far as there are both.
pub(super) fn begin_with(counters: &[&Counter], values: &[u64]) {
    counters.iter().zip(values).for_each(|(counter, value)| counter.set(*value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for us in [0, 250, 251, 5_000_000, 5_000_001] {
            histogram.observe(us);
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[11], counts[12]), (2, 1, 1, 1));
        assert_eq!(histogram.sum_us(), 10_000_502);
    }

    #[test]
    fn shards_of_several_threads_add_up() {
        let counters = PerWorker::<Counter>::new(4);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let counters = &counters;
                scope.spawn(move || (0..10_000).for_each(|_| counters.of(worker).add(1)));
            }
        });
        assert_eq!(counters.sum(Counter::value), 40_000);
    }
}
