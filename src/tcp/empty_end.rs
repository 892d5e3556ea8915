//! Empty end of a session: its backend took the connection and ended it, or reset it, without a byte: a port forwarder whose
//! server is gone (docker-proxy, a tunnel, a pooler), a server that crashes at each connection.
//!
//! A connect tells nothing of such a backend: whoever forwards accepts first. What must stay true:
//!
//! - The session goes to another backend only while nothing of what the client said was consumed: nothing was written to this
//!   one, so that nothing is done twice, or the pool says that it may be said twice (`replay_first`); and no later than a
//!   connect may take.
//! - A client that finished or left first had the end that it asked for: `nc -N`, a port scan and a check that connects and
//!   closes say nothing against a backend.
//! - It counts only where an answer was to be expected: the client had spoken and backends of the pool do answer, or they
//!   usually speak first. A pool of sinks never answers, and is never blamed for it. A reset counts always.

use super::relay::Relay;
use super::session::{Next, Session};
use super::side::{CLIENT, Side};
use super::{ThreadContext, Token, dial};
use crate::config::settings::Connect;
use crate::pool::Lease;
use crate::reason::Reason;

/// The backend has ended without a byte, the client has not ended, and nobody was told of it yet.
pub(super) fn has_come(session: &Session) -> bool {
    let Some(backend) = &session.backend else { return false };
    backend.read_out
        && session.relay.is_unanswered()
        && session.relay.finished_first.is_none()
        && !has_ended(&session.client)
}

/// Counts the end against the backend, and tells whether another one may still serve the session. Called once for an end.
pub(super) fn goes_elsewhere(session: &Session, cx: &ThreadContext) -> bool {
    let Some(lease) = &session.lease else { return false };
    let backend = lease.backend();
    backend.shards.of(cx.worker).empty_ends.add(1);
    let said = session.relay.to_backend.delivered_bytes + session.relay.to_backend.held_bytes();
    // Or it spoke, and was not read yet: it has not ended, so what is readable are words.
    let client_spoke = said > 0 || session.client.readable;
    // A reset is never how a session ends that went well.
    let is_reset = session.backend.as_ref().is_some_and(|side| side.broken.is_some());
    let was_expected = if client_spoke { backend.pool.answers() } else { backend.pool.speaks_first() };
    if is_reset || was_expected {
        backend.note_empty(cx.now_ms());
    }
    let snapshots = cx.snapshots.load();
    let Some(view) = snapshots.pools.get(session.terms.pool.0) else { return false };
    let connect = &view.settings.connect;
    // One that ends sessions at once must not look fast.
    let timeout_ns = u64::try_from(connect.timeout.as_nanos()).unwrap_or(u64::MAX);
    backend.load.observe_failure(cx.now_us * 1_000, timeout_ns);
    if !may_go(session, connect, cx) {
        return false;
    }
    let mut tried = view.places_of(&session.tried);
    tried.extend(view.places_of(&[backend.number]));
    // The same one again would do the same again: unlike a connect, it was answered.
    view.has_other_than(&tried, session.terms.role)
}

/// Leaves the backend, and dials another one with what the client has said.
pub(super) fn go_elsewhere(session: &mut Session, token: Token, cx: &mut ThreadContext) -> Next {
    session.error = session.backend.take().and_then(|backend| backend.broken);
    session.met_empty = true;
    if session.relay.to_backend.delivered_bytes > 0 {
        session.terms.live.shards.of(cx.worker).replays.add(1);
    }
    session.relay.begin_again();
    session.leave_backend();
    dial::attempt(session, token, cx)
}

/// The reason of an end that the backend made: of one that never said a word, unless the client had ended before.
pub(super) fn reason(otherwise: Reason, client: &Side, relay: &Relay) -> Reason {
    let client_first =
        relay.finished_first == Some(CLIENT) || relay.finished_first.is_none() && has_ended(client);
    let is_empty = matches!(otherwise, Reason::BackendClosed | Reason::BackendReset) && relay.is_unanswered();
    if is_empty && !client_first { Reason::BackendEmpty } else { otherwise }
}

/// Nothing would be done twice, nobody waits for too long, and there is an attempt left.
fn may_go(session: &Session, connect: &Connect, cx: &ThreadContext) -> bool {
    let timeout_us = u64::try_from(connect.timeout.as_micros()).unwrap_or(u64::MAX);
    let owed_since_us = session.lease.as_ref().map_or(0, Lease::owed_since_us);
    let was_answered = session.first.as_ref().is_some_and(|first| first.was_answered);
    let again = session.relay.to_backend.can_begin_again();
    session.terms.live.shards.of(cx.worker).replays_forgone.add(again.is_err().into());
    again == Ok(true)
        && !session.is_given
        && !was_answered
        && session.attempts < connect.attempts
        && cx.now_us.saturating_sub(session.relay.asked_us.max(owed_since_us)) <= timeout_us
}

/// It finished, or it is gone, as far as is known.
pub(super) fn has_ended(side: &Side) -> bool {
    side.read_out || side.ending || side.is_gone()
}
