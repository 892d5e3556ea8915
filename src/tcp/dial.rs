//! Dial (connect, with retries): from a client to a connected backend: pick, take a permit, connect; after a failure
//! the same at another backend.

use std::sync::Arc;

use super::session::{Next, Phase, Session};
use super::side::{BACKEND, Side};
use super::{ThreadContext, Token, connect_from, promised_tls, proxy_header, relay};
use crate::balance::Ask;
use crate::config::settings::{self, WhenNone};
use crate::pool::{End, Lease, PoolView, Refusal, Waiter};
use crate::reason::Reason;
use crate::sys::poller::Ready;
use crate::sys::{Errno, tcp as socket};

/// Picks and dials. `token` is the session's, for its backend side.
pub(super) fn attempt(session: &mut Session, token: Token, cx: &mut ThreadContext) -> Next {
    // Each turn of the loop uses up one of at most 16 attempts, or leaves it.
    loop {
        // One look at the pool serves the pick and the dial.
        let snapshots = cx.snapshots.load();
        let Some(view) = snapshots.pools.get(session.terms.pool.0) else {
            return Next::End(Reason::InternalError);
        };
        let tried = view.places_of(&session.tried);
        let (client, random, now_ns) = (session.client_address, cx.random.bits(), cx.now_us * 1_000);
        let ask = Ask { client, random, now_ns, tried: &tried };
        let lease = match (Lease::take(view, session.terms.role, &ask), view.settings.queue) {
            (Ok(lease), _) => lease,
            // Another one is only full: to wait for it beats asking those again that failed.
            (Err(Refusal::AllTried), Some(queue)) if view.has_other_than(&tried, session.terms.role) => {
                return wait_in_line(session, token, view, &queue, cx);
            }
            (Err(Refusal::AllTried), _) => {
                return pause(session, view.settings.connect.timeout.as_millis(), cx);
            }
            (Err(Refusal::Full), Some(queue)) => return wait_in_line(session, token, view, &queue, cx),
            // One will be: the primary of a failover is a matter of seconds.
            (Err(Refusal::NoBackend), Some(queue)) if view.settings.when_none == WhenNone::Wait => {
                return wait_in_line(session, token, view, &queue, cx);
            }
            // What the first attempt met is the better explanation.
            (Err(_), _) if session.attempts > 0 => return Next::End(given_up(session)),
            (Err(Refusal::NoBackend), _) => return Next::End(Reason::NoBackend),
            (Err(Refusal::Full), None) => return Next::End(Reason::BackendsFull),
        };
        if let Some(next) = dial(session, lease, view, token, cx) {
            return next;
        }
    }
}

/// A place has come to a session that waited for it.
pub(super) fn on_granted(session: &mut Session, lease: Lease, token: Token, cx: &mut ThreadContext) -> Next {
    let Phase::Queued { since_us, .. } = session.phase else { return Next::Wait };
    note_waited(session, since_us, cx);
    // It waits no more: an end that comes now must not count its waiting again.
    session.enter(Phase::Pausing { until_ms: cx.now_ms() });
    let next = {
        let snapshots = cx.snapshots.load();
        let Some(view) = snapshots.pools.get(session.terms.pool.0) else {
            return Next::End(Reason::InternalError);
        };
        dial(session, lease, view, token, cx)
    };
    next.unwrap_or_else(|| attempt(session, token, cx))
}

/// Nobody gave a place back in time.
pub(super) fn on_queue_timeout(session: &mut Session, cx: &mut ThreadContext) -> Next {
    leave_line(session, cx);
    Next::End(Reason::QueueTimeout)
}

/// Leaves the line, if it is in one: the session ends.
pub(super) fn leave_line(session: &mut Session, cx: &ThreadContext) {
    let Phase::Queued { ticket, since_us, until_ms } = session.phase else { return };
    note_waited(session, since_us, cx);
    if let Some(view) = cx.snapshots.load().pools.get(session.terms.pool.0) {
        view.live.leave(ticket, session.terms.role);
    }
    session.phase = Phase::Pausing { until_ms };
}

/// Joins the line of its pool. One that lost its place to a failure was there before all others.
fn wait_in_line(
    session: &mut Session,
    token: Token,
    view: &PoolView,
    queue: &settings::Queue,
    cx: &mut ThreadContext,
) -> Next {
    let Token::Session { slot, generation, .. } = token else { return Next::End(Reason::InternalError) };
    let waiter = Waiter {
        worker: cx.worker,
        slot,
        generation,
        role: session.terms.role,
        client: session.client_address,
        now_ns: cx.now_us * 1_000,
        tried: session.tried.clone(),
    };
    let end = if session.attempts > 0 { End::Front } else { End::Back };
    let Some(ticket) = view.live.wait(waiter, end, queue.sessions) else {
        return Next::End(Reason::QueueFull);
    };
    let timeout_ms = u64::try_from(queue.timeout.as_millis()).unwrap_or(u64::MAX);
    let until_ms = cx.now_ms().saturating_add(timeout_ms);
    session.enter(Phase::Queued { ticket, since_us: cx.now_us, until_ms });
    Next::Wait
}

/// Joins the line in the place it had in the process before.
pub(super) fn rejoin(
    session: &mut Session,
    token: Token,
    (since_us, until_ms): (u64, u64),
    cx: &mut ThreadContext,
) -> Next {
    let Token::Session { slot, generation, .. } = token else { return Next::End(Reason::InternalError) };
    let (worker, client, now_ns) = (cx.worker, session.client_address, cx.now_us * 1_000);
    let (role, tried) = (session.terms.role, session.tried.clone());
    let waiter = Waiter { worker, slot, generation, role, client, now_ns, tried };
    let ticket = {
        let snapshots = cx.snapshots.load();
        let view = snapshots.pools.get(session.terms.pool.0);
        view.map(|view| view.live.wait_since(waiter, since_us))
    };
    let Some(ticket) = ticket else { return attempt(session, token, cx) };
    session.enter(Phase::Queued { ticket, since_us, until_ms });
    Next::Wait
}

fn note_waited(session: &mut Session, since_us: u64, cx: &ThreadContext) {
    let waited_us = cx.now_us.saturating_sub(since_us);
    session.queue_us = Some(session.queue_us.unwrap_or(0) + waited_us);
}

/// Dials the backend where a place was taken. `None`: that failed, and another attempt may be made.
fn dial(
    session: &mut Session,
    lease: Lease,
    view: &PoolView,
    token: Token,
    cx: &mut ThreadContext,
) -> Option<Next> {
    let address = lease.backend().address(session.local_port);
    let connect = &view.settings.connect;
    if session.attempts > 0 {
        view.live.shards.of(cx.worker).retries.add(1);
    }
    session.on_down = view.settings.on_down;
    session.attempts = session.attempts.saturating_add(1);
    session.lease = Some(lease);
    match connect_from::dial(view, session, address, cx.worker) {
        Ok(fd) => {
            let side = Side::new(fd);
            if let Err(errno) = cx.poller.watch_stream(&side.fd, token.pack()) {
                session.error = Some(errno);
                return Some(Next::End(Reason::InternalError));
            }
            session.backend = Some(side);
            let timeout_ms = u64::try_from(connect.timeout.as_millis()).unwrap_or(u64::MAX);
            let deadline_ms = cx.now_ms().saturating_add(timeout_ms);
            session.enter(Phase::Dialling { began_us: cx.now_us, deadline_ms });
            // A place that was on its way when its backend went down comes after everybody was looked at.
            if session.is_to_close() {
                session.close_later(cx);
            }
            Some(Next::Wait)
        }
        Err(errno) => {
            session.error = Some(errno);
            match local_trouble(errno) {
                Some(Reason::LimitProcess) => {
                    cx.shortage = Some((errno, Arc::clone(&session.terms.counters)));
                    return Some(Next::End(Reason::LimitProcess));
                }
                // No port or no address towards this backend: there may be one towards another.
                Some(Reason::NoSourcePort) if session.attempts < connect.attempts => {
                    session.leave_backend();
                    return None;
                }
                Some(reason) => return Some(Next::End(reason)),
                None => {}
            }
            fail(session, connect, cx).then_some(Next::End(given_up(session)))
        }
    }
}

/// The dialled socket is ready: connected, or refused.
pub(super) fn on_backend_ready(
    session: &mut Session,
    token: Token,
    ready: &Ready,
    cx: &mut ThreadContext,
) -> Next {
    if !matches!(session.phase, Phase::Dialling { .. }) {
        return Next::Wait;
    }
    let broken = if ready.failed {
        let errno = session.backend.as_ref().and_then(|side| socket::take_error(side.fd()));
        Some(errno.unwrap_or(Errno::CONNRESET))
    } else {
        None
    };
    if let Some(errno) = broken
        && !session.backend.as_ref().is_some_and(has_spoken)
    {
        return failed(session, token, errno, cx);
    }
    if !ready.writable {
        return Next::Wait;
    }
    if let Some(side) = session.backend.as_ref().filter(|side| met_itself(session, side)) {
        // An orderly close would keep the backend's port in TIME_WAIT, where the backend itself could not bind it.
        socket::reset_on_close(side.fd());
        return failed(session, token, Errno::CONNREFUSED, cx);
    }
    if session.lost_role() {
        // The pick is older than what is known now. Nothing was said yet: another backend may have the role.
        session.backend = None;
        session.leave_backend();
        return if session.attempts < attempts_of(session, cx) {
            attempt(session, token, cx)
        } else {
            Next::End(Reason::RoleChanged)
        };
    }
    if promised_tls::is_owed(session) {
        return promised_tls::ask(session, token, cx);
    }
    connected(session, ready, broken, cx)
}

/// The backend is reached, and has said yes to whatever it was asked: the relay begins.
pub(super) fn connected(
    session: &mut Session,
    ready: &Ready,
    broken: Option<Errno>,
    cx: &mut ThreadContext,
) -> Next {
    reached(session, ready, broken, cx);
    relay::begin(session, cx)
}

/// The backend is reached: that counts for it.
pub(super) fn reached(session: &mut Session, ready: &Ready, broken: Option<Errno>, cx: &mut ThreadContext) {
    let (Phase::Dialling { began_us, .. } | Phase::AskingTls { began_us, .. }) = session.phase else {
        return;
    };
    let was_asked = matches!(session.phase, Phase::AskingTls { .. });
    let took_us = cx.now_us.saturating_sub(began_us);
    session.connect_us = Some(took_us);
    (session.error, session.met_empty) = (None, false);
    if let Some(lease) = &session.lease {
        let backend = lease.backend();
        backend.load.observe_connect(cx.now_us * 1_000, took_us * 1_000);
        backend.note_success();
        backend.shards.of(cx.worker).sessions.add(1);
    }
    if let Some(view) = cx.snapshots.load().pools.get(session.terms.pool.0) {
        view.live.shards.of(cx.worker).connect.observe(took_us);
        // One that was asked something has had it in front of that.
        if !was_asked && let Some(header) = proxy_header::to_send(session, view.settings.send_proxy) {
            session.relay.to_backend.lead_with(header);
        }
        if view.settings.connect.replay_first {
            session.relay.to_backend.keep_first(cx);
        }
    }
    if let Some(side) = session.backend.as_mut() {
        side.note(ready);
        side.broken = broken;
    }
}

/// How often it may be tried; once where its pool is gone.
pub(super) fn attempts_of(session: &Session, cx: &ThreadContext) -> u8 {
    let snapshots = cx.snapshots.load();
    snapshots.pools.get(session.terms.pool.0).map_or(1, |view| view.settings.connect.attempts)
}

/// A backend may answer and reset before its connect is noticed here. What it said is delivered; without a word of it
/// nothing has happened yet, and another backend may still serve.
fn has_spoken(side: &Side) -> bool {
    socket::receivable(side.fd()) > 0
}

/// Something of the client while there is no backend yet. One that only finished sending is still served; one that reset
/// has left.
pub(super) fn on_client_ready(session: &mut Session, ready: &Ready) -> Next {
    if !ready.failed {
        return Next::Wait;
    }
    session.error = session.client.broken.or_else(|| socket::take_error(session.client.fd()));
    Next::End(Reason::ClientReset)
}

/// The connect under way has taken too long.
pub(super) fn on_timeout(session: &mut Session, token: Token, cx: &mut ThreadContext) -> Next {
    failed(session, token, Errno::TIMEDOUT, cx)
}

/// Closes the failed attempt and makes the next one, if there may be one.
pub(super) fn failed(session: &mut Session, token: Token, errno: Errno, cx: &mut ThreadContext) -> Next {
    session.error = Some(errno);
    session.backend = None;
    let connect = {
        let snapshots = cx.snapshots.load();
        let Some(view) = snapshots.pools.get(session.terms.pool.0) else {
            return Next::End(Reason::InternalError);
        };
        view.settings.connect
    };
    if fail(session, &connect, cx) {
        return Next::End(given_up(session));
    }
    attempt(session, token, cx)
}

/// Counts a failed attempt and gives its place back. True: it was the last one; then the lease stays, so that the
/// closing line names the backend.
fn fail(session: &mut Session, connect: &settings::Connect, cx: &ThreadContext) -> bool {
    // A connect that nobody takes is refused: this one was taken, and reset before that was noticed here.
    session.met_empty = session.error == Some(Errno::CONNRESET);
    if let Some(lease) = &session.lease {
        let backend = lease.backend();
        let counts = backend.shards.of(cx.worker);
        counts.connect_failures.add(1);
        counts.empty_ends.add(session.met_empty.into());
        backend.note_failure(cx.now_ms());
        // A backend that refuses at once must not look fast.
        let waited_ns = u64::try_from(connect.timeout.as_nanos()).unwrap_or(u64::MAX);
        backend.load.observe_failure(cx.now_us * 1_000, waited_ns);
    }
    if session.attempts >= connect.attempts {
        return true;
    }
    session.leave_backend();
    false
}

/// No untried backend is left: the next round begins after a pause.
fn pause(session: &mut Session, timeout_ms: u128, cx: &mut ThreadContext) -> Next {
    session.tried.clear();
    let pause_ms = cx.random.jitter(u64::try_from(timeout_ms.min(REPEAT_PAUSE_MAX_MS)).unwrap_or(0), 25);
    session.enter(Phase::Pausing { until_ms: cx.now_ms() + pause_ms });
    Next::Wait
}

/// Why no attempt is left: what the last one met.
fn given_up(session: &Session) -> Reason {
    let met = if session.met_empty { Reason::BackendEmpty } else { Reason::ConnectFailed };
    session.error.and_then(local_trouble).unwrap_or(met)
}

/// Trouble of this machine, which says nothing about the backend and would meet the next one as well.
fn local_trouble(errno: Errno) -> Option<Reason> {
    match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Some(Reason::LimitProcess),
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE | Errno::AGAIN => Some(Reason::NoSourcePort),
        // The last: an IPv6 client has no address that an IPv4 backend could answer to.
        Errno::PERM | Errno::ACCESS | Errno::AFNOSUPPORT => Some(Reason::ConnectFailed),
        _ => None,
    }
}

/// A connect to a port of this host where nobody listens may be given that very port as its own, and TCP then connects
/// the socket to itself: the client would hear its own words.
fn met_itself(session: &Session, side: &Side) -> bool {
    let Some(lease) = &session.lease else { return false };
    let address = lease.backend().address(session.local_port);
    // Only a local port can be met. The call is saved where the usual ranges of local ports cannot hold it.
    let first_local_port = if address.ip().is_loopback() { 1_024 } else { 32_768 };
    address.port() >= first_local_port && socket::local_address(side.fd()) == Some(address)
}

pub(super) fn backend_token(slot: u32, generation: u32) -> Token {
    Token::Session { slot, generation, side: BACKEND }
}

/// A repeat at a backend that failed this session already waits `min(connect.timeout, 1s)`.
const REPEAT_PAUSE_MAX_MS: u128 = 1_000;
