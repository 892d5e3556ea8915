//! PROXY headers of sessions: taken from peers that send them, and put in front of what goes to the backend.
//!
//! Must stay true: of what a peer sends exactly its header is taken out of the socket, so that nothing is kept here for
//! the relay; a session of a plain peer at a pool without `send_proxy` makes no system call and holds no memory for any
//! of it.

use std::fmt;
use std::net::SocketAddr;

use super::session::{Next, Phase, Session};
use super::{ThreadContext, Token, admission};
use crate::config::settings::SendProxy;
use crate::manifest;
use crate::proxy_protocol::{self, Addresses, Carried, Decoded, HEADER_BYTES_MAX, Malformed, Transport};
use crate::reason::Reason;
use crate::sys::{Errno, tcp as socket};

/// What a session has besides when its peer sends PROXY headers.
#[derive(Debug)]
pub(super) struct Proxied {
    /// Who connected.
    pub(super) peer: SocketAddr,
    /// What the header said; before it came, that nobody is known.
    carried: Carried,
    /// To be passed on.
    tlvs: Box<[u8]>,
    /// Why there is no header.
    pub(super) trouble: Option<Trouble>,
}

impl Proxied {
    /// As the next process is told.
    pub(super) fn export(&self) -> manifest::Proxied {
        manifest::Proxied {
            peer: self.peer,
            carried: match self.carried {
                Carried::Proxy(both) => manifest::Carried::Proxy(both.source, both.destination),
                Carried::Local => manifest::Carried::Local,
                Carried::Unknown => manifest::Carried::Unknown,
            },
            tlvs: manifest::Bytes(self.tlvs.to_vec()),
        }
    }

    /// As the process before told.
    pub(super) fn import(record: manifest::Proxied) -> Self {
        let carried = match record.carried {
            manifest::Carried::Proxy(source, destination) => {
                Carried::Proxy(Addresses { source, destination })
            }
            manifest::Carried::Local => Carried::Local,
            manifest::Carried::Unknown | manifest::Carried::Foreign(_) => Carried::Unknown,
        };
        Self { peer: record.peer, carried, tlvs: record.tlvs.0.into(), trouble: None }
    }

    /// Nobody else is handed on: the peer, which was judged when it came, is the client.
    pub(super) fn is_the_client(&self) -> bool {
        !matches!(self.carried, Carried::Proxy(_))
    }
}

/// Why a header is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Malformed(Malformed),
    /// `timeouts.header` is over.
    Late,
    /// The peer finished before its header was whole.
    Closed,
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(out),
            Self::Late => out.write_str("the PROXY header was not whole within timeouts.header"),
            Self::Closed => out.write_str("the peer finished before its PROXY header was whole"),
        }
    }
}

/// A new session: if its peer is one that sends headers, waits for one; otherwise the client is known.
pub(super) fn begin(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    let peer = session.client_address;
    if !session.terms.proxies.contains(peer.ip()) {
        return admission::begin(session, backend_token, cx);
    }
    if session.terms.proxies.denies(peer.ip()) {
        return Next::End(Reason::Denied);
    }
    let proxied = Proxied { peer, carried: Carried::Unknown, tlvs: Box::default(), trouble: None };
    session.proxied = Some(Box::new(proxied));
    let deadline_ms = cx.now_ms().saturating_add(session.terms.header_ms);
    session.enter(Phase::AwaitingHeader { deadline_ms });
    // Most proxies send it with the connect.
    look(session, backend_token, cx)
}

/// Looks whether the header is whole. A look takes nothing, so the kernel tells of each further byte anew.
pub(super) fn look(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    let seen = match socket::peek(session.client.fd(), &mut cx.scratch[..HEADER_BYTES_MAX]) {
        Ok(0) => return refuse(session, Trouble::Closed),
        Ok(seen) => seen,
        Err(Errno::AGAIN) => return Next::Wait,
        Err(errno) => {
            session.error = Some(errno);
            return Next::End(Reason::ClientReset);
        }
    };
    let (carried, length) = match proxy_protocol::decode(&cx.scratch[..seen]) {
        Decoded::Incomplete { .. } if session.client.ending => return refuse(session, Trouble::Closed),
        Decoded::Incomplete { .. } => return Next::Wait,
        Decoded::Malformed(malformed) => return refuse(session, Trouble::Malformed(malformed)),
        Decoded::Header(header) => {
            if let Some(proxied) = &mut session.proxied {
                proxied.carried = header.carried;
                proxied.tlvs = header.tlvs.into();
            }
            (header.carried, header.length)
        }
    };
    if let Err(errno) = take(session, length, cx) {
        session.error = Some(errno);
        return Next::End(Reason::ClientReset);
    }
    if let Carried::Proxy(addresses) = carried {
        session.client_address = addresses.source;
    }
    admission::begin(session, backend_token, cx)
}

/// The header is late.
pub(super) fn on_timeout(session: &mut Session) -> Next {
    refuse(session, Trouble::Late)
}

/// The header that goes to the backend in front of everything; `None` without `send_proxy`.
pub(super) fn to_send(session: &Session, send_proxy: SendProxy) -> Option<Vec<u8>> {
    if send_proxy == SendProxy::Off {
        return None;
    }
    let (addresses, tlvs) = match &session.proxied {
        None => {
            let local = socket::local_address(session.client.fd());
            (local.map(|local| Addresses::new(session.client_address, local)), &[][..])
        }
        Some(proxied) => match proxied.carried {
            Carried::Proxy(addresses) => (Some(addresses), &*proxied.tlvs),
            Carried::Local | Carried::Unknown => (None, &*proxied.tlvs),
        },
    };
    let named = authority(session, tlvs);
    let tlvs = named.as_deref().unwrap_or(tlvs);
    Some(match send_proxy {
        SendProxy::V1 => proxy_protocol::encode_v1(addresses.as_ref()),
        _ => proxy_protocol::encode_v2(addresses.as_ref(), Transport::Stream, tlvs),
    })
}

/// These and the name that the client asked for (PP2_TYPE_AUTHORITY), unless a proxy before said one. `None`: there is none to
/// be added.
fn authority(session: &Session, tlvs: &[u8]) -> Option<Vec<u8>> {
    let name = session.first.as_ref()?.name.as_deref()?;
    if proxy_protocol::has_tlv(tlvs, proxy_protocol::AUTHORITY) {
        return None;
    }
    let length = u16::try_from(name.len()).ok()?;
    let mut all = Vec::with_capacity(tlvs.len() + 3 + name.len());
    all.push(proxy_protocol::AUTHORITY);
    all.extend_from_slice(&length.to_be_bytes());
    all.extend_from_slice(name.as_bytes());
    all.extend_from_slice(tlvs);
    Some(all)
}

fn refuse(session: &mut Session, trouble: Trouble) -> Next {
    if let Some(proxied) = &mut session.proxied {
        proxied.trouble = Some(trouble);
    }
    Next::End(Reason::BadProxyHeader)
}

/// Takes the bytes of a header that were seen to be there out of the socket.
fn take(session: &Session, length: usize, cx: &mut ThreadContext) -> Result<(), Errno> {
    let mut left = length;
    while left > 0 {
        match socket::receive(session.client.fd(), &mut cx.scratch[..left])? {
            // What was seen cannot be gone: only a reset empties a queue, and that is an error.
            0 => return Err(Errno::CONNRESET),
            taken => left -= taken,
        }
    }
    Ok(())
}
