//! Load of one backend as the algorithms see it: its sessions at this moment, its limit, its latency.
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
    /// A [`Latency`] in one word, so that value and age change together.
    latency: AtomicU64,
}

impl Load {
    /// A backend without sessions, of unknown latency.
    pub fn new(max_sessions: Option<u32>) -> Self {
        Self {
            active: AtomicU32::new(0),
            max_sessions: AtomicU32::new(max_sessions.unwrap_or(0)),
            latency: AtomicU64::new(Latency::UNKNOWN.to_bits()),
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

    /// Adds a measured time (connect, or first answer) to the peak-EWMA of this backend. `now_ns` is any monotonic
    /// clock, the same as in [`super::Ask`]. For a failed connect give the connect timeout: unmeasured, a backend that
    /// refuses at once would look ever faster and emptier than the others.
    pub fn observe_latency(&self, now_ns: u64, sample_ns: u64) {
        let mut bits = self.latency.load(Ordering::Relaxed);
        loop {
            let next = Latency::from_bits(bits).observe(now_ns, sample_ns).to_bits();
            match self.latency.compare_exchange_weak(bits, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => bits = newer,
            }
        }
    }

    /// Begins anew with this expectation.
    pub fn set_latency(&self, now_ns: u64, latency_ns: u64) {
        self.latency.store(Latency::UNKNOWN.observe(now_ns, latency_ns).to_bits(), Ordering::Relaxed);
    }

    /// Another number whenever something was measured.
    pub fn latency_mark(&self) -> u64 {
        self.latency.load(Ordering::Relaxed)
    }

    /// What a connect or first answer is expected to take; `None`: nothing was measured.
    pub fn latency_ns(&self, now_ns: u64) -> Option<f32> {
        self.latency().estimate_ns(now_ns)
    }

    pub(super) fn latency(&self) -> Latency {
        Latency::from_bits(self.latency.load(Ordering::Relaxed))
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
}
