//! Control: what the control thread of a running balancer holds: data and locks. What is done with it stands with what
//! is done: orders, doors, reload, start, stop.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::environment::{Environment, File, Program};
use super::handover::Successor;
use super::kept_listeners::KeptListeners;
use super::network_files::WatchedFiles;
use super::open_listeners::OpenListeners;
use super::rates::RatesBefore;
use super::run_time::RunTime;
use super::side_thread::SideThreads;
use super::withdrawal::Withdrawal;
use crate::admin::{CachedTexts, Gate, Watchers};
use crate::config;
use crate::discovery;
use crate::health::Checker;
use crate::metrics::{Listeners, Reloads};
use crate::pool::SnapshotCell;
use crate::process_phase::{Phase, Withdrawn};
use crate::publisher::{Order, hash_key};
use crate::sys::unix::Stays;
use crate::systemd::Notify;
use crate::udp::SharedPorts;
use crate::worker::Workers;

/// The control side.
pub(super) struct Control {
    pub(super) workers: Arc<Workers>,
    /// Local ports of flows.
    pub(super) ports: Arc<SharedPorts>,
    pub(super) snapshots: Arc<SnapshotCell>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) served: Arc<Mutex<OpenListeners>>,
    /// Held by the reload under way.
    pub(super) reloading: tokio::sync::Mutex<()>,
    /// Held by whoever reads the file, or changes backends beside it.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) run_time: Arc<RunTime>,
    pub(super) orders: mpsc::Sender<Order>,
    /// Where the sources of pools are asked.
    pub(super) discovery: discovery::Handle,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) phase: watch::Sender<Phase>,
    /// The process that has everything now, where no manager was told of it.
    pub(super) successor: Arc<OnceLock<Successor>>,
    /// Of the admin doors.
    pub(super) gate: Arc<Gate>,
    pub(super) texts: Arc<CachedTexts>,
    /// Where the admin doors are served.
    pub(super) admin: Handle,
    /// From the first question to the end.
    pub(super) checker: Mutex<Option<Checker>>,
    pub(super) side_threads: Mutex<Option<SideThreads>>,
    /// By what they offer.
    pub(super) http: Mutex<[Option<ServedHttp>; 2]>,
    pub(super) socket: Mutex<Option<ServedSocket>>,
    /// The zero of the clock that all threads share.
    pub(super) epoch: Instant,
    /// Descriptors from this number on are for handovers and what they ask.
    pub(super) last_numbers: u64,
    pub(super) usual_socket: Option<PathBuf>,
    pub(super) notify: Notify,
    pub(super) file: File,
    pub(super) kept_listeners: Mutex<KeptListeners>,
    pub(super) program: Program,
    /// What tells that text from others.
    pub(super) file_number: Arc<AtomicU32>,
    /// The text of the configuration that is served.
    pub(super) text: Mutex<Arc<str>>,
    pub(super) reloads: Arc<Reloads>,
    /// Of `allow`, `deny` and `accept_proxy`.
    pub(super) network_files: Arc<WatchedFiles>,
    pub(super) watchers: Arc<Watchers>,
    pub(super) log_lines_dropped: Arc<AtomicU64>,
    pub(super) flow_hash_key: [u8; 16],
    pub(super) withdrawal: Arc<Withdrawal>,
    /// For the first terms that are made.
    pub(super) rates_before: Mutex<RatesBefore>,
}

/// The HTTP door that is served.
pub(super) struct ServedHttp {
    pub(super) address: SocketAddr,
    pub(super) fd: RawFd,
    pub(super) stop: CancellationToken,
}

/// The socket that is served.
pub(super) struct ServedSocket {
    pub(super) path: PathBuf,
    pub(super) fd: RawFd,
    /// Makes its file outlive this process.
    pub(super) stays: Stays,
    pub(super) stop: CancellationToken,
}

/// What a control side is made of.
pub(super) struct ControlParts {
    pub(super) workers: Arc<Workers>,
    pub(super) snapshots: Arc<SnapshotCell>,
    pub(super) served: OpenListeners,
    pub(super) side_threads: SideThreads,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) discovery: discovery::Handle,
    pub(super) epoch: Instant,
    pub(super) ports: Arc<SharedPorts>,
}

/// Beside what else outlives the process.
fn withdrawn_path(with: &Environment) -> Option<PathBuf> {
    with.generations.as_ref().map(|path| path.with_file_name("withdrawn"))
}

impl Control {
    /// `withdrawn_before`: what the process before said of that.
    pub(super) fn new(
        parts: ControlParts,
        last_numbers: u64,
        with: &Environment,
        withdrawn_before: Option<Option<Withdrawn>>,
    ) -> Self {
        let ControlParts { workers, snapshots, served, side_threads, orders, discovery, epoch, ports } =
            parts;
        Self {
            workers,
            ports,
            snapshots,
            listeners: Arc::default(),
            served: Arc::new(Mutex::new(served)),
            reloading: tokio::sync::Mutex::new(()),
            changing: tokio::sync::Mutex::new(()),
            run_time: Arc::new(RunTime::new(
                with.run_time.clone(),
                Arc::clone(&with.file.base),
                Arc::clone(&with.file.changes),
            )),
            orders,
            discovery,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            phase: watch::channel(Phase::Starting).0,
            successor: Arc::default(),
            gate: Arc::default(),
            texts: Arc::default(),
            admin: side_threads.admin.runtime().clone(),
            checker: Mutex::new(None),
            side_threads: Mutex::new(Some(side_threads)),
            http: Mutex::default(),
            socket: Mutex::new(None),
            epoch,
            last_numbers,
            usual_socket: with.usual_socket.clone(),
            notify: with.notify,
            file_number: Arc::new(AtomicU32::new(config::number(&with.file.base))),
            text: Mutex::new(Arc::clone(&with.file.text)),
            file: with.file.clone(),
            kept_listeners: Mutex::default(),
            program: with.program.clone(),
            reloads: Arc::new(Reloads::of(Arc::clone(&with.file.names))),
            network_files: Arc::default(),
            watchers: Arc::default(),
            log_lines_dropped: Arc::clone(&with.log_lines_dropped),
            flow_hash_key: hash_key(with.seed),
            withdrawal: Arc::new(Withdrawal::new(withdrawn_path(with), withdrawn_before)),
            rates_before: Mutex::default(),
        }
    }

    /// The clock that all threads share.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What is served. Held for a look or a change, never while waiting.
    pub(super) fn served(&self) -> MutexGuard<'_, OpenListeners> {
        lock(&self.served)
    }

    /// The health checks, the publisher and the admin doors end where they stand.
    pub(super) fn end_side_threads(&self) {
        if let Some(threads) = lock(&self.side_threads).take() {
            threads.end();
        }
    }

    pub(super) fn enter(&self, next: Phase) {
        let now = *self.phase.borrow();
        assert!(now.may_become(next), "{now:?} cannot become {next:?}");
        self.phase.send_replace(next);
    }
}

/// The lock of something whose holder cannot have left it half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
