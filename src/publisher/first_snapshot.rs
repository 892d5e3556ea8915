//! First snapshot: what a balancer that begins publishes before it has heard of any backend, or what the process before
//! it knew.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::build::{PoolBuilder, first_health};
use super::import::PoolImport;
use crate::backend_state::BackendState;
use crate::config::settings::Settings;
use crate::pool::{Lends, PoolView, Snapshot, SnapshotCell};
use crate::worker::Workers;

/// The first snapshot: every backend counts as up until it has answered, unless more is known from before.
pub fn publish_first(
    settings: &Settings,
    workers: &Arc<Workers>,
    alarm: &Arc<Notify>,
    seed: u64,
    pool_import: &mut PoolImport<'_>,
) -> (Arc<SnapshotCell>, PoolBuilder) {
    let mut builder = PoolBuilder::new(workers, alarm, seed);
    let snapshots = Arc::new_cyclic(|snapshots| {
        builder.snapshots = Weak::clone(snapshots);
        let pools = settings.pools.iter().enumerate().map(|(slot, pool)| {
            let live = builder.live(pool, slot);
            let backends: Vec<_> =
                pool.backends.iter().map(|backend| builder.backend(&live, backend)).collect();
            let (known, leaving) = pool_import.settle(pool, &live, &backends, &mut builder);
            let first = BackendState::new(first_health(pool, false), pool_import.now_ns / 1_000_000);
            let states: Vec<_> = known.into_iter().map(|one| one.unwrap_or(first.clone())).collect();
            for (backend, state) in backends.iter().zip(&states) {
                backend.begin_down(state.is_down());
            }
            let pool = Arc::new(pool.clone());
            let roles = pool_import.roles(&pool);
            let (seed, roles) = (&settings.hash_seed, roles.as_ref());
            let built = Lends { picker: pool_import.pickers.get(&pool.name), roles: None };
            let mut view = PoolView::new(live, pool, backends, states, seed, roles, built);
            view.leaving = leaving;
            Arc::new(view)
        });
        let mut pools: Vec<_> = pools.collect();
        pools.extend(pool_import.gone(settings, &mut builder));
        SnapshotCell::new(Snapshot { generation: 1, pools })
    });
    (snapshots, builder)
}
