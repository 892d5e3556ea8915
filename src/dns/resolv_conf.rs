//! Resolver configuration (`/etc/resolv.conf`): whom to ask, and in which domains.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Name;

/// What such a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// Whom to ask, in their order.
    pub servers: Vec<SocketAddr>,
    /// The domains of names that are short.
    pub search: Vec<Name>,
    /// A name with so many dots is asked for as it stands first.
    pub ndots: usize,
}

impl ResolvConf {
    /// Reads what can be read of it; of several `search` or `domain` lines the last one counts.
    pub fn parse(text: &str) -> Self {
        let (mut servers, mut search, mut ndots) = (Vec::new(), Vec::new(), 1);
        for line in text.lines().take(LINES_MAX) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // One with a zone is of one link, and cannot be named here.
                    let server = words.next().and_then(|ip| ip.parse::<IpAddr>().ok());
                    servers.extend(
                        server.map(|ip| SocketAddr::new(ip, PORT)).filter(|_| servers.len() < SERVERS_MAX),
                    );
                }
                Some("search" | "domain") => {
                    search = words.take(DOMAINS_MAX).filter_map(|name| Name::parse(name).ok()).collect();
                }
                Some("options") => {
                    let told = words.rev().find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    ndots = told.map_or(ndots, |told: usize| told.min(NDOTS_MAX));
                }
                _ => {}
            }
        }
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        Self { servers, search, ndots }
    }
}

const PORT: u16 = 53;
const LINES_MAX: usize = 1_000;
/// As many as the C library asks.
const SERVERS_MAX: usize = 3;
const DOMAINS_MAX: usize = 32;
const NDOTS_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_the_c_library_does() {
        let text = "# by hand\nnameserver 10.0.0.53\nnameserver fd00::53 \nnameserver fe80::1%eth0\n; x\nsearch a.example\n\
                    search lan example.org\noptions edns0 ndots:5\nnameserver x\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(conf.servers, ["10.0.0.53:53".parse().unwrap(), "[fd00::53]:53".parse().unwrap()]);
        assert_eq!(conf.search, ["lan", "example.org"].map(|name| Name::parse(name).unwrap()));
        assert_eq!(conf.ndots, 5);
        let empty = ResolvConf::parse("");
        assert_eq!((empty.servers, empty.ndots), (vec!["127.0.0.1:53".parse().unwrap()], 1));
    }
}
