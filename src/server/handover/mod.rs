//! Handover (hot upgrade, graceful restart): everything live goes from one process to the next, and no session notices.
//!
//! `send` exports it from frozen workers (`freeze`), `spawn` starts the successor and sends to it, `receive` goes on with
//! what another process had.

mod freeze;
mod receive;
mod send;
mod spawn;

pub(super) use freeze::FrozenWorkers;
pub use freeze::Stuck;
pub use receive::Inherited;
pub use send::{HandedOver, HandoverError};
pub use spawn::{HANDOVER_VARIABLE, Succeeded, UpgradeError};
