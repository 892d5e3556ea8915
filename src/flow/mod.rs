//! UDP flow table (connection tracking without the kernel's conntrack) of one data thread, without a socket: who is
//! known, who may begin, when a flow is over.
//!
//! A flow is a client's address and port at one local address and port. Pure: time, the hash key and the limits are
//! arguments. Which backend a flow has is not known here: the caller keeps sockets and leases in a slab of its own,
//! indexed by [`FlowId::index`], and closes its side of what [`Flows::take_ended`] hands out. What must stay true:
//!
//! - a datagram that is turned away allocates nothing and changes nothing;
//! - a flow ends exactly once, is handed out exactly once, and only then its slot and its place are free again;
//! - no flow ends idle before its time, nor later than the first sweep that comes a tick (64 ms) after it.

mod flows;
mod key;
mod slots;
mod sweep;
mod terms;
mod view;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod simulation;

pub use flows::{Admission, Flows, Heard};
pub use key::{FlowId, FlowKey};
pub use terms::{Draining, Terms};
pub use view::{Ended, Flow, FlowRecord, Traffic};
