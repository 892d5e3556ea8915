//! Handover errors: why everything stays with the process that has it.

use std::time::Duration;

use super::freeze::Stuck;
use crate::transfer::{ChannelError, StashError};

/// Why everything stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// It is on its way in or out.
    #[error("the program is {0}")]
    NotRunning(&'static str),
    /// A data thread is busy.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The successor failed.
    #[error("the new process did not take over: {0}")]
    Channel(#[from] ChannelError),
    /// The successor is silent.
    #[error("the new process did not get ready within 10 s")]
    Silent,
    /// The successor has read its file, and builds for ever.
    #[error("the new process did not build its pools and doors within {} s", PREPARED_MAX.as_secs())]
    Unprepared,
    /// The successor is built, and does not take sockets.
    #[error(
        "the new process did not take the sockets of the sessions within {0:?}; none of them stood still for it"
    )]
    Uncopied(Duration),
    /// The successor was ready, and silent when it had to take over.
    #[error("the new process did not take over within {0:?}, for which every session stood still")]
    Slow(Duration),
    /// It cannot be left with the service manager.
    #[error("what is live cannot be left with the service manager: {0}")]
    Stash(#[from] StashError),
}

/// A table of `source_hash` takes milliseconds, and there may be thousands of them; meanwhile everything goes on.
pub(super) const PREPARED_MAX: Duration = Duration::from_secs(30);
