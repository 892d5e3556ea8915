//! Board: how the sources of each pool stand, for whoever looks: status, metrics, the next process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::absent::Absent;
use crate::manifest;

/// The sources of all pools that have some.
#[derive(Debug, Default)]
pub struct Board {
    pools: Mutex<BTreeMap<String, Arc<PoolRow>>>,
    changed: Notify,
}

/// The sources of one pool.
#[derive(Debug, Clone, Default)]
pub struct PoolRow {
    /// In the order of the file.
    pub sources: Vec<Row>,
    /// What changed so far.
    pub changes: Changes,
    /// More was found than `max_backends`.
    pub is_full: bool,
    /// What is found outlives a crash.
    pub is_remembered: bool,
    /// Who is not there, the latest at the end.
    pub absent: Vec<Absent>,
}

/// One source.
#[derive(Debug, Clone)]
pub struct Row {
    /// The entry of the file.
    pub source: String,
    /// How it stands, by its word.
    pub state: &'static str,
    /// Since when.
    pub since_ms: u64,
    /// Why.
    pub why: Option<String>,
    /// Names and addresses of what it found.
    pub found: Vec<(String, String)>,
    /// When it is asked again; `None`: it tells by itself.
    pub next_ms: Option<u64>,
    /// When it answered last.
    pub answered_ms: Option<u64>,
    /// Answers that named somebody, that named nobody, and failures.
    pub answers: [u64; 3],
    /// What the next process is told.
    pub told: manifest::Source,
}

/// What changed in a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Backends that were found.
    pub found: u64,
    /// Backends that left.
    pub left: u64,
    /// Lists that were published.
    pub changed: u64,
    /// Times that an answer took away too much to be believed at once.
    pub held: u64,
    /// Addresses that cannot be backends.
    pub refused: u64,
}

impl Board {
    /// How the sources of each pool stand, by its name.
    pub fn pools(&self) -> BTreeMap<String, Arc<PoolRow>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same of one pool; nothing of one without sources.
    pub fn pool(&self, name: &str) -> Option<Arc<PoolRow>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// Something has changed since this was called last; one may wait for that.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn set(&self, name: &str, row: PoolRow) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(row));
        self.changed.notify_one();
    }

    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| is_there(name));
        self.changed.notify_one();
    }
}
