//! Source addresses and ephemeral ports of TCP: which of `connect_from` is used next, and how much of the ports is
//! left.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Backend, PoolView, Snapshot};
use crate::config::settings::ConnectFrom;
use crate::metrics::ListenerCounters;

impl PoolView {
    /// Takes a turn: of the address family of a backend, the addresses of `connect_from`, each once, the one whose turn it is
    /// first.
    pub fn sources(&self, backend: IpAddr, worker: usize) -> impl Iterator<Item = IpAddr> + '_ {
        let all = match &self.settings.connect_from {
            ConnectFrom::Addresses(addresses) => &addresses[..],
            ConnectFrom::Any | ConnectFrom::Client => &[],
        };
        let turn = &self.live.shards.of(worker).source_turn;
        turn.add(1);
        let is_v4 = backend.is_ipv4();
        let of_family = move || all.iter().copied().filter(move |ip| ip.is_ipv4() == is_v4);
        let count = of_family().count();
        // The threads begin at different addresses. The remainder is below the length of the list.
        #[allow(clippy::cast_possible_truncation)]
        let first = (turn.value().wrapping_add(worker as u64) % count.max(1) as u64) as usize;
        of_family().cycle().skip(first).take(count)
    }

    /// How much of the local ports is in use towards the backend that has most sessions, 0 to 1, where each of our
    /// addresses has so many.
    fn source_ports_ratio(&self, ports: f64) -> f64 {
        let addresses = |backend: &Backend| match &self.settings.connect_from {
            ConnectFrom::Any => 1,
            ConnectFrom::Addresses(addresses) => {
                addresses.iter().filter(|ip| ip.is_ipv4() == backend.address(0).is_ipv4()).count()
            }
            // They are the clients' own.
            ConnectFrom::Client => usize::MAX,
        };
        let ratio =
            |backend: &Backend| f64::from(backend.load.active()) / (ports * addresses(backend).max(1) as f64);
        self.backends.iter().map(|backend| ratio(backend)).fold(0.0, f64::max)
    }
}

/// How much of the local ports, first to last, the pools of tcp listeners use towards their busiest backend, 0 to 1. The
/// kernel gives those ports out; of those that rest after a connection (TIME_WAIT) nothing is known here. The ports of
/// flows are given out, and counted, by `udp`.
pub fn tcp_source_ports_ratio(
    listeners: &[Arc<ListenerCounters>],
    snapshot: &Snapshot,
    (first, last): (u16, u16),
) -> f64 {
    let ports = f64::from(last.saturating_sub(first)) + 1.0;
    let pools = listeners.iter().filter(|listener| listener.proto == "tcp");
    let pools = pools.flat_map(|listener| listener.pools());
    let pools = pools.filter_map(|(at, _)| snapshot.pools.get(at));
    pools.map(|pool| pool.source_ports_ratio(ports)).fold(0.0, f64::max)
}
