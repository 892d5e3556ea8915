//! Terms of a flow: what it is born with.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::access::{SharedAccess, TrustedProxies};
use crate::config::settings::{Listener, LogSessions};
use crate::flow;
use crate::limits::SessionLimits;
use crate::manifest;
use crate::metrics::ListenerCounters;
use crate::pool::{LivePool, PoolSlot};
use crate::reason::Reason;
use crate::routing::{Choice, Facts, First, Table};

/// Shared by all flows of one listener.
#[derive(Debug)]
pub struct Terms {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Where its pool stands in the snapshot.
    pub pool: PoolSlot,
    /// The pool itself: while anyone holds it, no other gets its slot.
    pub live: Arc<LivePool>,
    /// Which clients go to other pools; `None`: all go to this one.
    pub routing: Option<Arc<Routing>>,
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

/// The routes of a listener.
#[derive(Debug)]
pub struct Routing {
    /// Who takes which.
    pub table: Table,
    /// What the flows of each are born with: the terms of the listener, at another pool.
    pub by_route: Vec<Arc<Terms>>,
    /// For whom there is none is refused.
    pub needs_route: bool,
}

impl Terms {
    /// The terms of a listener whose routes lead to these pools.
    #[must_use]
    pub fn with_routes(self, listener: &Listener, pools: &[Arc<LivePool>]) -> Self {
        if listener.routes.is_empty() {
            return self;
        }
        let by_route =
            listener.routes.iter().map(|route| Arc::new(self.at(&pools[route.pool], Arc::clone(&self.flow))));
        let routing = Routing {
            table: Table::new(&listener.routes),
            by_route: by_route.collect(),
            needs_route: listener.needs_route,
        };
        Self { routing: Some(Arc::new(routing)), ..self }
    }

    /// The terms of a new flow of this client, who came to this port; and whether a pool is for it.
    pub(super) fn routed(terms: Arc<Self>, client: IpAddr, port: u16) -> (Arc<Self>, bool) {
        let Some(routing) = &terms.routing else { return (terms, true) };
        match routing.table.choose(&Facts { client, port, first: First::Unread }) {
            Choice::Route(number) => match routing.by_route.get(number).map(Arc::clone) {
                Some(of_route) => (of_route, true),
                None => (terms, true),
            },
            Choice::None | Choice::AsksFirst => {
                let has_pool = !routing.needs_route;
                (terms, has_pool)
            }
        }
    }

    /// These, and those of its routes.
    pub fn each(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(self.routing.iter().flat_map(|routing| &routing.by_route))
    }

    /// The same without routes at this pool.
    fn at(&self, live: &Arc<LivePool>, flow: Arc<flow::Terms>) -> Self {
        Self {
            listener: Arc::clone(&self.listener),
            pool: live.slot,
            live: Arc::clone(live),
            routing: None,
            access: self.access.clone(),
            receive_buffer: self.receive_buffer,
            send_buffer: self.send_buffer,
            flow,
            proxies: Arc::clone(&self.proxies),
            log_sessions: self.log_sessions,
            counters: Arc::clone(&self.counters),
        }
    }

    /// The terms of a listener that left: its flows go on, and none begins.
    pub fn last(&self) -> Self {
        // Nobody is asked any more.
        Self { access: None, ..self.at(&self.live, Arc::new(self.flow.last())) }
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
            routing: None,
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
