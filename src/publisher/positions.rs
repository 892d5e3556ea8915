//! Where each backend stands among the pools, by its number: whom an event is about.

use std::collections::HashMap;

use super::pool_state::PoolState;

/// Where a backend stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Its pool.
    pub(super) slot: usize,
    /// Its place in the list; `None`: it left.
    pub(super) index: Option<usize>,
}

/// Of all whose answers may be awaited, those of pools that left the file included.
pub(super) fn positions_of(pools: &[PoolState]) -> HashMap<u64, Position> {
    let mut positions = HashMap::new();
    for (slot, pool) in pools.iter().enumerate() {
        let listed = pool.view.backends.iter().enumerate();
        positions.extend(listed.map(|(at, one)| (one.number, Position { slot, index: Some(at) })));
        let leavers = pool.leavers.iter();
        positions.extend(leavers.map(|leaver| (leaver.backend.number, Position { slot, index: None })));
    }
    positions
}
