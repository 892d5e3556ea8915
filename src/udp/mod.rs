//! UDP flows of one data thread: receive a batch -> who is known, who may begin -> pick -> send; and the answers back.
//!
//! A flow has a socket of its own towards its backend, so the kernel keeps strangers away and tells refusals; all of them
//! are watched by the thread's one epoll set. Batches are bounded and turns are short: a flood of one flow delays the others
//! by one batch and no more. Nothing is allocated for a datagram of a flow that is known.

mod backlog;
mod batch_size;
mod close;
mod connect_from;
mod doors;
mod export;
mod inbound;
mod local_ports;
mod offloads;
mod proxy_header;
mod pump;
mod refusals;
mod replies;
mod segments;
mod shared_ports;
mod terms;
mod upstream;
mod walks;

pub use batch_size::BatchSize;
pub use connect_from::Origins;
pub use doors::Door;
pub use export::{Export, Import};
pub use offloads::tell_lacks;
pub use pump::Pump;
pub use shared_ports::SharedPorts;
pub use terms::{Routing, Terms};
