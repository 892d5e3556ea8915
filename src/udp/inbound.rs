//! Inbound datagrams, from a door to a backend: whose is it, may it begin a flow, which backend, and off it goes.

use std::net::SocketAddr;
use std::sync::Arc;

use super::connect_from::is_of_the_source;
use super::proxy_header::{self, Proxied};
use super::pump::{Pump, Side};
use super::segments::{parts, parts_of, parts_of_outgoing};
use super::upstream::{NoUpstream, Upstream};
use super::{Terms, close};
use crate::flow::{Admission, FlowId, FlowKey};
use crate::metrics::{Direction, Drop};
use crate::pool::Refusal;
use crate::reason::Reason;
use crate::sys::Errno;
use crate::sys::udp_batch::{Outgoing, Received};
use crate::thread_context::ThreadContext;

impl Pump {
    /// The flow of the datagram that begins at `start` of this slot, new if need be, and how long the header before its payload is;
    /// `None`: it is dropped and counted.
    pub(super) fn admit(
        &mut self,
        number: u32,
        slot: usize,
        start: usize,
        told: &Received,
        cx: &mut ThreadContext,
    ) -> Option<(FlowId, usize)> {
        let door = self.doors.get_mut(number)?;
        let counts = door.terms.counters.shards.of(cx.worker);
        if let Some(so_far) = told.lost_so_far {
            let lost = so_far.wrapping_sub(std::mem::replace(&mut door.lost_seen, so_far));
            counts.dropped(Drop::ReceiveBuffer).add(lost.into());
        }
        if told.cut {
            counts.dropped(Drop::Cut).add(1);
            return None;
        }
        let datagrams = parts_of(told);
        let Some(local) = door.local(told) else {
            counts.dropped(Drop::Cut).add(datagrams.into());
            return None;
        };
        let key = FlowKey { client: told.from, local };
        let terms = &*door.terms;
        let header = match proxy_header::of(terms, told, &self.inbound.bytes(slot)[start..][..told.length]) {
            Ok(header) => header,
            Err(malformed) => {
                counts.dropped(Drop::BadProxyHeader).add(datagrams.into());
                close::log_bad_header(terms, key.client, local, malformed, cx);
                return None;
            }
        };
        let payload = header.map_or(0, |header| header.length);
        let client = proxy_header::client_of(header.as_ref(), key.client);
        let denies = || proxy_header::denies(terms, header.as_ref(), key.client);
        match self.flows.admit_for(&key, client.ip(), cx.now_ms(), &terms.flow, denies) {
            Admission::Known(id) => {
                let side = self.sides.get(id.index as usize).and_then(Option::as_ref);
                if side.is_some_and(|side| self.doors.is_closed(side.door)) {
                    // It came through a door that was closed, and the walk that ends it is on its way.
                    self.flows.end(id, Reason::Drained);
                    self.close_ended(cx);
                    return self.admit(number, slot, start, told, cx);
                }
                if side.is_some_and(|side| side.upstream.wants_another(cx.now_ms())) {
                    self.rehome(id, Why::Gone, cx);
                }
                Some((id, payload))
            }
            Admission::New(id) => {
                let proxied = header.map(|header| Box::new(Proxied::new(&header)));
                let first = First { key, client, proxied, datagrams };
                let terms = Arc::clone(&door.terms);
                self.begin(id, number, terms, first, cx).then_some((id, payload))
            }
            Admission::Shed(reason) => {
                terms.counters.shards.of(cx.worker).dropped(shed(reason)).add(datagrams.into());
                close::log_shed(terms, client, key.local, reason, cx);
                None
            }
        }
    }

    /// Gives a new flow its backend.
    pub(super) fn begin(
        &mut self,
        id: FlowId,
        door: u32,
        terms: Arc<Terms>,
        first: First,
        cx: &mut ThreadContext,
    ) -> bool {
        let First { key, client: origin, proxied, datagrams } = first;
        let (client, local) = (key.client, key.local);
        let (terms, is_routed) = Terms::routed(terms, origin.ip(), local.port());
        let counts = terms.counters.shards.of(cx.worker);
        counts.begun.add(1);
        counts.active.add(1);
        let snapshots = cx.snapshots.load();
        let opened = match snapshots.pools.get(terms.pool.0) {
            _ if !is_routed => Err(NoUpstream::NoRoute),
            Some(view) => Upstream::open(view, origin, local.port(), id.pack(), None, &mut self.origins, cx),
            None => Err(NoUpstream::Refused(Refusal::NoBackend)),
        };
        let place = id.index as usize;
        if self.sides.len() <= place {
            self.sides.resize_with(place + 1, || None);
        }
        match opened {
            Ok(upstream) => {
                let takes_no_parts = false;
                self.sides[place] =
                    Some(Side { id, terms, door, client, proxied, local, upstream, takes_no_parts });
                true
            }
            Err(none) => {
                counts.dropped(none.as_drop()).add(datagrams.into());
                close::without_backend(&terms, origin, local, reason_of(none), cx);
                self.flows.end(id, reason_of(none));
                false
            }
        }
    }

    /// Moves a flow to another backend. Datagrams at hand are sent there, and counted when they are.
    fn rehome(&mut self, id: FlowId, why: Why, cx: &mut ThreadContext) -> bool {
        let Some(side) = self.sides.get_mut(id.index as usize).and_then(Option::as_mut) else { return false };
        let snapshots = cx.snapshots.load();
        let Some(view) = snapshots.pools.get(side.terms.pool.0) else { return false };
        let lost = why == Why::Gone;
        // One of its name at another address is another backend, and has another number.
        let but = lost.then(|| side.upstream.lease().backend().number);
        let (client, port) = (side.origin(), side.local.port());
        // What cannot be had now may be there for the next datagram; until then the flow stays where it is.
        let Ok(next) = Upstream::open(view, client, port, id.pack(), but, &mut self.origins, cx) else {
            return false;
        };
        let mut before = std::mem::replace(&mut side.upstream, next);
        if lost {
            before.note_left(cx);
            let now = side.upstream.lease().backend();
            close::log_rehomed(&side.terms, client, before.lease().backend(), now);
            self.flows.rehomed(id, 0);
            view.live.shards.of(cx.worker).rehomed.add(1);
        } else {
            self.flows.picked_anew(id);
        }
        before.close(&mut self.origins);
        true
    }

    /// Adds a datagram, or several that came as one, to the `run` of its flow. Where the flow has had its requests at this
    /// backend, what is at hand leaves first, and the rest goes to another.
    pub(super) fn queue(&mut self, id: FlowId, whole: Outgoing, cx: &mut ThreadContext) {
        let datagrams = |run: &[Outgoing]| run.iter().map(parts_of_outgoing).sum::<u64>();
        let Some(requests_left) = self.flows.requests_left(id) else { return self.queue_whole(id, whole) };
        if datagrams(&self.run) + parts_of_outgoing(&whole) <= requests_left.into() {
            return self.queue_whole(id, whole);
        }
        // An empty datagram has no parts, and is one.
        let whole_one = Some(whole).filter(|whole| parts_of_outgoing(whole) < 2);
        for piece in whole_one.into_iter().chain(parts(whole).filter(|_| whole_one.is_none())) {
            if self.flows.requests_left(id).is_some_and(|left| datagrams(&self.run) >= left.into()) {
                self.send_run(Some(id), cx);
                self.rehome(id, Why::Requests, cx);
            }
            self.run.push(piece);
        }
    }

    fn queue_whole(&mut self, id: FlowId, whole: Outgoing) {
        if whole.part.is_some() && self.goes_apart(id) {
            self.run.extend(parts(whole));
        } else {
            self.run.push(whole);
        }
    }

    /// Sends the datagrams of `run` to the backend of one flow.
    pub(super) fn send_run(&mut self, flow: Option<FlowId>, cx: &mut ThreadContext) {
        let mut run = std::mem::take(&mut self.run);
        if let Some(id) = flow {
            let mut rules = Rules {
                rehomes_left: REHOMES_PER_RUN,
                reconnects_left: 1,
                at_once: run.len(),
                errors_of: None,
            };
            let mut sent = 0;
            while sent < run.len() {
                let some = &run[sent..run.len().min(sent + rules.at_once)];
                sent += self.send_some(id, some, &mut rules, cx);
            }
        }
        run.clear();
        self.run = run;
    }

    /// Sends as much as one call takes; tells how many of the datagrams are dealt with, at least one.
    fn send_some(
        &mut self,
        id: FlowId,
        run: &[Outgoing],
        rules: &mut Rules,
        cx: &mut ThreadContext,
    ) -> usize {
        let Some(side) = self.sides.get_mut(id.index as usize).and_then(Option::as_mut) else {
            return run.len();
        };
        if side.upstream.owes_header {
            let is_done = self.send_with_header(id, run[0], cx);
            return if is_done { 1 } else { self.on_error(id, run[0], rules, cx) };
        }
        let counts = side.terms.counters.shards.of(cx.worker);
        let datagrams = |run: &[Outgoing]| run.iter().map(parts_of_outgoing).sum::<u64>();
        match self.inbound.send(side.upstream.fd(), run) {
            Ok(sent) => {
                let bytes: usize = run[..sent].iter().map(|outgoing| outgoing.length).sum();
                let (datagrams, bytes) = (datagrams(&run[..sent]), bytes as u64);
                counts.datagrams(Direction::ToBackend).add(datagrams);
                counts.bytes(Direction::ToBackend).add(bytes);
                let backend = side.upstream.lease().backend().shards.of(cx.worker);
                backend.bytes(Direction::ToBackend).add(bytes);
                let datagrams = u32::try_from(datagrams).unwrap_or(u32::MAX);
                side.upstream.note_sent(cx);
                self.flows.on_client(id, datagrams, bytes, cx.now_ms());
                if sent < run.len() {
                    // A call that takes only some has met an error and forgets it: what comes next goes one by one, so
                    // that a refusal shows before all is lost.
                    rules.at_once = 1;
                }
                sent.max(1)
            }
            // An error of an earlier datagram; this one has not left yet.
            Err(errno)
                if errno != Errno::AGAIN && side.upstream.take_errors(&side.terms.listener, cx) > 0 =>
            {
                self.on_error(id, run[0], rules, cx)
            }
            // A path that takes no parts takes the datagrams one by one.
            Err(errno @ (Errno::INVAL | Errno::IO | Errno::MSGSIZE)) if run[0].part.is_some() => {
                self.send_parts(id, run[0], errno, cx);
                1
            }
            Err(errno) if is_of_the_source(errno) && rules.reconnects_left > 0 => {
                rules.reconnects_left -= 1;
                self.reconnect(id, cx);
                0
            }
            Err(_) => {
                counts.dropped(Drop::ToBackend).add(datagrams(&run[..1]));
                1
            }
        }
    }

    /// The address that a flow sends from is this host's no more.
    fn reconnect(&mut self, id: FlowId, cx: &mut ThreadContext) {
        let Some(side) = self.sides.get_mut(id.index as usize).and_then(Option::as_mut) else { return };
        let snapshots = cx.snapshots.load();
        let Some(view) = snapshots.pools.get(side.terms.pool.0) else { return };
        let client = side.origin();
        side.upstream.reconnect(view, client, id.pack(), &mut self.origins, cx);
    }

    /// A send met the error of an earlier datagram, which is taken: tells how many of the datagrams are dealt with. None
    /// but for a flood of errors: this one has not left, and is tried again.
    fn on_error(&mut self, id: FlowId, next: Outgoing, rules: &mut Rules, cx: &mut ThreadContext) -> usize {
        let Some(side) = self.sides.get_mut(id.index as usize).and_then(Option::as_mut) else { return 1 };
        if rules.rehomes_left > 0 && side.upstream.wants_another(cx.now_ms()) {
            rules.rehomes_left -= 1;
            self.rehome(id, Why::Gone, cx);
            return 0;
        }
        let at = (next.slot, next.start);
        let times = rules.errors_of.filter(|(of, _)| *of == at).map_or(1, |(_, times)| times + 1);
        rules.errors_of = Some((at, times));
        if times < TRIES_MAX {
            return 0;
        }
        let counts = side.terms.counters.shards.of(cx.worker);
        counts.dropped(Drop::ToBackend).add(parts_of_outgoing(&next));
        1
    }

    /// Sends the parts of one merged datagram as datagrams of their own, after `errno` for the whole. When the first
    /// passes so, it was the merging, and what comes later does not try it again.
    fn send_parts(&mut self, id: FlowId, whole: Outgoing, errno: Errno, cx: &mut ThreadContext) {
        let Some(side) = self.sides.get_mut(id.index as usize).and_then(Option::as_mut) else { return };
        let counts = side.terms.counters.shards.of(cx.worker);
        for part in parts(whole) {
            if self.inbound.send(side.upstream.fd(), &[part]) == Ok(1) {
                if part.start == whole.start && !std::mem::replace(&mut side.upstream.takes_no_parts, true) {
                    self.gso_fallback.note(&side.terms.listener, side.upstream.backend, errno, cx.now_ms());
                }
                let backend = side.upstream.lease().backend().shards.of(cx.worker);
                backend.bytes(Direction::ToBackend).add(part.length as u64);
                counts.datagrams(Direction::ToBackend).add(1);
                counts.bytes(Direction::ToBackend).add(part.length as u64);
                self.flows.on_client(id, 1, part.length as u64, cx.now_ms());
            } else {
                counts.dropped(Drop::ToBackend).add(1);
            }
        }
    }
}

fn reason_of(none: NoUpstream) -> Reason {
    match none {
        NoUpstream::Refused(Refusal::Full) => Reason::BackendsFull,
        NoUpstream::Refused(Refusal::NoBackend | Refusal::AllTried) => Reason::NoBackend,
        NoUpstream::NoPort => Reason::NoSourcePort,
        NoUpstream::NoRoute => Reason::NoRoute,
        NoUpstream::Local(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Reason::LimitProcess,
        NoUpstream::Local(_) => Reason::ConnectFailed,
    }
}

fn shed(reason: Reason) -> Drop {
    match reason {
        Reason::Denied => Drop::Denied,
        Reason::LimitSessions => Drop::LimitSessions,
        Reason::LimitSessionsPerSource => Drop::LimitSessionsPerSource,
        Reason::LimitRate => Drop::LimitRate,
        Reason::LimitRatePerSource => Drop::LimitRatePerSource,
        Reason::LimitProcess => Drop::LimitProcess,
        _ => Drop::Draining,
    }
}

/// The datagrams that begin a flow.
pub(super) struct First {
    key: FlowKey,
    /// Who the client is.
    client: SocketAddr,
    proxied: Option<Box<Proxied>>,
    datagrams: u32,
}

/// How the rest of a run of datagrams is sent.
struct Rules {
    /// Backends that may still be tried; then what is left is dropped.
    rehomes_left: u32,
    /// Times the flow may still get another socket.
    reconnects_left: u32,
    /// Datagrams in one call.
    at_once: usize,
    /// Slot and start of the datagram that met errors last, and how often it did.
    errors_of: Option<((usize, usize), u32)>,
}

/// Why a flow gets another backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Its own is gone.
    Gone,
    /// It has had its share: `udp.requests`.
    Requests,
}

/// See [`Rules::rehomes_left`].
const REHOMES_PER_RUN: u32 = 3;
/// Times a datagram is tried that meets errors of earlier ones: a flood of them must not hold the thread.
const TRIES_MAX: u32 = 4;
