//! Start: everything bound, threads spawned, checks begun, doors opened; with or without what another process had.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::admin_sockets::{HttpDoor, SocketDoor};
use super::cancels;
use super::control::{self, Control, ControlParts};
use super::environment::Environment;
use super::error::StartError;
use super::fd_budget::FdBudget;
use super::handover::{FrozenWorkers, Inherited, Stuck};
use super::open_listeners::{Matched, OpenListeners};
use super::side_thread::SideThreads;
use super::{Server, connect_from, found_file, generations, stop};
use crate::admin::Offers;
use crate::backend_state::BackendState;
use crate::config::settings::{self, Protocol, Settings};
use crate::discovery;
use crate::health::Checker;
use crate::limits::Permits;
use crate::listener::{self, BindError, BoundDoor, DoorSocket};
use crate::pool::SnapshotCell;
use crate::process_phase::Phase;
use crate::publisher::{self, Memories, Order, PoolImport, Publisher, PublisherParts, hash_key};
use crate::random::spread;
use crate::sys::rlimits as system;
use crate::sys::udp::local_ports;
use crate::sys::unix::Stays;
use crate::systemd::FdStore;
use crate::thread_context::SendCancel;
use crate::udp::{self, SharedPorts};
use crate::worker::{self, Plan, Workers};

impl Server {
    // long because: each step of a start needs what the one before it made.
    pub(super) async fn begin(
        settings: &Settings,
        with: &Environment,
        mut inherited: Option<Inherited>,
    ) -> Result<Self, StartError> {
        connect_from::check(settings)?;
        let open_files = system::raise_open_files();
        let count = workers_of(settings);
        let budget = FdBudget::new(open_files, settings, count);
        warn_of_shortage(&budget, open_files);
        udp::tell_lacks(&with.offloads);
        let settings = Arc::new(settings.clone());
        let mut served = OpenListeners::new(Arc::clone(&settings));
        let mut sockets = std::mem::take(&mut *control::lock(&with.kept));
        let names: Vec<String> = sockets.kept.iter().map(|(name, _)| name.clone()).collect();
        let bound =
            BoundSockets::bind(&settings, with, &mut served, inherited.as_mut(), &mut sockets).await?;
        let workers = workers_within(&budget, count)?;
        let alarm = Arc::new(tokio::sync::Notify::new());
        let epoch = inherited.as_ref().map_or_else(Instant::now, Inherited::epoch);
        let before =
            inherited.as_ref().map(|inherited| inherited.manifest().pools.clone()).unwrap_or_default();
        let withdrawn_before = inherited.as_ref().map(Inherited::withdrawn);
        let pickers = inherited.as_mut().map(Inherited::take_pickers).unwrap_or_default();
        let kept = memories(with, inherited.is_some());
        let mut pool_import =
            PoolImport { memories: &kept, ..PoolImport::new(&before, epoch.elapsed(), pickers) };
        let found_before = match (&inherited, &with.found) {
            (None, Some(path)) => found_file::read(path),
            _ => discovery::Before::handed_over(&before),
        };
        let asked = AskedSources::new(&settings, &found_before, epoch, with.seed);
        let all = discovery::with_found(&settings, &asked.found);
        let (snapshots, builder) =
            publisher::publish_first(&all, &workers, &alarm, with.seed, &mut pool_import);
        let thread_ended = CancellationToken::new();
        let ports = Arc::new(SharedPorts::new(local_ports(), count));
        let side_threads = SideThreads::start().map_err(StartError::Thread)?;
        let (cancels, delivered) = cancels::channel();
        side_threads.admin.runtime().spawn(cancels::deliver(delivered, Arc::clone(&workers)));
        let lent = Lent { snapshots: &snapshots, ports: &ports, pipes: budget.pipes, epoch, cancels };
        let threads = spawn_threads(&workers, &lent, with, &thread_ended)?;

        let (first_round, round_over) = oneshot::channel();
        let publisher_parts = PublisherParts {
            snapshots: Arc::clone(&snapshots),
            workers: Arc::clone(&workers),
            builder,
            hash_seed: settings.hash_seed.clone(),
            epoch,
            alarm,
            first_round,
            settings: Arc::clone(&settings),
            found: asked.found,
            discovery: asked.handle.clone(),
        };
        let (orders, order_inbox) = mpsc::channel(ORDERS_MAX);
        let discovery = asked.handle;
        let parts =
            ControlParts { workers, snapshots, served, side_threads, orders, discovery, epoch, ports };
        let control = Arc::new(Control::new(parts, budget.last_numbers, with, withdrawn_before));
        let (probes_max, seed, ended) = (budget.probes, with.seed, thread_ended.clone());
        let generations = with.generations.clone();
        let found = with.found.clone().map(|path| (path, found_before));
        let kept = kept.clone();
        let asking = asked.asking;
        let checks = Checks {
            publisher_parts,
            order_inbox,
            asking,
            probes_max,
            seed,
            ended,
            generations,
            found,
            kept,
        };
        match inherited {
            None => {
                control.begin_checks(&settings, checks, &HashMap::new());
                control.open(&settings, bound, round_over).await;
            }
            Some(inherited) => control.inherit(&settings, bound, inherited, &pool_import, checks).await?,
        }
        let names = names.iter().map(String::as_str);
        control::lock(&control.kept_listeners).forget_strangers(with.notify, names);
        control.enter(Phase::Running);
        control.start_periodic();
        with.notify.ready(&control.status_line());
        Ok(Self { control, threads, thread_ended })
    }
}

impl Control {
    /// Opens the doors when every backend that is asked has answered, or some time has passed.
    async fn open(
        self: &Arc<Self>,
        settings: &Arc<Settings>,
        bound: BoundSockets,
        round_over: oneshot::Receiver<()>,
    ) {
        self.serve_both(bound.http);
        self.serve_socket(bound.socket);
        // A receiver that fails has lost its sender, which then has nothing left to wait for either.
        let _ = tokio::time::timeout(FIRST_ROUND_MAX, round_over).await;
        let status = self.status_line();
        tracing::info!(target: "evenkeel", "{status}");
        self.open_doors(settings, bound.matched, bound.doors);
    }

    fn serve_both(&self, http: [Option<HttpDoor>; 2]) {
        Offers::ALL.into_iter().zip(http).for_each(|(offers, door)| self.serve_http(offers, door));
    }

    /// Opens the doors with everything behind them that another process had, when that process lets go of it. Until then
    /// nothing of it is touched, and whatever goes wrong here leaves it to that process.
    async fn inherit(
        self: &Arc<Self>,
        settings: &Arc<Settings>,
        bound: BoundSockets,
        mut inherited: Inherited,
        pool_import: &PoolImport<'_>,
        checks: Checks,
    ) -> Result<(), StartError> {
        let failed = StartError::Inherited;
        let stuck = |stuck: Stuck| failed(stuck.to_string());
        let BoundSockets { mut matched, mut doors, http, socket } = bound;
        let stays = socket.as_ref().map(|door| door.socket.stays());
        // The file of the socket is the other's as well.
        stays.iter().for_each(Stays::set);
        // What the threads are told meanwhile they read at once: sessions and flows stand in their tables before the
        // first event of any door.
        let in_time = || tokio::time::Instant::now() + ADOPTION_MAX;
        let mut still = FrozenWorkers::begin_empty(&self.workers, in_time()).await.map_err(stuck)?;
        inherited.resume_counters(self, settings);
        let complete = doors.iter().all(|door| door.is_complete(self.workers.count()));
        if complete {
            self.open_doors(settings, std::mem::take(&mut matched), std::mem::take(&mut doors));
            still.read_mail(in_time()).await.map_err(stuck)?;
        }
        inherited.take_rest(&self.workers).await.map_err(failed)?;
        // From here on nobody is served anywhere.
        if !complete {
            let doors = bind_missing(settings, &matched, doors, self.workers.count())?;
            self.open_doors(settings, matched, doors);
        }
        inherited.catch_up_counters(self);
        let views = self.snapshots.load().pools.clone();
        let states = pool_import.catch_up(inherited.changed_pools(), &views);
        let now_ms = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (pools, seed) = (inherited.changed_pools(), &settings.hash_seed);
        pool_import.catch_up_roles(pools, &self.snapshots, &states, seed, now_ms);
        let taken = inherited.hand_on(self, &pool_import.backends);
        still.read_mail(in_time()).await.map_err(stuck)?;
        #[cfg(feature = "manifest-next")]
        fail_if_asked();
        inherited.may_begin(&taken).await.map_err(failed)?;
        still.go_on();
        stays.iter().for_each(Stays::unset);
        // Until here a backend that left the file and has sessions looked as if it had none.
        self.begin_checks(settings, checks, &states);
        stop::wait_for_mail(&self.workers).await;
        inherited.be_heard().await;
        self.serve_both(http);
        self.serve_socket(socket);
        let status = self.status_line();
        tracing::info!(target: "evenkeel", "taken over, {status}");
        Ok(())
    }

    /// Asks the backends of these settings from now on, and publishes what they answer; some stand otherwise than the first
    /// snapshot says.
    fn begin_checks(&self, settings: &Settings, checks: Checks, states: &HashMap<u64, BackendState>) {
        let Checks {
            publisher_parts,
            order_inbox,
            asking,
            probes_max,
            seed,
            ended,
            generations,
            found,
            kept,
        } = checks;
        let (board, epoch) = (Arc::clone(&publisher_parts.discovery.board), publisher_parts.epoch);
        let (sources, source_inbox) = asking;
        let (lists, list_inbox) = mpsc::channel(LISTS_MAX);
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let views = publisher_parts.snapshots.load().pools.clone();
        let mut targets = publisher::targets_of(settings, &views);
        publisher::note_known(&mut targets, &views, states);
        let asked = publisher::asked(settings, &views, &targets);
        let mut publisher = Publisher::new(publisher_parts, &asked, &targets);
        publisher.correct(states);
        // Without checks the publisher ends as well: its end tells of both.
        let alive = ended.drop_guard();
        let threads = control::lock(&self.side_threads);
        let Some(threads) = &*threads else { return };
        let checker = {
            let _on_its_thread = threads.health.enter();
            Checker::start(targets, probes_max, seed, events)
        };
        publisher.tell_targets(checker.list());
        if let Some(path) = generations {
            let (memories, told) = watch::channel(kept);
            publisher.tell_memories(memories);
            generations::keep(path, told, &self.tasks);
        }
        let publishing = async move {
            let _alive = alive;
            publisher.run(inbox, order_inbox, list_inbox).await;
        };
        self.tasks.spawn_on(publishing, threads.publisher.runtime());
        let stop = self.stop.clone();
        let asking = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sources.run(source_inbox, lists) => {}
            }
        };
        self.tasks.spawn_on(asking, threads.admin.runtime());
        if let Some((path, before)) = found {
            self.tasks.spawn(found_file::keep(path, board, epoch, before, self.stop.clone()));
        }
        *control::lock(&self.checker) = Some(checker);
    }
}

/// What was believed of primaries before a crash; who has inherited knows better.
fn memories(with: &Environment, has_inherited: bool) -> Memories {
    let path = with.generations.as_ref().filter(|_| !has_inherited);
    path.map_or_else(Memories::default, |path| generations::read(path))
}

/// Fails as a later program might when it has taken everything: `EVENKEEL_NEXT_FAILS` says how.
#[cfg(feature = "manifest-next")]
fn fail_if_asked() {
    match std::env::var("EVENKEEL_NEXT_FAILS").as_deref() {
        Ok("panic") => panic!("asked to fail"),
        // Long enough for whoever waits.
        Ok("silence") => std::thread::sleep(Duration::from_secs(20)),
        _ => {}
    }
}

/// Where backends are found, and what is known of that already.
struct AskedSources {
    asking: (discovery::Service, mpsc::Receiver<discovery::Request>),
    handle: discovery::Handle,
    found: Vec<discovery::FoundSet>,
}

impl AskedSources {
    fn new(settings: &Arc<Settings>, before: &discovery::Before, epoch: Instant, seed: u64) -> Self {
        let mut sources = discovery::Service::new(settings, before, epoch, seed);
        let (handle, source_inbox) = sources.handle();
        let found = sources.found();
        Self { asking: (sources, source_inbox), handle, found }
    }
}

/// What it takes to ask backends for their health and to publish what they answer.
struct Checks {
    publisher_parts: PublisherParts,
    order_inbox: mpsc::Receiver<Order>,
    asking: (discovery::Service, mpsc::Receiver<discovery::Request>),
    probes_max: usize,
    seed: u64,
    /// Where what is remembered of primaries is kept, and what was.
    generations: Option<PathBuf>,
    kept: Memories,
    /// Where what is found is kept, and what was.
    found: Option<(PathBuf, discovery::Before)>,
    /// Whom it concerns that nobody asks any more.
    ended: CancellationToken,
}

/// What is bound and not served yet.
struct BoundSockets {
    matched: Matched,
    doors: Vec<BoundDoor>,
    /// By what they offer.
    http: [Option<HttpDoor>; 2],
    socket: Option<SocketDoor>,
}

impl BoundSockets {
    /// Binds everything, or takes it from the process before.
    async fn bind(
        settings: &Settings,
        with: &Environment,
        served: &mut OpenListeners,
        mut inherited: Option<&mut Inherited>,
        kept: &mut FdStore,
    ) -> Result<Self, StartError> {
        let workers = workers_of(settings);
        let (matched, doors) = open_doors(settings, served, inherited.as_deref_mut(), kept, workers)?;
        let mut http = [None, None];
        for offers in Offers::ALL {
            let there = inherited.as_deref_mut().and_then(|inherited| inherited.http(settings, offers));
            http[offers as usize] = match there {
                Some(door) => Some(door),
                None => HttpDoor::bind(settings, offers).await?,
            };
        }
        let socket = match inherited.and_then(Inherited::socket) {
            Some(door) => Some(door),
            None => SocketDoor::bind(settings, with.usual_socket.as_deref())?,
        };
        Ok(Self { matched, doors, http, socket })
    }
}

/// The doors of these settings: those that another process had, and new ones.
fn open_doors(
    settings: &Settings,
    served: &mut OpenListeners,
    mut inherited: Option<&mut Inherited>,
    kept: &mut FdStore,
    workers: usize,
) -> Result<(Matched, Vec<BoundDoor>), BindError> {
    let mut matched = served.matched(&settings.listeners);
    if let Some(inherited) = &inherited {
        inherited.add_doors(&mut matched, settings);
    }
    let wanted = served.wanted(&matched.missing, &settings.listeners);
    let doors = listener::bind_with(&wanted, workers, |wanted| match &mut inherited {
        Some(inherited) => inherited.take_door(wanted),
        None => {
            let udp = wanted.listener.protocol == Protocol::Udp;
            let (address, sockets) = kept.take_door(udp, wanted.at.ip, wanted.at.port)?;
            Some((address, sockets.into_iter().map(|fd| DoorSocket { fd, lost_seen: 0 }).collect()))
        }
    })?;
    // Nobody serves them but this process.
    let doors = if inherited.is_none() { bind_missing(settings, &matched, doors, workers)? } else { doors };
    Ok((matched, doors))
}

fn workers_of(settings: &Settings) -> usize {
    usize::from(match settings.workers {
        settings::Workers::Auto => system::cpus(),
        settings::Workers::Count(count) => count.get(),
    })
}

/// Threads that are yet to be spawned, with as many sessions as there are descriptors for.
fn workers_within(budget: &FdBudget, count: usize) -> Result<Arc<Workers>, StartError> {
    let udp_permits = Arc::new(Permits::new(Some(budget.udp_sessions)));
    let workers = Workers::new(count, budget.tcp_sessions, udp_permits)
        .map_err(|errno| StartError::Thread(errno.into()))?;
    workers.set_tcp_sessions_room(budget.tcp_sessions_room);
    Ok(Arc::new(workers))
}

/// The sockets that doors of before lack for so many data threads.
fn bind_missing(
    settings: &Settings,
    matched: &Matched,
    doors: Vec<BoundDoor>,
    workers: usize,
) -> Result<Vec<BoundDoor>, BindError> {
    let missing = doors.into_iter().zip(&matched.missing);
    let mut all: Vec<_> = missing.map(|(door, (at, bind))| (door, &settings.listeners[*at], *bind)).collect();
    listener::complete(&mut all, workers)?;
    Ok(all.into_iter().map(|(door, ..)| door).collect())
}

/// What all data threads share.
struct Lent<'a> {
    snapshots: &'a Arc<SnapshotCell>,
    ports: &'a Arc<SharedPorts>,
    pipes: u64,
    epoch: Instant,
    cancels: mpsc::Sender<cancels::Received>,
}

fn spawn_threads(
    workers: &Arc<Workers>,
    lent: &Lent<'_>,
    with: &Environment,
    ended: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let (count, seed) = (workers.count(), with.seed);
    // A quarter is left to other programs of the same user, and to pipes under way.
    let pipes_bytes = system::pipe_budget_bytes().unwrap_or(PIPES_WITHOUT_LIMIT_BYTES) / 4 * 3;
    let spawn = |worker| {
        let way = lent.cancels.clone();
        let plan = Plan {
            worker,
            workers: Arc::clone(workers),
            snapshots: Arc::clone(lent.snapshots),
            epoch: lent.epoch,
            seed: spread(seed.wrapping_add(worker as u64)),
            pipe_budget_bytes: pipes_bytes / count as u64,
            pipes_max: lent.pipes / count as u64,
            flow_hash_key: hash_key(seed.rotate_left(17)),
            ports: Arc::clone(lent.ports),
            offloads: with.offloads,
            send_cancel: SendCancel::new(move |cancel| cancels::send(&way, cancel)),
        };
        worker::spawn(plan, ended.clone().drop_guard())
    };
    let mut threads = Vec::with_capacity(count);
    for worker in 0..count {
        match spawn(worker) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                stop::dismiss(workers);
                return Err(StartError::Thread(error));
            }
        }
    }
    Ok(threads)
}

/// Says that fewer files may be open than the limits would need.
pub(super) fn warn_of_shortage(budget: &FdBudget, open_files: u64) {
    if let Some((wanted, room)) = budget.short_of {
        tracing::warn!(
            target: "evenkeel", wanted,
            room,
            open_files,
            "limits: more sessions than the open-file limit allows: accepting pauses, and flows are refused, before the files run out; raise LimitNOFILE="
        );
    }
}

/// Doors accept after the first round of checks or this, whichever is sooner.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(2);
/// Orders on their way there; whoever gives one waits.
const ORDERS_MAX: usize = 64;
/// Lists of found backends on their way to the publisher.
const LISTS_MAX: usize = 64;
/// Verdicts on their way to the publisher; the checker waits when they are not taken.
const EVENTS_MAX: usize = 1_024;
/// A thread that takes what it is given needs microseconds for each session; the process before waits no longer anyway.
const ADOPTION_MAX: Duration = Duration::from_secs(30);
/// Where the system sets no limit, the usual one is kept to.
const PIPES_WITHOUT_LIMIT_BYTES: u64 = 64 << 20;
