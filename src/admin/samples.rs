//! Samples of one family for each backend, with their labels.

use std::collections::HashSet;
use std::sync::Arc;

use crate::pool::{Backend, PoolView};

pub(super) fn each_backend<'a>(
    pools: &'a [Arc<PoolView>],
    mut add: impl FnMut(&'a PoolView, usize, &'a Backend, [(&'static str, &'a str); 2]),
) {
    for pool in pools {
        for (index, backend) in pool.backends.iter().enumerate() {
            add(pool, index, backend, [("pool", &*pool.live.name), ("backend", &*backend.name)]);
        }
    }
}

/// The same with those that left the list lately, what is counted of which stays for a while.
pub(super) fn each_counted<'a>(
    pools: &'a [Arc<PoolView>],
    mut add: impl FnMut(&'a Backend, [(&'static str, &'a str); 2]),
) {
    for pool in pools {
        let listed = pool.backends.iter().map(|backend| &**backend);
        let left = pool.leaving.iter().map(|left| &*left.backend);
        if pool.leaving.is_empty() {
            listed.for_each(|backend| add(backend, labels_of(pool, backend)));
            continue;
        }
        // One that is there at another address has the same counters.
        let mut names = HashSet::new();
        let each = listed.chain(left).filter(|backend| names.insert(&*backend.name));
        each.for_each(|backend| add(backend, labels_of(pool, backend)));
    }
}

pub(super) fn labels_of<'a>(pool: &'a PoolView, backend: &'a Backend) -> [(&'static str, &'a str); 2] {
    [("pool", &*pool.live.name), ("backend", &*backend.name)]
}
