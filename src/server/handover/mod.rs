//! Handover (hot upgrade, graceful restart): everything live goes from one process to the next, and no session notices.
//!
//! `send` has the successor prepare itself, and gives it sockets ahead (`precopy`) and then what `export` tells of frozen workers (`freeze`); `spawn` starts it.
//! `receive` goes on with what another process had, which `predecessor` found and a `giver` lets go of. `supervision` says
//! who looks after either of them. `restart` leaves everything for a process that comes later.

mod error;
mod export;
mod freeze;
mod giver;
mod precopy;
mod predecessor;
mod receive;
mod restart;
mod send;
mod spawn;
mod supervision;
mod terms_before;

pub use error::HandoverError;
pub(super) use freeze::FrozenWorkers;
pub use freeze::Stuck;
pub use predecessor::{Beginning, Predecessor, Stashed};
pub use receive::Inherited;
pub use restart::keep_stash;
pub use send::HandedOver;
pub use spawn::{HANDOVER_VARIABLE, Succeeded, UpgradeError};
pub use supervision::{Successor, end_with_follower};
