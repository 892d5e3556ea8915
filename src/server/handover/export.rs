//! Export of a whole balancer, as a manifest: what can be built of while everything goes on, and what is told when the data
//! threads stand still. What was told first is told again only where it is otherwise by then, so that the standstill is as
//! long as there are sessions, whatever the file holds.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::precopy::{self, GoneAhead};
use crate::admin::Offers;
use crate::config::settings::Protocol;
use crate::manifest::{Door, Head, ListenerCounts, Manifest, Pool};
use crate::metrics::{Drop, Fingerprint, ListenerCounters, ListenerShard};
use crate::publisher::{Order, Told};
use crate::server::control::{Control, lock};
use crate::server::rates;
use crate::server::run_time;
use crate::server::terms::limits_of;
use crate::sys::process;
use crate::worker::{Doors, DoorsAsked, Message, ThreadExport};

/// What the successor knows already.
pub(super) struct Before {
    pools: Arc<Told>,
    /// Of the pools, by their slots.
    names: Vec<String>,
    listeners: HashMap<(Arc<str>, &'static str), u64>,
    /// Datagrams that the kernel had lost, by the door's id and the number among its sockets.
    lost: HashMap<(u64, u32), u32>,
    /// Sessions whose sockets it has.
    gone: GoneAhead,
}

impl Before {
    /// It got these sockets since.
    pub(super) fn went_ahead(&mut self, gone: GoneAhead) {
        self.gone = gone;
    }
}

impl Control {
    /// What can be built of before anything stands still: all but sessions and flows; and what to compare with later.
    pub(super) async fn manifest_to_prepare(&self) -> Option<(Manifest, Before)> {
        let doors = self.doors_of_threads().await?;
        let (pools, told) = self.pools(None).await?;
        let named = |pool: usize| pools.get(pool).map_or_else(String::new, |pool| pool.name.clone());
        let all = self.listeners.all();
        // First the fingerprints: what is counted in between makes a difference then.
        let fingerprints = all.iter().map(|counters| (key(counters), fingerprint(counters))).collect();
        let listeners = all.iter().map(|counters| self.tell(counters, named(counters.pool()))).collect();
        let before = Before {
            pools: Arc::new(told),
            names: pools.iter().map(|pool| pool.name.clone()).collect(),
            listeners: fingerprints,
            lost: doors.iter().map(|(id, number, _, lost)| ((*id, *number), *lost)).collect(),
            gone: GoneAhead::new(),
        };
        let doors = self.doors(doors);
        Some((Manifest { doors, listeners, pools, ..Manifest::new(self.head()) }, before))
    }

    /// Everything, or what is to be told besides what was told `before`: sessions and flows, and what is otherwise now.
    pub(super) async fn manifest(
        &self,
        exports: Vec<ThreadExport>,
        before: Option<&Before>,
    ) -> Option<Manifest> {
        let (pools, _) = self.pools(before.map(|before| Arc::clone(&before.pools))).await?;
        let named = |pool: usize| match before {
            Some(before) => before.names.get(pool).cloned().unwrap_or_default(),
            None => pools.get(pool).map_or_else(String::new, |pool| pool.name.clone()),
        };
        let all = self.listeners.all();
        // What waits in this process for a busy link does not go along: it is counted there, where counting goes on.
        let unsent = |counters: &ListenerCounters| -> u64 {
            let all = exports.iter().flat_map(|export| &export.udp.unsent);
            all.filter(|(of, _)| key(of) == key(counters)).map(|(_, replies)| replies).sum()
        };
        let has_grown = |counters: &&Arc<ListenerCounters>| {
            before.is_none_or(|before| before.listeners.get(&key(counters)) != Some(&fingerprint(counters)))
                || unsent(counters) > 0
        };
        let told = all.iter().filter(has_grown).map(|counters| {
            let mut told = match before {
                None => self.tell(counters, named(counters.pool())),
                Some(_) => tell(counters, named(counters.pool())),
            };
            add_dropped(&mut told, unsent(counters));
            told
        });
        let listeners = told.collect();
        let doors = exports.iter().flat_map(|export| export.doors.iter().copied());
        let is_otherwise = |(id, number, _, lost): &(u64, u32, RawFd, u32)| {
            before.is_none_or(|before| before.lost.get(&(*id, *number)) != Some(lost))
        };
        let doors = self.doors(doors.filter(is_otherwise).collect());
        let head = match before {
            None => self.head(),
            Some(_) => Head { config: String::new(), http: None, ready: None, socket: None, ..self.head() },
        };
        let mut manifest = Manifest { doors, listeners, pools, ..Manifest::new(head) };
        #[cfg(feature = "manifest-next")]
        self.add_next(&mut manifest);
        for (worker, mut export) in exports.into_iter().enumerate() {
            if let Some(gone) = before.and_then(|before| before.gone.get(worker)) {
                precopy::mark(&mut export.tcp.sessions, &export.tcp.places, gone);
            }
            add(&mut manifest, export);
        }
        Some(manifest)
    }

    async fn pools(&self, told: Option<Arc<Told>>) -> Option<(Vec<Pool>, Told)> {
        let (reply, pools) = oneshot::channel();
        self.orders.send(Order::Export { told, reply }).await.ok()?;
        pools.await.ok()
    }

    /// What the threads have open, asked while they serve. No reload may be under way: the sockets stay what they are.
    async fn doors_of_threads(&self) -> Option<Doors> {
        let mut asked = Vec::with_capacity(self.workers.count());
        for worker in 0..self.workers.count() {
            let (reply, doors) = oneshot::channel();
            // Who asked may have gone.
            let reply = Box::new(move |doors| drop(reply.send(doors)));
            self.workers.mailbox(worker).post(Message::TellDoors(DoorsAsked(reply)));
            asked.push(doors);
        }
        let mut all = Vec::new();
        for doors in asked {
            all.extend(doors.await.ok()?);
        }
        Some(all)
    }

    fn head(&self) -> Head {
        let changed = self.run_time.current();
        let has_changes = !changed.changes.is_empty();
        Head {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            config: lock(&self.text).to_string(),
            config_path: self.reloads.files().join(", "),
            epoch_ns: self.epoch_ns(),
            workers: u32::try_from(self.workers.count()).unwrap_or(u32::MAX),
            http: self.http_socket(Offers::Everything),
            ready: self.http_socket(Offers::Readiness),
            socket: self.admin_socket(),
            reloads: (
                self.reloads.done.load(Ordering::Relaxed),
                self.reloads.refused.load(Ordering::Relaxed),
            ),
            base: has_changes.then(|| changed.base.to_string()),
            run_time: has_changes.then(|| run_time::encode(&changed.changes)),
            withdrawn: self.withdrawal.current().map(|one| (one.by, one.since_s)),
        }
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
    /// All that is to be told of a listener.
    fn tell(&self, counters: &ListenerCounters, pool: String) -> ListenerCounts {
        let served = self.served();
        let terms = served.terms.get(&*counters.listener);
        let terms = terms.filter(|terms| terms.protocol().word() == counters.proto);
        let rates = terms.and_then(limits_of).and_then(|limits| rates::told(limits, self.now_ns()));
        ListenerCounts { rates, ..tell(counters, pool) }
    }

    fn epoch_ns(&self) -> u64 {
        process::monotonic_ns().saturating_sub(self.now_ns())
    }

    fn doors(&self, open: Doors) -> Vec<Door> {
        let served = self.served();
        // Those that left the file and wait for their flows wait no longer: the flows end in the next process.
        let staying = served.doors.iter().filter(|door| door.leaving.is_none());
        let known: HashMap<u64, _> = staying.map(|door| (door.id, door)).collect();
        let told = open.into_iter().filter_map(|(id, number, fd, lost_seen)| {
            let door = known.get(&id)?;
            Some(Door {
                id,
                number,
                udp: door.protocol == Protocol::Udp,
                bind: (door.bind.ip, door.bind.port),
                address: door.address,
                listener: door.listener.clone(),
                lost_seen,
                fd,
            })
        });
        let mut doors: Vec<Door> = told.collect();
        doors.sort_by_key(|door| (door.id, door.number));
        doors
    }
}

fn tell(counters: &ListenerCounters, pool: String) -> ListenerCounts {
    ListenerCounts {
        listener: counters.listener.to_string(),
        proto: counters.proto.to_owned(),
        pool,
        counts: counters.shards.totals(ListenerShard::counters),
        rates: None,
    }
}

/// Replies that are dropped by the handover itself.
fn add_dropped(told: &mut ListenerCounts, replies: u64) {
    if replies == 0 {
        return;
    }
    let word = Drop::SendBuffer.word();
    if let Some(count) = told.counts.iter_mut().find(|count| count.word.as_str() == word) {
        count.value = count.value.wrapping_add(replies);
    }
    tracing::warn!(target: "evenkeel", listener = told.listener, replies, "replies that waited for a busy link are dropped by the handover, and counted as send_buffer");
}

fn key(counters: &ListenerCounters) -> (Arc<str>, &'static str) {
    (Arc::clone(&counters.listener), counters.proto)
}

/// Of everything that it has counted.
fn fingerprint(counters: &ListenerCounters) -> u64 {
    let mut fingerprint = Fingerprint::default();
    counters.shards.each_value(ListenerShard::counters, |value| fingerprint.note(value));
    fingerprint.value()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_do_not_go_along_count_as_dropped() {
        let counters = ListenerCounters::new("games", "udp", 0, 2);
        counters.shards.of(1).dropped(Drop::SendBuffer).add(3);
        let before = fingerprint(&counters);
        let mut told = tell(&counters, "pool".to_owned());
        add_dropped(&mut told, 4);
        let next = ListenerCounters::new("games", "udp", 0, 1);
        next.shards.begin_with(&told.counts, ListenerShard::counters);
        assert_eq!(next.shards.sum(|shard| shard.dropped(Drop::SendBuffer).value()), 7);
        let all: u64 = told.counts.iter().map(|count| count.value).sum();
        assert_eq!(all, 7, "no other counter");
        counters.shards.of(0).begun.add(1);
        assert_ne!(fingerprint(&counters), before);
    }
}
