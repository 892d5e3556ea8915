//! Files of networks that a configuration names, each read once however often it is named.
//!
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::settings::NetworkList;

/// What was read so far. One that is wrong is known as such, so that it is told once.
#[derive(Debug, Default)]
pub(super) struct KnownNetworks(HashMap<Arc<str>, Option<Arc<NetworkList>>>);

impl KnownNetworks {
    /// The list of this file. `None`: it was not read; `Some(None)`: it was, and is told to be wrong.
    pub(super) fn get(&self, path: &str) -> Option<Option<Arc<NetworkList>>> {
        self.0.get(path).cloned()
    }

    /// It says this.
    pub(super) fn insert(&mut self, path: &Arc<str>, list: Option<Arc<NetworkList>>) {
        self.0.insert(Arc::clone(path), list);
    }

    /// Networks in all of them.
    pub(super) fn count(&self) -> usize {
        self.0.values().flatten().map(|list| list.len()).sum()
    }
}
