//! Target: whom the checks ask, and what is said of it: one check that is over, and the verdict after it.

use std::sync::Arc;
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
    /// Up or down already, as a process before this one found it; `None`: it is to be tested.
    pub known: Option<bool>,
}

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
