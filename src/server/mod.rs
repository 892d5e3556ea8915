//! The life of a balancer: doors bound, threads spawned, checks begun, accepting, reloaded, drained, stopped.
//!
//! Everything it needs is an argument; two servers run in one process.

mod ancestry;
mod budget;
mod control;
mod estate;
mod heritage;
mod housekeeping;
mod http;
mod keeping;
mod notify;
mod origins;
mod pools;
mod publisher;
mod reload;
mod served;
mod standstill;
mod steering;
mod stopping;
mod succession;
mod terms;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::config::settings::{Level, Protocol, Settings, Workers};
use crate::handover::{Line, Park, Store};
use crate::health::Checker;
use crate::limits::Places;
use crate::listener::{self, BindError, BoundDoor, DoorSocket};
use crate::metrics::ListenerCounters;
use crate::phase::Phase;
use crate::pool::Published;
use crate::standing::Mark;
use crate::sys::limits as system;
use crate::sys::udp_probe::Offloads;
use crate::udp::{self, ClientPairs};
use crate::workbench::Random;
use crate::worker::{self, Crew, Plan};
use ancestry::Ancestry;
use budget::Budget;
pub use control::OrderError;
use control::{Control, Parts};
pub use estate::{HandedOver, HandoverError};
pub use heritage::Heritage;
use http::HttpDoor;
pub use http::HttpError;
pub use notify::Notify;
pub use origins::ForeignError;
use publisher::{Beginnings, Order, Publisher};
pub use publisher::{NoSuch, Whom};
pub use reload::{Changes, Refused, ReloadError};
use served::{Matched, Served};
use standstill::Standstill;
pub use standstill::Stuck;
use steering::SocketDoor;
pub use steering::SocketError;
pub use stopping::Drained;
pub use succession::{HANDOVER_VARIABLE, Program, Succeeded, UpgradeError};

/// What a server is given by the program around it.
#[derive(Debug, Clone)]
pub struct Surroundings {
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
    pub kept: Arc<Mutex<Store>>,
    /// Where the commands look for the socket when nothing else is said; `None`: nowhere.
    pub usual_socket: Option<PathBuf>,
    /// What the kernel does with several datagrams at once.
    pub offloads: Offloads,
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
    Heritage(String),
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
}

impl Server {
    /// Starts; on return it accepts. Must be called on a tokio runtime with I/O and time, which then carries the
    /// control work. On an error nothing is left behind.
    pub async fn start(settings: &Settings, with: &Surroundings) -> Result<Self, StartError> {
        Self::begin(settings, with, None).await
    }

    /// Starts with everything that another process had, under the configuration that was served there. On an error
    /// nothing of it was touched.
    pub async fn take_over(
        settings: &Settings,
        with: &Surroundings,
        heritage: Heritage,
    ) -> Result<Self, StartError> {
        Self::begin(settings, with, Some(heritage)).await
    }

    async fn begin(
        settings: &Settings,
        with: &Surroundings,
        mut heritage: Option<Heritage>,
    ) -> Result<Self, StartError> {
        origins::check(settings)?;
        let open_files = system::raise_open_files();
        let workers = workers_of(settings);
        let budget = Budget::new(open_files, settings, workers);
        warn_of_shortage(&budget, open_files);
        udp::tell_lacks(&with.offloads);
        let settings = Arc::new(settings.clone());
        let mut served = Served::new(Arc::clone(&settings));
        let mut kept = std::mem::take(&mut *control::lock(&with.kept));
        let names: Vec<String> = kept.kept.iter().map(|(name, _)| name.clone()).collect();
        let (matched, doors) = open_doors(&settings, &mut served, heritage.as_mut(), &mut kept, workers)?;
        let http = match heritage.as_mut().and_then(|heritage| heritage.http(&settings)) {
            Some(door) => Some(door),
            None => HttpDoor::bind(&settings).await?,
        };
        let socket = match heritage.as_mut().and_then(Heritage::socket) {
            Some(door) => Some(door),
            None => SocketDoor::bind(&settings, with.usual_socket.as_deref())?,
        };
        let udp_places = Arc::new(Places::new(Some(budget.udp_sessions)));
        let crew = Crew::new(workers, budget.tcp_sessions, udp_places)
            .map_err(|errno| StartError::Thread(errno.into()))?;
        let crew = Arc::new(crew);
        let alarm = Arc::new(tokio::sync::Notify::new());
        let epoch = heritage.as_ref().map_or_else(Instant::now, Heritage::epoch);
        let before = heritage.as_ref().map(|heritage| heritage.manifest().pools.clone()).unwrap_or_default();
        let mut ancestry = Ancestry::new(&before, epoch.elapsed());
        let (published, maker) = pools::publish_first(&settings, &crew, &alarm, with.seed, &mut ancestry);
        let threads = spawn_threads(&crew, &published, epoch, with)?;

        let (first_round, round_over) = oneshot::channel();
        let beginnings = Beginnings {
            published: Arc::clone(&published),
            crew: Arc::clone(&crew),
            maker,
            hash_seed: settings.hash_seed.clone(),
            epoch,
            alarm,
            first_round,
        };
        let tasks = TaskTracker::new();
        let (checker, orders) = begin_checks(&settings, beginnings, &tasks, budget.probes, with.seed);
        let control =
            Arc::new(Control::new(Parts { crew, published, served, checker, orders, tasks, epoch }, with));
        let opening = Opening { matched, doors, http, socket };
        match heritage {
            None => control.open(&settings, opening, round_over).await,
            Some(heritage) => control.inherit(&settings, opening, heritage, &ancestry).await?,
        }
        control.forget_strangers(names.iter().map(String::as_str));
        control.enter(Phase::Running);
        control.keep_house();
        with.notify.ready(&control.status_line());
        Ok(Self { control, threads })
    }

    /// Gives everything to the process at the other end of the line. On an error everything goes on as before; afterwards
    /// this process has nothing left to do.
    pub async fn hand_over(&self, line: &Line) -> Result<HandedOver, HandoverError> {
        self.control.hand_over(line).await
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
    pub async fn park(&self, park: &Park) -> Result<HandedOver, HandoverError> {
        self.control.park(park).await
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
    pub fn published(&self) -> &Published {
        &self.control.published
    }

    /// The data threads.
    pub fn crew(&self) -> &Crew {
        &self.control.crew
    }

    /// The counters of a listener.
    pub fn counters(&self, listener: &str) -> Option<Arc<ListenerCounters>> {
        self.control.listeners.named(listener.as_bytes())
    }

    /// Completes when a data thread has ended although nobody asked it to: a fault of our own. The process should end
    /// with an error then, so that its manager starts a whole one.
    pub async fn broken(&self) {
        while !self.threads.iter().any(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Stops: nothing new, `shutdown.grace` for living sessions (or until `hurry` completes), then the cut.
    pub async fn stop(mut self, hurry: impl Future<Output = ()>) -> Drained {
        let drained = self.control.stop(hurry).await;
        for thread in self.threads.drain(..) {
            // A thread that does not turn is left to the end of the process; one that panicked has said so.
            if self.control.crew.sessions() == 0 {
                let _ = thread.join();
            }
        }
        drained
    }
}

impl Control {
    /// Opens the doors when every backend that is asked has answered, or some time has passed.
    async fn open(
        self: &Arc<Self>,
        settings: &Arc<Settings>,
        opening: Opening,
        round_over: oneshot::Receiver<()>,
    ) {
        self.serve_http(opening.http);
        self.serve_socket(opening.socket);
        // A receiver that fails has lost its sender, which then has nothing left to wait for either.
        let _ = tokio::time::timeout(FIRST_ROUND_MAX, round_over).await;
        let status = self.status_line();
        tracing::info!(target: "evenkeel", "{status}");
        self.open_doors(settings, opening.matched, opening.doors);
    }

    /// Opens the doors with everything behind them that another process had, when that process lets go of it.
    async fn inherit(
        self: &Arc<Self>,
        settings: &Arc<Settings>,
        opening: Opening,
        mut heritage: Heritage,
        ancestry: &Ancestry<'_>,
    ) -> Result<(), StartError> {
        // What the threads are told meanwhile they read at once: sessions and flows stand in their tables before the
        // first event of any door.
        let still =
            Standstill::begin(&self.crew).await.map_err(|stuck| StartError::Heritage(stuck.to_string()))?;
        if let Err(error) = heritage.may_begin().await {
            stopping::dismiss(&self.crew);
            return Err(StartError::Heritage(error));
        }
        heritage.resume_counters(self, settings);
        self.open_doors(settings, opening.matched, opening.doors);
        heritage.hand_on(self, &ancestry.backends);
        drop(still);
        heritage.be_heard().await;
        self.serve_http(opening.http);
        self.serve_socket(opening.socket);
        let status = self.status_line();
        tracing::info!(target: "evenkeel", "taken over, {status}");
        Ok(())
    }
}

/// What is bound and not served yet.
struct Opening {
    matched: Matched,
    doors: Vec<BoundDoor>,
    http: Option<HttpDoor>,
    socket: Option<SocketDoor>,
}

/// The doors of these settings: those that another process had, and new ones.
fn open_doors(
    settings: &Settings,
    served: &mut Served,
    mut heritage: Option<&mut Heritage>,
    kept: &mut Store,
    workers: usize,
) -> Result<(Matched, Vec<BoundDoor>), BindError> {
    let mut matched = served.matched(&settings.listeners);
    if let Some(heritage) = &heritage {
        heritage.add_doors(&mut matched, settings);
    }
    let wanted = served.wanted(&matched.missing, &settings.listeners);
    let doors = listener::bind_with(&wanted, workers, |wanted| match &mut heritage {
        Some(heritage) => heritage.take_door(wanted),
        None => {
            let udp = wanted.listener.protocol == Protocol::Udp;
            let (address, sockets) = kept.take_door(udp, wanted.at.ip, wanted.at.port)?;
            Some((address, sockets.into_iter().map(|fd| DoorSocket { fd, lost_seen: 0 }).collect()))
        }
    })?;
    Ok((matched, doors))
}

fn workers_of(settings: &Settings) -> usize {
    usize::from(match settings.workers {
        Workers::Auto => system::cpus(),
        Workers::Count(count) => count.get(),
    })
}

/// Asks the backends of these settings from now on, and publishes what they answer.
fn begin_checks(
    settings: &Settings,
    beginnings: Beginnings,
    tasks: &TaskTracker,
    probes_max: usize,
    seed: u64,
) -> (Checker, mpsc::Sender<Order>) {
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let (orders, order_inbox) = mpsc::channel(ORDERS_MAX);
    let views = beginnings.published.load().pools.clone();
    let mut targets = pools::targets_of(settings, &views);
    pools::note_known(&mut targets, &views);
    let publisher = Publisher::new(beginnings, &pools::asked(settings, &views, &targets));
    tasks.spawn(publisher.run(inbox, order_inbox));
    (Checker::start(targets, probes_max, seed, events), orders)
}

/// Two numbers of the seed's making: nobody outside knows which flows share a place.
fn hash_key(seed: u64) -> [u8; 16] {
    let mut random = Random::new(seed ^ 0xf10f_f10f_f10f_f10f);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&random.bits().to_ne_bytes());
    key[8..].copy_from_slice(&random.bits().to_ne_bytes());
    key
}

fn spawn_threads(
    crew: &Arc<Crew>,
    published: &Arc<Published>,
    epoch: Instant,
    with: &Surroundings,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let (workers, seed) = (crew.workers(), with.seed);
    // A quarter is left to other programs of the same user, and to pipes under way.
    let pipes_bytes = system::pipe_budget_bytes().unwrap_or(PIPES_WITHOUT_LIMIT_BYTES) / 4 * 3;
    let client_pairs = Arc::new(ClientPairs::default());
    let spawn = |worker| {
        worker::spawn(Plan {
            worker,
            crew: Arc::clone(crew),
            published: Arc::clone(published),
            epoch,
            seed: seed.wrapping_add(worker as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            pipe_budget_bytes: pipes_bytes / workers as u64,
            flow_hash_key: hash_key(seed.rotate_left(17)),
            client_pairs: Arc::clone(&client_pairs),
            offloads: with.offloads,
        })
    };
    let mut threads = Vec::with_capacity(workers);
    for worker in 0..workers {
        match spawn(worker) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                stopping::dismiss(crew);
                return Err(StartError::Thread(error));
            }
        }
    }
    Ok(threads)
}

fn warn_of_shortage(budget: &Budget, open_files: u64) {
    if let Some((wanted, room)) = budget.short_of {
        tracing::warn!(
            target: "evenkeel", wanted,
            room,
            open_files,
            "limits: more sessions than the open-file limit allows: accepting will pause when files run out; raise LimitNOFILE="
        );
    }
}

/// Doors accept after the first round of checks or this, whichever is sooner.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(2);
/// Orders on their way there; whoever gives one waits.
const ORDERS_MAX: usize = 64;
/// Verdicts on their way to the publisher; the checker waits when they are not taken.
const EVENTS_MAX: usize = 1_024;
/// Where the system sets no limit, the usual one is kept to.
const PIPES_WITHOUT_LIMIT_BYTES: u64 = 64 << 20;
