//! Server lifecycle: doors bound, threads spawned, checks begun, accepting, reloaded, drained, stopped.
//!
//! Everything it needs is an argument; two servers run in one process.

mod admin_commands;
mod admin_sockets;
mod connect_from;
mod control;
mod fd_budget;
mod handover;
mod kept_listeners;
mod open_listeners;
mod periodic;
mod reload;
mod start;
mod stop;
mod terms;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

use crate::backend_state::Mark;
use crate::config::settings::{Level, Settings};
use crate::listener::BindError;
use crate::metrics::ListenerCounters;
use crate::pool::SnapshotCell;
use crate::process_phase::Phase;
pub use crate::publisher::{NoSuch, Whom};
use crate::sys::udp_probe::Offloads;
use crate::systemd::FdStore;
pub use crate::systemd::Notify;
use crate::transfer::{Channel, Stash};
use crate::worker::Workers;
pub use admin_commands::SocketError;
pub use admin_sockets::HttpError;
pub use connect_from::ForeignError;
use control::Control;
pub use control::OrderError;
pub use handover::{
    HANDOVER_VARIABLE, HandedOver, HandoverError, Inherited, Program, Stuck, Succeeded, UpgradeError,
};
pub use reload::{Changes, Refused, ReloadError};
use start::warn_of_shortage;
pub use stop::Drained;

/// What a server is given by the program around it.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The service manager.
    pub notify: Notify,
    /// Log lines that found no room.
    pub log_lines_dropped: Arc<AtomicU64>,
    /// Moves all chance: picks, jitter.
    pub seed: u64,
    /// What a reload needs.
    pub file: File,
    /// What an upgrade starts.
    pub program: Program,
    /// Listening sockets that the service manager kept from a process before.
    pub kept: Arc<Mutex<FdStore>>,
    /// Where the commands look for the socket when nothing else is said; `None`: nowhere.
    pub usual_socket: Option<PathBuf>,
    /// What the kernel does with several datagrams at once.
    pub offloads: Offloads,
}

impl Environment {
    /// Of a balancer inside another program: no service manager, no file, no socket.
    pub fn embedded(seed: u64, offloads: Offloads) -> Self {
        Self {
            notify: Notify::nobody(),
            log_lines_dropped: Arc::default(),
            seed,
            file: File::none(),
            program: Program::default(),
            kept: Arc::default(),
            usual_socket: None,
            offloads,
        }
    }
}

/// The file behind a balancer, and the log it may turn up.
#[derive(Clone)]
pub struct File {
    /// Where it is, for people.
    pub path: String,
    /// What it said when the balancer started.
    pub text: Arc<str>,
    /// Reads and checks it.
    pub read: Arc<dyn Fn() -> Result<Document, Refused> + Send + Sync>,
    /// Sets the level of the log.
    pub set_log_level: Arc<dyn Fn(Level) + Send + Sync>,
}

/// A file that was read and is right.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it means.
    pub settings: Settings,
    /// What it says.
    pub text: Arc<str>,
}

impl File {
    /// There is none: for a balancer inside another program.
    pub fn none() -> Self {
        Self {
            path: String::new(),
            text: "".into(),
            read: Arc::new(|| Err(Refused::Unreadable("this balancer has no file".into()))),
            set_log_level: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("File")
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A door cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP address cannot be bound.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The socket of the commands cannot be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Clients' addresses may not be used.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// What another process had cannot be taken over.
    #[error("{0}")]
    Inherited(String),
    /// The system refuses a thread or what it needs.
    #[error(
        "a data thread cannot be started: {0}; raise LimitNOFILE=, TasksMax= or the memory limit, or lower `workers`"
    )]
    Thread(#[source] std::io::Error),
}

/// A running balancer.
pub struct Server {
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
    /// Cancelled by the first thread that ends.
    thread_ended: CancellationToken,
}

impl Server {
    /// Starts; on return it accepts. Must be called on a tokio runtime with I/O and time, which then carries the
    /// control work. On an error nothing is left behind.
    pub async fn start(settings: &Settings, with: &Environment) -> Result<Self, StartError> {
        Self::begin(settings, with, None).await
    }

    /// Starts with everything that another process had, under the configuration that was served there. On an error
    /// nothing of it was touched.
    pub async fn take_over(
        settings: &Settings,
        with: &Environment,
        inherited: Inherited,
    ) -> Result<Self, StartError> {
        Self::begin(settings, with, Some(inherited)).await
    }

    /// Gives everything to the process at the other end of the line. On an error everything goes on as before; afterwards
    /// this process has nothing left to do.
    pub async fn hand_over(&self, channel: &Channel) -> Result<HandedOver, HandoverError> {
        self.control.hand_over(channel).await
    }

    /// Starts the program anew, from its own file or another, and gives it everything. On an error everything goes on here.
    pub async fn upgrade(&self, binary: Option<&Path>) -> Result<Succeeded, UpgradeError> {
        self.control.upgrade(binary).await
    }

    /// Completes when another process has everything.
    pub async fn handed_over(&self) {
        let mut phase = self.control.phase.subscribe();
        // The sender lives as long as the server.
        let _ = phase.wait_for(|phase| *phase == Phase::HandedOver).await;
    }

    /// The end of a process that has handed over: whoever gave an order hears what came of it.
    pub async fn depart(self) {
        self.control.depart().await;
    }

    /// Leaves everything for a process that comes later. On an error everything goes on as before; afterwards this process
    /// has nothing left to do.
    pub async fn stash(&self, stash: &Stash) -> Result<HandedOver, HandoverError> {
        self.control.stash(stash).await
    }

    /// The file is refused and what another process served goes on: tells the log, the status and whoever asks.
    pub fn note_refused(&self, refused: &Refused) {
        self.control.note_refused(refused);
    }

    /// Gives sessions whose listener is not in the file any more the grace.
    pub fn drain_orphans(&self) {
        self.control.drain_orphans();
    }

    /// Serves these settings from now on; on an error nothing has changed.
    pub async fn reload(&self, settings: Settings) -> Result<Changes, ReloadError> {
        self.control.reload(settings).await
    }

    /// Reads the file again and serves what it says; tells the service manager and the log what came of it.
    pub async fn reload_file(&self) -> Result<Changes, Refused> {
        self.control.reload_file().await
    }

    /// Says something of a backend, or takes back what was said. `by`: who says so, for people.
    pub async fn mark(&self, whom: Whom, mark: Option<Mark>, by: &str) -> Result<(), OrderError> {
        self.control.mark(whom, mark, by).await
    }

    /// Sets the weight of a backend; `None`: the file's again.
    pub async fn set_weight(&self, whom: Whom, weight: Option<u16>, by: &str) -> Result<(), OrderError> {
        self.control.set_weight(whom, weight, by).await
    }

    /// Where each listener accepts, in the order of the file.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.control.served().addresses()
    }

    /// Where the HTTP door is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.control.http_address()
    }

    /// Where the commands reach it.
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.control.socket_path()
    }

    /// What all threads look at.
    pub fn snapshots(&self) -> &SnapshotCell {
        &self.control.snapshots
    }

    /// The data threads.
    pub fn workers(&self) -> &Workers {
        &self.control.workers
    }

    /// The counters of a listener.
    pub fn counters(&self, listener: &str) -> Option<Arc<ListenerCounters>> {
        self.control.listeners.named(listener.as_bytes())
    }

    /// Completes when a data thread has ended although nobody asked it to: a fault of our own. The process should end
    /// with an error then, so that its manager starts a whole one.
    pub async fn broken(&self) {
        self.thread_ended.cancelled().await;
        // Threads that were told to leave are none.
        let phase = *self.control.phase.borrow();
        if phase == Phase::HandedOver {
            std::future::pending::<()>().await;
        }
    }

    /// Stops: nothing new, `shutdown.grace` for living sessions (or until `hurry` completes), then the cut.
    pub async fn stop(mut self, hurry: impl Future<Output = ()>) -> Drained {
        let drained = self.control.stop(hurry).await;
        for thread in self.threads.drain(..) {
            // A thread that does not turn is left to the end of the process; one that panicked has said so.
            if self.control.workers.sessions() == 0 {
                let _ = thread.join();
            }
        }
        drained
    }
}
