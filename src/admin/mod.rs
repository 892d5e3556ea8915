//! Admin interface over HTTP, on the control thread: `/metrics`, `/status`, `/healthz`, `/readyz` at an address,
//! read-only, with a page for people at `/`; and at the socket of the commands also what changes things.

mod commands;
mod connections;
mod dashboard;
mod event_stream;
mod history;
mod metrics;
mod openmetrics;
mod process;
pub mod requests;
mod socket;
mod status;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Listeners, Reloads};
use crate::pool::SnapshotCell;
use crate::process_phase::Phase;
use crate::worker::Workers;
use connections::{ConnectionLife, Connections};
pub use event_stream::Watchers;
use event_stream::{Events, Feed};
use requests::Request;
pub use socket::{Socket, adopt_socket, bind_socket, serve_socket};

/// What answers are made of: counters and the snapshot. Reading them disturbs nobody.
pub struct Sources {
    /// The pools.
    pub snapshots: Arc<SnapshotCell>,
    /// The listeners.
    pub listeners: Arc<Listeners>,
    /// The data threads.
    pub workers: Arc<Workers>,
    /// The life of the process.
    pub phase: watch::Receiver<Phase>,
    /// Log lines that found no room.
    pub log_lines_dropped: Arc<AtomicU64>,
    /// How often the file was read again.
    pub reloads: Arc<Reloads>,
    /// Who watches the dashboard.
    pub watchers: Arc<Watchers>,
    /// The zero of the clock that all threads share.
    pub epoch: Instant,
    /// Nobody new is let in for the moment: another process may take over, and would answer those that wait.
    pub paused: watch::Receiver<bool>,
    /// Where each listener accepts.
    pub addresses: Box<dyn Fn() -> Vec<(String, SocketAddr)> + Send + Sync>,
    /// Whether the `allow` and `deny` of the listener of this name let a client in; `None`: there is no such listener.
    pub allows: Box<Allows>,
}

/// Who gives an order at the socket of the commands.
#[derive(Debug, Clone)]
struct Peer {
    /// For people.
    name: String,
    /// Root, or the user that this process is: such a one may name the program that is run.
    is_owner: bool,
}

/// Does the listener of this name let this client in?
pub type Allows = dyn Fn(&str, IpAddr) -> Option<bool> + Send + Sync;

impl Sources {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Binds the HTTP address.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        tracing::warn!(target: "evenkeel", %address, "admin.http is open to other hosts: anyone who reaches it sees names and counters");
    }
    TcpListener::bind(address).await
}

/// Serves until stopped. A slow or hostile client costs one of 64 places for at most 30 s; who watches the dashboard has one of
/// 16 others.
pub async fn serve(listener: TcpListener, sources: Arc<Sources>, stop: CancellationToken) {
    let mut connections = Connections::default();
    let feed = Arc::<Feed>::default();
    let mut ticks = interval(event_stream::EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut paused = sources.paused.clone();
    loop {
        let is_open = !*paused.borrow_and_update();
        // All arms may be dropped without loss: no connection is taken before the accept completes.
        let stream = tokio::select! {
            changed = paused.changed() => match changed {
                Ok(()) => continue,
                // Whoever pauses has gone, and with it everything that is told here.
                Err(_) => return,
            },
            accepted = listener.accept(), if is_open => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(target: "evenkeel", %error, "an HTTP connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            _ = ticks.tick() => {
                feed.tick(&sources);
                continue;
            }
            () = stop.cancelled() => return,
        };
        let life = Arc::<ConnectionLife>::default();
        let door = Door::Reading { feed: Arc::clone(&feed), life: Arc::clone(&life) };
        connections.admit(converse(stream, Arc::clone(&sources), door, stop.clone()), CONNECTION_MAX, life);
    }
}

/// Where somebody came in.
#[derive(Clone)]
enum Door {
    /// The read-only address. With what its watchers are told.
    Reading { feed: Arc<Feed>, life: Arc<ConnectionLife> },
    /// The socket of the commands: who it is, and where the orders go.
    Steering { by: Peer, requests: mpsc::Sender<Request> },
}

/// What is sent back: a text, or a stream of them.
type Answer = Response<Either<Full<Bytes>, Events>>;

/// One connection.
async fn converse<S>(stream: S, sources: Arc<Sources>, door: Door, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: HttpRequest<Incoming>| {
        let (sources, door) = (Arc::clone(&sources), door.clone());
        async move { Ok::<_, Infallible>(respond(&request, &sources, door).await) }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut conversation = std::pin::pin!(conversation);
    let outcome = tokio::select! {
        outcome = conversation.as_mut() => outcome,
        () = stop.cancelled() => {
            // What was asked is answered, and nothing more.
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(target: "evenkeel", %error, "an HTTP connection ended badly");
    }
}

async fn respond(request: &HttpRequest<Incoming>, sources: &Sources, door: Door) -> Answer {
    let path = request.uri().path();
    match door {
        Door::Steering { by, requests } => {
            let query = request.uri().query();
            let steered = commands::answer(request.method(), path, query, &by, sources, &requests).await;
            if let Some((code, value)) = steered {
                return json(code, &value).map(Either::Left);
            }
        }
        Door::Reading { feed, life } if *request.method() == Method::GET && path == "/events" => {
            return dashboard::events(feed.join(sources, &life));
        }
        Door::Reading { .. } if matches!(*request.method(), Method::GET | Method::HEAD) && path == "/" => {
            return dashboard::page().map(Either::Left);
        }
        Door::Reading { .. } => {}
    }
    answer(request, sources).map(Either::Left)
}

fn answer(request: &HttpRequest<Incoming>, sources: &Sources) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this door is read-only: GET\n".into());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics::render(sources));
            let kind = hyper::header::HeaderValue::from_static(openmetrics::CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        "/status" => json(StatusCode::OK, &status::status(sources)),
        "/healthz" => text(StatusCode::OK, "alive\n".into()),
        "/readyz" => ready(request.uri().query(), sources),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /status, /healthz and /readyz; at admin.http also / and /events\n".into(),
        ),
    }
}

/// 200 while accepting; with `?listener=NAME`, while that listener has an eligible backend.
fn ready(query: Option<&str>, sources: &Sources) -> Response<Full<Bytes>> {
    let phase = *sources.phase.borrow();
    if phase != Phase::Running {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", phase.word()));
    }
    let Some(query) = query else { return text(StatusCode::OK, "accepting\n".into()) };
    let Some(name) = query.strip_prefix("listener=").map(unescaped) else {
        return text(StatusCode::BAD_REQUEST, "the only question here is ?listener=NAME\n".into());
    };
    let Some(listener) = sources.listeners.named(&name) else {
        return text(StatusCode::NOT_FOUND, "no listener has that name\n".into());
    };
    let snapshot = sources.snapshots.load();
    let eligible = snapshot.pools.get(listener.pool()).map_or(0, |pool| pool.picker.eligible().len());
    if eligible == 0 {
        return text(StatusCode::SERVICE_UNAVAILABLE, "no eligible backend\n".into());
    }
    text(StatusCode::OK, format!("accepting, {eligible} eligible\n"))
}

/// `%5B` is `[`. What is no escape stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        let escaped = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    bytes
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = text(status, written(value) + "\n");
    let kind = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// JSON as one line, without the detour of its `Display` over a formatter.
fn written(value: &serde_json::Value) -> String {
    // Every key is a text and every value comes from memory: nothing can fail.
    serde_json::to_string(value).unwrap_or_default()
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

const CONNECTION_MAX: Duration = Duration::from_secs(30);
const HEADER_MAX: Duration = Duration::from_secs(5);
const HEADER_BYTES_MAX: usize = 16 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_what_is_none_stays() {
        for (text, plain) in [
            ("redis-1", "redis-1"),
            ("%5Bx%5d", "[x]"),
            ("caf%C3%A9", "caf\u{e9}"),
            ("%2525", "%25"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%4g%", "%zz%4g%"),
            ("", ""),
        ] {
            assert_eq!(unescaped(text), plain.as_bytes(), "{text}");
        }
    }
}
