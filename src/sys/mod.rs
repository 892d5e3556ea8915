//! System calls: the only place for `unsafe`. Knows nothing of listeners, pools or sessions.
//!
//! Errors are the kernel's own numbers ([`Errno`]); what they mean is decided above.

pub mod children;
pub mod fd_passing;
pub mod files;
pub mod memfd;
pub mod pipe;
pub mod poller;
pub mod probe;
pub mod process;
pub mod rlimits;
pub mod syn_filter;
pub mod tcp;
pub mod udp;
pub mod udp_batch;
pub mod udp_errors;
pub mod udp_probe;
pub mod unix;

pub use rustix::io::Errno;
