//! Outlier detection of a pool by answers (passive health): looks once a second at what data threads noted of each backend, where
//! the file wants that. What one look says stands in `watched`.

use super::pool_state::PoolState;
use super::watched::usual_ns;
use crate::config::settings::Passive;

impl PoolState {
    /// Looks at what is owed, and how long answers take, if that is due.
    pub(super) fn watch_answers(&mut self, now_ms: u64) {
        let Some(passive) = self.watched_by().filter(|_| now_ms >= self.watch_ms) else { return };
        self.watch_ms = now_ms + LOOK_MS;
        for index in 0..self.backends.len() {
            let is_out = !self.gets_sessions(index);
            self.backends[index].watched.note(&self.view.backends[index].load, is_out, now_ms);
        }
        let loads = || self.view.backends.iter().map(|backend| &*backend.load);
        let usual_ns = usual_ns(self.backends.iter().map(|tracked| &tracked.watched).zip(loads()), now_ms);
        for (tracked, backend) in self.backends.iter_mut().zip(&self.view.backends) {
            tracked.watched.look(&passive, &backend.load, usual_ns, now_ms);
        }
        self.eject_failing(now_ms);
    }

    /// When [`Self::watch_answers`] is due.
    pub(super) fn next_watch_ms(&self) -> Option<u64> {
        self.watched_by().map(|_| self.watch_ms)
    }

    fn watched_by(&self) -> Option<Passive> {
        let passive = self.view.settings.passive.filter(|_| !self.view.gone);
        passive.filter(|passive| passive.silent.is_some() || passive.slow.is_some())
    }
}

/// Between two looks.
const LOOK_MS: u64 = 1_000;
