//! Outlier ejection of a pool (passive health): which backends that fail real traffic are left alone for a while, and when the
//! pool can do without them no longer.
//!
//! Only what gets sessions can be ejected: one that its checks or an operator took out has nothing to be kept from, and what
//! failed before that is forgotten with the next verdict. The pool is never left without a backend by an ejection alone, not
//! when it begins and not later, when the others go down, are marked, or leave the file.

use super::pool_state::PoolState;
use crate::backend_state::{BackendState, EjectedFor};
use crate::pool::is_out;

impl PoolState {
    /// Ejects backends that failed real traffic too often in a row, as many as the pool can do without.
    pub(super) fn eject_failing(&mut self, now_ms: u64) {
        let Some(passive) = self.view.settings.passive else { return };
        let most = self.backends.len() * usize::from(passive.max_ejected_percent) / 100;
        for index in 0..self.backends.len() {
            let backend = &self.view.backends[index];
            let (failures, empty, owed) =
                (backend.failures_in_a_row(), backend.empty_in_a_row(), backend.load.owed());
            let answer_ms =
                backend.load.answer_ns(now_ms.saturating_mul(1_000_000)).map(|ns| (ns / 1e6).round());
            let cause = if failures >= passive.failures {
                EjectedFor::Failures
            } else if passive.empty.is_some_and(|most| empty >= most) {
                EjectedFor::Empty
            } else if let Some(cause) = self.backends[index].watched.cause {
                cause
            } else {
                self.backends[index].spared = false;
                continue;
            };
            if !self.gets_sessions(index) {
                continue;
            }
            let out = self.backends.iter().filter(|tracked| tracked.state.is_ejected()).count();
            let others_serve =
                (0..self.backends.len()).any(|other| other != index && self.gets_sessions(other));
            let is_primary = self.is_primary(index);
            let (pool, name) = (&*self.view.live.name, &*backend.name);
            let tracked = &mut self.backends[index];
            if out >= most || !others_serve || is_primary {
                if !std::mem::replace(&mut tracked.spared, true) && self.view.backends.len() > 1 {
                    let why = if is_primary {
                        "it is the primary"
                    } else if others_serve {
                        "passive.max_ejected is reached"
                    } else {
                        "no other backend serves"
                    };
                    tracing::warn!(target: "health", pool, backend = name, cause = cause.word(), failures, empty, owed, answer_ms, why, "backend fails real traffic and is kept");
                }
                continue;
            }
            if let Some(for_ms) = tracked.state.eject(cause, &self.rules, now_ms) {
                backend.forget_failures();
                backend.checks.ejections(cause).add(1);
                self.changed = true;
                tracing::warn!(target: "health", pool, backend = name, cause = cause.word(), failures, empty, owed, answer_ms, for_ms, "backend is ejected: {}", cause.told());
            }
        }
    }

    /// When nothing but ejections keeps the pool from serving, they end: a backend that may fail is better than none. True:
    /// some did.
    pub(super) fn readmit_the_last(&mut self, now_ms: u64) -> bool {
        let all = 0..self.backends.len();
        if all.clone().any(|index| self.gets_sessions(index)) {
            return false;
        }
        let mut readmitted = false;
        for index in all {
            if !self.is_wanted(index, BackendState::is_up) || !self.backends[index].state.end_ejection(now_ms)
            {
                continue;
            }
            let backend = &self.view.backends[index];
            backend.forget_failures();
            readmitted = true;
            let (pool, backend) = (&*self.view.live.name, &*backend.name);
            tracing::warn!(target: "health", pool, backend, "ejection is over: no other backend serves, and this one is up");
        }
        readmitted
    }

    /// It serves, and nobody took it out.
    pub(super) fn gets_sessions(&self, index: usize) -> bool {
        self.is_wanted(index, BackendState::serves)
    }

    fn is_wanted(&self, index: usize, by_itself: impl Fn(&BackendState) -> bool) -> bool {
        let (Some(tracked), Some(file)) = (self.backends.get(index), self.view.settings.backends.get(index))
        else {
            return false;
        };
        let state = &tracked.state;
        by_itself(state) && !is_out(file, state)
    }
}
