//! Admin interface over HTTP, on a thread of its own: `/metrics`, `/status`, `/healthz`, `/readyz` at an address,
//! read-only, with a page for people at `/`; and at the socket of the commands also what changes things.

mod answer;
mod cached_texts;
mod command_answers;
mod commands;
mod connections;
mod dashboard;
mod event_stream;
mod explain;
mod gate;
mod history;
mod host_check;
mod metrics;
mod openmetrics;
mod process;
mod query;
mod readiness;
pub mod requests;
mod role_metrics;
mod run_time;
mod samples;
mod socket;
mod source_rows;
mod sources;
mod status;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::ALLOW;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use answer::{json, shared, text};
pub use cached_texts::CachedTexts;
use cached_texts::MaxAge;
use connections::{ConnectionLife, Connections};
use event_stream::{Events, Feed};
pub use gate::Gate;
#[cfg(fuzzing)]
pub use query::fuzz as fuzz_query;
use readiness::Readiness;
use requests::Request;
pub use socket::{Socket, adopt_socket, bind_socket, serve_socket};
use sources::Peer;
pub use sources::{Entry, NetworkFileRow, Refuses, RouteOf, Routed, Sources, Watchers};

/// What an HTTP address has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offers {
    /// Everything that may be read.
    Everything,
    /// `/readyz` and `/healthz`.
    Readiness,
}

impl Offers {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Everything, Self::Readiness];

    /// The key of its address.
    pub fn key(self) -> &'static str {
        match self {
            Self::Everything => "http",
            Self::Readiness => "ready",
        }
    }
}

/// Binds an HTTP address, for whichever thread serves there.
pub async fn bind(address: SocketAddr, offers: Offers) -> std::io::Result<std::net::TcpListener> {
    if !address.ip().is_loopback() && offers == Offers::Everything {
        tracing::warn!(target: "evenkeel", %address, "admin.http is open to other hosts: anyone who reaches it sees names and counters");
    }
    TcpListener::bind(address).await?.into_std()
}

/// Serves until stopped. A slow or hostile client costs one of 64 places for at most 30 s; who watches the dashboard has one of
/// 16 others.
pub async fn serve(
    listener: std::net::TcpListener,
    offers: Offers,
    sources: Arc<Sources>,
    stop: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(target: "evenkeel", %error, "admin.{} cannot be served", offers.key());
            return;
        }
    };
    let mut connections = Connections::default();
    let feed = Arc::<Feed>::default();
    let mut ticks = interval(event_stream::EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gate = sources.gate.keeper();
    loop {
        let is_open = gate.is_open();
        // All arms may be dropped without loss: no connection is taken before the accept completes. In this order nobody is
        // let in after the gate has closed.
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = gate.changed() => continue,
            _ = ticks.tick() => {
                feed.tick(&sources);
                continue;
            }
            accepted = listener.accept(), if is_open => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(target: "evenkeel", %error, "an HTTP connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let life =
            Arc::new(ConnectionLife { is_crowded: sources.is_crowded(&stream), ..ConnectionLife::default() });
        let door = match offers {
            Offers::Everything => Door::Reading { feed: Arc::clone(&feed), life: Arc::clone(&life) },
            Offers::Readiness => Door::Readiness,
        };
        connections.admit(converse(stream, Arc::clone(&sources), door, stop.clone()), CONNECTION_MAX, life);
    }
}

/// Where somebody came in.
#[derive(Clone)]
enum Door {
    /// The read-only address. With what its watchers are told.
    Reading { feed: Arc<Feed>, life: Arc<ConnectionLife> },
    /// The address that tells readiness and nothing else.
    Readiness,
    /// The socket of the commands: who it is, and where the orders go.
    Steering { by: Peer, requests: mpsc::Sender<Request>, life: Arc<ConnectionLife>, stop: CancellationToken },
}

/// What is sent back: a text, what the dashboard watches, or whether clients may be sent here.
type Answer = Response<Either<Full<Bytes>, Either<Events, Readiness>>>;

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

async fn respond(request: &HttpRequest<Incoming>, sources: &Arc<Sources>, door: Door) -> Answer {
    let path = request.uri().path();
    let is_socket = matches!(door, Door::Steering { .. });
    // What the third one says is no secret, and nobody knows by which name it is asked.
    let is_checked = matches!(door, Door::Reading { .. });
    if let Some(host) = host_check::stranger(request, &sources.has_host).filter(|_| is_checked) {
        tracing::debug!(target: "evenkeel", host, "admin.http was asked by a name that is not in admin.hosts");
        return text(StatusCode::MISDIRECTED_REQUEST, not_ours(&host)).map(Either::Left);
    }
    match door {
        Door::Steering { life, stop, .. } if *request.method() == Method::GET && path == "/follow" => {
            return match readiness::follow(sources, request.uri().query(), &life, &stop) {
                Ok(stream) => Response::new(Either::Right(Either::Right(stream))),
                Err((code, why)) => text(code, why + "\n").map(Either::Left),
            };
        }
        Door::Steering { by, requests, .. } => {
            let query = request.uri().query();
            let steered = commands::answer(request.method(), path, query, &by, sources, &requests).await;
            if let Some((code, value)) = steered {
                return json(code, &value).map(Either::Left);
            }
        }
        Door::Reading { feed, life } if *request.method() == Method::GET && path == "/events" => {
            return dashboard::events(feed.join(sources, &life)).map(|body| match body {
                Either::Left(text) => Either::Left(text),
                Either::Right(events) => Either::Right(Either::Left(events)),
            });
        }
        Door::Reading { .. } if matches!(*request.method(), Method::GET | Method::HEAD) && path == "/" => {
            return dashboard::page().map(Either::Left);
        }
        Door::Readiness if !matches!(path, "/readyz" | "/healthz") => {
            return text(StatusCode::NOT_FOUND, "there are /readyz and /healthz\n".into()).map(Either::Left);
        }
        Door::Reading { .. } | Door::Readiness => {}
    }
    let max_age = if is_socket { MaxAge::Tenth } else { MaxAge::Second };
    answer(request, sources, max_age).map(Either::Left)
}

fn not_ours(host: &str) -> String {
    // It comes from whoever asked, and may be long.
    let name: String = host.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect();
    format!(
        "admin.http does not answer to the name \"{name}\", only to addresses and localhost.\n\
         If it is a name of this machine, add it to admin.hosts and reload.\n"
    )
}

fn answer(request: &HttpRequest<Incoming>, sources: &Sources, max_age: MaxAge) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this door is read-only: GET\n".into());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => shared(openmetrics::CONTENT_TYPE, metrics::text(sources, max_age)),
        "/status" => shared("application/json", status::text(sources, max_age)),
        "/healthz" => text(StatusCode::OK, "alive\n".into()),
        "/readyz" => {
            let (code, why) = readiness::readiness(request.uri().query(), sources);
            text(code, why + "\n")
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /status, /healthz and /readyz; at admin.http also / and /events\n".into(),
        ),
    }
}

const CONNECTION_MAX: Duration = Duration::from_secs(30);
const HEADER_MAX: Duration = Duration::from_secs(5);
const HEADER_BYTES_MAX: usize = 16 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
