//! A data thread: one epoll loop with its doors, its mailbox and its sessions.
//!
//! Each thread has a listening socket of its own for every door (SO_REUSEPORT), so the kernel spreads the connections.
//! It spreads them by hash, not by load: a thread that holds clearly more sessions than the least loaded one passes a
//! fresh connection on to that one. Nothing else on the data path is shared but atomics. Health, signals and admin never
//! run here.
//!
//! The loop is epoll itself and not a runtime: sessions are table entries that are stepped, not futures that are woken,
//! so a runtime would add a second registration and a waker per socket and give nothing back.

mod accept;
mod door;
mod event_loop;
mod freeze;
mod mailbox;
mod search;
mod walks;
mod workers;

pub use door::Door;
pub use event_loop::{Plan, spawn};
pub use freeze::{
    Doors, DoorsAsked, Freeze, FreezeOrder, FreezeReply, PrecopyAsked, ThreadExport, ThreadImport,
};
pub use mailbox::{Mailbox, Message};
pub use search::{Answer, Search};
pub use workers::Workers;
