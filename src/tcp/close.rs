//! Close of a session: sockets closed the right way, everything given back, counted once, logged once.

use std::fmt;
use std::net::SocketAddr;

use super::first_message;
use super::proxy_header::Trouble;
use super::session::{Phase, Session};
use super::side::Side;
use super::{Terms, ThreadContext, admission, dial};
use crate::reason::Reason;
use crate::sys::{Errno, tcp as socket};

/// Ends a session. A truncated stream must not look like a complete one: what came and cannot be delivered any more makes
/// every end a reset.
pub(super) fn close(mut session: Session, reason: Reason, cx: &mut ThreadContext) {
    dial::leave_line(&mut session, cx);
    let cut_bytes = cut_bytes(&session, reason);
    let (is_refusing, was_told) = match session.phase {
        Phase::Refusing { told, .. } => (true, told),
        _ => (false, false),
    };
    // Who is told why has its line already.
    if !is_refusing {
        tell(&session, reason, cut_bytes, cx);
    }
    let truncated =
        cut_bytes > 0 || !session.relay.to_backend.is_empty() || !session.relay.to_client.is_empty();
    session.relay.to_backend.drop_held(cx);
    session.relay.to_backend.forget_first(cx);
    session.relay.to_client.drop_held(cx);
    // Where a backend that said nothing reset, or none was left to ask, so does the client's end.
    let refused = reason == Reason::BackendEmpty
        && session.backend.as_ref().is_none_or(|backend| backend.broken.is_some());
    if ((resets(reason) || refused) && !was_told) || truncated {
        socket::reset_on_close(session.client.fd());
        if let Some(backend) = &session.backend {
            // A connect that is still under way is given up by the close alone.
            if !matches!(session.phase, Phase::Dialling { .. }) {
                socket::reset_on_close(backend.fd());
            }
        }
    }
    let counts = session.terms.counters.shards.of(cx.worker);
    counts.active.sub(1);
    counts.ended(reason).add(1);
    counts.cut_bytes.add(cut_bytes);
    // The backend hears of the end before its place is given to the next; the client finds, when it hears of it, the end
    // counted and the places free.
    session.backend = None;
    if let Some(lease) = &mut session.lease {
        lease.give_up(cx.now_us);
    }
    session.lease = None;
    admission::leave(&mut session);
    (cx.give_permit_back)();
}

/// Its line, if it has one.
pub(super) fn tell(session: &Session, reason: Reason, cut_bytes: u64, cx: &ThreadContext) {
    if session.terms.logs(reason, cut_bytes) && may_log(&session.terms, reason, cx) {
        log(session, reason, cut_bytes, cx);
    }
}

/// A connection that never became a session of the table: counted and logged like one, and reset.
pub(super) fn refuse(
    terms: &Terms,
    client: SocketAddr,
    local: Option<SocketAddr>,
    reason: Reason,
    cx: &ThreadContext,
) {
    let counts = terms.counters.shards.of(cx.worker);
    counts.begun.add(1);
    counts.ended(reason).add(1);
    if terms.logs(reason, 0) && may_log(terms, reason, cx) {
        tracing::info!(
            target: "session",
            listener = &*terms.listener,
            proto = "tcp",
            client = %client,
            local = local.map(tracing::field::display),
            reason = reason.word(),
            to_backend = 0,
            to_client = 0,
            ms = 0,
            attempts = 0,
            "session refused"
        );
    }
}

/// What a cut throws away: bytes that one side has sent, as far as they are here, and the other will not get. Where nothing
/// waits to be read or written the rest of the send queues is still delivered, and nothing is cut.
fn cut_bytes(session: &Session, reason: Reason) -> u64 {
    if !reason.is_cut() {
        return 0;
    }
    let relay = &session.relay;
    let fds = [Some(session.client.fd()), session.backend.as_ref().map(Side::fd)];
    let unread: u64 = fds.iter().flatten().map(|fd| socket::receivable(*fd)).sum();
    let waiting = unread + relay.to_backend.held_bytes() + relay.to_client.held_bytes();
    if waiting == 0 && !resets(reason) {
        return 0;
    }
    // A reset throws away what the peer has not acknowledged, too.
    waiting + fds.iter().flatten().map(|fd| u64::from(socket::unacknowledged(*fd))).sum::<u64>()
}

/// One side is gone, or the end is not the peers' own.
fn resets(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::ClientClosed
            | Reason::BackendClosed
            | Reason::BackendEmpty
            | Reason::Idle
            | Reason::HalfClosed
            | Reason::Lifetime
            | Reason::Cancel
    )
}

/// What floods of clients are refused for is told at most ten times a second; the rest goes into a summary.
fn may_log(terms: &Terms, reason: Reason, cx: &ThreadContext) -> bool {
    let now_s = u32::try_from(cx.now_us / 1_000_000).unwrap_or(u32::MAX);
    !reason.is_refusal() || terms.counters.refusals.may_log(reason, now_s)
}

fn log(session: &Session, reason: Reason, cut_bytes: u64, cx: &ThreadContext) {
    let backend = session.lease.as_ref().map(|lease| lease.backend());
    let relay = &session.relay;
    let proxied = session.proxied.as_deref();
    let trouble = proxied.and_then(|proxied| proxied.trouble);
    let first = session.first.as_deref();
    let of_first = first.and_then(|first| first.trouble).map(Told::First);
    let error = trouble.map(Told::Header).or(of_first).or(session.error.map(Told::System));
    tracing::info!(
        target: "session",
        listener = &*session.terms.listener,
        proto = "tcp",
        client = %session.client_address,
        peer = proxied.map(|proxied| proxied.peer).filter(|peer| *peer != session.client_address).map(tracing::field::display),
        local = socket::local_address(session.client.fd()).map(tracing::field::display),
        backend = backend.map(|backend| &*backend.name),
        via = session.backend.as_ref().and_then(|side| socket::local_address(side.fd())).map(tracing::field::display),
        name = first.and_then(|first| first.name.as_deref()),
        pool = backend.map_or(routed_to(session, reason), |backend| Some(&*backend.pool.name)),
        reason = reason.word(),
        to_backend = relay.to_backend.delivered_bytes,
        to_client = relay.to_client.delivered_bytes,
        cut_bytes = (cut_bytes > 0).then_some(cut_bytes),
        connect_ms = session.connect_us.map(in_ms),
        queue_ms = session.queue_us.map(in_ms),
        ms = in_ms(cx.now_us.saturating_sub(session.started_us)),
        attempts = session.attempts,
        error = error.map(tracing::field::display),
        "{}",
        // Turned away before any backend was looked at.
        if session.attempts == 0 && reason.is_refusal() { "session refused" } else { "session ended" }
    );
}

/// The pool of one that was routed by what it said, where it got no backend there.
fn routed_to(session: &Session, reason: Reason) -> Option<&str> {
    let before_any = matches!(reason, Reason::NoRoute | Reason::NoFirstMessage | Reason::BadFirstMessage);
    session.first.as_ref().filter(|_| !before_any).map(|_| &*session.terms.live.name)
}

/// Milliseconds with three decimals.
fn in_ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// An error as people read it.
enum Told {
    Header(Trouble),
    First(first_message::Trouble),
    System(Errno),
}

impl fmt::Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(trouble) => trouble.fmt(out),
            Self::First(trouble) => trouble.fmt(out),
            Self::System(errno) => std::io::Error::from(*errno).fmt(out),
        }
    }
}
