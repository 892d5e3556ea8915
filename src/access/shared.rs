//! Access lists that are swapped: what all sessions of a listener ask is one pointer, and when a file of networks changes, what is
//! built beside it takes its place at once.
//!
//! Must stay true: a decision waits for nobody and allocates nothing; building is done by whoever swaps, never by a data thread.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Access;
use crate::config::settings::{Cidr, NetworkFile, NetworkList};

/// A list of networks: those that stand in the configuration, and files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Written out.
    pub listed: Vec<Cidr>,
    /// In files.
    pub files: Vec<NetworkFile>,
}

impl Networks {
    /// These of a list of the configuration.
    pub fn new(listed: &[Cidr], files: &[NetworkFile]) -> Self {
        Self { listed: listed.to_vec(), files: files.to_vec() }
    }

    /// It says nothing at all, not even that a file says it.
    pub fn is_absent(&self) -> bool {
        self.listed.is_empty() && self.files.is_empty()
    }

    /// The longest network that an address is in, and where that stands.
    fn longest(&self, ip: IpAddr) -> Option<(Cidr, Option<(&NetworkFile, u32)>)> {
        let listed = self.listed.iter().filter(|cidr| cidr.contains(ip)).map(|cidr| (*cidr, None));
        let files = self.files.iter().filter_map(|file| {
            let (cidr, line) = file.list.longest(ip)?;
            Some((cidr, Some((file, line))))
        });
        listed.chain(files).max_by_key(|(cidr, _)| cidr.bits)
    }

    /// The same with another content of a file; `None`: it does not name that file.
    fn with(&self, path: &str, list: &Arc<NetworkList>) -> Option<Self> {
        let mut with = self.clone();
        let mut any = false;
        for file in with.files.iter_mut().filter(|file| &*file.path == path) {
            file.list = Arc::clone(list);
            any = true;
        }
        any.then_some(with)
    }
}

/// The lists as they are now, and what they make together.
struct Current {
    allow: Networks,
    deny: Networks,
    access: Access,
}

/// Lists that can be swapped.
pub struct SharedAccess(ArcSwap<Current>);

impl SharedAccess {
    /// Works them out.
    pub fn new(allow: Networks, deny: Networks) -> Self {
        Self(ArcSwap::from_pointee(Current::new(allow, deny)))
    }

    /// May this client come in?
    pub fn allows(&self, client: IpAddr) -> bool {
        self.0.load().access.allows(client)
    }

    /// They are these at this moment.
    pub fn is_of(&self, allow: &Networks, deny: &Networks) -> bool {
        let current = self.0.load();
        current.allow == *allow && current.deny == *deny
    }

    /// A file of them says this now. One caller at a time.
    pub fn renew(&self, path: &str, list: &Arc<NetworkList>) {
        let before = self.0.load_full();
        let (allow, deny) = (before.allow.with(path, list), before.deny.with(path, list));
        if allow.is_some() || deny.is_some() {
            let allow = allow.unwrap_or_else(|| before.allow.clone());
            let deny = deny.unwrap_or_else(|| before.deny.clone());
            self.0.store(Arc::new(Current::new(allow, deny)));
        }
    }

    /// What decides about a client, for people: the longest network of both lists, and where it stands.
    pub fn why(&self, client: IpAddr) -> String {
        let current = self.0.load();
        let (allowed, denied) = (current.allow.longest(client), current.deny.longest(client));
        let bits = |found: &Option<(Cidr, _)>| found.as_ref().map(|(cidr, _)| i16::from(cidr.bits));
        let (key, found) = match (bits(&allowed), bits(&denied)) {
            (None, None) if current.allow.is_absent() => return "it is in no network of `deny`".to_owned(),
            (None, None) => return "it is in no network of `allow`".to_owned(),
            (allow, deny) if allow > deny => ("allow", allowed),
            _ => ("deny", denied),
        };
        match found {
            Some((Cidr { ip, bits }, Some((file, line)))) => {
                format!("{ip}/{bits} in `{key}`, {}:{line}", file.path)
            }
            Some((Cidr { ip, bits }, None)) => format!("{ip}/{bits} in `{key}`"),
            None => String::new(),
        }
    }
}

impl Current {
    fn new(allow: Networks, deny: Networks) -> Self {
        let access = Access::of(&allow, &deny);
        Self { allow, deny, access }
    }
}

impl fmt::Debug for SharedAccess {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SharedAccess")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(networks: &[(&str, u8)]) -> Arc<NetworkList> {
        let mut list = NetworkList::default();
        for (line, (ip, bits)) in (1..).zip(networks) {
            list.push(Cidr { ip: ip.parse().unwrap(), bits: *bits }, line);
        }
        Arc::new(list)
    }

    fn file(path: &str, networks: &[(&str, u8)]) -> NetworkFile {
        NetworkFile { path: path.into(), list: list(networks) }
    }

    #[test]
    fn a_file_decides_as_if_its_networks_were_listed_and_says_where() {
        let ten = Cidr { ip: "10.0.0.0".parse().unwrap(), bits: 8 };
        let allow = Networks::new(&[ten], &[]);
        let deny = Networks::new(&[], &[file("/d", &[("192.0.2.0", 24), ("10.1.0.0", 16), ("10.0.0.0", 8)])]);
        let access = SharedAccess::new(allow, deny);
        let ip = |text: &str| text.parse().unwrap();
        assert!(!access.allows(ip("10.2.0.1")), "a tie is deny");
        assert_eq!(access.why(ip("10.1.2.3")), "10.1.0.0/16 in `deny`, /d:2");
        assert_eq!(access.why(ip("172.16.0.1")), "it is in no network of `allow`");
        access.renew("/other", &list(&[]));
        assert!(!access.allows(ip("10.1.2.3")));
        access.renew("/d", &list(&[]));
        assert!(access.allows(ip("10.1.2.3")));
        assert_eq!(access.why(ip("10.1.2.3")), "10.0.0.0/8 in `allow`");
    }

    #[test]
    fn a_file_of_allow_without_networks_lets_nobody_in() {
        let access = SharedAccess::new(Networks::new(&[], &[file("/a", &[])]), Networks::default());
        assert!(!access.allows("10.0.0.1".parse().unwrap()));
        access.renew("/a", &list(&[("10.0.0.0", 8)]));
        assert!(access.allows("10.0.0.1".parse().unwrap()) && !access.allows("::1".parse().unwrap()));
    }
}
