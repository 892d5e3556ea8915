//! Sources of all answers: what the admin doors read, who watches, and who gives an order.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use super::cached_texts::{Basis, CachedTexts};
use super::gate::Gate;
use crate::config::RunTimeChange;
use crate::config::settings::Role;
use crate::discovery::Board;
use crate::metrics::{Listeners, Reloads};
use crate::pool::SnapshotCell;
use crate::process_phase::{Phase, Withdrawn};
use crate::reason::Reason;
use crate::routing::Facts;
use crate::worker::Workers;

/// What answers are made of: counters and the snapshot. Reading them disturbs nobody.
pub struct Sources {
    /// The pools.
    pub snapshots: Arc<SnapshotCell>,
    /// How the sources of backends stand.
    pub discovery: Arc<Board>,
    /// The listeners.
    pub listeners: Arc<Listeners>,
    /// The data threads.
    pub workers: Arc<Workers>,
    /// The life of the process.
    pub phase: watch::Receiver<Phase>,
    /// Log lines that found no room.
    pub log_lines_dropped: Arc<AtomicU64>,
    /// How often the file was read again.
    pub reloads: Arc<Reloads>,
    /// Who watches the dashboard.
    pub watchers: Arc<Watchers>,
    /// The zero of the clock that all threads share.
    pub epoch: Instant,
    /// Closed while another process may take over, which would answer those that wait.
    pub gate: Arc<Gate>,
    /// What was rendered last.
    pub texts: Arc<CachedTexts>,
    /// Descriptors from this number on are the last ones, which handovers need.
    pub last_numbers: u64,
    /// Where each listener accepts.
    pub addresses: Box<dyn Fn() -> Vec<(String, SocketAddr)> + Send + Sync>,
    /// Whether the lists or the limits of the listener of this name would keep a client out at this moment of the clock.
    pub refuses: Box<Refuses>,
    /// Where a client goes at the listener of this name; `None`: there is none.
    pub route: Box<RouteOf>,
    /// What commands changed beside the file.
    pub run_time: Box<dyn Fn() -> Arc<[RunTimeChange]> + Send + Sync>,
    /// Who wants nobody sent to this machine.
    pub withdrawn: Box<dyn Fn() -> Option<Withdrawn> + Send + Sync>,
    /// How the files of networks stand.
    pub network_files: Box<dyn Fn() -> Vec<NetworkFileRow> + Send + Sync>,
    /// What tells the file that is served from others.
    pub file_number: Box<dyn Fn() -> u32 + Send + Sync>,
    /// Whether `admin.hosts` has this name.
    pub has_host: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// Where a client of whom this is known goes at the listener of this name.
pub type RouteOf = dyn Fn(&str, &Facts<'_>) -> Option<Routed> + Send + Sync;

/// Where a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routed {
    /// There.
    To {
        /// Where the pool stands in the snapshot.
        pool: usize,
        /// Which of its backends.
        role: Role,
        /// By the route of this number; `None`: by none, to the pool of the listener.
        route: Option<usize>,
    },
    /// No route is for it, and the listener has no other pool.
    Nowhere,
    /// What it says first decides.
    AsksFirst,
}

/// What comes of this client at the listener of this name, now.
pub type Refuses = dyn Fn(&str, IpAddr, u64) -> Entry + Send + Sync;

/// What becomes of a client at a listener.
#[derive(Debug, Default)]
pub struct Entry {
    /// Why it is kept out; `None`: it comes in.
    pub refused: Option<Reason>,
    /// Which network of its lists decided, and where that stands; `None`: it has no lists.
    pub why: Option<String>,
}

/// A file of networks, for people and scrapers.
#[derive(Debug)]
pub struct NetworkFileRow {
    /// Its path.
    pub path: String,
    /// Networks that are served.
    pub networks: usize,
    /// Since when they are.
    pub age_s: u64,
    /// How often what it said was refused.
    pub failures: u64,
    /// It is refused now: since when, and why.
    pub failure: Option<(u64, String)>,
}

/// How many watch and how many follow, and how many were not let, by all doors of the process.
#[derive(Debug, Default)]
pub struct Watchers {
    pub(super) followers: AtomicU64,
    pub(super) followers_refused: AtomicU64,
    pub(super) now: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) cut: AtomicU64,
}

impl Watchers {
    /// Who watches.
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Who follows readiness, and who found no place.
    pub(super) fn followers(&self) -> (u64, u64) {
        (self.followers.load(Ordering::Relaxed), self.followers_refused.load(Ordering::Relaxed))
    }

    /// Who found no place.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Who did not read, and was cut.
    pub(super) fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

/// Who gives an order at the socket of the commands.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// For people.
    pub(super) name: String,
    /// Root, or the user that this process is: such a one may name the program that is run.
    pub(super) is_owner: bool,
}

impl Sources {
    /// Basis of a text: what tells whether it still holds.
    pub(super) fn basis(&self) -> Basis {
        let read = self.reloads.done.load(Ordering::Relaxed) + self.reloads.refused.load(Ordering::Relaxed);
        let changes = self.texts.changes() + read + *self.phase.borrow() as u64;
        Basis { at_ms: self.now_ms(), changes, generation: self.snapshots.load().generation }
    }

    /// This connection has one of the last descriptors: the kernel gives the lowest that is free.
    pub(super) fn is_crowded(&self, connection: &impl AsRawFd) -> bool {
        u64::try_from(connection.as_raw_fd()).is_ok_and(|number| number >= self.last_numbers)
    }

    /// The time on the clock that all threads share.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Watchers at once. With 10,000 backends a text has some 4.4 MB, and that many who hardly read hold two each.
pub(super) const WATCHERS_MAX: u64 = 16;
/// Programs that follow readiness at once: one for each that moves an address or a route.
pub(super) const FOLLOWERS_MAX: u64 = 16;
