//! Hosts file: names that are known without asking anybody (`/etc/hosts`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Name;

/// The names of a hosts file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(HashMap<Name, Vec<IpAddr>>);

impl Hosts {
    /// Reads what can be read of it, as everybody does: `IP NAME...` in each line.
    pub fn parse(text: &str) -> Self {
        let mut names: HashMap<Name, Vec<IpAddr>> = HashMap::new();
        for line in text.lines().take(LINES_MAX) {
            let mut words = line.split('#').next().unwrap_or("").split_ascii_whitespace();
            let Some(ip) = words.next().and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
            for name in words.filter_map(|name| Name::parse(name).ok()) {
                let known = names.entry(name).or_default();
                if !known.contains(&ip) {
                    known.push(ip);
                }
            }
        }
        Self(names)
    }

    /// The addresses of a name; `localhost` is itself wherever the file does not know it (RFC 6761).
    pub fn lookup(&self, name: &Name) -> Option<Vec<IpAddr>> {
        if let Some(known) = self.0.get(name) {
            return Some(known.clone());
        }
        let text = name.to_string();
        let is_local = text == "localhost" || text.ends_with(".localhost");
        is_local.then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }
}

/// More is not read.
const LINES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_an_address_and_its_names() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost\n# 10.0.0.9 db\n10.0.0.1\tdb.lan DB # first\n10.0.0.2 db\nx y\n10.0.0.2 db\nfe80::1%eth0 odd\n",
        );
        let of = |name: &str| hosts.lookup(&Name::parse(name).unwrap()).unwrap_or_default();
        let ips = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(of("db"), ips(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(of("DB.lan."), ips(&["10.0.0.1"]));
        assert_eq!(of("localhost"), ips(&["127.0.0.1"]));
        assert_eq!(of("db.localhost"), ips(&["127.0.0.1", "::1"]));
        assert!(of("y").is_empty() && of("odd").is_empty());
    }
}
