//! Relay of a session: bytes both ways, and how the end of one side becomes the end of the other (half-close).
//!
//! - A side that finished (FIN) lets the other be finished once everything before it was written; the session goes on
//!   in the other direction.
//! - A side that broke (RST, or lost) is first read to its end, everything is written, the other side has acknowledged
//!   it, and then gets a reset too: a reset sooner would purge what is still in the send queue.

use super::half_duplex::{HalfDuplex, Share, Turn};
use super::session::{Next, Phase, Session, is_reset};
use super::side::{BACKEND, CLIENT, Side};
use super::{ThreadContext, empty_end};
use crate::metrics::Direction;
use crate::reason::Reason;
use crate::sys::poller::Ready;
use crate::sys::tcp as socket;
use crate::thread_context::SCRATCH_BYTES;

/// The relay's part of a session.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) to_backend: HalfDuplex,
    pub(super) to_client: HalfDuplex,
    /// The side that finished first, without breaking.
    pub(super) finished_first: Option<usize>,
    /// When bytes last came or were delivered, as far as is known, the relay began, or a side announced its end.
    pub(super) moved_ms: u64,
    /// When its life is over.
    pub(super) lifetime_end_ms: Option<u64>,
    /// Since when the backend may say its first word.
    pub(super) asked_us: u64,
}

impl Relay {
    pub(super) fn new(now_ms: u64, lifetime_ms: Option<u64>) -> Self {
        Self {
            to_backend: HalfDuplex::default(),
            to_client: HalfDuplex::default(),
            finished_first: None,
            moved_ms: now_ms,
            lifetime_end_ms: lifetime_ms.map(|ms| now_ms.saturating_add(ms)),
            asked_us: 0,
        }
    }

    /// The backend has not said a word.
    pub(super) fn is_unanswered(&self) -> bool {
        self.to_client.delivered_bytes == 0 && self.to_client.is_empty()
    }

    /// Forgets a backend that never said a word; what the client said and nobody has read stays.
    pub(super) fn begin_again(&mut self) {
        self.to_client = HalfDuplex::default();
        self.to_backend.begin_again();
    }

    /// What was delivered, both ways together.
    pub(super) fn delivered_bytes(&self) -> u64 {
        self.to_backend.delivered_bytes + self.to_client.delivered_bytes
    }
}

/// The backend answered the connect: bytes may flow.
pub(super) fn begin(session: &mut Session, cx: &mut ThreadContext) -> Next {
    session.relay.asked_us = cx.now_us;
    if let Some(lease) = session.lease.as_mut().filter(|_| session.terms.live.greets()) {
        lease.ask(cx.now_us);
    }
    session.relay.moved_ms = cx.now_ms();
    session.enter(Phase::Relaying);
    if session.is_to_close() {
        session.close_later(cx);
    }
    step(session, Share::Little(SCRATCH_BYTES), cx)
}

/// Moves what can be moved of this share, and draws the consequences.
pub(super) fn step(session: &mut Session, share: Share, cx: &mut ThreadContext) -> Next {
    let Some(backend) = session.backend.as_mut() else { return Next::End(Reason::InternalError) };
    let (client, relay) = (&mut session.client, &mut session.relay);
    let before = (relay.to_backend.delivered_bytes, relay.to_client.delivered_bytes);
    let is_mute = before.1 == 0;
    // One that has said nothing yet is heard first: where it has ended, the client's first words stay unread for another.
    let heard = (is_mute && backend.readable).then(|| relay.to_client.step(backend, client, share, cx));
    // One that has ended is not served again: what it said goes to whoever was there.
    let ends_mute = is_mute
        && backend.read_out
        && relay.is_unanswered()
        && relay.finished_first.is_none()
        && !empty_end::has_ended(client);
    let out = if ends_mute { Turn::Unfinished } else { relay.to_backend.step(client, backend, share, cx) };
    let back = match heard {
        Some(turn) => turn,
        None => relay.to_client.step(backend, client, share, cx),
    };
    let moved = (relay.to_backend.delivered_bytes - before.0, relay.to_client.delivered_bytes - before.1);
    account(session, moved, before, cx);
    if is_mute && empty_end::has_come(session) && empty_end::goes_elsewhere(session, cx) {
        return Next::Elsewhere;
    }
    if let Some(next) = pass_on_ends(session, cx) {
        return next;
    }
    // A write that found the client gone came too late for this turn's reading of it.
    let rest = session.client.broken.is_some() && session.can_read_client();
    if out == Turn::Unfinished || back == Turn::Unfinished || rest { Next::Again } else { Next::Wait }
}

/// Counts what was delivered, and notes whose turn it is to speak.
fn account(session: &mut Session, moved: (u64, u64), before: (u64, u64), cx: &mut ThreadContext) {
    if moved == (0, 0) {
        return;
    }
    let relay = &mut session.relay;
    relay.moved_ms = cx.now_ms();
    let counts = session.terms.counters.shards.of(cx.worker);
    counts.bytes(Direction::ToBackend).add(moved.0);
    counts.bytes(Direction::ToClient).add(moved.1);
    let Some(lease) = &mut session.lease else { return };
    if moved.1 > 0 {
        lease.answer(cx.now_us);
    } else {
        lease.ask(cx.now_us);
    }
    let backend = lease.backend();
    let counts = backend.shards.of(cx.worker);
    counts.bytes(Direction::ToBackend).add(moved.0);
    counts.bytes(Direction::ToClient).add(moved.1);
    if before.1 == 0 && moved.1 > 0 {
        backend.note_answer();
        let by_client = before.0 + moved.0 > 0;
        session.terms.live.shards.of(cx.worker).first_words[usize::from(by_client)].add(1);
        session.terms.live.note_first_word(!by_client);
        session.tried = Vec::new();
        relay.to_backend.forget_first(cx);
    }
}

fn pass_on_ends(session: &mut Session, cx: &mut ThreadContext) -> Option<Next> {
    let backend = session.backend.as_mut()?;
    let (client, relay) = (&mut session.client, &mut session.relay);
    if let (Some(errno), Some(_)) = (client.broken, backend.broken) {
        session.error = Some(errno);
        return Some(Next::End(broken_reason(CLIENT, client)));
    }
    for side in [CLIENT, BACKEND] {
        let (me, other, way) = match side {
            CLIENT => (&*client, &mut *backend, &relay.to_backend),
            _ => (&*backend, &mut *client, &relay.to_client),
        };
        if !me.read_out || !way.is_empty() {
            continue;
        }
        if let Some(errno) = me.broken {
            session.error = Some(errno);
            let reason = match side {
                CLIENT => broken_reason(side, me),
                _ => empty_end::reason(broken_reason(side, me), client, relay),
            };
            return Some(break_other(session, reason, cx));
        }
        if relay.finished_first.is_none() {
            relay.finished_first = Some(side);
        }
        // When both are done the closing of the sockets says so.
        if !other.finished && !other.read_out {
            socket::finish(other.fd());
            other.finished = true;
        }
    }
    let done =
        client.read_out && backend.read_out && relay.to_backend.is_empty() && relay.to_client.is_empty();
    done.then(|| {
        let client_first = relay.finished_first == Some(CLIENT);
        let reason = if client_first { Reason::ClientClosed } else { Reason::BackendClosed };
        Next::End(empty_end::reason(reason, client, relay))
    })
}

/// One side is gone and all it sent is written: the other side's reset waits until it has acknowledged it.
fn break_other(session: &mut Session, reason: Reason, cx: &ThreadContext) -> Next {
    let patience_ms = session.terms.half_closed_ms.unwrap_or(LINGER_MAX_MS);
    let now_ms = cx.now_ms();
    let look_ms = now_ms + LINGER_LOOK_MS;
    session.enter(Phase::Lingering { reason, look_ms, until_ms: now_ms.saturating_add(patience_ms) });
    linger(session, cx)
}

/// Looks whether the remaining side has acknowledged everything.
pub(super) fn linger(session: &mut Session, cx: &ThreadContext) -> Next {
    let Phase::Lingering { reason, until_ms, .. } = session.phase else { return Next::Wait };
    let remaining = match reason {
        Reason::ClientReset | Reason::ClientLost => session.backend.as_ref(),
        _ => Some(&session.client),
    };
    let waits = remaining.is_some_and(|side| !side.is_gone() && socket::unacknowledged(side.fd()) > 0);
    let now_ms = cx.now_ms();
    if !waits || now_ms >= until_ms {
        return Next::End(reason);
    }
    // Looking is cheap but not free: the longer it has taken, the less often.
    let left_ms = until_ms - now_ms;
    let waited_ms = now_ms.saturating_sub(session.relay.moved_ms);
    let pause_ms = (waited_ms / 8).clamp(LINGER_LOOK_MS, LINGER_LOOK_MAX_MS).min(left_ms);
    session.enter(Phase::Lingering { reason, look_ms: now_ms + pause_ms, until_ms });
    Next::Wait
}

/// A side that is itself gone needs no reset: nothing is left to wait for.
pub(super) fn linger_on_ready(session: &Session, side: usize, ready: &Ready) -> Next {
    let Phase::Lingering { reason, .. } = session.phase else { return Next::Wait };
    let remaining = if matches!(reason, Reason::ClientReset | Reason::ClientLost) { BACKEND } else { CLIENT };
    if ready.failed && side == remaining { Next::End(reason) } else { Next::Wait }
}

fn broken_reason(side: usize, me: &Side) -> Reason {
    let reset = me.broken.is_some_and(is_reset);
    match (side, reset) {
        (CLIENT, true) => Reason::ClientReset,
        (CLIENT, false) => Reason::ClientLost,
        (_, true) => Reason::BackendReset,
        (_, false) => Reason::BackendLost,
    }
}

const LINGER_LOOK_MS: u64 = 16;
const LINGER_LOOK_MAX_MS: u64 = 1_000;
/// How long a reset waits for a peer that acknowledges nothing, where `half_closed` is off.
const LINGER_MAX_MS: u64 = 300_000;
