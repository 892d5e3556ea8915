//! Configuration diff: what a new file changes, in words: a line for each listener, pool and backend that is not as it
//! was.
//!
//! Pure.

use std::sync::Arc;

use super::settings::{Backend, Listener, NetworkFiles, Pool, Settings, Source};

/// What is different in `after`, a line each, in the order of the files.
pub fn difference(before: &Settings, after: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    let pool_name = |settings: &Settings, listener: &Listener| {
        settings.pools.get(listener.pool).map_or(String::new(), |pool| pool.name.clone())
    };
    each(
        ("listener", &before.listeners, &after.listeners),
        |listener: &Listener| &listener.name,
        |was, now| {
            let same_pool = pool_name(before, was) == pool_name(after, now);
            // Where a pool stands in the list is no matter of the listener's.
            let same = bare(was) == bare(now);
            if same && same_pool { Vec::new() } else { vec!["changed".to_owned()] }
        },
        &mut lines,
    );
    each(("pool", &before.pools, &after.pools), |pool: &Pool| &pool.name, pool_changes, &mut lines);
    let whole = [
        ("hash_seed", before.hash_seed != after.hash_seed),
        ("log", before.log != after.log),
        ("admin", before.admin != after.admin),
        ("shutdown", before.shutdown != after.shutdown),
        ("limits", before.limits != after.limits),
        ("dns", before.dns != after.dns),
    ];
    lines.extend(whole.iter().filter(|(_, differs)| *differs).map(|(what, _)| format!("{what} changed")));
    lines
}

/// The listener without its pool's number, and without what the files of networks say that it names: who reads those tells.
fn bare(listener: &Listener) -> Listener {
    let mut bare = Listener { pool: 0, ..listener.clone() };
    let NetworkFiles { allow, deny, accept_proxy } = &mut bare.files;
    for file in allow.iter_mut().chain(deny).chain(accept_proxy) {
        file.list = Arc::default();
    }
    bare
}

fn pool_changes(was: &Pool, now: &Pool) -> Vec<String> {
    let mut changes = Vec::new();
    let settings = |pool: &Pool| Pool { backends: Vec::new(), sources: Vec::new(), ..pool.clone() };
    let mut with_secrets = settings(was);
    with_secrets.health.check.take_secrets(&now.health.check);
    match (settings(was) == settings(now), with_secrets == settings(now)) {
        (true, _) => {}
        (false, true) => changes.push("has another password".to_owned()),
        (false, false) => changes.push("changed".to_owned()),
    }
    let mut backends = Vec::new();
    each(
        ("backend", &was.backends, &now.backends),
        |backend: &Backend| &backend.name,
        |was, now| if was == now { Vec::new() } else { vec!["changed".to_owned()] },
        &mut backends,
    );
    each(
        ("backend", &was.sources, &now.sources),
        |source: &Source| &source.text,
        |was, now| if was == now { Vec::new() } else { vec!["changed".to_owned()] },
        &mut backends,
    );
    changes.extend(backends);
    changes
}

/// What came, what left and what changed of a list of named things.
fn each<T>(
    (what, before, after): (&str, &[T], &[T]),
    name: impl Fn(&T) -> &str,
    changes: impl Fn(&T, &T) -> Vec<String>,
    lines: &mut Vec<String>,
) {
    use std::collections::HashMap;
    let by_name: HashMap<&str, &T> = before.iter().map(|thing| (name(thing), thing)).collect();
    for now in after {
        match by_name.get(name(now)) {
            None => lines.push(format!("{what} {} added", name(now))),
            Some(was) => {
                lines.extend(changes(was, now).iter().map(|change| format!("{what} {} {change}", name(now))));
            }
        }
    }
    let stays: std::collections::HashSet<&str> = after.iter().map(&name).collect();
    let gone = before.iter().filter(|was| !stays.contains(name(was)));
    lines.extend(gone.map(|was| format!("{what} {} removed", name(was))));
}
