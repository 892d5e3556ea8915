//! Timeouts of a session: when it must be looked at although nothing is ready. Nothing is re-armed when bytes move: the
//! wheel comes at the earliest moment at which something could be due, and what is due is worked out then.

use super::session::{Next, Phase, Session};
use super::side::Side;
use super::{ThreadContext, Token, dial, first_message, proxy_header, relay};
use crate::reason::Reason;
use crate::sys::tcp as socket;

/// The earliest moment at which something may be due.
pub(super) fn of(session: &Session) -> Option<u64> {
    match session.phase {
        Phase::AwaitingHeader { deadline_ms }
        | Phase::AwaitingFirst { deadline_ms }
        | Phase::Dialling { deadline_ms, .. }
        | Phase::AskingTls { deadline_ms, .. } => Some(deadline_ms),
        Phase::Pausing { until_ms } | Phase::Queued { until_ms, .. } => Some(until_ms),
        Phase::Refusing { until_ms, .. } => Some(until_ms),
        Phase::Lingering { look_ms, until_ms, .. } => Some(look_ms.min(until_ms)),
        Phase::Relaying => ends_of(session).into_iter().flatten().map(|(at_ms, _)| at_ms).min(),
    }
}

/// The deadline has come: does what is due now, if anything is.
pub(super) fn on_reached(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    let now_ms = cx.now_ms();
    // Whatever comes of it, the wheel has let go of this session.
    session.deadline_moved = true;
    match session.phase {
        Phase::Dialling { deadline_ms, .. } | Phase::AskingTls { deadline_ms, .. }
            if now_ms >= deadline_ms =>
        {
            dial::on_timeout(session, backend_token, cx)
        }
        Phase::Pausing { until_ms } if now_ms >= until_ms => dial::attempt(session, backend_token, cx),
        Phase::Queued { until_ms, .. } if now_ms >= until_ms => dial::on_queue_timeout(session, cx),
        Phase::Refusing { reason, until_ms, .. } if now_ms >= until_ms => Next::End(reason),
        Phase::Lingering { .. } => relay::linger(session, cx),
        Phase::Relaying => {
            let due = ends_of(session).into_iter().flatten().filter(|(at_ms, _)| now_ms >= *at_ms);
            match due.min_by_key(|(at_ms, _)| *at_ms) {
                Some((_, Reason::Idle | Reason::HalfClosed)) if heard_since(session, now_ms) => Next::Wait,
                Some((_, reason)) => Next::End(reason),
                None => Next::Wait,
            }
        }
        Phase::AwaitingHeader { deadline_ms } if now_ms >= deadline_ms => proxy_header::on_timeout(session),
        Phase::AwaitingFirst { deadline_ms } if now_ms >= deadline_ms => {
            first_message::on_timeout(session, backend_token, cx)
        }
        Phase::AwaitingHeader { .. }
        | Phase::AwaitingFirst { .. }
        | Phase::Dialling { .. }
        | Phase::AskingTls { .. }
        | Phase::Refusing { .. }
        | Phase::Pausing { .. }
        | Phase::Queued { .. } => Next::Wait,
    }
}

/// The moments at which a relaying session ends if nothing moves until then.
fn ends_of(session: &Session) -> [Option<(u64, Reason)>; 4] {
    let relay = &session.relay;
    let after = |ms: Option<u64>, reason| ms.map(|ms| (relay.moved_ms.saturating_add(ms), reason));
    let half_closed_ms = session.terms.half_closed_ms.filter(|_| session.is_half_closed());
    [
        after(session.terms.idle_ms, Reason::Idle),
        after(half_closed_ms, Reason::HalfClosed),
        relay.lifetime_end_ms.map(|at_ms| (at_ms, Reason::Lifetime)),
        session.close_later_ms.map(|at_ms| (at_ms, session.ends_for.unwrap_or(Reason::BackendDown))),
    ]
}

/// Has a side sent something since anything was last delivered? What a side sends to another that does not read waits in
/// its socket, and is known to the kernel alone: it is asked when a silence seems to be over, and not at every read.
fn heard_since(session: &mut Session, now_ms: u64) -> bool {
    let fds = [Some(session.client.fd()), session.backend.as_ref().map(Side::fd)];
    let silent_ms = fds.into_iter().flatten().filter_map(socket::silent_ms).min();
    let heard_ms = silent_ms.map_or(0, |ms| now_ms.saturating_sub(ms));
    let since = heard_ms > session.relay.moved_ms;
    session.relay.moved_ms = session.relay.moved_ms.max(heard_ms);
    since
}
