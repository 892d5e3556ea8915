//! Terms of a session: what it is born with. A reload makes new terms for new sessions; living ones keep theirs.

use std::sync::Arc;
use std::time::Duration;

use super::Admission;
use crate::access::TrustedProxies;
use crate::config::settings::{Listener, LogSessions, Role, Speaks};
use crate::metrics::ListenerCounters;
use crate::pool::{LivePool, PoolSlot};
use crate::reason::Reason;
use crate::routing::Table;
use crate::sys::tcp::StreamOptions;

/// Shared by all sessions of one listener.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Where its pool stands in the snapshot.
    pub pool: PoolSlot,
    /// Which of its backends.
    pub role: Role,
    /// The pool itself: while anyone holds it, no other gets its slot.
    pub live: Arc<LivePool>,
    /// Which clients go to other pools; `None`: all go to this one.
    pub routing: Option<Arc<Routing>>,
    /// What its clients speak, where the file says it.
    pub speaks: Option<Speaks>,
    /// Who may come in, and how many; `None`: everyone.
    pub admission: Option<Admission>,
    /// Connections that may wait at its doors; `None`: as many as the kernel allows.
    pub backlog: Option<u32>,
    /// Options of both sockets.
    pub options: StreamOptions,
    /// Neither side sent anything for so long.
    pub idle_ms: Option<u64>,
    /// One side is done, the other silent for so long.
    pub half_closed_ms: Option<u64>,
    /// The longest life.
    pub lifetime_ms: Option<u64>,
    /// Whose connections begin with a PROXY header.
    pub proxies: TrustedProxies,
    /// How long such a header may take.
    pub header_ms: u64,
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
    /// What the sessions of each go on with: the terms of the listener, at another pool.
    pub by_route: Vec<Arc<Terms>>,
    /// For whom there is none is refused.
    pub needs_route: bool,
    /// How long a first message may take.
    pub first_ms: u64,
}

impl Terms {
    /// The terms of a listener.
    pub fn new(
        listener: &Listener,
        live: &Arc<LivePool>,
        log_sessions: LogSessions,
        (admission, proxies): (Option<Admission>, TrustedProxies),
        counters: Arc<ListenerCounters>,
    ) -> Self {
        Self {
            listener: Arc::clone(&counters.listener),
            pool: live.slot,
            role: listener.role,
            live: Arc::clone(live),
            routing: None,
            speaks: listener.speaks,
            admission,
            backlog: listener.backlog,
            options: options_of(listener),
            idle_ms: listener.timeouts.idle.map(whole_ms),
            half_closed_ms: listener.timeouts.half_closed.map(whole_ms),
            lifetime_ms: listener.timeouts.lifetime.map(whole_ms),
            proxies,
            header_ms: whole_ms(listener.timeouts.header),
            log_sessions,
            counters,
        }
    }

    /// The terms of a listener whose routes lead to these pools.
    #[must_use]
    pub fn with_routes(self, listener: &Listener, pools: &[Arc<LivePool>]) -> Self {
        // A cancel may come to any listener of PostgreSQL.
        if listener.routes.is_empty() && listener.speaks != Some(Speaks::Postgres) {
            return self;
        }
        let by_route = listener.routes.iter().map(|route| {
            let live = Arc::clone(&pools[route.pool]);
            Arc::new(Self { pool: live.slot, live, role: route.role, ..self.clone() })
        });
        let routing = Routing {
            table: Table::new(&listener.routes),
            by_route: by_route.collect(),
            needs_route: listener.needs_route,
            first_ms: whole_ms(listener.timeouts.first),
        };
        Self { routing: Some(Arc::new(routing)), ..self }
    }

    /// These, and those of its routes.
    pub fn each(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(self.routing.iter().flat_map(|routing| &routing.by_route))
    }

    /// Terms of sessions whose listener is not there, or is another now: only what their end needs.
    pub fn of_nobody(counters: Arc<ListenerCounters>, live: &Arc<LivePool>) -> Self {
        Self {
            listener: Arc::clone(&counters.listener),
            pool: live.slot,
            role: Role::Any,
            live: Arc::clone(live),
            routing: None,
            speaks: None,
            admission: None,
            backlog: None,
            options: StreamOptions::default(),
            idle_ms: None,
            half_closed_ms: None,
            lifetime_ms: None,
            proxies: TrustedProxies::new(&[], &[]),
            header_ms: HEADER_MS,
            log_sessions: LogSessions::All,
            counters,
        }
    }

    /// Terms of sessions of the process before, which had others then: what they have not yet come to, their entry above all,
    /// is as it is now.
    pub fn for_those_before(&self, counters: Arc<ListenerCounters>, live: &Arc<LivePool>) -> Self {
        let (listener, live) = (Arc::clone(&counters.listener), Arc::clone(live));
        Self { listener, pool: live.slot, live, counters, ..self.clone() }
    }

    /// Does an end for this reason, which cut so much, have a line?
    pub(super) fn logs(&self, reason: Reason, cut_bytes: u64) -> bool {
        match self.log_sessions {
            LogSessions::All => true,
            LogSessions::Failed => cut_bytes > 0 || !reason.is_ordinary(),
            LogSessions::Off => false,
        }
    }
}

/// The options of both sockets of a listener's sessions.
pub fn options_of(listener: &Listener) -> StreamOptions {
    StreamOptions {
        keepalive: listener.keepalive.map(|k| (k.idle, k.interval, k.count)),
        unacknowledged: listener.timeouts.unacknowledged,
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// As where the file says nothing else.
const HEADER_MS: u64 = 3_000;
