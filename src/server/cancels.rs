//! Delivery of cancel requests (PostgreSQL) to backends, beside the data threads: each is dialled, told, and heard out for a
//! moment, since a server acts before it closes.
//!
//! Must stay true: requests on their way and sockets in use are bounded, whatever clients send, and so are clients that wait; no
//! backend that is silent holds up a client, and none that is down holds up others; what waited too long is dropped.

use std::net::TcpStream as Plain;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::metrics::{Cancelled, ListenerCounters};
use crate::sys::tcp::{self as socket, StreamOptions};
use crate::thread_context::{Cancel, CancelTo};
use crate::worker::{Message, Workers};

/// A request, and when it came.
#[derive(Debug)]
pub(super) struct Received {
    cancel: Cancel,
    at: Instant,
}

/// A way for requests, and its end.
pub(super) fn channel() -> (mpsc::Sender<Received>, mpsc::Receiver<Received>) {
    mpsc::channel(WAITING_MAX)
}

/// Sends a request on its way. False: too many wait.
pub(super) fn send(way: &mpsc::Sender<Received>, mut cancel: Cancel) -> bool {
    if way.capacity() + CLIENTS_WAITING_MAX <= WAITING_MAX {
        cancel.client = None;
    }
    way.try_send(Received { cancel, at: Instant::now() }).is_ok()
}

/// Delivers what comes until nobody can send any more.
pub(super) async fn deliver(mut inbox: mpsc::Receiver<Received>, workers: Arc<Workers>) {
    let (mut up, mut down) = (Lane::new(SOCKETS_TO_THOSE_UP), Lane::new(SOCKETS_TO_THOSE_DOWN));
    while let Some(Received { cancel: Cancel { client, request, to, counters, worker }, at }) =
        inbox.recv().await
    {
        let (to, to_those_down): (Vec<_>, Vec<_>) = to.into_iter().partition(|one| one.serves);
        let part = |client, to, until| {
            let (workers, counters) = (Arc::clone(&workers), Arc::clone(&counters));
            Part { client, request: Arc::clone(&request), to, at, until, workers, counters, worker }
        };
        if !to_those_down.is_empty() {
            down.begin(part(None, to_those_down, at + WAITS_MAX));
        }
        if !to.is_empty() {
            // Those behind it came later: whoever is first in the queue is the first to have waited too long.
            let _ = timeout_at(at + WAITS_MAX, up.room()).await;
            up.begin(part(client, to, at + BACKEND_MAX));
        }
    }
}

/// Requests under way to backends that are up, or to those that are not: these take nothing from those.
#[derive(Debug)]
struct Lane {
    sockets: Arc<Semaphore>,
    under_way: JoinSet<()>,
}

impl Lane {
    fn new(sockets: usize) -> Self {
        Self { sockets: Arc::new(Semaphore::new(sockets)), under_way: JoinSet::new() }
    }

    /// Waits until one more may be begun.
    async fn room(&mut self) {
        while self.under_way.len() >= AT_ONCE_MAX {
            self.under_way.join_next().await;
        }
    }

    /// Begins to deliver it, or drops it where there is no room.
    fn begin(&mut self, part: Part) {
        while self.under_way.try_join_next().is_some() {}
        if self.under_way.len() < AT_ONCE_MAX {
            self.under_way.spawn(part.deliver(Arc::clone(&self.sockets)));
        } else {
            part.count(Cancelled::Dropped, part.to.len());
        }
    }
}

/// A request for some of its backends.
struct Part {
    client: Option<OwnedFd>,
    request: Arc<[u8]>,
    to: Vec<CancelTo>,
    at: Instant,
    /// By when it has to be with a backend.
    until: Instant,
    workers: Arc<Workers>,
    counters: Arc<ListenerCounters>,
    worker: usize,
}

impl Part {
    async fn deliver(mut self, sockets: Arc<Semaphore>) {
        let mut tells = JoinSet::new();
        for one in std::mem::take(&mut self.to) {
            let (request, sockets, until) = (Arc::clone(&self.request), Arc::clone(&sockets), self.until);
            tells.spawn(async move {
                let reach = async {
                    let socket = sockets.acquire().await.ok()?;
                    Some((tell(&one, &request).await?, socket))
                };
                let (mut stream, _socket) = timeout_at(until, reach).await.ok()??;
                // It acts, and closes. One that does not close has been told all the same.
                let _ = timeout(ANSWER_MAX, stream.read(&mut [0; 64])).await;
                Some(())
            });
        }
        let patience = sleep_until(self.at + WAITS_MAX);
        tokio::pin!(patience);
        let (mut sent, mut failed) = (0, 0);
        loop {
            tokio::select! {
                told = tells.join_next() => match told {
                    Some(Ok(Some(()))) => sent += 1,
                    Some(_) => failed += 1,
                    None => break,
                },
                () = &mut patience, if self.client.is_some() => self.client = None,
            }
        }
        self.count(Cancelled::Sent, sent);
        self.count(Cancelled::Failed, failed);
    }

    fn count(&self, what: Cancelled, backends: usize) {
        let (counters, backends) = (Arc::clone(&self.counters), backends as u64);
        self.workers.mailbox(self.worker).post(Message::Cancelled { counters, what, backends });
    }
}

/// `None`: it was not reached.
async fn tell(to: &CancelTo, request: &[u8]) -> Option<TcpStream> {
    let fd = socket::dial(to.address, to.from, &StreamOptions::default()).ok()?;
    let mut stream = TcpStream::from_std(Plain::from(fd)).ok()?;
    stream.writable().await.ok()?;
    stream.write_all(&[&to.header[..], request].concat()).await.ok()?;
    Some(stream)
}

/// Requests that wait; more are dropped and counted.
const WAITING_MAX: usize = 256;
/// Those among them whose clients wait, too: who comes while more of them wait is let go at once, since each is a descriptor.
/// With the first of the queue, and one more of each thread at the same moment, they are 64: the descriptor budget.
const CLIENTS_WAITING_MAX: usize = 48;
/// Requests that are being delivered to backends that are up; and as many to those that are not.
const AT_ONCE_MAX: usize = 16;
/// Sockets for all of them.
const SOCKETS_TO_THOSE_UP: usize = 24;
const SOCKETS_TO_THOSE_DOWN: usize = 8;
/// A client waits for the close, which tells it that the request is through, no longer than this; and so long a request waits
/// for those before it: one that comes late might hit the query after the one that was meant.
const WAITS_MAX: Duration = Duration::from_secs(1);
/// From when the request came until it is with a backend that is up.
const BACKEND_MAX: Duration = Duration::from_secs(3);
const ANSWER_MAX: Duration = Duration::from_secs(1);
