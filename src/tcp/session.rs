//! Session (one proxied TCP connection): everything there is to know of it between two steps.

use std::net::SocketAddr;
use std::sync::Arc;

use super::first_message::FirstMessage;
use super::proxy_header::Proxied;
use super::relay::Relay;
use super::side::{CLIENT, Side};
use super::{Terms, ThreadContext};
use crate::config::settings::OnDown;
use crate::limits::Permit;
use crate::pool::{Lease, Ticket};
use crate::reason::Reason;
use crate::session_query::{Filter, SessionRow};
use crate::sys::Errno;
use crate::sys::poller::Ready;

/// A session's whole state. Some 400 bytes; with its place in the wheel that is all the memory an idle one holds.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) terms: Arc<Terms>,
    pub(super) client: Side,
    /// The peer, or whom its PROXY header carries.
    pub(super) client_address: SocketAddr,
    /// Only of a peer that sends PROXY headers.
    pub(super) proxied: Option<Box<Proxied>>,
    /// Only of one whose route goes by what it says first.
    pub(super) first: Option<Box<FirstMessage>>,
    /// The port the client came to: where backends without a port of their own are reached.
    pub(super) local_port: u16,
    /// There from the first dial on.
    pub(super) backend: Option<Side>,
    pub(super) lease: Option<Lease>,
    /// What it holds of the listener's limits.
    pub(super) permit: Option<Permit>,
    pub(super) phase: Phase,
    pub(super) relay: Relay,
    pub(super) started_us: u64,
    pub(super) connect_us: Option<u64>,
    /// How long it waited in line, all times together; `None`: not at all.
    pub(super) queue_us: Option<u64>,
    /// Its end, because its backend went down or left.
    pub(super) close_later_ms: Option<u64>,
    /// Why, while that is to come.
    pub(super) ends_for: Option<Reason>,
    /// What happens to it when its backend goes down; as its pool had it when it was dialled.
    pub(super) on_down: OnDown,
    /// Attempts at a backend so far.
    pub(super) attempts: u8,
    /// Backends that failed this session, by their numbers: a reload moves their places in the pool. Without failures it
    /// holds no memory.
    pub(super) tried: Vec<u64>,
    /// The last attempt was at a backend that ended without a byte, and another is looked for.
    pub(super) met_empty: bool,
    /// Its backend ended without a byte: when this batch of events is through it goes to another.
    pub(super) goes_elsewhere: bool,
    /// Its sockets were given to the next process ahead of everything else: it stays with them.
    pub(super) is_given: bool,
    /// What tells more than the reason of the end.
    pub(super) error: Option<Errno>,
    /// A new phase has another deadline.
    pub(super) deadline_moved: bool,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The PROXY header is not whole yet.
    AwaitingHeader { deadline_ms: u64 },
    /// The first message, by which a route goes, is not whole yet.
    AwaitingFirst { deadline_ms: u64 },
    /// A connect is under way.
    Dialling { began_us: u64, deadline_ms: u64 },
    /// The backend is connected and asked whether it takes the TLS that the client was promised.
    AskingTls { began_us: u64, deadline_ms: u64 },
    /// Every eligible backend is full: in the line for a place.
    Queued { ticket: Ticket, since_us: u64, until_ms: u64 },
    /// Every backend there is has failed this session once; the next attempt comes after a pause.
    Pausing { until_ms: u64 },
    /// Bytes flow both ways.
    Relaying,
    /// It is refused, for this reason, and hears why in its own language, when so many of its questions are answered.
    Refusing { reason: Reason, until_ms: u64, told: bool, answered: u8 },
    /// One side is gone; the other gets its reset when it has acknowledged all that was sent before.
    Lingering { reason: Reason, look_ms: u64, until_ms: u64 },
}

/// What a session needs after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// To be left alone until a socket is ready or its deadline comes.
    Wait,
    /// Another turn, after the others had theirs.
    Again,
    /// Its backend ended without a byte, and another may still serve it.
    Elsewhere,
    /// To be ended.
    End(Reason),
}

impl Session {
    /// A session that has not picked a backend yet.
    pub(super) fn new(
        terms: Arc<Terms>,
        client: Side,
        client_address: SocketAddr,
        local_port: u16,
        cx: &mut ThreadContext,
    ) -> Self {
        // The ends of sessions that began together are spread.
        let lifetime_ms = terms.lifetime_ms.map(|ms| cx.random.jitter(ms, 10));
        Self {
            relay: Relay::new(cx.now_ms(), lifetime_ms),
            terms,
            client,
            client_address,
            proxied: None,
            first: None,
            local_port,
            backend: None,
            lease: None,
            permit: None,
            phase: Phase::Pausing { until_ms: cx.now_ms() },
            started_us: cx.now_us,
            connect_us: None,
            queue_us: None,
            close_later_ms: None,
            ends_for: None,
            on_down: OnDown::Keep,
            attempts: 0,
            tried: Vec::new(),
            met_empty: false,
            goes_elsewhere: false,
            is_given: false,
            error: None,
            deadline_moved: false,
        }
    }

    /// A turn would read from the client: it may have something, and nothing of it waits to be written.
    pub(super) fn can_read_client(&self) -> bool {
        self.client.readable && !self.client.read_out && self.relay.to_backend.is_empty()
    }

    /// Its backend went down since it was given it, or left, and it is to end with it. Not so while it still tells one side of the
    /// end of the other.
    pub(super) fn is_to_close(&self) -> bool {
        let goes = self.fell() || self.lease.as_ref().is_some_and(Lease::is_withdrawn);
        // One that is to end within a second ends now, when its backend loses the role meanwhile.
        self.lost_role() && self.ends_for != Some(Reason::RoleChanged)
            || goes && self.close_later_ms.is_none() && self.has_backend()
    }

    /// Its backend went down, and it is to end with it.
    fn fell(&self) -> bool {
        self.on_down == OnDown::Close && self.lease.as_ref().is_some_and(Lease::fell)
    }

    /// Its backend lost the role that it came for since it was given it.
    pub(super) fn lost_role(&self) -> bool {
        self.has_backend() && self.lease.as_ref().is_some_and(|lease| lease.lost(self.terms.role))
    }

    fn has_backend(&self) -> bool {
        matches!(self.phase, Phase::Relaying | Phase::Dialling { .. } | Phase::AskingTls { .. })
    }

    /// The backend it had is no matter of it any more: it failed, and another is picked.
    pub(super) fn leave_backend(&mut self) {
        self.tried.extend(self.lease.take().map(|lease| lease.backend().number));
        (self.close_later_ms, self.ends_for) = (None, None);
    }

    /// Does an operator look for it?
    pub(super) fn fits(&self, filter: &Filter) -> bool {
        let backend = self.lease.as_ref().map(|lease| lease.backend());
        let backend = backend.map(|backend| (&*backend.pool.name, &*backend.name));
        filter.fits(&self.terms.listener, self.client_address.ip(), backend)
            && filter.fits_local(|| self.local())
    }

    /// Where it came in. Asks the kernel: only operators want to know.
    fn local(&self) -> Option<SocketAddr> {
        crate::sys::tcp::local_address(std::os::fd::AsFd::as_fd(&self.client.fd))
    }

    /// What operators are told of it.
    pub(super) fn found(&self, now_us: u64) -> SessionRow {
        let backend = self.lease.as_ref().map(|lease| lease.backend());
        SessionRow {
            proto: "tcp",
            state: match self.phase {
                Phase::AwaitingHeader { .. } => "header",
                Phase::AwaitingFirst { .. } => "first",
                Phase::Dialling { .. } | Phase::AskingTls { .. } => "connecting",
                Phase::Queued { .. } => "queued",
                Phase::Pausing { .. } => "retrying",
                Phase::Relaying => "open",
                Phase::Lingering { .. } | Phase::Refusing { .. } => "closing",
            },
            listener: Arc::clone(&self.terms.listener),
            client: self.client_address,
            local: self.local(),
            name: self.first.as_ref().and_then(|first| first.name.as_deref()).map(str::to_owned),
            backend: backend.map(|backend| (Arc::clone(&backend.pool.name), Arc::clone(&backend.name))),
            age_ms: now_us.saturating_sub(self.started_us) / 1_000,
            to_backend: self.relay.to_backend.delivered_bytes,
            to_client: self.relay.to_client.delivered_bytes,
        }
    }

    /// Its end is near, at a moment of its own, so that the clients of one backend do not all return at once. Where a role
    /// was lost it is now: what is written to a former primary is lost.
    pub(super) fn close_later(&mut self, cx: &mut ThreadContext) {
        let (reason, spread_ms) = if self.lost_role() {
            (Reason::RoleChanged, 0)
        } else {
            let reason = if self.fell() { Reason::BackendDown } else { Reason::Removed };
            (reason, cx.random.bits() % CLOSES_SPREAD_MS)
        };
        (self.close_later_ms, self.ends_for) = (Some(cx.now_ms() + spread_ms), Some(reason));
        self.deadline_moved = true;
    }

    /// One side announced its end, so the other may be silent for so long and no longer.
    pub(super) fn is_half_closed(&self) -> bool {
        self.client.ending || self.backend.as_ref().is_some_and(|backend| backend.ending)
    }

    /// Takes over what the kernel reported of one side.
    pub(super) fn note(&mut self, side: usize, ready: &Ready, now_ms: u64) {
        let was_half_closed = self.is_half_closed();
        match (side, &mut self.backend) {
            (CLIENT, _) => self.client.note(ready),
            (_, Some(backend)) => backend.note(ready),
            (_, None) => {}
        }
        if !was_half_closed && self.is_half_closed() {
            self.relay.moved_ms = now_ms;
            self.deadline_moved = true;
        }
    }

    /// Enters a phase, whose deadline is then looked at anew.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.deadline_moved = true;
    }
}

/// Does this errno say that the peer is there and refused to go on, or that it is gone without a word?
pub(super) fn is_reset(errno: Errno) -> bool {
    matches!(errno, Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED | Errno::CONNREFUSED)
}

/// `on_down: close`, and the end of a departure, take so long.
const CLOSES_SPREAD_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        // The budget of an idle session is 2 KiB with the table's growth room and the wheel; the entry takes the most.
        assert!(std::mem::size_of::<Session>() <= 512, "{}", std::mem::size_of::<Session>());
    }
}
