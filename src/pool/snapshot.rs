//! The immutable picture of all pools, and the one place where it is swapped.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Backend;
use crate::balance::{Member, Picker};
use crate::config::settings;
use crate::metrics::{Histogram, PerWorker, PoolShard};

/// All pools at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with each snapshot.
    pub generation: u64,
    /// By [`PoolSlot`].
    pub pools: Vec<Arc<PoolView>>,
}

/// Where a pool stands in every snapshot of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolSlot(pub usize);

/// One pool at one moment.
#[derive(Debug)]
pub struct PoolView {
    /// Its name.
    pub name: Arc<str>,
    /// What the file says of it.
    pub settings: Arc<settings::Pool>,
    /// In the order of the file.
    pub backends: Vec<Arc<Backend>>,
    /// Whether each is up, in the same order; true where nobody asks.
    pub up: Vec<bool>,
    /// Chooses among them.
    pub picker: Picker,
    /// What is counted of it, whatever the snapshot.
    pub shards: Arc<PerWorker<PoolShard>>,
    /// How long its health checks took. The publisher alone writes.
    pub check_seconds: Arc<Histogram>,
}

/// The one swapped pointer. The publisher alone stores.
#[derive(Debug)]
pub struct Published(ArcSwap<Snapshot>);

impl PoolView {
    /// A pool whose backends are new to the process.
    pub fn first(settings: Arc<settings::Pool>, hash_seed: &str, up: Vec<bool>, workers: usize) -> Self {
        let name: Arc<str> = settings.name.as_str().into();
        let backends: Vec<_> =
            settings.backends.iter().map(|backend| Arc::new(Backend::new(&name, backend, workers))).collect();
        let picker = build_picker(&settings, hash_seed, &backends, &up, None);
        Self {
            name,
            settings,
            backends,
            up,
            picker,
            shards: Arc::new(PerWorker::new(workers)),
            check_seconds: Arc::default(),
        }
    }

    /// The same pool after other verdicts.
    pub fn with_up(&self, hash_seed: &str, up: Vec<bool>) -> Self {
        let picker = build_picker(&self.settings, hash_seed, &self.backends, &up, Some(&self.picker));
        Self {
            name: Arc::clone(&self.name),
            settings: Arc::clone(&self.settings),
            backends: self.backends.clone(),
            up,
            picker,
            shards: Arc::clone(&self.shards),
            check_seconds: Arc::clone(&self.check_seconds),
        }
    }
}

impl Published {
    /// With its first snapshot.
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// The snapshot of this moment. Cheap; not to be kept.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Swaps. Only the publisher calls this.
    pub fn store(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}

fn build_picker(
    settings: &settings::Pool,
    hash_seed: &str,
    backends: &[Arc<Backend>],
    up: &[bool],
    previous: Option<&Picker>,
) -> Picker {
    assert_eq!(backends.len(), up.len(), "each backend is up or not");
    let members: Vec<Member> = settings
        .backends
        .iter()
        .zip(backends)
        .zip(up)
        .map(|((settings, backend), &up)| Member {
            name: Arc::clone(&backend.name),
            weight: settings.weight,
            tier: settings.tier,
            up,
            // Weight 0 is how the file takes a backend out.
            out: settings.weight == 0,
            load: Arc::clone(&backend.load),
        })
        .collect();
    let try_all = settings.when_none == settings::WhenNone::TryAll;
    Picker::build(&settings.balance, hash_seed, try_all, &members, previous)
}
