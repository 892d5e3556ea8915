//! Sending side of a handover: everything is exported while the data threads are frozen, and gone only when the other
//! process has it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::freeze::{FrozenWorkers, Stuck};
use crate::config::settings::Protocol;
use crate::manifest::{Door, Head, ListenerCounts, Manifest, Pool};
use crate::metrics::ListenerShard;
use crate::process_phase::Phase;
use crate::publisher::Order;
use crate::server::control::{Control, lock};
use crate::sys::process;
use crate::transfer::{Channel, ChannelError, Stash, StashError};
use crate::worker::ThreadExport;

/// Why everything stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// It is on its way in or out.
    #[error("the program is {0}")]
    NotRunning(&'static str),
    /// A data thread is busy.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The successor failed.
    #[error("the new process did not take over: {0}")]
    Channel(#[from] ChannelError),
    /// The successor is silent.
    #[error("the new process did not get ready within 10 s")]
    Silent,
    /// The successor was ready, and silent when it had to take over.
    #[error("the new process did not take over within {} s, for which every session stood still", STANDSTILL_MAX.as_secs())]
    Slow,
    /// It cannot be left with the service manager.
    #[error("what is live cannot be left with the service manager: {0}")]
    Stash(#[from] StashError),
}

/// What another process has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// TCP sessions.
    pub sessions: usize,
    /// UDP flows.
    pub flows: usize,
    /// How long the data threads stood until then.
    pub pause: Duration,
}

impl Control {
    /// Gives everything to the successor at the other end of the line. On an error everything goes on as before.
    pub(in crate::server) async fn hand_over(&self, channel: &Channel) -> Result<HandedOver, HandoverError> {
        self.give(|manifest| async move {
            timeout(STANDSTILL_MAX, async {
                channel.send_bundle(&manifest).await?;
                channel.let_go().await
            })
            .await
            .map_err(|_| HandoverError::Slow)?
            .map_err(HandoverError::from)
        })
        .await
    }

    /// Leaves everything with the service manager. On an error everything goes on as before.
    pub(in crate::server) async fn stash(&self, stash: &Stash) -> Result<HandedOver, HandoverError> {
        self.give(|manifest| async move { Ok(stash.leave(&manifest)?) }).await
    }

    async fn give<F>(&self, to: impl FnOnce(Arc<Manifest>) -> F) -> Result<HandedOver, HandoverError>
    where
        F: Future<Output = Result<(), HandoverError>>,
    {
        // A reload under way comes to its end first, and none begins.
        let _reloading = self.reloading.lock().await;
        let phase = *self.phase.borrow();
        if phase != Phase::Running {
            return Err(HandoverError::NotRunning(phase.word()));
        }
        // Commands that come now wait in the socket's queue for whoever answers then. A door that does not see it in time only
        // answers one more itself.
        self.gate.close().await;
        let given = self.give_all(to).await;
        if given.is_err() {
            self.gate.open();
        }
        given
    }

    async fn give_all<F>(&self, to: impl FnOnce(Arc<Manifest>) -> F) -> Result<HandedOver, HandoverError>
    where
        F: Future<Output = Result<(), HandoverError>>,
    {
        let began = Instant::now();
        let mut still = FrozenWorkers::begin(&self.workers).await?;
        let exports = still.exports().await?;
        let manifest = Arc::new(self.manifest(exports).await.ok_or(HandoverError::NotRunning("stopping"))?);
        to(Arc::clone(&manifest)).await?;
        // From here on the sockets are another's.
        self.leave_socket_file();
        // First the word, then the deed: threads that end before it have failed.
        self.enter(Phase::HandedOver);
        still.leave();
        Ok(HandedOver {
            sessions: manifest.sessions.len(),
            flows: manifest.flows.len(),
            pause: began.elapsed(),
        })
    }

    async fn manifest(&self, exports: Vec<ThreadExport>) -> Option<Manifest> {
        let (reply, pools) = oneshot::channel();
        self.orders.send(Order::Export { reply }).await.ok()?;
        let pools: Vec<Pool> = pools.await.ok()?;
        let head = Head {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            config: lock(&self.text).to_string(),
            config_path: self.file.path.clone(),
            epoch_ns: self.epoch_ns(),
            workers: u32::try_from(self.workers.count()).unwrap_or(u32::MAX),
            http: self.http_socket(),
            socket: self.admin_socket(),
            reloads: (
                self.reloads.done.load(Ordering::Relaxed),
                self.reloads.refused.load(Ordering::Relaxed),
            ),
        };
        let (doors, listeners) = (self.doors(&exports), self.counts(&pools));
        let mut manifest = Manifest { doors, listeners, pools, ..Manifest::new(head) };
        #[cfg(feature = "manifest-next")]
        self.add_next(&mut manifest);
        for export in exports {
            add(&mut manifest, export);
        }
        Some(manifest)
    }

    /// What only a later build has: a record with a descriptor of its own, and a counter, which is told.
    #[cfg(feature = "manifest-next")]
    fn add_next(&self, manifest: &mut Manifest) {
        manifest.next.push(crate::manifest::Next { about: "the log".to_owned(), fd: 2 });
        let of = |counters: &Arc<crate::metrics::ListenerCounters>| {
            counters.shards.sum(|shard| shard.taken_over.value())
        };
        let taken_over: u64 = self.listeners.all().iter().map(of).sum();
        tracing::info!(target: "evenkeel", taken_over, "sessions came from processes before");
    }

    /// Where the shared clock began, on the clock that all processes share.
    fn epoch_ns(&self) -> u64 {
        let elapsed = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        process::monotonic_ns().saturating_sub(elapsed)
    }

    fn doors(&self, exports: &[ThreadExport]) -> Vec<Door> {
        let served = self.served();
        // Those that left the file and wait for their flows wait no longer: the flows end in the next process.
        let staying = served.doors.iter().filter(|door| door.leaving.is_none());
        let known: HashMap<u64, _> = staying.map(|door| (door.id, door)).collect();
        let mut doors = Vec::new();
        for export in exports {
            let tcp = export.doors.iter().map(|(id, number, fd)| (*id, *number, *fd, 0));
            for (id, number, fd, lost_seen) in tcp.chain(export.udp.doors.iter().copied()) {
                let Some(door) = known.get(&id) else { continue };
                doors.push(Door {
                    id,
                    number,
                    udp: door.protocol == Protocol::Udp,
                    bind: (door.bind.ip, door.bind.port),
                    address: door.address,
                    listener: door.listener.clone(),
                    lost_seen,
                    fd,
                });
            }
        }
        doors.sort_by_key(|door| (door.id, door.number));
        doors
    }

    fn counts(&self, pools: &[Pool]) -> Vec<ListenerCounts> {
        let tell = |counters: &Arc<crate::metrics::ListenerCounters>| ListenerCounts {
            listener: counters.listener.to_string(),
            proto: counters.proto.to_owned(),
            pool: pools.get(counters.pool()).map_or_else(String::new, |pool| pool.name.clone()),
            counts: counters.shards.totals(ListenerShard::counters),
        };
        self.listeners.all().iter().map(tell).collect()
    }
}

/// Adds what one thread has; its numbers of terms go behind those that are there.
fn add(manifest: &mut Manifest, export: ThreadExport) {
    let first = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let (terms, flow_terms) = (first(manifest.terms.len()), first(manifest.flow_terms.len()));
    manifest.terms.extend(export.tcp.terms);
    manifest.sessions.extend(export.tcp.sessions.into_iter().map(|mut session| {
        session.terms += terms;
        session
    }));
    manifest.flow_terms.extend(export.udp.terms);
    manifest.flows.extend(export.udp.flows.into_iter().map(|mut flow| {
        flow.terms += flow_terms;
        flow
    }));
}

/// A successor that has read its file needs milliseconds; meanwhile no session moves, so this is short.
const STANDSTILL_MAX: Duration = Duration::from_secs(1);
