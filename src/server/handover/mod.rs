//! Handover (hot upgrade, graceful restart): everything live goes from one process to the next, and no session notices.
//!
//! `send` exports it from frozen workers (`freeze`), `spawn` starts the successor and sends to it, `receive` goes on with
//! what another process had, which `predecessor` found. `restart` leaves everything for a process that comes later.

mod freeze;
mod predecessor;
mod receive;
mod restart;
mod send;
mod spawn;

pub(super) use freeze::FrozenWorkers;
pub use freeze::Stuck;
pub use predecessor::{Beginning, Predecessor, Stashed};
pub use receive::Inherited;
pub use restart::keep_stash;
pub use send::{HandedOver, HandoverError};
pub use spawn::{HANDOVER_VARIABLE, Succeeded, UpgradeError};
