//! Status as JSON, `/status`: everything an operator looks at. Its keys are a contract with scripts, `top` and the
//! dashboard; docs/status.md lists them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use super::answer::written;
use super::cached_texts::MaxAge;
use super::run_time;
use super::source_rows;
use super::sources::{FOLLOWERS_MAX, NetworkFileRow, Sources, WATCHERS_MAX};
use crate::backend_state::{BackendState, EjectedFor, Health, Mark, TENTHS};
use crate::config::settings::{Role, Word};
use crate::metrics::{Direction, Drop, ListenerCounters};
use crate::pool::{Backend, Left, PoolView, Snapshot, tcp_source_ports_ratio};
use crate::roles::Standing;
use crate::sys::rlimits;
use crate::sys::udp::local_ports;

/// The whole picture in one line, which serves all who ask for a while.
pub(super) fn text(sources: &Sources, max_age: MaxAge) -> Bytes {
    sources.texts.status.get(sources.basis(), max_age, || written(&status(sources)) + "\n")
}

fn status(sources: &Sources) -> Value {
    let now_ms = sources.now_ms();
    let snapshot = sources.snapshots.load();
    let addresses = (sources.addresses)();
    let pools = snapshot.pools.iter().filter(|pool| !pool.gone);
    let all = sources.listeners.all();
    // One that has another protocol now stays for its counts; it is shown for its sessions alone.
    let mut names = HashSet::new();
    let is_shown = |counters: &&Arc<ListenerCounters>| {
        names.insert(Arc::clone(&counters.listener)) || counters.active() > 0
    };
    let listeners = all.iter().filter(is_shown).map(|counters| {
        let at: Vec<String> = addresses
            .iter()
            .filter(|(name, _)| **name == *counters.listener)
            .map(|(_, address)| address.to_string())
            .collect();
        listener(counters, &at, &snapshot)
    });
    let workers = &sources.workers;
    let (usage, ports) = (rlimits::usage(), tcp_source_ports_ratio(&all, &snapshot, local_ports()));
    // What is long is moved in: the macro copies what it is given.
    let (followers, followers_refused) = sources.watchers.followers();
    let mut whole = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "phase": sources.phase.borrow().word(),
        "accepting_rests": workers.accepting_rests(),
        "withdrawn": (sources.withdrawn)().map(|one| json!({ "by": one.by, "since_s": one.since_s })),
        "uptime_s": now_ms / 1_000,
        "uptime_ms": now_ms,
        "config": config(sources),
        "limits": {
            "tcp_sessions": { "used": workers.tcp_sessions(), "most": workers.tcp_sessions_max() },
            "udp_sessions": { "used": workers.udp_permits().taken(), "most": workers.udp_permits().most() },
            "source_ports": ports.max(f64::from(workers.source_ports_permille()) / 1_000.0),
            "watchers": { "used": sources.watchers.now(), "most": WATCHERS_MAX, "refused": sources.watchers.refused(), "cut": sources.watchers.cut() },
            "followers": { "used": followers, "most": FOLLOWERS_MAX, "refused": followers_refused },
            "open_files": { "used": usage.open_files, "most": usage.open_files_max },
        },
    });
    whole["listeners"] = listeners.collect();
    whole["network_files"] = (sources.network_files)().iter().map(network_file).collect();
    let (board, changes) = (&sources.discovery, (sources.run_time)());
    whole["pools"] = pools
        .map(|view| {
            let mut pool = pool(view, now_ms);
            pool["at_run_time"] = run_time::of_pool(&changes, &view.live.name);
            if let Some(rows) = source_rows::of_pool(board, &view.live.name, now_ms) {
                pool["sources"] = rows;
            }
            pool
        })
        .collect();
    whole
}

fn config(sources: &Sources) -> Value {
    let reloads = &sources.reloads;
    let (done, refused) = (reloads.done.load(Ordering::Relaxed), reloads.refused.load(Ordering::Relaxed));
    let last = reloads.last().map(|last| {
        json!({
            "result": if last.refused { "refused" } else { "done" },
            "seconds_ago": last.at.elapsed().as_secs(),
            "lines": last.lines,
        })
    });
    let files = reloads.files();
    json!({
        "generation": done + 1,
        "reloads": done,
        "refused": refused,
        "last_reload": last,
        "files": files.iter().collect::<Vec<_>>(),
        "number": format!("{:08x}", (sources.file_number)()),
    })
}

fn network_file(row: &NetworkFileRow) -> Value {
    let failure = row.failure.as_ref();
    json!({
        "path": row.path,
        "networks": row.networks,
        "age_s": row.age_s,
        "failures": row.failures,
        "failed_s": failure.map(|(seconds, _)| seconds),
        "failure": failure.map(|(_, why)| why),
    })
}

fn listener(counters: &ListenerCounters, addresses: &[String], snapshot: &Snapshot) -> Value {
    let ended: Map<String, Value> = counters
        .ended()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect();
    let dropped: Map<String, Value> = Drop::ALL
        .into_iter()
        .map(|why| (why, counters.shards.sum(|shard| shard.dropped(why).value())))
        .filter(|(_, count)| *count > 0)
        .map(|(why, count)| (why.word().to_owned(), count.into()))
        .collect();
    let bytes = |direction| counters.shards.sum(|shard| shard.bytes(direction).value());
    let pools: Vec<(&PoolView, Role)> = counters
        .pools()
        .into_iter()
        .filter_map(|(at, role)| snapshot.pools.get(at).map(|pool| (&**pool, role)))
        .collect();
    let is_ready = |(pool, role): &(&PoolView, Role)| !pool.eligible(*role).is_empty();
    // Without one of its own, clients for whom there is no route are refused.
    let (own, routed) = pools.split_at(pools.len().min(usize::from(!counters.needs_route())));
    json!({
        "name": &*counters.listener,
        "protocol": counters.proto,
        "addresses": addresses,
        "pool": own.first().map(|(pool, _)| &*pool.live.name),
        "role": counters.role().word(),
        "routes": routed.iter().map(|one| json!({ "pool": &*one.0.live.name, "role": one.1.word(), "ready": is_ready(one) })).collect::<Vec<_>>(),
        "ready": pools.iter().any(is_ready),
        "active": counters.active(),
        "begun": counters.shards.sum(|shard| shard.begun.value()),
        "ended": ended,
        "dropped": dropped,
        "to_backend": bytes(Direction::ToBackend),
        "to_client": bytes(Direction::ToClient),
    })
}

fn pool(view: &PoolView, now_ms: u64) -> Value {
    let live = &view.live;
    let backends = (0..view.backends.len()).map(|index| backend(view, index, now_ms));
    let leaving = view.leaving.iter().filter(|left| left.backend.load.active() > 0);
    let leaving = leaving.map(|left| leaver(left, view, now_ms));
    let connects: u64 = live.shards.iter().map(|shard| shard.connect.counts().iter().sum::<u64>()).sum();
    let mut whole = json!({
        "name": &*live.name,
        "balance": view.settings.balance.word(),
        "sessions": live.sessions(),
        "max_sessions": view.settings.max_sessions,
        "waiting": live.waiting(),
        "max_waiting": view.settings.queue.map(|queue| queue.sessions),
        "connects": connects,
        "connects_us": live.shards.sum(|shard| shard.connect.sum_us()),
        "checks": live.check_seconds.counts().iter().sum::<u64>(),
        "checks_us": live.check_seconds.sum_us(),
        "retries": live.shards.sum(|shard| shard.retries.value()),
        "rehomed": live.shards.sum(|shard| shard.rehomed.value()),
        "remembered": view.settings.sticky.map(|_| live.remembered()),
        "eligible": view.picker.eligible().len(),
        "table": view.picker.table_number().map(|number| format!("{number:08x}")),
    });
    let names = &view.backends;
    if let Some(view) = &view.roles {
        let primary = view.roles.primary().and_then(|at| names.get(at).map(|one| one.name.to_string()));
        whole["primary"] = primary.into();
        whole["primary_since_s"] = (now_ms.saturating_sub(view.roles.primary_since_ms()) / 1_000).into();
        whole["contested"] = view.roles.standings().contains(&Standing::Contested).into();
    }
    whole["backends"] = backends.collect();
    whole["leaving"] = leaving.collect();
    whole
}

/// One that left the list and has sessions.
fn leaver(left: &Left, view: &PoolView, now_ms: u64) -> Value {
    let (backend, state, grace) = (&left.backend, &left.state, view.settings.removed_grace);
    let left_ms = now_ms.saturating_sub(left.left_ms);
    let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    let ends_in_s = grace_ms.map(|grace_ms| grace_ms.saturating_sub(left_ms).div_ceil(1_000));
    // What was found may have left by an answer as well.
    let list = if view.settings.sources.is_empty() { "file" } else { "list" };
    let mut cause = format!("left the {list}");
    if state.health() == Health::Down {
        cause.push_str(&format!("; down: {}", self::cause(state)));
    }
    if let Some(ends_in_s) = ends_in_s {
        cause.push_str(&format!("; its sessions end in {ends_in_s} s"));
    }
    json!({
        "name": &*backend.name,
        "address": backend.shown_address(),
        "active": backend.load.active(),
        "since_s": left_ms / 1_000,
        "health": health_word(state.health()),
        "ends_in_s": ends_in_s,
        "cause": cause,
    })
}

fn backend(view: &PoolView, index: usize, now_ms: u64) -> Value {
    let (backend, state, settings) =
        (&view.backends[index], &view.states[index], &view.settings.backends[index]);
    let now = State::of(view, index, now_ms);
    let lag = backend.lag();
    let bytes = |direction| backend.shards.sum(|shard| shard.bytes(direction).value());
    let marked = state.marked().map(|marked| {
        json!({ "mark": marked.mark.word(), "by": &*marked.by, "since_s": now_ms.saturating_sub(marked.since_ms) / 1_000 })
    });
    json!({
        "name": &*backend.name,
        "address": backend.shown_address(),
        "state": now.word,
        "cause": now.cause,
        "since_s": now.since_s,
        "up": state.is_up(),
        "health": health_word(state.health()),
        "eligible": view.is_eligible(index, Role::Any),
        "role": role_of(view, index),
        "generation": view.roles.as_ref().and_then(|view| Some(view.roles.generation(index)?.number)),
        "lineage": view.roles.as_ref().and_then(|view| Some(view.roles.generation(index)?.lineage.to_string())),
        "lag_s": lag.map(|lag| lag.ms as f64 / 1_000.0),
        "lag_bytes": lag.filter(|_| view.settings.health.check.tells_bytes()).map(|lag| lag.bytes),
        "eligible_for": eligible_for(view, index),
        "mark": marked,
        "ejected_for_s": state.ejected_until_ms().map(|until_ms| until_ms.saturating_sub(now_ms).div_ceil(1_000)),
        "tier": settings.tier,
        "weight": state.weight(settings.weight),
        "file_weight": settings.weight,
        "weight_percent": state.tenths() * 100 / TENTHS,
        "active": backend.load.active(),
        "max_sessions": settings.max_sessions,
        "sessions": backend.shards.sum(|shard| shard.sessions.value()),
        "connect_failures": backend.shards.sum(|shard| shard.connect_failures.value()),
        "failures_in_a_row": backend.failures_in_a_row(),
        "empty_ends": backend.shards.sum(|shard| shard.empty_ends.value()),
        "empty_in_a_row": backend.empty_in_a_row(),
        "ejection_cause": state.ejected_for().map(EjectedFor::word),
        "ejections": backend.checks.all_ejections(),
        "checks": checks(backend),
        "owed": backend.load.owed(),
        "owed_for_ms": backend.load.owed_for_us(now_ms * 1_000).map(|us| us / 1_000),
        "answer_us": backend.load.answer_ns(now_ms * 1_000_000).map(|ns| (f64::from(ns) / 1_000.0).round()),
        "connect_us": backend.load.connect_ns(now_ms * 1_000_000).map(|ns| (f64::from(ns) / 1_000.0).round()),
        "latency_us": backend.load.latency_ns(now_ms * 1_000_000).map(|ns| (f64::from(ns) / 1_000.0).round()),
        "to_backend": bytes(Direction::ToBackend),
        "to_client": bytes(Direction::ToClient),
    })
}

/// What it is believed to be; nothing of one that is neither.
fn role_of(view: &PoolView, index: usize) -> Option<&'static str> {
    match view.roles.as_ref()?.standing(index) {
        Standing::Primary => Some("primary"),
        Standing::Replica | Standing::Lagging => Some("replica"),
        _ => None,
    }
}

/// The roles for which it may be picked; nothing where nobody tells roles.
fn eligible_for(view: &PoolView, index: usize) -> Option<Vec<&'static str>> {
    view.roles.as_ref()?;
    let words = Role::WORDS.iter().filter(|(_, role)| view.is_eligible(index, *role));
    Some(words.map(|(word, _)| *word).collect())
}

fn checks(backend: &Backend) -> Value {
    let counts = &backend.checks;
    json!({
        "good": counts.good.value(),
        "bad": counts.bad.value(),
        "local": counts.local.value(),
        "progress": counts.progress().map(|(done, of)| json!({ "done": done, "of": of })),
    })
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::Unchecked => "unchecked",
        Health::Untested { .. } => "untested",
        Health::Up => "up",
        Health::Down => "down",
    }
}

/// Why one gets nothing new that nobody marked: its source says so, or its weight does.
fn drains(view: &PoolView, index: usize) -> Option<String> {
    let (state, settings) = (&view.states[index], &view.settings.backends[index]);
    let by = if state.has_own_weight() { "set at run time" } else { "by the file" };
    let weighs_nothing = state.weight(settings.weight) == 0;
    settings.drains.clone().or_else(|| weighs_nothing.then(|| format!("weight 0, {by}")))
}

/// The one word for a backend, why, and since when.
pub(super) struct State {
    pub(super) word: &'static str,
    pub(super) cause: Option<String>,
    pub(super) since_s: u64,
}

impl State {
    pub(super) fn of(view: &PoolView, index: usize, now_ms: u64) -> Self {
        let state = &view.states[index];
        let health_s = now_ms.saturating_sub(state.since_ms()) / 1_000;
        if let Some(marked) = state.marked() {
            let word = match marked.mark {
                Mark::Drain => "drain",
                Mark::Down => "marked down",
            };
            let since_s = now_ms.saturating_sub(marked.since_ms) / 1_000;
            let health =
                if state.is_up() { String::new() } else { format!("; its health: {}", cause(state)) };
            return Self { word, cause: Some(format!("by {}{health}", marked.by)), since_s };
        }
        let progress = view.backends[index].checks.progress();
        if !state.is_up() {
            let word = if state.health() == Health::Down { "down" } else { "untested" };
            let back =
                progress.map_or(String::new(), |(done, of)| format!("; now {done} of {of} checks good"));
            return Self { word, cause: Some(cause(state) + &back), since_s: health_s };
        }
        if let Some(until_ms) = state.ejected_until_ms() {
            let left_s = until_ms.saturating_sub(now_ms).div_ceil(1_000);
            let what = state.ejected_for().unwrap_or_default().told();
            let cause = format!("{what}; again in {left_s} s at the latest");
            let since_s = now_ms.saturating_sub(state.ejected_since_ms().unwrap_or(now_ms)) / 1_000;
            return Self { word: "ejected", cause: Some(cause), since_s };
        }
        if let Some(why) = drains(view, index) {
            return Self { word: "drain", cause: Some(why), since_s: health_s };
        }
        if let Some(roles) = &view.roles {
            let word = match roles.standing(index) {
                Standing::Stale(_) => Some("stale primary"),
                Standing::Contested | Standing::Foreign | Standing::Alone => Some("contested"),
                Standing::Lagging => Some("lagging"),
                Standing::Starting => Some("starting"),
                Standing::Unknown | Standing::Primary | Standing::Replica => None,
            };
            if let Some(word) = word {
                return Self {
                    word,
                    cause: Some(roles.why(
                        index,
                        view.backends[index].lag(),
                        view.settings.health.check.tells_bytes(),
                    )),
                    since_s: health_s,
                };
            }
        }
        let is_eligible = view.is_eligible(index, Role::Any);
        let cause = match state.health() {
            _ if !is_eligible => {
                Some(format!("tier {}: a lower one serves", view.settings.backends[index].tier))
            }
            _ if progress.is_some() => progress.map(|(done, of)| format!("{done} of {of} checks bad")),
            _ if view.backends[index].load.is_full() => Some("full".to_owned()),
            _ if state.tenths() < TENTHS => {
                Some(format!("at {} % of its weight", state.tenths() * 100 / TENTHS))
            }
            Health::Unchecked => Some("not checked".to_owned()),
            Health::Untested { .. } => Some("not asked yet".to_owned()),
            _ => view.roles.as_ref().map(|roles| {
                roles.why(index, view.backends[index].lag(), view.settings.health.check.tells_bytes())
            }),
        };
        Self { word: if is_eligible { "up" } else { "standby" }, cause, since_s: health_s }
    }
}

fn cause(state: &BackendState) -> String {
    state.cause().map_or_else(|| "no answer to a check yet".to_owned(), str::to_owned)
}
