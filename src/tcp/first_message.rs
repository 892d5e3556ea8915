//! First message of a client: read before a backend is picked, where a route goes by what it says (TLS SNI, ALPN; the database of
//! PostgreSQL, the host of Minecraft).
//!
//! Must stay true: a look takes nothing out of the socket, but for questions that are answered here (SSLRequest) and cancels; so
//! every byte goes to the backend as it came, and a session that
//! is handed over half-way is found by the next process as it was; who is decided by network or port waits for nothing; a
//! listener without routes pays nothing for any of it.

use std::fmt;
use std::sync::Arc;

use super::session::{Next, Phase, Session};
use super::{ThreadContext, Token, cancel, dial, relay};
use crate::config::settings::Speaks;
use crate::reason::Reason;
use crate::routing::{self, Choice, Facts, Malformed, Opening, Seen};
use crate::sys::{Errno, tcp as socket};

/// What a session has besides when its first message is wanted.
#[derive(Debug, Default)]
pub(super) struct FirstMessage {
    /// The name it asked for.
    pub(super) name: Option<Box<str>>,
    /// Fewer bytes than these cannot be all of it.
    needed: usize,
    /// Why there is none.
    pub(super) trouble: Option<Trouble>,
    /// The client was told that it may begin with TLS, and its backend is still to be asked for that.
    pub(super) promised_tls: bool,
    /// It asks for TLS, and what its backend answers is passed on: after a no it may still say that it wants to cancel.
    pub(super) asks_backend: bool,
    /// A backend has said whether it takes TLS: no other may stand in for it.
    pub(super) was_answered: bool,
    /// Questions of it that were answered here.
    answered: u8,
}

impl FirstMessage {
    /// Of a session of the process before that asked for this name, or has not yet.
    pub(super) fn import(name: String, promised_tls: bool) -> Self {
        let name = Some(name).filter(|name| !name.is_empty()).map(Into::into);
        Self { name, promised_tls, ..Self::default() }
    }
}

/// Why a first message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Malformed(Malformed),
    /// `timeouts.first` is over.
    Late,
    /// The client finished before it was whole.
    Closed,
    /// No backend took the TLS that it was promised.
    NoTls,
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(out),
            Self::Late => out.write_str("the first message was not whole within timeouts.first"),
            Self::Closed => out.write_str("the client finished before its first message was whole"),
            Self::NoTls => out.write_str("the backend takes no TLS, and the client was promised it"),
        }
    }
}

/// The client may come in: by which route? Picks and dials there, or waits for what it says.
pub(super) fn begin(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    let Some(routing) = session.terms.routing.as_ref().map(Arc::clone) else {
        return dial::attempt(session, backend_token, cx);
    };
    match routing.table.choose(&facts(session, routing::First::Unread)) {
        // What comes may be a cancel.
        _ if session.terms.speaks == Some(Speaks::Postgres) => await_first(session, backend_token, cx),
        Choice::AsksFirst => await_first(session, backend_token, cx),
        choice => go(session, choice, backend_token, cx),
    }
}

fn await_first(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    let first_ms = session.terms.routing.as_ref().map_or(0, |routing| routing.first_ms);
    session.first = Some(Box::default());
    session.enter(Phase::AwaitingFirst { deadline_ms: cx.now_ms().saturating_add(first_ms) });
    // Most clients speak as soon as they are connected.
    look(session, backend_token, cx)
}

/// Looks whether the message is whole.
pub(super) fn look(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    if is_wanted_no_more(session) {
        return dial::attempt(session, backend_token, cx);
    }
    let Some(needed) = session.first.as_ref().map(|first| first.needed) else {
        return Next::End(Reason::InternalError);
    };
    // Whoever sends byte by byte costs one cheap question for each.
    let is_short = needed > 0 && socket::receivable(session.client.fd()) < needed as u64;
    if is_short && !session.client.ending {
        return Next::Wait;
    }
    let most = routing::FIRST_BYTES_MAX.min(cx.scratch.len());
    let seen = match socket::peek(session.client.fd(), &mut cx.scratch[..most]) {
        Ok(0) => return refuse(session, Trouble::Closed),
        Ok(seen) => seen,
        Err(Errno::AGAIN) => return Next::Wait,
        Err(errno) => {
            session.error = Some(errno);
            return Next::End(Reason::ClientReset);
        }
    };
    let is_promised = session.first.as_ref().is_some_and(|first| first.promised_tls);
    let read = match session.terms.speaks {
        Some(Speaks::Postgres) if !is_promised => routing::read_postgres,
        Some(Speaks::Minecraft) => routing::read_minecraft,
        _ => routing::read_tls,
    };
    match read(&cx.scratch[..seen]) {
        Seen::Incomplete { .. } if session.client.ending => refuse(session, Trouble::Closed),
        Seen::Incomplete { missing } => {
            if let Some(first) = &mut session.first {
                first.needed = seen + missing;
            }
            Next::Wait
        }
        Seen::Malformed(malformed) => refuse(session, Trouble::Malformed(malformed)),
        // Its backend has said no to TLS, and waits for this.
        Seen::Whole(opening) if session.backend.is_some() && !is_cancel(&opening) => {
            relay::begin(session, cx)
        }
        Seen::Whole(Opening::PostgresAsks { tls }) => answer(session, tls, backend_token, cx),
        Seen::Whole(Opening::PostgresCancel { bytes }) => {
            let request: Arc<[u8]> = cx.scratch[..bytes].into();
            cancel::send(session, &request, cx)
        }
        // Whoever stands between may have said something for it before it was encrypted (CVE-2021-23214).
        Seen::Whole(opening) if is_promised && !matches!(opening, Opening::Tls(_)) => {
            refuse(session, Trouble::Malformed(Malformed::Broken("it asked for TLS, and did not begin it")))
        }
        Seen::Whole(opening) => route(session, &opening, backend_token, cx),
    }
}

/// A PostgreSQL client asks for TLS (or GSSAPI). Where a route goes by what it says next, it is answered here: yes where that is
/// the name in its TLS, no where it is what it says in the clear. Where none does, the server answers.
fn answer(session: &mut Session, tls: bool, backend_token: Token, cx: &mut ThreadContext) -> Next {
    let Some((reads_tls, only_startup)) =
        session.terms.routing.as_ref().map(|one| (one.table.reads_tls(), one.table.reads_only_startup()))
    else {
        return Next::End(Reason::InternalError);
    };
    if !reads_tls && !only_startup {
        if let Some(first) = &mut session.first {
            first.asks_backend = tls;
        }
        return route(session, &Opening::PostgresAsks { tls }, backend_token, cx);
    }
    let is_promised = tls && reads_tls;
    let Some(first) = &mut session.first else { return Next::End(Reason::InternalError) };
    first.promised_tls = is_promised;
    (first.needed, first.answered) = (0, first.answered + 1);
    if first.answered > ANSWERS_MAX {
        return refuse(
            session,
            Trouble::Malformed(Malformed::Broken("it asks for encryption again and again")),
        );
    }
    let answer = [if is_promised { routing::YES } else { routing::NO }];
    let taken = socket::receive(session.client.fd(), &mut cx.scratch[..routing::SSL_REQUEST.len()]);
    match taken.and_then(|_| socket::send(session.client.fd(), &answer)) {
        Ok(_) => look(session, backend_token, cx),
        Err(errno) => {
            session.error = Some(errno);
            Next::End(Reason::ClientReset)
        }
    }
}

/// Its backend is there and takes no TLS: what the client says now is in the clear.
pub(super) fn look_again(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    if let Some(first) = &mut session.first {
        first.needed = 0;
    }
    let routing = session.terms.routing.as_ref();
    let first_ms = routing.map_or(session.terms.header_ms, |routing| routing.first_ms);
    session.enter(Phase::AwaitingFirst { deadline_ms: cx.now_ms().saturating_add(first_ms) });
    look(session, backend_token, cx)
}

fn is_cancel(opening: &Opening) -> bool {
    matches!(opening, Opening::PostgresCancel { .. })
}

/// The message is late.
pub(super) fn on_timeout(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    if is_wanted_no_more(session) {
        return dial::attempt(session, backend_token, cx);
    }
    refuse(session, Trouble::Late)
}

/// The process before had routes for its listener, and this one has none: nothing goes by what it says.
fn is_wanted_no_more(session: &Session) -> bool {
    session.terms.routing.is_none() && session.backend.is_none()
}

/// What the client wants is known.
fn route(session: &mut Session, opening: &Opening, backend_token: Token, cx: &mut ThreadContext) -> Next {
    if let Some(first) = &mut session.first {
        first.name = name_of(opening).map(Into::into);
    }
    let facts = facts(session, routing::First::Is(opening));
    let Some(choice) = session.terms.routing.as_ref().map(|routing| routing.table.choose(&facts)) else {
        return Next::End(Reason::InternalError);
    };
    go(session, choice, backend_token, cx)
}

fn go(session: &mut Session, choice: Choice, backend_token: Token, cx: &mut ThreadContext) -> Next {
    if let Some(routing) = &session.terms.routing {
        match choice {
            Choice::Route(number) => {
                let terms = routing.by_route.get(number).map(Arc::clone);
                session.terms = terms.unwrap_or_else(|| Arc::clone(&session.terms));
            }
            Choice::None | Choice::AsksFirst if routing.needs_route => return Next::End(Reason::NoRoute),
            Choice::None | Choice::AsksFirst => {}
        }
    }
    dial::attempt(session, backend_token, cx)
}

fn facts<'a>(session: &Session, first: routing::First<'a>) -> Facts<'a> {
    Facts { client: session.client_address.ip(), port: session.local_port, first }
}

/// What it asks for by name.
fn name_of(opening: &Opening) -> Option<&str> {
    match opening {
        Opening::Tls(hello) => hello.sni.as_deref(),
        Opening::PostgresStartup { database, .. } => Some(database),
        Opening::Minecraft { host, .. } => Some(host),
        Opening::PostgresAsks { .. } | Opening::PostgresCancel { .. } | Opening::Other => None,
    }
}

fn refuse(session: &mut Session, trouble: Trouble) -> Next {
    if let Some(first) = &mut session.first {
        first.trouble = Some(trouble);
    }
    Next::End(match trouble {
        Trouble::Malformed(_) => Reason::BadFirstMessage,
        Trouble::Late | Trouble::Closed => Reason::NoFirstMessage,
        Trouble::NoTls => Reason::TlsRefused,
    })
}

/// A client asks for GSSAPI encryption once, and for TLS once.
pub(super) const ANSWERS_MAX: u8 = 2;
