//! Pool state: how the backends of one pool stand: verdicts, marks and time go in, a changed view comes out. What failures of
//! real traffic do to it stands in `passive`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::build::CheckPolicy;
use super::tracked::{Leaver, TrackedBackend};
use crate::backend_state::{BackendState, Mark, Marked, Rules};
use crate::config::settings::Balance;
use crate::config::settings::WhenNone;
use crate::health::Checked;
use crate::pool::{Backend, Left, PoolView, rules};
use crate::roles::Roles;

/// One pool as the publisher keeps it.
pub(super) struct PoolState {
    pub(super) view: Arc<PoolView>,
    /// The view is not up to date.
    pub(super) changed: bool,
    /// A backend went down since a view was last published.
    pub(super) fell: bool,
    /// A backend lost a role since a view was last published.
    pub(super) lost: bool,
    pub(super) rules: Rules,
    /// Who is what, where the check tells it.
    pub(super) roles: Option<Roles>,
    pub(super) backends: Vec<TrackedBackend>,
    /// Backends that left the list, the one that left first at the front.
    pub(super) leavers: Vec<Leaver>,
    /// A backend that left has sessions that are to end, since a view was last published.
    pub(super) withdrawn: bool,
    /// When those that left are looked after.
    pub(super) look_ms: Option<u64>,
    /// When its answers are looked at, where the file wants that.
    pub(super) watch_ms: u64,
    /// When the pool left the file.
    pub(super) gone_ms: Option<u64>,
    /// It left the file, and its backends are asked for its last sessions' sake.
    pub(super) is_asked_though_gone: bool,
}

impl PoolState {
    /// A pool as it is published, of which `asked` says how a backend of that number is asked.
    pub(super) fn new(view: &Arc<PoolView>, asked: &HashMap<u64, CheckPolicy>) -> Self {
        let backend = |state: &BackendState, backend: &Backend| {
            let asked = asked.get(&backend.number).copied().unwrap_or_default();
            TrackedBackend { asked, awaited: asked.at_all, ..TrackedBackend::new(state.clone()) }
        };
        let leaver = |left: &Left| {
            let tracked = TrackedBackend { awaited: false, ..backend(&left.state, &left.backend) };
            Leaver::new(Arc::clone(&left.backend), tracked, left.left_ms)
        };
        Self {
            leavers: view.leaving.iter().map(leaver).collect(),
            withdrawn: false,
            look_ms: (view.gone || !view.leaving.is_empty()).then_some(0),
            watch_ms: 0,
            gone_ms: None,
            is_asked_though_gone: false,
            rules: rules(&view.settings),
            backends: view
                .states
                .iter()
                .zip(&view.backends)
                .map(|(state, one)| backend(state, one))
                .collect(),
            view: Arc::clone(view),
            changed: false,
            fell: false,
            lost: false,
            roles: view.roles.as_ref().map(|view| view.roles.clone()),
        }
        .with_haste()
    }

    /// While nobody is known to be the primary, the checks hurry.
    fn with_haste(self) -> Self {
        self.tell_haste();
        self
    }

    pub(super) fn tell_haste(&self) {
        let haste = self.roles.as_ref().is_some_and(|roles| roles.primary().is_none());
        self.view.live.haste().store(haste, Ordering::Relaxed);
    }

    /// Says something of a backend, or takes back what was said.
    pub(super) fn mark(&mut self, index: usize, mark: Option<Mark>, by: &Arc<str>, now_ms: u64) {
        let (Some(backend), Some(tracked)) = (self.view.backends.get(index), self.backends.get_mut(index))
        else {
            return;
        };
        let marked = mark.map(|mark| Marked { mark, by: Arc::clone(by), since_ms: now_ms });
        let is_marked_down =
            |state: &BackendState| state.marked().is_some_and(|marked| marked.mark == Mark::Down);
        let was_marked_down = is_marked_down(&tracked.state);
        tracked.state.mark(marked, &self.rules, now_ms);
        backend.forget_failures();
        let mut fell = backend.set_down(tracked.state.is_down());
        if !fell && !was_marked_down && is_marked_down(&tracked.state) {
            // Its checks had failed before, and `when_none: try_all` may have given it sessions since: they end as well.
            backend.fall();
            fell = true;
        }
        self.fell |= fell;
        self.changed = true;
        let word = mark.map_or("ready", |mark| mark.word());
        let (pool, backend) = (&*self.view.live.name, &*backend.name);
        tracing::info!(target: "evenkeel", pool, backend, %by, "backend is marked: {word}");
    }

    /// Sets the weight of a backend; `None`: the file's again.
    pub(super) fn set_weight(&mut self, index: usize, weight: Option<u16>, by: &Arc<str>) {
        let (Some(backend), Some(tracked)) = (self.view.backends.get(index), self.backends.get_mut(index))
        else {
            return;
        };
        tracked.state.set_weight(weight);
        self.changed = true;
        let file = self.view.settings.backends[index].weight;
        let (pool, backend, weight) = (&*self.view.live.name, &*backend.name, weight.unwrap_or(file));
        tracing::info!(target: "evenkeel", pool, backend, weight, file, %by, "backend has another weight");
    }

    /// Some backend was not asked yet.
    pub(super) fn is_awaited(&self) -> bool {
        self.backends.iter().any(|backend| backend.awaited)
    }

    /// Takes what came of a check that began at `asked_ms`.
    pub(super) fn apply(&mut self, index: usize, event: &Checked, asked_ms: u64, now_ms: u64) {
        let (Some(backend), Some(tracked)) = (self.view.backends.get(index), self.backends.get_mut(index))
        else {
            return;
        };
        let heard = tracked.hear(backend, &self.view, &self.rules, event, now_ms);
        let Some(heard) = heard else { return };
        self.fell |= heard.fell;
        self.changed |= heard.turned;
        if event.outcome.is_good()
            && tracked.state.on_good_check(asked_ms, |cause| tracked.asked.clears(cause), &self.rules, now_ms)
        {
            self.changed = true;
            backend.forget_failures();
            let (pool, backend) = (&*self.view.live.name, &*backend.name);
            tracing::info!(target: "health", pool, backend, "backend answers its check: it gets sessions again");
        }
        self.hear_role(index, &event.outcome, now_ms);
    }

    /// Does what time has brought; true: others are to be asked than before.
    pub(super) fn on_time(&mut self, now_ms: u64) -> bool {
        for (tracked, backend) in self.backends.iter_mut().zip(&self.view.backends) {
            if tracked.state.next_wake_ms(&self.rules).is_none_or(|at_ms| at_ms > now_ms) {
                continue;
            }
            let before = tracked.state.tenths();
            let is_over = tracked.state.on_time(backend.failed_ms(), &self.rules, now_ms);
            self.changed |= is_over || tracked.state.tenths() != before;
            if is_over {
                backend.forget_failures();
                let (pool, backend) = (&*self.view.live.name, &*backend.name);
                tracing::info!(target: "health", pool, backend, "ejection is over: backend gets sessions again");
            }
        }
        self.watch_answers(now_ms);
        self.look_after_leavers(now_ms)
    }

    /// When [`Self::on_time`] is to be called.
    pub(super) fn next_wake_ms(&self) -> Option<u64> {
        let states = self.backends.iter().filter_map(|tracked| tracked.state.next_wake_ms(&self.rules));
        states.chain(self.look_ms).chain(self.next_watch_ms()).min()
    }

    /// To rebuild it costs milliseconds.
    pub(super) fn has_table(&self) -> bool {
        matches!(self.view.settings.balance, Balance::SourceHash(_))
    }

    /// Makes the view that says how the backends stand now.
    pub(super) fn rebuild(&mut self, hash_seed: &str, now_ms: u64) {
        self.readmit_the_last(now_ms);
        self.changed = false;
        let had = !self.view.picker.eligible().is_empty();
        let states = self.backends.iter().map(|tracked| tracked.state.clone()).collect();
        let mut view = self.view.with_states(hash_seed, states, self.roles.as_ref());
        view.leaving = self.left(now_ms);
        self.view = Arc::new(view);
        self.tell_haste();
        let has = !self.view.picker.eligible().is_empty();
        let pool = &*self.view.live.name;
        if had && !has {
            if self.view.settings.when_none == WhenNone::Wait {
                tracing::error!(target: "evenkeel", pool, "no backend of the pool is eligible: its clients wait");
            } else {
                tracing::error!(target: "evenkeel", pool, "no backend of the pool is eligible: its clients are refused");
            }
        } else if has && !had {
            tracing::info!(target: "health", pool, "the pool has an eligible backend again");
        }
    }
}
