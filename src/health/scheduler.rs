//! Health check scheduler, the one task that asks: it keeps the plan, begins the checks that are due, and sends on what
//! comes back.
//!
//! It owns every check in flight: when it ends, they end. May touch the clock and spawn, no sockets (that is the
//! prober's work, so that a test can put another in its place).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::outcome::{LocalError, Outcome};
use super::plan::{Answer, Ask, Plan};
use super::target::{Checked, Target, TargetId};
use crate::config::settings::Health;
use crate::sys::probe::Route;

/// Makes one check. It must end soon after `limit`, and must bear being dropped at any moment.
pub(super) trait Prober: Send + 'static {
    /// Asks this one by `route` what `health` says, for at most `limit`.
    fn ask(
        &mut self,
        whom: (TargetId, u64),
        route: Route,
        health: Arc<Health>,
        limit: Duration,
    ) -> impl Future<Output = Outcome> + Send + 'static;

    /// The list has changed: what is kept of those that are not on it is given back.
    fn retain(&mut self, _stays: impl Fn(TargetId, u64) -> bool) {}

    /// How many descriptors it holds while nobody is asked.
    fn held(&self) -> usize {
        0
    }

    /// Waits until something happens at a target that is not being asked. Cancel safe.
    fn noticed(&mut self) -> impl Future<Output = TargetId> + Send {
        std::future::pending()
    }

    /// Gives back everything.
    fn end(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        std::future::ready(())
    }
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
        self.prober.end().await;
    }

    /// Returns when one of the channels has lost its other end.
    async fn serve(&mut self) {
        let first = Arc::clone(&self.targets.borrow_and_update());
        self.plan.set_targets(&first, now());
        loop {
            while self.begin_due() {
                // Lets those begun connect and the answers in, before the next come.
                tokio::task::yield_now().await;
            }
            let wake = self.plan.next_due().map(|due| Instant::from_std(due).max(Instant::now() + TICK));
            // All arms are cancel safe.
            tokio::select! {
                changed = self.targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let targets = Arc::clone(&self.targets.borrow_and_update());
                    self.plan.set_targets(&targets, now());
                    self.prober.retain(|target, incarnation| self.plan.has(target, incarnation));
                }
                target = self.prober.noticed() => self.plan.hurry(target, now()),
                Some(ended) = self.probes.join_next_with_id() => {
                    let mut next = Some(ended);
                    while let Some(ended) = next {
                        if self.take(ended).await.is_err() {
                            return;
                        }
                        next = self.probes.try_join_next_with_id();
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

    /// Begins some of the checks that are due. True: there may be more.
    fn begin_due(&mut self) -> bool {
        self.plan.note_held(self.prober.held());
        for _ in 0..BEGUN_TOGETHER_MAX {
            let Some(ask) = self.plan.next_ask(now()) else { return false };
            let answer = self.prober.ask(ask.whom(), ask.route.clone(), Arc::clone(&ask.health), ask.limit);
            let probe = self.probes.spawn(async move {
                let began = Instant::now();
                let outcome = answer.await;
                Answer { began: began.into_std(), took: began.elapsed(), outcome }
            });
            self.asked.insert(probe.id(), ask);
        }
        true
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

/// An answered plain check must be reset within 200 ms, before its last ACK leaves. With 1,000 connects ahead of it, at
/// 30 us each on an idle machine, a loaded one would miss that.
const BEGUN_TOGETHER_MAX: usize = 32;

/// Checks that fall due within this time begin together: at 1,000 checks a second one wake-up serves five of them.
const TICK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::settings::{Check, SendProxy};
    use crate::health::{Checker, Haste};
    use crate::liveness::State;

    /// Live addresses answer after 2 ms, others never; counts what is in flight, and can panic.
    #[derive(Clone, Default)]
    struct Fake {
        in_flight: Arc<AtomicUsize>,
        in_flight_max: Arc<AtomicUsize>,
        panics: Arc<AtomicUsize>,
    }

    struct Flight(Arc<AtomicUsize>);

    impl Drop for Flight {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Prober for Fake {
        fn ask(
            &mut self,
            _: (TargetId, u64),
            route: Route,
            _: Arc<Health>,
            limit: Duration,
        ) -> impl Future<Output = Outcome> + Send + 'static {
            let fake = self.clone();
            async move {
                let at_once = fake.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
                let _flight = Flight(Arc::clone(&fake.in_flight));
                fake.in_flight_max.fetch_max(at_once, Ordering::Relaxed);
                let left = fake
                    .panics
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                assert!(left.is_err(), "told to panic");
                let is_live = route.to.port().is_multiple_of(10);
                tokio::time::sleep(if is_live { Duration::from_millis(2) } else { limit }).await;
                if is_live { Outcome::Good } else { Outcome::silent(limit, limit) }
            }
        }
    }

    fn targets(count: u16) -> Arc<[Target]> {
        let second = Duration::from_secs(1);
        let health = Arc::new(Health {
            check: Check::Tcp,
            interval: second,
            timeout: second,
            rise: 2,
            fall: 3,
            port: None,
            send_proxy: SendProxy::Off,
            keep: None,
        });
        let target = |n: u16| Target {
            id: TargetId(n.into()),
            route: Route::to(SocketAddr::from(([127, 0, 0, 1], n))),
            health: Arc::clone(&health),
            haste: Haste::default(),
            known: None,
        };
        (1..=count).map(target).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn live_targets_are_judged_while_nine_of_ten_are_silent() {
        for probes_max in [64, 1024] {
            let (fake, (sender, mut events)) = (Fake::default(), mpsc::channel(64));
            let checker = Checker::start_with(fake.clone(), targets(1000), probes_max, 1, sender);
            let begin = Instant::now();
            let (mut up, mut late) = (0, Duration::ZERO);
            while begin.elapsed() < Duration::from_secs(30) {
                let checked = events.recv().await.unwrap();
                let is_live = checked.target.0.is_multiple_of(10);
                assert_eq!(checked.verdict.state, if is_live { State::Up } else { State::Down });
                if checked.verdict.change.is_some() && is_live {
                    up += 1;
                    late = begin.elapsed();
                }
            }
            assert_eq!(up, 100);
            assert!(late < Duration::from_secs(2), "{probes_max} probes: the last is up after {late:?}");
            assert!(fake.in_flight_max.load(Ordering::Relaxed) <= probes_max);
            checker.stop().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_channel_makes_checks_wait_and_a_stop_gets_through() {
        let (fake, (sender, mut events)) = (Fake::default(), mpsc::channel(1));
        let checker = Checker::start_with(fake.clone(), targets(40), 64, 1, sender);
        tokio::time::sleep(Duration::from_secs(20)).await;
        // Whoever reads now misses nothing: each of the 40 has its first verdict still to come.
        let mut changed = std::collections::HashSet::new();
        while changed.len() < 40 {
            let checked = events.recv().await.unwrap();
            if checked.verdict.change.is_some() {
                assert!(changed.insert(checked.target));
            }
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        checker.stop().await;
        assert_eq!(fake.in_flight.load(Ordering::Relaxed), 0);
        while events.recv().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_a_probe_costs_no_slot_and_blames_nobody() {
        let (fake, (sender, mut events)) = (Fake::default(), mpsc::channel(64));
        fake.panics.store(3, Ordering::Relaxed);
        let _checker = Checker::start_with(fake, targets(10), 1, 1, sender);
        let mut faults = 0;
        loop {
            let checked = events.recv().await.unwrap();
            match checked.outcome {
                Outcome::Local(error) => {
                    assert_eq!(error, LocalError::Other(0));
                    faults += 1;
                }
                Outcome::Good | Outcome::Role(_) | Outcome::Unconfirmed { .. } => break,
                Outcome::Bad(_) => {}
            }
        }
        assert_eq!(faults, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn checks_end_when_nobody_listens_or_the_checker_is_dropped() {
        let fake = Fake::default();
        let (sender, events) = mpsc::channel(1);
        let checker = Checker::start_with(fake.clone(), targets(20), 64, 1, sender);
        drop(events);
        tokio::time::timeout(Duration::from_secs(60), checker.tasks.wait()).await.unwrap();

        let (sender, mut events) = mpsc::channel(1);
        drop(Checker::start_with(fake.clone(), targets(20), 64, 1, sender));
        while events.recv().await.is_some() {}
        assert_eq!(fake.in_flight.load(Ordering::Relaxed), 0);
    }
}
