//! Source address of a dial, `connect_from`: from which address a backend is dialled.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::session::Session;
use crate::config::settings::ConnectFrom;
use crate::pool::PoolView;
use crate::sys::Errno;
use crate::sys::tcp::{self as socket, Origin};

/// Begins the connect. ADDRNOTAVAIL: no address that may be used has a port left towards this backend.
pub(super) fn dial(
    view: &PoolView,
    session: &Session,
    to: SocketAddr,
    worker: usize,
) -> Result<OwnedFd, Errno> {
    let dial = |from| socket::dial(to, from, &session.terms.options);
    match &view.settings.connect_from {
        ConnectFrom::Any => dial(Origin::Any),
        ConnectFrom::Client => as_client(session.client_address, to, dial),
        ConnectFrom::Addresses(_) => {
            let mut outcome = Err(Errno::ADDRNOTAVAIL);
            for ip in view.sources(to.ip(), worker) {
                outcome = dial(Origin::Address(ip));
                if outcome.as_ref().err() != Some(&Errno::ADDRNOTAVAIL) {
                    return outcome;
                }
                view.live.shards.of(worker).source_full.add(1);
            }
            outcome
        }
    }
}

/// From the client's own address, and its own port unless something here has that: then from any of its ports.
fn as_client(
    client: SocketAddr,
    to: SocketAddr,
    dial: impl Fn(Origin) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    if client.is_ipv4() != to.is_ipv4() {
        return Err(Errno::AFNOSUPPORT);
    }
    match dial(Origin::Foreign(client)) {
        Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => dial(Origin::Foreign(SocketAddr::new(client.ip(), 0))),
        other => other,
    }
}
