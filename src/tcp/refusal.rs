//! Refusal in the client's own protocol, where the listener says which one that is (`speaks`): the client hears why it is turned
//! away instead of a reset.
//!
//! Must stay true: what the session held (its place in limits, line and pool) is given back before a word is said; how many are
//! being told at once, and how long, is bounded, and so is what each may ask before; whoever cannot be told is reset as anybody
//! else.

use super::first_message::ANSWERS_MAX;
use super::session::{Next, Phase, Session};
use super::{ThreadContext, admission, close, dial};
use crate::config::settings::Speaks;
use crate::reason::Reason;
use crate::routing::{self, Opening, Seen};
use crate::sys::{Errno, tcp as socket};

/// A session that is to end for this reason will hear of it.
pub(super) fn is_due(session: &Session, reason: Reason) -> bool {
    let Some(speaks) = session.terms.speaks else { return false };
    // One that was promised TLS, or has begun with it, reads nothing else any more.
    let in_tls = session.first.as_ref().is_some_and(|first| first.promised_tls);
    let has_backend = matches!(session.phase, Phase::Relaying | Phase::Lingering { .. });
    !in_tls && !has_backend && routing::refusal(speaks, reason, None, false).is_some()
}

/// Gives back what the session has, and tells the client as soon as it can hear it.
pub(super) fn begin(session: &mut Session, reason: Reason, cx: &mut ThreadContext) -> Next {
    dial::leave_line(session, cx);
    close::tell(session, reason, 0, cx);
    session.backend = None;
    session.lease = None;
    admission::leave(session);
    session.enter(Phase::Refusing { reason, until_ms: cx.now_ms() + TELLS_MAX_MS, told: false, answered: 0 });
    step(session, cx)
}

/// Something of the client: its question, or its end.
pub(super) fn step(session: &mut Session, cx: &mut ThreadContext) -> Next {
    let Phase::Refusing { reason, until_ms, told, answered } = session.phase else { return Next::Wait };
    if told {
        return drain(session, reason, cx);
    }
    let Some(speaks) = session.terms.speaks else { return Next::End(reason) };
    let Some(is_status) = (match hears(session, speaks, cx) {
        Ok(heard) => heard,
        Err(_) => return Next::End(reason),
    }) else {
        return Next::Wait;
    };
    let text = text(session, reason, cx);
    let Some(message) = routing::refusal(speaks, reason, text.as_deref(), is_status) else {
        return Next::End(reason);
    };
    // A socket to which nothing was sent has room for it.
    if socket::send(session.client.fd(), &message) != Ok(message.len()) {
        return Next::End(reason);
    }
    socket::finish(session.client.fd());
    session.client.finished = true;
    session.terms.counters.shards.of(cx.worker).told.add(1);
    session.phase = Phase::Refusing { reason, until_ms, told: true, answered };
    drain(session, reason, cx)
}

/// What the pool says to players. Who came to no pool hears no pool's.
fn text(session: &Session, reason: Reason, cx: &ThreadContext) -> Option<String> {
    let snapshots = cx.snapshots.load();
    let view = snapshots.pools.get(session.terms.pool.0).filter(|_| reason != Reason::NoRoute)?;
    view.settings.refusal_text.clone()
}

/// It was told: then it hangs up. What it still says is read, or the close would be a reset that may overtake the message.
fn drain(session: &mut Session, reason: Reason, cx: &mut ThreadContext) -> Next {
    for _ in 0..READS_PER_TURN {
        match socket::receive(session.client.fd(), &mut cx.scratch) {
            Ok(0) => return Next::End(reason),
            Ok(_) => {}
            Err(Errno::AGAIN) => return Next::Wait,
            Err(_) => return Next::End(reason),
        }
    }
    // Nobody has so much to say to a closed door.
    Next::End(reason)
}

/// The client can be told now; whether it only asks for the status. `None`: it is still to say what a server waits for.
fn hears(session: &mut Session, speaks: Speaks, cx: &mut ThreadContext) -> Result<Option<bool>, Errno> {
    match speaks {
        // There the server speaks first, or whenever it likes.
        Speaks::Mysql | Speaks::Redis => Ok(Some(false)),
        Speaks::Minecraft => Ok(match seen(session, routing::read_minecraft, cx)? {
            Seen::Whole(Opening::Minecraft { login, .. }) => Some(!login),
            Seen::Incomplete { .. } => None,
            Seen::Whole(_) | Seen::Malformed(_) => return Err(Errno::PROTO),
        }),
        Speaks::Postgres => loop {
            match seen(session, routing::read_postgres, cx)? {
                Seen::Incomplete { .. } => return Ok(None),
                // Without TLS it can be told. Of what a server says before, a client believes nothing (CVE-2024-10977).
                Seen::Whole(Opening::PostgresAsks { .. }) => {
                    count_answer(session)?;
                    socket::receive(session.client.fd(), &mut cx.scratch[..routing::SSL_REQUEST.len()])?;
                    socket::send(session.client.fd(), &[routing::NO])?;
                }
                Seen::Whole(Opening::PostgresStartup { .. }) => return Ok(Some(false)),
                Seen::Whole(_) | Seen::Malformed(_) => return Err(Errno::PROTO),
            }
        },
    }
}

/// One more of its questions is answered: whoever sends them one behind the other would hold the thread for as long as it likes.
fn count_answer(session: &mut Session) -> Result<(), Errno> {
    let Phase::Refusing { answered, .. } = &mut session.phase else { return Err(Errno::PROTO) };
    *answered += 1;
    if *answered > ANSWERS_MAX { Err(Errno::PROTO) } else { Ok(()) }
}

fn seen(
    session: &Session,
    read: fn(&[u8]) -> Seen<Opening>,
    cx: &mut ThreadContext,
) -> Result<Seen<Opening>, Errno> {
    let most = OPENING_BYTES_MAX.min(cx.scratch.len());
    match socket::peek(session.client.fd(), &mut cx.scratch[..most]) {
        Ok(0) => Err(Errno::CONNRESET),
        Ok(length) => Ok(read(&cx.scratch[..length])),
        Err(Errno::AGAIN) => Ok(Seen::Incomplete { missing: 1 }),
        Err(errno) => Err(errno),
    }
}

/// For the question, the answer and the goodbye.
const TELLS_MAX_MS: u64 = 2_000;
const READS_PER_TURN: usize = 4;
/// No opening is longer, and Minecraft has the longest: what is behind it is not looked at.
const OPENING_BYTES_MAX: usize = 34 * 1024;
