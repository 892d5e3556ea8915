//! Pool state: how the backends of one pool stand: verdicts, marks and time go in, a changed view comes out. What failures of
//! real traffic do to it stands in `passive`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::build::CheckPolicy;
use crate::backend_state::{BackendState, Health, Mark, Marked, Rules};
use crate::config::settings::Balance;
use crate::config::settings::WhenNone;
use crate::health::{Checked, Outcome};
use crate::pool::{Backend, PoolView, rules};
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
}

pub(super) struct TrackedBackend {
    pub(super) state: BackendState,
    pub(super) asked: CheckPolicy,
    /// No check of it is over yet.
    awaited: bool,
    /// Its last check could not be made.
    unasked: bool,
    /// It was told that it fails and cannot be ejected, since it last had a success.
    pub(super) spared: bool,
}

impl TrackedBackend {
    pub(super) fn new(state: BackendState) -> Self {
        Self { state, asked: CheckPolicy::default(), awaited: false, unasked: false, spared: false }
    }

    pub(super) fn is_asked_no_more(&mut self) {
        (self.asked, self.awaited) = (CheckPolicy::default(), false);
    }
}

impl PoolState {
    /// A pool as it is published, of which `asked` says how a backend of that number is asked.
    pub(super) fn new(view: &Arc<PoolView>, asked: &HashMap<u64, CheckPolicy>) -> Self {
        let backend = |(state, backend): (&BackendState, &Arc<Backend>)| {
            let asked = asked.get(&backend.number).copied().unwrap_or_default();
            TrackedBackend { asked, awaited: asked.at_all, ..TrackedBackend::new(state.clone()) }
        };
        Self {
            rules: rules(&view.settings),
            backends: view.states.iter().zip(&view.backends).map(backend).collect(),
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
        // An answer that was on its way when a file turned the checks off: nobody would ever take it back.
        if !tracked.asked.at_all {
            return;
        }
        let first = std::mem::take(&mut tracked.awaited);
        match &event.outcome {
            Outcome::Good | Outcome::Role(_) => backend.checks.good.add(1),
            Outcome::Bad(_) => backend.checks.bad.add(1),
            Outcome::Local(_) => backend.checks.local.add(1),
        }
        let progress = event.verdict.progress;
        backend.checks.note_progress(progress.done, progress.of);
        let took_us = u64::try_from(event.took.as_micros()).unwrap_or(u64::MAX);
        self.view.live.check_seconds.observe(took_us);
        let unasked = matches!(event.outcome, Outcome::Local(_));
        let still_unasked = std::mem::replace(&mut tracked.unasked, unasked) && unasked;
        // That all is well from the start is told once, for all; that it cannot be asked, when that begins.
        if !(first && event.outcome.is_good() || still_unasked) {
            let for_s = now_ms.saturating_sub(tracked.state.since_ms()) / 1_000;
            tell(event, &self.view.live.name, &backend.name, for_s);
        }
        if event.verdict.change.is_some() {
            // The first answer decides alone.
            let first = matches!(tracked.state.health(), Health::Untested { .. });
            let fall = self.view.settings.health.fall;
            let cause = match &event.outcome {
                Outcome::Bad(cause) if first => Some(cause.to_string()),
                Outcome::Bad(cause) => Some(format!("{cause}, {fall} of {fall} checks")),
                _ => None,
            };
            tracked.state.on_verdict(cause.as_deref().map_or(Ok(()), Err), &self.rules, now_ms);
            // What failed before says nothing of the time after: the primary of tomorrow may be the one of yesterday.
            backend.forget_failures();
            self.fell |= backend.set_down(tracked.state.is_down());
            self.changed = true;
        }
        if event.outcome.is_good()
            && tracked.asked.clears_ejection
            && tracked.state.on_good_check(asked_ms, &self.rules, now_ms)
        {
            self.changed = true;
            backend.forget_failures();
            let (pool, backend) = (&*self.view.live.name, &*backend.name);
            tracing::info!(target: "health", pool, backend, "backend answers its check: it gets sessions again");
        }
        self.hear_role(index, &event.outcome, now_ms);
    }

    /// Does what time has brought.
    pub(super) fn on_time(&mut self, now_ms: u64) {
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
    }

    /// When [`Self::on_time`] is to be called.
    pub(super) fn next_wake_ms(&self) -> Option<u64> {
        self.backends.iter().filter_map(|tracked| tracked.state.next_wake_ms(&self.rules)).min()
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
        self.view = Arc::new(self.view.with_states(hash_seed, states, self.roles.as_ref()));
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

/// The log lines of one check: a line for what changed, detail for what did not.
fn tell(event: &Checked, pool: &str, backend: &str, for_s: u64) {
    let progress = event.verdict.progress;
    let state = event.verdict.state.word();
    match (&event.outcome, event.verdict.change) {
        (Outcome::Bad(cause), Some(_)) => {
            tracing::warn!(target: "health", pool, backend, %cause, was_up_s = for_s, "backend is down");
        }
        (_, Some(_)) => tracing::info!(target: "health", pool, backend, was_down_s = for_s, "backend is up"),
        (Outcome::Bad(cause), None) if progress.done > 0 => {
            tracing::info!(target: "health", pool, backend, %cause, "backend is {state}, {progress} bad");
        }
        (Outcome::Local(error), None) => {
            tracing::warn!(target: "health", pool, backend, %error, "backend could not be asked");
        }
        (outcome, None) => {
            let answer = outcome.word();
            tracing::debug!(target: "health", pool, backend, answer, state, "backend was asked");
        }
    }
}
