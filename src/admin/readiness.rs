//! Readiness: what `/readyz` answers, and its stream at the socket of the commands, `/follow`: a line at once, one at each change,
//! one a second that says nothing else than that the process lives.
//!
//! Must stay true: `goes on` is said before another process may answer at this socket, and when it has another place; a stream
//! that ends without it, or without having said why nobody may be sent here, means that the process died. At most `FOLLOWERS_MAX`
//! follow.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::answer::unescaped;
use super::connections::ConnectionLife;
use super::sources::{FOLLOWERS_MAX, Sources};
use crate::process_phase::Phase;

/// 200 while accepting; with `listener=NAME`, while that listener has an eligible backend. Connections that wait at the
/// doors of tcp listeners, since descriptors ran out, are none that are accepted.
pub(super) fn readiness(query: Option<&str>, sources: &Sources) -> (StatusCode, String) {
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, why.to_owned());
    let phase = *sources.phase.borrow();
    if phase != Phase::Running {
        return unready(phase.word());
    }
    if let Some(withdrawn) = (sources.withdrawn)() {
        return unready(&format!("withdrawn by {}", withdrawn.by));
    }
    let rests = sources.workers.accepting_rests();
    let resting = || unready("accepting rests: out of file descriptors or memory");
    let Some(query) = query else {
        return if rests { resting() } else { (StatusCode::OK, "accepting".to_owned()) };
    };
    let Some(name) = query.strip_prefix("listener=").map(unescaped) else {
        return (StatusCode::BAD_REQUEST, "the only question here is ?listener=NAME".to_owned());
    };
    let Some(listener) = sources.listeners.named(&name) else {
        return (StatusCode::NOT_FOUND, "no listener has that name".to_owned());
    };
    if rests && listener.proto == "tcp" {
        return resting();
    }
    let snapshot = sources.snapshots.load();
    let of_pool = |(at, role): (usize, _)| snapshot.pools.get(at).map_or(0, |pool| pool.eligible(role).len());
    let eligible: usize = listener.pools().into_iter().map(of_pool).sum();
    if eligible == 0 {
        return unready("no eligible backend");
    }
    (StatusCode::OK, format!("accepting, {eligible} eligible"))
}

/// One follower's stream.
pub(super) struct Readiness {
    /// What tells it; `None`: it has told all.
    telling: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    lines: mpsc::Receiver<String>,
    sources: Arc<Sources>,
    life: Arc<ConnectionLife>,
}

/// Lets one more follow, whose conversation stays for it. An error: what to say instead.
pub(super) fn follow(
    sources: &Arc<Sources>,
    query: Option<&str>,
    life: &Arc<ConnectionLife>,
    stop: &CancellationToken,
) -> Result<Readiness, (StatusCode, String)> {
    let (code, why) = readiness(query, sources);
    if code == StatusCode::BAD_REQUEST {
        return Err((code, why));
    }
    let followers = &sources.watchers.followers;
    if followers.fetch_add(1, Ordering::Relaxed) >= FOLLOWERS_MAX {
        followers.fetch_sub(1, Ordering::Relaxed);
        sources.watchers.followers_refused.fetch_add(1, Ordering::Relaxed);
        let why = format!("{FOLLOWERS_MAX} follow already, and no more may");
        return Err((StatusCode::SERVICE_UNAVAILABLE, why));
    }
    // One that has one of the last descriptors may be ended for others as any conversation, and comes again.
    life.watches.store(!life.is_crowded, Ordering::Relaxed);
    let (to, lines) = mpsc::channel(1);
    let telling = tell(Arc::clone(sources), query.map(str::to_owned), stop.clone(), to);
    Ok(Readiness {
        telling: Some(Box::pin(telling)),
        lines,
        sources: Arc::clone(sources),
        life: Arc::clone(life),
    })
}

/// What a follower was told last.
#[derive(PartialEq)]
enum Told {
    Ready,
    Unready(String),
    GoesOn,
}

/// Tells one follower until another process has everything, or the door closes.
async fn tell(
    sources: Arc<Sources>,
    query: Option<String>,
    stop: CancellationToken,
    lines: mpsc::Sender<String>,
) {
    let (mut phase, mut gate) = (sources.phase.clone(), sources.gate.watch());
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    let mut looks_since_told = 0;
    loop {
        let is_closing = stop.is_cancelled();
        let (now, line) = look(query.as_deref(), &sources, *gate.borrow_and_update(), is_closing);
        let line = if told.as_ref() == Some(&now) {
            looks_since_told += 1;
            (looks_since_told >= ALIVE_EVERY_LOOKS).then(|| "alive\n".to_owned())
        } else {
            told = Some(now);
            Some(line)
        };
        if let Some(line) = line {
            looks_since_told = 0;
            if lines.send(line).await.is_err() {
                return;
            }
        }
        if is_closing || *phase.borrow_and_update() == Phase::HandedOver {
            return;
        }
        // All arms may be dropped without loss. The senders live as long as the process.
        tokio::select! {
            _ = looks.tick() => {}
            _ = phase.changed() => {}
            _ = gate.changed() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// How it is, and the line that says so. How many are eligible is no change that anybody acts on.
fn look(query: Option<&str>, sources: &Sources, is_gate_open: bool, is_closing: bool) -> (Told, String) {
    let phase = *sources.phase.borrow();
    let is_moved = is_closing && matches!(phase, Phase::Running | Phase::Leaving);
    if phase == Phase::HandedOver || is_moved || (phase == Phase::Running && !is_gate_open) {
        return (Told::GoesOn, "goes on\n".to_owned());
    }
    match readiness(query, sources) {
        (StatusCode::OK, why) => (Told::Ready, format!("ready {why}\n")),
        (_, why) => {
            let line = format!("unready {why}\n");
            (Told::Unready(why), line)
        }
    }
}

impl Body for Readiness {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(telling) = &mut self.telling
            && telling.as_mut().poll(context).is_ready()
        {
            self.telling = None;
        }
        self.lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(Bytes::from(line)))))
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.life.watches.store(false, Ordering::Relaxed);
        self.sources.watchers.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A look reads some atomics.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Each second, unless more happens.
const ALIVE_EVERY_LOOKS: u32 = 50;
