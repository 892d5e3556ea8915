//! Trusted proxies: the peers on `accept_proxy` whose PROXY headers are taken, judged by `deny` alone. The client in
//! the header is judged by both lists.

use std::net::IpAddr;

use super::Access;
use crate::config::settings::Cidr;

/// The proxies of a listener.
#[derive(Debug, Clone)]
pub struct TrustedProxies {
    networks: Box<[Cidr]>,
    /// `deny` alone; `None`: none is denied.
    access: Option<Access>,
}

impl TrustedProxies {
    /// The peers of `accept_proxy`.
    pub fn new(accept_proxy: &[Cidr], deny: &[Cidr]) -> Self {
        let judges = !accept_proxy.is_empty() && !deny.is_empty();
        Self { networks: accept_proxy.into(), access: judges.then(|| Access::new(&[], deny)) }
    }

    /// No peer is one.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Is this peer one? The lists are short: each network is looked at.
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(peer))
    }

    /// Is this one, which is among them, on `deny`?
    pub fn denies(&self, peer: IpAddr) -> bool {
        self.access.as_ref().is_some_and(|access| !access.allows(peer))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn proxies_are_those_listed_and_not_all_of_them_may() {
        let cidr = |last, bits| Cidr { ip: Ipv4Addr::new(10, 0, 0, last).into(), bits };
        let ip = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
        let proxies = TrustedProxies::new(&[cidr(0, 30), cidr(9, 32)], &[cidr(2, 32)]);
        let all: Vec<(bool, bool)> =
            (0..10).map(|last| (proxies.contains(ip(last)), proxies.denies(ip(last)))).collect();
        assert_eq!(all[..3], [(true, false), (true, false), (true, true)]);
        assert_eq!((all[4], all[9]), ((false, false), (true, false)));
        assert!(!proxies.is_empty() && TrustedProxies::new(&[], &[cidr(2, 32)]).is_empty());
    }
}
