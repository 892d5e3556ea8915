//! Backends that discovery has found: whole lists come in, and a pool becomes what its file and its sources say together.
//!
//! A list that makes no difference makes no snapshot. While another process takes over, lists wait: what it was told of the pools
//! must stay true until it has the sessions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::Publisher;
use super::build::{asked_of, targets_of_pool};
use super::pool_state::PoolState;
use super::positions::positions_of;
use crate::discovery::FoundSet;
use crate::health::Target;

impl Publisher {
    /// A pool has another list.
    pub(super) fn take_found(&mut self, set: FoundSet) {
        let name = set.pool.clone();
        if !self.found.note(set) {
            return;
        }
        if self.found.rests_until.is_some_and(|until| Instant::now() < until) {
            self.found.waiting.insert(name);
            return;
        }
        self.found.rests_until = None;
        self.follow_found(&name);
    }

    /// Takes the lists that have waited for long enough.
    pub(super) fn take_waiting(&mut self) {
        if self.found.wake().is_some_and(|at| at <= Instant::now()) {
            self.found.rests_until = None;
            let waiting = std::mem::take(&mut self.found.waiting);
            waiting.iter().for_each(|name| self.follow_found(name));
        }
    }

    fn follow_found(&mut self, name: &str) {
        let settings = Arc::clone(&self.found.settings);
        let Some(at) = settings.pools.iter().position(|pool| pool.name == name) else { return };
        let is_it = |pool: &PoolState| !pool.view.gone && *pool.view.live.name == *name;
        let Some(slot) = self.pools.iter().position(is_it) else { return };
        let effective = self.found.effective(&settings.pools[at]);
        if self.pools[slot].view.settings.backends == effective.backends {
            return;
        }
        let now_ms = self.now_ms();
        let pool = &mut self.pools[slot];
        pool.follow(&effective, &self.hash_seed, &mut self.builder, now_ms);
        if pool.readmit_the_last(now_ms) {
            pool.rebuild(&self.hash_seed, now_ms);
        }
        let view = Arc::clone(&pool.view);
        let targets = targets_of_pool(&settings, at, &view);
        let asked = asked_of(&settings, at, &view, &targets);
        let targets: HashMap<u64, &Target> = targets.iter().map(|target| (target.id.0, target)).collect();
        pool.note_asked(&asked);
        pool.note_targets(&targets);
        if self.first_round.is_some() {
            pool.await_the_untested();
        }
        self.positions = positions_of(&self.pools);
        self.store();
        self.renew_targets();
        // A new backend has places for those that wait.
        view.live.hand_on();
    }
}
