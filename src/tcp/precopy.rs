//! Pre-copy of a table before a handover: sockets are given to the successor while their sessions go on here, so that less is
//! to be done while everything stands still.
//!
//! A socket that two processes have is closed when both have closed it: of a session that ends after its sockets were given
//! the peer sees a reset when the successor lets go of its copies, which is when it learns who has gone. What was said
//! before by the session itself (an end of a stream) is not held up.
//!
//! What must stay true: a thread gives its own descriptors, so that none is closed, or another's, by the time it leaves; a
//! turn gives one message; what cannot be given goes along with everything else.

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};

use super::Sessions;
use super::session::Phase;
use crate::sys::Errno;
use crate::thread_context::{Slice, Walk};

/// A session whose sockets were given; its number is its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precopied {
    /// Where it stands in the table.
    pub slot: u32,
    /// Which of the slot's sessions.
    pub generation: u32,
}

/// Gives two sockets for each session from this number on: the client's, the backend's. Never waits.
pub type Give = Box<dyn Fn(u32, &[RawFd]) -> Result<(), Errno> + Send>;

/// A pre-copy under way.
pub struct Precopy {
    give: Give,
    given: Vec<Precopied>,
}

impl fmt::Debug for Precopy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Precopy({})", self.given.len())
    }
}

impl Precopy {
    /// By this way.
    pub fn new(give: Give) -> Self {
        Self { give, given: Vec::new() }
    }

    /// Whose sockets were given, by their places in the table.
    pub fn given(self) -> Vec<Precopied> {
        self.given
    }
}

impl Sessions {
    /// Goes on with giving the sockets of those whose backend is settled.
    pub fn precopy(&mut self, precopy: &mut Precopy, walk: &mut Walk, slice: &mut Slice) {
        let before = *walk;
        let (mut sockets, mut taken) = (Vec::with_capacity(2 * PAIRS_MAX), Vec::with_capacity(PAIRS_MAX));
        while taken.len() < PAIRS_MAX
            && let Some(place) = walk.step(slice)
        {
            let Some(entry) = self.slots.get_mut(place) else { continue };
            let session = &mut entry.session;
            if let (Phase::Relaying, Some(backend)) = (session.phase, &session.backend) {
                sockets.extend([session.client.fd.as_raw_fd(), backend.fd.as_raw_fd()]);
                // Another backend would be another socket than the one that the successor has.
                session.is_given = true;
                let slot = u32::try_from(place).unwrap_or(u32::MAX);
                taken.push(Precopied { slot, generation: entry.generation });
            }
        }
        if taken.is_empty() {
            return;
        }
        let first = u32::try_from(precopy.given.len()).unwrap_or(u32::MAX);
        match (precopy.give)(first, &sockets) {
            Ok(()) => precopy.given.extend(taken),
            // The successor is slower than this: the next turn tries again.
            Err(Errno::AGAIN) => *walk = before,
            // It is gone, or there is no room for so many on their way.
            Err(_) => *walk = Walk::over(0),
        }
    }
}

/// What one message takes, and one turn gives.
pub const PAIRS_MAX: usize = 126;
