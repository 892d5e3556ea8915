//! What the sessions of each listener are born with, and what of it goes on when the file changes: counters and limits.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::{self, LogSessions, Protocol, ShareLimit};
use crate::limits::{Places, SessionLimits, SourcePlaces, udp_defaults};
use crate::listener::Terms;
use crate::metrics::ListenerCounters;
use crate::pool::Lasting;
use crate::{flow, tcp, udp};

/// What terms are made of, besides the listener's settings and its pool.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) log_sessions: LogSessions,
    /// Flows of the whole process.
    pub(super) udp_places: Arc<Places>,
    pub(super) hash_key: [u8; 16],
}

impl Making {
    /// The terms of a listener. `before` are those of the listener that had its name: its limits count on.
    pub(super) fn terms(
        &self,
        listener: &settings::Listener,
        lasting: &Arc<Lasting>,
        counters: &Arc<ListenerCounters>,
        before: Option<&Terms>,
    ) -> Terms {
        let counters = Arc::clone(counters);
        match listener.protocol {
            Protocol::Tcp => {
                Terms::Tcp(Arc::new(tcp::Terms::new(listener, lasting, self.log_sessions, counters)))
            }
            Protocol::Udp => {
                let before = match before {
                    Some(Terms::Udp(before)) => Some(&before.flow.limits),
                    _ => None,
                };
                let flow = Arc::new(self.flow_terms(listener, before));
                Terms::Udp(Arc::new(udp::Terms {
                    listener: Arc::clone(&counters.listener),
                    pool: lasting.slot,
                    lasting: Arc::clone(lasting),
                    flow,
                    log_sessions: self.log_sessions,
                    counters,
                }))
            }
        }
    }

    fn flow_terms(&self, listener: &settings::Listener, before: Option<&Arc<SessionLimits>>) -> flow::Terms {
        let process = self.udp_places.most().unwrap_or(u32::MAX);
        let share = |limit, auto| match limit {
            ShareLimit::Auto => Some(auto),
            ShareLimit::Off => None,
            ShareLimit::Count(count) => Some(count),
        };
        let sessions = share(listener.limits.sessions, udp_defaults(process).0);
        let most = sessions.unwrap_or(process).min(process);
        let per_source = share(listener.limits.sessions_per_source, (most / 16).max(1));
        let limits = match before.filter(|before| before.sources().is_some() == per_source.is_some()) {
            // Flows that live are counted where they were taken, so that new limits hold for all together.
            Some(before) => {
                before.listener().set_most(sessions);
                if let Some(sources) = before.sources() {
                    sources.set_most(per_source);
                }
                Arc::clone(before)
            }
            None => {
                let sources = per_source.map(|each| SourcePlaces::new(self.hash_key, Some(each), most));
                Arc::new(SessionLimits::new(Arc::clone(&self.udp_places), sessions, sources))
            }
        };
        let whole_ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        flow::Terms {
            idle_ms: listener.timeouts.idle.map(whole_ms),
            lifetime_ms: listener.timeouts.lifetime.map(whole_ms),
            responses: listener.udp.responses.and_then(NonZeroU32::new),
            requests: listener.udp.requests.and_then(NonZeroU32::new),
            limits,
            draining: flow::Draining::default(),
        }
    }
}
