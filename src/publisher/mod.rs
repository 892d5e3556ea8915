//! Publisher of snapshots: the one task that stores them. Everyone else sends it events and orders.
//!
//! It gathers what comes within 10 ms and rebuilds only the pools that changed, so a rack that dies at once costs one
//! new snapshot and not forty. Tables are built here, on a thread of its own, and in slices: between two it hears what
//! else has come, so that neither a reload nor a rack with a thousand Maglev tables holds up the verdict on another pool. How each backend
//! stands is worked out in `pool_state`; what a new file makes of the pools, in `follow`.

mod build;
mod export;
mod first_snapshot;
mod follow;
mod found;
mod found_lists;
mod import;
mod leaving;
mod outliers;
mod passive;
mod pool_roles;
mod pool_state;
mod positions;
mod questions;
mod tracked;
mod watched;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until, timeout_at};

use crate::backend_state::{BackendState, Mark};
use crate::config::settings::Settings;
use crate::discovery::{FoundSet, Handle};
use crate::health::{Checked, Target, TargetList};
use crate::manifest;
use crate::pool::{LivePool, Snapshot, SnapshotCell};
use crate::roles::Memory;
use crate::worker::{Message, Workers};
pub use build::{CheckPolicy, PoolBuilder, asked, hash_key, note_known, targets_of};
pub use export::Told;
pub use first_snapshot::publish_first;
use found_lists::Found;
pub use import::{Pickers, PoolImport, build_ahead};
pub use pool_roles::believed;
use pool_state::PoolState;
use positions::{Position, positions_of};
pub use questions::{Question, questions};

/// The writer of snapshots.
pub struct Publisher {
    snapshots: Arc<SnapshotCell>,
    /// Told of backends that went down: some sessions end with theirs.
    workers: Arc<Workers>,
    builder: PoolBuilder,
    hash_seed: String,
    /// The zero of the clock that all threads share.
    epoch: Instant,
    generation: u64,
    pools: Vec<PoolState>,
    /// Where a backend stands, by its number: slot and index.
    positions: HashMap<u64, Position>,
    /// Whom to ask.
    /// Where what is remembered of primaries is kept.
    memories: Option<watch::Sender<Memories>>,
    targets: Option<TargetList>,
    /// What discovery has found.
    found: Found,
    /// Rung by data threads when real traffic fails somewhere once too often.
    alarm: Arc<Notify>,
    /// Told when every backend that is asked at all has answered once, or failed to.
    first_round: Option<oneshot::Sender<()>>,
    /// The reload under way.
    reloading: Option<Reloading>,
    /// Of the pools that wait to be rebuilt, those from here on come first.
    next_slot: usize,
}

/// Settings that are followed in slices.
struct Reloading {
    settings: Arc<Settings>,
    /// Where its first pools stand, which are followed.
    slots: Vec<usize>,
    reply: oneshot::Sender<Reloaded>,
}

/// What a publisher is made of.
pub struct PublisherParts {
    /// The pools.
    pub snapshots: Arc<SnapshotCell>,
    /// Told of new snapshots.
    pub workers: Arc<Workers>,
    /// Makes pools and backends.
    pub builder: PoolBuilder,
    /// `hash_seed`.
    pub hash_seed: String,
    /// The zero of the clock that all threads share.
    pub epoch: Instant,
    /// Rung by data threads.
    pub alarm: Arc<Notify>,
    /// Told when everyone has answered once.
    pub first_round: oneshot::Sender<()>,
    /// As the file has them.
    pub settings: Arc<Settings>,
    /// What was found already.
    pub found: Vec<FoundSet>,
    /// Where the sources of the pools are asked.
    pub discovery: Handle,
}

/// What is remembered of the primaries of each pool whose check tells roles.
pub type Memories = Vec<(String, Memory)>;

/// What somebody wants changed.
pub enum Order {
    /// Serve the pools of these settings.
    Reload {
        /// Checked and complete.
        settings: Arc<Settings>,
        /// What their sources have found so far.
        found: Vec<FoundSet>,
        /// What came of it.
        reply: oneshot::Sender<Reloaded>,
    },
    /// Tell everything of every pool; of those that were told before, what is otherwise.
    Export {
        /// What was told before.
        told: Option<Arc<Told>>,
        /// By their slots, and what to ask with the next time.
        reply: oneshot::Sender<(Vec<manifest::Pool>, Told)>,
    },
    /// Say this of a backend, or take back what was said.
    Mark {
        /// Whom.
        whom: Whom,
        /// What.
        mark: Option<Mark>,
        /// Who says so, for people.
        by: Arc<str>,
        /// Whether there is such a backend.
        reply: oneshot::Sender<Result<(), NoSuch>>,
    },
    /// Set the weight of a backend; `None`: the file's again.
    Weight {
        /// Whose.
        whom: Whom,
        /// The weight.
        weight: Option<u16>,
        /// Who says so, for people.
        by: Arc<str>,
        /// Whether there is such a backend.
        reply: oneshot::Sender<Result<(), NoSuch>>,
    },
    /// Forget which generations of a pool's primaries were ever believed.
    Forget {
        /// The name of the pool.
        pool: String,
        /// Who says so, for people.
        by: Arc<str>,
        /// Whether there is such a pool.
        reply: oneshot::Sender<Result<(), NoSuch>>,
    },
}

/// A backend as commands name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whom {
    /// The name of its pool.
    pub pool: String,
    /// Its own.
    pub backend: String,
}

/// There is no backend of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuch {
    /// Nor its pool.
    #[error("there is no pool `{0}`")]
    Pool(String),
    /// The pool is there.
    #[error("the pool `{0}` has no backend `{1}`")]
    Backend(String, String),
    /// The pool is there, and its check tells no roles.
    #[error("the pool `{0}` knows no roles: its check tells none")]
    Roles(String),
}

/// The pools of new settings are published.
pub struct Reloaded {
    /// By the index of the pool in the settings.
    pub pools: Vec<Arc<LivePool>>,
    /// Of the snapshot.
    pub generation: u64,
}

impl Publisher {
    /// Publishes what becomes of the pools, of which `asked` says how a backend of that number is asked, and `targets` whom.
    pub fn new(with: PublisherParts, asked: &HashMap<u64, CheckPolicy>, targets: &[Target]) -> Self {
        let snapshot = with.snapshots.load();
        let mut pools: Vec<_> = snapshot.pools.iter().map(|view| PoolState::new(view, asked)).collect();
        let targets: HashMap<u64, &Target> = targets.iter().map(|target| (target.id.0, target)).collect();
        pools.iter_mut().for_each(|pool| pool.note_targets(&targets));
        let mut publisher = Self {
            targets: None,
            memories: None,
            found: Found::new(with.settings, with.found, with.discovery),
            generation: snapshot.generation,
            positions: positions_of(&pools),
            pools,
            snapshots: Arc::clone(&with.snapshots),
            workers: with.workers,
            builder: with.builder,
            hash_seed: with.hash_seed,
            epoch: with.epoch,
            alarm: with.alarm,
            first_round: Some(with.first_round),
            reloading: None,
            next_slot: 0,
        };
        drop(snapshot);
        let now_ms = publisher.now_ms();
        // Who served beside one that was ejected may have left with the file of this process.
        publisher.pools.iter_mut().for_each(|pool| pool.changed = pool.readmit_the_last(now_ms));
        publisher.publish();
        publisher.end_first_round();
        publisher
    }

    /// Tells this list from now on whom to ask.
    pub fn tell_targets(&mut self, targets: TargetList) {
        self.targets = Some(targets);
    }

    /// Tells there from now on what is remembered of primaries.
    pub fn tell_memories(&mut self, memories: watch::Sender<Memories>) {
        self.memories = Some(memories);
    }

    /// What is remembered may be something else than before.
    fn renew_memories(&self) {
        let Some(memories) = &self.memories else { return };
        let memory =
            |pool: &PoolState| Some((pool.view.live.name.to_string(), pool.roles.as_ref()?.memory().clone()));
        let now: Memories = self.pools.iter().filter(|pool| !pool.view.gone).filter_map(memory).collect();
        memories.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }

    /// Others are to be asked than before.
    fn renew_targets(&self) {
        if let Some(list) = &self.targets {
            let targets: Vec<Target> = self.pools.iter().flat_map(PoolState::targets).cloned().collect();
            list.set(targets);
        }
    }

    /// Backends stand otherwise than the snapshot says, by their numbers: the process before saw to that when the snapshot
    /// was made already. Published as soon as this runs.
    pub fn correct(&mut self, states: &HashMap<u64, BackendState>) {
        if states.is_empty() {
            return;
        }
        for pool in &mut self.pools {
            for (tracked, backend) in pool.backends.iter_mut().zip(&pool.view.backends) {
                if let Some(state) = states.get(&backend.number) {
                    tracked.state = state.clone();
                    pool.changed = true;
                }
            }
        }
    }

    /// Serves events and orders until nobody checks any more: the balancer stops.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<Checked>,
        mut orders: mpsc::Receiver<Order>,
        mut lists: mpsc::Receiver<FoundSet>,
    ) {
        let alarm = Arc::clone(&self.alarm);
        self.publish();
        loop {
            let wake_at = self.next_wake();
            // Then the next slice comes at once, and what has come by then is only collected.
            let is_behind = self.is_behind();
            // Each arm is cancel-safe: an event is either taken or stays, a bell that was rung rings again.
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.apply(&event);
                    let gather = if is_behind { Duration::ZERO } else { GATHER };
                    let gathered = tokio::time::Instant::now() + gather;
                    while let Ok(Some(event)) = timeout_at(gathered, events.recv()).await {
                        self.apply(&event);
                    }
                }
                Some(order) = orders.recv(), if self.reloading.is_none() => self.obey(order),
                Some(list) = lists.recv(), if self.reloading.is_none() => self.take_found(list),
                () = alarm.notified() => {
                    // However many failures ring, this is done a hundred times a second at most.
                    if !is_behind {
                        sleep(GATHER).await;
                    }
                    let now_ms = self.now_ms();
                    self.pools.iter_mut().for_each(|pool| pool.eject_failing(now_ms));
                }
                () = sleep_until(wake_at.unwrap_or_else(tokio::time::Instant::now)), if wake_at.is_some() => {
                    let now_ms = self.now_ms();
                    let others = self.pools.iter_mut().map(|pool| pool.on_time(now_ms));
                    // Each has its turn, whatever the others say.
                    if others.fold(false, |any, others| any | others) {
                        self.renew_targets();
                    }
                    self.take_waiting();
                }
                () = yield_now(), if is_behind => {}
            }
            self.go_on_reloading();
            self.publish();
            self.end_first_round();
        }
    }

    /// The answer is sent when what was ordered is published.
    fn obey(&mut self, order: Order) {
        // Who asked may have gone: what was ordered is done all the same.
        match order {
            Order::Reload { settings, found, reply } => {
                self.found.follow(&settings, found);
                self.begin_reload(settings, reply);
            }
            Order::Export { told, reply } => {
                self.found.rest();
                drop(reply.send(self.export(told.as_deref())));
            }
            Order::Mark { whom, mark, by, reply } => {
                let now_ms = self.now_ms();
                let outcome = self.find(&whom).map(|(slot, index)| {
                    self.pools[slot].mark(index, mark, &by, now_ms);
                    self.publish_these(&[slot]);
                });
                let _ = reply.send(outcome);
            }
            Order::Weight { whom, weight, by, reply } => {
                let outcome = self.find(&whom).map(|(slot, index)| {
                    self.pools[slot].set_weight(index, weight, &by);
                    self.publish_these(&[slot]);
                });
                let _ = reply.send(outcome);
            }
            Order::Forget { pool, by, reply } => {
                let now_ms = self.now_ms();
                let outcome = self.find_pool(&pool).and_then(|slot| {
                    self.pools[slot].forget_generations(&by, now_ms).ok_or(NoSuch::Roles(pool))?;
                    self.publish_these(&[slot]);
                    Ok(())
                });
                let _ = reply.send(outcome);
            }
        }
    }

    fn find_pool(&self, name: &str) -> Result<usize, NoSuch> {
        let is_it = |pool: &PoolState| !pool.view.gone && *pool.view.live.name == *name;
        self.pools.iter().position(is_it).ok_or_else(|| NoSuch::Pool(name.to_owned()))
    }

    fn find(&self, whom: &Whom) -> Result<(usize, usize), NoSuch> {
        let slot = self.find_pool(&whom.pool)?;
        let mut backends = self.pools[slot].view.backends.iter();
        match backends.position(|backend| *backend.name == *whom.backend) {
            Some(index) => Ok((slot, index)),
            None => Err(NoSuch::Backend(whom.pool.clone(), whom.backend.clone())),
        }
    }

    fn now_ms(&self) -> u64 {
        millis_between(self.epoch, Instant::now())
    }

    /// When time alone changes something.
    fn next_wake(&self) -> Option<tokio::time::Instant> {
        let at_ms = self.pools.iter().filter_map(PoolState::next_wake_ms).min();
        let at = at_ms.map(|at_ms| self.epoch + Duration::from_millis(at_ms));
        at.into_iter().chain(self.found.wake()).min().map(Into::into)
    }

    fn apply(&mut self, event: &Checked) {
        let now_ms = self.now_ms();
        let asked_ms = millis_between(self.epoch, event.began);
        // The event may be of a backend that left the file.
        if let Some(Position { slot, index }) = self.positions.get(&event.target.0).copied()
            && let Some(pool) = self.pools.get_mut(slot)
        {
            match index {
                Some(index) => pool.apply(index, event, asked_ms, now_ms),
                None => pool.apply_to_leaver(event, now_ms),
            }
        }
    }

    /// There is more to build than one slice of time was enough for.
    fn is_behind(&self) -> bool {
        self.reloading.is_some() || self.pools.iter().any(|pool| pool.changed)
    }

    /// Rebuilds what changed, or as much of it as a slice of time is enough for, and swaps.
    fn publish(&mut self) {
        let mut changed: Vec<usize> =
            (0..self.pools.len()).filter(|slot| self.pools[*slot].changed).collect();
        // What is cheap never waits for what is not; then whoever would send sessions to the dead; then whose turn it is.
        let turn = |slot: usize| (slot < self.next_slot, slot);
        changed.sort_by_key(|slot| {
            let pool = &self.pools[*slot];
            (pool.has_table(), !(pool.fell || pool.lost), turn(*slot))
        });
        if let Some(last) = self.publish_these(&changed) {
            self.next_slot = last + 1;
        }
    }

    /// Rebuilds the first of these, one at least, for a slice of time, and swaps. The last one that was.
    fn publish_these(&mut self, slots: &[usize]) -> Option<usize> {
        let (began, now_ms) = (Instant::now(), self.now_ms());
        let mut rebuilt = 0;
        for &slot in slots {
            self.pools[slot].rebuild(&self.hash_seed, now_ms);
            rebuilt += 1;
            if began.elapsed() >= SLICE {
                break;
            }
        }
        let rebuilt = &slots[..rebuilt];
        if rebuilt.is_empty() {
            return None;
        }
        self.store();
        if rebuilt.iter().any(|slot| self.pools[*slot].roles.is_some()) {
            self.renew_memories();
        }
        for &slot in rebuilt {
            // A backend that came back has places for those that wait.
            self.pools[slot].view.live.hand_on();
        }
        rebuilt.last().copied()
    }

    fn store(&mut self) {
        self.generation += 1;
        let pools = self.pools.iter().map(|pool| Arc::clone(&pool.view)).collect();
        self.snapshots.store(Snapshot { generation: self.generation, pools });
        // Whose view still shows the dead one would send its sessions back there.
        let found = &self.found;
        let must_look = |pool: &mut PoolState| {
            if pool.changed {
                return false;
            }
            if pool.fell {
                found.hurry(&pool.view.settings);
            }
            let (fell, lost) = (std::mem::take(&mut pool.fell), std::mem::take(&mut pool.lost));
            let withdrawn = std::mem::take(&mut pool.withdrawn);
            fell && pool.view.live.closes() || lost || withdrawn
        };
        // Each is asked: what fell and need not be looked for is done with.
        let looks = self.pools.iter_mut().filter_map(|pool| must_look(pool).then_some(())).count();
        if looks > 0 {
            for worker in 0..self.workers.count() {
                self.workers.mailbox(worker).post(Message::Verdicts);
            }
        }
    }

    fn end_first_round(&mut self) {
        if !self.pools.iter().any(PoolState::is_awaited)
            && self.found.is_heard()
            && let Some(first_round) = self.first_round.take()
        {
            // The receiver may have stopped waiting.
            let _ = first_round.send(());
        }
    }
}

fn millis_between(epoch: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(epoch).as_millis()).unwrap_or(u64::MAX)
}

const GATHER: Duration = Duration::from_millis(10);
/// What is built in one go: two or three Maglev tables, or some hundred pools without.
const SLICE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
