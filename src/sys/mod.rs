//! The cellar: raw system calls, and the only place for `unsafe`. Knows nothing of listeners, pools or sessions.
//!
//! Errors are the kernel's own numbers ([`Errno`]); what they mean is decided above.

pub mod handing;
pub mod limits;
pub mod pipe;
pub mod poller;
pub mod probe;
pub mod socket;
pub mod udp;
pub mod udp_batch;
pub mod udp_probe;
pub mod unix;

pub use rustix::io::Errno;
