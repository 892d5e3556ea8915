//! How live sockets travel from one process to the next (file descriptor passing, SCM_RIGHTS).
//!
//! `bundle` is what goes: the manifest of `manifest/` with its descriptors, as messages. `channel` carries it between a
//! process and the successor that it started, and before it what `precopy` sends ahead; `stash` leaves it with the service manager for a successor that comes later.

mod bundle;
mod channel;
mod precopy;
mod stash;

pub use bundle::{Bundle, BundleError, is_taken_up};
pub use channel::{Channel, ChannelError, First, Ready, count_of};
pub use precopy::{Ahead, Sockets};
pub use stash::{Stash, StashError};
