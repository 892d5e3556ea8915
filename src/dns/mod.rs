//! DNS (RFC 1035, 2782, 6891): questions and answers as bytes, `resolv.conf`, the hosts file, the search list.
//!
//! Pure: bytes in, values out; who sends them is another room's business. Everything is bounded by the message that it stands in,
//! and a message by 64 KiB. A codec of our own, since what is wanted of it is small, and what a resolver's library brings beside
//! it (a cache, a pool of connections, files that are read once) is what must not be there.

mod answer;
mod hosts;
mod message;
mod name;
mod resolv_conf;
mod search;
mod service;

#[cfg(fuzzing)]
pub use answer::fuzz;
pub use answer::{Answer, Asked, Failure, Judged, judge};
pub use hosts::Hosts;
pub use message::{RecordType, RecordTypes, question};
pub use name::{Name, NameError};
pub use resolv_conf::ResolvConf;
pub use search::candidates;
pub use service::{Offer, Service, scaled, tiers};
