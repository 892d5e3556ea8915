//! Session table of one data thread: every session's entry, its deadline, and who wants another turn.
//!
//! Fair queueing of the sessions of a thread: what says little is served when its socket is ready, bulk waits in one line
//! for slices of equal size (round robin), of which a turn gives out no more than its budget. So a small message waits for
//! a turn's budget, and never for every stream that is busy, however many there are: no head-of-line blocking by bulk.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use slab::Slab;

use super::half_duplex::Share;
use super::session::{Next, Phase, Session};
use super::side::{BACKEND, CLIENT, Side};
use super::stalled::{LOOKS, Stalled};
use super::{
    Terms, ThreadContext, Token, close, deadline, dial, empty_end, first_message, promised_tls, proxy_header,
    refusal, relay,
};
use crate::pool::{Lease, Waiter};
use crate::reason::Reason;
use crate::sys::poller::Ready;
use crate::sys::tcp as socket;
use crate::thread_context::{ENDS_PER_TURN, GENERATION_MASK, SCRATCH_BYTES};
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
    /// Sessions with work left after their turn, the one that has waited longest first.
    again: VecDeque<(u32, u32)>,
    /// What those that say little may still move in this turn, in whole reads.
    little_left: u64,
    pub(super) next_generation: u32,
    /// Sessions whose deadlines have come and that had no turn for it yet.
    expired: Vec<u32>,
    stalled: Stalled,
    /// Sessions that are being told why they are refused.
    refusing: usize,
    /// Sessions of the process before that do something before anything else: place, generation, what.
    pub(super) to_begin: VecDeque<(u32, u32, ToBegin)>,
}

/// What an imported session does first, when it may be touched.
#[derive(Debug, Clone, Copy)]
pub(super) enum ToBegin {
    /// It joins the line in which it stood since then, for no longer than until then.
    Rejoins(u64, u64),
    /// It ends as `handover_failed`.
    Ends,
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
            little_left: LITTLE_PER_TURN_BYTES,
            next_generation: 0,
            expired: Vec::new(),
            stalled: Stalled::default(),
            refusing: 0,
            to_begin: VecDeque::new(),
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
        if session.goes_elsewhere {
            session.note(side, ready, cx.now_ms());
            return;
        }
        let next = match session.phase {
            Phase::Dialling { .. } if side == BACKEND => {
                dial::on_backend_ready(session, backend_token, ready, cx)
            }
            Phase::AskingTls { .. } if side == BACKEND => {
                promised_tls::on_ready(session, backend_token, ready, cx)
            }
            phase => {
                session.note(side, ready, cx.now_ms());
                match phase {
                    Phase::Relaying => {
                        let share =
                            Share::Little(if self.little_left > 0 { SCRATCH_BYTES } else { LEAST_BYTES });
                        let before = session.relay.delivered_bytes();
                        let next = relay::step(session, share, cx);
                        let moved = session.relay.delivered_bytes() - before;
                        self.little_left = self.little_left.saturating_sub(moved);
                        self.stalled.note(slot, generation, session, cx.now_ms());
                        next
                    }
                    Phase::Lingering { .. } => relay::linger_on_ready(session, side, ready),
                    Phase::Refusing { .. } => refusal::step(session, cx),
                    Phase::AwaitingHeader { .. } if !ready.failed => {
                        proxy_header::look(session, backend_token, cx)
                    }
                    // A backend that waits for the first message as well, or one that was left in this turn.
                    _ if side == BACKEND => Next::Wait,
                    Phase::AwaitingFirst { .. } if !ready.failed => {
                        first_message::look(session, backend_token, cx)
                    }
                    Phase::AwaitingHeader { .. }
                    | Phase::AwaitingFirst { .. }
                    | Phase::Dialling { .. }
                    | Phase::AskingTls { .. }
                    | Phase::Pausing { .. }
                    | Phase::Queued { .. } => dial::on_client_ready(session, ready),
                }
            }
        };
        // What became of the backend may stand behind this in the same batch, under the token that the next one is to have.
        let next = if next == Next::Elsewhere && side == CLIENT {
            session.goes_elsewhere = true;
            Next::Again
        } else {
            next
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

    /// Gives slices to the sessions with work left, one after the other, until the turn's budget is spent. Who has more goes
    /// to the end of the line.
    pub fn run_again(&mut self, cx: &mut ThreadContext) {
        self.free_stalled(cx);
        self.little_left = LITTLE_PER_TURN_BYTES;
        let mut left = SLICES_PER_TURN_BYTES;
        while left > 0
            && let Some((slot, generation)) = self.again.pop_front()
        {
            // A slice that moves nothing is work, too.
            left = left.saturating_sub(LEAST_SLICE_BYTES);
            let Some(entry) = self.slots.get_mut(slot as usize).filter(|e| e.generation == generation) else {
                continue;
            };
            entry.queued = false;
            if std::mem::take(&mut entry.session.goes_elsewhere) && !entry.session.is_given {
                self.follow(slot, Next::Elsewhere, cx);
            } else if entry.session.phase == Phase::Relaying {
                let before = entry.session.relay.delivered_bytes();
                let slice = if self.again.len() < FEW { SLICE_OF_FEW_BYTES } else { SLICE_OF_MANY_BYTES };
                let next = relay::step(&mut entry.session, Share::Slice(slice), cx);
                left = left.saturating_sub(entry.session.relay.delivered_bytes() - before);
                self.stalled.note(slot, generation, &mut entry.session, cx.now_ms());
                self.follow(slot, next, cx);
            }
        }
    }

    /// Looks at some of the sessions that keep pipes.
    fn free_stalled(&mut self, cx: &mut ThreadContext) {
        if self.stalled.is_empty() {
            return;
        }
        let short = cx.pipes.was_short();
        for _ in 0..LOOKS {
            let Some(kept) = self.stalled.next(cx.now_ms()) else { return };
            let slot = kept.slot;
            let entry = self.slots.get_mut(slot as usize).filter(|entry| entry.generation == kept.generation);
            let Some(entry) = entry else { continue };
            if let Err(errno) = self.stalled.look(&kept, &mut entry.session, short, cx) {
                entry.session.error = Some(errno);
                self.follow(slot, Next::End(Reason::InternalError), cx);
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

    /// A session that is to end: where it is refused and can be told why, that comes first.
    fn tell(&mut self, key: usize, reason: Reason, cx: &mut ThreadContext) -> Next {
        let session = &mut self.slots[key].session;
        if matches!(session.phase, Phase::Refusing { .. }) {
            self.refusing -= 1;
            return Next::End(reason);
        }
        if self.refusing >= REFUSING_MAX || !refusal::is_due(session, reason) {
            return Next::End(reason);
        }
        let next = refusal::begin(session, reason, cx);
        self.refusing += usize::from(!matches!(next, Next::End(_)));
        next
    }

    pub(super) fn follow(&mut self, slot: u32, next: Next, cx: &mut ThreadContext) {
        let key = slot as usize;
        let next = match next {
            Next::Elsewhere => {
                let Slot { generation, session, .. } = &mut self.slots[key];
                empty_end::go_elsewhere(session, dial::backend_token(slot, *generation), cx)
            }
            other => other,
        };
        let next = match next {
            Next::End(reason) => self.tell(key, reason, cx),
            next => next,
        };
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

/// When slices have moved so much the turn gives no more of them, and the poller is looked at again: a small message waits
/// for this, and at most one slice more. A look costs a hundredth of it.
const SLICES_PER_TURN_BYTES: u64 = 1 << 20;
/// A slice of bulk, each way, where few others wait for theirs: what a large pipe holds. Each slice wakes both ends: with
/// four streams, slices of 512 KiB cost a quarter more CPU for the same bytes, of 256 KiB two thirds more.
const SLICE_OF_FEW_BYTES: usize = 1 << 20;
/// The same where many wait: with 64 streams this takes less CPU than the large slice, and each has its turn sooner.
const SLICE_OF_MANY_BYTES: usize = 512 * 1024;
/// Fewer than these in line are few.
const FEW: usize = 16;
/// What a slice counts at least: the calls for it take as long as so much bulk.
const LEAST_SLICE_BYTES: u64 = 16 * 1024;
/// Together so much is moved for events of one turn in reads that are as long as the buffer; then in short ones, so that
/// many sockets that are ready at once keep nobody waiting.
const LITTLE_PER_TURN_BYTES: u64 = 1 << 20;
/// A short read: more than a small message has.
const LEAST_BYTES: usize = 4 * 1024;
/// Each holds a socket for as long as it takes to hear why, two seconds at most; others are reset.
const REFUSING_MAX: usize = 256;
