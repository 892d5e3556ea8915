//! Receiving side of a handover: going on with everything that another process had: doors, sessions, flows, and what
//! was counted.
//!
//! A balancer that takes over begins with the configuration that was served before, so that everything finds its place,
//! and reloads the file afterwards: what is new there comes as in any reload.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::settings::{Bind, LogSessions, Protocol, Settings};
use crate::limits::SessionLimits;
use crate::listener::{DoorSocket, Terms, Wanted};
use crate::manifest::{self, Held, Manifest};
use crate::metrics::{ListenerCounters, ListenerShard};
use crate::pool::{Backend, Lease, LivePool};
use crate::publisher::Pickers;
use crate::reason::Reason;
use crate::server::admin_sockets::{HttpDoor, SocketDoor};
use crate::server::control::Control;
use crate::server::open_listeners::Matched;
use crate::sys::pipe::Pipe;
use crate::sys::process;
use crate::transfer::Bundle;
use crate::worker::{Message, ThreadImport};
use crate::{tcp, udp};

/// What is taken over, and the word that it may be touched.
pub struct Inherited {
    bundle: Bundle,
    /// Until it completes everything is still another process's.
    go: Pin<Box<dyn Future<Output = Result<(), String>>>>,
    /// Until it completes the service manager does not listen to this process.
    heard: Pin<Box<dyn Future<Output = ()>>>,
    /// Ids of doors: before, and now.
    ids: HashMap<u64, u64>,
    /// What was built before everything came.
    pickers: Pickers,
}

impl Inherited {
    /// This bundle, which may be touched when `go` has completed well; the service manager listens when `heard` has. `pickers`
    /// were built before it came.
    pub fn new(
        bundle: Bundle,
        go: impl Future<Output = Result<(), String>> + 'static,
        heard: impl Future<Output = ()> + 'static,
        pickers: Pickers,
    ) -> Self {
        Self { bundle, go: Box::pin(go), heard: Box::pin(heard), ids: HashMap::new(), pickers }
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

    /// Waits for the word.
    pub(in crate::server) async fn may_begin(&mut self) -> Result<(), String> {
        self.go.as_mut().await?;
        self.bundle.is_taken_up();
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

    /// The HTTP door that was there, where the settings want it.
    pub(in crate::server) fn http(&mut self, settings: &Settings) -> Option<HttpDoor> {
        settings.admin.http?;
        let fd = self.bundle.manifest.head.http.and_then(|fd| self.bundle.descriptor(fd))?;
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
        control.reloads.done.store(manifest.head.reloads.0, Ordering::Relaxed);
        control.reloads.refused.store(manifest.head.reloads.1, Ordering::Relaxed);
    }

    /// Waits until the service manager listens.
    pub(in crate::server) async fn be_heard(&mut self) {
        let _ = tokio::time::timeout(HEARD_MAX, self.heard.as_mut()).await;
    }

    /// Gives every session and flow to its thread. The doors are open already.
    pub(in crate::server) fn hand_on(&mut self, control: &Control, backends: &HashMap<u64, Arc<Backend>>) {
        let manifest = &mut self.bundle.manifest;
        let (sessions, mut flows) =
            (std::mem::take(&mut manifest.sessions), std::mem::take(&mut manifest.flows));
        let (terms, flow_terms) =
            (std::mem::take(&mut manifest.terms), std::mem::take(&mut manifest.flow_terms));
        let foreign = sessions.iter().filter(|record| record.is_foreign()).count()
            + flows.iter().filter(|record| record.is_foreign()).count();
        if foreign > 0 {
            tracing::warn!(target: "evenkeel", sessions = foreign, "sessions came in a state that only a later program knows: they end here as handover_failed, all others go on");
        }
        let terms: Vec<_> = terms.iter().map(|record| control.tcp_terms(record)).collect();
        let flow_terms: Vec<_> = flow_terms.iter().map(|record| control.udp_terms(record)).collect();
        let (workers, workers_before) =
            (control.workers.count(), usize::try_from(manifest.head.workers).unwrap_or(usize::MAX));
        let mut imports: Vec<ThreadImport> = (0..workers).map(|_| ThreadImport::default()).collect();
        let lease = |number: u64| backends.get(&number).map(|backend| Lease::import(Arc::clone(backend)));
        for mut record in sessions {
            let worker = usize::try_from(record.worker).unwrap_or(0) % workers;
            // Backends have other numbers here; one that nobody knows any more is not picked again anyway.
            let known = |number: &u64| backends.get(number).map(|backend| backend.number);
            record.tried = record.tried.iter().filter_map(known).collect();
            let Some(client) = self.bundle.descriptor(record.client.fd) else { continue };
            let backend = record.backend.as_ref().and_then(|side| self.bundle.descriptor(side.fd));
            let pipes = [&record.to_backend.held, &record.to_client.held].map(|held| self.pipe(held));
            control.workers.import(worker);
            imports[worker].sessions.push(tcp::Import {
                terms: Arc::clone(&terms[usize::try_from(record.terms).unwrap_or(usize::MAX)]),
                client,
                backend,
                lease: record.lease.and_then(lease),
                pipes,
                record,
            });
        }
        // Of two flows of one client, begun with different threads, the one that was heard of last goes on.
        flows.sort_by_key(|record| std::cmp::Reverse(record.client_ms));
        for mut record in flows {
            let worker = usize::try_from(record.worker).unwrap_or(0) % workers;
            let (Some(fd), Some(lease)) = (self.bundle.descriptor(record.fd), lease(record.lease)) else {
                continue;
            };
            control.ports.note(record.origin, record.backend, worker);
            // With another number of threads its client may come to another one, which could not have its address too: it
            // ends, and begins anew there.
            let begins_anew = record.origin.1 && workers != workers_before;
            record.door = self.ids.get(&record.door).copied().filter(|_| !begins_anew).unwrap_or(0);
            let terms = Arc::clone(&flow_terms[usize::try_from(record.terms).unwrap_or(usize::MAX)]);
            imports[worker].flows.push(udp::Import { record, terms, fd, lease });
        }
        for (worker, import) in imports.into_iter().enumerate() {
            control.workers.mailbox(worker).post(Message::Import(Box::new(import)));
        }
    }

    fn pipe(&mut self, held: &Held) -> Option<Pipe> {
        let Held::Piped { read_end, write_end, held_bytes, size_bytes } = held else { return None };
        let mut end = |number: &i32| -> Option<OwnedFd> { self.bundle.descriptor(*number) };
        let (read_end, write_end) = (end(read_end)?, end(write_end)?);
        let whole = |bytes: &u64| usize::try_from(*bytes).unwrap_or(usize::MAX);
        Some(Pipe::import(read_end, write_end, whole(held_bytes), whole(size_bytes)))
    }
}

impl Control {
    /// What sessions of the process before were born with: what its listener has now, but for what it had otherwise then.
    fn tcp_terms(&self, record: &manifest::Terms) -> Arc<tcp::Terms> {
        let served = self.served();
        let log_sessions = LogSessions::named(record.log_sessions.as_str()).unwrap_or(LogSessions::All);
        let (live, counters) = self.listed(&record.pool, &record.listener, Protocol::Tcp);
        let now = match served.terms.get(&record.listener) {
            Some(Terms::Tcp(now)) => Some(now),
            _ => None,
        };
        if let Some(now) = now.filter(|now| {
            now.idle_ms == record.idle_ms
                && now.half_closed_ms == record.half_closed_ms
                && now.log_sessions == log_sessions
                && Arc::ptr_eq(&now.live, &live)
        }) {
            return Arc::clone(now);
        }
        // Those that wait for their PROXY header are still to be judged.
        let of_now = now.map(|now| now.for_those_before(Arc::clone(&counters), &live));
        Arc::new(tcp::Terms {
            idle_ms: record.idle_ms,
            half_closed_ms: record.half_closed_ms,
            log_sessions,
            ..of_now.unwrap_or_else(|| tcp::Terms::of_nobody(counters, &live))
        })
    }

    fn udp_terms(&self, record: &manifest::FlowTerms) -> Arc<udp::Terms> {
        let served = self.served();
        let log_sessions = LogSessions::named(record.log_sessions.as_str()).unwrap_or(LogSessions::All);
        let (live, counters) = self.listed(&record.pool, &record.listener, Protocol::Udp);
        let now = match served.terms.get(&record.listener) {
            Some(Terms::Udp(now)) => Some(now),
            _ => None,
        };
        let number = |value: Option<std::num::NonZeroU32>| value.map_or(0, std::num::NonZeroU32::get);
        if let Some(now) = now.filter(|now| {
            now.flow.idle_ms == record.idle_ms
                && now.flow.lifetime_ms == record.lifetime_ms
                && number(now.flow.responses) == record.responses
                && number(now.flow.requests) == record.requests
                && now.log_sessions == log_sessions
                && Arc::ptr_eq(&now.live, &live)
        }) {
            return Arc::clone(now);
        }
        // Those of a listener that is gone count in the process, as all do.
        let limits = now.map_or_else(
            || Arc::new(SessionLimits::new(Some(self.workers.shared_udp_permits()), None, None)),
            |now| Arc::clone(&now.flow.limits),
        );
        Arc::new(udp::Terms::of_before(record, log_sessions, counters, &live, limits))
    }

    /// The pool and the counters of these names; a listener that is gone gets counters of its own while it has sessions.
    fn listed(
        &self,
        pool: &str,
        listener: &str,
        protocol: Protocol,
    ) -> (Arc<LivePool>, Arc<ListenerCounters>) {
        let snapshot = self.snapshots.load();
        let named = snapshot.pools.iter().find(|view| *view.live.name == *pool);
        // Every pool that has sessions is there; without one any will do, since nobody is picked there.
        let live = Arc::clone(&named.unwrap_or(&snapshot.pools[0]).live);
        let known = self.listeners.named(listener.as_bytes()).filter(|one| one.proto == protocol.word());
        let counters = known.unwrap_or_else(|| {
            let new = ListenerCounters::new(listener, protocol.word(), live.slot.0, self.workers.count());
            let new = Arc::new(new);
            let mut all = self.listeners.all();
            all.push(Arc::clone(&new));
            self.listeners.replace(all);
            new
        });
        (live, counters)
    }

    /// Sessions of listeners that left the file at the takeover have the grace, and then end as `drained`.
    pub(in crate::server) fn drain_orphans(self: &Arc<Self>) {
        let served = self.served();
        let grace = served.settings.shutdown.grace;
        let is_orphan = |counters: &Arc<ListenerCounters>| !served.terms.contains_key(&*counters.listener);
        let orphans: Vec<String> =
            self.listeners.all().into_iter().filter(is_orphan).map(|one| one.listener.to_string()).collect();
        drop(served);
        for listener in orphans {
            tracing::info!(target: "evenkeel", listener, grace_s = grace.as_secs_f64(), "the listener left the file: its sessions may finish");
            self.end_after_grace(listener, grace, Reason::Drained);
        }
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
