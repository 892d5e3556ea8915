//! Target: whom the checks ask, and what is said of it: one check that is over, and the verdict after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::outcome::Outcome;
use crate::config::settings::Health;
use crate::liveness::{Change, Progress, State};
use crate::sys::probe::Route;

/// Names a target in events. Chosen by the caller, unique in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u64);

/// One address to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in events.
    pub id: TargetId,
    /// Whom to ask, `health.port` being applied already, and from where.
    pub route: Route,
    /// What, how often, how long. A target with [`Check::Off`](crate::config::settings::Check::Off) is never asked and sends no event.
    pub health: Arc<Health>,
    /// Whether it is asked sooner than its interval says.
    pub haste: Haste,
    /// Up or down already, as a process before this one found it; `None`: it is to be tested.
    pub known: Option<bool>,
}

/// Haste of all backends of a pool: while somebody asks for it, each is asked at `interval / 4`.
#[derive(Debug, Clone, Default)]
pub struct Haste(Arc<AtomicBool>);

impl Haste {
    /// The one that others set as well.
    pub fn of(shared: &Arc<AtomicBool>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Of the same pool.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// It says when somebody is asked, not who and what: targets are the same without it.
impl PartialEq for Haste {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Haste {}

/// One check is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Who was asked.
    pub target: TargetId,
    /// When the check began.
    pub began: Instant,
    /// How long until the answer, or until none was waited for any more.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
    /// What is known of the target now.
    pub verdict: Verdict,
}

/// What is known of a target after a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Untested only while no check has got past a local error.
    pub state: State,
    /// What this check changed.
    pub change: Option<Change>,
    /// How far it is on its way to the other state.
    pub progress: Progress,
}
