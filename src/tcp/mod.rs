//! TCP sessions of one data thread: admission (and PROXY header) -> route (and first message) -> pick -> lease -> dial -> relay -> one closing line.
//!
//! A session is a plain entry in [`Sessions`], never a suspended future: it moves when its sockets are ready or its
//! deadline has come, one bounded step at a time, and between two steps anyone on the thread may list it, close it or
//! hand it over. Nothing in here knows the loop below it but for [`ThreadContext`], the tools a thread lends its sessions.

mod admission;
mod cancel;
mod close;
mod connect_from;
mod deadline;
mod dial;
mod empty_end;
mod export;
mod first_message;
mod half_duplex;
mod precopy;
mod promised_tls;
mod proxy_header;
mod refusal;
mod relay;
mod replay;
mod session;
mod sessions;
mod side;
mod stalled;
mod terms;
mod walks;

use crate::thread_context::{ThreadContext, Token};
pub use admission::Admission;
pub use export::{Export, Import, Place};
pub use precopy::{Give, PAIRS_MAX, Precopied, Precopy};
pub use sessions::{Arrival, Sessions};
pub use terms::{Routing, Terms, options_of};
#[cfg(test)]
pub(crate) use walks::tests::given as given_session;
