//! The immutable picture of all pools, and the one place where it is swapped.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Backend, Lasting};
use crate::balance::{Member, Picker};
use crate::config::settings;
use crate::standing::{Rules, Standing, TENTHS};

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
    /// What outlasts this view.
    pub lasting: Arc<Lasting>,
    /// What the file says of it.
    pub settings: Arc<settings::Pool>,
    /// In the order of the file.
    pub backends: Vec<Arc<Backend>>,
    /// How each stands, in the same order.
    pub standings: Vec<Standing>,
    /// Chooses among them.
    pub picker: Picker,
}

/// The one swapped pointer. The publisher alone stores.
#[derive(Debug)]
pub struct Published(ArcSwap<Snapshot>);

impl PoolView {
    /// A pool whose backends are new to the process; each counts as up.
    pub fn first(
        lasting: Arc<Lasting>,
        settings: Arc<settings::Pool>,
        hash_seed: &str,
        workers: usize,
        now_ms: u64,
    ) -> Self {
        let backends: Vec<_> = settings
            .backends
            .iter()
            .map(|backend| Arc::new(Backend::new(&lasting, backend, workers)))
            .collect();
        let standings = vec![Standing::new(now_ms); backends.len()];
        let picker = build_picker(&settings, hash_seed, &backends, &standings, None);
        Self { lasting, settings, backends, standings, picker }
    }

    /// The same pool when its backends stand otherwise.
    pub fn with_standings(&self, hash_seed: &str, standings: Vec<Standing>) -> Self {
        let picker = build_picker(&self.settings, hash_seed, &self.backends, &standings, Some(&self.picker));
        Self {
            lasting: Arc::clone(&self.lasting),
            settings: Arc::clone(&self.settings),
            backends: self.backends.clone(),
            standings,
            picker,
        }
    }

    /// The place in the list of an eligible backend of this name.
    pub fn eligible_index(&self, name: &str) -> Option<u32> {
        self.picker
            .eligible()
            .iter()
            .copied()
            .find(|index| self.backends.get(*index as usize).is_some_and(|backend| &*backend.name == name))
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

/// What of a pool's settings decides how its backends stand.
pub fn rules(settings: &settings::Pool) -> Rules {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Rules {
        eject_ms: settings.passive.map(|passive| millis(passive.eject)),
        slow_start_ms: settings.slow_start.map(millis),
    }
}

fn build_picker(
    settings: &settings::Pool,
    hash_seed: &str,
    backends: &[Arc<Backend>],
    standings: &[Standing],
    previous: Option<&Picker>,
) -> Picker {
    assert_eq!(backends.len(), standings.len(), "each backend has a standing");
    let tenths: Vec<u16> = standings.iter().map(Standing::tenths).collect();
    // While all weights are whole, they are as the file has them: shorter tables.
    let whole = tenths.iter().all(|tenths| *tenths == TENTHS);
    let members: Vec<Member> = settings
        .backends
        .iter()
        .zip(backends)
        .zip(standings.iter().zip(tenths))
        .map(|((settings, backend), (standing, tenths))| Member {
            name: Arc::clone(&backend.name),
            weight: if whole { settings.weight } else { settings.weight * tenths },
            tier: settings.tier,
            up: standing.serves(),
            // Weight 0 is how the file takes a backend out.
            out: settings.weight == 0,
            load: Arc::clone(&backend.load),
        })
        .collect();
    let try_all = settings.when_none == settings::WhenNone::TryAll;
    Picker::build(&settings.balance, hash_seed, try_all, &members, previous)
}
