//! Mailbox (message queue) of a data thread: what other threads tell it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Door, DoorsAsked, Freeze, PrecopyAsked, Search, ThreadImport};
use crate::metrics::{Cancelled, ListenerCounters};
use crate::pool::{Lease, Waiter};
use crate::reason::Reason;
use crate::sys::Errno;
use crate::sys::poller::Waker;
use crate::tcp::{self, Arrival};
use crate::udp;

/// One thing to do.
#[derive(Debug)]
pub enum Message {
    /// Accept at this door from now on.
    Open(Door),
    /// Receive datagrams at this door from now on.
    OpenDatagrams(udp::Door),
    /// New sessions of this door are born with these terms.
    Renew(u64, Arc<tcp::Terms>),
    /// New flows of this door are born with these terms.
    RenewDatagrams(u64, Arc<udp::Terms>),
    /// Let nobody new in at this door; handshakes that are under way there may end.
    LeaveDoor(u64),
    /// Take what waits at this door, then close it.
    CloseDoor(u64),
    /// Close this door and end its flows.
    CloseDatagrams(u64),
    /// Have this session, which another thread accepted; its place is taken already.
    Have(Arrival),
    /// A place for a session of this thread that waited for one.
    Granted {
        /// Who waited.
        waiter: Waiter,
        /// The place.
        lease: Lease,
    },
    /// Backends went down, of which a new snapshot tells: end the sessions that are to end with their backend.
    Verdicts,
    /// Take what waits at the doors, then close them; flows that live keep theirs.
    CloseDoors,
    /// End every session.
    Cut(Reason),
    /// Look for sessions.
    Search(Box<Search>),
    /// Tell the sockets of the doors.
    TellDoors(DoorsAsked),
    /// Give the sockets of sessions to a successor while they go on.
    Precopy(PrecopyAsked),
    /// Stand still, and do what is ordered until told otherwise.
    Freeze(Freeze),
    /// Go on with what another process had.
    Import(Box<ThreadImport>),
    /// Count what came of a request to cancel that this thread sent on its way.
    Cancelled {
        /// Where.
        counters: Arc<ListenerCounters>,
        /// What came of it.
        what: Cancelled,
        /// At how many backends.
        backends: u64,
    },
    /// Show that the loop turns.
    Ping,
    /// Leave when the last session has gone.
    Leave,
}

/// Messages that a thread has not read yet. Their number is bounded by what is posted: arrivals by the session limit,
/// places by those who wait for one, all others by the control thread and the publisher.
#[derive(Debug)]
pub struct Mailbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
}

impl Mailbox {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { messages: Mutex::new(Vec::new()), waker: Waker::new()? })
    }

    /// Posts, and wakes the reader if it may be asleep.
    pub fn post(&self, message: Message) {
        // The lock is held for a push or a swap, on both sides.
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let first = messages.is_empty();
        messages.push(message);
        drop(messages);
        if first {
            self.waker.wake();
        }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Swaps what has come for the empty `read`.
    pub(crate) fn take(&self, read: &mut Vec<Message>) {
        self.waker.clear();
        std::mem::swap(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner), read);
    }
}
