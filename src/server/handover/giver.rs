//! Giver: who has what is taken over, until it is let go of: a process that still serves, one that stands still already, or
//! the service manager on behalf of one that has gone.

use std::collections::HashSet;
use std::sync::Arc;

use super::precopy::{self, Watched};
use crate::transfer::{Ahead, Bundle, Channel, Stash, count_of};
use crate::worker::Workers;

/// Where everything still is.
pub enum Giver {
    /// A process that gives its sessions when this one has built what it can.
    Serving {
        /// The line to it.
        channel: Arc<Channel>,
        /// It gives sockets of its sessions before it stands still.
        precopies: bool,
    },
    /// A process that stands still until this one has everything.
    Standing(Arc<Channel>),
    /// The service manager.
    Manager(Arc<Stash>),
}

impl Giver {
    /// Everything is built: the sockets that come before what else there is.
    pub(super) async fn sockets(&self, workers: &Workers) -> Result<Ahead<Watched>, String> {
        match self {
            Self::Serving { channel, precopies } => {
                channel.say_prepared().await.map_err(|error| error.to_string())?;
                if *precopies { precopy::receive(channel, workers).await } else { Ok(Ahead::default()) }
            }
            Self::Standing(_) | Self::Manager(_) => Ok(Ahead::default()),
        }
    }

    /// What else there is, whose sessions may be with these backends. `None`: it came already.
    pub(super) async fn rest(&self, backends: &HashSet<u64>) -> Result<Option<Bundle>, String> {
        match self {
            Self::Serving { channel, .. } => {
                channel.receive_rest(backends).await.map(Some).map_err(|error| error.to_string())
            }
            Self::Standing(_) | Self::Manager(_) => Ok(None),
        }
    }

    /// Everything of this bundle is in its place: waits until it may be touched.
    pub(super) async fn lets_go(&self, bundle: &str) -> Result<(), String> {
        match self {
            Self::Serving { channel, .. } | Self::Standing(channel) => {
                channel.await_go(bundle).await.map_err(|error| error.to_string())
            }
            Self::Manager(stash) => {
                stash.clear();
                Ok(())
            }
        }
    }

    /// Waits until the service manager listens to this process.
    pub(super) async fn is_main(&self) {
        match self {
            Self::Serving { channel, .. } | Self::Standing(channel) => channel.await_main().await,
            Self::Manager(_) => {}
        }
    }

    /// The process that waits to hear that the file is served.
    pub(super) fn process(&self) -> Option<Arc<Channel>> {
        match self {
            Self::Serving { channel, .. } | Self::Standing(channel) => Some(Arc::clone(channel)),
            Self::Manager(_) => None,
        }
    }

    /// How a giver counts what is in a bundle.
    pub(super) fn count(bundle: &Bundle) -> String {
        count_of(&bundle.manifest)
    }
}
