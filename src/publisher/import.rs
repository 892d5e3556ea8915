//! Import of the pools as the previous process had them: the state of their backends, what they counted, who was sent
//! where.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::build::{PoolBuilder, first_health};
use super::pool_roles;
use crate::backend_state::{BackendState, Health};
use crate::balance::Picker;
use crate::config::settings::{self, Balance, ConnectFrom, OnDown, Role, SendProxy, Settings, Word};
use crate::manifest;
use crate::metrics::{BackendShard, Direction};
use crate::pool::{Backend, Left, Lends, LivePool, PoolView, Snapshot, SnapshotCell, picker_when_all_serve};
use crate::roles::{Memory, Roles};
use crate::sticky::Source;

/// What pools pick by, by their names.
pub type Pickers = HashMap<String, Picker>;

/// Builds what takes long for these settings, as it is when every backend serves: a process that takes over must be quick
/// once it has everything, since no session moves until then.
pub fn build_ahead(settings: &Settings) -> Pickers {
    let ahead =
        |pool: &settings::Pool| Some((pool.name.clone(), picker_when_all_serve(pool, &settings.hash_seed)?));
    settings.pools.iter().filter_map(ahead).collect()
}

/// What is known of the pools from before; nothing in a balancer that begins.
#[derive(Debug, Default)]
pub struct PoolImport<'a> {
    /// As they were.
    pub pools: &'a [manifest::Pool],
    /// The time on the shared clock.
    pub now_ns: u64,
    /// What was built for pools of these names while nobody waited.
    pub pickers: Pickers,
    /// Backends by the numbers they had.
    pub backends: HashMap<u64, Arc<Backend>>,
    /// What is remembered of primaries, where nobody handed anything over.
    pub memories: &'a [(String, Memory)],
}

impl<'a> PoolImport<'a> {
    /// These pools; the shared clock is so old.
    pub fn new(pools: &'a [manifest::Pool], age: Duration, pickers: Pickers) -> Self {
        let now_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        Self { pools, now_ns, pickers, backends: HashMap::new(), memories: &[] }
    }

    /// What was known of a pool and of its backends of these names and places becomes theirs; the rest leaves. Tells how
    /// each stands that stood before, and those that leave.
    pub fn settle(
        &mut self,
        pool: &settings::Pool,
        live: &Arc<LivePool>,
        backends: &[Arc<Backend>],
        builder: &mut PoolBuilder,
    ) -> (Vec<Option<BackendState>>, Vec<Left>) {
        let mut states = vec![None; backends.len()];
        let mut leaving = Vec::new();
        let Some(before) = self.pools.iter().find(|before| before.name == pool.name) else {
            return (states, leaving);
        };
        live.resume_counts(&before.counts);
        for record in &before.backends {
            let is_it = |backend: &Arc<Backend>| {
                *backend.name == *record.name && backend.place() == (record.ip, record.port)
            };
            let at = backends.iter().position(is_it).filter(|_| record.state.is_some());
            let backend = match at {
                Some(at) => {
                    states[at] = record.state.as_ref().and_then(BackendState::import);
                    Arc::clone(&backends[at])
                }
                None => {
                    let backend = builder.backend(live, &leaver(record));
                    let now_ms = self.now_ns / 1_000_000;
                    leaving.push(Left {
                        backend: Arc::clone(&backend),
                        state: BackendState::new(first_health(pool, false), now_ms),
                        left_ms: record.left_ms.unwrap_or(now_ms),
                    });
                    backend
                }
            };
            self.resume(&backend, record);
            self.backends.insert(record.number, backend);
        }
        remember(&before.remembered, pool, live, backends);
        (states, leaving)
    }

    /// Who was what in a pool of these settings; `None`: its check does not tell.
    pub fn roles(&self, pool: &settings::Pool) -> Option<Roles> {
        let before = self.pools.iter().find(|before| before.name == pool.name);
        let memory = self.memories.iter().find(|(name, _)| *name == pool.name).map(|(_, memory)| memory);
        pool_roles::resumed(pool, before, memory, self.now_ns / 1_000_000)
    }

    /// Views of pools that had left the file and still have sessions.
    pub fn gone(&mut self, settings: &Settings, builder: &mut PoolBuilder) -> Vec<Arc<PoolView>> {
        let is_gone = |pool: &&manifest::Pool| !settings.pools.iter().any(|there| there.name == pool.name);
        let mut views = Vec::new();
        for before in self.pools.iter().filter(is_gone) {
            let Some(like) = settings.pools.first() else { break };
            // Sessions that are being connected, and flows of a backend that goes down, still find a backend there.
            let listed = before.backends.iter().filter(|record| record.state.is_some());
            let pool = reached_by(
                &before.reach,
                settings::Pool {
                    name: before.name.clone(),
                    backends: listed
                        .map(|record| settings::Backend { weight: 1, ..leaver(record) })
                        .collect(),
                    balance: Balance::RoundRobin,
                    max_sessions: None,
                    sticky: None,
                    sources: Vec::new(),
                    passive: None,
                    slow_start: None,
                    queue: None,
                    ..like.clone()
                },
            );
            let live = builder.live(&pool, settings.pools.len() + views.len());
            let backends: Vec<_> =
                pool.backends.iter().map(|backend| builder.backend(&live, backend)).collect();
            let (known, leaving) = self.settle(&pool, &live, &backends, builder);
            let first = BackendState::new(Health::Unchecked, self.now_ns / 1_000_000);
            let states: Vec<_> = known.into_iter().map(|one| one.unwrap_or(first.clone())).collect();
            for (backend, state) in backends.iter().zip(&states) {
                backend.begin_down(state.is_down());
            }
            let pool = Arc::new(pool);
            let roles = self.roles(&pool);
            let (seed, roles) = (&settings.hash_seed, roles.as_ref());
            let mut view = PoolView::new(live, pool, backends, states, seed, roles, Lends::default());
            view.leaving = leaving;
            view.gone = true;
            views.push(Arc::new(view));
        }
        views
    }

    fn resume(&self, backend: &Backend, record: &manifest::Backend) {
        backend.shards.begin_with(&record.counts, BackendShard::counters);
        backend.checks.begin_with(&record.checks);
        follow(backend, record, self.now_ns);
    }

    /// The process before has gone on since it told of its pools: these are otherwise now. Tells how backends stand that
    /// stood otherwise, by their numbers here: of these the tables are to be built anew. While nobody counts here.
    pub fn catch_up(&self, pools: &[manifest::Pool], views: &[Arc<PoolView>]) -> HashMap<u64, BackendState> {
        let mut states = HashMap::new();
        let before: HashMap<&str, _> = self.pools.iter().map(|pool| (pool.name.as_str(), pool)).collect();
        let views: HashMap<&str, _> = views.iter().map(|view| (&*view.live.name, view)).collect();
        for now in pools {
            let (Some(before), Some(view)) = (before.get(now.name.as_str()), views.get(now.name.as_str()))
            else {
                continue;
            };
            view.live.catch_up(&before.counts, &now.counts);
            remember(&now.remembered, &view.settings, &view.live, &view.backends);
            for record in &now.backends {
                // They are in the order in which they were, but for some that have left.
                let was = before.backends.iter().find(|was| was.number == record.number);
                let (Some(was), Some(backend)) = (was, self.backends.get(&record.number)) else { continue };
                backend.shards.catch_up(&was.counts, &record.counts, BackendShard::counters);
                backend.checks.catch_up(&was.checks, &record.checks);
                follow(backend, record, self.now_ns);
                if was.state != record.state
                    && let Some(state) = record.state.as_ref().and_then(BackendState::import)
                {
                    backend.begin_down(state.is_down());
                    states.insert(backend.number, state);
                }
            }
        }
        states
    }

    /// Likewise with who is what: published at once, since nobody may be given a server that lost its role meanwhile. The
    /// publisher does not run yet.
    pub fn catch_up_roles(
        &self,
        pools: &[manifest::Pool],
        snapshots: &SnapshotCell,
        states: &HashMap<u64, BackendState>,
        hash_seed: &str,
        now_ms: u64,
    ) {
        let before = snapshots.load();
        let mut views = before.pools.clone();
        let mut changed = false;
        for now in pools.iter().filter(|now| now.roles.is_some()) {
            let Some(view) = views.iter_mut().find(|view| *view.live.name == *now.name) else { continue };
            let Some(roles) = pool_roles::resumed(&view.settings, Some(now), None, now_ms) else { continue };
            let state = |(backend, state): (&Arc<Backend>, &BackendState)| {
                states.get(&backend.number).unwrap_or(state).clone()
            };
            let states = view.backends.iter().zip(&view.states).map(state).collect();
            *view = Arc::new(view.with_states(hash_seed, states, Some(&roles)));
            changed = true;
        }
        if changed {
            snapshots.store(Snapshot { generation: before.generation + 1, pools: views });
        }
    }
}

/// What is told of a backend at this moment, whatever was told before.
fn follow(backend: &Backend, record: &manifest::Backend, now_ns: u64) {
    backend.adopt_failures(record.failures_in_a_row, record.empty_in_a_row, record.failed_ms);
    // What it owes comes along with the sessions, and whether it answered anybody meanwhile does not.
    backend.load.note_answered(now_ns / 1_000);
    if let Some(latency_ns) = record.latency_ns {
        // A peak of answers, or what connects take at one that never gave any.
        let has_answered = backend.shards.sum(|shard| shard.bytes(Direction::ToClient).value()) > 0;
        backend.load.set_latency(now_ns, latency_ns, has_answered);
    }
}

/// Notes who was sent where, the least recently used first.
fn remember(
    remembered: &[manifest::Remembered],
    pool: &settings::Pool,
    live: &LivePool,
    backends: &[Arc<Backend>],
) {
    let Some(sticky) = pool.sticky else { return };
    for entry in remembered {
        let known = backends.iter().find(|backend| *backend.name == *entry.backend);
        let name = known.map_or_else(|| entry.backend.as_str().into(), |known| Arc::clone(&known.name));
        let source = Source::from(entry.source);
        let role = Role::of_word(entry.role.as_str()).unwrap_or(Role::Any);
        live.import_remembered(source, role, &name, sticky.entries, entry.used_ms);
    }
}

/// The pool, with its backends reached as they were.
fn reached_by(reach: &manifest::Reach, pool: settings::Pool) -> settings::Pool {
    let timeout = Duration::from_millis(reach.connect_ms);
    settings::Pool {
        send_proxy: SendProxy::named(reach.send_proxy.as_str()).unwrap_or(pool.send_proxy),
        on_down: OnDown::named(reach.on_down.as_str()).unwrap_or(pool.on_down),
        connect: settings::Connect { timeout, attempts: reach.attempts, ..pool.connect },
        connect_from: match &reach.from[..] {
            _ if reach.from_client => ConnectFrom::Client,
            [] => ConnectFrom::Any,
            addresses => ConnectFrom::Addresses(addresses.to_vec()),
        },
        ..pool
    }
}

/// One that left: its sessions know its address already.
fn leaver(record: &manifest::Backend) -> settings::Backend {
    let ip: IpAddr = record.ip;
    let name = record.name.clone();
    settings::Backend { name, ip, port: record.port, weight: 0, tier: 0, max_sessions: None, drains: None }
}
