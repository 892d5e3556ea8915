//! Delivery of cancel requests (PostgreSQL) to backends, beside the data threads: each is dialled, told, and heard out for a
//! moment, since a server acts before it closes.
//!
//! Must stay true: requests on their way and sockets in use are bounded, whatever clients send; no backend that is silent holds
//! up the client, or other backends.

use std::net::TcpStream as Plain;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::sys::tcp::{self as socket, StreamOptions};
use crate::thread_context::{Cancel, CancelTo};
use crate::worker::{Message, Workers};

/// A way for requests, and its end.
pub(super) fn channel() -> (mpsc::Sender<Cancel>, mpsc::Receiver<Cancel>) {
    mpsc::channel(WAITING_MAX)
}

/// Delivers what comes until nobody can send any more.
pub(super) async fn deliver(mut inbox: mpsc::Receiver<Cancel>, workers: Arc<Workers>) {
    let sockets = Arc::new(Semaphore::new(SOCKETS_MAX));
    let mut under_way = JoinSet::new();
    while let Some(cancel) = inbox.recv().await {
        while under_way.len() >= AT_ONCE_MAX {
            under_way.join_next().await;
        }
        under_way.spawn(deliver_one(cancel, Arc::clone(&sockets), Arc::clone(&workers)));
    }
}

async fn deliver_one(cancel: Cancel, sockets: Arc<Semaphore>, workers: Arc<Workers>) {
    let Cancel { mut client, request, to, counters, worker } = cancel;
    let mut tells = JoinSet::new();
    for one in to {
        let (request, sockets) = (Arc::clone(&request), Arc::clone(&sockets));
        tells.spawn(async move {
            let _socket = sockets.acquire().await.ok()?;
            timeout(BACKEND_MAX, tell(&one, &request)).await.ok()?
        });
    }
    let patience = tokio::time::sleep(CLIENT_WAITS_MAX);
    tokio::pin!(patience);
    let (mut sent, mut failed) = (0, 0);
    loop {
        tokio::select! {
            told = tells.join_next() => match told {
                Some(Ok(Some(()))) => sent += 1,
                Some(_) => failed += 1,
                None => break,
            },
            () = &mut patience, if client.is_some() => client = None,
        }
    }
    drop(client);
    workers.mailbox(worker).post(Message::Cancelled { counters, sent, failed });
}

/// `None`: it was not reached.
async fn tell(to: &CancelTo, request: &[u8]) -> Option<()> {
    let fd = socket::dial(to.address, to.from, &StreamOptions::default()).ok()?;
    let mut stream = TcpStream::from_std(Plain::from(fd)).ok()?;
    stream.writable().await.ok()?;
    stream.write_all(&[&to.header[..], request].concat()).await.ok()?;
    // It acts, and closes. One that does not close has been told all the same.
    let _ = timeout(ANSWER_MAX, stream.read(&mut [0; 64])).await;
    Some(())
}

/// Requests that wait; more are dropped and counted.
const WAITING_MAX: usize = 256;
/// Requests that are being delivered.
const AT_ONCE_MAX: usize = 16;
/// Sockets for all of them.
const SOCKETS_MAX: usize = 32;
/// For the whole of it at one backend.
const BACKEND_MAX: Duration = Duration::from_secs(3);
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// The client waits for the close, which tells it that the request is through, no longer than this.
const CLIENT_WAITS_MAX: Duration = Duration::from_secs(1);
