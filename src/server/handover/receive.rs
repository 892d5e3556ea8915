//! Receiving side of a handover: going on with everything that another process had: doors, sessions, flows, and what
//! was counted.
//!
//! A balancer that takes over begins with the configuration that was served before, so that everything finds its place,
//! and reloads the file afterwards: what is new there comes as in any reload.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::giver::Giver;
use super::precopy::Watched;
use crate::admin::Offers;
use crate::config::settings::{Bind, Protocol, Settings};
use crate::listener::{DoorSocket, Wanted};
use crate::manifest::{self, Held, Manifest};
use crate::metrics::{ListenerCounters, ListenerShard};
use crate::pool::{Backend, Lease};
use crate::process_phase::Withdrawn;
use crate::publisher::Pickers;
use crate::reason::Reason;
use crate::server::admin_sockets::{HttpDoor, SocketDoor, http_address_of};
use crate::server::control::{Control, lock};
use crate::server::open_listeners::Matched;
use crate::server::rates::RatesBefore;
use crate::sys::pipe::Pipe;
use crate::sys::{fd_passing, process};
use crate::transfer::{Ahead, Bundle, Sockets, is_taken_up};
use crate::worker::{Message, ThreadImport, Workers};
use crate::{tcp, udp};

/// What is taken over, and who lets go of it.
pub struct Inherited {
    /// What came first: all that can be built of before the process before stands still, and where it stands still already
    /// everything else as well.
    bundle: Bundle,
    /// What came when it stood still.
    rest: Option<Bundle>,
    /// Sockets that came in between, watched already.
    ahead: Ahead<Watched>,
    giver: Giver,
    /// Ids of doors: before, and now.
    ids: HashMap<u64, u64>,
    /// What was built before everything came.
    pickers: Pickers,
    /// Sockets of streams that are reset when they are closed, as long as nobody takes them up.
    reset_if_dropped: Vec<RawFd>,
    /// Of sessions that cannot go on: to be reset when they may be touched.
    lost: Vec<OwnedFd>,
}

impl Inherited {
    /// This bundle, and what is to come of the giver. `pickers` were built before it came.
    pub fn new(bundle: Bundle, giver: Giver, pickers: Pickers) -> Self {
        let reset_if_dropped = bundle.reset_if_dropped();
        Self {
            bundle,
            rest: None,
            ahead: Ahead::default(),
            giver,
            ids: HashMap::new(),
            pickers,
            reset_if_dropped,
            lost: Vec::new(),
        }
    }

    /// Everything is built: takes what there is besides. These threads watch nothing yet.
    pub(in crate::server) async fn take_rest(&mut self, workers: &Workers) -> Result<(), String> {
        let backends = self.manifest().backends().collect();
        self.ahead = self.giver.sockets(workers).await?;
        self.rest = self.giver.rest(&backends).await?;
        let sessions = &self.sessions().manifest.sessions;
        let ahead = sessions.iter().filter(|session| session.precopied != 0);
        let named = ahead.map(|session| (session.worker, session.precopied)).collect();
        if self.ahead.has_all(named) {
            Ok(())
        } else {
            Err("sessions came whose sockets did not come before them".to_owned())
        }
    }

    /// What is otherwise than what came first.
    fn changes(&self) -> Option<&Manifest> {
        self.rest.as_ref().map(|rest| &rest.manifest)
    }

    /// The bundle with the sessions.
    fn sessions(&mut self) -> &mut Bundle {
        self.rest.as_mut().unwrap_or(&mut self.bundle)
    }

    pub(in crate::server) fn manifest(&self) -> &Manifest {
        &self.bundle.manifest
    }

    /// What was built before everything came.
    pub(in crate::server) fn take_pickers(&mut self) -> Pickers {
        std::mem::take(&mut self.pickers)
    }

    /// The zero of the shared clock: where it was.
    pub(in crate::server) fn epoch(&self) -> Instant {
        let now = Instant::now();
        let age_ns = process::monotonic_ns().saturating_sub(self.manifest().head.epoch_ns);
        now.checked_sub(Duration::from_nanos(age_ns)).unwrap_or(now)
    }

    /// Everything of it is in its place: waits for the word that it may be touched.
    pub(in crate::server) async fn may_begin(&mut self, taken: &str) -> Result<(), String> {
        self.giver.lets_go(taken).await?;
        is_taken_up(std::mem::take(&mut self.reset_if_dropped));
        // No half of a stream may look like the whole.
        fd_passing::reset_when_dropped(self.lost.iter().map(AsRawFd::as_raw_fd), true);
        self.lost.clear();
        Ok(())
    }

    /// Adds doors that no listener names but that stayed open, because connections were being made there.
    pub(in crate::server) fn add_doors(&self, matched: &mut Matched, settings: &Settings) {
        for door in &self.manifest().doors {
            let bind = Bind { ip: door.bind.0, port: door.bind.1 };
            let protocol = protocol_of(door);
            let is_there =
                |(at, there): &(usize, Bind)| *there == bind && settings.listeners[*at].protocol == protocol;
            let at = settings.listeners.iter().position(|one| one.name == door.listener);
            if let Some(at) = at
                && settings.listeners[at].protocol == protocol
                && !matched.missing.iter().any(is_there)
            {
                matched.missing.push((at, bind));
            }
        }
    }

    /// The sockets of a wanted door that were there, and where it is bound.
    pub(in crate::server) fn take_door(
        &mut self,
        wanted: &Wanted<'_>,
    ) -> Option<(SocketAddr, Vec<DoorSocket>)> {
        let is_it = |door: &&manifest::Door| {
            door.bind == (wanted.at.ip, wanted.at.port) && protocol_of(door) == wanted.listener.protocol
        };
        // In the order in which they were bound.
        let record: Vec<manifest::Door> = self.manifest().doors.iter().filter(is_it).cloned().collect();
        let address = record.first()?.address;
        let mut sockets = Vec::with_capacity(record.len());
        for door in record {
            self.ids.insert(door.id, wanted.id);
            if let Some(fd) = self.bundle.descriptor(door.fd) {
                sockets.push(DoorSocket { fd, lost_seen: door.lost_seen });
            }
        }
        Some((address, sockets))
    }

    /// Whether the machine is withdrawn.
    pub(in crate::server) fn withdrawn(&self) -> Option<Withdrawn> {
        let (by, since_s) = self.manifest().head.withdrawn.clone()?;
        Some(Withdrawn { by, since_s })
    }

    /// The HTTP door that was there, where the settings want it.
    pub(in crate::server) fn http(&mut self, settings: &Settings, offers: Offers) -> Option<HttpDoor> {
        http_address_of(settings, offers)?;
        let head = &self.bundle.manifest.head;
        let number = match offers {
            Offers::Everything => head.http,
            Offers::Readiness => head.ready,
        };
        let fd = number.and_then(|fd| self.bundle.descriptor(fd))?;
        HttpDoor::import(fd).ok()
    }

    /// The socket of the commands that was there.
    pub(in crate::server) fn socket(&mut self) -> Option<SocketDoor> {
        let (fd, path) = self.bundle.manifest.head.socket.clone()?;
        SocketDoor::import(self.bundle.descriptor(fd)?, path.into()).ok()
    }

    /// Listeners go on counting where they were.
    pub(in crate::server) fn resume_counters(&self, control: &Control, settings: &Settings) {
        let manifest = self.manifest();
        let workers = control.workers.count();
        let resumed = manifest.listeners.iter().filter_map(|record| {
            let proto = [Protocol::Tcp, Protocol::Udp].into_iter().find(|one| one.word() == record.proto)?;
            let pool = pool_slot(&record.pool, settings, manifest)?;
            let counters = ListenerCounters::new(&record.listener, proto.word(), pool, workers);
            counters.shards.begin_with(&record.counts, ListenerShard::counters);
            Some(Arc::new(counters))
        });
        control.listeners.replace(resumed.collect());
        let owed = manifest.listeners.iter();
        let owed = owed.filter_map(|record| Some((record.listener.clone(), record.rates.clone()?)));
        *lock(&control.rates_before) = RatesBefore::new(owed, control.now_ns());
        control.reloads.done.store(manifest.head.reloads.0, Ordering::Relaxed);
        control.reloads.refused.store(manifest.head.reloads.1, Ordering::Relaxed);
    }

    /// They have counted on since they were told. While nobody counts here.
    pub(in crate::server) fn catch_up_counters(&self, control: &Control) {
        let before: HashMap<_, _> =
            self.manifest().listeners.iter().map(|one| ((&*one.listener, &*one.proto), one)).collect();
        let known = control.listeners.all();
        let known: HashMap<_, _> = known.iter().map(|one| ((&*one.listener, one.proto), one)).collect();
        for now in self.changes().into_iter().flat_map(|changes| &changes.listeners) {
            let key = (&*now.listener, &*now.proto);
            if let (Some(before), Some(counters)) = (before.get(&key), known.get(&key)) {
                counters.shards.catch_up(&before.counts, &now.counts, ListenerShard::counters);
            }
        }
    }

    /// The pools as they are otherwise now.
    pub(in crate::server) fn changed_pools(&self) -> &[manifest::Pool] {
        self.changes().map_or(&[], |changes| &changes.pools)
    }

    /// Waits until the service manager listens.
    pub(in crate::server) async fn be_heard(&mut self) {
        let _ = tokio::time::timeout(HEARD_MAX, self.giver.is_main()).await;
    }

    /// Gives every session and flow to its thread, which takes it into its table. The doors are open already. Tells how
    /// many there are, as the giver counts them.
    pub(in crate::server) fn hand_on(
        &mut self,
        control: &Control,
        backends: &HashMap<u64, Arc<Backend>>,
    ) -> String {
        let count = Giver::count(self.sessions());
        let manifest = &mut self.sessions().manifest;
        let (sessions, flows) = (std::mem::take(&mut manifest.sessions), std::mem::take(&mut manifest.flows));
        let (terms, flow_terms) =
            (std::mem::take(&mut manifest.terms), std::mem::take(&mut manifest.flow_terms));
        let foreign = sessions.iter().filter(|record| record.is_foreign()).count()
            + flows.iter().filter(|record| record.is_foreign()).count();
        if foreign > 0 {
            tracing::warn!(target: "evenkeel", sessions = foreign, "sessions came in a state that only a later program knows: they end here as handover_failed, all others go on");
        }
        let workers = control.workers.count();
        let mut ahead = std::mem::take(&mut self.ahead);
        let mut imports: Vec<ThreadImport> = (0..workers).map(|_| ThreadImport::default()).collect();
        for import in &mut imports {
            let changed = self.changes().into_iter().flat_map(|changes| &changes.doors);
            let now =
                changed.filter_map(|door| Some((*self.ids.get(&door.id)?, door.number, door.lost_seen)));
            import.lost = now.collect();
        }
        let terms: Vec<_> = terms.iter().map(|record| control.tcp_terms(record)).collect();
        let flow_terms: Vec<_> = flow_terms.iter().map(|record| control.udp_terms(record)).collect();
        let mut lost = self.hand_on_sessions(sessions, &terms, backends, control, (&mut ahead, &mut imports));
        lost += self.hand_on_flows(flows, &flow_terms, backends, control, &mut imports);
        if lost > 0 {
            tracing::error!(target: "evenkeel", sessions = lost, "sessions came without a socket or a backend that they had: they end here as handover_failed, all others go on");
        }
        for (worker, import) in imports.into_iter().enumerate() {
            control.workers.mailbox(worker).post(Message::Import(Box::new(import)));
        }
        count
    }

    /// Tells how many cannot go on.
    fn hand_on_sessions(
        &mut self,
        sessions: Vec<manifest::Session>,
        terms: &[Arc<tcp::Terms>],
        backends: &HashMap<u64, Arc<Backend>>,
        control: &Control,
        (ahead, imports): (&mut Ahead<Watched>, &mut [ThreadImport]),
    ) -> usize {
        let mut lost = 0;
        for mut record in sessions {
            let (worker, place, client, backend) = match ahead.take(record.worker, record.precopied) {
                Some(Watched { sockets: Sockets { client, backend }, worker, place }) => {
                    (worker, Some(place), Some(client), Some(backend))
                }
                None => {
                    let worker = usize::try_from(record.worker).unwrap_or(0) % imports.len();
                    let client = self.sessions().descriptor(record.client.fd);
                    let side = record.backend.as_ref();
                    (worker, None, client, side.and_then(|side| self.sessions().descriptor(side.fd)))
                }
            };
            let terms = &terms[usize::try_from(record.terms).unwrap_or(usize::MAX)];
            // Backends have other numbers here; one that nobody knows any more is not picked again anyway.
            let known = |number: &u64| backends.get(number).map(|backend| backend.number);
            record.tried = record.tried.iter().filter_map(known).collect();
            let pipes = [&record.to_backend.held, &record.to_client.held].map(|held| self.pipe(held));
            let lease = record.lease.and_then(|number| backends.get(&number));
            let is_whole =
                backend.is_some() == record.backend.is_some() && lease.is_some() == record.lease.is_some();
            let (Some(client), true) = (client, is_whole) else {
                terms.counters.shards.of(worker).ended(Reason::HandoverFailed).add(1);
                self.lost.extend(backend);
                lost += 1;
                continue;
            };
            control.workers.import(worker);
            imports[worker].sessions.push(tcp::Import {
                terms: Arc::clone(terms),
                client,
                backend,
                lease: lease.map(|backend| Lease::import(Arc::clone(backend))),
                pipes,
                place,
                record,
            });
        }
        lost
    }

    /// Likewise.
    fn hand_on_flows(
        &mut self,
        mut flows: Vec<manifest::Flow>,
        terms: &[Arc<udp::Terms>],
        backends: &HashMap<u64, Arc<Backend>>,
        control: &Control,
        imports: &mut [ThreadImport],
    ) -> usize {
        let before = usize::try_from(self.manifest().head.workers).unwrap_or(usize::MAX);
        let mut lost = 0;
        // Of two flows of one client, begun with different threads, the one that was heard of last goes on.
        flows.sort_by_key(|record| std::cmp::Reverse(record.client_ms));
        for mut record in flows {
            let worker = usize::try_from(record.worker).unwrap_or(0) % imports.len();
            let terms = &terms[usize::try_from(record.terms).unwrap_or(usize::MAX)];
            let fd = self.sessions().descriptor(record.fd);
            let (Some(fd), Some(backend)) = (fd, backends.get(&record.lease)) else {
                terms.counters.shards.of(worker).ended(Reason::HandoverFailed).add(1);
                lost += 1;
                continue;
            };
            let lease = Lease::import(Arc::clone(backend));
            control.ports.note(record.origin, record.backend, worker);
            // With another number of threads its client may come to another one, which could not have its address too: it
            // ends, and begins anew there.
            let begins_anew = record.origin.1 && imports.len() != before;
            record.door = self.ids.get(&record.door).copied().filter(|_| !begins_anew).unwrap_or(0);
            imports[worker].flows.push(udp::Import { record, terms: Arc::clone(terms), fd, lease });
        }
        lost
    }

    fn pipe(&mut self, held: &Held) -> Option<Pipe> {
        let Held::Piped { read_end, write_end, held_bytes, size_bytes } = held else { return None };
        let mut end = |number: &i32| -> Option<OwnedFd> { self.sessions().descriptor(*number) };
        let (read_end, write_end) = (end(read_end)?, end(write_end)?);
        let whole = |bytes: &u64| usize::try_from(*bytes).unwrap_or(usize::MAX);
        Some(Pipe::import(read_end, write_end, whole(held_bytes), whole(size_bytes)))
    }
}

/// Where a pool of this name stands: first those of the file, then those that are gone, as they are published.
fn pool_slot(name: &str, settings: &Settings, manifest: &Manifest) -> Option<usize> {
    let is_there = |name: &str| settings.pools.iter().position(|pool| pool.name == name);
    is_there(name).or_else(|| {
        let mut gone = manifest.pools.iter().filter(|pool| is_there(&pool.name).is_none());
        gone.position(|pool| pool.name == name).map(|at| settings.pools.len() + at)
    })
}

fn protocol_of(door: &manifest::Door) -> Protocol {
    if door.udp { Protocol::Udp } else { Protocol::Tcp }
}

/// The process before has nothing else to do then.
const HEARD_MAX: Duration = Duration::from_secs(2);
