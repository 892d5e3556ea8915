//! Permits (a counting semaphore that never waits): a number of them that all threads take from and give back to.

use std::sync::atomic::{AtomicU32, Ordering};

/// Permits, some of them taken. A cache line pair of its own, so that two counts never slow each other.
#[derive(Debug)]
#[repr(align(128))]
pub struct Permits {
    taken: AtomicU32,
    /// 0: no limit.
    most: AtomicU32,
}

impl Permits {
    /// All free; `None` is no limit.
    pub fn new(most: Option<u32>) -> Self {
        Self { taken: AtomicU32::new(0), most: AtomicU32::new(most.unwrap_or(0)) }
    }

    /// Takes one. False: none is free.
    #[must_use]
    pub fn try_take(&self) -> bool {
        let most = match self.most.load(Ordering::Relaxed) {
            0 => u32::MAX,
            most => most,
        };
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < most).then(|| taken + 1))
            .is_ok()
    }

    /// Is none free at this moment?
    pub fn is_full(&self) -> bool {
        self.most().is_some_and(|most| self.taken() >= most)
    }

    /// Takes one whatever the limit: for a session that was there before this process.
    pub fn import(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives one back. The caller must have taken it.
    pub fn give_back(&self) {
        let before = self.taken.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a place was given back twice");
    }

    /// How many are taken.
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many there are; `None`: no limit.
    pub fn most(&self) -> Option<u32> {
        Some(self.most.load(Ordering::Relaxed)).filter(|most| *most != 0)
    }

    /// Changes how many there are. Those taken above a lowered limit stay taken.
    pub fn set_most(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_attempts_of_four_threads_take_exactly_what_there_is() {
        let permits = Permits::new(Some(777));
        let take = || (0..2_500).filter(|_| permits.try_take()).count();
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!((taken, permits.taken()), (777, 777));
    }

    #[test]
    fn a_limit_moves_while_places_are_taken() {
        let permits = Permits::new(None);
        assert!((0..5).all(|_| permits.try_take()));
        permits.set_most(Some(3));
        assert!(!permits.try_take());
        (0..3).for_each(|_| permits.give_back());
        assert!(permits.try_take() && !permits.try_take());
        assert_eq!((permits.taken(), permits.most()), (3, Some(3)));
    }
}
