//! Lists of found backends (what discovery told the publisher last), and what waits to be taken.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::config::settings::{self, Settings};
use crate::discovery::{Board, FoundSet, Handle, Request};
use crate::manifest;

/// What the publisher knows of discovery.
pub(super) struct Found {
    pub(super) settings: Arc<Settings>,
    /// The last list of each pool.
    sets: HashMap<String, FoundSet>,
    /// Pools whose sources have not all answered yet, while somebody waits for that.
    unheard: HashSet<String>,
    /// Another process was told of the pools: until then nothing changes.
    pub(super) rests_until: Option<Instant>,
    /// Pools whose list waits for that.
    pub(super) waiting: HashSet<String>,
    requests: mpsc::Sender<Request>,
    board: Arc<Board>,
}

impl Found {
    pub(super) fn new(settings: Arc<Settings>, sets: Vec<FoundSet>, discovery: Handle) -> Self {
        let unheard = sets.iter().filter(|set| !set.is_heard).map(|set| set.pool.clone()).collect();
        Self {
            settings,
            sets: sets.into_iter().map(|set| (set.pool.clone(), set)).collect(),
            unheard,
            rests_until: None,
            waiting: HashSet::new(),
            requests: discovery.requests,
            board: discovery.board,
        }
    }

    /// The pool with what its sources have found.
    pub(super) fn effective(&self, pool: &settings::Pool) -> settings::Pool {
        let mut pool = pool.clone();
        if let Some(set) = self.sets.get(&pool.name).filter(|_| !pool.sources.is_empty()) {
            pool.backends.extend(set.backends.iter().cloned());
        }
        pool
    }

    /// The file says this now, and these are found at the same moment.
    pub(super) fn follow(&mut self, settings: &Arc<Settings>, sets: Vec<FoundSet>) {
        self.settings = Arc::clone(settings);
        for set in sets {
            self.note(set);
        }
        let has_sources =
            |name: &String| settings.pools.iter().any(|pool| pool.name == *name && !pool.sources.is_empty());
        self.sets.retain(|name, _| has_sources(name));
        self.unheard.retain(has_sources);
        self.waiting.clear();
    }

    /// Keeps a list, if it is a later one.
    pub(super) fn note(&mut self, set: FoundSet) -> bool {
        if self.sets.get(&set.pool).is_some_and(|known| known.number >= set.number) {
            return false;
        }
        if set.is_heard {
            self.unheard.remove(&set.pool);
        }
        self.sets.insert(set.pool.clone(), set);
        true
    }

    /// Everybody who is asked for backends has answered once, or failed to.
    pub(super) fn is_heard(&self) -> bool {
        self.unheard.is_empty()
    }

    /// Another process is told of the pools.
    pub(super) fn rest(&mut self) {
        self.rests_until = Some(Instant::now() + HANDOVER_MAX);
    }

    /// When lists that wait are to be taken.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.rests_until.filter(|_| !self.waiting.is_empty())
    }

    /// A backend of this pool went down: its sources may know better.
    pub(super) fn hurry(&self, pool: &settings::Pool) {
        if !pool.sources.is_empty() {
            // Where many requests wait already, one more makes nothing sooner.
            let _ = self.requests.try_send(Request::Hurry(pool.name.clone()));
        }
    }

    /// What the next process is told of the sources of a pool.
    pub(super) fn export(&self, pool: &str) -> Vec<manifest::Source> {
        let row = self.board.pool(pool);
        row.map_or_else(Vec::new, |row| row.sources.iter().map(|source| source.told.clone()).collect())
    }
}

/// No handover takes longer.
const HANDOVER_MAX: Duration = Duration::from_secs(60);
