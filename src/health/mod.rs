//! Health checks (active): asks backends how they are.
//!
//! It sends events and changes nothing itself: what a verdict means is the receiver's business. One task, the
//! scheduler, owns every check in flight; its thread does nothing else, since a check that is answered late is one that a
//! backend's program sees. One kind of check, one file.

mod bson;
mod dialogue;
mod dns;
mod line;
mod lines;
mod mongodb;
mod mysql;
mod outcome;
mod panel;
mod patroni;
mod plan;
mod postgres;
mod protocols;
mod redis;
mod resp;
mod scheduler;
mod sentinel;
mod target;
mod tcp;
mod tcp_talk;
mod udp_talk;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::settings::{Check, Health};
use crate::proxy_protocol::Transport;
use crate::sys::probe::Route;
#[cfg(fuzzing)]
pub use dns::fuzz as fuzz_dns;
use lines::{Lines, Seat};
#[cfg(fuzzing)]
pub use mongodb::fuzz as fuzz_mongodb;
#[cfg(fuzzing)]
pub use mysql::fuzz as fuzz_mysql;
pub use outcome::{Cause, Excerpt, LocalError, Outcome};
use panel::Panels;
use plan::Plan;
use postgres::Remembered;
#[cfg(fuzzing)]
pub use postgres::fuzz as fuzz_postgres;
use protocols::{Spoken, header};
use scheduler::{Prober, Scheduler};
#[cfg(fuzzing)]
pub use sentinel::fuzz as fuzz_redis;
pub use target::{Checked, Haste, Target, TargetId, Verdict};
use tcp_talk::Expect;

/// The targets of a [`Checker`], for whoever says whom to ask.
#[derive(Debug, Clone)]
pub struct TargetList(watch::Sender<Arc<[Target]>>);

impl TargetList {
    /// Makes `targets` the list. A target whose id, peer and health are as before keeps its schedule and liveness;
    /// any other begins untested and is asked at once; those left out are asked no more. An event of the old list
    /// may still come out of the channel afterwards.
    pub fn set(&self, targets: impl Into<Arc<[Target]>>) {
        // The scheduler ends before us only when nobody receives events; then nobody needs checks.
        self.0.send_replace(targets.into());
    }
}

/// Checks a list of targets until stopped or dropped.
#[derive(Debug)]
pub struct Checker {
    targets: watch::Sender<Arc<[Target]>>,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Checker {
    /// Begins: every target is asked at once, then each at its interval, with at most `min(1024, probes_max)` checks
    /// in flight (each holds a file descriptor), of which a quarter may be kept between two checks. `seed` moves the jitter. When `events` is full, checks wait; when its
    /// receiver is gone, they end. Must be called inside a tokio runtime with I/O and time, which has nothing else to do.
    pub fn start(
        targets: impl Into<Arc<[Target]>>,
        probes_max: usize,
        seed: u64,
        events: mpsc::Sender<Checked>,
    ) -> Self {
        let lines = Lines::new(probes_max.min(PROBES_MAX) / 4, seed);
        let sockets = Sockets { lines, panels: Panels::default(), remembered: Arc::default() };
        Self::start_with(sockets, targets.into(), probes_max, seed, events)
    }

    /// Its list, which may be another at any moment.
    pub fn list(&self) -> TargetList {
        TargetList(self.targets.clone())
    }

    /// Makes `targets` the list: see [`TargetList::set`].
    pub fn update(&self, targets: impl Into<Arc<[Target]>>) {
        self.list().set(targets);
    }

    /// Ends all checks. On return no task runs and no socket is open.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.wait().await;
    }

    fn start_with(
        prober: impl Prober,
        targets: Arc<[Target]>,
        probes_max: usize,
        seed: u64,
        events: mpsc::Sender<Checked>,
    ) -> Self {
        let (sender, receiver) = watch::channel(targets);
        let stop = CancellationToken::new();
        let plan = Plan::new(probes_max.min(PROBES_MAX), seed);
        let scheduler = Scheduler::new(plan, prober, receiver, events, stop.clone());
        let tasks = TaskTracker::new();
        tasks.spawn(scheduler.run());
        tasks.close();
        Self { targets: sender, tasks, stop: stop.drop_guard() }
    }
}

/// Asks by real sockets.
#[derive(Debug)]
struct Sockets {
    lines: Lines,
    panels: Panels,
    remembered: Arc<Remembered>,
}

impl Prober for Sockets {
    fn ask(
        &mut self,
        whom: (TargetId, u64),
        route: Route,
        health: Arc<Health>,
        limit: Duration,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let panel = self.panels.ask(&mut self.lines, whom, &route, &health, limit);
        let line = Spoken::by(&health, &self.remembered)
            .map(|spoken| self.lines.ask(whom, Seat::Server, spoken, route.clone(), limit));
        async move {
            match (panel, line) {
                (Some(panel), _) => panel.await,
                (None, Some(line)) => line.await,
                (None, None) => ask(route, health, limit).await,
            }
        }
    }

    fn retain(&mut self, stays: impl Fn(TargetId, u64) -> bool) {
        self.panels.retain(&stays);
        self.lines.retain(stays);
    }

    fn held(&self) -> usize {
        self.lines.kept()
    }

    async fn noticed(&mut self) -> TargetId {
        self.lines.ended().await
    }

    async fn end(self) {
        self.lines.end().await;
    }
}

async fn ask(route: Route, health: Arc<Health>, limit: Duration) -> Outcome {
    match &health.check {
        // Never planned; were it, everything counts as up.
        Check::Off => Outcome::Good,
        // It has a line of its own.
        Check::Postgres(_) | Check::Mongodb(_) | Check::Mysql(_) | Check::Redis(_) => {
            Outcome::Local(LocalError::Other(0))
        }
        // It says nothing, so nothing stands in front of it.
        Check::Tcp => tcp::ask(&route, limit).await,
        Check::TcpTalk { send, expect } => {
            let send = [&header(health.send_proxy, Transport::Stream), &send[..]].concat();
            tcp_talk::ask(&route, &send, Expect::Text(expect), limit).await
        }
        Check::TcpRoles { send, primary, replica } => {
            let send = [&header(health.send_proxy, Transport::Stream), &send[..]].concat();
            let expect = Expect::Roles { primary, replica };
            tcp_talk::ask(&route, &send, expect, limit).await
        }
        Check::Patroni => {
            let send = [&header(health.send_proxy, Transport::Stream), patroni::QUESTION].concat();
            tcp_talk::ask(&route, &send, Expect::Judged(patroni::judge), limit).await
        }
        Check::Udp { send, expect } => {
            let send = [&header(health.send_proxy, Transport::Datagram), &send[..]].concat();
            udp_talk::ask(&route, &send, expect, limit).await
        }
        Check::Dns { name, record_type } => {
            let header = header(health.send_proxy, Transport::Datagram);
            dns::ask(&route, &header, name, *record_type, limit).await
        }
    }
}

/// Checks in flight at once: a check of a silent backend holds a descriptor for its whole timeout.
const PROBES_MAX: usize = 1024;
