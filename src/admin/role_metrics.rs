//! Metrics of roles: what each backend is, who became what, and how far replicas are behind.

use std::sync::Arc;

use super::openmetrics::OpenMetrics;
use crate::config::settings::{Role, Word};
use crate::pool::{Backend, PoolView, RoleView};
use crate::roles::{Claim, Standing};

/// Role gauges: what only pools have whose check tells roles.
pub(super) fn roles(out: &mut OpenMetrics, pools: &[Arc<PoolView>]) {
    let told: Vec<_> = pools.iter().filter_map(|pool| Some((pool, pool.roles.as_ref()?))).collect();
    let count = |view: &RoleView, is: fn(Claim) -> bool| {
        (0..view.roles.standings().len()).filter(|at| view.roles.claim(*at).is_some_and(is)).count()
    };
    out.gauge("evenkeel_pool_primaries", "Backends that say they are the primary.");
    for (pool, view) in &told {
        let primaries = count(view, |claim| matches!(claim, Claim::Primary | Claim::Former));
        out.sample("evenkeel_pool_primaries", &[("pool", &pool.live.name)], primaries);
    }
    out.gauge("evenkeel_pool_primary_believed", "1: one of them is believed, and serves what writes.");
    for (pool, view) in &told {
        let believed = u8::from(view.roles.primary().is_some());
        out.sample("evenkeel_pool_primary_believed", &[("pool", &pool.live.name)], believed);
    }
    out.gauge("evenkeel_backend_role", "1: it is believed to be that.");
    for (pool, view) in &told {
        for (at, backend) in pool.backends.iter().enumerate() {
            let standing = view.standing(at);
            let is_replica = matches!(standing, Standing::Replica | Standing::Lagging);
            for (word, is) in [("primary", standing.is_primary()), ("replica", is_replica)] {
                let labels = [("pool", &*pool.live.name), ("backend", &*backend.name), ("role", word)];
                out.sample("evenkeel_backend_role", &labels, u8::from(is));
            }
        }
    }
    role_changes(out, &told);
    let each = |tell: &mut TellRole<'_>| {
        for (pool, view) in &told {
            for (at, backend) in pool.backends.iter().enumerate() {
                tell((view, at), backend, [("pool", &*pool.live.name), ("backend", &*backend.name)]);
            }
        }
    };
    out.gauge("evenkeel_backend_generation", "Of which promotion it is: its timeline.");
    each(&mut |(view, at), _, labels| {
        if let Some(generation) = view.roles.generation(at) {
            out.sample("evenkeel_backend_generation", &labels, generation.number);
        }
    });
    out.gauge("evenkeel_backend_lag_seconds", "How far it is behind the primary, in time.");
    each(&mut |_, backend, labels| {
        if let Some(lag) = backend.lag() {
            out.sample("evenkeel_backend_lag_seconds", &labels, lag.ms as f64 / 1_000.0);
        }
    });
    out.gauge(
        "evenkeel_backend_lag_bytes",
        "How far it is behind the primary, in bytes of the stream of changes.",
    );
    for (pool, _) in told.iter().filter(|(pool, _)| pool.settings.health.check.tells_bytes()) {
        for backend in pool.backends.iter() {
            if let Some(lag) = backend.lag() {
                let labels = [("pool", &*pool.live.name), ("backend", &*backend.name)];
                out.sample("evenkeel_backend_lag_bytes", &labels, lag.bytes);
            }
        }
    }
    out.gauge("evenkeel_backend_eligible_for", "1: it may be picked for listeners of that role.");
    for (pool, _) in &told {
        for (word, role) in Role::WORDS {
            let mut eligible = vec![false; pool.backends.len()];
            pool.eligible(*role).iter().for_each(|&index| eligible[index as usize] = true);
            for (backend, eligible) in pool.backends.iter().zip(eligible) {
                let labels = [("pool", &*pool.live.name), ("backend", &*backend.name), ("role", *word)];
                out.sample("evenkeel_backend_eligible_for", &labels, u8::from(eligible));
            }
        }
    }
}

/// Counter of role changes: who became what, and how often.
fn role_changes(out: &mut OpenMetrics, told: &[(&Arc<PoolView>, &RoleView)]) {
    out.counter("evenkeel_role_changes", "Times it became that.");
    for (pool, _) in told {
        for backend in pool.backends.iter() {
            for (word, is_primary) in [("primary", true), ("replica", false)] {
                let labels = [("pool", &*pool.live.name), ("backend", &*backend.name), ("role", word)];
                out.sample("evenkeel_role_changes_total", &labels, backend.checks.became(is_primary).value());
            }
        }
    }
}

/// Teller of one backend and its role: where it stands among the roles, itself, and its labels.
type TellRole<'a> = dyn FnMut((&RoleView, usize), &Backend, [(&str, &str); 2]) + 'a;
