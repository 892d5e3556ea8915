//! Thread context: what a data thread lends to the session or flow whose turn it is.

mod pipes;
mod token;

use std::sync::Arc;

use crate::metrics::ListenerCounters;
use crate::pool::SnapshotCell;
use crate::sys::Errno;
use crate::sys::poller::Poller;
pub use pipes::PipePool;
pub use token::{GENERATION_MASK, Token};

/// The tools of one thread. One session at a time uses them, and leaves nothing behind but empty pipes.
pub struct ThreadContext {
    /// The number of this thread: which shard of every counter is its own.
    pub worker: usize,
    /// Where sockets are watched.
    pub poller: Poller,
    /// The one read buffer: an idle session holds none.
    pub scratch: Box<[u8]>,
    /// Pipes for bulk.
    pub pipes: PipePool,
    /// The pools of this moment.
    pub snapshots: Arc<SnapshotCell>,
    /// Read once per turn, on a clock that all threads share.
    pub now_us: u64,
    /// Chance.
    pub random: Random,
    /// The last dial found the system out of descriptors or memory, for a session that is counted there.
    pub shortage: Option<(Errno, Arc<ListenerCounters>)>,
    /// Gives the place of an ended session back. Called before its sockets are closed: a client that has seen the end
    /// finds the place free.
    pub give_permit_back: Box<dyn Fn() + Send>,
}

impl ThreadContext {
    /// The turn's time for deadlines.
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }
}

/// The size of [`ThreadContext::scratch`]: what a fast stream gives in one read.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// A small generator for picks and jitter (splitmix64). Not for secrets.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Each thread gets a seed of its own.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// `value` moved by chance, at most `percent` of it up or down.
    pub fn jitter(&mut self, value: u64, percent: u64) -> u64 {
        let spread = value / 100 * percent;
        if spread == 0 {
            return value;
        }
        value - spread + self.bits() % (2 * spread + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_percent_and_uses_both_sides() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.jitter(10_000, 10)).collect();
        assert!(drawn.iter().all(|d| (9_000..=11_000).contains(d)));
        assert!(drawn.iter().any(|&d| d < 9_500) && drawn.iter().any(|&d| d > 10_500));
        assert_eq!(random.jitter(5, 10), 5);
    }
}
