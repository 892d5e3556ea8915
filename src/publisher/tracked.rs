//! One backend as the publisher keeps it: how it stands, how it is asked, and what each check of it says; the same of one
//! that left the list.

use std::sync::Arc;

use super::build::CheckPolicy;
use super::watched::Watched;
use crate::backend_state::{BackendState, Health, Rules};
use crate::health::{Cause, Checked, Outcome, Target};
use crate::pool::{Backend, Left, PoolView};

/// One backend.
#[derive(Clone)]
pub(super) struct TrackedBackend {
    pub(super) state: BackendState,
    pub(super) asked: CheckPolicy,
    /// As it is asked.
    pub(super) target: Option<Target>,
    /// No check of it is over yet.
    pub(super) awaited: bool,
    /// Its last check could not be made.
    pub(super) unasked: bool,
    /// Its last answer was that the check is made wrongly.
    pub(super) mistaken: bool,
    /// Its last answer had nobody to confirm it.
    pub(super) unconfirmed: bool,
    /// It was told that it fails and cannot be ejected, since it last had a success.
    pub(super) spared: bool,
    /// What its answers say.
    pub(super) watched: Watched,
}

impl TrackedBackend {
    pub(super) fn new(state: BackendState) -> Self {
        Self {
            state,
            asked: CheckPolicy::default(),
            target: None,
            awaited: false,
            unasked: false,
            mistaken: false,
            unconfirmed: false,
            spared: false,
            watched: Watched::default(),
        }
    }

    /// Nobody waits for its first answer.
    pub(super) fn is_awaited_no_more(&mut self) {
        self.awaited = false;
    }

    /// Takes what came of a check; `None`: it is not asked any more.
    pub(super) fn hear(
        &mut self,
        backend: &Backend,
        view: &PoolView,
        rules: &Rules,
        event: &Checked,
        now_ms: u64,
    ) -> Option<Heard> {
        // An answer that was on its way when a file turned the checks off: nobody would ever take it back.
        if !self.asked.at_all {
            return None;
        }
        let first = std::mem::take(&mut self.awaited);
        match &event.outcome {
            Outcome::Good | Outcome::Role(_) | Outcome::Unconfirmed { .. } => backend.checks.good.add(1),
            Outcome::Bad(_) => backend.checks.bad.add(1),
            Outcome::Local(_) => backend.checks.local.add(1),
        }
        let progress = event.verdict.progress;
        backend.checks.note_progress(progress.done, progress.of);
        let took_us = u64::try_from(event.took.as_micros()).unwrap_or(u64::MAX);
        view.live.check_seconds.observe(took_us);
        let unasked = matches!(event.outcome, Outcome::Local(_));
        let still_unasked = std::mem::replace(&mut self.unasked, unasked) && unasked;
        self.tell_mistaken(event, &view.live.name, &backend.name);
        self.tell_unconfirmed(&event.outcome, &view.live.name, &backend.name);
        // That all is well from the start is told once, for all; that it cannot be asked, when that begins.
        if !(first && event.outcome.is_good() || still_unasked) {
            let for_s = now_ms.saturating_sub(self.state.since_ms()) / 1_000;
            tell(event, &view.live.name, &backend.name, for_s);
        }
        if event.verdict.change.is_none() {
            return Some(Heard { turned: false, fell: false });
        }
        // The first answer decides alone.
        let first = matches!(self.state.health(), Health::Untested { .. });
        let fall = view.settings.health.fall;
        let cause = match &event.outcome {
            Outcome::Bad(cause) if first => Some(cause.to_string()),
            Outcome::Bad(cause) => Some(format!("{cause}, {fall} of {fall} checks")),
            _ => None,
        };
        self.state.on_verdict(cause.as_deref().map_or(Ok(()), Err), rules, now_ms);
        // What failed before says nothing of the time after: the primary of tomorrow may be the one of yesterday.
        backend.forget_failures();
        Some(Heard { turned: true, fell: backend.set_down(self.state.is_down()) })
    }

    /// What only people can mend is told when it begins: the check logs in wrongly, or another than it was made for answers.
    fn tell_mistaken(&mut self, event: &Checked, pool: &str, backend: &str) {
        let is_mistaken = match &event.outcome {
            Outcome::Bad(Cause::Auth { .. } | Cause::Tls { .. } | Cause::Protocol { .. }) => true,
            Outcome::Good | Outcome::Role(_) | Outcome::Unconfirmed { .. } => false,
            Outcome::Bad(_) | Outcome::Local(_) => return,
        };
        if let (Outcome::Bad(cause), true, false) = (&event.outcome, is_mistaken, self.mistaken) {
            tracing::error!(target: "health", pool, backend, %cause, "the check and the backend do not go together");
        }
        self.mistaken = is_mistaken;
    }

    /// That it stays what it was, since nobody confirms what it says, is told when it begins and when it ends.
    fn tell_unconfirmed(&mut self, outcome: &Outcome, pool: &str, backend: &str) {
        match outcome {
            Outcome::Unconfirmed { excerpt } if !std::mem::replace(&mut self.unconfirmed, true) => {
                tracing::warn!(target: "health", pool, backend, cause = %excerpt, "backend is unconfirmed: it stays what it was");
            }
            Outcome::Role(_) if std::mem::take(&mut self.unconfirmed) => {
                tracing::info!(target: "health", pool, backend, "backend is confirmed again");
            }
            _ => {}
        }
    }
}

/// What a check changed.
pub(super) struct Heard {
    /// The verdict is another.
    pub(super) turned: bool,
    /// The backend went down.
    pub(super) fell: bool,
}

/// A backend that left the list.
pub(super) struct Leaver {
    pub(super) backend: Arc<Backend>,
    pub(super) tracked: TrackedBackend,
    pub(super) left_ms: u64,
    /// Since when it has had no session.
    pub(super) idle_since_ms: Option<u64>,
}

impl Leaver {
    pub(super) fn new(backend: Arc<Backend>, tracked: TrackedBackend, left_ms: u64) -> Self {
        Self { backend, tracked, left_ms, idle_since_ms: None }
    }

    /// It was asked until now.
    pub(super) fn is_asked(&self) -> bool {
        self.idle_since_ms.is_none() && self.tracked.target.is_some()
    }

    /// Its place in a view, while there is something to see of it.
    pub(super) fn left(&self, now_ms: u64) -> Option<Left> {
        let is_shown = self.idle_since_ms.is_none_or(|since_ms| now_ms < since_ms + SHOWN_MS);
        is_shown.then(|| Left {
            backend: Arc::clone(&self.backend),
            state: self.tracked.state.clone(),
            left_ms: self.left_ms,
        })
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

/// What is counted of one that left can be seen for so long after its last session.
pub(super) const SHOWN_MS: u64 = 15 * 60 * 1_000;
