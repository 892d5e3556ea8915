//! Source addresses, `connect_from`, when a file is to be served: what this host and its permissions do not allow.

use crate::config::settings::{ConnectFrom, Settings};
use crate::sys::{Errno, tcp as socket};

/// A pool is to use its clients' addresses, which this process may not.
#[derive(Debug, thiserror::Error)]
#[error(
    "pool `{pool}` connects from the addresses of its clients (`connect_from: client`), which needs CAP_NET_ADMIN: \
     {source}; for the service, `systemctl edit evenkeel` and add:\n[Service]\nAmbientCapabilities=CAP_NET_ADMIN\n\
     CapabilityBoundingSet=CAP_NET_ADMIN"
)]
pub struct ForeignError {
    /// Which pool.
    pool: String,
    /// What the kernel said.
    source: std::io::Error,
}

/// Without the permission to use clients' addresses nothing is served; an address that is not here may come later.
pub(super) fn check(settings: &Settings) -> Result<(), ForeignError> {
    for pool in &settings.pools {
        match &pool.connect_from {
            ConnectFrom::Any => {}
            ConnectFrom::Client => {
                let told = |errno: Errno| ForeignError { pool: pool.name.clone(), source: errno.into() };
                socket::probe_foreign().map_err(told)?;
            }
            ConnectFrom::Addresses(addresses) => {
                for address in addresses.iter().filter(|address| !socket::has_address(**address)) {
                    let pool = &*pool.name;
                    tracing::warn!(
                        target: "evenkeel", pool, %address,
                        "connect_from: this host does not have the address; it is passed over until it has"
                    );
                }
            }
        }
    }
    Ok(())
}
