//! Thread context: what a data thread lends to the session or flow whose turn it is.

mod cancel;
mod pipes;
mod token;
#[cfg(test)]
pub(crate) mod trial;
mod walk;

use std::sync::Arc;

use crate::metrics::ListenerCounters;
use crate::pool::SnapshotCell;
use crate::random::Random;
use crate::sys::Errno;
use crate::sys::poller::Poller;
pub use cancel::{Cancel, CancelTo, SendCancel};
pub use pipes::PipePool;
pub use token::{GENERATION_MASK, Token};
pub use walk::{ENDS_PER_TURN, LOOKS_PER_TURN, Slice, Sought, Walk};

/// The tools of one thread. One session at a time uses them, and leaves nothing behind but empty pipes.
pub struct ThreadContext {
    /// The number of this thread: which shard of every counter is its own.
    pub worker: usize,
    /// Where sockets are watched.
    pub poller: Arc<Poller>,
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
    /// Sends a request to cancel on its way to backends. Never waits.
    pub send_cancel: SendCancel,
}

impl ThreadContext {
    /// The turn's time for deadlines.
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }
}

/// The size of [`ThreadContext::scratch`]: what a fast stream gives in one read.
pub const SCRATCH_BYTES: usize = 64 * 1024;
