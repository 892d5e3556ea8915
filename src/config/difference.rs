//! Configuration diff: what a new file changes, in words: a line for each listener, pool and backend that is not as it
//! was.
//!
//! Pure.

use std::fmt;
use std::sync::Arc;

use super::settings::{Backend, Listener, NetworkFiles, Pool, Settings, Source};

/// One thing that is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// `listener`, `pool`, or a section of its own.
    pub(super) what: &'static str,
    /// Whose; nothing of a section.
    pub(super) name: String,
    /// How.
    pub(super) how: How,
}

/// How something is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    Added,
    Removed,
    Changed,
    Password,
    /// One of its backends.
    Backend(String, Box<Self>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.name {
            "" => write!(f, "{} {}", self.what, self.how),
            name => write!(f, "{} {name} {}", self.what, self.how),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("added"),
            Self::Removed => f.write_str("removed"),
            Self::Changed => f.write_str("changed"),
            Self::Password => f.write_str("has another password"),
            Self::Backend(name, how) => write!(f, "backend {name} {how}"),
        }
    }
}

/// What is different in `after`, a line each, in the order of the files.
pub fn difference(before: &Settings, after: &Settings) -> Vec<String> {
    changes(before, after).iter().map(ToString::to_string).collect()
}

/// The same as data.
pub(super) fn changes(before: &Settings, after: &Settings) -> Vec<Change> {
    let mut all = Vec::new();
    let pool_names = |settings: &Settings, listener: &Listener| -> Vec<Option<String>> {
        let all = std::iter::once(listener.pool).chain(listener.routes.iter().map(|route| route.pool));
        all.map(|pool| settings.pools.get(pool).map(|pool| pool.name.clone())).collect()
    };
    let mut add = |what, name: &str, how| all.push(Change { what, name: name.to_owned(), how });
    each(
        (&before.listeners, &after.listeners),
        |listener: &Listener| &listener.name,
        |was, now| {
            let same_pools = pool_names(before, was) == pool_names(after, now);
            // Where a pool stands in the list is no matter of the listener's.
            let same = bare(was) == bare(now);
            if same && same_pools { Vec::new() } else { vec![How::Changed] }
        },
        |name, how| add("listener", name, how),
    );
    each(
        (&before.pools, &after.pools),
        |pool: &Pool| &pool.name,
        pool_changes,
        |name, how| add("pool", name, how),
    );
    let whole = [
        ("hash_seed", before.hash_seed != after.hash_seed),
        ("log", before.log != after.log),
        ("admin", before.admin != after.admin),
        ("shutdown", before.shutdown != after.shutdown),
        ("limits", before.limits != after.limits),
        ("dns", before.dns != after.dns),
    ];
    whole.iter().filter(|(_, differs)| *differs).for_each(|(what, _)| add(what, "", How::Changed));
    all
}

/// The listener without the numbers of its pools, and without what the files of networks say that it names: who reads those tells.
fn bare(listener: &Listener) -> Listener {
    let mut bare = Listener { pool: 0, ..listener.clone() };
    bare.routes.iter_mut().for_each(|route| route.pool = 0);
    let NetworkFiles { allow, deny, accept_proxy } = &mut bare.files;
    for file in allow.iter_mut().chain(deny).chain(accept_proxy) {
        file.list = Arc::default();
    }
    bare
}

fn pool_changes(was: &Pool, now: &Pool) -> Vec<How> {
    let mut changes = Vec::new();
    let settings = |pool: &Pool| Pool { backends: Vec::new(), sources: Vec::new(), ..pool.clone() };
    let mut with_secrets = settings(was);
    with_secrets.health.check.take_secrets(&now.health.check);
    match (settings(was) == settings(now), with_secrets == settings(now)) {
        (true, _) => {}
        (false, true) => changes.push(How::Password),
        (false, false) => changes.push(How::Changed),
    }
    let mut add = |name: &str, how| changes.push(How::Backend(name.to_owned(), Box::new(how)));
    each(
        (&was.backends, &now.backends),
        |backend: &Backend| &backend.name,
        |was, now| if was == now { Vec::new() } else { vec![How::Changed] },
        &mut add,
    );
    each(
        (&was.sources, &now.sources),
        |source: &Source| &source.text,
        |was, now| if was == now { Vec::new() } else { vec![How::Changed] },
        &mut add,
    );
    changes
}

/// What came, what left and what changed of a list of named things.
fn each<T>(
    (before, after): (&[T], &[T]),
    name: impl Fn(&T) -> &str,
    changes: impl Fn(&T, &T) -> Vec<How>,
    mut add: impl FnMut(&str, How),
) {
    use std::collections::{HashMap, HashSet};
    let by_name: HashMap<&str, &T> = before.iter().map(|thing| (name(thing), thing)).collect();
    for now in after {
        match by_name.get(name(now)) {
            None => add(name(now), How::Added),
            Some(was) => changes(was, now).into_iter().for_each(|how| add(name(now), how)),
        }
    }
    let stays: HashSet<&str> = after.iter().map(&name).collect();
    before.iter().filter(|was| !stays.contains(name(was))).for_each(|was| add(name(was), How::Removed));
}
