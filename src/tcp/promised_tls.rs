//! TLS that a PostgreSQL client was promised: its SSLRequest was answered here with yes, so that the name in its TLS could be read.
//! The backend is asked the same now, and its answer goes no further; one that says no is left for another. Where no route goes by
//! what is in TLS, the client's own question is put so, and its answer passed on: what comes after a no may be a cancel.
//!
//! Must stay true: nothing of the client's reaches a backend that has not said yes.

use super::first_message::Trouble;
use super::session::{Next, Phase, Session};
use super::{ThreadContext, Token, dial, first_message, proxy_header};
use crate::reason::Reason;
use crate::routing;
use crate::sys::poller::Ready;
use crate::sys::{Errno, tcp as socket};

/// Its backend is still to be asked.
pub(super) fn is_owed(session: &Session) -> bool {
    session.first.as_ref().is_some_and(|first| first.promised_tls || first.asks_backend)
}

/// The backend is connected: asks it.
pub(super) fn ask(session: &mut Session, token: Token, cx: &mut ThreadContext) -> Next {
    let Phase::Dialling { began_us, deadline_ms } = session.phase else { return Next::Wait };
    let send_proxy = {
        let snapshots = cx.snapshots.load();
        let Some(view) = snapshots.pools.get(session.terms.pool.0) else {
            return Next::End(Reason::InternalError);
        };
        view.settings.send_proxy
    };
    let mut question = proxy_header::to_send(session, send_proxy).unwrap_or_default();
    question.extend_from_slice(&routing::SSL_REQUEST);
    let Some(side) = &session.backend else { return Next::End(Reason::InternalError) };
    // A socket that was connected just now has room for more than this.
    match socket::send(side.fd(), &question) {
        Ok(sent) if sent == question.len() => {
            session.enter(Phase::AskingTls { began_us, deadline_ms });
            Next::Wait
        }
        Ok(_) => dial::failed(session, token, Errno::NOBUFS, cx),
        Err(errno) => dial::failed(session, token, errno, cx),
    }
}

/// Its answer has come, or its end.
pub(super) fn on_ready(session: &mut Session, token: Token, ready: &Ready, cx: &mut ThreadContext) -> Next {
    let Some(side) = &session.backend else { return Next::End(Reason::InternalError) };
    let mut answer = [0];
    let asks = session.first.as_ref().is_some_and(|first| first.asks_backend);
    match socket::receive(side.fd(), &mut answer) {
        Ok(1) if asks => pass_on(session, answer, token, ready, cx),
        Ok(1) if answer[0] == routing::YES => {
            if let Some(first) = &mut session.first {
                // The no of another one before it is no trouble any more.
                (first.promised_tls, first.was_answered, first.trouble) = (false, true, None);
            }
            dial::connected(session, ready, None, cx)
        }
        // N, or an error of a server that has no room.
        Ok(1) => refused(session, token, cx),
        Ok(_) => dial::failed(session, token, Errno::CONNRESET, cx),
        Err(Errno::AGAIN) => Next::Wait,
        Err(errno) => dial::failed(session, token, errno, cx),
    }
}

/// The client asks for itself: it is answered as its backend answers. Its question was left in its socket until now, so that
/// another backend, or another process, could be asked as well.
fn pass_on(
    session: &mut Session,
    answer: [u8; 1],
    token: Token,
    ready: &Ready,
    cx: &mut ThreadContext,
) -> Next {
    if let Some(first) = &mut session.first {
        (first.asks_backend, first.was_answered) = (false, true);
    }
    let taken = socket::receive(session.client.fd(), &mut cx.scratch[..routing::SSL_REQUEST.len()]);
    if let Err(errno) = taken.and_then(|_| socket::send(session.client.fd(), &answer)) {
        session.error = Some(errno);
        return Next::End(Reason::ClientReset);
    }
    if answer[0] != routing::NO {
        return dial::connected(session, ready, None, cx);
    }
    dial::reached(session, ready, None, cx);
    first_message::look_again(session, token, cx)
}

/// It takes no TLS. That is no failure of it: others may be glad of it.
fn refused(session: &mut Session, token: Token, cx: &mut ThreadContext) -> Next {
    if let Some(first) = &mut session.first {
        first.trouble = Some(Trouble::NoTls);
    }
    if session.attempts >= dial::attempts_of(session, cx) {
        return Next::End(Reason::TlsRefused);
    }
    session.backend = None;
    session.leave_backend();
    match dial::attempt(session, token, cx) {
        // Nobody else is left: that is why.
        Next::End(Reason::ConnectFailed | Reason::NoBackend) => Next::End(Reason::TlsRefused),
        other => other,
    }
}
