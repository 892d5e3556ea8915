//! Trusted proxies: the peers on `accept_proxy` whose PROXY headers are taken, judged by `deny` alone. The client in
//! the header is judged by both lists.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Networks, SharedAccess};
use crate::config::settings::Cidr;

/// The proxies of a listener.
#[derive(Debug, Clone)]
pub struct TrustedProxies {
    /// `None`: there is none.
    proxies: Option<Arc<SharedAccess>>,
    /// `deny` alone; `None`: none is denied.
    access: Option<Arc<SharedAccess>>,
}

impl TrustedProxies {
    /// The peers of `accept_proxy`.
    pub fn new(accept_proxy: &[Cidr], deny: &[Cidr]) -> Self {
        let make = |allow, deny| Arc::new(SharedAccess::new(allow, deny));
        Self::made(&Networks::new(accept_proxy, &[]), &Networks::new(deny, &[]), make)
    }

    /// The same with files; `make` makes, or finds, what decides by two lists.
    pub fn made(
        accept_proxy: &Networks,
        deny: &Networks,
        make: impl Fn(Networks, Networks) -> Arc<SharedAccess>,
    ) -> Self {
        if accept_proxy.is_absent() {
            return Self { proxies: None, access: None };
        }
        Self {
            proxies: Some(make(accept_proxy.clone(), Networks::default())),
            access: (!deny.is_absent()).then(|| make(Networks::default(), deny.clone())),
        }
    }

    /// No peer is one.
    pub fn is_empty(&self) -> bool {
        self.proxies.is_none()
    }

    /// Is this peer one?
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.proxies.as_ref().is_some_and(|proxies| proxies.allows(peer))
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
