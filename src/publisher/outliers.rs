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
        let usual_ns = usual_ns(self.view.backends.iter().map(|backend| &*backend.load), now_ms);
        for (tracked, backend) in self.backends.iter_mut().zip(&self.view.backends) {
            let is_out = tracked.state.is_ejected();
            tracked.watched.look(&passive, &backend.load, usual_ns, is_out, now_ms);
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
