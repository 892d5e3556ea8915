//! Errors of the server: why it does not start, why a file is refused, which of its doors cannot be bound.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::connect_from::ForeignError;
use crate::config::Mistakes;
use crate::listener::BindError;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A door cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP address cannot be bound.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The socket of the commands cannot be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Clients' addresses may not be used.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// What another process had cannot be taken over.
    #[error("{0}")]
    Inherited(String),
    /// The system refuses a thread or what it needs.
    #[error(
        "a data thread cannot be started: {0}; raise LimitNOFILE=, TasksMax= or the memory limit, or lower `workers`"
    )]
    Thread(#[source] std::io::Error),
}

/// Why a checked file is not served.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// What is fixed when the process starts.
    #[error("`{0}` cannot change while the program runs: restart it to use the new value")]
    Fixed(&'static str),
    /// A door of the new file cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The new HTTP address cannot be bound.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The new socket of the commands cannot be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Clients' addresses may not be used.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// It is stopping, or not ready yet.
    #[error("the program is {0}")]
    NotRunning(&'static str),
}

/// Why the file is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// It is right, and cannot be served.
    #[error(transparent)]
    Serve(#[from] ReloadError),
}

/// The HTTP address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("admin.{key} cannot listen on {address}: {source}")]
pub struct HttpError {
    /// Which of the two doors.
    pub key: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: std::io::Error,
}

/// The socket of the commands cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("admin.socket: {}: {source}", path.display())]
pub struct SocketError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}
