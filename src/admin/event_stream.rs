//! Event stream (server-sent events) of the dashboard, `/events`: what `/status` says, once a second.
//!
//! Must stay true: each second's text is made once, whoever many watch, and not at all when nobody does; there are at most
//! `WATCHERS_MAX`; one that does not read holds at most two texts it shares with the others, and is cut.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;

use super::answer::written;
use super::cached_texts::MaxAge;
use super::connections::ConnectionLife;
use super::history::{History, Sums};
use super::sources::{Sources, WATCHERS_MAX, Watchers};
use super::status;
use crate::metrics::{Direction, ListenerCounters};
use crate::pool::PoolView;

/// What the watchers of one door are told.
#[derive(Debug, Default)]
pub(super) struct Feed(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    history: History,
    members: Vec<Member>,
    /// What a newcomer is told, and when it was made.
    welcome: Option<(u64, Bytes)>,
}

#[derive(Debug)]
struct Member {
    texts: mpsc::Sender<Bytes>,
    life: Arc<ConnectionLife>,
    /// Texts in a row that found no room.
    missed: u32,
}

impl Feed {
    /// A second has passed.
    pub(super) fn tick(&self, sources: &Sources) {
        let mut told = self.lock();
        sample(&mut told.history, sources);
        told.members.retain(|member| !member.texts.is_closed());
        if told.members.is_empty() {
            return;
        }
        // Others who ask are given the same.
        let text = event("status", &status::text(sources, MaxAge::Tenth));
        told.members.retain_mut(|member| match member.texts.try_send(text.clone()) {
            Ok(()) => {
                member.missed = 0;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                member.missed += 1;
                let is_lost = member.missed >= MISSED_MAX;
                if is_lost {
                    sources.watchers.cut.fetch_add(1, Ordering::Relaxed);
                    member.life.cut.cancel();
                }
                !is_lost
            }
        });
    }

    /// Lets one more watch, whose conversation stays for it. `None`: there is no place.
    pub(super) fn join(&self, sources: &Sources, life: &Arc<ConnectionLife>) -> Option<Events> {
        let mut told = self.lock();
        if sources.watchers.now() >= WATCHERS_MAX || life.is_crowded {
            sources.watchers.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        sources.watchers.now.fetch_add(1, Ordering::Relaxed);
        life.watches.store(true, Ordering::Relaxed);
        let (texts, receiver) = mpsc::channel(1);
        let first = told.welcome(sources);
        told.members.push(Member { texts, life: Arc::clone(life), missed: 0 });
        let watchers = Arc::clone(&sources.watchers);
        Some(Events { first: Some(first), texts: receiver, life: Arc::clone(life), watchers })
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// The history and what is now, made anew at most once a second: coming and going costs no more than staying.
    fn welcome(&mut self, sources: &Sources) -> Bytes {
        let now_ms = sources.now_ms();
        if let Some((made_ms, text)) = &self.welcome
            && now_ms.saturating_sub(*made_ms) < EVERY_MS
        {
            return text.clone();
        }
        let history = event("history", written(&self.history.told()).as_bytes());
        let status = event("status", &status::text(sources, MaxAge::Second));
        let text = Bytes::from([history, status].concat());
        self.welcome = Some((now_ms, text.clone()));
        text
    }
}

/// One watcher's stream. It ends with the door.
#[derive(Debug)]
pub(super) struct Events {
    first: Option<Bytes>,
    texts: mpsc::Receiver<Bytes>,
    life: Arc<ConnectionLife>,
    watchers: Arc<Watchers>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.texts.poll_recv(context).map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.life.watches.store(false, Ordering::Relaxed);
        self.watchers.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Event of the stream. JSON has no line breaks of its own, but for one at its end.
fn event(name: &str, json: &[u8]) -> Bytes {
    let head = format!("event: {name}\ndata: ");
    Bytes::from([head.as_bytes(), json.trim_ascii_end(), b"\n\n"].concat())
}

fn sample(history: &mut History, sources: &Sources) {
    let snapshot = sources.snapshots.load();
    let pools: Vec<(&str, Sums)> = snapshot
        .pools
        .iter()
        .filter(|pool| !pool.gone)
        .map(|pool| (&*pool.live.name, of_pool(pool)))
        .collect();
    let all =
        sources.listeners.all().iter().fold(Sums::default(), |sum, counters| sum.and(of_listener(counters)));
    history.add(sources.now_ms(), all, pools.into_iter());
}

fn of_pool(view: &PoolView) -> Sums {
    view.backends.iter().fold(Sums::default(), |sum, backend| {
        sum.and(Sums {
            active: backend.load.active().into(),
            begun: backend.shards.sum(|shard| shard.sessions.value()),
            bytes: backend
                .shards
                .sum(|shard| Direction::ALL.map(|way| shard.bytes(way).value()).iter().sum()),
        })
    })
}

fn of_listener(counters: &ListenerCounters) -> Sums {
    Sums {
        active: counters.active(),
        begun: counters.shards.sum(|shard| shard.begun.value()),
        bytes: counters.shards.sum(|shard| Direction::ALL.map(|way| shard.bytes(way).value()).iter().sum()),
    }
}

/// Between two texts.
pub(super) const EVERY: Duration = Duration::from_millis(EVERY_MS);
const EVERY_MS: u64 = 1_000;
/// Texts that one may miss in a row before it is cut.
const MISSED_MAX: u32 = 10;
