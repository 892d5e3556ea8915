//! Session table of one data thread: every session's entry, its deadline, and who wants another turn.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use slab::Slab;

use super::session::{Next, Phase, Session};
use super::side::{BACKEND, CLIENT, Side};
use super::{Terms, ThreadContext, Token, close, deadline, dial, proxy_header, relay};
use crate::pool::{Lease, Waiter};
use crate::reason::Reason;
use crate::sys::poller::Ready;
use crate::sys::tcp as socket;
use crate::thread_context::{ENDS_PER_TURN, GENERATION_MASK};
use crate::timer_wheel::Wheel;

/// An accepted connection on its way to becoming a session, on this thread or another.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket.
    pub fd: OwnedFd,
    /// Who it is.
    pub client: SocketAddr,
    /// The port it came to.
    pub local_port: u16,
    /// What it is born with.
    pub terms: Arc<Terms>,
}

/// All sessions of one thread.
pub struct Sessions {
    pub(super) slots: Slab<Slot>,
    wheel: Wheel,
    /// Sessions with work left after their turn.
    again: VecDeque<(u32, u32)>,
    pub(super) next_generation: u32,
    /// Sessions whose deadlines have come and that had no turn for it yet.
    expired: Vec<u32>,
}

pub(super) struct Slot {
    pub(super) generation: u32,
    /// It is among those with work left.
    pub(super) queued: bool,
    pub(super) session: Session,
}

impl Sessions {
    /// None yet.
    pub fn new(now_ms: u64) -> Self {
        Self {
            slots: Slab::new(),
            wheel: Wheel::new(now_ms),
            again: VecDeque::new(),
            next_generation: 0,
            expired: Vec::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Begins a session: picks a backend and dials it. What it cannot have ends it at once.
    pub fn open(&mut self, arrival: Arrival, cx: &mut ThreadContext) {
        let counts = arrival.terms.counters.shards.of(cx.worker);
        counts.begun.add(1);
        counts.active.add(1);
        let Arrival { fd, client, local_port, terms } = arrival;
        let session = Session::new(terms, Side::new(fd), client, local_port, cx);
        self.next_generation = (self.next_generation + 1) & GENERATION_MASK;
        let generation = self.next_generation;
        let key = self.slots.insert(Slot { generation, queued: false, session });
        // The process holds fewer descriptors than 2^32: an index that does not fit cannot come.
        let slot = u32::try_from(key).unwrap_or(u32::MAX);
        let session = &mut self.slots[key].session;
        let token = Token::Session { slot, generation, side: CLIENT };
        let next = match cx.poller.watch_stream(&session.client.fd, token.pack()) {
            Ok(()) => proxy_header::begin(session, dial::backend_token(slot, generation), cx),
            Err(errno) => {
                session.error = Some(errno);
                Next::End(Reason::InternalError)
            }
        };
        self.follow(slot, next, cx);
    }

    /// A connection that may not become a session.
    pub fn refuse(arrival: &Arrival, reason: Reason, cx: &ThreadContext) {
        socket::reset_on_close(arrival.fd.as_fd());
        let local = socket::local_address(arrival.fd.as_fd());
        close::refuse(&arrival.terms, arrival.client, local, reason, cx);
    }

    /// A socket is ready.
    pub fn on_ready(
        &mut self,
        slot: u32,
        generation: u32,
        side: usize,
        ready: &Ready,
        cx: &mut ThreadContext,
    ) {
        let Some(entry) = self.slots.get_mut(slot as usize).filter(|entry| entry.generation == generation)
        else {
            return;
        };
        let session = &mut entry.session;
        let backend_token = dial::backend_token(slot, generation);
        let next = match session.phase {
            Phase::Dialling { .. } if side == BACKEND => {
                dial::on_backend_ready(session, backend_token, ready, cx)
            }
            phase => {
                session.note(side, ready, cx.now_ms());
                match phase {
                    Phase::Relaying => relay::step(session, cx),
                    Phase::Lingering { .. } => relay::linger_on_ready(session, side, ready),
                    Phase::AwaitingHeader { .. } if !ready.failed => {
                        proxy_header::look(session, backend_token, cx)
                    }
                    Phase::AwaitingHeader { .. }
                    | Phase::Dialling { .. }
                    | Phase::Pausing { .. }
                    | Phase::Queued { .. } => dial::on_client_ready(session, ready),
                }
            }
        };
        self.follow(slot, next, cx);
    }

    /// A place for a session that waited for one. If the session has left meanwhile the place goes on to the next.
    pub fn on_granted(&mut self, waiter: &Waiter, lease: Lease, cx: &mut ThreadContext) {
        let slot = waiter.slot;
        let Some(entry) =
            self.slots.get_mut(slot as usize).filter(|entry| entry.generation == waiter.generation)
        else {
            return;
        };
        let next =
            dial::on_granted(&mut entry.session, lease, dial::backend_token(slot, waiter.generation), cx);
        self.follow(slot, next, cx);
    }

    /// Gives each session with work left one more turn. New work of this turn waits for the next.
    pub fn run_again(&mut self, cx: &mut ThreadContext) {
        for _ in 0..self.again.len() {
            let Some((slot, generation)) = self.again.pop_front() else { return };
            let Some(entry) = self.slots.get_mut(slot as usize).filter(|e| e.generation == generation) else {
                continue;
            };
            entry.queued = false;
            if entry.session.phase == Phase::Relaying {
                let next = relay::step(&mut entry.session, cx);
                self.follow(slot, next, cx);
            }
        }
    }

    /// Looks after the sessions whose deadlines have come, no more than a turn may.
    pub fn on_time(&mut self, cx: &mut ThreadContext) {
        if self.expired.is_empty() {
            self.wheel.expire(cx.now_ms(), &mut self.expired);
        }
        // Each may be a session's end.
        for _ in 0..ENDS_PER_TURN {
            let Some(slot) = self.expired.pop() else { return };
            // It may have gone since, and another may stand there, of which nothing is due then.
            let Some(entry) = self.slots.get_mut(slot as usize) else { continue };
            let token = dial::backend_token(slot, entry.generation);
            let next = deadline::on_reached(&mut entry.session, token, cx);
            self.follow(slot, next, cx);
        }
    }

    /// When [`Self::on_time`] is to be called; `None` while no session has a deadline.
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.wheel.next_wake_ms()
    }

    /// Some session has work left: do not sleep.
    pub fn is_busy(&self) -> bool {
        !self.again.is_empty() || !self.expired.is_empty()
    }

    pub(super) fn follow(&mut self, slot: u32, next: Next, cx: &mut ThreadContext) {
        let key = slot as usize;
        if let Next::End(reason) = next {
            self.wheel.disarm(slot);
            let ended = self.slots.remove(key);
            close::close(ended.session, reason, cx);
            return;
        }
        let entry = &mut self.slots[key];
        if next == Next::Again && !entry.queued {
            entry.queued = true;
            self.again.push_back((slot, entry.generation));
        }
        if std::mem::take(&mut entry.session.deadline_moved) {
            match deadline::of(&entry.session) {
                Some(at_ms) => self.wheel.arm(slot, at_ms),
                None => self.wheel.disarm(slot),
            }
        }
    }
}
