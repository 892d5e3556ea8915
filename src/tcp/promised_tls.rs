//! TLS that a PostgreSQL client was promised: its SSLRequest was answered here with yes, so that the name in its TLS could be read.
//! The backend is asked the same now, and its answer goes no further; one that says no is left for another.
//!
//! Must stay true: nothing of the client's reaches a backend that has not said yes.

use super::first_message::Trouble;
use super::session::{Next, Phase, Session};
use super::{ThreadContext, Token, dial, proxy_header};
use crate::reason::Reason;
use crate::routing;
use crate::sys::poller::Ready;
use crate::sys::{Errno, tcp as socket};

/// Its backend is still to be asked.
pub(super) fn is_owed(session: &Session) -> bool {
    session.first.as_ref().is_some_and(|first| first.promised_tls)
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
    match socket::receive(side.fd(), &mut answer) {
        Ok(1) if answer[0] == routing::YES => {
            if let Some(first) = &mut session.first {
                first.promised_tls = false;
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
