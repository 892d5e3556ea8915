//! Terms builder: what the sessions of each listener are born with, and what of it goes on when the file changes:
//! counters and limits.

use std::cell::RefCell;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::rates::RatesBefore;
use crate::access::{Networks, SharedAccess, TrustedProxies};
use crate::admin::Routed;
use crate::config::settings::{Listener, LogSessions, Protocol, Rate, Role, Settings, ShareLimit};
use crate::limits::{PerSource, Permits, RateLimit, SessionLimits, SourceRates, udp_defaults};
use crate::listener::Terms;
use crate::metrics::ListenerCounters;
use crate::pool::LivePool;
use crate::reason::Reason;
use crate::routing::{Choice, Facts};
use crate::{flow, tcp, udp};

/// The lists of a listener of these terms; `None`: it has none.
pub(super) fn access_of(terms: &Terms) -> Option<&Arc<SharedAccess>> {
    match terms {
        Terms::Tcp(terms) => terms.admission.as_ref().and_then(tcp::Admission::access),
        Terms::Udp(terms) => terms.access.as_ref(),
    }
}

/// What limits the sessions of a listener of these terms; `None`: nothing but the process.
pub(super) fn limits_of(terms: &Terms) -> Option<&SessionLimits> {
    match terms {
        Terms::Tcp(terms) => terms.admission.as_ref().and_then(tcp::Admission::limits),
        Terms::Udp(terms) => Some(&*terms.flow.limits),
    }
}

/// Why a session of this source would be refused at a listener of these terms, if it began now.
pub(super) fn foresee(terms: &Terms, source: IpAddr, now_ns: u64) -> Option<Reason> {
    limits_of(terms).and_then(|limits| limits.foresee(source, now_ns))
}

/// Where a client goes at a listener of these terms.
pub(super) fn route_of(terms: &Terms, facts: &Facts<'_>) -> Routed {
    let (own, choice, needs_route, of_route) = match terms {
        Terms::Tcp(terms) => {
            let own = Routed::To { pool: terms.pool.0, role: terms.role, route: None };
            let Some(routing) = &terms.routing else { return own };
            let at = |number: usize| routing.by_route.get(number).map(|one| (one.pool.0, one.role));
            let choice = routing.table.choose(facts);
            (own, choice, routing.needs_route, numbered(choice).and_then(at))
        }
        Terms::Udp(terms) => {
            let own = Routed::To { pool: terms.pool.0, role: Role::Any, route: None };
            let Some(routing) = &terms.routing else { return own };
            let at = |number: usize| routing.by_route.get(number).map(|one| (one.pool.0, Role::Any));
            let choice = routing.table.choose(facts);
            (own, choice, routing.needs_route, numbered(choice).and_then(at))
        }
    };
    match (choice, of_route) {
        (Choice::AsksFirst, _) => Routed::AsksFirst,
        (choice, Some((pool, role))) => Routed::To { pool, role, route: numbered(choice) },
        (_, None) if needs_route => Routed::Nowhere,
        (_, None) => own,
    }
}

fn numbered(choice: Choice) -> Option<usize> {
    match choice {
        Choice::Route(number) => Some(number),
        Choice::None | Choice::AsksFirst => None,
    }
}

/// What all listeners have in common.
#[derive(Debug)]
pub(super) struct TermsBuilder {
    log_sessions: LogSessions,
    tcp_sessions: u32,
    udp_permits: Arc<Permits>,
    /// Permits clients in tables where nobody outside can foresee them.
    hash_key: [u8; 16],
    /// Sources in the table of each `rate_per_source`.
    rated_sources: usize,
    /// What was owed to the process before.
    rates_before: RefCell<RatesBefore>,
    /// Lists with files: listeners that have the same ones share them.
    shared: RefCell<Vec<Arc<SharedAccess>>>,
}

impl TermsBuilder {
    pub(super) fn new(
        settings: &Settings,
        tcp_sessions: u32,
        udp_permits: Arc<Permits>,
        hash_key: [u8; 16],
        rates_before: RatesBefore,
    ) -> Self {
        let tables = settings.listeners.iter().filter(|one| one.limits.rate_per_source.is_some()).count();
        Self {
            log_sessions: settings.log.sessions,
            tcp_sessions,
            udp_permits,
            hash_key,
            shared: RefCell::default(),
            rated_sources: (RATED_SOURCES / tables.max(1)).min(RATED_SOURCES_EACH_MAX),
            rates_before: RefCell::new(rates_before),
        }
    }

    /// The terms of a listener. `before` are those of the listener that had its name: its limits count on.
    pub(super) fn terms(
        &self,
        listener: &Listener,
        pools: &[Arc<LivePool>],
        counters: &Arc<ListenerCounters>,
        before: Option<&Terms>,
    ) -> Terms {
        let (counters, live) = (Arc::clone(counters), &pools[listener.pool]);
        let log_sessions = listener.log_sessions.unwrap_or(self.log_sessions);
        let files = &listener.files;
        let (allow, deny) =
            (Networks::new(&listener.allow, &files.allow), Networks::new(&listener.deny, &files.deny));
        let accept_proxy = Networks::new(&listener.accept_proxy, &files.accept_proxy);
        let make = |allow, deny| self.access(allow, deny);
        let proxies = TrustedProxies::made(&accept_proxy, &deny, make);
        let is_open = allow.is_absent() && deny.is_absent();
        let access = (!is_open).then(|| self.access(allow, deny));
        match listener.protocol {
            Protocol::Tcp => {
                let before = match before {
                    Some(Terms::Tcp(before)) => before.admission.as_ref().and_then(tcp::Admission::limits),
                    _ => None,
                };
                let admission = tcp::Admission::new(access, self.tcp_limits(listener, before));
                let terms = tcp::Terms::new(listener, live, log_sessions, (admission, proxies), counters);
                Terms::Tcp(Arc::new(terms.with_routes(listener, pools)))
            }
            Protocol::Udp => {
                let before = match before {
                    Some(Terms::Udp(before)) => Some(&*before.flow.limits),
                    _ => None,
                };
                let terms = udp::Terms {
                    listener: Arc::clone(&counters.listener),
                    pool: live.slot,
                    live: Arc::clone(live),
                    routing: None,
                    access,
                    receive_buffer: usize::try_from(listener.udp.receive_buffer).unwrap_or(usize::MAX),
                    send_buffer: usize::try_from(listener.udp.send_buffer).unwrap_or(usize::MAX),
                    flow: Arc::new(self.flow_terms(listener, before)),
                    proxies: Arc::new(proxies),
                    log_sessions,
                    counters,
                };
                Terms::Udp(Arc::new(terms.with_routes(listener, pools)))
            }
        }
    }

    /// What decides by these lists. Where files are among them, whoever has the same ones has the same.
    fn access(&self, allow: Networks, deny: Networks) -> Arc<SharedAccess> {
        if allow.files.is_empty() && deny.files.is_empty() {
            return Arc::new(SharedAccess::new(allow, deny));
        }
        let known = self.shared.borrow().iter().find(|one| one.is_of(&allow, &deny)).map(Arc::clone);
        known.unwrap_or_else(|| {
            let new = Arc::new(SharedAccess::new(allow, deny));
            self.shared.borrow_mut().push(Arc::clone(&new));
            new
        })
    }

    /// The lists with files that were made.
    pub(super) fn with_files(self) -> Vec<Arc<SharedAccess>> {
        self.shared.into_inner()
    }

    /// `None`: nothing is limited but the process, whose sessions are counted where they are accepted.
    fn tcp_limits(&self, listener: &Listener, before: Option<&SessionLimits>) -> Option<SessionLimits> {
        let limits = &listener.limits;
        let (sessions, per_source) = (share(limits.sessions, None), share(limits.sessions_per_source, None));
        let any = sessions.is_some()
            || per_source.is_some()
            || limits.rate.is_some()
            || limits.rate_per_source.is_some();
        let most = sessions.unwrap_or(self.tcp_sessions).min(self.tcp_sessions);
        any.then(|| self.limits(listener, None, (sessions, per_source), most, before))
    }

    fn flow_terms(&self, listener: &Listener, before: Option<&SessionLimits>) -> flow::Terms {
        let process = self.udp_permits.most().unwrap_or(u32::MAX);
        let sessions = share(listener.limits.sessions, Some(udp_defaults(process).0));
        let most = sessions.unwrap_or(process).min(process);
        let per_source = share(listener.limits.sessions_per_source, Some((most / 16).max(1)));
        let permits = Some(Arc::clone(&self.udp_permits));
        let whole_ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        flow::Terms {
            idle_ms: listener.timeouts.idle.map(whole_ms),
            lifetime_ms: listener.timeouts.lifetime.map(whole_ms),
            responses: listener.udp.responses.and_then(NonZeroU32::new),
            requests: listener.udp.requests.and_then(NonZeroU32::new),
            limits: Arc::new(self.limits(listener, permits, (sessions, per_source), most, before)),
            draining: flow::Draining::default(),
        }
    }

    /// Limits that count sessions where those before counted them, so that old and new ones keep them together.
    fn limits(
        &self,
        listener: &Listener,
        process: Option<Arc<Permits>>,
        (sessions, per_source): (Option<u32>, Option<u32>),
        most: u32,
        before: Option<&SessionLimits>,
    ) -> SessionLimits {
        let permits =
            before.map_or_else(|| Arc::new(Permits::new(sessions)), |before| before.shared_listener());
        permits.set_most(sessions);
        let sources = per_source.map(|each| {
            let known = before.and_then(SessionLimits::shared_sources);
            let sources = known.unwrap_or_else(|| Arc::new(PerSource::new(self.hash_key, Some(each), most)));
            // In a table that is too small sources would share their limits.
            sources.make_room_for(most);
            sources.set_most(Some(each));
            sources
        });
        let interval_ns = |rate: Rate| u64::try_from(rate.interval().as_nanos()).unwrap_or(u64::MAX);
        // The same rate goes on with what it owes; another one begins anew.
        let rate = listener.limits.rate.map(interval_ns).map(|interval| {
            let known = before.and_then(SessionLimits::shared_rate);
            let same = known.filter(|known| known.interval_ns() == interval);
            let same = same.or_else(|| self.rates_before.borrow_mut().take_whole(&listener.name, interval));
            same.unwrap_or_else(|| Arc::new(RateLimit::new(interval)))
        });
        let source_rates = listener.limits.rate_per_source.map(interval_ns).map(|interval| {
            let known = before.and_then(SessionLimits::shared_source_rates);
            let same = known.filter(|known| known.interval_ns() == interval);
            let (name, places) = (&listener.name, self.rated_sources);
            let same =
                same.or_else(|| self.rates_before.borrow_mut().take_of_sources(name, interval, places));
            same.unwrap_or_else(|| Arc::new(SourceRates::new(self.hash_key, interval, places)))
        });
        SessionLimits::sharing(process, permits, sources).with_rates(rate, source_rates)
    }
}

fn share(limit: ShareLimit, auto: Option<u32>) -> Option<u32> {
    match limit {
        ShareLimit::Auto => auto,
        ShareLimit::Off => None,
        ShareLimit::Count(count) => Some(count),
    }
}

/// 30 MiB of tables, however many listeners have one.
const RATED_SOURCES: usize = 7 << 18;
/// 2 MiB each at most.
const RATED_SOURCES_EACH_MAX: usize = 7 << 14;
