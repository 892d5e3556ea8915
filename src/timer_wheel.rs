//! Timer wheel of two levels, with its links inside: the deadlines of many slots.
//!
//! One data thread keeps the deadlines of all its sessions here. Pure: the time is an argument. Arming and disarming
//! touch a few words and allocate only when a slot number is higher than any before. What must stay true:
//!
//! - a slot never fires before its deadline, and fires in the first [`Wheel::expire`] that comes 16 ms or more after it;
//! - a slot is in at most one bucket, and a bucket's bit in `filled` is set exactly while the bucket has a slot;
//! - level 0 holds exact ticks within 1,024 of `next_tick`; level 1 holds spans of 1,024 ticks, at most 1,023 ahead of
//!   the span of `next_tick`; farther deadlines park in the last of these and are placed anew when it turns.

/// The armed slots of one thread. Slots are small integers, such as slab indices; memory follows the highest one.
#[derive(Debug)]
pub struct Wheel {
    /// The first tick that no `expire` has turned yet.
    next_tick: u64,
    /// First slot of each bucket: level 0, level 1, then the slots that were overdue when armed.
    heads: Vec<u32>,
    /// One bit a bucket of the two levels.
    filled: [u64; 2 * LEVEL / 64],
    entries: Vec<Entry>,
}

/// What is kept of one slot.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The tick at which it fires, rounded up from its deadline.
    tick: u64,
    after: u32,
    before: u32,
    /// `NOWHERE`: not armed.
    bucket: u16,
}

impl Wheel {
    /// A wheel without armed slots. `now_ms` is the clock that later calls go on with.
    pub fn new(now_ms: u64) -> Self {
        Self {
            next_tick: now_ms / TICK_MS + 1,
            heads: vec![NO_SLOT; usize::from(OVERDUE) + 1],
            filled: [0; 2 * LEVEL / 64],
            entries: Vec::new(),
        }
    }

    /// Arms `slot`, or moves it if it is armed. A deadline that has passed fires at the next `expire`.
    pub fn arm(&mut self, slot: u32, deadline_ms: u64) {
        let index = slot as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry::IDLE);
        }
        let tick = deadline_ms.div_ceil(TICK_MS);
        let bucket = self.bucket_of(tick);
        let entry = &mut self.entries[index];
        entry.tick = tick;
        // Most moves of an idle deadline stay in their level 1 bucket: nothing to relink.
        if entry.bucket != bucket {
            self.unlink(slot);
            self.link(slot, bucket);
        }
    }

    /// Disarms `slot`; nothing happens if it is not armed.
    pub fn disarm(&mut self, slot: u32) {
        self.unlink(slot);
    }

    /// The wheel turns to `now_ms`: appends every slot whose time has come to `expired`, in no order, and disarms it.
    /// A clock that stands still or goes back turns nothing.
    pub fn expire(&mut self, now_ms: u64, expired: &mut Vec<u32>) {
        self.fire(usize::from(OVERDUE), expired);
        let now_tick = now_ms / TICK_MS;
        if now_tick < self.next_tick {
            return;
        }
        let from = self.next_tick;
        // From here on slots are placed as seen from the end of this turn: a jump of years costs what a turn costs.
        self.next_tick = now_tick + 1;

        let ticks = (now_tick - from).saturating_add(1).min(LEVEL as u64);
        self.each_filled(0, from, ticks, |wheel, bucket| wheel.fire(bucket, expired));

        // Spans that began before `from` were turned already and are empty, so the first one may be looked at again.
        let spans = (now_tick / LEVEL as u64 - from / LEVEL as u64 + 1).min(LEVEL as u64);
        self.each_filled(LEVEL, from / LEVEL as u64, spans, |wheel, bucket| {
            wheel.cascade(bucket, now_tick, expired);
        });
    }

    /// When to call `expire` next; `None` while nothing is armed. At most 16 ms after the earliest deadline, and an
    /// `expire` at it always fires a slot or moves one nearer. It may lie in the past.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.heads[usize::from(OVERDUE)] != NO_SLOT {
            return Some((self.next_tick - 1) * TICK_MS);
        }
        let exact = self.next_filled(0, self.next_tick, LEVEL as u64);
        let span = self.next_filled(LEVEL, self.next_tick / LEVEL as u64, LEVEL as u64);
        let tick = match (exact, span.map(|span| span.saturating_mul(LEVEL as u64))) {
            (Some(exact), Some(turn)) => exact.min(turn),
            (exact, turn) => exact.or(turn)?,
        };
        Some(tick.saturating_mul(TICK_MS))
    }

    /// The bucket for a tick, seen from `next_tick`.
    fn bucket_of(&self, tick: u64) -> u16 {
        let Some(ahead) = tick.checked_sub(self.next_tick) else {
            return OVERDUE;
        };
        if ahead < LEVEL as u64 {
            return (tick & MASK) as u16;
        }
        let last = self.next_tick / LEVEL as u64 + MASK;
        let span = (tick / LEVEL as u64).min(last);
        SPANS + (span & MASK) as u16
    }

    /// Fires every slot of a bucket.
    fn fire(&mut self, bucket: usize, expired: &mut Vec<u32>) {
        let mut slot = self.detach(bucket);
        while slot != NO_SLOT {
            let entry = &mut self.entries[slot as usize];
            entry.bucket = NOWHERE;
            expired.push(slot);
            slot = entry.after;
        }
    }

    /// Fires or places anew every slot of a level 1 bucket.
    fn cascade(&mut self, bucket: usize, now_tick: u64, expired: &mut Vec<u32>) {
        let mut slot = self.detach(bucket);
        while slot != NO_SLOT {
            let entry = &mut self.entries[slot as usize];
            let (tick, after) = (entry.tick, entry.after);
            entry.bucket = NOWHERE;
            if tick <= now_tick {
                expired.push(slot);
            } else {
                let bucket = self.bucket_of(tick);
                self.link(slot, bucket);
            }
            slot = after;
        }
    }

    /// Empties a bucket and gives its first slot; the links behind it still hold.
    fn detach(&mut self, bucket: usize) -> u32 {
        let head = std::mem::replace(&mut self.heads[bucket], NO_SLOT);
        if let Some(word) = self.filled.get_mut(bucket / 64) {
            *word &= !(1 << (bucket % 64));
        }
        head
    }

    fn link(&mut self, slot: u32, bucket: u16) {
        let at = usize::from(bucket);
        let head = std::mem::replace(&mut self.heads[at], slot);
        if let Some(word) = self.filled.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
        if head != NO_SLOT {
            self.entries[head as usize].before = slot;
        }
        let entry = &mut self.entries[slot as usize];
        (entry.bucket, entry.after, entry.before) = (bucket, head, NO_SLOT);
    }

    fn unlink(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize).filter(|entry| entry.bucket != NOWHERE) else {
            return;
        };
        let Entry { after, before, bucket, .. } = *entry;
        entry.bucket = NOWHERE;
        if after != NO_SLOT {
            self.entries[after as usize].before = before;
        }
        if before != NO_SLOT {
            self.entries[before as usize].after = after;
        } else if after != NO_SLOT {
            self.heads[usize::from(bucket)] = after;
        } else {
            self.detach(usize::from(bucket));
        }
    }

    /// Calls `turn` with each filled bucket of the level that begins at `base`, for `count` places from `from` on.
    fn each_filled(&mut self, base: usize, from: u64, count: u64, mut turn: impl FnMut(&mut Self, usize)) {
        let mut passed = 0;
        while let Some(place) = self.next_filled(base, from + passed, count - passed) {
            turn(self, base + (place & MASK) as usize);
            passed = place - from + 1;
        }
    }

    /// The first filled place of a level among `count` (at most 1,024) from `from` on.
    fn next_filled(&self, base: usize, from: u64, count: u64) -> Option<u64> {
        let mut passed = 0;
        while passed < count {
            let bucket = base + (from.wrapping_add(passed) & MASK) as usize;
            let bits = self.filled[bucket / 64] >> (bucket % 64);
            if bits != 0 {
                passed += u64::from(bits.trailing_zeros());
                return (passed < count).then(|| from.saturating_add(passed));
            }
            passed += 64 - (bucket as u64 % 64);
        }
        None
    }
}

impl Entry {
    const IDLE: Self = Self { tick: 0, after: NO_SLOT, before: NO_SLOT, bucket: NOWHERE };
}

/// How exact a deadline is. 16 ms and 1,024 buckets make a level 1 bucket 16.384 s and the whole wheel 4.6 h.
const TICK_MS: u64 = 16;
/// Buckets of a level.
const LEVEL: usize = 1024;
const MASK: u64 = LEVEL as u64 - 1;
/// The first bucket of level 1.
const SPANS: u16 = 1024;
/// The bucket of slots whose deadline had passed when they were armed.
const OVERDUE: u16 = 2 * SPANS;
const NOWHERE: u16 = u16::MAX;
const NO_SLOT: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Arm { slot: u32, ahead_ms: i64 },
        Disarm { slot: u32 },
        Pass { ms: u64 },
        Wake,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let ahead_ms = prop_oneof![
            4 => -50_i64..200,
            4 => 0_i64..40_000,
            2 => 0_i64..40_000_000,
            1 => 0_i64..i64::MAX / 4,
            2 => (1_i64..2_000).prop_map(|spans| spans * 16_384),
        ];
        let ms = prop_oneof![
            6 => 0_u64..100,
            4 => 0_u64..40_000,
            2 => 0_u64..40_000_000,
            2 => (1_u64..2_000).prop_map(|spans| spans * 16_384),
            1 => 0_u64..1 << 56,
        ];
        let step = prop_oneof![
            4 => (0_u32..24, ahead_ms).prop_map(|(slot, ahead_ms)| Step::Arm { slot, ahead_ms }),
            1 => (0_u32..30).prop_map(|slot| Step::Disarm { slot }),
            2 => ms.prop_map(|ms| Step::Pass { ms }),
            2 => Just(Step::Wake),
        ];
        proptest::collection::vec(step, 1..200)
    }

    /// The slots the wheel has to fire at `now_ms`: their deadline, rounded up to 16 ms, is not after it.
    fn due(model: &BTreeMap<u32, u64>, now_ms: u64) -> BTreeSet<u32> {
        let rounded = |deadline: u64| deadline.div_ceil(16) * 16;
        model.iter().filter(|(_, deadline)| rounded(**deadline) <= now_ms).map(|(slot, _)| *slot).collect()
    }

    /// Every link leads back, every bucket's bit is right, every slot is where it says.
    fn audit(wheel: &Wheel, armed: usize) {
        let mut seen = 0;
        for (bucket, head) in wheel.heads.iter().enumerate() {
            let (mut slot, mut before) = (*head, NO_SLOT);
            while slot != NO_SLOT {
                let entry = wheel.entries[slot as usize];
                assert_eq!((usize::from(entry.bucket), entry.before), (bucket, before));
                (before, slot) = (slot, entry.after);
                seen += 1;
            }
            if let Some(word) = wheel.filled.get(bucket / 64) {
                assert_eq!(word >> (bucket % 64) & 1 == 1, *head != NO_SLOT, "bit of bucket {bucket}");
            }
        }
        assert_eq!(seen, armed);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn behaves_as_an_ordered_map(start_ms in 0_u64..1 << 50, steps in steps()) {
            let mut now_ms = start_ms;
            let mut wheel = Wheel::new(now_ms);
            let mut model = BTreeMap::new();
            let mut expired = Vec::new();
            for step in steps {
                match step {
                    Step::Arm { slot, ahead_ms } => {
                        let deadline_ms = now_ms.saturating_add_signed(ahead_ms);
                        wheel.arm(slot, deadline_ms);
                        model.insert(slot, deadline_ms);
                    }
                    Step::Disarm { slot } => {
                        wheel.disarm(slot);
                        model.remove(&slot);
                    }
                    Step::Pass { ms } => {
                        now_ms += ms;
                        expired.clear();
                        wheel.expire(now_ms, &mut expired);
                        let fired: BTreeSet<u32> = expired.iter().copied().collect();
                        prop_assert_eq!(fired.len(), expired.len());
                        prop_assert_eq!(&fired, &due(&model, now_ms));
                        model.retain(|slot, _| !fired.contains(slot));
                    }
                    Step::Wake => {
                        let Some(wake_ms) = wheel.next_wake_ms() else {
                            prop_assert!(model.is_empty());
                            continue;
                        };
                        let earliest_ms = *model.values().min().unwrap();
                        prop_assert!(wake_ms < earliest_ms.max(now_ms) + 16);
                        now_ms = now_ms.max(wake_ms);
                        let places: Vec<u16> = wheel.entries.iter().map(|entry| entry.bucket).collect();
                        expired.clear();
                        wheel.expire(wake_ms, &mut expired);
                        prop_assert_ne!(places, wheel.entries.iter().map(|entry| entry.bucket).collect::<Vec<_>>());
                        let fired: BTreeSet<u32> = expired.iter().copied().collect();
                        prop_assert_eq!(&fired, &due(&model, wake_ms));
                        model.retain(|slot, _| !fired.contains(slot));
                    }
                }
                prop_assert_eq!(wheel.next_wake_ms().is_none(), model.is_empty());
                audit(&wheel, model.len());
            }
        }
    }

    #[test]
    fn sleeping_until_each_wake_reaches_every_deadline_in_few_steps() {
        for ahead_ms in [0, 1, 15, 16, 17, 16_383, 16_384, 16_400, 1 << 24, (1 << 24) + 5, 1 << 26] {
            let start_ms = 123_456_789;
            let mut wheel = Wheel::new(start_ms);
            wheel.arm(7, start_ms + ahead_ms);
            let (mut expired, mut wakes, mut now_ms) = (Vec::new(), 0, start_ms);
            while expired.is_empty() {
                now_ms = wheel.next_wake_ms().unwrap();
                wheel.expire(now_ms, &mut expired);
                wakes += 1;
            }
            assert_eq!(expired, [7]);
            assert!(
                (start_ms + ahead_ms..start_ms + ahead_ms + 16).contains(&now_ms),
                "{ahead_ms}: {now_ms}"
            );
            assert!(wakes <= 7, "{ahead_ms}: {wakes} wakes");
        }
    }

    #[test]
    fn an_overdue_slot_fires_at_once_even_if_the_clock_stands_still() {
        let mut wheel = Wheel::new(1_000);
        wheel.arm(3, 900);
        assert!(wheel.next_wake_ms().unwrap() <= 1_000);
        let mut expired = Vec::new();
        wheel.expire(1_000, &mut expired);
        assert_eq!(expired, [3]);
        assert_eq!(wheel.next_wake_ms(), None);
    }

    #[test]
    fn the_end_of_time_is_no_trouble() {
        let mut wheel = Wheel::new(0);
        wheel.arm(0, u64::MAX);
        wheel.arm(1, u64::MAX - 1_000);
        let mut expired = Vec::new();
        wheel.expire(u64::MAX, &mut expired);
        // The last tick begins 15 ms before the last millisecond; what is due in between never comes.
        assert_eq!(expired, [1]);
        assert!(wheel.next_wake_ms().is_some());
    }

    #[test]
    fn the_steady_path_does_not_grow() {
        let mut wheel = Wheel::new(0);
        wheel.arm(999, 5);
        let capacity = wheel.entries.capacity();
        let mut expired = Vec::with_capacity(1_000);
        for round in 0..100_u64 {
            for slot in 0..1_000 {
                wheel.arm(slot, round * 700 + u64::from(slot) * 37);
            }
            expired.clear();
            wheel.expire(round * 700, &mut expired);
        }
        assert_eq!((wheel.entries.capacity(), wheel.heads.len()), (capacity, 2 * LEVEL + 1));
    }
}
