//! The life of a balancer: doors bound, threads spawned, checks begun, accepting, drained, stopped.
//!
//! Everything it needs is an argument; two servers run in one process.

mod budget;
mod housekeeping;
mod notify;
mod pools;
mod publisher;
mod stopping;

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Sources};
use crate::config::settings::{self, LogSessions, Protocol, Settings, ShareLimit, Workers};
use crate::health::Checker;
use crate::limits::{Places, SessionLimits, SourcePlaces, udp_defaults};
use crate::listener::{self, BindError};
use crate::metrics::ListenerCounters;
use crate::phase::Phase;
use crate::pool::{PoolSlot, Published};
use crate::sys::limits as system;
use crate::workbench::Random;
use crate::worker::{self, Crew, Plan};
use crate::{flow, tcp, udp};
use budget::Budget;
use housekeeping::Housekeeper;
pub use notify::Notify;
use publisher::{Beginnings, Publisher, target_id};
pub use stopping::Drained;

/// What a server is given by the program around it.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The service manager.
    pub notify: Notify,
    /// Log lines that found no room.
    pub log_lines_dropped: Arc<AtomicU64>,
    /// Moves all chance: picks, jitter.
    pub seed: u64,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A door cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP address cannot be bound.
    #[error("admin.http cannot listen on {address}: {source}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system refuses a thread or what it needs.
    #[error(
        "a data thread cannot be started: {0}; raise LimitNOFILE=, TasksMax= or the memory limit, or lower `workers`"
    )]
    Thread(#[source] std::io::Error),
}

/// A running balancer.
pub struct Server {
    crew: Arc<Crew>,
    published: Arc<Published>,
    listeners: Vec<Arc<ListenerCounters>>,
    /// Where each listener accepts, in the order of the file.
    addresses: Vec<(String, SocketAddr)>,
    http: Option<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    checker: Checker,
    tasks: TaskTracker,
    stop: CancellationToken,
    phase: watch::Sender<Phase>,
    notify: Notify,
    grace: Duration,
}

impl Server {
    /// Starts; on return it accepts. Must be called on a tokio runtime with I/O and time, which then carries the
    /// control work. On an error nothing is left behind.
    pub async fn start(settings: &Settings, with: &Surroundings) -> Result<Self, StartError> {
        let open_files = system::raise_open_files();
        let workers = usize::from(match settings.workers {
            Workers::Auto => system::cpus(),
            Workers::Count(count) => count.get(),
        });
        let budget = Budget::new(open_files, settings, workers);
        warn_of_shortage(&budget, open_files);
        let listeners = counters_of(settings, workers);
        let udp_places = Arc::new(Places::new(Some(budget.udp_sessions)));
        let flow_hash_key = hash_key(with.seed);
        let log_sessions = settings.log.sessions;
        let terms = settings.listeners.iter().zip(&listeners).map(|(listener, counters)| {
            (listener, terms_of(listener, counters, log_sessions, &udp_places, flow_hash_key))
        });
        let doors = listener::bind(&terms.collect::<Vec<_>>(), workers)?;
        let addresses: Vec<_> = doors.iter().map(|door| (door.listener().to_owned(), door.address)).collect();
        let http = match settings.admin.http {
            Some(address) => {
                Some(admin::bind(address).await.map_err(|source| StartError::Http { address, source })?)
            }
            None => None,
        };

        let crew = Crew::new(workers, budget.tcp_sessions, udp_places)
            .map_err(|errno| StartError::Thread(errno.into()))?;
        let crew = Arc::new(crew);
        let alarm = Arc::new(tokio::sync::Notify::new());
        let published = pools::publish_first(settings, &crew, &alarm, with.seed);
        let epoch = Instant::now();
        let threads = spawn_threads(&crew, &published, epoch, with.seed)?;

        let (first_round, round_over) = oneshot::channel();
        let beginnings = Beginnings {
            published: Arc::clone(&published),
            crew: Arc::clone(&crew),
            hash_seed: settings.hash_seed.clone(),
            epoch,
            alarm,
            first_round,
        };
        let tasks = TaskTracker::new();
        let checker = begin_checks(settings, beginnings, &tasks, budget.probes, with.seed);

        let (phase, _) = watch::channel(Phase::Starting);
        let mut server = Self {
            crew,
            published,
            listeners,
            addresses,
            http: http.as_ref().and_then(|listener| listener.local_addr().ok()),
            threads,
            checker,
            tasks,
            stop: CancellationToken::new(),
            phase,
            notify: with.notify,
            grace: settings.shutdown.grace,
        };
        server.spawn_admin(http, with);
        // A receiver that fails has lost its sender, which then has nothing left to wait for either.
        let _ = tokio::time::timeout(FIRST_ROUND_MAX, round_over).await;
        let status = housekeeping::status_line(&server.crew, &server.listeners, &server.published);
        tracing::info!(target: "evenkeel", "{status}");
        listener::open(doors, &server.crew);
        server.enter(Phase::Running);
        server.spawn_housekeeping();
        server.notify.ready(&status);
        Ok(server)
    }

    /// Where each listener accepts.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Where the HTTP door is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What all threads look at.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The data threads.
    pub fn crew(&self) -> &Crew {
        &self.crew
    }

    /// The counters of a listener.
    pub fn counters(&self, listener: &str) -> Option<&ListenerCounters> {
        self.listeners.iter().find(|counters| &*counters.listener == listener).map(|counters| &**counters)
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
        self.enter(Phase::Draining);
        let drained = stopping::drain(&self.crew, self.grace, hurry, self.notify).await;
        stopping::dismiss(&self.crew);
        self.checker.stop().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        housekeeping::summarise_refusals(&self.listeners);
        self.phase.send_replace(Phase::Stopped);
        for thread in self.threads.drain(..) {
            // A thread that does not turn is left to the end of the process; one that panicked has said so.
            if self.crew.sessions() == 0 {
                let _ = thread.join();
            }
        }
        drained
    }

    fn enter(&mut self, next: Phase) {
        let now = *self.phase.borrow();
        assert!(now.may_become(next), "{now:?} cannot become {next:?}");
        self.phase.send_replace(next);
    }

    fn spawn_admin(&self, listener: Option<tokio::net::TcpListener>, with: &Surroundings) {
        let Some(listener) = listener else { return };
        let sources = Sources {
            published: Arc::clone(&self.published),
            listeners: self.listeners.clone(),
            crew: Arc::clone(&self.crew),
            phase: self.phase.subscribe(),
            log_lines_dropped: Arc::clone(&with.log_lines_dropped),
        };
        self.tasks.spawn(admin::serve(listener, Arc::new(sources), self.stop.clone()));
    }

    fn spawn_housekeeping(&self) {
        let housekeeper = Housekeeper {
            crew: Arc::clone(&self.crew),
            listeners: self.listeners.clone(),
            published: Arc::clone(&self.published),
            notify: self.notify,
        };
        // The status line of a drain is the drain's own.
        let mut phase = self.phase.subscribe();
        self.tasks.spawn(async move {
            tokio::select! {
                () = housekeeper.run() => {}
                _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
            }
        });
        let watchdog = housekeeping::keep_watchdog_quiet(Arc::clone(&self.crew), self.notify);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = watchdog => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Asks the backends of these settings from now on, and publishes what they answer.
fn begin_checks(
    settings: &Settings,
    beginnings: Beginnings,
    tasks: &TaskTracker,
    probes_max: usize,
    seed: u64,
) -> Checker {
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let targets = pools::targets_of(settings);
    let asked = pools::asked(settings, &targets);
    let publisher = Publisher::new(beginnings, |slot, index| {
        asked.get(&target_id(slot, index)).copied().unwrap_or_default()
    });
    tasks.spawn(publisher.run(inbox));
    Checker::start(targets, probes_max, seed, events)
}

fn counters_of(settings: &Settings, workers: usize) -> Vec<Arc<ListenerCounters>> {
    let counters = |listener: &settings::Listener| {
        let proto = match listener.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        Arc::new(ListenerCounters::new(&listener.name, proto, listener.pool, workers))
    };
    settings.listeners.iter().map(counters).collect()
}

/// What the sessions of one listener are born with.
fn terms_of(
    listener: &settings::Listener,
    counters: &Arc<ListenerCounters>,
    log_sessions: LogSessions,
    udp_places: &Arc<Places>,
    hash_key: [u8; 16],
) -> listener::Terms {
    let (pool, counters) = (PoolSlot(listener.pool), Arc::clone(counters));
    match listener.protocol {
        Protocol::Tcp => {
            listener::Terms::Tcp(Arc::new(tcp::Terms::new(listener, pool, log_sessions, counters)))
        }
        Protocol::Udp => {
            let flow = Arc::new(flow_terms(listener, udp_places, hash_key));
            let listener = Arc::clone(&counters.listener);
            listener::Terms::Udp(Arc::new(udp::Terms { listener, pool, flow, log_sessions, counters }))
        }
    }
}

fn flow_terms(listener: &settings::Listener, places: &Arc<Places>, hash_key: [u8; 16]) -> flow::Terms {
    let process = places.most().unwrap_or(u32::MAX);
    let share = |limit, auto| match limit {
        ShareLimit::Auto => Some(auto),
        ShareLimit::Off => None,
        ShareLimit::Count(count) => Some(count),
    };
    let sessions = share(listener.limits.sessions, udp_defaults(process).0);
    let most = sessions.unwrap_or(process).min(process);
    let per_source = share(listener.limits.sessions_per_source, (most / 16).max(1));
    let sources = per_source.map(|each| SourcePlaces::new(hash_key, Some(each), most));
    let whole_ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    flow::Terms {
        idle_ms: listener.timeouts.idle.map(whole_ms),
        lifetime_ms: listener.timeouts.lifetime.map(whole_ms),
        responses: listener.udp.responses.and_then(NonZeroU32::new),
        requests: listener.udp.requests.and_then(NonZeroU32::new),
        limits: Arc::new(SessionLimits::new(Arc::clone(places), sessions, sources)),
        draining: flow::Draining::default(),
    }
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
    seed: u64,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let workers = crew.workers();
    // A quarter is left to other programs of the same user, and to pipes under way.
    let pipes_bytes = system::pipe_budget_bytes().unwrap_or(PIPES_WITHOUT_LIMIT_BYTES) / 4 * 3;
    let spawn = |worker| {
        worker::spawn(Plan {
            worker,
            crew: Arc::clone(crew),
            published: Arc::clone(published),
            epoch,
            seed: seed.wrapping_add(worker as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            pipe_budget_bytes: pipes_bytes / workers as u64,
            flow_hash_key: hash_key(seed.rotate_left(17)),
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
/// Verdicts on their way to the publisher; the checker waits when they are not taken.
const EVENTS_MAX: usize = 1_024;
/// Where the system sets no limit, the usual one is kept to.
const PIPES_WITHOUT_LIMIT_BYTES: u64 = 64 << 20;
