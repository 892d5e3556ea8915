//! Export of the pools: what the publisher knows of every one, for the next process.

use super::Publisher;
use super::pool_roles;
use super::pool_state::PoolState;
use crate::backend_state::BackendState;
use crate::config::settings::{self, ConnectFrom, Role, Word};
use crate::manifest;
use crate::metrics::BackendShard;
use crate::pool::Backend;

impl Publisher {
    /// Every pool by its slot, those that left the file included.
    pub(super) fn export(&self) -> Vec<manifest::Pool> {
        let now_ns = self.now_ms() * 1_000_000;
        self.pools.iter().map(|pool| pool.export(now_ns)).collect()
    }
}

impl PoolState {
    fn export(&self, now_ns: u64) -> manifest::Pool {
        let (view, live) = (&self.view, &self.view.live);
        let remembered = Role::WORDS.iter().flat_map(|(word, role)| {
            live.remembered_sources(*role).into_iter().map(move |(source, backend, used_ms)| {
                let (backend, role) = (backend.to_string(), (*word).into());
                manifest::Remembered { source: source.into(), backend, used_ms, role }
            })
        });
        let listed = view.backends.iter().zip(&self.backends).enumerate();
        let listed = listed.map(|(at, (backend, tracked))| {
            let role = self.roles.as_ref().and_then(|roles| pool_roles::export_server(roles, at));
            manifest::Backend { role, ..tell(backend, Some(&tracked.state), now_ns) }
        });
        let leaving = view.leaving.iter().map(|backend| tell(backend, None, now_ns));
        manifest::Pool {
            name: live.name.to_string(),
            counts: live.counts(),
            remembered: remembered.collect(),
            backends: listed.chain(leaving).collect(),
            reach: reach(&view.settings),
            roles: self.roles.as_ref().map(|roles| pool_roles::export(roles, &view.settings)),
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
        failed_ms: backend.failed_ms().unwrap_or(0),
        latency_ns,
        state: state.map(BackendState::export),
        role: None,
    }
}
