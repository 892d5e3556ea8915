//! The one task that asks: it keeps the plan, begins the checks that are due, and sends on what comes back.
//!
//! It owns every check in flight: when it ends, they end. May touch the clock and spawn, no sockets (that is the
//! prober's work, so that a test can put another in its place).

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::outcome::{LocalError, Outcome};
use super::plan::{Answer, Ask, Plan};
use super::{Checked, Target};
use crate::config::settings::Health;

/// Makes one check. It must end soon after `limit`, and must bear being dropped at any moment.
pub(super) trait Prober: Send + 'static {
    /// Asks `address` what `health` says, for at most `limit`.
    fn ask(
        &self,
        address: SocketAddr,
        health: Arc<Health>,
        limit: Duration,
    ) -> impl Future<Output = Outcome> + Send + 'static;
}

/// The state of the task.
pub(super) struct Scheduler<P> {
    plan: Plan,
    prober: P,
    targets: watch::Receiver<Arc<[Target]>>,
    events: mpsc::Sender<Checked>,
    stop: CancellationToken,
    probes: JoinSet<Answer>,
    asked: HashMap<Id, Ask>,
}

impl<P: Prober> Scheduler<P> {
    /// Nothing is asked before [`Scheduler::run`].
    pub(super) fn new(
        plan: Plan,
        prober: P,
        targets: watch::Receiver<Arc<[Target]>>,
        events: mpsc::Sender<Checked>,
        stop: CancellationToken,
    ) -> Self {
        Self { plan, prober, targets, events, stop, probes: JoinSet::new(), asked: HashMap::new() }
    }

    /// Runs until `stop`, or until nobody receives the events or can change the targets. No check is in flight and no
    /// socket open when it returns.
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        // Every await inside holds no half-done work but the sending of an event, which a stop may lose.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
        self.probes.shutdown().await;
    }

    /// Returns when one of the channels has lost its other end.
    async fn serve(&mut self) {
        let first = Arc::clone(&self.targets.borrow_and_update());
        self.plan.set_targets(&first, now());
        loop {
            self.begin_due();
            let wake = self.plan.next_due().map(|due| Instant::from_std(due).max(Instant::now() + TICK));
            // All three arms are cancel safe.
            tokio::select! {
                changed = self.targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let targets = Arc::clone(&self.targets.borrow_and_update());
                    self.plan.set_targets(&targets, now());
                }
                Some(ended) = self.probes.join_next_with_id() => {
                    if self.take(ended).await.is_err() {
                        return;
                    }
                }
                () = async {
                    match wake {
                        Some(wake) => sleep_until(wake).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    fn begin_due(&mut self) {
        while let Some(ask) = self.plan.next_ask(now()) {
            let answer = self.prober.ask(ask.address, Arc::clone(&ask.health), ask.limit);
            let probe = self.probes.spawn(async move {
                let began = Instant::now();
                let outcome = answer.await;
                Answer { began: began.into_std(), took: began.elapsed(), outcome }
            });
            self.asked.insert(probe.id(), ask);
        }
    }

    /// Takes one answer and sends it on, waiting for room: no verdict is dropped.
    async fn take(
        &mut self,
        ended: Result<(Id, Answer), JoinError>,
    ) -> Result<(), mpsc::error::SendError<Checked>> {
        let (id, answer) = match ended {
            Ok(ended) => ended,
            // Only a panic in a probe, a fault of our own, leads here. Its slot must still come back.
            Err(error) => {
                let outcome = Outcome::Local(LocalError::Other(0));
                (error.id(), Answer { began: now(), took: Duration::ZERO, outcome })
            }
        };
        let Some(ask) = self.asked.remove(&id) else { return Ok(()) };
        match self.plan.answered(&ask, answer, now()) {
            Some(checked) => self.events.send(checked).await,
            None => Ok(()),
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Checks that fall due within this time begin together: at 1,000 checks a second one wake-up serves five of them.
const TICK: Duration = Duration::from_millis(5);
