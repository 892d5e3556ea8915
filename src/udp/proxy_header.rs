//! PROXY headers of flows: taken off the datagrams of peers that send them, and put in front of the first datagram that
//! a backend gets of a flow.
//!
//! The first datagram of a flow says who its client is; later headers are taken off and not believed. The flow is found
//! by its peer all the same, since answers go back there.

use std::net::SocketAddr;

use super::Terms;
use super::doors::DoorTable;
use super::pump::{Pump, Side};
use super::segments::{parts, parts_of_outgoing};
use crate::flow::FlowId;
use crate::manifest;
use crate::metrics::{Direction, Drop};
use crate::proxy_protocol::{self, Addresses, Carried, Header, Malformed, Transport};
use crate::sys::Errno;
use crate::sys::udp_batch::{Outgoing, Received};
use crate::thread_context::ThreadContext;

/// What the header of a flow's first datagram said.
#[derive(Debug)]
pub(super) struct Proxied {
    carried: Carried,
    /// To be passed on.
    tlvs: Box<[u8]>,
}

impl Proxied {
    pub(super) fn new(header: &Header<'_>) -> Self {
        Self { carried: header.carried, tlvs: header.tlvs.into() }
    }

    /// As the next process is told.
    pub(super) fn export(&self, peer: SocketAddr) -> manifest::Proxied {
        let carried = match self.carried {
            Carried::Proxy(both) => manifest::Carried::Proxy(both.source, both.destination),
            // In such a state as a later build might have.
            #[cfg(feature = "manifest-next")]
            Carried::Local => manifest::Carried::Foreign(200),
            #[cfg(not(feature = "manifest-next"))]
            Carried::Local => manifest::Carried::Local,
            Carried::Unknown => manifest::Carried::Unknown,
        };
        manifest::Proxied { peer, carried, tlvs: manifest::Bytes(self.tlvs.to_vec()) }
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
        Self { carried, tlvs: record.tlvs.0.into() }
    }
}

/// The header that this datagram begins with, if its sender is one whose datagrams may.
pub(super) fn of<'a>(
    terms: &Terms,
    told: &Received,
    datagram: &'a [u8],
) -> Result<Option<Header<'a>>, Malformed> {
    let from = told.from.ip();
    if told.part.is_some() || !terms.proxies.contains(from) {
        return Ok(None);
    }
    proxy_protocol::decode_datagram(datagram)
}

/// Does each part of what came as one perhaps begin with a header?
pub(super) fn may_hide(doors: &DoorTable, number: u32, told: &Received) -> bool {
    told.part.is_some() && doors.get(number).is_some_and(|door| door.terms.proxies.contains(told.from.ip()))
}

/// Who the client is when `peer` sent this header.
pub(super) fn client_of(header: Option<&Header<'_>>, peer: SocketAddr) -> SocketAddr {
    match header.map(|header| header.carried) {
        Some(Carried::Proxy(addresses)) => addresses.source,
        Some(Carried::Local | Carried::Unknown) | None => peer,
    }
}

/// May this header not begin a flow? The peer that sends it is judged by `deny` alone, the client in it by both lists.
pub(super) fn denies(terms: &Terms, header: Option<&Header<'_>>, peer: SocketAddr) -> bool {
    match header.map(|header| header.carried) {
        None => terms.denies(peer.ip()),
        Some(Carried::Local | Carried::Unknown) => terms.proxies.denies(peer.ip()),
        Some(Carried::Proxy(both)) => terms.proxies.denies(peer.ip()) || terms.denies(both.source.ip()),
    }
}

impl Side {
    /// Whose datagrams they are: the peer's own, or those of the client it sent in its header.
    pub(super) fn origin(&self) -> SocketAddr {
        match self.proxied.as_ref().map(|proxied| proxied.carried) {
            Some(Carried::Proxy(addresses)) => addresses.source,
            Some(Carried::Local | Carried::Unknown) | None => self.client,
        }
    }

    /// The header for its backend.
    fn header(&self) -> Vec<u8> {
        let (addresses, tlvs) = match &self.proxied {
            None => (Some(Addresses::new(self.client, self.local)), &[][..]),
            Some(proxied) => match proxied.carried {
                Carried::Proxy(addresses) => (Some(addresses), &*proxied.tlvs),
                Carried::Local | Carried::Unknown => (None, &*proxied.tlvs),
            },
        };
        proxy_protocol::encode_v2(addresses.as_ref(), Transport::Datagram, tlvs)
    }
}

impl Pump {
    /// Sends one datagram, or several that came as one, to a backend that has not had the header of the flow yet.
    /// False: an error of an earlier one was in the way; nothing was sent.
    pub(super) fn send_with_header(&mut self, id: FlowId, whole: Outgoing, cx: &mut ThreadContext) -> bool {
        let Some(side) = self.sides.get_mut(id.index as usize).and_then(Option::as_mut) else { return true };
        let counts = side.terms.counters.shards.of(cx.worker);
        let header = side.header();
        // An empty datagram has no parts, and is one.
        let whole_one = Some(whole).filter(|whole| parts_of_outgoing(whole) < 2);
        let pieces = whole_one.into_iter().chain(parts(whole).filter(|_| whole_one.is_none()));
        for piece in pieces {
            let composed =
                if side.upstream.owes_header { self.inbound.compose(&header, &piece) } else { Some(piece) };
            // Larger than any datagram with it: the kernel would say so, too.
            let sent = composed
                .map_or(Err(Errno::MSGSIZE), |composed| self.inbound.send(side.upstream.fd(), &[composed]));
            match sent {
                Ok(_) => {
                    side.upstream.owes_header = false;
                    side.upstream.note_sent(cx);
                    let bytes = piece.length as u64;
                    counts.datagrams(Direction::ToBackend).add(1);
                    counts.bytes(Direction::ToBackend).add(bytes);
                    let backend = side.upstream.lease().backend().shards.of(cx.worker);
                    backend.bytes(Direction::ToBackend).add(bytes);
                    self.flows.on_client(id, 1, bytes, cx.now_ms());
                }
                // Only the first can meet it: what follows left a moment ago.
                Err(_)
                    if side.upstream.owes_header
                        && side.upstream.take_errors(&side.terms.listener, cx) > 0 =>
                {
                    return false;
                }
                Err(_) => counts.dropped(Drop::ToBackend).add(1),
            }
        }
        true
    }
}

#[cfg(test)]
#[path = "proxy_header_tests.rs"]
mod tests;
