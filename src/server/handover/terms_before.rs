//! Terms of before: what sessions of the process before were born with, as far as it is not what their listener has now; and
//! what becomes of sessions whose listener has left the file.

use std::sync::Arc;

use crate::config::settings::{LogSessions, Protocol, Role, Word as _};
use crate::limits::SessionLimits;
use crate::listener::Terms;
use crate::manifest;
use crate::metrics::ListenerCounters;
use crate::pool::LivePool;
use crate::reason::Reason;
use crate::server::control::Control;
use crate::{tcp, udp};

impl Control {
    /// What sessions of the process before were born with: what its listener has now, but for what it had otherwise then.
    pub(super) fn tcp_terms(&self, record: &manifest::Terms) -> Arc<tcp::Terms> {
        let served = self.served();
        let log_sessions = LogSessions::named(record.log_sessions.as_str()).unwrap_or(LogSessions::All);
        let (live, counters) = self.listed(&record.pool, &record.listener, Protocol::Tcp);
        let now = match served.terms.get(&record.listener) {
            Some(Terms::Tcp(now)) => Some(now),
            _ => None,
        };
        // Of a process that told no roles: of its listener's, which may be one of several with that pool.
        let role = Role::of_word(record.role.as_str());
        let of_route = now
            .into_iter()
            .flat_map(tcp::Terms::each)
            .find(|one| Arc::ptr_eq(&one.live, &live) && role.is_none_or(|role| one.role == role));
        if let Some(now) = of_route.filter(|now| {
            now.idle_ms == record.idle_ms
                && now.half_closed_ms == record.half_closed_ms
                && now.log_sessions == log_sessions
        }) {
            return Arc::clone(now);
        }
        // Those that wait for their PROXY header or first message are still to be judged.
        let of_now = of_route.or(now).map(|now| now.for_those_before(Arc::clone(&counters), &live));
        Arc::new(tcp::Terms {
            idle_ms: record.idle_ms,
            half_closed_ms: record.half_closed_ms,
            log_sessions,
            ..of_now.unwrap_or_else(|| tcp::Terms::of_nobody(counters, &live))
        })
    }

    pub(super) fn udp_terms(&self, record: &manifest::FlowTerms) -> Arc<udp::Terms> {
        let served = self.served();
        let log_sessions = LogSessions::named(record.log_sessions.as_str()).unwrap_or(LogSessions::All);
        let (live, counters) = self.listed(&record.pool, &record.listener, Protocol::Udp);
        let now = match served.terms.get(&record.listener) {
            Some(Terms::Udp(now)) => Some(now),
            _ => None,
        };
        let of_route = now.into_iter().flat_map(udp::Terms::each).find(|one| Arc::ptr_eq(&one.live, &live));
        let number = |value: Option<std::num::NonZeroU32>| value.map_or(0, std::num::NonZeroU32::get);
        if let Some(now) = of_route.filter(|now| {
            now.flow.idle_ms == record.idle_ms
                && now.flow.lifetime_ms == record.lifetime_ms
                && number(now.flow.responses) == record.responses
                && number(now.flow.requests) == record.requests
                && now.log_sessions == log_sessions
        }) {
            return Arc::clone(now);
        }
        // Those of a listener that is gone count in the process, as all do.
        let limits = now.map_or_else(
            || Arc::new(SessionLimits::new(Some(self.workers.shared_udp_permits()), None, None)),
            |now| Arc::clone(&now.flow.limits),
        );
        Arc::new(udp::Terms::of_before(record, log_sessions, counters, &live, limits))
    }

    /// The pool and the counters of these names; a listener that is gone gets counters of its own while it has sessions.
    fn listed(
        &self,
        pool: &str,
        listener: &str,
        protocol: Protocol,
    ) -> (Arc<LivePool>, Arc<ListenerCounters>) {
        let snapshot = self.snapshots.load();
        let named = snapshot.pools.iter().find(|view| *view.live.name == *pool);
        // Every pool that has sessions is there; without one any will do, since nobody is picked there.
        let live = Arc::clone(&named.unwrap_or(&snapshot.pools[0]).live);
        let known = self.listeners.of_protocol(listener, protocol.word());
        let counters = known.unwrap_or_else(|| {
            let new = ListenerCounters::new(listener, protocol.word(), live.slot.0, self.workers.count());
            let new = Arc::new(new);
            let mut all = self.listeners.all();
            all.push(Arc::clone(&new));
            self.listeners.replace(all);
            new
        });
        (live, counters)
    }

    /// Sessions of listeners that left the file at the takeover have the grace, and then end as `drained`.
    pub(in crate::server) fn drain_orphans(self: &Arc<Self>) {
        let served = self.served();
        let grace = served.settings.shutdown.grace;
        let is_orphan = |counters: &Arc<ListenerCounters>| !served.terms.contains_key(&*counters.listener);
        let orphans: Vec<String> =
            self.listeners.all().into_iter().filter(is_orphan).map(|one| one.listener.to_string()).collect();
        drop(served);
        for listener in orphans {
            tracing::info!(target: "evenkeel", listener, grace_s = grace.as_secs_f64(), "the listener left the file: its sessions may finish");
            self.end_after_grace(listener, grace, Reason::Drained);
        }
    }
}
