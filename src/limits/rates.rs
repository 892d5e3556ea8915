//! Token bucket rate limiter (GCRA): how many sessions may begin in a time: of a listener, of one source.
//!
//! A bucket of tokens that fills evenly and holds one second's worth, at least one. It is kept as one number: the moment
//! at which it will be full again. A take moves that moment one interval on, if it does not lie too far ahead. The clock
//! is the caller's; threads whose clocks differ by a turn of their loops take a little less at that moment, never more.
//!
//! What must stay true of the table of sources, which has a fixed size: when a source's place is given to another, the
//! other takes over what the place owes. Of those that are not full again, the place that owes least is given, so a source
//! that comes back never finds less debt than it left: it cannot escape its limit, whatever it or others send. Where more
//! sources than there are places come to one bucket, they share: stricter than asked for, never laxer.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use siphasher::sip::SipHasher13;

use super::sources::hash_of;
use crate::reason::Reason;

/// How fast a bucket fills.
#[derive(Debug, Clone, Copy)]
struct Pace {
    interval_ns: u64,
    /// How far ahead of now the moment at which the bucket is full may lie after a take.
    ahead_ns: u64,
}

impl Pace {
    fn new(interval_ns: u64) -> Self {
        let interval_ns = interval_ns.max(1);
        Self { interval_ns, ahead_ns: (SECOND_NS / interval_ns).max(1) * interval_ns }
    }

    /// When the bucket is full again if one is taken now; `None`: there is none.
    fn take(self, full_ns: u64, now_ns: u64) -> Option<u64> {
        let next = full_ns.max(now_ns).saturating_add(self.interval_ns);
        (next <= now_ns.saturating_add(self.ahead_ns)).then_some(next)
    }
}

/// The sessions that a listener may begin. All threads share it without a lock.
#[derive(Debug)]
#[repr(align(128))]
pub struct RateLimit {
    pace: Pace,
    full_ns: AtomicU64,
}

impl RateLimit {
    /// One session for each interval.
    pub fn new(interval_ns: u64) -> Self {
        Self { pace: Pace::new(interval_ns), full_ns: AtomicU64::new(0) }
    }

    /// Between two of them.
    pub fn interval_ns(&self) -> u64 {
        self.pace.interval_ns
    }

    /// May one begin now?
    #[must_use]
    pub fn try_take(&self, now_ns: u64) -> bool {
        let take = |full_ns| self.pace.take(full_ns, now_ns);
        self.full_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Could one begin now? Takes nothing.
    pub fn has_room(&self, now_ns: u64) -> bool {
        self.pace.take(self.full_ns.load(Ordering::Relaxed), now_ns).is_some()
    }

    /// When it is full again.
    pub fn full_ns(&self) -> u64 {
        self.full_ns.load(Ordering::Relaxed)
    }

    /// One that goes on: it is full again no sooner than then, or than it could be if all were taken now.
    #[must_use]
    pub fn going_on(interval_ns: u64, full_ns: u64, now_ns: u64) -> Self {
        let pace = Pace::new(interval_ns);
        Self { pace, full_ns: AtomicU64::new(full_ns.min(now_ns.saturating_add(pace.ahead_ns))) }
    }

    /// The one that was taken did not begin.
    pub fn give_back(&self) {
        self.full_ns.fetch_sub(self.pace.interval_ns, Ordering::Relaxed);
    }
}

/// The sessions that each source may begin: 16 bytes a source.
#[derive(Debug)]
pub struct SourceRates {
    hasher: SipHasher13,
    key: [u8; 16],
    pace: Pace,
    buckets: Box<[Mutex<Bucket>]>,
}

/// With its lock, two cache lines.
#[derive(Debug, Default, Clone, Copy)]
#[repr(align(8))]
struct Bucket([Slot; SLOTS]);

/// Nobody's place owes nothing, so whose it is does not matter.
#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    source: u64,
    full_ns: u64,
}

impl SourceRates {
    /// One session of each source for each interval. `hash_key` is random and told to nobody. `sources` is how many may
    /// owe at once before some of them share.
    pub fn new(hash_key: [u8; 16], interval_ns: u64, sources: usize) -> Self {
        let buckets = (sources / SLOTS).clamp(1, BUCKETS_MAX).next_power_of_two();
        Self {
            hasher: SipHasher13::new_with_key(&hash_key),
            key: hash_key,
            pace: Pace::new(interval_ns),
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
        }
    }

    /// Between two of them.
    pub fn interval_ns(&self) -> u64 {
        self.pace.interval_ns
    }

    /// The key of its hash.
    pub fn hash_key(&self) -> [u8; 16] {
        self.key
    }

    /// The sources that are not full again, by their hash, and when they are; those that owe most first, `most` of them.
    pub fn owing(&self, now_ns: u64, most: usize) -> Vec<(u64, u64)> {
        let mut owing = Vec::new();
        for bucket in &self.buckets {
            let bucket = *bucket.lock().unwrap_or_else(PoisonError::into_inner);
            owing.extend(
                bucket.0.iter().filter(|slot| slot.full_ns > now_ns).map(|slot| (slot.source, slot.full_ns)),
            );
        }
        owing.sort_unstable_by_key(|(_, full_ns)| std::cmp::Reverse(*full_ns));
        owing.truncate(most);
        owing
    }

    /// These owe so much, or what they could owe if they took all they may now. `hash_key` must be that of their hashes.
    pub fn go_on(&self, owing: &[(u64, u64)], now_ns: u64) {
        let most_ns = now_ns.saturating_add(self.pace.ahead_ns);
        for (source, full_ns) in owing {
            let mut bucket = self.bucket(*source).lock().unwrap_or_else(PoisonError::into_inner);
            let slot = bucket.place_of(*source);
            let full_ns = (*full_ns).min(most_ns);
            if full_ns > slot.full_ns {
                *slot = Slot { source: *source, full_ns };
            }
        }
    }

    /// Could a session of this source begin now? Takes nothing.
    pub fn has_room(&self, source: IpAddr, now_ns: u64) -> bool {
        let hash = hash_of(&self.hasher, source);
        let mut bucket = *self.bucket(hash).lock().unwrap_or_else(PoisonError::into_inner);
        self.pace.take(bucket.place_of(hash).full_ns, now_ns).is_some()
    }

    fn bucket(&self, hash: u64) -> &Mutex<Bucket> {
        // The mask keeps it within the table.
        #[allow(clippy::cast_possible_truncation)]
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    /// May a session of this source begin now? If so `then` is asked, and only what it lets pass is counted.
    pub fn take<T>(
        &self,
        source: IpAddr,
        now_ns: u64,
        then: impl FnOnce() -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        let hash = hash_of(&self.hasher, source);
        let mut bucket = self.bucket(hash).lock().unwrap_or_else(PoisonError::into_inner);
        let slot = bucket.place_of(hash);
        let full_ns = self.pace.take(slot.full_ns, now_ns).ok_or(Reason::LimitRatePerSource)?;
        let outcome = then()?;
        *slot = Slot { source: hash, full_ns };
        Ok(outcome)
    }
}

impl Bucket {
    /// The source's own place, or the one that owes least.
    fn place_of(&mut self, source: u64) -> &mut Slot {
        let own = self.0.iter().position(|slot| slot.source == source);
        let least = || (0..SLOTS).min_by_key(|&place| self.0[place].full_ns).unwrap_or(0);
        let place = own.unwrap_or_else(least);
        &mut self.0[place]
    }
}

const SECOND_NS: u64 = 1_000_000_000;
const SLOTS: usize = 7;
/// 30 MiB.
const BUCKETS_MAX: usize = 1 << 18;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn begins(rates: &SourceRates, source: u32, now_ns: u64) -> bool {
        rates.take(v4(source), now_ns, || Ok(())).is_ok()
    }

    #[test]
    fn a_place_is_sixteen_bytes_and_a_bucket_two_cache_lines() {
        assert_eq!((size_of::<Slot>(), size_of::<Mutex<Bucket>>()), (16, 120));
    }

    #[test]
    fn the_burst_is_one_seconds_worth_and_at_least_one() {
        for (interval_ns, burst) in [
            (SECOND_NS / 500, 500),
            (SECOND_NS / 2, 2),
            (SECOND_NS * 2 / 3, 1),
            (SECOND_NS, 1),
            (60 * SECOND_NS, 1),
            (1_000, 1_000_000),
        ] {
            let limit = RateLimit::new(interval_ns);
            let now_ns = 77 * SECOND_NS;
            let at_once = (0..burst + 5).filter(|_| limit.try_take(now_ns)).count();
            assert_eq!(at_once, burst, "{interval_ns}");
            assert!(!limit.try_take(now_ns + interval_ns - 1));
            assert!(limit.try_take(now_ns + interval_ns), "{interval_ns}");
        }
    }

    #[test]
    fn what_did_not_begin_is_not_counted() {
        let limit = RateLimit::new(SECOND_NS);
        for _ in 0..9 {
            assert!(limit.try_take(5));
            limit.give_back();
        }
        assert!(limit.try_take(5) && !limit.try_take(5));
        let rates = SourceRates::new([1; 16], SECOND_NS, 100_000);
        for _ in 0..9 {
            let refused = rates.take(v4(1), 5, || Err::<(), _>(Reason::LimitSessions));
            assert_eq!(refused, Err(Reason::LimitSessions));
        }
        assert!(begins(&rates, 1, 5) && !begins(&rates, 1, 5));
    }

    #[test]
    fn what_is_owed_goes_on_elsewhere_and_no_more_than_could_be() {
        let now_ns = 9 * SECOND_NS;
        let (limit, rates) = (RateLimit::new(SECOND_NS / 3), SourceRates::new([8; 16], SECOND_NS / 3, 1_000));
        let taken = (0..9).filter(|_| limit.try_take(now_ns)).count();
        (1..=50).for_each(|source| (0..source % 4).for_each(|_| assert!(begins(&rates, source, now_ns))));
        assert_eq!(taken, 3);
        let next = RateLimit::going_on(SECOND_NS / 3, limit.full_ns(), now_ns);
        assert!(!next.try_take(now_ns) && next.try_take(now_ns + SECOND_NS / 3));
        // Of another size, and by the same key.
        let next = SourceRates::new(rates.hash_key(), SECOND_NS / 3, 100_000);
        let owing = rates.owing(now_ns, 1_000);
        assert_eq!(owing.len(), 38, "those that took some");
        assert!(owing.is_sorted_by_key(|(_, full_ns)| std::cmp::Reverse(*full_ns)));
        assert_eq!(rates.owing(now_ns, 5), owing[..5]);
        next.go_on(&owing, now_ns);
        let left = |rates: &SourceRates, source| (0..9).filter(|_| begins(rates, source, now_ns)).count();
        (1..=50).for_each(|source| assert_eq!(left(&next, source), 3 - source as usize % 4, "{source}"));
        assert!(next.owing(now_ns + SECOND_NS, 1_000).is_empty(), "a second later nobody owes anything");
        // Whatever is told, nobody waits for longer than for what one may have.
        let far = SourceRates::new([8; 16], SECOND_NS / 3, 64);
        far.go_on(&[(7, u64::MAX)], now_ns);
        assert_eq!(far.owing(now_ns, 9), [(7, now_ns + SECOND_NS / 3 * 3)]);
        assert!(RateLimit::going_on(SECOND_NS, u64::MAX, now_ns).try_take(now_ns + SECOND_NS));
    }

    /// Threads whose clocks run apart by up to a millisecond, for ten minutes of their time.
    #[test]
    fn threads_that_share_a_rate_get_it_within_one_percent() {
        const THREADS: u64 = 4;
        const SECONDS: u64 = 600;
        let limit = RateLimit::new(SECOND_NS / 500);
        let clock = AtomicU64::new(0);
        let attempts = |thread: u64| {
            let mut begun = 0;
            loop {
                let at_ns = clock.fetch_add(400_000, Ordering::Relaxed);
                if at_ns >= SECONDS * SECOND_NS {
                    return begun;
                }
                begun += u64::from(limit.try_take(at_ns.saturating_sub(thread * 300_000)));
            }
        };
        let begun: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || attempts(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let wanted = 500 * SECONDS;
        let most = wanted + 500;
        assert!(begun <= most, "{begun} of {most}");
        assert!(begun >= wanted * 99 / 100, "{begun} of {wanted}");
    }

    #[test]
    fn ten_thousand_sources_each_get_their_own_rate() {
        let rates = SourceRates::new([3; 16], SECOND_NS / 5, 100_000);
        let mut begun = vec![0_u64; 10_000];
        for tick in 0..100_u64 {
            for (source, begun) in begun.iter_mut().enumerate() {
                *begun += u64::from(begins(&rates, source as u32, tick * SECOND_NS / 10));
            }
        }
        // A burst of 5 and 5 a second for 9.9 s. At most one source in a hundred may have met a crowded bucket.
        let exact = begun.iter().filter(|begun| (53..=55).contains(*begun)).count();
        assert!(begun.iter().all(|begun| *begun <= 55));
        assert!(exact >= 9_900, "{exact}");
    }

    /// What a source of its own bucket would have been allowed.
    #[derive(Default)]
    struct Alone(std::collections::HashMap<u32, RateLimit>);

    proptest! {
        /// However others crowd its bucket and it comes and goes, no source begins more than alone.
        #[test]
        fn eviction_lets_nobody_escape(
            steps in prop::collection::vec((0..20_u32, 0..400_000_000_u64), 1..600),
            noisy in 0..20_u32,
        ) {
            let pace = Pace::new(SECOND_NS / 3);
            let (mut bucket, mut alone, mut now_ns) = (Bucket::default(), Alone::default(), 10 * SECOND_NS);
            for (source, pause_ns) in steps {
                now_ns += pause_ns / 4;
                for source in [source, noisy, noisy] {
                    let slot = bucket.place_of(u64::from(source) + 1);
                    if let Some(full_ns) = pace.take(slot.full_ns, now_ns) {
                        *slot = Slot { source: u64::from(source) + 1, full_ns };
                        let own = alone.0.entry(source).or_insert_with(|| RateLimit::new(SECOND_NS / 3));
                        prop_assert!(own.try_take(now_ns), "source {} escaped", source);
                    }
                }
            }
        }
    }

    #[test]
    fn a_flood_of_sources_neither_grows_the_table_nor_frees_a_noisy_one() {
        let rates = SourceRates::new([5; 16], SECOND_NS, 100_000);
        let mut noisy = 0;
        for step in 0..2_000_000_u32 {
            // 200,000 new sources a second, twice as many as there are places.
            let now_ns = SECOND_NS + u64::from(step) * 5_000;
            let _ = begins(&rates, 0x0a00_0000 + step, now_ns);
            if step % 100 == 0 {
                noisy += u32::from(begins(&rates, 1, now_ns));
            }
        }
        assert!((1..=11).contains(&noisy), "{noisy} in 10 s at 1/s");
    }

    #[test]
    fn a_crowd_of_threads_gets_no_more_than_the_rate_of_one_source() {
        let rates = SourceRates::new([2; 16], SECOND_NS / 100, 100_000);
        let clock = AtomicU64::new(SECOND_NS);
        let begun: usize = std::thread::scope(|scope| {
            let attempt = || {
                (0..25_000).filter(|_| begins(&rates, 9, clock.fetch_add(100_000, Ordering::Relaxed))).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(attempt)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // 10 s of 100/s and the burst.
        assert!((990..=1_100).contains(&begun), "{begun}");
    }
}
