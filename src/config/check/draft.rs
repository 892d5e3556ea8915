//! Drafts: listeners and pools as each was read by itself, and where their parts stand, until they are joined.

use crate::config::mistake::Place;
use crate::config::settings::{Listener, OnDown, Pool};

/// A listener whose pool is not looked up yet, and where its parts stand.
pub(super) struct DraftListener {
    /// Its `pool` index means nothing yet.
    pub(super) settings: Listener,
    pub(super) place: Place,
    /// One for each bind.
    pub(super) bind_places: Vec<Place>,
    /// Where its role is written; a default is for those it is for.
    pub(super) role_place: Option<Place>,
    pub(super) pool: PoolChoice,
    /// One for each route.
    pub(super) routes: Vec<DraftRoute>,
}

/// Where the parts of a route stand.
pub(super) struct DraftRoute {
    pub(super) place: Place,
    /// Its pool; `None`: a mistake that was told.
    pub(super) pool: Option<(String, Place)>,
    /// Where its role is written.
    pub(super) role_place: Option<Place>,
}

/// What a listener says about its pool.
pub(super) enum PoolChoice {
    /// `pool: NAME`.
    Named(String, Place),
    /// Pool keys of its own: the pool of its name.
    Own,
    /// None beside its routes: who has none is refused.
    Routes,
    /// A mistake that was told.
    Unknown,
}

/// A pool and where its parts stand.
pub(super) struct DraftPool {
    pub(super) settings: Pool,
    pub(super) place: Place,
    /// One for each backend.
    pub(super) backend_places: Vec<Place>,
    /// One for each source.
    pub(super) source_places: Vec<Place>,
    /// It stands in the listener of its name.
    pub(super) own: bool,
    /// A check is asked for by name; without one it depends on who uses the pool.
    pub(super) check_written: bool,
    /// What is written of the keys for tcp alone, and where.
    pub(super) for_tcp: Vec<(&'static str, Place)>,
    /// `send_proxy: v1` stands there, and where; without a place it is a default.
    pub(super) send_proxy_v1: Option<Option<Place>>,
    /// What is written of `on_down`, and where; without a place it is a default.
    pub(super) on_down: Option<(OnDown, Option<Place>)>,
    /// Where `on_removed` is written; a default is for those it is for.
    pub(super) on_removed: Option<Place>,
}
