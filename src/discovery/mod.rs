//! Service discovery: backends that are named and not listed: who is asked, what is believed of the answers, and who is a backend
//! because of it.
//!
//! One task asks; nothing of it is on a data thread, and it changes nothing itself: whole lists go to the publisher. One rule stands
//! above all: a source that fails, is silent, answers nonsense or that there is nobody, changes nothing.

mod absent;
mod ask;
mod before;
mod board;
mod choice;
mod consul;
mod docker;
mod files;
mod http;
mod kubernetes;
mod ledger;
mod list_file;
mod listing;
mod names;
mod once;
mod pool_sources;
mod resolver;
mod service;
mod services;
mod source;
mod standing;
mod watch;
mod watches;
mod whole;

#[cfg(fuzzing)]
mod fuzz;
#[cfg(fuzzing)]
pub use fuzz::{fuzz_consul, fuzz_docker, fuzz_kubernetes};

pub use absent::Absent;
pub use before::{Before, Remembered};
pub use board::{Board, Changes, PoolRow, Row};
pub use once::{Resolved, resolve_once, with_resolved};
pub use service::{FoundSet, Handle, Request, Service, with_found};
