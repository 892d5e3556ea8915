//! The one task that stores snapshots. Everyone else sends it events.
//!
//! It gathers what comes within 10 ms and rebuilds only the pools that changed, so a rack that dies at once costs one
//! new snapshot and not forty. Tables are built here, on the control thread, never on a data thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use crate::health::{Checked, Outcome, TargetId};
use crate::liveness::Change;
use crate::pool::{PoolView, Published, Snapshot};
use crate::worker::{Crew, Message};

/// The writer of snapshots.
pub(super) struct Publisher {
    published: Arc<Published>,
    /// Told of new snapshots: some flows end with their backend.
    crew: Arc<Crew>,
    hash_seed: String,
    generation: u64,
    pools: Vec<PoolState>,
    /// Told when every backend that is asked at all has answered once, or failed to.
    first_round: Option<oneshot::Sender<()>>,
}

struct PoolState {
    view: Arc<PoolView>,
    up: Vec<bool>,
    /// Since when each is as it is.
    since: Vec<Instant>,
    /// No check of it is over yet.
    awaited: Vec<bool>,
    /// Its last check could not be made.
    unasked: Vec<bool>,
    changed: bool,
}

impl Publisher {
    /// Publishes verdicts on these pools, of which `is_checked` says whether (slot, index) is asked at all.
    pub(super) fn new(
        published: &Arc<Published>,
        crew: &Arc<Crew>,
        hash_seed: &str,
        is_checked: impl Fn(usize, usize) -> bool,
        first_round: oneshot::Sender<()>,
    ) -> Self {
        let snapshot = published.load();
        let now = Instant::now();
        let pools = snapshot.pools.iter().enumerate().map(|(slot, view)| PoolState {
            view: Arc::clone(view),
            up: view.up.clone(),
            since: vec![now; view.backends.len()],
            awaited: (0..view.backends.len()).map(|index| is_checked(slot, index)).collect(),
            unasked: vec![false; view.backends.len()],
            changed: false,
        });
        let mut publisher = Self {
            generation: snapshot.generation,
            pools: pools.collect(),
            published: Arc::clone(published),
            crew: Arc::clone(crew),
            hash_seed: hash_seed.to_owned(),
            first_round: Some(first_round),
        };
        drop(snapshot);
        publisher.end_first_round();
        publisher
    }

    /// Serves events until their senders are gone.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Checked>) {
        while let Some(event) = events.recv().await {
            self.apply(&event);
            let gathered = tokio::time::Instant::now() + GATHER;
            // recv is cancel-safe: an event is either taken or stays.
            while let Ok(Some(event)) = timeout_at(gathered, events.recv()).await {
                self.apply(&event);
            }
            self.publish();
            self.end_first_round();
        }
    }

    fn apply(&mut self, event: &Checked) {
        let (slot, index) = target_place(event.target);
        let Some(pool) = self.pools.get_mut(slot) else { return };
        let Some(backend) = pool.view.backends.get(index) else { return };
        let first = std::mem::take(&mut pool.awaited[index]);
        match &event.outcome {
            Outcome::Good => backend.checks.good.add(1),
            Outcome::Bad(_) => backend.checks.bad.add(1),
            Outcome::Local(_) => backend.checks.local.add(1),
        }
        pool.view.check_seconds.observe(u64::try_from(event.took.as_micros()).unwrap_or(u64::MAX));
        let unasked = matches!(event.outcome, Outcome::Local(_));
        let still_unasked = std::mem::replace(&mut pool.unasked[index], unasked) && unasked;
        // That all is well from the start is told once, for all; that it cannot be asked, when that begins.
        if !(first && event.outcome == Outcome::Good || still_unasked) {
            tell(event, &pool.view.name, &backend.name, pool.since[index]);
        }
        if let Some(change) = event.verdict.change {
            let up = change == Change::CameUp;
            pool.since[index] = Instant::now();
            pool.changed |= pool.up[index] != up;
            pool.up[index] = up;
            backend.set_down(!up);
        }
    }

    /// Rebuilds what changed and swaps.
    fn publish(&mut self) {
        if !self.pools.iter().any(|pool| pool.changed) {
            return;
        }
        for pool in self.pools.iter_mut().filter(|pool| pool.changed) {
            pool.changed = false;
            let had = !pool.view.picker.eligible().is_empty();
            pool.view = Arc::new(pool.view.with_up(&self.hash_seed, pool.up.clone()));
            let has = !pool.view.picker.eligible().is_empty();
            if had && !has {
                tracing::error!(
                    target: "evenkeel", pool = &*pool.view.name,
                    "no backend of the pool is eligible: its clients are refused"
                );
            } else if has && !had {
                tracing::info!(target: "health", pool = &*pool.view.name, "the pool has an eligible backend again");
            }
        }
        self.generation += 1;
        let pools = self.pools.iter().map(|pool| Arc::clone(&pool.view)).collect();
        self.published.store(Snapshot { generation: self.generation, pools });
        for worker in 0..self.crew.workers() {
            self.crew.mailbox(worker).post(Message::Verdicts);
        }
    }

    fn end_first_round(&mut self) {
        if self.pools.iter().all(|pool| !pool.awaited.contains(&true))
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

/// The log lines of one check: a line for what changed, detail for what did not.
fn tell(event: &Checked, pool: &str, backend: &str, since: Instant) {
    let progress = event.verdict.progress;
    let state = event.verdict.state.word();
    let for_s = since.elapsed().as_secs();
    match (&event.outcome, event.verdict.change) {
        (Outcome::Bad(cause), Some(_)) => {
            tracing::warn!(target: "health", pool, backend, %cause, was_up_s = for_s, "backend is down");
        }
        (_, Some(_)) => tracing::info!(target: "health", pool, backend, was_down_s = for_s, "backend is up"),
        (Outcome::Bad(cause), None) if progress.done > 0 => {
            tracing::info!(target: "health", pool, backend, %cause, "backend is {state}, {progress} bad");
        }
        (Outcome::Local(error), None) => {
            tracing::warn!(target: "health", pool, backend, %error, "backend could not be asked");
        }
        (outcome, None) => {
            let answer = outcome.word();
            tracing::debug!(target: "health", pool, backend, answer, state, "backend was asked");
        }
    }
}

const GATHER: Duration = Duration::from_millis(10);
