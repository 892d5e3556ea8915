//! Load of one backend as the algorithms see it: its sessions at this moment, its limit, the answers that it owes, its latency.
//!
//! Shared by all workers and kept across snapshots, so the counts are exact for the whole process. Only atomics; the
//! time is an argument.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::latency::Latency;

/// The live numbers of one backend. One cache line of its own, so that two backends never slow each other.
#[derive(Debug)]
#[repr(align(64))]
pub struct Load {
    active: AtomicU32,
    /// 0: no limit.
    max_sessions: AtomicU32,
    /// Sessions and flows to which it owes an answer: their clients spoke last.
    owed: AtomicU32,
    /// The moments since when it owes them, all together: what is owed for how long follows from the two.
    owed_since_sum_us: AtomicU64,
    /// How long answers take: a peak-EWMA, and an average. Each a [`Latency`] in one word, so that value and age change together.
    answer_peak: AtomicU64,
    answer_mean: AtomicU64,
    /// How long connects take, a peak-EWMA: who answers those is the kernel, and not the program.
    connect_peak: AtomicU64,
    /// Turns that were measured, what one usually takes (`f32` bits of nanoseconds; 0: unknown), and when one last came.
    turns: AtomicU32,
    usual_ns: AtomicU32,
    answered_ms: AtomicU64,
}

impl Load {
    /// A backend without sessions, of unknown latency.
    pub fn new(max_sessions: Option<u32>) -> Self {
        Self {
            active: AtomicU32::new(0),
            max_sessions: AtomicU32::new(max_sessions.unwrap_or(0)),
            owed: AtomicU32::new(0),
            owed_since_sum_us: AtomicU64::new(0),
            answer_peak: AtomicU64::new(Latency::UNKNOWN.to_bits()),
            answer_mean: AtomicU64::new(Latency::UNKNOWN.to_bits()),
            connect_peak: AtomicU64::new(Latency::UNKNOWN.to_bits()),
            turns: AtomicU32::new(0),
            usual_ns: AtomicU32::new(0),
            answered_ms: AtomicU64::new(0),
        }
    }

    /// Sessions it has, those being dialled included.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// At its `max_sessions`.
    pub fn is_full(&self) -> bool {
        let max = self.max_sessions.load(Ordering::Relaxed);
        max != 0 && self.active() >= max
    }

    /// Sets the limit; sessions above a lowered one stay.
    pub fn set_max_sessions(&self, max_sessions: Option<u32>) {
        self.max_sessions.store(max_sessions.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes a place. False: full. Never lets `active` exceed the limit, however many workers try at once.
    #[must_use]
    pub fn try_take(&self) -> bool {
        self.active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |active| {
                let max = self.max_sessions.load(Ordering::Relaxed);
                (max == 0 || active < max).then_some(active + 1)
            })
            .is_ok()
    }

    /// Takes a place whatever the limit: for a session that was there before this process.
    pub fn import(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a place back. The caller must have taken it.
    pub fn give_back(&self) {
        let before = self.active.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a place was given back twice");
    }

    /// An answer is owed since then, in microseconds of the shared clock.
    pub fn ask(&self, since_us: u64) {
        self.owed_since_sum_us.fetch_add(since_us, Ordering::Relaxed);
        self.owed.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer that was owed since then came, or nobody waits for it any more. The caller must have asked.
    pub fn settle(&self, since_us: u64) {
        let before = self.owed.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "an answer was settled twice");
        self.owed_since_sum_us.fetch_sub(since_us, Ordering::Relaxed);
    }

    /// Answers that it owes.
    pub fn owed(&self) -> u32 {
        self.owed.load(Ordering::Relaxed)
    }

    /// How long those that it owes have been owed on average. `None`: it owes none.
    pub fn owed_for_us(&self, now_us: u64) -> Option<u64> {
        let owed = self.owed();
        let sum_us = self.owed_since_sum_us.load(Ordering::Relaxed);
        // The two words are not of one moment: where they cannot be, nothing is said, and the next look says it.
        if owed == 0 || self.owed() != owed {
            return None;
        }
        let total_us = now_us.wrapping_mul(owed.into()).wrapping_sub(sum_us);
        // Since the clock began at most; above half of all numbers it is below zero.
        Some(if total_us >= 1 << 63 { 0 } else { (total_us / u64::from(owed)).min(now_us) })
    }

    /// Adds how long an answer took, from what the client said to what the backend said. `now_ns` is any monotonic clock, the
    /// same as in [`super::Ask`].
    pub fn observe_answer(&self, now_ns: u64, sample_ns: u64) {
        self.expect_answer(now_ns, sample_ns);
        let (turns, sample_ns) = (self.turns.fetch_add(1, Ordering::Relaxed), sample_ns.max(1) as f32);
        let usual_ns = f32::from_bits(self.usual_ns.load(Ordering::Relaxed));
        let changed = match turns {
            _ if usual_ns <= 0.0 => sample_ns,
            // It may begin with one that is out of the way.
            ..FIRST_TURNS => usual_ns.min(sample_ns),
            _ => usual_ns + (sample_ns.min(usual_ns * OUTLYING) - usual_ns) * TURN_WEIGHT,
        };
        // Of two at once one may be lost: there are others.
        self.usual_ns.store(changed.to_bits(), Ordering::Relaxed);
    }

    fn expect_answer(&self, now_ns: u64, sample_ns: u64) {
        change(&self.answer_peak, |latency| latency.observe(now_ns, sample_ns));
        change(&self.answer_mean, |latency| latency.blend(now_ns, sample_ns));
    }

    /// Answers that were measured so far, and waits in vain, but no failures; begins anew with each process.
    pub fn turns(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    /// What a turn usually takes: an average of the last twenty or so, in which none counts as more than some times the others,
    /// and time changes nothing. `None`: none was measured.
    pub fn usual_ns(&self) -> Option<f32> {
        Some(f32::from_bits(self.usual_ns.load(Ordering::Relaxed))).filter(|ns| *ns > 0.0)
    }

    /// What turns took is to be learned anew.
    pub fn forget_turns(&self) {
        self.turns.store(0, Ordering::Relaxed);
        self.usual_ns.store(0, Ordering::Relaxed);
    }

    /// An answer came. Told once a session and second.
    pub fn note_answered(&self, now_us: u64) {
        self.answered_ms.store(now_us / 1_000, Ordering::Relaxed);
    }

    /// When an answer last came, in milliseconds of the shared clock; 0: never.
    pub fn answered_ms(&self) -> u64 {
        self.answered_ms.load(Ordering::Relaxed)
    }

    /// Adds how long somebody waited in vain. One that left sooner than an answer takes says nothing.
    pub fn observe_wait(&self, now_ns: u64, waited_ns: u64) {
        if self.mean().estimate_ns(now_ns).is_none_or(|usual_ns| waited_ns as f32 >= usual_ns) {
            self.observe_answer(now_ns, waited_ns);
        }
    }

    /// Adds how long a connect took.
    pub fn observe_connect(&self, now_ns: u64, sample_ns: u64) {
        change(&self.connect_peak, |latency| latency.observe(now_ns, sample_ns));
    }

    /// A connect failed, or a session ended without a byte: as if it had taken this long. Unmeasured, a backend that refuses at
    /// once would look ever faster and emptier than the others.
    pub fn observe_failure(&self, now_ns: u64, timeout_ns: u64) {
        self.observe_connect(now_ns, timeout_ns);
        self.expect_answer(now_ns, timeout_ns);
    }

    /// Begins anew with this expectation, a peak of answers, or of connects where there were none. What answers take on
    /// average is not known from it.
    pub fn set_latency(&self, now_ns: u64, peak_ns: u64, is_of_answers: bool) {
        let peak = if is_of_answers { &self.answer_peak } else { &self.connect_peak };
        peak.store(Latency::UNKNOWN.observe(now_ns, peak_ns).to_bits(), Ordering::Relaxed);
    }

    /// Answers of it were measured, here or in the process before.
    pub(super) fn is_answering(&self) -> bool {
        self.answer_peak.load(Ordering::Relaxed) != Latency::UNKNOWN.to_bits()
    }

    /// Another number whenever something was measured.
    pub fn latency_mark(&self) -> u64 {
        self.answer_peak.load(Ordering::Relaxed) ^ self.connect_peak.load(Ordering::Relaxed)
    }

    /// What an answer is expected to take; of one that never gave any, what a connect is. `None`: nothing was measured.
    pub fn latency_ns(&self, now_ns: u64) -> Option<f32> {
        let peak = Latency::from_bits(self.answer_peak.load(Ordering::Relaxed));
        peak.estimate_ns(now_ns).or_else(|| self.connect_ns(now_ns))
    }

    /// What a connect is expected to take; `None`: nothing was measured.
    pub fn connect_ns(&self, now_ns: u64) -> Option<f32> {
        Latency::from_bits(self.connect_peak.load(Ordering::Relaxed)).estimate_ns(now_ns)
    }

    /// How long answers take on average; `None`: nothing was measured.
    pub fn answer_ns(&self, now_ns: u64) -> Option<f32> {
        self.mean().estimate_ns(now_ns)
    }

    /// How long the answers that it owes have been waited for, as an expectation of how long they take. Half of the mean: who
    /// is met waiting is more often one who waits for long (the inspection paradox).
    pub(super) fn owed_ns(&self, now_ns: u64) -> f32 {
        self.owed_for_us(now_ns / 1_000).map_or(0.0, |us| us as f32 * 500.0)
    }

    fn mean(&self) -> Latency {
        Latency::from_bits(self.answer_mean.load(Ordering::Relaxed))
    }
}

/// Turns of which the quickest is what one usually takes.
const FIRST_TURNS: u32 = 5;
/// A turn counts as no more than so many times the usual: many are slow, and not one, before a backend is.
const OUTLYING: f32 = 4.0;
/// The part of one turn in the usual one.
const TURN_WEIGHT: f32 = 0.05;

/// Replaces a word by what is made of it, however many do so at once.
fn change(word: &AtomicU64, next: impl Fn(Latency) -> Latency) {
    let mut bits = word.load(Ordering::Relaxed);
    loop {
        let changed = next(Latency::from_bits(bits)).to_bits();
        match word.compare_exchange_weak(bits, changed, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(newer) => bits = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_limit_holds_however_many_threads_take_at_once() {
        let load = Load::new(Some(7));
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..20_000 {
                        if load.try_take() {
                            assert!((1..=7).contains(&load.active()));
                            load.give_back();
                        }
                    }
                });
            }
        });
        assert_eq!(load.active(), 0);
        let taken = (0..20).filter(|_| load.try_take()).count();
        assert_eq!((taken, load.is_full()), (7, true));
    }

    #[test]
    fn threads_fill_the_limit_exactly() {
        let load = Load::new(Some(1_000));
        let take = || (0..400).filter(|_| load.try_take()).count();
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!((taken, load.active()), (1_000, 1_000));
    }

    #[test]
    fn a_lowered_limit_closes_and_a_lifted_one_opens() {
        let load = Load::new(None);
        for _ in 0..5 {
            assert!(load.try_take());
        }
        load.set_max_sessions(Some(3));
        assert!(load.is_full() && !load.try_take());
        load.give_back();
        load.give_back();
        load.give_back();
        assert!(!load.is_full() && load.try_take() && load.is_full());
        load.set_max_sessions(None);
        assert!(load.try_take());
    }

    #[test]
    fn a_load_has_a_cache_line_of_its_own() {
        assert_eq!((size_of::<Load>(), align_of::<Load>()), (64, 64));
    }

    #[test]
    fn what_is_owed_is_counted_and_how_long() {
        let load = Load::new(None);
        assert_eq!((load.owed(), load.owed_for_us(99)), (0, None));
        load.ask(1_000);
        load.ask(3_000);
        assert_eq!((load.owed(), load.owed_for_us(5_000)), (2, Some(3_000)));
        load.settle(1_000);
        assert_eq!((load.owed(), load.owed_for_us(5_000)), (1, Some(2_000)));
        assert_eq!(load.owed_for_us(2_999), Some(0), "a reader whose clock is behind");
        load.settle(3_000);
        assert_eq!(load.owed_for_us(5_000), None);
    }

    #[test]
    fn readers_never_see_an_age_that_cannot_be() {
        let (load, done) = (Load::new(None), std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            let turns = scope.spawn(|| {
                for turn in 0..200_000_u64 {
                    load.ask(1_000_000 + turn);
                    load.settle(1_000_000 + turn);
                }
                done.store(true, Ordering::Relaxed);
            });
            load.ask(1_000_000);
            let mut odd = 0;
            while !done.load(Ordering::Relaxed) {
                odd += u32::from(load.owed_for_us(1_300_000).is_some_and(|us| us > 300_000));
            }
            turns.join().unwrap();
            // A turn that came and went between the two looks is seen in half, once in a very long while.
            assert!(odd < 100, "{odd}");
        });
    }

    #[test]
    fn who_leaves_early_makes_nobody_fast_and_who_waits_in_vain_makes_it_slow() {
        let load = Load::new(None);
        load.observe_answer(1_000_000_000, 5_000_000);
        load.observe_wait(1_000_000_000, 1_000);
        assert_eq!(load.answer_ns(1_000_000_000), Some(5_000_000.0));
        load.observe_wait(1_000_000_000, 2_000_000_000);
        assert!(load.answer_ns(1_000_000_000) > Some(100_000_000.0));
        assert_eq!(load.latency_ns(1_000_000_000), Some(2_000_000_000.0));
        assert_eq!(load.connect_ns(1_000_000_000), None, "connects are another matter");
    }

    #[test]
    fn one_turn_out_of_the_way_is_not_usual_and_many_are() {
        const SECOND_NS: u64 = 1_000_000_000;
        let load = Load::new(None);
        let turns = |count: u32, ns| (0..count).for_each(|_| load.observe_answer(SECOND_NS, ns));
        let usual_ms = || load.usual_ns().unwrap() / 1e6;
        turns(1, 5 * SECOND_NS);
        turns(529, 1_000_000);
        assert!(usual_ms() < 1.01, "the first one: {}", usual_ms());
        turns(1, 5 * SECOND_NS);
        assert!(usual_ms() < 1.2, "{}", usual_ms());
        assert!(load.answer_ns(SECOND_NS) > Some(200e6), "balancing goes by the whole of it");
        load.observe_failure(SECOND_NS, 5 * SECOND_NS);
        assert_eq!((usual_ms() < 1.2, load.turns()), (true, 531), "a failure is no turn");
        turns(40, 100_000_000);
        assert!(usual_ms() > 60.0, "{}", usual_ms());
        load.forget_turns();
        assert_eq!((load.turns(), load.usual_ns()), (0, None));
    }

    #[test]
    fn what_a_process_brings_along_is_a_peak_and_no_average() {
        let load = Load::new(None);
        load.set_latency(1_000_000_000, 9_000_000, false);
        assert_eq!((load.is_answering(), load.connect_ns(1_000_000_000)), (false, Some(9_000_000.0)));
        load.set_latency(1_000_000_000, 80_000_000, true);
        assert_eq!((load.is_answering(), load.latency_ns(1_000_000_000)), (true, Some(80_000_000.0)));
        assert_eq!(load.answer_ns(1_000_000_000), None);
    }
}
