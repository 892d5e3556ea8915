//! Pool builder: makes pools and backends of their settings, and says whom to ask for their health.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::questions::{PoolQuestions, users};
use crate::backend_state::{BackendState, EjectedFor, Health};
use crate::config::settings::{self, Check, Protocol, Settings};
use crate::health::{Haste, Target, TargetId};
use crate::pool::{Backend, LivePool, PoolHooks, PoolSlot, PoolView, SnapshotCell};
use crate::random::Random;
use crate::worker::{Message, Workers};

/// How a backend is asked, as far as the publisher must know.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckPolicy {
    /// It is asked at all.
    pub at_all: bool,
    /// A good answer shows that what failed real traffic is well again: the same address and port, the same protocol.
    pub clears_ejection: bool,
    /// The same, and it is the program that answers: not the kernel in front of it.
    pub clears_empty: bool,
}

impl CheckPolicy {
    /// A good answer ends an ejection for this. What was slow or silent may answer a check at once, and be so again.
    pub(super) fn clears(&self, cause: EjectedFor) -> bool {
        match cause {
            EjectedFor::Failures => self.clears_ejection,
            EjectedFor::Empty => self.clears_empty,
            EjectedFor::Silent | EjectedFor::Slow => false,
        }
    }
}

/// Makes pools and backends: all that they need besides their settings.
pub struct PoolBuilder {
    pub(super) snapshots: Weak<SnapshotCell>,
    workers: Arc<Workers>,
    alarm: Arc<Notify>,
    seed: u64,
    /// Numbers given to backends so far.
    numbered: u64,
}

impl PoolBuilder {
    /// One whose pools have no snapshot yet.
    pub(super) fn new(workers: &Arc<Workers>, alarm: &Arc<Notify>, seed: u64) -> Self {
        Self {
            snapshots: Weak::new(),
            workers: Arc::clone(workers),
            alarm: Arc::clone(alarm),
            seed,
            numbered: 0,
        }
    }

    /// A pool without sessions.
    pub fn live(&self, pool: &settings::Pool, slot: usize) -> Arc<LivePool> {
        let (workers, alarm) = (Arc::clone(&self.workers), Arc::clone(&self.alarm));
        let hooks = PoolHooks {
            snapshots: Weak::clone(&self.snapshots),
            deliver: Box::new(move |waiter, lease| {
                workers.mailbox(waiter.worker).post(Message::Granted { waiter, lease });
            }),
            alarm: Box::new(move || alarm.notify_one()),
        };
        let key = hash_key(self.seed.wrapping_add(slot as u64).rotate_left(31));
        Arc::new(LivePool::new(pool, PoolSlot(slot), key, self.workers.count(), hooks))
    }

    /// A backend that is new to the process.
    pub fn backend(&mut self, pool: &Arc<LivePool>, settings: &settings::Backend) -> Arc<Backend> {
        self.numbered += 1;
        Arc::new(Backend::new(self.numbered, pool, settings, self.workers.count()))
    }

    /// A backend whose address is new.
    pub fn moved(&mut self, before: &Backend, settings: &settings::Backend) -> Arc<Backend> {
        self.numbered += 1;
        Arc::new(before.moved(self.numbered, settings))
    }
}

/// The health of a backend that nobody has asked yet.
pub(super) fn first_health(pool: &settings::Pool, added: bool) -> Health {
    if pool.health.check == Check::Off { Health::Unchecked } else { Health::Untested { added } }
}

/// Whom to ask: every backend whose pool is checked and whose port is known. `views` are the pools of `settings`.
pub fn targets_of(settings: &Settings, views: &[Arc<PoolView>]) -> Vec<Target> {
    let views = views.iter().take(settings.pools.len()).enumerate();
    views.flat_map(|(at, view)| targets_of_pool(settings, at, view)).collect()
}

/// The same for one pool, the one at this place of the settings.
pub(super) fn targets_of_pool(settings: &Settings, at: usize, view: &PoolView) -> Vec<Target> {
    let pool = &settings.pools[at];
    let mut targets = Vec::new();
    let Some(questions) = PoolQuestions::of(settings, at, pool) else { return targets };
    // Those that left are asked for the sake of the sessions that they have.
    for there in view.backends.iter().chain(view.leaving.iter().map(|left| &left.backend)) {
        let (ip, port) = there.place();
        if let Some((route, health)) = questions.of_backend(ip, port) {
            targets.push(Target {
                id: TargetId(there.number),
                route,
                health,
                haste: Haste::of(view.live.haste()),
                known: None,
            });
        }
    }
    targets
}

/// Notes which of these are known to be up or down from before: by the views, or by what became of them since.
pub fn note_known(targets: &mut [Target], views: &[Arc<PoolView>], since: &HashMap<u64, BackendState>) {
    let state = |(backend, state): (&Arc<Backend>, &BackendState)| (backend.number, state.health());
    let all = views.iter().flat_map(|view| view.backends.iter().zip(&view.states).map(state));
    let since = since.iter().map(|(number, state)| (*number, state.health()));
    let known: HashMap<u64, Health> = all.chain(since).collect();
    for target in targets {
        target.known = match known.get(&target.id.0) {
            Some(Health::Up) => Some(true),
            Some(Health::Down) => Some(false),
            _ => None,
        };
    }
}

/// How each backend is asked, by its number. `views` are the pools of `settings`.
pub fn asked(settings: &Settings, views: &[Arc<PoolView>], targets: &[Target]) -> HashMap<u64, CheckPolicy> {
    let views = views.iter().take(settings.pools.len()).enumerate();
    let mut asked: HashMap<u64, CheckPolicy> =
        views.flat_map(|(at, view)| policies_of(settings, at, view)).collect();
    note_asked(&mut asked, targets);
    asked
}

/// The same for one pool, the one at this place of the settings.
pub(super) fn asked_of(
    settings: &Settings,
    at: usize,
    view: &PoolView,
    targets: &[Target],
) -> HashMap<u64, CheckPolicy> {
    let mut asked = policies_of(settings, at, view).into_iter().collect();
    note_asked(&mut asked, targets);
    asked
}

fn policies_of(settings: &Settings, at: usize, view: &PoolView) -> Vec<(u64, CheckPolicy)> {
    let pool = &settings.pools[at];
    let protocol = match pool.health.check {
        Check::Udp { .. } | Check::Dns { .. } => Protocol::Udp,
        Check::Off
        | Check::Tcp
        | Check::TcpTalk { .. }
        | Check::TcpRoles { .. }
        | Check::Patroni
        | Check::Postgres(_)
        | Check::Mongodb(_)
        | Check::Mysql(_)
        | Check::Redis(_) => Protocol::Tcp,
    };
    let same_port = pool.health.port.is_none();
    let clears_ejection = same_port && users(settings, at).any(|listener| listener.protocol == protocol);
    let all = view.backends.iter().chain(view.leaving.iter().map(|left| &left.backend));
    // The kernel answers a bare connect, whatever is behind it.
    let clears_empty = clears_ejection && !matches!(pool.health.check, Check::Off | Check::Tcp);
    let policy = CheckPolicy { at_all: false, clears_ejection, clears_empty };
    all.map(|backend| (backend.number, policy)).collect()
}

fn note_asked(asked: &mut HashMap<u64, CheckPolicy>, targets: &[Target]) {
    for target in targets {
        if let Some(asked) = asked.get_mut(&target.id.0) {
            asked.at_all = true;
        }
    }
}

/// Two numbers of the seed's making: nobody outside knows which flows share a place.
pub fn hash_key(seed: u64) -> [u8; 16] {
    let mut random = Random::new(seed ^ 0xf10f_f10f_f10f_f10f);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&random.bits().to_ne_bytes());
    key[8..].copy_from_slice(&random.bits().to_ne_bytes());
    key
}
