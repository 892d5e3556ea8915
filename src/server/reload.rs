//! Reload (SIGHUP): from one file to the next without losing a session: doors kept, opened and closed, pools rebuilt,
//! limits moved.
//!
//! Everything that can fail is done first and undone if it fails: on an error nothing has changed. Then the pools are
//! published, then the doors follow, so that no session is born with terms whose pool is not there.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::admin_sockets::{HttpDoor, SocketDoor, http_address_of};
use super::config_paths::listed;
use super::control::{Control, lock};
use super::error::{HttpError, Refused, ReloadError};
use super::fd_budget::FdBudget;
use super::open_listeners::{Matched, OpenDoor, OpenListeners};
use super::start::warn_of_shortage;
use super::terms::TermsBuilder;
use super::{connect_from, stop};
use crate::admin::Offers;
use crate::config::settings::{Listener, Protocol, Settings};
use crate::config::{self, difference};
use crate::discovery::Request;
use crate::listener::{self, BindError, BoundDoor, Terms};
use crate::metrics::{LastReload, ListenerCounters};
use crate::pool::LivePool;
use crate::process_phase::Phase;
use crate::publisher::{Order, Reloaded};
use crate::sys::rlimits as system;

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// What is different, a line each. None: the file says what it said.
    pub lines: Vec<String>,
    /// The snapshot that has it.
    pub generation: u64,
}

impl fmt::Display for Changes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            out.write_str("nothing changed")
        } else {
            out.write_str(&self.lines.join("; "))
        }
    }
}

/// A door that was bound and is not open yet.
pub(super) struct NewDoor {
    door: OpenDoor,
    /// The listener that has it.
    at: usize,
    bound: BoundDoor,
}

impl Control {
    /// Reads the file again and serves what it says. Whatever is wrong leaves everything as it was.
    pub(super) async fn reload_file(self: &Arc<Self>) -> Result<Changes, Refused> {
        self.notify.reloading();
        let _one_at_a_time = self.changing.lock().await;
        let outcome = match (self.file.read)(&self.run_time.current().changes) {
            Ok(document) => {
                document.warn();
                let reloaded = self.reload(document.settings.clone()).await;
                if reloaded.is_ok() {
                    self.file_number.store(config::number(&document.base), Ordering::Relaxed);
                    self.follow_file(&document).await;
                    self.reloads.set_files(document.files);
                }
                reloaded.map_err(Refused::from)
            }
            Err(refused) => Err(refused),
        };
        match &outcome {
            Ok(changes) => {
                self.note_reload(false, changes.lines.clone());
                let files = listed(&self.reloads.files());
                tracing::info!(target: "evenkeel", generation = changes.generation, files, "reloaded: {changes}");
            }
            Err(refused) => self.note_refused(refused),
        }
        self.notify.ready(&self.status_line());
        outcome
    }

    /// The file is refused, and what was served goes on.
    pub(super) fn note_refused(&self, refused: &Refused) {
        self.note_reload(true, refused.to_string().lines().map(str::to_owned).collect());
        tell(refused);
    }

    /// Serves these settings from now on. One at a time: a second one waits for the first.
    pub(super) async fn reload(self: &Arc<Self>, settings: Settings) -> Result<Changes, ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        let phase = *self.phase.borrow();
        if phase != Phase::Running {
            return Err(ReloadError::NotRunning(phase.word()));
        }
        let settings = Arc::new(settings);
        let before = Arc::clone(&self.served().settings);
        fixed(&before, &settings)?;
        connect_from::check(&settings)?;
        let http = self.bind_new_http(&before, &settings, Offers::Everything).await?;
        let readiness = self.bind_new_http(&before, &settings, Offers::Readiness).await?;
        let socket = if self.has_socket_of(&before, &settings) {
            None
        } else {
            Some(SocketDoor::bind(&settings, self.usual_socket.as_deref())?)
        };
        let (matched, bound) = self.bind_missing(&settings)?;

        // From here on nothing fails.
        self.set_limits(&settings);
        let reloaded = self.publish(&settings).await.ok_or(ReloadError::NotRunning("stopping"))?;
        let networks = self.network_files.differences(&settings);
        self.move_doors(&settings, matched, bound, &reloaded.pools);
        // Whoever asked may come at once, with a client or with another program that wants the port: every thread has the new limits
        // then, and what left is closed. A thread that is stuck is the watchdog's business.
        let _ = tokio::time::timeout(CLOSED_MAX, self.doors_that_left_are_closed()).await;
        if let Some(http) = http {
            self.serve_http(Offers::Everything, http);
        }
        if let Some(readiness) = readiness {
            self.serve_http(Offers::Readiness, readiness);
        }
        if let Some(socket) = socket {
            self.serve_socket(socket);
        }
        if before.log.level != settings.log.level {
            (self.file.set_log_level)(settings.log.level);
        }
        let mut lines = difference(&before, &settings);
        lines.extend(networks);
        Ok(Changes { lines, generation: reloaded.generation })
    }

    /// Serves other backends of the pools that there are: doors stay as they are.
    pub(super) async fn reload_pools(&self, settings: Arc<Settings>) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        let phase = *self.phase.borrow();
        if phase != Phase::Running {
            return Err(ReloadError::NotRunning(phase.word()));
        }
        connect_from::check(&settings)?;
        self.set_limits(&settings);
        self.publish(&settings).await.ok_or(ReloadError::NotRunning("stopping"))?;
        self.served().settings = settings;
        Ok(())
    }

    fn note_reload(&self, refused: bool, lines: Vec<String>) {
        self.reloads.note(LastReload { at: Instant::now(), refused, lines });
    }

    /// Binds what the new listeners need and nobody has.
    fn bind_missing(&self, settings: &Settings) -> Result<(Matched, Vec<NewDoor>), BindError> {
        let mut served = self.served();
        let matched = served.matched(&settings.listeners);
        let wanted = served.wanted(&matched.missing, &settings.listeners);
        let bound = listener::bind(&wanted, self.workers.count())?;
        let doors = bound.into_iter().zip(&matched.missing).map(|(bound, (at, bind))| NewDoor {
            door: OpenDoor::new(&bound, &settings.listeners[*at], *bind),
            at: *at,
            bound,
        });
        let doors = doors.collect();
        Ok((matched, doors))
    }

    fn set_limits(&self, settings: &Settings) {
        let open_files = system::raise_open_files();
        let budget = FdBudget::new(open_files, settings, self.workers.count());
        warn_of_shortage(&budget, open_files);
        self.workers.set_tcp_sessions_max(budget.tcp_sessions);
        self.workers.set_tcp_sessions_room(budget.tcp_sessions_room);
        self.workers.udp_permits().set_most(Some(budget.udp_sessions));
    }

    /// `None`: the publisher has ended, because the program is stopping.
    async fn publish(&self, settings: &Arc<Settings>) -> Option<Reloaded> {
        let (reply, found) = oneshot::channel();
        self.discovery.requests.send(Request::Follow(Arc::clone(settings), reply)).await.ok()?;
        let found = found.await.ok()?;
        let (reply, snapshots) = oneshot::channel();
        self.orders.send(Order::Reload { settings: Arc::clone(settings), found, reply }).await.ok()?;
        snapshots.await.ok()
    }

    /// Opens the doors of a balancer that starts.
    pub(super) fn open_doors(
        self: &Arc<Self>,
        settings: &Arc<Settings>,
        matched: Matched,
        bound: Vec<BoundDoor>,
    ) {
        let pools: Vec<_> = self.snapshots.load().pools.iter().map(|view| Arc::clone(&view.live)).collect();
        let doors = bound.into_iter().zip(&matched.missing).map(|(bound, (at, bind))| NewDoor {
            door: OpenDoor::new(&bound, &settings.listeners[*at], *bind),
            at: *at,
            bound,
        });
        let doors = doors.collect();
        self.move_doors(settings, matched, doors, &pools);
    }

    /// Makes the terms of listeners.
    fn terms_builder(&self, settings: &Settings) -> TermsBuilder {
        let tcp_sessions = self.workers.tcp_sessions_max();
        let rates_before = std::mem::take(&mut *lock(&self.rates_before));
        let udp_permits = self.workers.shared_udp_permits();
        TermsBuilder::new(settings, tcp_sessions, udp_permits, self.flow_hash_key, rates_before)
    }

    /// Gives every door to the listener that has it now, opens the new ones and lets the others go.
    fn move_doors(
        self: &Arc<Self>,
        settings: &Arc<Settings>,
        matched: Matched,
        bound: Vec<NewDoor>,
        pools: &[Arc<LivePool>],
    ) {
        let mut served = self.served();
        let terms_builder = self.terms_builder(settings);
        let counters: Vec<_> =
            settings.listeners.iter().map(|listener| self.counters_for(listener, pools)).collect();
        let terms: Vec<Terms> = settings
            .listeners
            .iter()
            .zip(&counters)
            .map(|(listener, counters)| {
                // One that comes back counts the sessions that it still has.
                let before = served.terms.get(&listener.name).or_else(|| served.left.get(&listener.name));
                terms_builder.terms(listener, pools, counters, before)
            })
            .collect();
        self.network_files.follow(settings, terms_builder.with_files(), Instant::now());
        let mut doors: Vec<(usize, OpenDoor)> = Vec::new();
        for (mut door, at) in matched.kept {
            door.listener.clone_from(&settings.listeners[at].name);
            door.leaving = None;
            listener::renew(door.id, &terms[at], &self.workers);
            doors.push((at, door));
        }
        for NewDoor { door, at, bound } in bound {
            lock(&self.kept_listeners).keep(self.notify, &door, &bound);
            listener::open(bound, &terms[at], &self.workers);
            doors.push((at, door));
        }
        doors.sort_by_key(|(at, _)| *at);
        let mut doors: Vec<OpenDoor> = doors.into_iter().map(|(_, door)| door).collect();
        for door in matched.unwanted {
            let departure = served.next_id();
            doors.extend(self.let_go(door, departure, &served));
        }
        served.doors = doors;
        let terms = terms.into_iter().map(|terms| (terms.listener().to_owned(), terms)).collect();
        let left = std::mem::replace(&mut served.terms, terms);
        served.left.extend(left);
        let OpenListeners { left, terms, .. } = &mut *served;
        let lives = |name: &str| self.listeners.named(name.as_bytes()).is_some_and(|one| one.active() > 0);
        left.retain(|name, _| !terms.contains_key(name) && lives(name));
        served.settings = Arc::clone(settings);
        drop(served);
        self.replace_counters(counters);
    }

    /// A door that left the file. A tcp door lets nobody new in and closes when handshakes had time to end; a udp door, through which
    /// the answers of its flows leave, admits nothing and closes when the grace is over. Until then it stays in the list.
    fn let_go(self: &Arc<Self>, door: OpenDoor, departure: u64, before: &OpenListeners) -> Option<OpenDoor> {
        if door.leaving.is_some() {
            return Some(door);
        }
        let stays = match (door.protocol, before.terms.get(&door.listener)) {
            (Protocol::Udp, Some(Terms::Udp(terms))) => {
                listener::renew(door.id, &Terms::Udp(Arc::new(terms.last())), &self.workers);
                before.settings.shutdown.grace
            }
            (Protocol::Tcp, _) => {
                listener::leave(door.id, &self.workers);
                HANDSHAKE
            }
            (Protocol::Udp, _) => {
                lock(&self.kept_listeners).keep_no_more(self.notify, door.id);
                listener::close(door.id, door.protocol, &self.workers);
                return None;
            }
        };
        self.close_after(stays, door.id, door.protocol, departure);
        Some(OpenDoor { leaving: Some(departure), ..door })
    }

    /// Waits until the tcp doors that left the file are closed.
    async fn doors_that_left_are_closed(&self) {
        let leaves = |door: &OpenDoor| door.leaving.is_some() && door.protocol == Protocol::Tcp;
        while self.served().doors.iter().any(leaves) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        stop::wait_for_mail(&self.workers).await;
    }

    /// Ends a door when this time is over, unless a file brought it back meanwhile.
    fn close_after(self: &Arc<Self>, time: Duration, id: u64, protocol: Protocol, departure: u64) {
        let (control, stop) = (Arc::clone(self), self.stop.clone());
        self.tasks.spawn(async move {
            // Both arms may be dropped without loss.
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = stop.cancelled() => return,
            }
            let mut served = control.served();
            let gone = |door: &OpenDoor| door.id == id && door.leaving == Some(departure);
            if served.doors.iter().any(gone) {
                served.doors.retain(|door| !gone(door));
                lock(&control.kept_listeners).keep_no_more(control.notify, id);
                listener::close(id, protocol, &control.workers);
            }
        });
    }

    /// The counters of a listener: those of the one that had its name and protocol, so that they go on.
    fn counters_for(&self, listener: &Listener, pools: &[Arc<LivePool>]) -> Arc<ListenerCounters> {
        let pool = &pools[listener.pool];
        let proto = listener.protocol.word();
        let known = self.listeners.of_protocol(&listener.name, proto);
        let counters = known.unwrap_or_else(|| {
            Arc::new(ListenerCounters::new(&listener.name, proto, pool.slot.0, self.workers.count()))
        });
        counters.set_pool(pool.slot.0);
        counters.set_role(listener.role);
        let leads = listener.pools().into_iter().map(|(pool, role)| (pools[pool].slot.0, role));
        counters.set_pools(leads.collect(), listener.needs_route);
        counters
    }

    /// These listeners are in the file; others stay visible while they have sessions, and what one of these counted with another
    /// protocol while it is there.
    fn replace_counters(&self, mut counters: Vec<Arc<ListenerCounters>>) {
        // Sessions of the process before are not counted yet.
        let is_beginning = *self.phase.borrow() == Phase::Starting;
        let (mut names, mut is_there) = (HashSet::new(), HashSet::new());
        for new in &counters {
            names.insert(Arc::clone(&new.listener));
            is_there.insert((Arc::clone(&new.listener), new.proto));
        }
        let old: Vec<_> = self
            .listeners
            .all()
            .into_iter()
            .filter(|old| !is_there.contains(&(Arc::clone(&old.listener), old.proto)))
            .filter(|old| is_beginning || old.active() > 0 || names.contains(&old.listener))
            .collect();
        counters.extend(old);
        self.listeners.replace(counters);
    }

    /// The new HTTP door, where the file has another; `Some(None)`: it has none any more.
    #[allow(clippy::option_option)]
    async fn bind_new_http(
        &self,
        before: &Settings,
        settings: &Settings,
        offers: Offers,
    ) -> Result<Option<Option<HttpDoor>>, HttpError> {
        if http_address_of(before, offers) == http_address_of(settings, offers) {
            return Ok(None);
        }
        Ok(Some(HttpDoor::bind(settings, offers).await?))
    }
}

/// A refused file, in the log: each mistake is a line.
fn tell(refused: &Refused) {
    let Refused::Mistakes(mistakes) = refused else {
        tracing::error!(target: "evenkeel", error = %refused, "the file is refused; what was served goes on");
        return;
    };
    for mistake in mistakes.list() {
        let (line, column, hint) = (mistake.line, mistake.column, mistake.hint.as_deref());
        let (file, note) = (&*mistake.file, mistake.note.as_deref());
        tracing::error!(target: "evenkeel", file, line, column, hint, note, "the file has a mistake: {}", mistake.message);
    }
    let count = mistakes.count();
    tracing::error!(target: "evenkeel", mistakes = count, "the file is refused; what was served goes on");
}

/// What was settled when the process started.
pub(super) fn fixed(before: &Settings, settings: &Settings) -> Result<(), ReloadError> {
    if before.workers != settings.workers {
        return Err(ReloadError::Fixed("workers"));
    }
    if before.log.format != settings.log.format {
        return Err(ReloadError::Fixed("log.format"));
    }
    Ok(())
}

/// How long a reload waits for doors to be closed.
const CLOSED_MAX: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A handshake that is under way when its door leaves the file may take so long. Whoever comes meanwhile asks again after a second, and
/// is refused.
const HANDSHAKE: Duration = Duration::from_millis(500);
