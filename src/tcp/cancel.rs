//! Cancels of PostgreSQL: a connection that says nothing but "stop what that session does". Nobody but the server knows whose
//! session it is, so every backend of the listener is told; those that do not know the key ignore it.
//!
//! Must stay true: the thread waits for none of them; a listener without `speaks: postgres` never comes here.

use std::sync::Arc;

use super::session::{Next, Session};
use super::{ThreadContext, proxy_header};
use crate::config::settings::ConnectFrom;
use crate::metrics::Cancelled;
use crate::pool::PoolView;
use crate::reason::Reason;
use crate::sys::tcp::{self as socket, Origin};
use crate::thread_context::{Cancel, CancelTo};

/// Sends the request, which is all that the client has said, to whom it may concern, and ends the session.
pub(super) fn send(session: &mut Session, request: &[u8], cx: &mut ThreadContext) -> Next {
    // Unread bytes would make the close a reset.
    let _ = socket::receive(session.client.fd(), &mut cx.scratch);
    let to = targets(session, cx);
    let count = to.len() as u64;
    let cancel = Cancel {
        client: session.client.fd.try_clone().ok(),
        request: request.into(),
        to,
        counters: Arc::clone(&session.terms.counters),
        worker: cx.worker,
    };
    if !cx.send_cancel.send(cancel) {
        session.terms.counters.shards.of(cx.worker).cancels(Cancelled::Dropped).add(count);
    }
    Next::End(Reason::Cancel)
}

/// Every backend that sessions of this listener may have, those that left the list included: they may have some still.
fn targets(session: &Session, cx: &ThreadContext) -> Vec<CancelTo> {
    let snapshots = cx.snapshots.load();
    let mut pools: Vec<usize> = session.terms.each().map(|terms| terms.pool.0).collect();
    pools.sort_unstable();
    pools.dedup();
    let mut all = Vec::new();
    // Who is down must take nothing from the others: neither a place in the list nor time.
    for serves in [true, false] {
        for view in pools.iter().filter_map(|pool| snapshots.pools.get(*pool)) {
            let header = proxy_header::to_send(session, view.settings.send_proxy).unwrap_or_default();
            let left = view.leaving.iter().map(|left| (&left.backend, &left.state));
            let backends = view.backends.iter().zip(&view.states).chain(left);
            let backends = backends.filter(|(_, state)| state.serves() == serves);
            for (backend, _) in backends.take(TARGETS_MAX.saturating_sub(all.len())) {
                let address = backend.address(session.local_port);
                let Some(from) = origin(view, session, address, cx.worker) else { continue };
                all.push(CancelTo { address, from, header: header.as_slice().into(), serves });
            }
        }
    }
    all
}

/// Where a backend of this pool is dialled from. `None`: it cannot be.
fn origin(view: &PoolView, session: &Session, to: std::net::SocketAddr, worker: usize) -> Option<Origin> {
    match &view.settings.connect_from {
        ConnectFrom::Any => Some(Origin::Any),
        ConnectFrom::Client => {
            let client = session.client_address;
            // Its own port is that of this very connection, and several backends may stand behind one address.
            let free = std::net::SocketAddr::new(client.ip(), 0);
            (client.is_ipv4() == to.is_ipv4()).then_some(Origin::Foreign(free))
        }
        ConnectFrom::Addresses(_) => view.sources(to.ip(), worker).next().map(Origin::Address),
    }
}

/// Backends that one request is brought to.
const TARGETS_MAX: usize = 256;
