//! Live part of a pool, which outlasts every snapshot: its permits, who waits for one, who was sent where, and what is
//! counted.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::queue::Queue;
use super::{Lease, PoolSlot, SnapshotCell, Waiter};
use crate::config::settings::{self, OnDown, Role};
use crate::limits::Permits;
use crate::manifest::Count;
use crate::metrics::{Histogram, PerWorker, PoolShard};
use crate::sticky::{Source, Sticky};

/// One pool, whatever the snapshot.
#[derive(Debug)]
pub struct LivePool {
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands in every snapshot.
    pub slot: PoolSlot,
    /// What is counted of it.
    pub shards: PerWorker<PoolShard>,
    /// How long its health checks took. The publisher alone writes.
    pub check_seconds: Histogram,
    /// `max_sessions` of the pool.
    pub(super) permits: Permits,
    /// Who waits for a place, a line for each role.
    lines: [Queue; Role::COUNT],
    /// Who was sent where, for each role.
    sticky: [Mutex<Sticky>; Role::COUNT],
    hooks: PoolHooks,
    /// `passive.failures`; 0: off.
    failures_max: AtomicU32,
    /// `passive.empty`; 0: off.
    empty_max: AtomicU32,
    /// Its backends are asked sooner than their interval says: nobody is known to be the primary.
    haste: Arc<AtomicBool>,
    /// It has, or had, sessions that end with their backend: only then somebody must look for them when one goes down.
    closes: AtomicBool,
    /// Its backends speak first, as far as is known.
    greets: AtomicBool,
}

/// How a pool reaches the rest of the program: the snapshots, the sessions that wait, and the publisher.
pub struct PoolHooks {
    /// Where the current view of the pool is.
    pub snapshots: Weak<SnapshotCell>,
    /// Brings a place to the session that waited for it. Called under the queue's lock: posts and returns.
    pub deliver: Box<dyn Fn(Waiter, Lease) + Send + Sync>,
    /// Tells the publisher that real traffic fails somewhere. Called by data threads: never waits.
    pub alarm: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for PoolHooks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Reach")
    }
}

impl LivePool {
    /// A pool without sessions.
    pub fn new(
        settings: &settings::Pool,
        slot: PoolSlot,
        hash_key: [u8; 16],
        workers: usize,
        hooks: PoolHooks,
    ) -> Self {
        let live = Self {
            name: settings.name.as_str().into(),
            slot,
            shards: PerWorker::new(workers),
            check_seconds: Histogram::default(),
            permits: Permits::new(None),
            lines: Default::default(),
            sticky: std::array::from_fn(|_| Mutex::new(Sticky::new(hash_key))),
            hooks,
            failures_max: AtomicU32::new(0),
            empty_max: AtomicU32::new(0),
            haste: Arc::default(),
            closes: AtomicBool::new(false),
            greets: AtomicBool::new(false),
        };
        live.follow(settings);
        live
    }

    /// Takes over what the file says. Only the publisher calls this.
    pub fn follow(&self, settings: &settings::Pool) {
        self.permits.set_most(settings.max_sessions);
        let failures = settings.passive.map_or(0, |passive| passive.failures);
        self.failures_max.store(failures, Ordering::Relaxed);
        let empty = settings.passive.and_then(|passive| passive.empty).unwrap_or(0);
        self.empty_max.store(empty, Ordering::Relaxed);
        if settings.on_down == OnDown::Close {
            self.note_closes();
        }
    }

    /// Some session of it ends with its backend, whatever the file says now: it keeps what it was born with.
    pub fn note_closes(&self) {
        self.closes.store(true, Ordering::Relaxed);
    }

    /// A session was answered for the first time: the backend had spoken first, or the client. Costs a read of a line that is
    /// seldom written.
    pub fn note_first_word(&self, by_backend: bool) {
        if self.greets() != by_backend {
            self.greets.store(by_backend, Ordering::Relaxed);
        }
    }

    /// In the session that was answered last the backend had spoken first: it is expected to.
    pub fn greets(&self) -> bool {
        self.greets.load(Ordering::Relaxed)
    }

    /// There may be sessions that end with their backend.
    pub fn closes(&self) -> bool {
        self.closes.load(Ordering::Relaxed)
    }

    /// Whether its backends are to be asked sooner. The publisher alone writes, and the checks read.
    pub fn haste(&self) -> &Arc<AtomicBool> {
        &self.haste
    }

    /// Sessions of the pool, those being dialled included.
    pub fn sessions(&self) -> u32 {
        self.permits.taken()
    }

    /// Sessions that wait for a place.
    pub fn waiting(&self) -> u32 {
        self.lines.iter().map(Queue::waiting).sum()
    }

    /// Those that wait for a backend of this role.
    pub(super) fn line(&self, role: Role) -> &Queue {
        &self.lines[role.index()]
    }

    /// Entries of the sticky tables.
    pub fn remembered(&self) -> usize {
        ROLES.map(|role| self.sticky(role).len()).iter().sum()
    }

    /// Everything that is counted of it, for the next process.
    pub fn counts(&self) -> Vec<Count> {
        let mut counts = self.shards.totals(PoolShard::counters);
        counts.extend(self.check_seconds.counters(CHECKS).map(|named| named.count(named.counter.value())));
        counts
    }

    /// Goes on counting where the process before was.
    pub fn resume_counts(&self, counts: &[Count]) {
        self.shards.begin_with(counts, |shard| {
            shard.counters().into_iter().chain(self.check_seconds.counters(CHECKS)).collect()
        });
    }

    /// Catches up with the process before, which counted on from `before` to `now`.
    pub fn catch_up(&self, before: &[Count], now: &[Count]) {
        self.shards.catch_up(before, now, |shard| {
            shard.counters().into_iter().chain(self.check_seconds.counters(CHECKS)).collect()
        });
    }

    /// Every value that is counted of it, in an order that stays.
    pub fn each_value(&self, mut note: impl FnMut(u64)) {
        self.shards.each_value(PoolShard::counters, &mut note);
        self.check_seconds.counters(CHECKS).for_each(|named| note(named.counter.value()));
    }

    pub(super) fn snapshots(&self) -> Option<Arc<SnapshotCell>> {
        self.hooks.snapshots.upgrade()
    }

    pub(super) fn deliver(&self, waiter: Waiter, lease: Lease) {
        (self.hooks.deliver)(waiter, lease);
    }

    /// A backend has failed so often in a row.
    pub(super) fn failed(&self, in_a_row: u32) {
        let most = self.failures_max.load(Ordering::Relaxed);
        if most != 0 && in_a_row >= most {
            (self.hooks.alarm)();
        }
    }

    /// A backend has ended so many sessions in a row without a byte.
    pub(super) fn ended_empty(&self, in_a_row: u32) {
        let most = self.empty_max.load(Ordering::Relaxed);
        if most != 0 && in_a_row >= most {
            (self.hooks.alarm)();
        }
    }

    /// Its backends answer those that speak to them: some did.
    pub fn answers(&self) -> bool {
        self.first_words().iter().any(|count| *count > 0)
    }

    /// More of its sessions begin with a word of the backend than with one of the client.
    pub fn speaks_first(&self) -> bool {
        let [by_backend, by_client] = self.first_words();
        by_backend > by_client
    }

    fn first_words(&self) -> [u64; 2] {
        [0, 1].map(|first| self.shards.sum(|shard| shard.first_words[first].value()))
    }

    /// Where this source was sent last: what `place_of` makes of the name. Called under the lock of the table, which is
    /// cheaper for everybody than a count of holders of the name that all threads write.
    pub(super) fn recall(
        &self,
        source: Source,
        role: Role,
        settings: &settings::Sticky,
        now_ms: u64,
        place_of: impl FnOnce(&str) -> Option<u32>,
    ) -> Option<u32> {
        self.sticky(role).find(source, millis(settings), now_ms).and_then(|name| place_of(name))
    }

    /// It is sent there now. A little of what ran out is forgotten on the way.
    pub(super) fn remember(
        &self,
        source: Source,
        role: Role,
        backend: &Arc<str>,
        settings: &settings::Sticky,
        now_ms: u64,
    ) {
        let mut sticky = self.sticky(role);
        sticky.sweep(millis(settings), now_ms, SWEPT_PER_USE);
        sticky.note(source, backend, settings.entries as usize, now_ms);
    }

    /// Who was sent where last for a role, the least recently used first.
    pub fn remembered_sources(&self, role: Role) -> Vec<(Source, Arc<str>, u64)> {
        let sticky = self.sticky(role);
        sticky.entries().map(|(source, backend, used_ms)| (source, Arc::clone(backend), used_ms)).collect()
    }

    /// Likewise those who were sent somewhere since then.
    pub fn remembered_since(&self, role: Role, since_ms: u64) -> Vec<(Source, Arc<str>, u64)> {
        let sticky = self.sticky(role);
        let used = sticky.used_since(since_ms).into_iter();
        used.map(|(source, backend, used_ms)| (source, Arc::clone(backend), used_ms)).collect()
    }

    /// Remembers what the process before remembered, in that order.
    pub fn import_remembered(&self, source: Source, role: Role, backend: &Arc<str>, most: u32, used_ms: u64) {
        self.sticky(role).note(source, backend, most as usize, used_ms);
    }

    fn sticky(&self, role: Role) -> std::sync::MutexGuard<'_, Sticky> {
        self.sticky[role.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each of them.
pub(super) const ROLES: [Role; Role::COUNT] = [Role::Any, Role::Primary, Role::Replica, Role::PreferReplica];

fn millis(settings: &settings::Sticky) -> u64 {
    u64::try_from(settings.lasts.as_millis()).unwrap_or(u64::MAX)
}

/// The word under which the times of checks travel.
const CHECKS: &str = "check_seconds";
/// More than one, so that a table that grew shrinks again.
const SWEPT_PER_USE: usize = 2;
