//! Stop (graceful shutdown, drain): no new sessions, time for the living ones, then the cut.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::control::{Control, lock};
use super::periodic::{counted, summarise_refusals};
use crate::config::settings::Shutdown;
use crate::process_phase::Phase;
use crate::reason::Reason;
use crate::session_query::Filter;
use crate::systemd::Notify;
use crate::worker::{Message, Workers};

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that were living when it began.
    pub sessions: u32,
    /// Sessions that were cut.
    pub cut: u32,
}

impl Control {
    /// Another process has everything: ends every task here.
    pub(super) async fn depart(self: &Arc<Self>) {
        let checker = lock(&self.checker).take();
        if let Some(checker) = checker {
            checker.stop().await;
        }
        // Who came in before the doors closed may not have asked yet.
        sleep(LATE_QUESTIONS).await;
        self.end_http();
        self.serve_socket(None);
        self.stop.cancel();
        self.tasks.close();
        // An answer under way is given; nothing else is worth waiting for.
        let _ = timeout(DEPARTURE_MAX, self.tasks.wait()).await;
        self.end_side_threads();
    }

    /// Nothing new, time for living sessions, the cut, and the end of every task.
    pub(super) async fn stop(self: &Arc<Self>, hurry: impl Future<Output = ()>) -> Drained {
        // A reload under way comes to its end first.
        let reloading = self.reloading.lock().await;
        let phase = *self.phase.borrow();
        if phase == Phase::HandedOver {
            drop(reloading);
            self.depart().await;
            return Drained { sessions: 0, cut: 0 };
        }
        let shutdown = self.served().settings.shutdown.clone();
        let leaves = phase == Phase::Running && !shutdown.delay.is_zero();
        self.enter(if leaves { Phase::Leaving } else { Phase::Draining });
        drop(reloading);
        let mut hurry = std::pin::pin!(hurry);
        let is_hurried = leaves && self.leave(&shutdown, hurry.as_mut()).await;
        if leaves {
            self.enter(Phase::Draining);
        }
        let hurry = async {
            if !is_hurried {
                hurry.await;
            }
        };
        let drained = drain(&self.workers, shutdown.grace, hurry, self.notify).await;
        dismiss(&self.workers);
        let checker = lock(&self.checker).take();
        if let Some(checker) = checker {
            checker.stop().await;
        }
        self.end_http();
        self.serve_socket(None);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.end_side_threads();
        summarise_refusals(&self.listeners);
        self.phase.send_replace(Phase::Stopped);
        drained
    }

    /// Everything goes on for the delay, while whoever sends clients here hears that it will not. True: `hurry` completed.
    async fn leave(&self, shutdown: &Shutdown, hurry: impl Future<Output = ()>) -> bool {
        let Shutdown { delay, grace } = *shutdown;
        tracing::info!(
            target: "evenkeel", delay_s = delay.as_secs_f64(),
            "leaving: /readyz says so, and everything is served as before until the delay is over"
        );
        let line =
            format!("leaving: everything is served for {} s more, then no new sessions", delay.as_secs());
        self.notify.stopping(&line, delay + grace);
        // Both arms may be dropped at any time without loss.
        tokio::select! {
            () = sleep(delay) => false,
            () = hurry => true,
        }
    }

    /// Ends the sessions of a listener when the grace is over.
    pub(super) fn end_after_grace(self: &Arc<Self>, listener: String, grace: Duration, reason: Reason) {
        let (control, stop) = (Arc::clone(self), self.stop.clone());
        self.tasks.spawn(async move {
            // Both arms may be dropped without loss.
            tokio::select! {
                () = sleep(grace) => {}
                () = stop.cancelled() => return,
            }
            // A file may have brought it back meanwhile.
            if control.served().terms.contains_key(&listener) {
                return;
            }
            let filter = Filter { listener: Some(listener), ..Filter::default() };
            control.search(&filter, Some(reason), 0).await;
        });
    }
}

/// Closes the doors, waits until the last session has gone, `grace` has passed or `hurry` completes, and cuts the rest.
async fn drain(
    workers: &Workers,
    grace: Duration,
    hurry: impl Future<Output = ()>,
    notify: Notify,
) -> Drained {
    let sessions = workers.sessions();
    tracing::info!(
        target: "evenkeel", sessions,
        grace_s = grace.as_secs_f64(),
        "stopping: no new sessions, living ones may finish"
    );
    post_all(workers, || Message::CloseDoors);
    notify.stopping(&line(workers, grace), grace);
    let deadline = Instant::now() + grace;
    let mut tell_at = Instant::now() + TELL_EVERY;
    tokio::pin!(hurry);
    // Connections that waited at the doors are sessions only when the doors are closed.
    let closed = async { wait_for_mail(workers).await };
    tokio::select! {
        () = closed => {}
        () = &mut hurry => return cut(workers, sessions).await,
    }
    while workers.sessions() > 0 {
        let now = Instant::now();
        if now >= deadline {
            return cut(workers, sessions).await;
        }
        if now >= tell_at {
            let left = deadline - now;
            notify.still_stopping(&line(workers, left), left);
            tell_at = now + TELL_EVERY;
        }
        // Both arms may be dropped at any time without loss.
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = &mut hurry => return cut(workers, sessions).await,
        }
    }
    Drained { sessions, cut: 0 }
}

/// Lets the data threads leave; all sessions have gone. One that nobody counted must not hold them.
pub(super) fn dismiss(workers: &Workers) {
    post_all(workers, || Message::Cut(Reason::Shutdown));
    post_all(workers, || Message::Leave);
}

async fn cut(workers: &Workers, sessions: u32) -> Drained {
    let cut = workers.sessions();
    tracing::warn!(target: "evenkeel", sessions = cut, "cutting what is left");
    post_all(workers, || Message::Cut(Reason::Shutdown));
    let deadline = Instant::now() + CUT_MAX;
    while workers.sessions() > 0 && Instant::now() < deadline {
        // A session on its way between two threads is cut at its arrival's next look.
        sleep(LOOK_EVERY).await;
        post_all(workers, || Message::Cut(Reason::Shutdown));
    }
    Drained { sessions, cut }
}

/// Until every thread has done what was posted to it before: messages are read in order, and an answered ping shows it.
pub(super) async fn wait_for_mail(workers: &Workers) {
    let tickets: Vec<u64> = (0..workers.count()).map(|worker| workers.ping(worker)).collect();
    while tickets.iter().enumerate().any(|(worker, ticket)| !workers.has_answered(worker, *ticket)) {
        sleep(LOOK_EVERY).await;
    }
}

fn post_all(workers: &Workers, message: impl Fn() -> Message) {
    for worker in 0..workers.count() {
        workers.mailbox(worker).post(message());
    }
}

fn line(workers: &Workers, left: Duration) -> String {
    let sessions = counted(u64::from(workers.sessions()), "session");
    format!("stopping: {sessions} left, for at most {} s more", left.as_secs())
}

const LOOK_EVERY: Duration = Duration::from_millis(20);
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Cutting takes some 15 us a session, a slice in each turn; a thread that does not turn cannot hold the process.
const CUT_MAX: Duration = Duration::from_secs(5);
/// Answers to commands that are under way when another process takes over.
const DEPARTURE_MAX: Duration = Duration::from_secs(1);
/// A command asks as soon as it is let in.
const LATE_QUESTIONS: Duration = Duration::from_millis(100);
