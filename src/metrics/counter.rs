//! Counters and histograms of a single writer each, their spread over the workers, and the words they travel under.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::manifest::Count;

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

/// A counter and the words under which it goes from process to process: they stay, wherever it stands here.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// What is counted.
    pub family: &'static str,
    /// Of which kind; empty where there is only one.
    pub word: &'static str,
    /// The counter.
    pub counter: &'a Counter,
}

impl<'a> Named<'a> {
    /// Under these words.
    pub fn new(family: &'static str, word: &'static str, counter: &'a Counter) -> Self {
        Self { family, word, counter }
    }

    /// As it travels.
    pub fn count(&self, value: u64) -> Count {
        Count { family: self.family.into(), word: self.word.into(), value }
    }
}

/// What came from the process before under words that this program has no counter for: it stays as it is and goes on to the
/// next process, so that nothing is lost between builds of which one counts more than the other.
#[derive(Debug, Default)]
pub(super) struct Kept(OnceLock<Box<[(Count, AtomicU64)]>>);

impl Kept {
    /// All of it.
    pub(super) fn all(&self) -> impl Iterator<Item = Count> {
        self.each().map(|(count, value)| Count { value, ..count.clone() })
    }

    fn each(&self) -> impl Iterator<Item = (&Count, u64)> {
        let kept = self.0.get().map_or(&[][..], |kept| kept);
        kept.iter().map(|(count, value)| (count, value.load(Ordering::Relaxed)))
    }

    /// Sets counters to the values of their words, and keeps the rest. What fell into a bucket that there is not here goes to
    /// the next larger one. Before anything counts.
    pub(super) fn resume(&self, counters: &[Named<'_>], values: &[Count]) {
        let mut kept = Vec::new();
        for count in values {
            match counter_of(counters, count) {
                Some(counter) => counter.add(count.value),
                None => kept.push((count.clone(), AtomicU64::new(count.value))),
            }
        }
        // A process takes over once.
        let _ = self.0.set(kept.into());
    }

    /// The process before has counted on since it told `before`. While nobody counts here.
    pub(super) fn catch_up(&self, counters: &[Named<'_>], before: &[Count], now: &[Count]) {
        for (at, count) in now.iter().enumerate() {
            let is_it = |one: &&Count| one.family == count.family && one.word == count.word;
            // It tells them in the same order each time.
            let was = before.get(at).filter(is_it).or_else(|| before.iter().find(is_it));
            let grown = count.value.wrapping_sub(was.map_or(0, |was| was.value));
            if grown == 0 {
                continue;
            }
            match counter_of(counters, count) {
                Some(counter) => counter.add(grown),
                None => {
                    let mut kept = self.0.get().into_iter().flatten();
                    // Whatever it counts it has told before.
                    if let Some((_, value)) = kept.find(|(one, _)| is_it(&one)) {
                        value.store(count.value, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

/// The counter that a value goes to; `None`: it is kept.
fn counter_of<'a>(counters: &[Named<'a>], count: &Count) -> Option<&'a Counter> {
    let of = |named: &&Named<'_>| named.family == count.family.as_str();
    let known = counters.iter().filter(of).find(|named| named.word == count.word.as_str());
    known.or_else(|| larger_bucket(counters.iter().filter(of), count)).map(|named| named.counter)
}

/// The bucket of the smallest bound above that of a bucket that there is not here.
fn larger_bucket<'a, 'b: 'a>(
    family: impl Iterator<Item = &'a Named<'b>>,
    count: &Count,
) -> Option<&'a Named<'b>> {
    let bound = |word: &str| word.parse::<u64>().ok().or((word == UNBOUNDED).then_some(u64::MAX));
    let wanted = bound(count.word.as_str())?;
    let larger = family.filter_map(|named| Some((bound(named.word)?, named)));
    larger.filter(|(bound, _)| *bound > wanted).min_by_key(|(bound, _)| *bound).map(|(_, named)| named)
}

/// One number for many: another one, as good as surely, when any of them is another.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The next of them.
    pub fn note(&mut self, value: u64) {
        // An odd factor: no bit is lost, and each changes all above it.
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// Of all so far.
    pub fn value(self) -> u64 {
        self.0
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
    /// The same as words, and that of the last bucket.
    const WORDS: [&str; Self::BOUNDS_US.len() + 1] = [
        "250", "500", "1000", "2500", "5000", "10000", "25000", "50000", "100000", "250000", "1000000",
        "5000000", UNBOUNDED,
    ];

    /// Counts one duration; only the owner calls this.
    pub fn observe(&self, us: u64) {
        let bucket = Self::BOUNDS_US.partition_point(|&bound| bound < us);
        self.buckets[bucket].add(1);
        self.sum_us.add(us);
    }

    /// All its counters, by their words.
    pub fn counters(&self, family: &'static str) -> impl Iterator<Item = Named<'_>> {
        let buckets = Self::WORDS.into_iter().zip(&self.buckets);
        let all = buckets.chain([("sum_us", &self.sum_us)]);
        all.map(move |(word, counter)| Named::new(family, word, counter))
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
pub struct PerWorker<T> {
    shards: Box<[Padded<T>]>,
    kept: Kept,
}

/// Two cache lines, because the CPU fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerWorker<T> {
    /// For this many workers, at least one.
    pub fn new(workers: usize) -> Self {
        Self { shards: (0..workers.max(1)).map(|_| Padded::default()).collect(), kept: Kept::default() }
    }
}

impl<T> PerWorker<T> {
    /// What each of these counters comes to over all workers, and what is kept beside them.
    pub fn totals(&self, counters: impl Fn(&T) -> Vec<Named<'_>>) -> Vec<Count> {
        let mut totals: Vec<Count> = Vec::new();
        for shard in self.iter() {
            let named = counters(shard);
            if totals.is_empty() {
                totals = named.iter().map(|named| named.count(0)).collect();
            }
            for (total, named) in totals.iter_mut().zip(named) {
                total.value = total.value.wrapping_add(named.counter.value());
            }
        }
        totals.extend(self.kept.all());
        totals
    }

    /// Begins with these totals. Before any worker counts.
    pub fn begin_with<'a>(&'a self, totals: &[Count], counters: impl Fn(&'a T) -> Vec<Named<'a>>) {
        if let Some(shard) = self.shards.first() {
            self.kept.resume(&counters(&shard.0), totals);
        }
    }

    /// Catches up with totals that grew to `now` after they were told as `before`. While no worker counts.
    pub fn catch_up<'a>(
        &'a self,
        before: &[Count],
        now: &[Count],
        counters: impl Fn(&'a T) -> Vec<Named<'a>>,
    ) {
        if let Some(shard) = self.shards.first() {
            self.kept.catch_up(&counters(&shard.0), before, now);
        }
    }

    /// Every value of every worker, in an order that stays.
    pub fn each_value(&self, counters: impl Fn(&T) -> Vec<Named<'_>>, mut note: impl FnMut(u64)) {
        for shard in self.iter() {
            counters(shard).iter().for_each(|named| note(named.counter.value()));
        }
    }

    /// What is kept of this family beside its counters: word and value.
    pub fn kept(&self, family: &str) -> impl Iterator<Item = (&str, u64)> {
        let of = move |(count, _): &(&Count, u64)| count.family.as_str() == family;
        self.kept.each().filter(of).map(|(count, value)| (count.word.as_str(), value))
    }

    /// The shard of this worker. Only that worker may write to it.
    pub fn of(&self, worker: usize) -> &T {
        &self.shards[worker].0
    }

    /// The sum over all workers.
    pub fn sum(&self, part: impl Fn(&T) -> u64) -> u64 {
        self.shards.iter().map(|shard| part(&shard.0)).sum()
    }

    /// All shards.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|shard| &shard.0)
    }
}

const UNBOUNDED: &str = "inf";

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

    #[test]
    fn what_travels_is_found_by_its_words_and_the_rest_is_kept() {
        let count = |family: &'static str, word: &'static str, value| Count {
            family: family.into(),
            word: word.into(),
            value,
        };
        let pair = |counters: &(Counter, Counter)| [counters.0.value(), counters.1.value()];
        let shards = PerWorker::<(Counter, Counter)>::new(2);
        fn named(shard: &(Counter, Counter)) -> Vec<Named<'_>> {
            vec![Named::new("a", "x", &shard.0), Named::new("b", "", &shard.1)]
        }
        let came = [count("b", "", 3), count("a", "new", 9), count("a", "x", 5), count("c", "x", 7)];
        shards.begin_with(&came, named);
        assert_eq!(pair(shards.of(0)), [5, 3]);
        assert_eq!(shards.kept("a").collect::<Vec<_>>(), [("new", 9)]);
        shards.of(1).0.add(1);
        let told = [count("a", "x", 6), count("b", "", 3), count("a", "new", 9), count("c", "x", 7)];
        assert_eq!(shards.totals(named), told);
    }

    #[test]
    fn what_was_counted_since_it_was_told_is_caught_up_with() {
        fn named(shard: &(Counter, Counter)) -> Vec<Named<'_>> {
            vec![Named::new("a", "x", &shard.0), Named::new("b", "", &shard.1)]
        }
        let count = |family: &'static str, value| Count { family: family.into(), word: "".into(), value };
        let shards = PerWorker::<(Counter, Counter)>::new(2);
        let before = [count("b", 3), count("later", 9), count("still", 1)];
        shards.begin_with(&before, named);
        // It may come in another order, and count what it did not before.
        let now = [count("later", 11), count("b", 10), count("still", 1)];
        shards.catch_up(&before, &now, named);
        assert_eq!((shards.of(0).0.value(), shards.of(0).1.value()), (0, 10));
        assert_eq!(shards.kept("later").chain(shards.kept("still")).collect::<Vec<_>>(), [("", 11), ("", 1)]);
        let mut values = Vec::new();
        shards.each_value(named, |value| values.push(value));
        assert_eq!(values, [0, 10, 0, 0]);
    }

    #[test]
    fn a_bucket_that_there_is_not_here_counts_in_the_next_larger_one() {
        let (histogram, kept) = (Histogram::default(), Kept::default());
        let count = |word: &'static str| Count { family: "connect".into(), word: word.into(), value: 1 };
        let came = ["250", "300", "499", "750", "9000000", "inf", "sum_us", "median"].map(count);
        kept.resume(&histogram.counters("connect").collect::<Vec<_>>(), &came);
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[2], counts[12]), (1, 2, 1, 2));
        assert_eq!((histogram.sum_us(), kept.all().collect::<Vec<_>>()), (1, came[7..].to_vec()));
    }
}
