//! Control: what the control thread of a running balancer holds, for whoever steers it: signals and the admin doors.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin_commands::ServedSocket;
use super::admin_sockets::HttpDoor;
use super::kept_listeners::KeptListeners;
use super::open_listeners::OpenListeners;
use super::periodic::{self, Periodic};
use super::stop::{self, Drained};
use super::terms::TermsBuilder;
use super::{Environment, File, Notify, Program};
use crate::access::Access;
use crate::admin::{self, Sources, Watchers};
use crate::backend_state::Mark;
use crate::config::settings::Settings;
use crate::health::Checker;
use crate::metrics::{Listeners, Reloads};
use crate::pool::SnapshotCell;
use crate::process_phase::Phase;
use crate::publisher::{NoSuch, Order, Whom, hash_key};
use crate::udp::SharedPorts;
use crate::worker::Workers;

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Nobody has that name.
    #[error(transparent)]
    NoSuch(#[from] NoSuch),
    /// The program is on its way out.
    #[error("the program is stopping")]
    Stopping,
}

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
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) phase: watch::Sender<Phase>,
    /// The admin doors let nobody in for the moment.
    pub(super) paused: watch::Sender<bool>,
    /// Until the end.
    checker: Mutex<Option<Checker>>,
    http: Mutex<Option<ServedHttp>>,
    pub(super) socket: Mutex<Option<ServedSocket>>,
    /// The zero of the clock that all threads share.
    pub(super) epoch: Instant,
    pub(super) usual_socket: Option<PathBuf>,
    pub(super) notify: Notify,
    pub(super) file: File,
    pub(super) kept_listeners: Mutex<KeptListeners>,
    pub(super) program: Program,
    /// The text of the configuration that is served.
    pub(super) text: Mutex<Arc<str>>,
    pub(super) reloads: Arc<Reloads>,
    watchers: Arc<Watchers>,
    log_lines_dropped: Arc<AtomicU64>,
    flow_hash_key: [u8; 16],
}

/// The HTTP door that is served.
struct ServedHttp {
    address: SocketAddr,
    fd: RawFd,
    stop: CancellationToken,
}

/// What a control side is made of.
pub(super) struct ControlParts {
    pub(super) workers: Arc<Workers>,
    pub(super) snapshots: Arc<SnapshotCell>,
    pub(super) served: OpenListeners,
    pub(super) checker: Checker,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) tasks: TaskTracker,
    pub(super) epoch: Instant,
    pub(super) ports: Arc<SharedPorts>,
}

impl Control {
    pub(super) fn new(parts: ControlParts, with: &Environment) -> Self {
        let ControlParts { workers, snapshots, served, checker, orders, tasks, epoch, ports } = parts;
        Self {
            workers,
            ports,
            snapshots,
            listeners: Arc::default(),
            served: Arc::new(Mutex::new(served)),
            reloading: tokio::sync::Mutex::new(()),
            orders,
            tasks,
            stop: CancellationToken::new(),
            phase: watch::channel(Phase::Starting).0,
            paused: watch::channel(false).0,
            checker: Mutex::new(Some(checker)),
            http: Mutex::new(None),
            socket: Mutex::new(None),
            epoch,
            usual_socket: with.usual_socket.clone(),
            notify: with.notify,
            text: Mutex::new(Arc::clone(&with.file.text)),
            file: with.file.clone(),
            kept_listeners: Mutex::default(),
            program: with.program.clone(),
            reloads: Arc::default(),
            watchers: Arc::default(),
            log_lines_dropped: Arc::clone(&with.log_lines_dropped),
            flow_hash_key: hash_key(with.seed),
        }
    }

    /// What is served. Held for a look or a change, never while waiting.
    pub(super) fn served(&self) -> MutexGuard<'_, OpenListeners> {
        lock(&self.served)
    }

    /// What the checker is told.
    pub(super) fn with_checker(&self, tell: impl FnOnce(&Checker)) {
        if let Some(checker) = &*lock(&self.checker) {
            tell(checker);
        }
    }

    /// Makes the terms of listeners.
    pub(super) fn terms_builder(&self, settings: &Settings) -> TermsBuilder {
        let tcp_sessions = self.workers.tcp_sessions_max();
        TermsBuilder::new(settings, tcp_sessions, self.workers.shared_udp_permits(), self.flow_hash_key)
    }

    /// Says something of a backend, or takes back what was said. `by`: who says so, for people.
    pub(super) async fn mark(&self, whom: Whom, mark: Option<Mark>, by: &str) -> Result<(), OrderError> {
        let by = by.into();
        self.order(|reply| Order::Mark { whom, mark, by, reply }).await
    }

    /// Sets the weight of a backend; `None`: the file's again.
    pub(super) async fn set_weight(
        &self,
        whom: Whom,
        weight: Option<u16>,
        by: &str,
    ) -> Result<(), OrderError> {
        let by = by.into();
        self.order(|reply| Order::Weight { whom, weight, by, reply }).await
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), NoSuch>>) -> Order,
    ) -> Result<(), OrderError> {
        let (reply, done) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| OrderError::Stopping)?;
        Ok(done.await.map_err(|_| OrderError::Stopping)??)
    }

    pub(super) fn http_address(&self) -> Option<SocketAddr> {
        lock(&self.http).as_ref().map(|http| http.address)
    }

    /// The listening socket of the HTTP door.
    pub(super) fn http_socket(&self) -> Option<RawFd> {
        lock(&self.http).as_ref().map(|http| http.fd)
    }

    /// Another process answers the commands now: its socket's file stays.
    pub(super) fn leave_socket_file(&self) {
        if let Some(socket) = &*lock(&self.socket) {
            socket.stays.set();
        }
    }

    /// Answers at this HTTP door from now on, and at no other.
    pub(super) fn serve_http(&self, door: Option<HttpDoor>) {
        let now = door.as_ref().map(|door| ServedHttp {
            address: door.address,
            fd: door.listener.as_raw_fd(),
            stop: door.stop.clone(),
        });
        if let Some(before) = std::mem::replace(&mut *lock(&self.http), now) {
            before.stop.cancel();
        }
        let Some(HttpDoor { listener, stop, .. }) = door else { return };
        self.tasks.spawn(admin::serve(listener, Arc::new(self.sources()), stop));
    }

    /// What the admin doors tell.
    pub(super) fn sources(&self) -> Sources {
        let (served, doors) = (Arc::clone(&self.served), Arc::clone(&self.served));
        Sources {
            snapshots: Arc::clone(&self.snapshots),
            listeners: Arc::clone(&self.listeners),
            workers: Arc::clone(&self.workers),
            phase: self.phase.subscribe(),
            paused: self.paused.subscribe(),
            log_lines_dropped: Arc::clone(&self.log_lines_dropped),
            reloads: Arc::clone(&self.reloads),
            watchers: Arc::clone(&self.watchers),
            epoch: self.epoch,
            addresses: Box::new(move || lock(&served).addresses()),
            allows: Box::new(move |name, client| {
                let settings = Arc::clone(&lock(&doors).settings);
                let listener = settings.listeners.iter().find(|listener| listener.name == name)?;
                Some(Access::new(&listener.allow, &listener.deny).allows(client))
            }),
        }
    }

    pub(super) fn status_line(&self) -> String {
        let line =
            periodic::status_line(&self.workers, self.served().settings.listeners.len(), &self.snapshots);
        let is_refused = self.reloads.last().is_some_and(|last| last.refused);
        if is_refused {
            format!("{line}; the file is refused, see the log: what was served goes on")
        } else {
            line
        }
    }

    pub(super) fn enter(&self, next: Phase) {
        let now = *self.phase.borrow();
        assert!(now.may_become(next), "{now:?} cannot become {next:?}");
        self.phase.send_replace(next);
    }

    /// Looks after what has to be looked after all the time.
    pub(super) fn start_periodic(self: &Arc<Self>) {
        let housekeeper = Periodic { control: Arc::clone(self), notify: self.notify };
        // The status line of a drain is the drain's own.
        let mut phase = self.phase.subscribe();
        self.tasks.spawn(async move {
            tokio::select! {
                () = housekeeper.run() => {}
                _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
            }
        });
        let watchdog = periodic::keep_watchdog_quiet(Arc::clone(&self.workers), self.notify);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = watchdog => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Another process has everything: ends every task here.
    pub(super) async fn depart(self: &Arc<Self>) {
        let checker = lock(&self.checker).take();
        if let Some(checker) = checker {
            checker.stop().await;
        }
        // Who came in before the doors closed may not have asked yet.
        tokio::time::sleep(LATE_QUESTIONS).await;
        self.serve_http(None);
        self.serve_socket(None);
        self.stop.cancel();
        self.tasks.close();
        // An answer under way is given; nothing else is worth waiting for.
        let _ = tokio::time::timeout(DEPARTURE_MAX, self.tasks.wait()).await;
    }

    /// Nothing new, time for living sessions, the cut, and the end of every task.
    pub(super) async fn stop(self: &Arc<Self>, hurry: impl Future<Output = ()>) -> Drained {
        // A reload under way comes to its end first.
        let reloading = self.reloading.lock().await;
        let phase = *self.phase.borrow();
        if phase == Phase::HandedOver {
            drop(reloading);
            self.depart().await;
            return Drained { sessions: 0, cut: 0 };
        }
        self.enter(Phase::Draining);
        drop(reloading);
        let grace = self.served().settings.shutdown.grace;
        let drained = stop::drain(&self.workers, grace, hurry, self.notify).await;
        stop::dismiss(&self.workers);
        let checker = lock(&self.checker).take();
        if let Some(checker) = checker {
            checker.stop().await;
        }
        self.serve_http(None);
        self.serve_socket(None);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        periodic::summarise_refusals(&self.listeners);
        self.phase.send_replace(Phase::Stopped);
        drained
    }
}

/// The lock of something whose holder cannot have left it half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers to commands that are under way when another process takes over.
const DEPARTURE_MAX: Duration = Duration::from_secs(1);
/// A command asks as soon as it is let in.
const LATE_QUESTIONS: Duration = Duration::from_millis(100);
