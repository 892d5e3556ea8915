//! TCP sessions of one data thread: admission (and PROXY header) -> pick -> lease -> dial -> relay -> one closing line.
//!
//! A session is a plain entry in [`Sessions`], never a suspended future: it moves when its sockets are ready or its
//! deadline has come, one bounded step at a time, and between two steps anyone on the thread may list it, close it or
//! hand it over. Nothing in here knows the loop below it but for [`ThreadContext`], the tools a thread lends its sessions.

mod closing;
mod connect_from;
mod deadline;
mod dial;
mod entry;
mod export;
mod header;
mod relay;
mod session;
mod side;
mod table;
mod terms;
mod way;

use crate::thread_context::{ThreadContext, Token};
pub use entry::Entry;
pub use export::{Export, Import};
pub use table::{Arrival, Sessions};
pub use terms::{Terms, options_of};
