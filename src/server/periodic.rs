//! Periodic work, once a second: summaries of unlogged refusals, the status line, the watchdog (does every thread turn).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::control::{Control, lock};
use super::side_thread::{SideThreads, Sign};
use crate::metrics::Listeners;
use crate::pool::{SnapshotCell, tcp_source_ports_ratio};
use crate::process_phase::Phase;
use crate::reason::Reason;
use crate::sys::udp::local_ports;
use crate::systemd::Notify;
use crate::worker::Workers;

impl Control {
    /// Looks after what has to be looked after all the time.
    pub(super) fn start_periodic(self: &Arc<Self>) {
        let housekeeper = Periodic { control: Arc::clone(self), notify: self.notify };
        // The status line of a drain is the drain's own.
        let mut phase = self.phase.subscribe();
        self.tasks.spawn(async move {
            tokio::select! {
                () = housekeeper.run() => {}
                _ = phase.wait_for(|phase| !matches!(phase, Phase::Running | Phase::Leaving)) => {}
            }
        });
        self.watch_network_files();
        let watchdog = Arc::clone(self).keep_watchdog_quiet();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = watchdog => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Tells the service manager that the program is alive while every thread turns; works until it is dropped.
    ///
    /// Each round asks all threads for a sign. A thread that has not given the sign of the round before is stuck, and then
    /// nothing is told: the manager ends the process when its time is over.
    async fn keep_watchdog_quiet(self: Arc<Self>) {
        let (workers, Some(limit)) = (&self.workers, self.notify.watchdog_interval()) else { return };
        let mut ticks = interval((limit / 3).max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tickets = vec![0u64; workers.count()];
        let mut signs = Vec::new();
        loop {
            ticks.tick().await;
            let stuck = (0..workers.count()).find(|&worker| !workers.has_answered(worker, tickets[worker]));
            if let Some(worker) = stuck {
                tracing::error!(target: "evenkeel", worker, "a data thread does not turn: the watchdog is not fed");
                continue;
            }
            if let Some(thread) = signs.iter().find(|sign: &&Sign| !sign.is_given()).map(|sign| sign.name) {
                tracing::error!(target: "evenkeel", thread, "a thread does not turn: the watchdog is not fed");
                continue;
            }
            self.notify.watchdog();
            for (worker, ticket) in tickets.iter_mut().enumerate() {
                *ticket = workers.ping(worker);
            }
            signs = lock(&self.side_threads).as_ref().map(SideThreads::ask_for_signs).unwrap_or_default();
        }
    }

    /// Looks after the files of networks until the balancer ends.
    pub(super) fn watch_network_files(self: &Arc<Self>) {
        let (files, stop) = (Arc::clone(&self.network_files), self.stop.clone());
        self.tasks.spawn(async move {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                // Both arms may be dropped without loss.
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = stop.cancelled() => return,
                }
                if files.is_empty() {
                    continue;
                }
                let files = Arc::clone(&files);
                // A file on a disk that does not answer holds up nothing but its own next look.
                let look = tokio::task::spawn_blocking(move || files.look());
                tokio::select! {
                    _ = look => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// What the service manager shows, and the log at the start.
    pub(super) fn status_line(&self) -> String {
        let mut line = state_of(&self.workers, self.served().settings.listeners.len(), &self.snapshots);
        if *self.phase.borrow() == Phase::Leaving {
            line = format!("leaving; {line}");
        }
        if let Some(withdrawn) = self.withdrawal.current() {
            line = format!("{line}; withdrawn by {}", withdrawn.by);
        }
        let is_refused = self.reloads.last().is_some_and(|last| last.refused);
        if is_refused {
            format!("{line}; the file is refused, see the log: what was served goes on")
        } else {
            line
        }
    }
}

/// Work that is done once a second.
struct Periodic {
    control: Arc<Control>,
    notify: Notify,
}

impl Periodic {
    /// Works until it is dropped.
    async fn run(self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut warned) = (String::new(), None);
        let (mut ports, mut read) = ((0, 0), None);
        loop {
            let now = ticks.tick().await;
            summarise_refusals(&self.control.listeners);
            if read.is_none_or(|at| now - at >= PORTS_READ_EVERY) {
                (ports, read) = (local_ports(), Some(now));
            }
            if self.ports_run_out(ports) && warned.is_none_or(|at| now - at >= PORTS_WARNING_EVERY) {
                warned = Some(now);
                tracing::warn!(
                    target: "evenkeel",
                    "local ports towards one backend run out: more backends, more addresses in `connect_from`, or a wider net.ipv4.ip_local_port_range, give room for more sessions"
                );
            }
            let status = self.control.status_line();
            if status != told {
                self.notify.status(&status);
                told = status;
            }
        }
    }

    fn ports_run_out(&self, ports: (u16, u16)) -> bool {
        let snapshot = self.control.snapshots.load();
        tcp_source_ports_ratio(&self.control.listeners.all(), &snapshot, ports) >= PORTS_WARNING_RATIO
    }
}

/// One line for each kind of refusal that had no lines of its own.
pub(super) fn summarise_refusals(listeners: &Listeners) {
    for counters in listeners.all() {
        for reason in Reason::ALL.into_iter().filter(|reason| reason.is_refusal()) {
            let sessions = counters.refusals.take_suppressed(reason);
            if sessions > 0 {
                let (listener, reason) = (&*counters.listener, reason.word());
                tracing::info!(target: "session", listener, reason, sessions, "more sessions refused, not logged one by one");
            }
        }
    }
}

/// `2 listeners, 5 of 6 backends up, 123 sessions`.
fn state_of(workers: &Workers, listeners: usize, snapshots: &SnapshotCell) -> String {
    let snapshot = snapshots.load();
    let pools = || snapshot.pools.iter().filter(|pool| !pool.gone);
    let backends: usize = pools().map(|pool| pool.backends.len()).sum();
    let up = pools().flat_map(|pool| &pool.states).filter(|state| state.is_up()).count();
    format!(
        "serving: {}, {up} of {}, {}",
        counted(listeners as u64, "listener"),
        counted(backends as u64, "backend") + " up",
        counted(u64::from(workers.sessions()), "session")
    )
}

pub(super) fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

const EVERY: Duration = Duration::from_secs(1);
/// A file of the kernel's that is hardly ever changed.
const PORTS_READ_EVERY: Duration = Duration::from_secs(60);
const PORTS_WARNING_EVERY: Duration = Duration::from_secs(60);
const PORTS_WARNING_RATIO: f64 = 0.8;
/// How often files of networks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
