//! Per-source connection count: a table of fixed size that all threads share, and that a reload may enlarge.
//!
//! A source is an IPv4 address or the /64 of an IPv6 address. It hashes, with a random key, to one bucket of seven
//! slots; a slot is one word: which source (39 bits of its hash), how many sessions (24 bits), and whether other sources
//! count here too. What must stay true:
//!
//! - no source is ever in two slots, so its limit is exact over all threads: a slot is given to a source only under the
//!   bucket's lock, with all of the bucket seen. Counting on in a slot that the source has takes no lock;
//! - when seven other sources fill the bucket, a source counts in a slot of another one. Both then share one limit,
//!   until that slot is empty: stricter than asked for, never laxer. At 2 sources a bucket, which is what a table made
//!   for as many sessions as its listener may have comes to at worst, that meets 1 source in 900;
//! - a larger table begins empty, and what the smaller ones still hold of a source counts with it. A thread that took a
//!   place in a table which is not the newest any more gives it back and takes one of the newest: so all threads agree.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use siphasher::sip::SipHasher13;

/// The sessions of every source of one listener.
#[derive(Debug)]
pub struct PerSource {
    hasher: SipHasher13,
    /// 0: no limit.
    most: AtomicU32,
    /// From the first to the newest, each at least twice as large as the one before.
    tables: [OnceLock<Table>; TABLES],
    newest: AtomicUsize,
    /// Held while it is enlarged.
    growing: Mutex<()>,
}

/// A power of two of buckets.
type Table = Box<[Bucket]>;

/// Where a source's session was counted: the table, the bucket, the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(u32);

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    slots: [AtomicU64; SLOTS],
    /// Held while a slot is given to a source.
    giving: Mutex<()>,
}

impl PerSource {
    /// Counts up to `most` sessions of each source (`None`: no limit), of `sessions` sessions in all.
    pub fn new(hash_key: [u8; 16], most: Option<u32>, sessions: u32) -> Self {
        let mut tables = [const { OnceLock::new() }; TABLES];
        tables[0] = table_for(sessions).into();
        Self {
            hasher: SipHasher13::new_with_key(&hash_key),
            most: AtomicU32::new(most.unwrap_or(0)),
            tables,
            newest: AtomicUsize::new(0),
            growing: Mutex::new(()),
        }
    }

    /// Counts one more session of this source. `None`: it has as many as it may.
    pub fn take(&self, source: IpAddr) -> Option<Source> {
        let most = match self.most.load(Ordering::Relaxed) {
            0 => COUNT,
            most => u64::from(most).min(COUNT),
        };
        self.take_of(source, most)
    }

    /// Counts one more session of this source, however many it may have.
    pub(super) fn import(&self, source: IpAddr) -> Option<Source> {
        self.take_of(source, COUNT)
    }

    fn take_of(&self, source: IpAddr, most: u64) -> Option<Source> {
        let hash = hash_of(&self.hasher, source);
        loop {
            let newest = self.newest.load(Ordering::Acquire);
            if newest > 0 {
                fence(Ordering::SeqCst);
            }
            let earlier =
                (0..newest).map(|table| self.table(table)[index_of(hash, self.table(table))].count(hash));
            // What earlier tables hold can only become less: it is never too little.
            let most_here = most.checked_sub(earlier.sum()).filter(|most| *most > 0)?;
            let table = self.table(newest);
            let bucket = index_of(hash, table);
            let slot = table[bucket].take(hash, most_here)?;
            let taken = Source::new(newest, bucket, slot);
            // Either this sees that the table was enlarged, or whoever has seen it sees what was counted here: of two threads
            // that write first and look then, with a fence between, one sees the other.
            fence(Ordering::SeqCst);
            if self.newest.load(Ordering::Relaxed) == newest {
                return Some(taken);
            }
            self.give_back(taken);
        }
    }

    /// Has this source as many sessions as it may? Of those that share a slot, all may be counted.
    pub fn is_full_for(&self, source: IpAddr) -> bool {
        let most = u64::from(self.most.load(Ordering::Relaxed));
        let hash = hash_of(&self.hasher, source);
        let tables = (0..=self.newest.load(Ordering::Acquire)).map(|number| self.table(number));
        most > 0 && tables.map(|table| table[index_of(hash, table)].count(hash)).sum::<u64>() >= most
    }

    /// One session less. The caller must have counted it.
    pub fn give_back(&self, source: Source) {
        let (table, bucket, slot) = source.place();
        let before = self.table(table)[bucket].slots[slot].fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before & COUNT > 0, "a source's place was given back twice");
    }

    /// Makes it large enough for so many sessions in all.
    pub fn make_room_for(&self, sessions: u32) {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = self.newest.load(Ordering::Relaxed);
        if self.table(newest).len() >= buckets_for(sessions) {
            return;
        }
        // Each is twice as large as the one before, so the last place is that of the largest there can be.
        let Some(place) = self.tables.get(newest + 1) else { return };
        let _ = place.set(table_for(sessions));
        self.newest.store(newest + 1, Ordering::Release);
    }

    fn table(&self, number: usize) -> &[Bucket] {
        // Numbers come from `newest`, and up to that one all are there.
        self.tables[number].get().map_or(&[], |table| table)
    }

    /// Changes how many sessions each source may have; sessions above a lowered limit stay.
    pub fn set_most(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(0), Ordering::Relaxed);
    }

    /// The sessions of all sources. A walk over the table: for tests and slow readers.
    pub fn taken(&self) -> u64 {
        let tables = self.tables.iter().filter_map(OnceLock::get);
        let slots = tables.flat_map(|table| table.iter().flat_map(|bucket| &bucket.slots));
        slots.map(|slot| slot.load(Ordering::Relaxed) & COUNT).sum()
    }
}

fn table_for(sessions: u32) -> Table {
    (0..buckets_for(sessions)).map(|_| Bucket::default()).collect()
}

/// The bucket of a source. The mask keeps it within the table.
#[allow(clippy::cast_possible_truncation)]
fn index_of(hash: u64, table: &[Bucket]) -> usize {
    hash as usize & (table.len() - 1)
}

impl Source {
    /// At most 2^18 buckets of 8 slots, and [`TABLES`] tables.
    #[allow(clippy::cast_possible_truncation)]
    fn new(table: usize, bucket: usize, slot: usize) -> Self {
        Self((table << 24 | bucket << 3 | slot) as u32)
    }

    fn place(self) -> (usize, usize, usize) {
        let word = self.0 as usize;
        (word >> 24, word >> 3 & (BUCKETS_MAX - 1), word & 7)
    }
}

/// Two sources a bucket, when each session has one of its own.
fn buckets_for(sessions: u32) -> usize {
    (sessions as usize / 2).clamp(BUCKETS_MIN, BUCKETS_MAX).next_power_of_two()
}

/// An IPv4 address, also one written as IPv6, or the /64 of an IPv6 address.
pub(super) fn hash_of(hasher: &SipHasher13, source: IpAddr) -> u64 {
    match source.to_canonical() {
        IpAddr::V4(ip) => hasher.hash(&ip.octets()),
        IpAddr::V6(ip) => hasher.hash(&ip.octets()[..8]),
    }
}

impl Bucket {
    /// How many sessions of this source there are here, or more where it shares a slot.
    fn count(&self, hash: u64) -> u64 {
        let words = self.slots.each_ref().map(|slot| slot.load(Ordering::Relaxed));
        let home = words[home_of(hash)];
        let own = words.into_iter().find(|word| *word != 0 && word & TAG == hash & TAG);
        let shared = (home & SHARED != 0).then_some(home);
        own.into_iter().chain(shared).map(|word| word & COUNT).max().unwrap_or(0)
    }

    /// Counts one more where this source counts, or finds it a slot.
    fn take(&self, hash: u64, most: u64) -> Option<usize> {
        let tag = hash & TAG;
        if let Some(outcome) = self.count_on(tag, most) {
            return outcome;
        }
        let _giving = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have given this source a slot; and a slot may be taken by its former source, so that the
        // look begins anew. Each round that fails means that another thread got somewhere.
        loop {
            if let Some(outcome) = self.count_on(tag, most) {
                return outcome;
            }
            let home = home_of(hash);
            let word = self.slots[home].load(Ordering::Relaxed);
            let shared_home = word & SHARED != 0 && word & COUNT != 0;
            let free = (0..SLOTS).find(|slot| self.slots[*slot].load(Ordering::Relaxed) & COUNT == 0);
            let (slot, old, new) = match free {
                Some(slot) if !shared_home => (slot, self.slots[slot].load(Ordering::Relaxed), tag | 1),
                // While it may have sessions in a slot it shares, they all have to be counted there.
                _ if word & COUNT >= most => return None,
                _ => (home, word, (word | SHARED) + 1),
            };
            // A free slot may have been taken since by the source whose it was.
            let still_free = (slot == home && new & SHARED != 0) || old & COUNT == 0;
            if still_free && self.exchange(slot, old, new) {
                return Some(slot);
            }
        }
    }

    /// Counts one more in the slot that has this tag: `Some(None)` when that is full, `None` when there is no such slot.
    fn count_on(&self, tag: u64, most: u64) -> Option<Option<usize>> {
        for (slot, word) in self.slots.iter().enumerate() {
            let mut seen = word.load(Ordering::Relaxed);
            while seen & TAG == tag && seen != 0 {
                let next = match seen & COUNT {
                    // Whoever shared it has left.
                    0 => tag | 1,
                    count if count >= most => return Some(None),
                    _ => seen + 1,
                };
                match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return Some(Some(slot)),
                    Err(newer) => seen = newer,
                }
            }
        }
        None
    }

    fn exchange(&self, slot: usize, old: u64, new: u64) -> bool {
        self.slots[slot].compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The slot that a source shares when there is none for it. The highest bits choose nothing else: the lower ones chose the
/// bucket, all but the lowest 25 are the tag.
fn home_of(hash: u64) -> usize {
    (hash >> 57) as usize % SLOTS
}

const SLOTS: usize = 7;
/// From the smallest to the largest by doubling.
const TABLES: usize = (BUCKETS_MAX / BUCKETS_MIN).ilog2() as usize + 1;
/// The sessions in a slot's word.
const COUNT: u64 = (1 << 24) - 1;
/// Other sources than the one of the tag may count here.
const SHARED: u64 = 1 << 24;
/// Which source.
const TAG: u64 = !(COUNT | SHARED);
const BUCKETS_MIN: usize = 64;
/// 16 MiB. A listener with more than 2^19 sessions of different sources shares sooner.
const BUCKETS_MAX: usize = 1 << 18;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use std::collections::HashMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }

    #[test]
    fn what_was_counted_before_the_table_grew_counts_on_and_is_given_back() {
        let permits = PerSource::new([1; 16], Some(3), 100);
        let mut held: Vec<Source> = (0..2).filter_map(|_| permits.take(v4(1))).collect();
        for sessions in [10, 1_000, 1_000, 100_000, u32::MAX] {
            permits.make_room_for(sessions);
            held.extend(permits.take(v4(1)));
            assert_eq!((held.len(), permits.taken()), (3, 3));
            assert!(
                permits.take(v4(1)).is_none()
                    && permits.take(v4(2)).map(|of| permits.give_back(of)).is_some()
            );
            permits.give_back(held.remove(0));
        }
        assert_eq!(permits.tables.iter().filter_map(OnceLock::get).count(), 4);
        held.into_iter().for_each(|source| permits.give_back(source));
        assert!((0..4).map(|_| permits.take(v4(1)).is_some()).eq([true, true, true, false]));
    }

    #[test]
    fn no_thread_passes_a_limit_while_the_table_grows() {
        for round in 0..100_u32 {
            let permits = PerSource::new([round as u8; 16], Some(5), 1);
            let attempts = |thread: u32| {
                let turns = (0..200_u32).map(|turn| (turn * 3 + thread) % 30);
                turns.filter_map(|number| permits.take(v4(number)).map(|_| number)).collect::<Vec<_>>()
            };
            let held: Vec<u32> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3).map(|thread| scope.spawn(move || attempts(thread))).collect();
                scope.spawn(|| (7..20).for_each(|power| permits.make_room_for(1 << power)));
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            let mut counts = HashMap::new();
            held.iter().for_each(|number| *counts.entry(*number).or_insert(0) += 1);
            assert!(counts.values().all(|count| *count <= 5), "{counts:?}");
            assert_eq!(permits.taken(), held.len() as u64);
        }
    }

    #[test]
    fn ipv6_counts_by_64_bits_and_mapped_ipv4_as_ipv4() {
        let permits = PerSource::new([1; 16], Some(2), 1_000);
        let v6 = |text: &str| IpAddr::from(text.parse::<Ipv6Addr>().unwrap());
        assert!(permits.take(v6("2001:db8::1")).is_some());
        assert!(permits.take(v6("2001:db8::ffff:0:0:2")).is_some());
        assert!(permits.take(v6("2001:db8::3")).is_none());
        assert!(permits.take(v6("2001:db8:0:1::1")).is_some());
        assert!(permits.take(v4(0x0a00_0001)).is_some());
        assert!(permits.take(v6("::ffff:10.0.0.1")).is_some());
        assert!(permits.take(v4(0x0a00_0001)).is_none());
    }

    #[test]
    fn every_source_gets_exactly_its_share_while_the_table_has_room() {
        let permits = PerSource::new([9; 16], Some(3), 4_096);
        let mut held = Vec::new();
        for source in 0..600 {
            held.extend((0..5).filter_map(|_| permits.take(v4(source))));
        }
        assert_eq!((held.len(), permits.taken()), (1_800, 1_800));
        held.into_iter().for_each(|source| permits.give_back(source));
        assert_eq!(permits.taken(), 0);
    }

    #[test]
    fn a_crowded_table_is_stricter_and_never_laxer() {
        // 64 buckets of 7 for 2,000 sources that come and go: most of them share.
        let permits = PerSource::new([5; 16], Some(4), 1);
        let mut held: HashMap<u32, Vec<Source>> = HashMap::new();
        let (mut random, mut refused_early) = (1_u64, 0);
        for _ in 0..200_000 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let number = (random >> 40) as u32 % 2_000;
            let mine = held.entry(number).or_default();
            if random >> 33 & 1 == 1 {
                match permits.take(v4(number)) {
                    Some(source) => mine.push(source),
                    None => refused_early += u32::from(mine.len() < 4),
                }
                assert!(mine.len() <= 4, "source {number} has {}", mine.len());
            } else if let Some(source) = mine.pop() {
                permits.give_back(source);
            }
        }
        assert!(refused_early > 0, "nothing was ever shared");
        assert_eq!(permits.taken(), held.values().map(|mine| mine.len() as u64).sum::<u64>());
        held.into_values().flatten().for_each(|source| permits.give_back(source));
        assert_eq!(permits.taken(), 0);
        assert!((0..200).all(|number| permits.take(v4(number)).is_some()));
    }

    #[test]
    fn threads_that_race_for_the_same_new_sources_never_pass_a_limit() {
        for round in 0..200_u32 {
            let permits = PerSource::new([round as u8; 16], Some(5), 1);
            let most_held = |thread: u32| {
                let mut held: Vec<(u32, Source)> = Vec::new();
                for turn in 0..400_u32 {
                    let number = (turn * 7 + thread) % 40;
                    held.extend(permits.take(v4(number)).map(|source| (number, source)));
                    if turn % 3 == 0 && !held.is_empty() {
                        let (_, source) = held.swap_remove(turn as usize % held.len());
                        permits.give_back(source);
                    }
                }
                held
            };
            let held: Vec<(u32, Source)> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3).map(|thread| scope.spawn(move || most_held(thread))).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            let mut counts = HashMap::new();
            held.iter().for_each(|(number, _)| *counts.entry(*number).or_insert(0) += 1);
            assert!(counts.values().all(|count| *count <= 5), "{counts:?}");
            assert_eq!(permits.taken(), held.len() as u64);
            held.into_iter().for_each(|(_, source)| permits.give_back(source));
            assert_eq!(permits.taken(), 0);
        }
    }
}
