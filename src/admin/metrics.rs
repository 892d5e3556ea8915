//! Metrics page for Prometheus, `/metrics`. Names and labels are a contract with dashboards and alerts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Bytes;

use super::cached_texts::MaxAge;
use super::openmetrics::OpenMetrics;
use super::process;
use super::role_metrics::roles;
use super::samples::{each_backend, each_counted};
use super::source_rows;
use super::sources::{FOLLOWERS_MAX, Sources, WATCHERS_MAX};
use crate::backend_state::{EjectedFor, TENTHS};
use crate::metrics::{AcceptTrouble, Cancelled, Direction, Drop, Histogram, ListenerCounters, ListenerShard};
use crate::pool::{PoolView, tcp_source_ports_ratio};
use crate::sys::udp::local_ports;

/// The whole page, which serves all who ask for a while.
pub(super) fn text(sources: &Sources, max_age: MaxAge) -> Bytes {
    sources.texts.metrics.get(sources.basis(), max_age, || render(sources))
}

fn render(sources: &Sources) -> String {
    let mut out = OpenMetrics::default();
    let all = sources.listeners.all();
    let names = by_name(&all);
    listeners(&mut out, &names);
    datagrams(&mut out, &names);
    let snapshot = sources.snapshots.load();
    let in_file: Vec<_> = snapshot.pools.iter().filter(|pool| !pool.gone).map(Arc::clone).collect();
    pools(&mut out, &in_file);
    backends(&mut out, &in_file);
    answers(&mut out, &in_file, sources.now_ms());
    source_rows::metrics(&mut out, &sources.discovery, sources.now_ms());
    roles(&mut out, &in_file);
    checks(&mut out, &in_file);
    whole_process(&mut out, sources);
    process::add(&mut out);
    out.finish()
}

/// What one name counts: as a rule one listener, and beside it the one that it was with another protocol.
struct OneName<'a> {
    listener: &'a str,
    counters: Vec<&'a ListenerCounters>,
}

impl OneName<'_> {
    fn sum(&self, value: impl Fn(&ListenerShard) -> u64) -> u64 {
        self.counters.iter().map(|counters| counters.shards.sum(&value)).sum()
    }

    fn any(&self, proto: &str) -> bool {
        self.counters.iter().any(|counters| counters.proto == proto)
    }
}

fn by_name(all: &[Arc<ListenerCounters>]) -> Vec<OneName<'_>> {
    let mut names: Vec<OneName<'_>> = Vec::new();
    let mut at: HashMap<&str, usize> = HashMap::new();
    for counters in all {
        let place = *at.entry(&counters.listener).or_insert(names.len());
        match names.get_mut(place) {
            Some(name) => name.counters.push(counters),
            None => names.push(OneName { listener: &counters.listener, counters: vec![counters] }),
        }
    }
    names
}

fn listeners(out: &mut OpenMetrics, names: &[OneName<'_>]) {
    out.counter("evenkeel_sessions", "Sessions that ended, by why.");
    for name in names {
        let mut reasons: Vec<(&str, u64)> = Vec::new();
        for (reason, ended) in name.counters.iter().flat_map(|counters| counters.ended()) {
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, sum)) => *sum += ended,
                None => reasons.push((reason, ended)),
            }
        }
        for (reason, ended) in reasons {
            let labels = [("listener", name.listener), ("reason", reason)];
            out.sample("evenkeel_sessions_total", &labels, ended);
        }
    }
    out.gauge("evenkeel_sessions_active", "Sessions there are.");
    for name in names {
        let active = name.sum(|shard| shard.active.value());
        out.sample("evenkeel_sessions_active", &[("listener", name.listener)], active);
    }
    out.counter("evenkeel_bytes", "Bytes delivered.");
    for name in names {
        for direction in Direction::ALL {
            let bytes = name.sum(|shard| shard.bytes(direction).value());
            let labels = [("listener", name.listener), ("direction", direction.word())];
            out.sample("evenkeel_bytes_total", &labels, bytes);
        }
    }
    out.counter("evenkeel_cut_bytes", "Bytes of sessions that were cut with them in hand.");
    for name in names.iter().filter(|name| name.any("tcp")) {
        let cut = name.sum(|shard| shard.cut_bytes.value());
        out.sample("evenkeel_cut_bytes_total", &[("listener", name.listener)], cut);
    }
    out.counter("evenkeel_refusals_told", "Refused clients that were told why in their own protocol.");
    for name in names.iter().filter(|name| name.any("tcp")) {
        let told = name.sum(|shard| shard.told.value());
        out.sample("evenkeel_refusals_told_total", &[("listener", name.listener)], told);
    }
    out.counter(
        "evenkeel_cancels",
        "PostgreSQL cancel requests, once for each backend, by what came of them.",
    );
    for name in names.iter().filter(|name| name.any("tcp")) {
        for result in Cancelled::ALL {
            let count = name.sum(|shard| shard.cancels(result).value());
            let labels = [("listener", name.listener), ("result", result.word())];
            out.sample("evenkeel_cancels_total", &labels, count);
        }
    }
    out.counter("evenkeel_accept_errors", "Connections that could not be taken, by why.");
    for name in names {
        for kind in AcceptTrouble::ALL {
            let errors = name.sum(|shard| shard.trouble(kind).value());
            out.sample(
                "evenkeel_accept_errors_total",
                &[("listener", name.listener), ("kind", kind.word())],
                errors,
            );
        }
    }
}

/// What only UDP listeners have.
fn datagrams(out: &mut OpenMetrics, names: &[OneName<'_>]) {
    out.counter("evenkeel_udp_datagrams", "Datagrams sent on.");
    for name in names.iter().filter(|name| name.any("udp")) {
        for direction in Direction::ALL {
            let sent = name.sum(|shard| shard.datagrams(direction).value());
            let labels = [("listener", name.listener), ("direction", direction.word())];
            out.sample("evenkeel_udp_datagrams_total", &labels, sent);
        }
    }
    out.counter("evenkeel_udp_dropped", "Datagrams that were not sent on, by why.");
    for name in names.iter().filter(|name| name.any("udp")) {
        for why in Drop::ALL {
            let dropped = name.sum(|shard| shard.dropped(why).value());
            let labels = [("listener", name.listener), ("reason", why.word())];
            out.sample("evenkeel_udp_dropped_total", &labels, dropped);
        }
    }
}

fn pools(out: &mut OpenMetrics, pools: &[Arc<PoolView>]) {
    out.gauge(
        "evenkeel_pool_table",
        "A number for the table of source_hash: equal on two machines, they agree.",
    );
    for pool in pools {
        if let Some(number) = pool.picker.table_number() {
            out.sample("evenkeel_pool_table", &[("pool", &*pool.live.name)], number);
        }
    }
    out.histogram("evenkeel_connect_seconds", "Time until a backend answered the connect.");
    for pool in pools {
        let mut counts = vec![0; Histogram::BOUNDS_US.len() + 1];
        for shard in pool.live.shards.iter() {
            counts.iter_mut().zip(shard.connect.counts()).for_each(|(sum, count)| *sum += count);
        }
        let sum_us = pool.live.shards.sum(|shard| shard.connect.sum_us());
        out.buckets(
            "evenkeel_connect_seconds",
            &[("pool", &pool.live.name)],
            &Histogram::BOUNDS_US,
            &counts,
            sum_us,
        );
    }
    out.counter("evenkeel_retries", "Attempts at a backend after the first of a session.");
    for pool in pools {
        let retries = pool.live.shards.sum(|shard| shard.retries.value());
        out.sample("evenkeel_retries_total", &[("pool", &pool.live.name)], retries);
    }
    out.counter(
        "evenkeel_replays",
        "First messages that an empty end called to be said again, by what came of it.",
    );
    for pool in pools {
        let shards = &pool.live.shards;
        let (sent, forgone) =
            (shards.sum(|one| one.replays.value()), shards.sum(|one| one.replays_forgone.value()));
        for (outcome, replays) in [("sent", sent), ("forgone", forgone)] {
            let labels = [("pool", &*pool.live.name), ("outcome", outcome)];
            out.sample("evenkeel_replays_total", &labels, replays);
        }
    }
    out.gauge("evenkeel_queue_length", "Sessions that wait for a place.");
    for pool in pools {
        out.sample("evenkeel_queue_length", &[("pool", &pool.live.name)], pool.live.waiting());
    }
    out.counter("evenkeel_source_address_full", "Connects that found no port free at one of `connect_from`.");
    for pool in pools {
        let full = pool.live.shards.sum(|shard| shard.source_full.value());
        out.sample("evenkeel_source_address_full_total", &[("pool", &pool.live.name)], full);
    }
    out.counter("evenkeel_flows_rehomed", "Flows that got another backend because theirs was gone.");
    for pool in pools {
        let rehomed = pool.live.shards.sum(|shard| shard.rehomed.value());
        out.sample("evenkeel_flows_rehomed_total", &[("pool", &pool.live.name)], rehomed);
    }
}

fn backends(out: &mut OpenMetrics, pools: &[Arc<PoolView>]) {
    out.counter("evenkeel_connect_failures", "Attempts at a backend that failed.");
    each_counted(pools, |backend, labels| {
        let failures = backend.shards.sum(|shard| shard.connect_failures.value());
        out.sample("evenkeel_connect_failures_total", &labels, failures);
    });
    out.counter("evenkeel_backend_ejections", "Times it was taken out, by what of real traffic failed.");
    each_counted(pools, |backend, [pool, name]| {
        for (word, cause) in EjectedFor::WORDS {
            let ejections = backend.checks.ejections(cause).value();
            out.sample("evenkeel_backend_ejections_total", &[pool, name, ("cause", word)], ejections);
        }
    });
    out.counter("evenkeel_backend_empty_ends", "Sessions that it ended without a byte.");
    each_counted(pools, |backend, labels| {
        let ends = backend.shards.sum(|shard| shard.empty_ends.value());
        out.sample("evenkeel_backend_empty_ends_total", &labels, ends);
    });
    out.gauge("evenkeel_backend_up", "1: its health checks say so, or nobody asks.");
    each_backend(pools, |pool, index, _, labels| {
        out.sample("evenkeel_backend_up", &labels, u8::from(pool.states[index].is_up()));
    });
    out.gauge("evenkeel_backend_eligible", "1: it may be picked.");
    for pool in pools {
        let mut eligible = vec![false; pool.backends.len()];
        pool.picker.eligible().iter().for_each(|&index| eligible[index as usize] = true);
        for (backend, eligible) in pool.backends.iter().zip(eligible) {
            let labels = [("pool", &*pool.live.name), ("backend", &*backend.name)];
            out.sample("evenkeel_backend_eligible", &labels, u8::from(eligible));
        }
    }
    out.gauge("evenkeel_backend_weight", "Its weight, as far as it has grown after it came back.");
    each_backend(pools, |pool, index, _, labels| {
        let grown = f64::from(pool.states[index].tenths()) / f64::from(TENTHS);
        out.sample(
            "evenkeel_backend_weight",
            &labels,
            f64::from(pool.states[index].weight(pool.settings.backends[index].weight)) * grown,
        );
    });
    out.gauge("evenkeel_backend_sessions_active", "Sessions it has, those being dialled included.");
    each_counted(pools, |backend, labels| {
        out.sample("evenkeel_backend_sessions_active", &labels, backend.load.active());
    });
    out.counter("evenkeel_backend_sessions", "Sessions that reached it.");
    each_counted(pools, |backend, labels| {
        let sessions = backend.shards.sum(|shard| shard.sessions.value());
        out.sample("evenkeel_backend_sessions_total", &labels, sessions);
    });
    out.counter("evenkeel_backend_bytes", "Bytes delivered, by backend.");
    each_counted(pools, |backend, [pool, name]| {
        for direction in Direction::ALL {
            let bytes = backend.shards.sum(|shard| shard.bytes(direction).value());
            out.sample("evenkeel_backend_bytes_total", &[pool, name, ("direction", direction.word())], bytes);
        }
    });
}

/// Owed answers and how long answers take.
fn answers(out: &mut OpenMetrics, pools: &[Arc<PoolView>], now_ms: u64) {
    out.gauge("evenkeel_backend_owed_answers", "Sessions and flows whose client spoke last.");
    each_backend(pools, |_, _, backend, labels| {
        out.sample("evenkeel_backend_owed_answers", &labels, backend.load.owed());
    });
    out.gauge("evenkeel_backend_owed_seconds", "For how long they have been owed, on average.");
    each_backend(pools, |_, _, backend, labels| {
        let owed_us = backend.load.owed_for_us(now_ms * 1_000).unwrap_or(0);
        out.sample("evenkeel_backend_owed_seconds", &labels, owed_us as f64 / 1e6);
    });
    out.gauge("evenkeel_backend_answer_seconds", "How long answers take, an average of the last.");
    each_backend(pools, |_, _, backend, labels| {
        if let Some(ns) = backend.load.answer_ns(now_ms * 1_000_000) {
            out.sample("evenkeel_backend_answer_seconds", &labels, f64::from(ns) / 1e9);
        }
    });
}

fn checks(out: &mut OpenMetrics, pools: &[Arc<PoolView>]) {
    out.counter("evenkeel_health_checks", "Health checks; `local` are those this machine could not make.");
    each_counted(pools, |backend, [pool, name]| {
        let counts = &backend.checks;
        for (result, count) in [("good", &counts.good), ("bad", &counts.bad), ("local", &counts.local)] {
            out.sample("evenkeel_health_checks_total", &[pool, name, ("result", result)], count.value());
        }
    });
    out.histogram("evenkeel_health_check_seconds", "Time a health check took.");
    for pool in pools {
        let (bounds, counts) = (&Histogram::BOUNDS_US, pool.live.check_seconds.counts());
        let labels = [("pool", &*pool.live.name)];
        out.buckets(
            "evenkeel_health_check_seconds",
            &labels,
            bounds,
            &counts,
            pool.live.check_seconds.sum_us(),
        );
    }
}

fn whole_process(out: &mut OpenMetrics, sources: &Sources) {
    out.gauge("evenkeel_limit_in_use_ratio", "How much of a limit is used, 0 to 1.");
    let ratio =
        f64::from(sources.workers.tcp_sessions()) / f64::from(sources.workers.tcp_sessions_served().max(1));
    out.sample("evenkeel_limit_in_use_ratio", &[("limit", "tcp_sessions")], ratio);
    let flows = sources.workers.udp_permits();
    let ratio = f64::from(flows.taken()) / f64::from(flows.most().unwrap_or(u32::MAX).max(1));
    out.sample("evenkeel_limit_in_use_ratio", &[("limit", "udp_sessions")], ratio);
    let ratio = f64::from(sources.workers.source_ports_permille()) / 1_000.0;
    let ratio =
        ratio.max(tcp_source_ports_ratio(&sources.listeners.all(), &sources.snapshots.load(), local_ports()));
    out.sample("evenkeel_limit_in_use_ratio", &[("limit", "source_ports")], ratio);
    // Never above the number, which is small.
    let ratio = sources.watchers.now() as f64 / WATCHERS_MAX as f64;
    out.sample("evenkeel_limit_in_use_ratio", &[("limit", "watchers")], ratio);
    let (followers, followers_refused) = sources.watchers.followers();
    let ratio = followers as f64 / FOLLOWERS_MAX as f64;
    out.sample("evenkeel_limit_in_use_ratio", &[("limit", "followers")], ratio);
    out.gauge(
        "evenkeel_accepting_rests",
        "1: connections wait at the doors, since file descriptors or memory ran out.",
    );
    out.sample("evenkeel_accepting_rests", &[], u8::from(sources.workers.accepting_rests()));
    out.gauge(
        "evenkeel_config_number",
        "A number for the file that is served: equal on two machines, it is the same.",
    );
    out.sample("evenkeel_config_number", &[], (sources.file_number)());
    out.gauge("evenkeel_run_time_changes", "Backends that add, remove or set made other than in the file.");
    out.sample("evenkeel_run_time_changes", &[], (sources.run_time)().len());
    out.gauge("evenkeel_withdrawn", "1: an operator wants nobody sent to this machine; /readyz says 503.");
    out.sample("evenkeel_withdrawn", &[], u8::from((sources.withdrawn)().is_some()));
    out.counter("evenkeel_watchers_refused", "Who could not watch the dashboard: no place, or too slow.");
    out.sample("evenkeel_watchers_refused_total", &[("reason", "limit")], sources.watchers.refused());
    out.sample("evenkeel_watchers_refused_total", &[("reason", "slow")], sources.watchers.cut());
    out.counter(
        "evenkeel_followers_refused",
        "Who could not follow whether clients may be sent here: no place.",
    );
    out.sample("evenkeel_followers_refused_total", &[], followers_refused);
    let (done, refused) =
        (sources.reloads.done.load(Ordering::Relaxed), sources.reloads.refused.load(Ordering::Relaxed));
    out.counter("evenkeel_config_reloads", "Times the file was read again, by what came of it.");
    out.sample("evenkeel_config_reloads_total", &[("result", "done")], done);
    out.sample("evenkeel_config_reloads_total", &[("result", "refused")], refused);
    out.gauge("evenkeel_config_generation", "Which configuration is served: 1 is the one it started with.");
    out.sample("evenkeel_config_generation", &[], done + 1);
    network_files(out, sources);
    out.counter("evenkeel_log_lines_dropped", "Log lines that found no room in the buffer.");
    let dropped = sources.log_lines_dropped.load(Ordering::Relaxed);
    out.sample("evenkeel_log_lines_dropped_total", &[], dropped);
    out.info("evenkeel_build", "What runs here.");
    out.sample("evenkeel_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
}

fn network_files(out: &mut OpenMetrics, sources: &Sources) {
    let rows = (sources.network_files)();
    out.gauge("evenkeel_network_file_entries", "Networks of a file of `allow`, `deny` or `accept_proxy`.");
    for row in &rows {
        out.sample("evenkeel_network_file_entries", &[("file", &row.path)], row.networks as u64);
    }
    out.gauge("evenkeel_network_file_age_seconds", "Since when they are served.");
    for row in &rows {
        out.sample("evenkeel_network_file_age_seconds", &[("file", &row.path)], row.age_s);
    }
    out.gauge(
        "evenkeel_network_file_refused",
        "1: what it says now is refused, and what it said before is served.",
    );
    for row in &rows {
        out.sample("evenkeel_network_file_refused", &[("file", &row.path)], u8::from(row.failure.is_some()));
    }
    out.counter("evenkeel_network_file_failures", "Times what it said was refused.");
    for row in &rows {
        out.sample("evenkeel_network_file_failures_total", &[("file", &row.path)], row.failures);
    }
}
