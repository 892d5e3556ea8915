//! Roles of a published pool (failover): what servers answer becomes who is the primary, who loses sessions, and what is said
//! of it in the log.

use super::pool_state::PoolState;
use crate::backend_state::Health;
use crate::config::settings::{self, Leave, Role};
use crate::health::{Cause, Outcome};
use crate::manifest;
use crate::roles::{Claim, Contested, Generation, Known, Memory, Roles, Rules, Said, Standing, Writers};

/// What of a pool's settings decides whom it believes.
pub(super) fn rules(pool: &settings::Pool) -> Rules {
    Rules {
        max_lag_ms: pool.roles.max_lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
        max_lag_bytes: pool.roles.max_lag_bytes.map(u64::from),
        contested: match pool.roles.contested {
            settings::Contested::Refuse => Contested::Refuse,
            settings::Contested::Keep => Contested::Keep,
        },
        majority: pool.roles.majority,
        writers: match pool.roles.writers {
            settings::Writers::One => Writers::One,
            settings::Writers::All => Writers::All,
        },
        rise: pool.health.rise,
    }
}

/// What is believed of a pool whose backends have said this, each once and at once; `None`: its check tells no roles.
pub fn believed(pool: &settings::Pool, outcomes: &[Option<&Outcome>]) -> Option<Roles> {
    let mut roles = pool
        .health
        .check
        .tells_roles()
        .then(|| Roles::new(rules(pool), pool.backends.len(), Memory::default()))?;
    for (at, outcome) in outcomes.iter().enumerate() {
        if let Some(said) = outcome.and_then(said) {
            roles.hear(at, said, false, 0);
        }
    }
    Some(roles)
}

/// What an outcome says of a role; `None`: nothing.
fn said(outcome: &Outcome) -> Option<Said> {
    match outcome {
        Outcome::Role(answer) => Some(Said::Role(answer.clone())),
        Outcome::Bad(Cause::Unready { .. }) => Some(Said::Starting),
        Outcome::Unconfirmed { .. } | Outcome::Bad(Cause::Full { .. }) => Some(Said::Full),
        Outcome::Bad(_) => Some(Said::Nothing),
        // That this machine could not ask says nothing of the server.
        Outcome::Good | Outcome::Local(_) => None,
    }
}

/// The roles of a pool as the process before left them, or with what was kept of them where that is nobody; `None`: its check tells
/// none.
pub(super) fn resumed(
    pool: &settings::Pool,
    before: Option<&manifest::Pool>,
    kept: Option<&Memory>,
    now_ms: u64,
) -> Option<Roles> {
    if !pool.health.check.tells_roles() {
        return None;
    }
    let known = |backend: &settings::Backend| {
        let is_it = |record: &&manifest::Backend| {
            record.name == backend.name && (record.ip, record.port) == (backend.ip, backend.port)
        };
        let record = before?.backends.iter().find(is_it)?.role.as_ref()?;
        Some(Known {
            claim: record.claim.as_deref().and_then(Claim::named),
            generation: record.generation.as_ref().map(generation),
            claimed: record.claimed,
            is_silent: record.is_silent,
            is_lagging: record.is_lagging,
        })
    };
    let roles = before.and_then(|before| before.roles.as_ref());
    let memory = match roles {
        Some(roles) => Memory::of(roles.generations.iter().map(generation).collect()),
        None => kept.cloned().unwrap_or_default(),
    };
    let primary = roles.and_then(|roles| roles.primary.as_ref());
    let primary = primary.and_then(|name| pool.backends.iter().position(|backend| backend.name == *name));
    Some(Roles::resumed(rules(pool), pool.backends.iter().map(known).collect(), primary, memory, now_ms))
}

fn generation((lineage, number): &(String, u64)) -> Generation {
    Generation { lineage: lineage.as_str().into(), number: *number }
}

/// For the next process: what is believed of the pool.
pub(super) fn export(roles: &Roles, pool: &settings::Pool) -> manifest::PoolRoles {
    let told = |one: &Generation| (one.lineage.to_string(), one.number);
    manifest::PoolRoles {
        primary: roles.primary().and_then(|at| Some(pool.backends.get(at)?.name.clone())),
        generations: roles.memory().entries().iter().map(told).collect(),
    }
}

/// For the next process: what a server said.
pub(super) fn export_server(roles: &Roles, at: usize) -> Option<manifest::ServerRole> {
    let known = roles.known(at)?;
    Some(manifest::ServerRole {
        claim: known.claim.map(|claim| claim.word().to_owned()),
        generation: known.generation.map(|one| (one.lineage.to_string(), one.number)),
        claimed: known.claimed,
        is_silent: known.is_silent,
        is_lagging: known.is_lagging,
    })
}

impl PoolState {
    /// Takes what a check says of a role. `is_down`: the checks have given the server up.
    pub(super) fn hear_role(&mut self, at: usize, outcome: &Outcome, now_ms: u64) {
        let Some(roles) = &mut self.roles else { return };
        let Some(said) = said(outcome) else { return };
        // What an operator says of it changes nothing of what it is.
        let is_down = self.backends.get(at).is_some_and(|tracked| tracked.state.health() == Health::Down);
        let before: Vec<Standing> = roles.standings().to_vec();
        let changed = roles.hear(at, said, is_down, now_ms);
        if let Some(backend) = self.view.backends.get(at) {
            backend.note_lag(roles.lag(at));
        }
        if changed {
            self.changed = true;
            self.note_roles(&before, now_ms);
        }
    }

    /// Forgets which generations were ever believed. `None`: it knows no roles.
    pub(super) fn forget_generations(&mut self, by: &str, now_ms: u64) -> Option<()> {
        let roles = self.roles.as_mut()?;
        let told = |one: &Generation| format!("{} of {}", one.number, one.lineage);
        let forgotten: Vec<String> = roles.memory().entries().iter().map(told).collect();
        let before: Vec<Standing> = roles.standings().to_vec();
        let changed = roles.forget(now_ms);
        let (pool, forgotten) = (&*self.view.live.name, forgotten.join(", "));
        tracing::warn!(target: "evenkeel", pool, forgotten, %by, "earlier primaries may be believed again");
        if changed {
            self.changed = true;
            self.note_roles(&before, now_ms);
        }
        Some(())
    }

    /// The servers stood as in `before` until now: who lost a role loses its sessions, and people are told.
    pub(super) fn note_roles(&mut self, before: &[Standing], now_ms: u64) {
        let Some(roles) = &self.roles else { return };
        let (pool, leaves) = (&*self.view.live.name, self.view.settings.roles.leave == Leave::Close);
        let contested = |standings: &[Standing]| standings.contains(&Standing::Contested);
        if contested(roles.standings()) && !contested(before) {
            let claim = |(at, standing): (usize, &Standing)| {
                let number = roles.generation(at).map_or("unknown".to_owned(), |one| one.number.to_string());
                (*standing == Standing::Contested)
                    .then(|| format!("{} (generation {number})", self.view.backends[at].name))
            };
            let claims: Vec<String> = roles.standings().iter().enumerate().filter_map(claim).collect();
            let believed = roles.primary().map_or("nobody", |at| &*self.view.backends[at].name);
            tracing::error!(target: "health", pool, claims = claims.join(", "), believed, "two primaries");
        }
        let ended_ms = roles.last_primary_ms();
        for (at, (was, is)) in
            before.iter().zip(roles.standings()).enumerate().filter(|(_, (was, is))| was != is)
        {
            let Some(backend) = self.view.backends.get(at) else { continue };
            let loses = |fits: fn(Standing) -> bool| leaves && fits(*was) && !fits(*is);
            let lost = [
                (Role::Primary, loses(Standing::is_primary)),
                (Role::Replica, loses(Standing::may_keep_readers)),
                (Role::PreferReplica, loses(Standing::may_keep_readers)),
                (Role::Any, loses(Standing::is_any)),
            ];
            for (role, _) in lost.into_iter().filter(|(_, lost)| *lost) {
                backend.lose(role);
                self.lost = true;
            }
            let generation = roles.generation(at).map(|generation| generation.number);
            let (name, from, to) = (&*backend.name, was.word(), is.word());
            let since_last_primary_ms =
                ended_ms.filter(|_| is.is_primary()).map(|ended_ms| now_ms.saturating_sub(ended_ms));
            tracing::info!(target: "health", pool, backend = name, from, to, generation, since_last_primary_ms, "role changed");
            if is.is_primary() || *is == Standing::Replica && !matches!(was, Standing::Lagging) {
                backend.checks.became(is.is_primary()).add(1);
            }
            // Nobody else has the role, and what failed there was before.
            if is.is_primary()
                && let Some(tracked) = self.backends.get_mut(at)
            {
                tracked.state.end_ejection(now_ms);
                backend.forget_failures();
            }
        }
        if before.iter().any(|standing| standing.is_primary()) && roles.primary().is_none() {
            tracing::warn!(target: "health", pool, "believed primary is gone: nobody is the primary");
        }
    }

    /// It is believed to be the primary: nobody else has the role.
    pub(super) fn is_primary(&self, at: usize) -> bool {
        self.roles.as_ref().is_some_and(|roles| roles.primary() == Some(at))
    }
}
