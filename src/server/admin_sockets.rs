//! Admin HTTP listener: bound before anything is served, replaced when the file gives it another address.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::config::settings::Settings;

/// The HTTP address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("admin.http cannot listen on {address}: {source}")]
pub struct HttpError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: std::io::Error,
}

/// A bound door, and what ends it.
#[derive(Debug)]
pub(super) struct HttpDoor {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
}

impl HttpDoor {
    /// The door that the file asks for; `None`: it asks for none.
    pub(super) async fn bind(settings: &Settings) -> Result<Option<Self>, HttpError> {
        let Some(address) = settings.admin.http else { return Ok(None) };
        let failed = |source| HttpError { address, source };
        let listener = admin::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some(Self { listener, address, stop: CancellationToken::new() }))
    }

    /// The door that another process had.
    pub(super) fn import(fd: OwnedFd) -> std::io::Result<Self> {
        let listener = TcpListener::from_std(fd.into())?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, stop: CancellationToken::new() })
    }
}
