//! The one task that stores snapshots. Everyone else sends it events.
//!
//! It gathers what comes within 10 ms and rebuilds only the pools that changed, so a rack that dies at once costs one
//! new snapshot and not forty. Tables are built here, on the control thread, never on a data thread. How each backend
//! stands is worked out in `pools`.

mod pools;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout_at};

use crate::health::{Checked, TargetId};
use crate::pool::{Published, Snapshot};
use crate::worker::{Crew, Message};
use pools::PoolState;

/// The writer of snapshots.
pub(super) struct Publisher {
    published: Arc<Published>,
    /// Told of new snapshots: some sessions end with their backend.
    crew: Arc<Crew>,
    hash_seed: String,
    /// The zero of the clock that all threads share.
    epoch: Instant,
    generation: u64,
    pools: Vec<PoolState>,
    /// Rung by data threads when real traffic fails somewhere once too often.
    alarm: Arc<Notify>,
    /// Told when every backend that is asked at all has answered once, or failed to.
    first_round: Option<oneshot::Sender<()>>,
}

/// How a backend is asked, as far as the publisher must know.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// It is asked at all.
    pub(super) at_all: bool,
    /// A good answer shows that what failed real traffic is well again: the same address and port, the same protocol.
    pub(super) vouches: bool,
}

/// What a publisher is made of.
pub(super) struct Beginnings {
    pub(super) published: Arc<Published>,
    pub(super) crew: Arc<Crew>,
    pub(super) hash_seed: String,
    pub(super) epoch: Instant,
    pub(super) alarm: Arc<Notify>,
    pub(super) first_round: oneshot::Sender<()>,
}

impl Publisher {
    /// Publishes what becomes of these pools, of which `asked` says how (slot, index) is asked.
    pub(super) fn new(with: Beginnings, asked: impl Fn(usize, usize) -> Asked) -> Self {
        let snapshot = with.published.load();
        let pools = snapshot.pools.iter().enumerate().map(|(slot, view)| {
            let asked = (0..view.backends.len()).map(|index| asked(slot, index)).collect();
            PoolState::new(view, asked)
        });
        let mut publisher = Self {
            generation: snapshot.generation,
            pools: pools.collect(),
            published: Arc::clone(&with.published),
            crew: with.crew,
            hash_seed: with.hash_seed,
            epoch: with.epoch,
            alarm: with.alarm,
            first_round: Some(with.first_round),
        };
        drop(snapshot);
        publisher.end_first_round();
        publisher
    }

    /// Serves events until their senders are gone.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Checked>) {
        let alarm = Arc::clone(&self.alarm);
        loop {
            let wake_at = self.next_wake();
            // Each arm is cancel-safe: an event is either taken or stays, a bell that was rung rings again.
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.apply(&event);
                    let gathered = tokio::time::Instant::now() + GATHER;
                    while let Ok(Some(event)) = timeout_at(gathered, events.recv()).await {
                        self.apply(&event);
                    }
                }
                () = alarm.notified() => {
                    // However many failures ring, this is done a hundred times a second at most.
                    sleep(GATHER).await;
                    let now_ms = self.now_ms();
                    self.pools.iter_mut().for_each(|pool| pool.eject_failing(now_ms));
                }
                () = sleep_until(wake_at.unwrap_or_else(tokio::time::Instant::now)), if wake_at.is_some() => {
                    let now_ms = self.now_ms();
                    self.pools.iter_mut().for_each(|pool| pool.on_time(now_ms));
                }
            }
            self.publish();
            self.end_first_round();
        }
    }

    fn now_ms(&self) -> u64 {
        millis_between(self.epoch, Instant::now())
    }

    /// When time alone changes something.
    fn next_wake(&self) -> Option<tokio::time::Instant> {
        let at_ms = self.pools.iter().filter_map(PoolState::next_wake_ms).min()?;
        Some((self.epoch + Duration::from_millis(at_ms)).into())
    }

    fn apply(&mut self, event: &Checked) {
        let (slot, index) = target_place(event.target);
        let now_ms = self.now_ms();
        let asked_ms = millis_between(self.epoch, event.began);
        if let Some(pool) = self.pools.get_mut(slot) {
            pool.apply(index, event, asked_ms, now_ms);
        }
    }

    /// Rebuilds what changed and swaps.
    fn publish(&mut self) {
        if !self.pools.iter().any(|pool| pool.changed) {
            return;
        }
        let changed: Vec<usize> =
            (0..self.pools.len()).filter(|slot| std::mem::take(&mut self.pools[*slot].changed)).collect();
        for &slot in &changed {
            self.pools[slot].rebuild(&self.hash_seed);
        }
        self.generation += 1;
        let pools = self.pools.iter().map(|pool| Arc::clone(&pool.view)).collect();
        self.published.store(Snapshot { generation: self.generation, pools });
        for slot in changed {
            // A backend that came back has places for those that wait.
            self.pools[slot].view.lasting.hand_on();
        }
        for worker in 0..self.crew.workers() {
            self.crew.mailbox(worker).post(Message::Verdicts);
        }
    }

    fn end_first_round(&mut self) {
        if !self.pools.iter().any(PoolState::is_awaited)
            && let Some(first_round) = self.first_round.take()
        {
            // The receiver may have stopped waiting.
            let _ = first_round.send(());
        }
    }
}

/// The name under which a backend is asked.
pub(super) fn target_id(slot: usize, index: usize) -> TargetId {
    TargetId((slot as u64) << 32 | index as u64)
}

fn target_place(TargetId(id): TargetId) -> (usize, usize) {
    // Both halves were indices before.
    let half = |bits: u64| usize::try_from(bits & u64::from(u32::MAX)).unwrap_or(usize::MAX);
    (half(id >> 32), half(id))
}

fn millis_between(epoch: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(epoch).as_millis()).unwrap_or(u64::MAX)
}

const GATHER: Duration = Duration::from_millis(10);
