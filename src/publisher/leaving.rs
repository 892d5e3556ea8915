//! Backends that left the list (deregistered, drained): checked as long as they have sessions, ended when their grace is over, and
//! remembered for a while, so that one that comes back is the one it was.
//!
//! What must stay true: nobody new is sent to one of them; each that has sessions is asked as it was before it left; those
//! without are bounded in number and in time.

use std::sync::Arc;

use super::pool_state::PoolState;
use super::tracked::Leaver;
use crate::config::settings;
use crate::health::{Checked, Target};
use crate::pool::{Departure, Left};

impl PoolState {
    /// They left just now, or have left long ago and the file says otherwise of them: what becomes of their sessions.
    pub(super) fn see_off(&mut self, now_ms: u64) {
        let departure = Departure::by(self.view.settings.on_removed);
        let grace_ms = self.grace_ms();
        for leaver in &self.leavers {
            let is_over = grace_ms.is_some_and(|grace_ms| now_ms >= leaver.left_ms.saturating_add(grace_ms));
            let departure = if is_over { Departure::Closes } else { departure };
            if leaver.backend.departure() == departure {
                continue;
            }
            leaver.backend.depart(departure);
            self.withdrawn |= departure == Departure::Closes;
            if is_over && leaver.backend.load.active() > 0 {
                let (pool, backend) = (&*self.view.live.name, &*leaver.backend.name);
                let sessions = leaver.backend.load.active();
                tracing::info!(target: "evenkeel", pool, backend, sessions, "removed_grace is over: the sessions of a backend that left end");
            }
        }
        self.look_ms = Some(self.next_look_ms(now_ms));
    }

    /// The pool itself left: nobody is there to whom a flow could go.
    pub(super) fn see_all_off(&mut self, now_ms: u64) {
        let left_ms = *self.gone_ms.get_or_insert(now_ms);
        let is_over = self.grace_ms().is_some_and(|grace_ms| now_ms >= left_ms.saturating_add(grace_ms));
        let closes = is_over || self.view.settings.on_removed == settings::OnRemoved::Close;
        let departure = if closes { Departure::Closes } else { Departure::Keeps };
        for backend in &self.view.backends {
            self.withdrawn |= closes && backend.departure() != departure;
            backend.depart(departure);
        }
        self.look_ms = Some(self.next_look_ms(now_ms));
    }

    /// What is to be asked of this pool.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        let is_asked = !self.view.gone || self.view.live.sessions() > 0;
        let listed =
            self.backends.iter().filter(move |_| is_asked).filter_map(|tracked| tracked.target.as_ref());
        let leavers = self.leavers.iter().filter(|leaver| leaver.is_asked());
        listed.chain(leavers.filter_map(|leaver| leaver.tracked.target.as_ref()))
    }

    /// What the view tells of them.
    pub(super) fn left(&self, now_ms: u64) -> Vec<Left> {
        self.leavers.iter().filter_map(|leaver| leaver.left(now_ms)).collect()
    }

    /// One that had left this place, or had this name elsewhere, comes back.
    pub(super) fn take_leaver(&mut self, settings: &settings::Backend) -> Option<Leaver> {
        let named = |leaver: &&Leaver| *leaver.backend.name == *settings.name;
        let is_it = |leaver: &Leaver| named(&leaver) && leaver.backend.is_at(settings);
        let at = self.leavers.iter().position(is_it);
        let at = at.or_else(|| self.leavers.iter().position(|leaver| named(&leaver)))?;
        if self.leavers[at].backend.is_at(settings) {
            return Some(self.leavers.remove(at));
        }
        // Its sessions stay where they are; the other address has what was said and counted of the name.
        let Leaver { backend, tracked, left_ms, idle_since_ms } = &self.leavers[at];
        let (backend, tracked) = (Arc::clone(backend), tracked.clone());
        Some(Leaver { backend, tracked, left_ms: *left_ms, idle_since_ms: *idle_since_ms })
    }

    /// Takes what came of a check of one that left.
    pub(super) fn apply_to_leaver(&mut self, event: &Checked, now_ms: u64) {
        let is_it = |leaver: &&mut Leaver| leaver.backend.number == event.target.0;
        let Some(leaver) = self.leavers.iter_mut().find(is_it) else { return };
        if !leaver.is_asked() {
            return;
        }
        let heard = leaver.tracked.hear(&leaver.backend, &self.view, &self.rules, event, now_ms);
        if let Some(heard) = heard {
            self.fell |= heard.fell;
            self.changed |= heard.turned;
        }
    }

    /// Looks after those that left; true: others are to be asked than before.
    pub(super) fn look_after_leavers(&mut self, now_ms: u64) -> bool {
        if self.look_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return false;
        }
        let before = self.leavers.len();
        let mut asks_others = false;
        let shown = |leaver: &Leaver| leaver.left(now_ms).is_some();
        for leaver in &mut self.leavers {
            let (was_shown, was_asked) = (shown(leaver), leaver.is_asked());
            if leaver.backend.load.active() > 0 {
                leaver.idle_since_ms = None;
            } else {
                leaver.idle_since_ms.get_or_insert(now_ms);
            }
            asks_others |= leaver.is_asked() != was_asked;
            self.changed |= shown(leaver) != was_shown;
        }
        let is_forgotten =
            |leaver: &Leaver| leaver.idle_since_ms.is_some_and(|since_ms| now_ms >= since_ms + REMEMBERED_MS);
        self.leavers.retain(|leaver| !is_forgotten(leaver));
        let idle = self.leavers.iter().filter(|leaver| leaver.idle_since_ms.is_some()).count();
        let mut too_many = idle.saturating_sub(REMEMBERED_MAX);
        // Those that left first go first.
        self.leavers.retain(|leaver| {
            let goes = too_many > 0 && leaver.idle_since_ms.is_some();
            too_many -= usize::from(goes);
            !goes
        });
        self.changed |= self.leavers.len() != before;
        if self.view.gone {
            self.see_all_off(now_ms);
            asks_others |= self.is_asked_though_gone && self.view.live.sessions() == 0;
            self.is_asked_though_gone = self.view.live.sessions() > 0;
        }
        self.see_off(now_ms);
        let has_sessions = self.view.gone && self.view.live.sessions() > 0;
        if self.leavers.is_empty() && !has_sessions {
            self.look_ms = None;
        }
        self.changed |= self.withdrawn;
        asks_others
    }

    fn grace_ms(&self) -> Option<u64> {
        self.view.settings.removed_grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX))
    }

    /// All pools look at the same moments, so that many of them wake the publisher no oftener than one.
    fn next_look_ms(&self, now_ms: u64) -> u64 {
        let is_quiet = !self.view.gone && self.leavers.iter().all(|leaver| leaver.idle_since_ms.is_some());
        let every_ms = if is_quiet { QUIET_LOOK_MS } else { LOOK_MS };
        let turn_ms = (now_ms / every_ms + 1) * every_ms;
        let graces = self.leavers.iter().map(|leaver| leaver.left_ms).chain(self.gone_ms);
        let ends = graces.filter_map(|left_ms| Some(left_ms.saturating_add(self.grace_ms()?)));
        ends.filter(|at_ms| *at_ms > now_ms).fold(turn_ms, u64::min)
    }
}

/// What was said of it, a mark or a weight, is known for so long.
const REMEMBERED_MS: u64 = 60 * 60 * 1_000;
/// Of so many without sessions in one pool.
const REMEMBERED_MAX: usize = 1_000;
/// How soon it is seen that the last session of one that left is over.
const LOOK_MS: u64 = 1_000;
/// The same where all are over.
const QUIET_LOOK_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::super::tests::{publisher, reload, told};
    use super::super::tracked::SHOWN_MS;
    use super::*;

    fn file(first: usize, count: usize, keys: &str) -> String {
        let backends: Vec<String> =
            (first..first + count).map(|at| format!("10.0.{}.{}:1", at / 250, at % 250 + 1)).collect();
        format!("listeners: {{ door: {{ bind: 1001, {keys} backends: [{}] }} }}", backends.join(", "))
    }

    #[test]
    fn those_without_sessions_are_seen_for_a_while_and_remembered_in_bounds() {
        let (mut publisher, _workers) = publisher(&file(0, 1, ""));
        for turn in 1..=12 {
            reload(&mut publisher, &file(turn * 100, 100, ""));
        }
        let pool = &mut publisher.pools[0];
        assert_eq!(pool.leavers.len(), 1_101);
        let now_ms = pool.look_ms.unwrap();
        assert!(pool.look_after_leavers(now_ms), "none of them is asked any more");
        assert_eq!(pool.leavers.len(), REMEMBERED_MAX);
        assert_eq!(*pool.leavers[0].backend.name, *"10.0.0.201:1", "the first ones are forgotten first");
        assert_eq!(pool.left(now_ms + SHOWN_MS - 1).len(), REMEMBERED_MAX);
        assert_eq!(pool.left(now_ms + SHOWN_MS).len(), 0);
        assert!(!pool.look_after_leavers(now_ms + SHOWN_MS) && pool.changed);
        assert!(!pool.look_after_leavers(now_ms + REMEMBERED_MS + QUIET_LOOK_MS));
        assert_eq!((pool.leavers.len(), pool.look_ms), (0, None));
    }

    #[test]
    fn one_with_sessions_is_asked_until_they_are_over_and_ends_them_when_its_grace_is_over() {
        let keys = "removed_grace: 5s,";
        let (mut publisher, workers) = publisher(&file(0, 2, keys));
        let backend = Arc::clone(&publisher.pools[0].view.backends[0]);
        assert!(backend.load.try_take());
        reload(&mut publisher, &file(1, 1, keys));
        let asked = |publisher: &super::super::Publisher| publisher.pools[0].targets().count();
        assert_eq!((asked(&publisher), backend.departure()), (2, Departure::Rehomes));
        let left_ms = publisher.pools[0].leavers[0].left_ms;
        assert!(!publisher.pools[0].on_time(left_ms + 4_999));
        assert_eq!((backend.departure(), told(&workers)), (Departure::Rehomes, [0, 0]));
        assert_eq!(publisher.pools[0].next_wake_ms(), Some(left_ms + 5_000));
        assert!(!publisher.pools[0].on_time(left_ms + 5_000));
        publisher.publish();
        assert_eq!((backend.departure(), told(&workers)), (Departure::Closes, [1, 1]));
        backend.load.give_back();
        assert!(publisher.pools[0].on_time(left_ms + 7_000), "it is asked no more");
        assert_eq!(asked(&publisher), 1);

        reload(&mut publisher, &file(0, 2, keys));
        assert_eq!(backend.departure(), Departure::Stays);
        assert!(Arc::ptr_eq(&publisher.pools[0].view.backends[0], &backend), "it is the one it was");
        assert!(publisher.pools[0].leavers.is_empty());
    }
}
