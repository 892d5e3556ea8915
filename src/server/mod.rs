//! Server lifecycle: doors bound, threads spawned, checks begun, accepting, reloaded, drained, stopped.
//!
//! Everything it needs is an argument; two servers run in one process.

mod admin_commands;
mod admin_sockets;
mod cancels;
mod change_backends;
mod config_file;
mod config_paths;
mod connect_from;
mod control;
mod environment;
mod error;
mod fd_budget;
mod found_file;
mod generations;
mod handover;
mod kept_listeners;
mod network_files;
mod open_listeners;
mod orders;
mod periodic;
mod preview;
mod rates;
mod reload;
mod run_time;
mod secrets;
mod side_thread;
mod start;
mod state_file;
mod stop;
mod terms;
mod withdrawal;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

use crate::admin::Offers;
use crate::backend_state::Mark;
use crate::config::settings::Settings;
use crate::discovery::Board;
use crate::metrics::ListenerCounters;
use crate::pool::SnapshotCell;
use crate::process_phase::Phase;
pub use crate::publisher::{NoSuch, Whom};
pub use crate::systemd::Notify;
use crate::transfer::Stash;
use crate::worker::Workers;
pub use config_file::{read_changed, read_document, read_standard_input};
pub use connect_from::ForeignError;
use control::Control;
pub use environment::{Document, Environment, File, Program};
pub use error::{HttpError, Refused, ReloadError, SocketError, StartError};
pub use handover::{
    Beginning, HANDOVER_VARIABLE, HandedOver, HandoverError, Inherited, Predecessor, Stashed, Stuck,
    Succeeded, Successor, UpgradeError, end_with_follower, keep_stash,
};
pub use orders::OrderError;
pub use reload::Changes;
pub use stop::Drained;

/// A running balancer.
pub struct Server {
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
    /// Cancelled by the first thread that ends, or whose work does.
    thread_ended: CancellationToken,
}

impl Server {
    /// Starts; on return it accepts. Must be called on a tokio runtime with I/O and time, which then carries the
    /// control work; health checks, the publisher and the admin doors have threads of their own. On an error nothing is left behind.
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

    /// After a handover: the process that has everything, for which signals are that come here; unless a manager was told.
    pub fn successor(&self) -> Arc<OnceLock<Successor>> {
        Arc::clone(&self.control.successor)
    }

    /// Leaves everything for a process that comes later. On an error everything goes on as before; afterwards this process
    /// has nothing left to do.
    pub async fn stash(&self, stash: &Stash) -> Result<HandedOver, HandoverError> {
        self.control.stash(stash).await
    }

    /// SIGTERM under a service manager that is to start the program again: everything is left for the next process. False:
    /// this process stops as it always did.
    pub async fn leave_for_next(&self, stash: &Stash, config: &[PathBuf]) -> bool {
        self.control.leave_for_next(stash, config).await
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

    /// What is served stands in these files now.
    fn now_from(&self, files: Arc<[String]>) {
        self.control.reloads.set_files(files);
    }

    /// What was changed at run time outlives a stop, as far as it can.
    async fn keep_changes(&self) {
        // A failure is in the log.
        let _ = self.control.keep_changes().await;
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
        self.control.http_address(Offers::Everything)
    }

    /// Where the commands reach it.
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.control.socket_path()
    }

    /// How the sources of backends stand.
    pub fn discovery(&self) -> &Board {
        &self.control.discovery.board
    }

    /// Asks the sources of a pool, or of all, at once; false: it has none.
    pub async fn refresh(&self, pool: Option<String>) -> bool {
        self.control.refresh(pool).await
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

    /// Completes when a data thread, the health checks or the publisher have ended although nobody asked them to: a fault of
    /// our own. The process should end with an error then, so that its manager starts a whole one.
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
