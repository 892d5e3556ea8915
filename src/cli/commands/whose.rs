//! Options that all commands have, and values that several take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::client::{Client, Told};
use crate::config::units::parse_duration;

/// Which balancer, and in which form it answers.
#[derive(Debug, Args)]
pub(in crate::cli) struct Whose {
    /// The socket of the balancer [default: EVENKEEL_SOCKET, then /run/evenkeel/admin.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// JSON instead of a table; its keys do not change
    #[arg(long)]
    json: bool,
}

impl Whose {
    /// The way to it.
    pub(super) fn client(self) -> Result<Client, Told> {
        Client::new(self.socket, self.json)
    }
}

/// A duration as the file has them.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}
