//! The pools of a configuration as they begin: live backends, the first snapshot, and whom to ask for their health.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use super::hash_key;
use super::publisher::{Asked, target_id};
use crate::config::settings::{self, Check, Protocol, Settings};
use crate::health::{Target, TargetId};
use crate::pool::{Lasting, PoolSlot, PoolView, Published, Reach, Snapshot};
use crate::worker::{Crew, Message};

/// The first snapshot: every backend counts as up until it has answered.
pub(super) fn publish_first(
    settings: &Settings,
    crew: &Arc<Crew>,
    alarm: &Arc<Notify>,
    seed: u64,
) -> Arc<Published> {
    Arc::new_cyclic(|published| {
        let view = |(slot, pool): (usize, &settings::Pool)| {
            let (crew, alarm) = (Arc::clone(crew), Arc::clone(alarm));
            let workers = crew.workers();
            let reach = Reach {
                published: published.clone(),
                deliver: Box::new(move |waiter, lease, index| {
                    crew.mailbox(waiter.worker).post(Message::Place { waiter, lease, index });
                }),
                alarm: Box::new(move || alarm.notify_one()),
            };
            let key = hash_key(seed.wrapping_add(slot as u64).rotate_left(31));
            let lasting = Arc::new(Lasting::new(pool, PoolSlot(slot), key, workers, reach));
            Arc::new(PoolView::first(lasting, Arc::new(pool.clone()), &settings.hash_seed, workers, 0))
        };
        Published::new(Snapshot {
            generation: 1,
            pools: settings.pools.iter().enumerate().map(view).collect(),
        })
    })
}

/// Whom to ask: every backend whose pool is checked and whose port is known.
pub(super) fn targets_of(settings: &Settings) -> Vec<Target> {
    let mut targets = Vec::new();
    for (slot, pool) in settings.pools.iter().enumerate().filter(|(_, pool)| pool.health.check != Check::Off)
    {
        let health = Arc::new(pool.health.clone());
        // A backend without a port is reached at its listener's; several make `health.port` a must, as does none.
        let client_port = users(settings, slot).next().map(|listener| listener.bind[0].port);
        for (index, backend) in pool.backends.iter().enumerate() {
            if let Some(port) = pool.health.port.or(backend.port).or(client_port) {
                let address = SocketAddr::new(backend.ip, port);
                targets.push(Target { id: target_id(slot, index), address, health: Arc::clone(&health) });
            }
        }
    }
    targets
}

/// How each of these targets is asked.
pub(super) fn asked(settings: &Settings, targets: &[Target]) -> HashMap<TargetId, Asked> {
    let mut asked = HashMap::new();
    for (slot, pool) in settings.pools.iter().enumerate() {
        let protocol = match pool.health.check {
            Check::Udp { .. } | Check::Dns { .. } => Protocol::Udp,
            Check::Off | Check::Tcp | Check::TcpTalk { .. } => Protocol::Tcp,
        };
        let same_port = pool.health.port.is_none();
        let vouches = same_port && users(settings, slot).any(|listener| listener.protocol == protocol);
        let ids = (0..pool.backends.len()).map(|index| target_id(slot, index));
        asked.extend(ids.map(|id| (id, Asked { at_all: false, vouches })));
    }
    for target in targets {
        if let Some(asked) = asked.get_mut(&target.id) {
            asked.at_all = true;
        }
    }
    asked
}

fn users(settings: &Settings, slot: usize) -> impl Iterator<Item = &settings::Listener> {
    settings.listeners.iter().filter(move |listener| listener.pool == slot)
}
