//! Admin commands: what the Unix socket answers besides what the HTTP door does, since it changes things. JSON in every
//! answer.

use std::path::PathBuf;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::command_answers::{Answer, bad, needed, pool_and_name, refusal, stopping, wrong};
use super::explain::explain;
use super::query::Query;
use super::requests::{Effect, Request, Upgraded};
use super::run_time;
use super::source_rows;
use super::sources::{Peer, Sources};
use crate::backend_state::Mark;
use crate::config::settings::{Level, Word};
use crate::session_query::{Filter, SessionRow};

/// Answers a request of this one. `None`: there is no such path.
pub(super) async fn answer(
    method: &Method,
    path: &str,
    query: Option<&str>,
    who: &Peer,
    sources: &Sources,
    requests: &mpsc::Sender<Request>,
) -> Option<Answer> {
    let by = &*who.name;
    let is_change = !matches!(path, "/explain" | "/sessions" | "/sources" | "/diff");
    let (_, known) = PARAMETERS.iter().find(|(command, _)| *command == path)?;
    if is_change != (*method == Method::POST) {
        let wanted = if is_change { "POST" } else { "GET" };
        return Some(wrong(StatusCode::METHOD_NOT_ALLOWED, &format!("{path} is asked with {wanted}")));
    }
    if is_change {
        tracing::info!(target: "evenkeel", %by, path, query, "a command changes something");
    }
    let query = match Query::read(path, query, known) {
        Ok(query) => query,
        Err(why) => return Some(bad(&why)),
    };
    let outcome = match path {
        "/explain" => explain(&query, sources),
        "/sessions" => search(&query, false, sources, requests).await,
        "/sources" => self::sources(&query, sources),
        "/refresh" => refresh(&query, requests).await,
        "/close" => search(&query, true, sources, requests).await,
        "/mark" => mark(&query, by, requests).await,
        "/weight" => weight(&query, by, requests).await,
        "/forget" => forget(&query, by, requests).await,
        "/add" | "/remove" | "/set" | "/reset" => run_time_change(path, &query, by, requests).await,
        "/withdraw" => withdraw(true, by, requests).await,
        "/announce" => withdraw(false, by, requests).await,
        "/reload" => reload(requests).await,
        "/diff" => diff(requests).await,
        "/upgrade" => upgrade(&query, who, requests).await,
        _ => log(&query, requests).await,
    };
    if is_change {
        // Whoever gave the order finds it in what is asked next.
        sources.texts.note_change();
    }
    Some(outcome.unwrap_or_else(|answer| answer))
}

async fn search(
    query: &Query,
    close: bool,
    sources: &Sources,
    requests: &mpsc::Sender<Request>,
) -> Result<Answer, Answer> {
    let filter = filter(query, sources)?;
    let all = match query.get("all") {
        None => false,
        Some("1") => true,
        Some(other) => return Err(bad(&format!("`all` is 1 or not there, and not `{other}`"))),
    };
    if close && filter.is_open() && !all {
        return Err(bad("closing every session wants to be said: --all, or a filter"));
    }
    if all && !filter.is_open() {
        return Err(bad("`all` and a filter contradict each other: leave one of them out"));
    }
    let rows_max = match query.get("limit").map(str::parse) {
        None => ROWS,
        Some(Ok(limit)) => ROWS_MAX.min(limit),
        Some(Err(_)) => return Err(bad("`limit` is a number of sessions")),
    };
    let (reply, found) = oneshot::channel();
    send(requests, Request::Search { filter, close, rows_max, reply }).await?;
    let found = found.await.map_err(|_| stopping())?;
    if close {
        return Ok((StatusCode::OK, json!({ "closed": found.count })));
    }
    let row = |found: &SessionRow| {
        json!({
            "proto": found.proto,
            "state": found.state,
            "listener": &*found.listener,
            "client": found.client.to_string(),
            "local": found.local.map(|local| local.to_string()),
            "name": found.name,
            "pool": found.backend.as_ref().map(|(pool, _)| &**pool),
            "backend": found.backend.as_ref().map(|(_, name)| &**name),
            "age_s": found.age_ms / 1_000,
            "to_backend": found.to_backend,
            "to_client": found.to_client,
        })
    };
    let rows: Vec<Value> = found.rows.iter().map(row).collect();
    Ok((StatusCode::OK, json!({ "count": found.count, "sessions": rows })))
}

/// The sessions that are asked for. A name that nobody has is an answer of its own: no session would be one as well.
fn filter(query: &Query, sources: &Sources) -> Result<Filter, Answer> {
    let address = |key| {
        let text = query.get(key);
        text.map(|text| text.parse().map_err(|_| bad(&format!("`{text}` is no IP address")))).transpose()
    };
    let (client, local) = (address("client")?, address("local")?);
    let listener = query.get("listener");
    if let Some(name) = listener.filter(|name| sources.listeners.named(name.as_bytes()).is_none()) {
        return Err(wrong(StatusCode::NOT_FOUND, &format!("there is no listener `{name}`")));
    }
    let backend = query.get("backend").map(pool_and_name).transpose()?;
    if let Some((pool, name)) = &backend {
        let snapshot = sources.snapshots.load();
        let Some(view) = snapshot.pools.iter().find(|view| *view.live.name == **pool) else {
            return Err(wrong(StatusCode::NOT_FOUND, &format!("there is no pool `{pool}`")));
        };
        // Those that left the file have their last sessions.
        let leaving = view.leaving.iter().map(|left| &left.backend);
        if !view.backends.iter().chain(leaving).any(|backend| *backend.name == **name) {
            let text = format!("the pool `{pool}` has no backend `{name}`");
            return Err(wrong(StatusCode::NOT_FOUND, &text));
        }
    }
    Ok(Filter { listener: listener.map(str::to_owned), backend, client, local })
}

async fn mark(query: &Query, by: &str, requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let (pool, backend) = pool_and_name(needed(query, "backend")?)?;
    let mark = match needed(query, "mark")? {
        "drain" => Some(Mark::Drain),
        "down" => Some(Mark::Down),
        "ready" => None,
        other => return Err(bad(&format!("`{other}` is no mark: drain, down or ready"))),
    };
    let (reply, done) = oneshot::channel();
    send(requests, Request::Mark { pool, backend, mark, by: by.to_owned(), reply }).await?;
    done.await.map_err(|_| stopping())?.map_err(|refused| refusal(&refused))?;
    Ok((StatusCode::OK, json!({ "done": true })))
}

async fn weight(query: &Query, by: &str, requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let (pool, backend) = pool_and_name(needed(query, "backend")?)?;
    let weight = match needed(query, "weight")? {
        "file" => None,
        number => match number.parse() {
            Ok(weight @ 0..=256) => Some(weight),
            _ => return Err(bad(&format!("`{number}` is no weight: 0 to 256, or `file`"))),
        },
    };
    let (reply, done) = oneshot::channel();
    send(requests, Request::Weight { pool, backend, weight, by: by.to_owned(), reply }).await?;
    done.await.map_err(|_| stopping())?.map_err(|refused| refusal(&refused))?;
    Ok((StatusCode::OK, json!({ "done": true })))
}

async fn forget(query: &Query, by: &str, requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let pool = needed(query, "pool")?.to_owned();
    let (reply, done) = oneshot::channel();
    send(requests, Request::Forget { pool, by: by.to_owned(), reply }).await?;
    done.await.map_err(|_| stopping())?.map_err(|refused| refusal(&refused))?;
    Ok((StatusCode::OK, json!({ "done": true })))
}

fn sources(query: &Query, sources: &Sources) -> Result<Answer, Answer> {
    let pool = query.get("pool");
    let rows = source_rows::whole(&sources.discovery, pool, sources.now_ms());
    let found = rows.map(|rows| (StatusCode::OK, rows));
    found.ok_or_else(|| wrong(StatusCode::NOT_FOUND, &no_sources(pool)))
}

async fn refresh(query: &Query, requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let pool = query.get("pool");
    let (reply, any) = oneshot::channel();
    send(requests, Request::Refresh { pool: pool.map(str::to_owned), reply }).await?;
    if any.await.map_err(|_| stopping())? {
        return Ok((StatusCode::OK, json!({ "done": true })));
    }
    Err(wrong(StatusCode::NOT_FOUND, &no_sources(pool)))
}

fn no_sources(pool: Option<&str>) -> String {
    match pool {
        Some(pool) => format!("there is no pool `{pool}` whose backends are found"),
        None => "no pool has backends that are found".to_owned(),
    }
}

/// `add`, `remove`, `set`, `reset`: backends beside the file.
async fn run_time_change(
    path: &str,
    query: &Query,
    by: &str,
    requests: &mpsc::Sender<Request>,
) -> Result<Answer, Answer> {
    let command = run_time::command(path, query, by).map_err(|why| bad(&why))?;
    let (reply, done) = oneshot::channel();
    send(requests, Request::ChangeAtRunTime { command, reply }).await?;
    let done = done.await.map_err(|_| stopping())?.map_err(|refused| refusal(&refused))?;
    Ok((StatusCode::OK, json!({ "changes": done.lines, "not_kept": done.not_kept })))
}

async fn withdraw(is_withdrawn: bool, by: &str, requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let (reply, done) = oneshot::channel();
    send(requests, Request::Withdraw { is_withdrawn, by: by.to_owned(), reply }).await?;
    let not_kept = done.await.map_err(|_| stopping())?.err();
    Ok((StatusCode::OK, json!({ "done": true, "not_kept": not_kept })))
}

async fn reload(requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let (reply, done) = oneshot::channel();
    send(requests, Request::Reload { reply }).await?;
    let lines = done.await.map_err(|_| stopping())?.map_err(|refused| refusal(&refused))?;
    Ok((StatusCode::OK, json!({ "changes": lines })))
}

async fn diff(requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let (reply, done) = oneshot::channel();
    send(requests, Request::Preview { reply }).await?;
    let preview = done.await.map_err(|_| stopping())?.map_err(|refused| refusal(&refused))?;
    let effect = |effect: &Effect| {
        json!({
            "effect": effect.kind,
            "text": effect.text,
            "sessions": effect.sessions,
            "percent": effect.percent,
        })
    };
    let effects: Vec<Value> = preview.effects.iter().map(effect).collect();
    Ok((
        StatusCode::OK,
        json!({ "changes": preview.changes, "at_run_time": preview.at_run_time, "effects": effects, "files": preview.files }),
    ))
}

async fn upgrade(query: &Query, who: &Peer, requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let binary = query.get("binary").map(PathBuf::from);
    if binary.is_some() && !who.is_owner {
        return Err(wrong(
            StatusCode::FORBIDDEN,
            "only root and the balancer's own user may name the program: it runs with the balancer's rights",
        ));
    }
    let (reply, done) = oneshot::channel();
    send(requests, Request::Upgrade { binary, reply }).await?;
    let upgraded = done.await.map_err(|_| stopping())?.map_err(|refused| refusal(&refused))?;
    let Upgraded { pid, sessions, pause_ms } = upgraded;
    Ok((StatusCode::OK, json!({ "pid": pid, "sessions": sessions, "pause_ms": pause_ms })))
}

async fn log(query: &Query, requests: &mpsc::Sender<Request>) -> Result<Answer, Answer> {
    let level = needed(query, "level")?;
    let Some(level) = Level::of_word(level) else {
        return Err(bad(&format!("`{level}` is no level: {}", Level::listed())));
    };
    let (reply, done) = oneshot::channel();
    send(requests, Request::LogLevel { level, reply }).await?;
    done.await.map_err(|_| stopping())?;
    Ok((StatusCode::OK, json!({ "done": true })))
}

async fn send(requests: &mpsc::Sender<Request>, request: Request) -> Result<(), Answer> {
    requests.send(request).await.map_err(|_| stopping())
}

/// What each command may be asked with.
const PARAMETERS: [(&str, &[&str]); 18] = [
    ("/explain", &["listener", "client", "backend", "sni", "alpn", "database", "user", "host", "port"]),
    ("/sessions", &["listener", "backend", "client", "local", "limit"]),
    ("/mark", &["backend", "mark"]),
    ("/weight", &["backend", "weight"]),
    ("/forget", &["pool"]),
    ("/close", &["listener", "backend", "client", "local", "all"]),
    ("/sources", &["pool"]),
    ("/refresh", &["pool"]),
    ("/add", &["pool", "addresses", "keys"]),
    ("/remove", &["backend"]),
    ("/set", &["backend", "keys"]),
    ("/reset", &["whom"]),
    ("/withdraw", &[]),
    ("/announce", &[]),
    ("/reload", &[]),
    ("/diff", &[]),
    ("/log", &["level"]),
    ("/upgrade", &["binary"]),
];
/// Sessions that are told when nothing else is said.
const ROWS: usize = 1_000;
/// Some megabytes of JSON.
const ROWS_MAX: usize = 10_000;
