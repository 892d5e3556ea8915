//! Preview of a reload: what the file says now, beside what is served, and what serving it would do: doors that open and close,
//! sessions that end or stay, clients that would get another backend. Changes nothing.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::connect_from;
use super::control::{Control, lock};
use super::error::Refused;
use super::reload::fixed;
use crate::admin::requests::{Effect, Preview};
use crate::balance::load::Load;
use crate::balance::{Ask, Member, Pick, Picker};
use crate::config::settings::{Balance, OnRemoved, Pool, Protocol, Settings};
use crate::config::{RunTimeChange, unified};
use crate::durations::exact;
use crate::pool::{PoolView, Snapshot};
use crate::random::Random;

impl Control {
    /// What a reload would do.
    pub(super) async fn preview(self: &Arc<Self>) -> Result<Preview, Refused> {
        let control = Arc::clone(self);
        // The tables of many pools take a while, and so may the file.
        let looked = tokio::task::spawn_blocking(move || control.look_ahead()).await;
        looked.unwrap_or_else(|error| {
            Err(Refused::Unreadable(format!("what would change cannot be told: {error}")))
        })
    }

    fn look_ahead(&self) -> Result<Preview, Refused> {
        let changed = self.run_time.current().changes;
        let document = (self.file.read)(&changed)?;
        let (settings, after) = (&document.settings, &*document.text);
        let text = Arc::clone(&lock(&self.text));
        let before = Arc::clone(&self.served().settings);
        let mut changes = unified((&before, &text), (settings, after));
        changes.extend(self.network_files.differences(settings).into_iter().map(|line| format!("~ {line}")));
        let mut effects = Vec::new();
        if let Err(error) = fixed(&before, settings) {
            changes.push(format!("~ {error}"));
            effects.push(Effect::new("refused", error.to_string(), 0));
        }
        if let Err(error) = connect_from::check(settings) {
            effects.push(Effect::new("refused", error.to_string(), 0));
        }
        self.look_at_doors(settings, &mut effects);
        backends(&self.snapshots.load(), settings, &mut effects);
        moved(&self.snapshots.load(), &before, settings, &mut effects);
        let ends = |over: &String| Effect::new("resets", format!("a change at run time ends: {over}"), 0);
        effects.extend(document.over.iter().map(ends));
        let at_run_time = document.changes.iter().map(RunTimeChange::told).collect();
        Ok(Preview { changes, at_run_time, effects, files: document.files.to_vec() })
    }

    fn look_at_doors(&self, settings: &Settings, effects: &mut Vec<Effect>) {
        let served = self.served();
        let matched = served.matched(&settings.listeners);
        for (at, bind) in &matched.missing {
            let address = bind.ip.map_or_else(
                || format!("port {}", bind.port),
                |ip| SocketAddr::new(ip, bind.port).to_string(),
            );
            let text = format!("listener {} opens {address}", settings.listeners[*at].name);
            effects.push(Effect::new("opens", text, 0));
        }
        for door in matched.unwanted.iter().filter(|door| door.leaving.is_none()) {
            let sessions = self.listeners.named(door.listener.as_bytes()).map_or(0, |one| one.active());
            let fate = match door.protocol {
                Protocol::Tcp => "its sessions stay".to_owned(),
                Protocol::Udp => format!("its flows have {} yet", exact(served.settings.shutdown.grace)),
            };
            let text = format!("listener {} closes {}; {fate}", door.listener, door.address);
            let kind = if door.protocol == Protocol::Tcp { "closes" } else { "ends" };
            effects.push(Effect::new(kind, text, sessions));
        }
    }
}

/// What becomes of the sessions of backends that leave, or have another address.
fn backends(snapshot: &Snapshot, settings: &Settings, effects: &mut Vec<Effect>) {
    let pools: HashMap<&str, &Pool> = settings.pools.iter().map(|pool| (&*pool.name, pool)).collect();
    for view in snapshot.pools.iter().filter(|view| !view.gone) {
        let now = pools.get(&*view.live.name);
        for (was, backend) in view.settings.backends.iter().zip(&view.backends) {
            let sessions = u64::from(backend.load.active());
            let name = format!("backend {}/{}", view.live.name, was.name);
            let Some(pool) = now else {
                effects.push(Effect::new(
                    "keeps",
                    format!("{name} leaves with its pool; its sessions stay"),
                    sessions,
                ));
                continue;
            };
            match pool.backends.iter().find(|one| one.name == was.name) {
                Some(now) if (now.ip, now.port) == (was.ip, was.port) => {}
                Some(_) => {
                    let text = format!("{name} has another address; its sessions stay at the old one");
                    effects.push(Effect::new("keeps", text, sessions));
                }
                // One that a source found belongs to that.
                None if !pool.sources.is_empty() => {}
                None => effects.push(leaves(&name, pool, sessions)),
            }
        }
    }
}

fn leaves(name: &str, pool: &Pool, sessions: u64) -> Effect {
    let (kind, fate) = match (pool.on_removed, pool.removed_grace) {
        (OnRemoved::Close, _) => ("ends", "its sessions end".to_owned()),
        (_, Some(grace)) => ("ends", format!("its sessions have {} yet", exact(grace))),
        (OnRemoved::Auto | OnRemoved::Keep, None) => ("keeps", "its sessions stay".to_owned()),
        (OnRemoved::Rehome, None) => ("moves", "its flows go to others".to_owned()),
    };
    Effect::new(kind, format!("{name} leaves; {fate}"), sessions)
}

/// How many clients of pools that hash would get another backend, as the backends stand now.
fn moved(snapshot: &Snapshot, before: &Settings, after: &Settings, effects: &mut Vec<Effect>) {
    let hashes = |pool: &Pool| matches!(pool.balance, Balance::SourceHash(_));
    let mut left = POOLS_MAX;
    for pool in after.pools.iter().filter(|pool| hashes(pool)) {
        let view = snapshot.pools.iter().find(|view| *view.live.name == *pool.name && !view.gone);
        // What sources find stays what it is.
        let Some(view) = view.filter(|view| hashes(&view.settings) && pool.sources.is_empty()) else {
            continue;
        };
        let same = view.settings.backends == pool.backends && view.settings.balance == pool.balance;
        if same && before.hash_seed == after.hash_seed {
            continue;
        }
        if left == 0 {
            let text = format!(
                "more than {POOLS_MAX} pools hash anew: of the others is not told how many clients move"
            );
            effects.push(Effect::new("moves", text, 0));
            return;
        }
        left -= 1;
        let percent = share_moved(view, before, (pool, after));
        if percent > 0.0 {
            let text = format!("pool {}: {percent:.1} % of all clients get another backend", pool.name);
            effects.push(Effect { percent: Some(percent), ..Effect::new("moves", text, 0) });
        }
    }
}

/// In percent, of clients that are drawn.
fn share_moved(view: &PoolView, before: &Settings, (pool, after): (&Pool, &Settings)) -> f64 {
    let (old, new) = (members(view, &view.settings), members(view, pool));
    let build = |pool: &Pool, seed: &str, members: &[Member]| {
        Picker::build(&pool.balance, seed, false, members, None)
    };
    let was = build(&view.settings, &before.hash_seed, &old);
    let is = build(pool, &after.hash_seed, &new);
    let mut bits = Random::new(CLIENTS.into());
    let name = |picker: &Picker, members: &[Member], client| match picker.pick(&Ask {
        client,
        random: 0,
        now_ns: 0,
        tried: &[],
    }) {
        Pick::Member(index) => members.get(index as usize).map(|member| Arc::clone(&member.name)),
        Pick::Full | Pick::Tried | Pick::NoneEligible => None,
    };
    let moves = |_: &u32| {
        let drawn = bits.bits().to_be_bytes();
        let ip = Ipv4Addr::new(drawn[0], drawn[1], drawn[2], drawn[3]);
        let client = SocketAddr::from((ip, u16::from_be_bytes([drawn[4], drawn[5]])));
        name(&was, &old, client) != name(&is, &new, client)
    };
    // Some thousands.
    let count = (0..CLIENTS).filter(moves).count() as f64;
    count * 100.0 / f64::from(CLIENTS)
}

/// The members that a pool of these backends would have: those that are there as they stand, new ones up, and nobody full.
fn members(view: &PoolView, pool: &Pool) -> Vec<Member> {
    let known: HashMap<&str, usize> =
        view.settings.backends.iter().enumerate().map(|(at, backend)| (&*backend.name, at)).collect();
    let member = |backend: &crate::config::settings::Backend| {
        let state = known.get(&*backend.name).and_then(|at| view.states.get(*at));
        Member {
            name: backend.name.as_str().into(),
            weight: state.map_or(backend.weight, |state| state.weight(backend.weight)),
            tier: backend.tier,
            up: state.is_none_or(|state| state.serves()),
            out: state.is_some_and(|state| state.marked().is_some()),
            load: Arc::new(Load::new(None)),
        }
    };
    pool.backends.iter().map(member).collect()
}

/// Clients that are drawn: the share is right to a percent.
const CLIENTS: u32 = 10_000;
/// Two tables of 2 ms for each.
const POOLS_MAX: usize = 100;
