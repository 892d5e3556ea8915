//! Reload of the pools: what a new file makes of them: what stays, what comes, what leaves.
//!
//! A file of many pools is followed in slices of time, pool by pool, so that verdicts are published meanwhile; whoever ordered it
//! hears of it when all is published. Identity is pool + name. A backend that is still there keeps everything; one of the same name at a new address keeps
//! its marks and counters; one that left drains. A pool that left keeps its slot while anyone may still look at it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::build::{CheckPolicy, PoolBuilder, asked, first_health, targets_of};

use super::pool_roles;
use super::pool_state::PoolState;
use super::positions::positions_of;
use super::tracked::{Leaver, TrackedBackend};
use super::{Publisher, Reloaded, Reloading, SLICE};
use crate::backend_state::{BackendState, Health};
use crate::config::settings::{self, Settings};
use crate::health::Target;
use crate::pool::{Backend, Departure, Lends, PoolView};
use crate::roles::{Memory, Roles, Standing};

impl Publisher {
    /// Begins to follow these settings.
    pub(super) fn begin_reload(&mut self, settings: Arc<Settings>, reply: oneshot::Sender<Reloaded>) {
        self.hash_seed.clone_from(&settings.hash_seed);
        self.reloading = Some(Reloading { settings, slots: Vec::new(), reply });
    }

    /// Follows some more pools of the settings, one at least; when these were the last, publishes all and says so.
    pub(super) fn go_on_reloading(&mut self) {
        let Some(mut reloading) = self.reloading.take() else { return };
        let (began, now_ms) = (Instant::now(), self.now_ms());
        while let Some(pool) = reloading.settings.pools.get(reloading.slots.len()) {
            let slot = self.slot_for(pool);
            let effective = self.found.effective(pool);
            let tracked = &mut self.pools[slot];
            tracked.follow(&effective, &self.hash_seed, &mut self.builder, now_ms);
            // Who served beside one that is ejected may have left the file.
            if tracked.readmit_the_last(now_ms) {
                tracked.rebuild(&self.hash_seed, now_ms);
            }
            reloading.slots.push(slot);
            if began.elapsed() >= SLICE && reloading.slots.len() < reloading.settings.pools.len() {
                // Those that were followed have their backends in other places.
                self.positions = positions_of(&self.pools);
                self.reloading = Some(reloading);
                return;
            }
        }
        let Reloading { settings, slots, reply } = reloading;
        // Who asked may have gone.
        let _ = reply.send(self.end_reload(&settings, &slots));
    }

    /// All pools of the settings are followed: those that left go, and the rest is published.
    fn end_reload(&mut self, settings: &Settings, slots: &[usize]) -> Reloaded {
        let now_ms = self.now_ms();
        for (slot, pool) in self.pools.iter_mut().enumerate() {
            if !slots.contains(&slot) && !pool.view.gone {
                let states = pool.view.states.clone();
                let mut view = pool.view.with_states(&self.hash_seed, states, pool.roles.as_ref());
                view.gone = true;
                pool.view = Arc::new(view);
                pool.backends.iter_mut().for_each(TrackedBackend::is_awaited_no_more);
                pool.is_asked_though_gone = pool.view.live.sessions() > 0;
                pool.see_all_off(now_ms);
            }
        }
        let views: Vec<Arc<PoolView>> =
            slots.iter().map(|slot| Arc::clone(&self.pools[*slot].view)).collect();
        let targets = targets_of(settings, &views);
        let asked = asked(settings, &views, &targets);
        let targets: HashMap<u64, &Target> = targets.iter().map(|target| (target.id.0, target)).collect();
        for slot in slots {
            self.pools[*slot].note_asked(&asked);
            self.pools[*slot].note_targets(&targets);
        }
        self.positions = positions_of(&self.pools);
        self.store();
        self.renew_targets();
        // Permits may have come with larger limits.
        views.iter().for_each(|view| view.live.hand_on());
        let pools = views.iter().map(|view| Arc::clone(&view.live)).collect();
        Reloaded { pools, generation: self.generation }
    }

    /// Where a pool of this name stands: where it stood, or where one stood that nobody remembers, or at the end.
    fn slot_for(&mut self, pool: &settings::Pool) -> usize {
        let mut named = self.pools.iter().enumerate();
        if let Some((slot, _)) = named.find(|(_, tracked)| *tracked.view.live.name == *pool.name) {
            return slot;
        }
        let free = self.pools.iter().position(PoolState::is_forgotten).unwrap_or(self.pools.len());
        let view = PoolView::new(
            self.builder.live(pool, free),
            Arc::new(settings::Pool { backends: Vec::new(), ..pool.clone() }),
            Vec::new(),
            Vec::new(),
            &self.hash_seed,
            None,
            Lends::default(),
        );
        let state = PoolState::new(&Arc::new(view), &HashMap::new());
        if free == self.pools.len() {
            self.pools.push(state);
        } else {
            self.pools[free] = state;
        }
        free
    }
}

impl PoolState {
    /// It left the file, and no session, flow or listener remembers it.
    fn is_forgotten(&self) -> bool {
        let view = &self.view;
        // Each backend holds its pool, and the view does.
        let own = 1 + view.backends.len() + self.leavers.len();
        view.gone && view.live.sessions() == 0 && Arc::strong_count(&view.live) <= own
    }

    /// Takes over what the file says now.
    pub(super) fn follow(
        &mut self,
        pool: &settings::Pool,
        hash_seed: &str,
        builder: &mut PoolBuilder,
        now_ms: u64,
    ) {
        let before = Arc::clone(&self.view);
        let stood = std::mem::take(&mut self.backends);
        let mut states: Vec<Option<TrackedBackend>> = stood.iter().cloned().map(Some).collect();
        self.gone_ms = None;
        let mut backends = Vec::with_capacity(pool.backends.len());
        // Where each stood before; an address that is new is another server.
        let mut places = Vec::with_capacity(pool.backends.len());
        for settings in &pool.backends {
            let known = before.backends.iter().position(|backend| *backend.name == *settings.name);
            places.push(known.filter(|at| before.backends[*at].is_at(settings)));
            let known = known.and_then(|at| {
                Some((&before.backends[at], before.settings.backends.get(at)?, states.get_mut(at)?.take()?))
            });
            let (backend, tracked) = match known {
                Some((backend, was, tracked)) => {
                    // One that had left that place may still have sessions, which count.
                    let moved = || match self.take_leaver(settings) {
                        Some(leaver) if leaver.backend.is_at(settings) => leaver.backend,
                        _ => builder.moved(backend, settings),
                    };
                    keep(backend, was, tracked, settings, pool, moved, now_ms)
                }
                None => match self.take_leaver(settings) {
                    Some(leaver) => come_back(leaver, settings, pool, builder, now_ms),
                    None => {
                        let state = BackendState::new(first_health(pool, true), now_ms);
                        (builder.backend(&before.live, settings), TrackedBackend::new(state))
                    }
                },
            };
            backend.depart(Departure::Stays);
            backend.load.set_max_sessions(settings.max_sessions);
            self.fell |= backend.set_down(tracked.state.is_down());
            self.backends.push(tracked);
            backends.push(backend);
        }
        before.live.follow(pool);
        self.changed = false;
        self.rules = crate::pool::rules(pool);
        self.note_leavers(&before, stood, &backends, now_ms);
        let states = self.backends.iter().map(|tracked| tracked.state.clone()).collect();
        let stood = self.follow_roles(pool, &places, now_ms);
        let (live, settings) = (Arc::clone(&before.live), Arc::new(pool.clone()));
        let roles = self.roles.as_ref();
        let mut view = PoolView::new(live, settings, backends, states, hash_seed, roles, before.lends());
        view.leaving = self.left(now_ms);
        self.view = Arc::new(view);
        self.see_off(now_ms);
        self.note_roles(&stood, now_ms);
        if self.lost {
            // The view tells how often each had lost a role.
            self.rebuild(hash_seed, now_ms);
        }
        self.tell_haste();
        if self.roles.is_none() {
            // Nobody would take back what an earlier check had told.
            self.view.backends.iter().for_each(|backend| backend.note_lag(None));
        }
    }

    /// Those of before that are not there any more leave.
    fn note_leavers(
        &mut self,
        before: &PoolView,
        stood: Vec<TrackedBackend>,
        backends: &[Arc<Backend>],
        now_ms: u64,
    ) {
        let stays: HashSet<u64> = backends.iter().map(|backend| backend.number).collect();
        let gone = before.backends.iter().zip(stood).filter(|(old, _)| !stays.contains(&old.number));
        for (old, tracked) in gone {
            let mut leaver = Leaver::new(Arc::clone(old), tracked, now_ms);
            leaver.tracked.is_awaited_no_more();
            self.leavers.push(leaver);
        }
    }

    /// The roles of those that stay are as they were; who comes is nobody until it has answered. Tells how they stood.
    fn follow_roles(
        &mut self,
        pool: &settings::Pool,
        places: &[Option<usize>],
        now_ms: u64,
    ) -> Vec<Standing> {
        let rules = pool_roles::rules(pool);
        let tells = pool.health.check.tells_roles();
        let before = self.roles.take().filter(|_| tells);
        let stood = |roles: &Roles| {
            let stood = |place: &Option<usize>| place.and_then(|at| roles.standings().get(at).copied());
            places.iter().map(|place| stood(place).unwrap_or(Standing::Unknown)).collect()
        };
        let stood = before.as_ref().map_or_else(Vec::new, stood);
        self.roles = match before {
            Some(before) => Some(before.with_servers(rules, places, now_ms)),
            None => tells.then(|| Roles::new(rules, places.len(), Memory::default())),
        };
        stood
    }

    /// How each is asked, those that left and are known there included.
    pub(super) fn note_targets(&mut self, targets: &HashMap<u64, &Target>) {
        for (tracked, backend) in self.backends.iter_mut().zip(&self.view.backends) {
            tracked.target = targets.get(&backend.number).map(|target| (*target).clone());
        }
        for leaver in &mut self.leavers {
            if let Some(target) = targets.get(&leaver.backend.number) {
                leaver.tracked.target = Some((*target).clone());
            }
        }
    }

    /// Somebody waits until each has answered once.
    pub(super) fn await_the_untested(&mut self) {
        for tracked in &mut self.backends {
            tracked.awaited |=
                tracked.asked.at_all && tracked.state.health() == Health::Untested { added: true };
        }
    }

    pub(super) fn note_asked(&mut self, asked: &HashMap<u64, CheckPolicy>) {
        for (tracked, backend) in self.backends.iter_mut().zip(&self.view.backends) {
            tracked.asked = asked.get(&backend.number).copied().unwrap_or_default();
        }
    }
}

/// A backend that had left. What an operator said of it holds, and where it was asked all the time, its health.
fn come_back(
    leaver: Leaver,
    settings: &settings::Backend,
    pool: &settings::Pool,
    builder: &mut PoolBuilder,
    now_ms: u64,
) -> (Arc<Backend>, TrackedBackend) {
    let was_asked = leaver.is_asked();
    let Leaver { backend, mut tracked, .. } = leaver;
    let is_asked = pool.health.check != settings::Check::Off;
    if !backend.is_at(settings) {
        tracked.state = tracked.state.at_new_address(first_health(pool, true), now_ms);
        return (builder.moved(&backend, settings), TrackedBackend::new(tracked.state));
    }
    if !(was_asked && is_asked) {
        tracked.state = tracked.state.at_new_address(first_health(pool, true), now_ms);
    }
    (backend, tracked)
}

/// A backend whose name was there before.
fn keep(
    backend: &Arc<Backend>,
    was: &settings::Backend,
    mut tracked: TrackedBackend,
    settings: &settings::Backend,
    pool: &settings::Pool,
    moved: impl FnOnce() -> Arc<Backend>,
    now_ms: u64,
) -> (Arc<Backend>, TrackedBackend) {
    if was.weight != settings.weight {
        tracked.state.set_weight(None);
    }
    if !backend.is_at(settings) {
        tracked.state = tracked.state.at_new_address(first_health(pool, true), now_ms);
        return (moved(), TrackedBackend::new(tracked.state));
    }
    let is_asked = pool.health.check != settings::Check::Off;
    match tracked.state.health() {
        // It served until now: a check that begins must not take it out before it has said anything.
        Health::Unchecked if is_asked => tracked.state.set_health(first_health(pool, false), now_ms),
        Health::Unchecked => {}
        _ if !is_asked => {
            tracked.state.set_health(Health::Unchecked, now_ms);
            backend.checks.note_progress(0, 0);
        }
        _ => {}
    }
    (Arc::clone(backend), tracked)
}
