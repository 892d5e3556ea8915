//! How live sockets travel from one process to the next (file descriptor passing, SCM_RIGHTS).
//!
//! `bundle` is what goes: the manifest of `manifest/` with its descriptors, as messages. `channel` carries it between a
//! process and the successor that it started; `stash` leaves it with the service manager for a successor that comes later.

mod bundle;
mod channel;
mod stash;

pub use bundle::{Bundle, BundleError, is_taken_up};
pub use channel::{Channel, ChannelError, First, count_of};
pub use stash::{Stash, StashError};
