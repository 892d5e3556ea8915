//! First message of a client: read before a backend is picked, where a route goes by what it says (TLS SNI, ALPN).
//!
//! Must stay true: a look takes nothing out of the socket, so every byte goes to the backend as it came, and a session that
//! is handed over half-way is found by the next process as it was; who is decided by network or port waits for nothing; a
//! listener without routes pays nothing for any of it.

use std::fmt;
use std::sync::Arc;

use super::session::{Next, Phase, Session};
use super::{ThreadContext, Token, dial};
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
}

impl FirstMessage {
    /// Of a session of the process before that asked for this name, or has not yet.
    pub(super) fn import(name: String) -> Self {
        Self { name: Some(name).filter(|name| !name.is_empty()).map(Into::into), ..Self::default() }
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
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(out),
            Self::Late => out.write_str("the first message was not whole within timeouts.first"),
            Self::Closed => out.write_str("the client finished before its first message was whole"),
        }
    }
}

/// The client may come in: by which route? Picks and dials there, or waits for what it says.
pub(super) fn begin(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    let Some(routing) = session.terms.routing.as_ref().map(Arc::clone) else {
        return dial::attempt(session, backend_token, cx);
    };
    match routing.table.choose(&facts(session, routing::First::Unread)) {
        Choice::AsksFirst => {
            session.first = Some(Box::default());
            let deadline_ms = cx.now_ms().saturating_add(routing.first_ms);
            session.enter(Phase::AwaitingFirst { deadline_ms });
            // Most clients speak as soon as they are connected.
            look(session, backend_token, cx)
        }
        choice => go(session, choice, backend_token, cx),
    }
}

/// Looks whether the message is whole.
pub(super) fn look(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
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
    match routing::read_tls(&cx.scratch[..seen]) {
        Seen::Incomplete { .. } if session.client.ending => refuse(session, Trouble::Closed),
        Seen::Incomplete { missing } => {
            if let Some(first) = &mut session.first {
                first.needed = seen + missing;
            }
            Next::Wait
        }
        Seen::Malformed(malformed) => refuse(session, Trouble::Malformed(malformed)),
        Seen::Whole(opening) => route(session, &opening, backend_token, cx),
    }
}

/// The message is late.
pub(super) fn on_timeout(session: &mut Session) -> Next {
    refuse(session, Trouble::Late)
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
    })
}
