//! `explain`: which backend a client would get now, by which route, and why none of the others.

use std::net::{IpAddr, SocketAddr};

use hyper::StatusCode;
use serde_json::json;

use super::command_answers::{Answer, bad, needed, wrong};
use super::query::Query;
use super::run_time;
use super::source_rows;
use super::sources::{Entry, Routed, Sources};
use super::status::State;
use crate::config::settings::Word;
use crate::pool::{Explanation, Outcome, PoolView, Why};
use crate::random::spread;
use crate::reason::Reason;
use crate::routing::{ClientHello, Facts, First, Opening};

pub(super) fn explain(query: &Query, sources: &Sources) -> Result<Answer, Answer> {
    let listener = needed(query, "listener")?;
    let client = needed(query, "client")?;
    let client = client
        .parse::<SocketAddr>()
        .ok()
        .or_else(|| Some(SocketAddr::new(client.parse::<IpAddr>().ok()?, 0)))
        .ok_or_else(|| bad(&format!("`{client}` is no address: 192.0.2.7, or 192.0.2.7:4000")))?;
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let Some(counters) = sources.listeners.named(listener.as_bytes()) else {
        return Err(wrong(StatusCode::NOT_FOUND, &format!("there is no listener `{listener}`")));
    };
    let snapshot = sources.snapshots.load();
    let now_ms = sources.now_ms();
    let (at, role, route) = match routed(query, listener, client.ip(), sources)? {
        Some(Routed::To { pool, role, route }) => (pool, role, route),
        Some(Routed::Nowhere) => return Ok(no_route(listener, client)),
        Some(Routed::AsksFirst) => {
            let told = format!(
                "`{listener}` sends its clients by what they say first: say it with --sni NAME, and --alpn NAME where routes ask for that"
            );
            return Err(bad(&told));
        }
        None => (counters.pool(), counters.role(), None),
    };
    let Some(view) = snapshot.pools.get(at) else {
        return Err(wrong(StatusCode::NOT_FOUND, "the listener has no pool any more"));
    };
    let Entry { refused, why: access } = (sources.refuses)(listener, client.ip(), now_ms * 1_000_000);
    let explanation = view.explain(role, client, spread(now_ms), now_ms * 1_000_000);
    let backends = explanation.backends.iter().enumerate().map(|(index, why)| {
        let state = State::of(view, index, now_ms);
        let (chance, why) = chance_of(why, refused, access.as_deref(), &state);
        json!({ "name": &*view.backends[index].name, "chance": f64::from(chance) / 1_000.0, "why": why })
    });
    let mut absent = source_rows::absent(&sources.discovery, view, query.get("backend"), now_ms);
    run_time::note_removed(&mut absent, &(sources.run_time)(), &view.live.name, query.get("backend"));
    let (outcome, backend) = match refused {
        Some(reason) => (reason.word(), None),
        None => outcome(&explanation, view),
    };
    Ok((
        StatusCode::OK,
        json!({
            "listener": &*counters.listener,
            "client": client.to_string(),
            "pool": &*view.live.name,
            "role": role.word(),
            // As people count them.
            "route": route.map(|number| number + 1),
            "balance": view.settings.balance.word(),
            "outcome": outcome,
            "access": access,
            "backend": backend,
            "backends": backends.collect::<Vec<_>>(),
            "absent": absent,
        }),
    ))
}

/// What a client says first that the query tells of; `None`: nothing of it.
fn opening_of(query: &Query) -> Option<Opening> {
    let text = |key| query.get(key).unwrap_or_default().to_owned();
    if query.get("database").or(query.get("user")).is_some() {
        return Some(Opening::PostgresStartup { user: text("user"), database: text("database") });
    }
    if let Some(host) = query.get("host") {
        return Some(Opening::Minecraft { host: host.to_lowercase(), login: true });
    }
    let (sni, alpn) = (query.get("sni"), query.get("alpn"));
    let hello = sni.map_or_else(ClientHello::default, ClientHello::named);
    let hello = alpn.map_or(hello.clone(), |protocol| hello.offering(protocol));
    (sni.is_some() || alpn.is_some()).then_some(Opening::Tls(hello))
}

/// Where a client goes of whom the query tells this much.
fn routed(
    query: &Query,
    listener: &str,
    client: IpAddr,
    sources: &Sources,
) -> Result<Option<Routed>, Answer> {
    let came_to = match query.get("port").map(str::parse::<u16>) {
        None => {
            let addresses = (sources.addresses)();
            let found = addresses.iter().find(|(name, _)| name == listener);
            found.map_or(0, |(_, address)| address.port())
        }
        Some(Ok(port)) => port,
        Some(Err(_)) => return Err(bad("`port` is the port that the client came to")),
    };
    let opening = opening_of(query);
    let first = opening.as_ref().map_or(First::Unread, First::Is);
    Ok((sources.route)(listener, &Facts { client, port: came_to, first }))
}

/// How likely the client gets this backend, in thousandths, and why; of one that is kept out (`refused`), never.
fn chance_of(why: &Why, refused: Option<Reason>, access: Option<&str>, state: &State) -> (u32, String) {
    match why {
        Why::Chosen | Why::Sticky | Why::Odds(_) | Why::NotChosen(_) if refused.is_some() => {
            (0, refused.map_or_else(String::new, |reason| kept_out(reason, access)))
        }
        Why::Chosen => (1_000, "it is chosen".to_owned()),
        Why::Sticky => (1_000, "this source was here last (sticky)".to_owned()),
        Why::Odds(odds) => (*odds, "drawn by chance".to_owned()),
        Why::NotChosen(why) => (0, (*why).to_owned()),
        Why::Weight => (0, "weight 0".to_owned()),
        Why::PoolFull { active } => (0, format!("the pool is full: {active} sessions")),
        Why::Full { active } => (0, format!("full: {active} sessions")),
        Why::Role(why) => (0, why.clone()),
        Why::Tier { own, serving } => (0, format!("tier {own}, and tier {serving} serves")),
        Why::State => {
            let cause = state.cause.as_deref().map_or(String::new(), |cause| format!(": {cause}"));
            (0, format!("{}{cause}, for {}", state.word, shown(state.since_s)))
        }
    }
}

/// The word for what comes of a client, and the backend that it gets if that is sure.
fn outcome(explanation: &Explanation, view: &PoolView) -> (&'static str, Option<String>) {
    match explanation.outcome {
        Outcome::Backend(index) => {
            ("backend", view.backends.get(index).map(|backend| backend.name.to_string()))
        }
        Outcome::ByChance => ("chance", None),
        Outcome::Waits => ("waits", None),
        Outcome::QueueFull => ("queue_full", None),
        Outcome::Full => ("full", None),
        Outcome::NoBackend => ("no_backend", None),
    }
}

/// The answer for a client whom the listener has no pool for.
fn no_route(listener: &str, client: SocketAddr) -> Answer {
    let answer = json!({
        "listener": listener,
        "client": client.to_string(),
        "pool": null,
        "outcome": Reason::NoRoute.word(),
        "backends": [],
        "absent": [],
    });
    (StatusCode::OK, answer)
}

/// Refusal for people: what of the listener keeps a client out.
fn kept_out(reason: Reason, access: Option<&str>) -> String {
    match reason {
        Reason::Denied => {
            let why = access.map_or(String::new(), |why| format!(": {why}"));
            return format!("the listener's `allow` and `deny` keep the client out{why}");
        }
        Reason::LimitSessions => "the listener has as many sessions as `limits.sessions` allows",
        Reason::LimitSessionsPerSource => {
            "the source has as many sessions as `limits.sessions_per_source` of the listener allows"
        }
        Reason::LimitRate => "as many sessions began as `limits.rate` of the listener allows",
        Reason::LimitRatePerSource => {
            "as many sessions of the source began as `limits.rate_per_source` of the listener allows"
        }
        Reason::LimitProcess => "the process has as many sessions as it can",
        other => other.word(),
    }
    .to_owned()
}

/// `12m` or `3h`: how long something has been so.
fn shown(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
