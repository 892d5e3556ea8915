//! Upstream socket of a flow: the permit it holds at its backend, a port of ours, and a connected socket.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::BatchSize;
use super::connect_from::{Origin, Origins};
use super::refusals::{Refusals, Sender};
use crate::balance::Ask;
use crate::config::settings::{OnDown, Role, SendProxy};
use crate::manifest;
use crate::metrics::Drop;
use crate::pool::{Departure, Lease, PoolView, Refusal};
use crate::reason::Reason;
use crate::sys::{Errno, udp, udp_errors};
use crate::thread_context::{ThreadContext, Token};

/// Where a flow's datagrams go.
#[derive(Debug)]
pub(super) struct Upstream {
    fd: OwnedFd,
    lease: Lease,
    /// The backend's address: anyone else is a stranger.
    pub(super) backend: SocketAddr,
    /// What it is connected from.
    origin: Origin,
    /// What happens when it goes down.
    pub(super) on_down: OnDown,
    /// Its first datagram is to have the PROXY header of the flow in front.
    pub(super) owes_header: bool,
    /// What it met since the backend answered last.
    pub(super) refusals: Refusals,
    /// Since when the backend owes its first answer.
    pub(super) asked_us: u64,
    /// It has answered.
    pub(super) answered: bool,
    /// The path there does not take several datagrams as one.
    pub(super) takes_no_parts: bool,
    pub(super) batch_size: BatchSize,
}

/// Why a flow has no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoUpstream {
    /// None is eligible, each is full, or each was tried.
    Refused(Refusal),
    /// No local port is free towards it.
    NoPort,
    /// No route is for its client.
    NoRoute,
    /// This machine cannot: files, memory, permission.
    Local(Errno),
}

impl NoUpstream {
    /// How its datagrams are counted.
    pub(super) fn as_drop(self) -> Drop {
        match self {
            Self::Refused(_) => Drop::NoBackend,
            Self::NoPort => Drop::NoSourcePort,
            Self::NoRoute => Drop::NoRoute,
            Self::Local(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Drop::LimitProcess,
            Self::Local(_) => Drop::ToBackend,
        }
    }
}

impl Upstream {
    /// Picks a backend but the one of this number, takes a place and a port there, and connects.
    pub(super) fn open(
        view: &PoolView,
        client: SocketAddr,
        client_port: u16,
        flow: u64,
        but: Option<u64>,
        origins: &mut Origins,
        cx: &mut ThreadContext,
    ) -> Result<Self, NoUpstream> {
        let tried = view.places_of(but.as_slice());
        let random = cx.random.bits();
        let ask = Ask { client, random, now_ns: cx.now_us * 1_000, tried: &tried };
        let lease = Lease::take(view, Role::Any, &ask).map_err(NoUpstream::Refused)?;
        let backend = lease.backend().address(client_port);
        let (fd, origin) = origins.connect(view, client, backend, cx.worker)?;
        if let Err(errno) = cx.poller.watch_input(&fd, Token::Flow(flow).pack()) {
            origins.give_back(&origin, backend);
            return Err(NoUpstream::Local(errno));
        }
        lease.backend().shards.of(cx.worker).sessions.add(1);
        Ok(Self {
            fd,
            lease,
            backend,
            origin,
            on_down: view.settings.on_down,
            owes_header: view.settings.send_proxy == SendProxy::V2,
            refusals: Refusals::default(),
            asked_us: cx.now_us,
            answered: false,
            takes_no_parts: false,
            batch_size: BatchSize::default(),
        })
    }

    /// Adds what the next process is told.
    pub(super) fn export(&self, flow: &mut manifest::Flow) {
        flow.fd = self.fd.as_raw_fd();
        flow.lease = self.lease.backend().number;
        flow.backend = self.backend;
        flow.origin = self.origin.export();
        flow.on_down = self.on_down.word().into();
        flow.owes_header = self.owes_header;
        flow.refused = self.refusals.are_enough();
        flow.refusals = self.refusals.count();
        flow.is_exclusive = true;
        flow.asked_us = self.asked_us;
        flow.answered = self.answered;
    }

    /// As the process before told, with its socket and its place at the backend.
    pub(super) fn import(
        record: &manifest::Flow,
        fd: OwnedFd,
        mut lease: Lease,
        origins: &mut Origins,
    ) -> Self {
        // The client spoke last.
        if record.client_ms > record.backend_ms || !record.answered {
            lease.ask(record.client_ms.saturating_mul(1_000));
        }
        let on_down = OnDown::named(record.on_down.as_str()).unwrap_or(OnDown::Keep);
        if on_down == OnDown::Close {
            lease.backend().pool.note_closes();
        }
        if !record.is_exclusive {
            // Without it the port stays as open to others as it was, until the flow ends.
            let _ = udp::make_exclusive(fd.as_fd(), record.backend.is_ipv6());
        }
        Self {
            fd,
            lease,
            backend: record.backend,
            origin: origins.import(record.origin, record.backend),
            on_down,
            owes_header: record.owes_header,
            refusals: Refusals::import(record.refusals.max(record.refused.into())),
            asked_us: record.asked_us,
            answered: record.answered,
            // What the path takes is found out anew.
            takes_no_parts: false,
            batch_size: BatchSize::default(),
        }
    }

    /// Gives the port back; the place and the socket go with the value.
    pub(super) fn close(self, origins: &mut Origins) {
        let Self { fd, origin, backend, .. } = self;
        // Another thread may have the pair at once.
        drop(fd);
        origins.give_back(&origin, backend);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Another socket to the same backend, from another port and the address that this host has now. False: as before.
    pub(super) fn reconnect(
        &mut self,
        view: &PoolView,
        client: SocketAddr,
        flow: u64,
        origins: &mut Origins,
        cx: &ThreadContext,
    ) -> bool {
        origins.forget_source(self.backend);
        let Ok((fd, origin)) = origins.connect(view, client, self.backend, cx.worker) else { return false };
        if cx.poller.watch_input(&fd, Token::Flow(flow).pack()).is_err() {
            drop(fd);
            origins.give_back(&origin, self.backend);
            return false;
        }
        drop(std::mem::replace(&mut self.fd, fd));
        let before = std::mem::replace(&mut self.origin, origin);
        origins.give_back(&before, self.backend);
        true
    }

    /// Something was sent.
    pub(super) fn note_sent(&mut self, cx: &ThreadContext) {
        self.refusals.sent(cx.now_ms());
        self.lease.ask(cx.now_us);
    }

    /// Takes the errors (ICMP) that wait at the socket, so many at most; tells how many there were. None of them is in the way
    /// of the next call.
    pub(super) fn take_errors(&mut self, listener: &str, cx: &ThreadContext) -> usize {
        for taken in 0..ERRORS_PER_LOOK {
            match udp_errors::take(self.fd.as_fd()) {
                Ok(Some(error)) => self.note_error(&error, listener, cx),
                Ok(None) | Err(_) => return taken,
            }
        }
        udp_errors::pass_over(self.fd.as_fd());
        ERRORS_PER_LOOK
    }

    fn note_error(&mut self, error: &udp_errors::Error, listener: &str, cx: &ThreadContext) {
        if error.to != self.backend || !error.is_refusal {
            return;
        }
        let is_own = error.offender == Some(self.backend.ip());
        // Who takes datagrams for long without a word, and without an error, does not listen to hosts in between.
        let is_young = cx.now_us < self.asked_us.saturating_add(YOUNG_US);
        if !is_own && !self.answered && !is_young {
            return;
        }
        let was_doubted = self.refusals.is_doubted();
        if self.refusals.note(if is_own { Sender::Backend } else { Sender::Other }) {
            self.note_failure(cx);
        }
        if !was_doubted && self.refusals.is_doubted() {
            let (backend, offender) = (&*self.lease.backend().name, error.offender);
            let offender = offender.map(tracing::field::display);
            tracing::debug!(target: "session", listener, proto = "udp", backend, offender, "a datagram was refused");
        }
    }

    fn note_failure(&self, cx: &ThreadContext) {
        let backend = self.lease.backend();
        backend.shards.of(cx.worker).connect_failures.add(1);
        backend.note_failure(cx.now_ms());
    }

    /// The flow leaves the backend or ends. Where there was an error and never an answer, that counts as a failure.
    pub(super) fn note_left(&mut self, cx: &ThreadContext) {
        self.lease.give_up(cx.now_us);
        let is_silent = self.refusals.is_silent(cx.now_ms()) || !self.answered;
        if self.refusals.is_doubted() && self.refusals.count() == 0 && is_silent {
            self.note_failure(cx);
        }
    }

    /// The backend answered.
    pub(super) fn note_answered(&mut self, cx: &ThreadContext) {
        self.refusals = Refusals::default();
        self.lease.backend().note_success();
        self.answered = true;
        self.lease.answer(cx.now_us);
    }

    /// Why the flow is to end with its backend, which went down since the flow was given it, or left.
    pub(super) fn ends_for(&self) -> Option<Reason> {
        if self.on_down == OnDown::Close && self.lease.fell() {
            return Some(Reason::BackendDown);
        }
        self.lease.is_withdrawn().then_some(Reason::Removed)
    }

    /// The next datagram of the client should go to another backend.
    pub(super) fn wants_another(&self, now_ms: u64) -> bool {
        let is_gone = self.refusals.are_enough() || self.refusals.is_silent(now_ms);
        let backend = self.lease.backend();
        self.on_down == OnDown::Rehome && (is_gone || backend.is_down())
            || backend.departure() == Departure::Rehomes
    }
}

/// Errors of one flow that are taken at once: what floods a socket with them delays the others no longer.
const ERRORS_PER_LOOK: usize = 16;
/// A firewall refuses what a flow sends from its beginning on.
const YOUNG_US: u64 = 5_000_000;
