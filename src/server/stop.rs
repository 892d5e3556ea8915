//! Stop (graceful shutdown, drain): no new sessions, time for the living ones, then the cut.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Notify;
use super::periodic::counted;
use crate::reason::Reason;
use crate::worker::{Message, Workers};

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that were living when it began.
    pub sessions: u32,
    /// Sessions that were cut.
    pub cut: u32,
}

/// Closes the doors, waits until the last session has gone, `grace` has passed or `hurry` completes, and cuts the rest.
pub(super) async fn drain(
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
