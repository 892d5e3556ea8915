//! Terms of a flow: what it is born with.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::access::{SharedAccess, TrustedProxies};
use crate::config::settings::LogSessions;
use crate::flow;
use crate::limits::SessionLimits;
use crate::manifest;
use crate::metrics::ListenerCounters;
use crate::pool::{LivePool, PoolSlot};
use crate::reason::Reason;

/// Shared by all flows of one listener.
#[derive(Debug)]
pub struct Terms {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Where its pool stands in the snapshot.
    pub pool: PoolSlot,
    /// The pool itself: while anyone holds it, no other gets its slot.
    pub live: Arc<LivePool>,
    /// Who may come in; `None`: everyone.
    pub access: Option<Arc<SharedAccess>>,
    /// Bytes of datagrams that may wait at its doors.
    pub receive_buffer: usize,
    /// Bytes of datagrams that may wait to leave by them: in the kernel, and as many here.
    pub send_buffer: usize,
    /// What the table needs to know.
    pub flow: Arc<flow::Terms>,
    /// Whose datagrams may begin with a PROXY header.
    pub proxies: Arc<TrustedProxies>,
    /// Which ends have a line in the log.
    pub log_sessions: LogSessions,
    /// Where it is counted.
    pub counters: Arc<ListenerCounters>,
}

impl Terms {
    /// The terms of a listener that left: its flows go on, and none begins.
    pub fn last(&self) -> Self {
        Self {
            listener: Arc::clone(&self.listener),
            pool: self.pool,
            live: Arc::clone(&self.live),
            // Nobody is asked any more.
            access: None,
            receive_buffer: self.receive_buffer,
            send_buffer: self.send_buffer,
            flow: Arc::new(self.flow.last()),
            proxies: Arc::clone(&self.proxies),
            log_sessions: self.log_sessions,
            counters: Arc::clone(&self.counters),
        }
    }

    /// Terms of flows of the process before, whose listener has others now or is gone. None begins with them.
    pub fn of_before(
        record: &manifest::FlowTerms,
        log_sessions: LogSessions,
        counters: Arc<ListenerCounters>,
        live: &Arc<LivePool>,
        limits: Arc<SessionLimits>,
    ) -> Self {
        let flow = flow::Terms {
            idle_ms: record.idle_ms,
            lifetime_ms: record.lifetime_ms,
            responses: NonZeroU32::new(record.responses),
            requests: NonZeroU32::new(record.requests),
            limits,
            draining: flow::Draining::default(),
        };
        Self {
            listener: Arc::clone(&counters.listener),
            pool: live.slot,
            live: Arc::clone(live),
            access: None,
            receive_buffer: 0,
            send_buffer: 0,
            flow: Arc::new(flow),
            proxies: Arc::new(TrustedProxies::new(&[], &[])),
            log_sessions,
            counters,
        }
    }

    /// May this client not begin a flow?
    pub(super) fn denies(&self, client: IpAddr) -> bool {
        self.access.as_ref().is_some_and(|access| !access.allows(client))
    }

    /// Does an end for this reason have a line?
    pub(super) fn logs(&self, reason: Reason) -> bool {
        match self.log_sessions {
            LogSessions::All => true,
            LogSessions::Failed => !reason.is_ordinary(),
            LogSessions::Off => false,
        }
    }
}
