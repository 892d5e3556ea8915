//! Export of the pools: what the publisher knows of every one, for the next process; and what of it is otherwise when it is
//! told again.

use super::Publisher;
use super::pool_roles;
use super::pool_state::PoolState;
use crate::backend_state::BackendState;
use crate::config::settings::{self, ConnectFrom, Role, Word};
use crate::manifest;
use crate::metrics::{BackendShard, Fingerprint};
use crate::pool::Backend;
use crate::roles::Roles;

/// What was told of all pools once.
#[derive(Debug)]
pub struct Told {
    at_ms: u64,
    /// By their slots.
    pools: Vec<ToldPool>,
}

#[derive(Debug, PartialEq)]
struct ToldPool {
    states: Vec<BackendState>,
    /// Who is what.
    roles: Option<Roles>,
    /// Of every number of it.
    fingerprint: u64,
}

impl Publisher {
    /// Every pool by its slot, those that left the file included; of those that were told before only the ones that are
    /// otherwise now, with the sources that were sent somewhere since. No file changes the pools in between.
    pub(super) fn export(&self, told: Option<&Told>) -> (Vec<manifest::Pool>, Told) {
        let now_ms = self.now_ms();
        let mut pools = Vec::new();
        let mut now = Told { at_ms: now_ms, pools: Vec::with_capacity(self.pools.len()) };
        for (slot, pool) in self.pools.iter().enumerate() {
            // First the fingerprint: what is counted in between makes a difference then.
            let is_now = pool.told();
            match told {
                Some(before) => {
                    // A data thread notes a source by the clock of the turn's beginning.
                    let since_ms = before.at_ms.saturating_sub(TURN_MAX_MS);
                    let remembered = pool.remembered(Some(since_ms));
                    if before.pools.get(slot) != Some(&is_now) || !remembered.is_empty() {
                        pools.push(self.export_pool(pool, remembered, now_ms));
                    }
                }
                None => pools.push(self.export_pool(pool, pool.remembered(None), now_ms)),
            }
            now.pools.push(is_now);
        }
        (pools, now)
    }
}

impl Publisher {
    fn export_pool(
        &self,
        pool: &PoolState,
        remembered: Vec<manifest::Remembered>,
        now_ms: u64,
    ) -> manifest::Pool {
        let sources = self.found.export(&pool.view.live.name);
        manifest::Pool { sources, ..pool.export(remembered, now_ms * 1_000_000) }
    }
}

impl PoolState {
    fn told(&self) -> ToldPool {
        let mut fingerprint = Fingerprint::default();
        let mut note = |value: u64| fingerprint.note(value);
        self.view.live.each_value(&mut note);
        for backend in self.view.backends.iter().chain(self.view.leaving.iter().map(|left| &left.backend)) {
            backend.shards.each_value(BackendShard::counters, &mut note);
            backend.checks.counters().iter().for_each(|named| note(named.counter.value()));
            note(backend.failures_in_a_row().into());
            note(backend.empty_in_a_row().into());
            note(backend.failed_ms().unwrap_or(0));
            note(backend.load.latency_mark());
        }
        let states = self.backends.iter().map(|tracked| tracked.state.clone()).collect();
        ToldPool { states, roles: self.roles.clone(), fingerprint: fingerprint.value() }
    }

    /// Who was sent where, the least recently used first: all, or those since then.
    fn remembered(&self, since_ms: Option<u64>) -> Vec<manifest::Remembered> {
        let live = &self.view.live;
        let of_role = |(word, role): &(&'static str, Role)| {
            let sources = match since_ms {
                Some(since_ms) => live.remembered_since(*role, since_ms),
                None => live.remembered_sources(*role),
            };
            let role: manifest::Word = (*word).into();
            sources.into_iter().map(move |(source, backend, used_ms)| manifest::Remembered {
                source: source.into(),
                backend: backend.to_string(),
                used_ms,
                role: role.clone(),
            })
        };
        Role::WORDS.iter().flat_map(of_role).collect()
    }

    fn export(&self, remembered: Vec<manifest::Remembered>, now_ns: u64) -> manifest::Pool {
        let (view, live) = (&self.view, &self.view.live);
        let listed = view.backends.iter().zip(&self.backends).enumerate();
        let listed = listed.map(|(at, (backend, tracked))| {
            let role = self.roles.as_ref().and_then(|roles| pool_roles::export_server(roles, at));
            manifest::Backend { role, ..tell(backend, Some(&tracked.state), now_ns) }
        });
        let leaving = view.leaving.iter().map(|left| manifest::Backend {
            left_ms: Some(left.left_ms),
            ..tell(&left.backend, None, now_ns)
        });
        manifest::Pool {
            name: live.name.to_string(),
            counts: live.counts(),
            remembered,
            backends: listed.chain(leaving).collect(),
            reach: reach(&view.settings),
            roles: self.roles.as_ref().map(|roles| pool_roles::export(roles, &view.settings)),
            sources: Vec::new(),
        }
    }
}

fn reach(pool: &settings::Pool) -> manifest::Reach {
    manifest::Reach {
        send_proxy: pool.send_proxy.word().into(),
        on_down: pool.on_down.word().into(),
        connect_ms: u64::try_from(pool.connect.timeout.as_millis()).unwrap_or(u64::MAX),
        attempts: pool.connect.attempts,
        from_client: pool.connect_from == ConnectFrom::Client,
        from: match &pool.connect_from {
            ConnectFrom::Addresses(all) => all.clone(),
            ConnectFrom::Any | ConnectFrom::Client => Vec::new(),
        },
    }
}

fn tell(backend: &Backend, state: Option<&BackendState>, now_ns: u64) -> manifest::Backend {
    let (ip, port) = backend.place();
    // Nanoseconds of less than minutes: exact enough in whole ones.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let latency_ns = backend.load.latency_ns(now_ns).map(|ns| ns as u64);
    manifest::Backend {
        number: backend.number,
        name: backend.name.to_string(),
        ip,
        port,
        counts: backend.shards.totals(BackendShard::counters),
        checks: backend.checks.totals(),
        failures_in_a_row: backend.failures_in_a_row(),
        empty_in_a_row: backend.empty_in_a_row(),
        failed_ms: backend.failed_ms().unwrap_or(0),
        latency_ns,
        state: state.map(BackendState::export),
        role: None,
        left_ms: None,
    }
}

/// No turn of a data thread takes longer.
const TURN_MAX_MS: u64 = 1_000;
