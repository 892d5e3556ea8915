//! Snapshot of all pools (read-copy-update, arc-swap): the immutable picture, and the one place where it is swapped.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Backend, LivePool, RoleView};
use crate::backend_state::{BackendState, Health, Rules, TENTHS};
use crate::balance::load::Load;
use crate::balance::{Member, Picker};
use crate::config::settings::{self, Role};
use crate::roles::Roles;

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
    pub live: Arc<LivePool>,
    /// What the file says of it.
    pub settings: Arc<settings::Pool>,
    /// In the order of the file.
    pub backends: Vec<Arc<Backend>>,
    /// How each stands, in the same order.
    pub states: Vec<BackendState>,
    /// How often each had gone down, in the same order.
    pub falls: Vec<u32>,
    /// Backends that left the list and still have sessions, or had some lately.
    pub leaving: Vec<Left>,
    /// The pool itself left the file; sessions that it has stay.
    pub gone: bool,
    /// Chooses among them for those that do not care for roles.
    pub picker: Picker,
    /// How often each had lost each role, in the same order as the backends.
    pub losses: Vec<[u32; Role::COUNT]>,
    /// The roles, where the check tells them.
    pub roles: Option<RoleView>,
    /// Where each backend stands in the list, by its number, in the order of the numbers.
    by_number: Vec<(u64, u32)>,
    /// The same by name, where sources are remembered, which is by names.
    by_name: HashMap<Arc<str>, u32>,
}

/// A backend that left the list.
#[derive(Debug, Clone)]
pub struct Left {
    /// It.
    pub backend: Arc<Backend>,
    /// How it stands, as long as it has sessions.
    pub state: BackendState,
    /// When it left, in milliseconds of the shared clock.
    pub left_ms: u64,
}

/// What a view takes over from one before it: turns, and tables where they are the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lends<'a> {
    /// Of the pool.
    pub picker: Option<&'a Picker>,
    /// Of its roles.
    pub roles: Option<&'a RoleView>,
}

/// The one swapped pointer. The publisher alone stores.
#[derive(Debug)]
pub struct SnapshotCell(ArcSwap<Snapshot>);

impl PoolView {
    /// A pool of these backends.
    pub fn new(
        live: Arc<LivePool>,
        settings: Arc<settings::Pool>,
        backends: Vec<Arc<Backend>>,
        states: Vec<BackendState>,
        hash_seed: &str,
        roles: Option<&Roles>,
        previous: Lends<'_>,
    ) -> Self {
        let members = members_of(&settings, &backends, &states, roles);
        let try_all = settings.when_none == settings::WhenNone::TryAll;
        let picker = Picker::build(&settings.balance, hash_seed, try_all, &members, previous.picker);
        let roles =
            roles.map(|roles| RoleView::new(roles, &settings.balance, hash_seed, &members, previous.roles));
        // A list of backends is shorter than 2^32.
        let places = || (0_u32..).zip(&backends);
        let mut by_number: Vec<(u64, u32)> = places().map(|(index, one)| (one.number, index)).collect();
        by_number.sort_unstable();
        let by_name = settings.sticky.map(|_| places().map(|(index, one)| (Arc::clone(&one.name), index)));
        Self {
            live,
            falls: backends.iter().map(|backend| backend.falls()).collect(),
            losses: backends.iter().map(|backend| backend.losses()).collect(),
            roles,
            by_number,
            by_name: by_name.map_or_else(HashMap::new, Iterator::collect),
            settings,
            backends,
            states,
            leaving: Vec::new(),
            gone: false,
            picker,
        }
    }

    /// The same pool when its backends stand otherwise.
    pub fn with_states(&self, hash_seed: &str, states: Vec<BackendState>, roles: Option<&Roles>) -> Self {
        let (live, settings) = (Arc::clone(&self.live), Arc::clone(&self.settings));
        let (backends, previous) = (self.backends.clone(), self.lends());
        let view = Self::new(live, settings, backends, states, hash_seed, roles, previous);
        Self { leaving: self.leaving.clone(), gone: self.gone, ..view }
    }

    /// What it lends to the view that comes after it.
    pub fn lends(&self) -> Lends<'_> {
        Lends { picker: Some(&self.picker), roles: self.roles.as_ref() }
    }

    /// Who may be picked for a role, in the order of the list. Where nobody tells roles, nobody has one.
    pub fn eligible(&self, role: Role) -> &[u32] {
        self.picker_for(role).map_or(&[], Picker::eligible)
    }

    /// Who chooses for a role.
    pub(super) fn picker_for(&self, role: Role) -> Option<&Picker> {
        match role {
            Role::Any => Some(&self.picker),
            _ => self.roles.as_ref().and_then(|roles| roles.picker(role)),
        }
    }

    /// May the backend at this place of the list be picked for this role?
    pub fn is_eligible(&self, index: usize, role: Role) -> bool {
        // They are in the order of the list.
        u32::try_from(index).is_ok_and(|index| self.eligible(role).binary_search(&index).is_ok())
    }

    /// The place in the list of an eligible backend of this name, in a pool that remembers sources.
    pub(super) fn eligible_index(&self, name: &str, role: Role) -> Option<u32> {
        self.by_name.get(name).copied().filter(|index| self.is_eligible(*index as usize, role))
    }

    /// The places in the list of the backends of these numbers, for `Ask::tried`. One that left the list is not picked
    /// anyway. Allocates nothing for none.
    pub fn places_of(&self, numbers: &[u64]) -> Vec<u32> {
        let place = |number: &u64| self.by_number.binary_search_by_key(number, |(number, _)| *number).ok();
        numbers.iter().filter_map(place).map(|at| self.by_number[at].1).collect()
    }

    /// The same of those that have served nobody since they last failed somebody.
    pub fn failing_places_of(&self, numbers: &[u64]) -> Vec<u32> {
        let mut places = self.places_of(numbers);
        let fails = |at: &u32| {
            let backend = self.backends.get(*at as usize);
            backend.is_some_and(|one| one.failures_in_a_row() > 0 || one.empty_in_a_row() > 0)
        };
        places.retain(fails);
        places
    }

    /// There is an eligible backend that is none of these: when all that have room are, it is full.
    pub fn has_other_than(&self, places: &[u32], role: Role) -> bool {
        self.eligible(role).iter().any(|index| !places.contains(index))
    }
}

impl SnapshotCell {
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

/// What a pool of these settings picks by when all its backends serve, where building that takes long (a Maglev table): so
/// that it can be built while nobody waits. `None`: it takes no time.
pub fn picker_when_all_serve(settings: &settings::Pool, hash_seed: &str) -> Option<Picker> {
    if !matches!(settings.balance, settings::Balance::SourceHash(_)) {
        return None;
    }
    let member = |backend: &settings::Backend| Member {
        name: backend.name.as_str().into(),
        weight: backend.weight,
        tier: backend.tier,
        up: true,
        out: backend.weight == 0 || backend.drains.is_some(),
        load: Arc::new(Load::new(None)),
    };
    let members: Vec<Member> = settings.backends.iter().map(member).collect();
    Some(Picker::build(&settings.balance, hash_seed, false, &members, None))
}

/// Nobody new is sent there, however it serves: somebody marked it, its source drains it, or its weight is 0, in the file or at
/// run time.
pub fn is_out(settings: &settings::Backend, state: &BackendState) -> bool {
    state.marked().is_some() || settings.drains.is_some() || state.weight(settings.weight) == 0
}

/// What a picker is given of each backend.
fn members_of(
    settings: &settings::Pool,
    backends: &[Arc<Backend>],
    states: &[BackendState],
    roles: Option<&Roles>,
) -> Vec<Member> {
    assert_eq!(backends.len(), states.len(), "each backend has a standing");
    let tenths: Vec<u16> = states.iter().map(BackendState::tenths).collect();
    // While all weights are whole, they are as the file has them: shorter tables.
    let whole = tenths.iter().all(|tenths| *tenths == TENTHS);
    let each = || settings.backends.iter().zip(states);
    // One that was added waits for its first good answer, unless there is no other.
    let others_serve = each().any(|(settings, state)| state.serves() && !is_out(settings, state));
    let serves = |at: usize, state: &BackendState| {
        let standing = roles.and_then(|roles| roles.standings().get(at));
        let serves = state.serves() || (!others_serve && state.health() == Health::Untested { added: true });
        serves && standing.is_none_or(|standing| standing.is_any())
    };
    each()
        .zip(backends)
        .zip(tenths)
        .enumerate()
        .map(|(at, (((settings, state), backend), tenths))| Member {
            name: Arc::clone(&backend.name),
            weight: state.weight(settings.weight) * if whole { 1 } else { tenths },
            tier: settings.tier,
            up: serves(at, state),
            out: is_out(settings, state),
            load: Arc::clone(&backend.load),
        })
        .collect()
}
