//! File descriptor store of systemd: what the service manager keeps for this service while no process of it runs: the
//! two ends of the stash, and the listening sockets, so that after a crash connects wait instead of being refused.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use crate::sys::process;
use crate::sys::tcp as socket;

/// What the manager gave to this process.
#[derive(Debug, Default)]
pub struct FdStore {
    /// The stash of the process before.
    pub stash: Option<(OwnedFd, OwnedFd)>,
    /// Everything else, by name.
    pub kept: Vec<(String, OwnedFd)>,
}

impl FdStore {
    /// Takes it, once.
    pub fn inherited() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        if variable("LISTEN_PID").parse() != Ok(std::process::id()) {
            return Self::default();
        }
        let count = variable("LISTEN_FDS").parse().unwrap_or(0);
        let names = variable("LISTEN_FDNAMES");
        let mut names = names.split(':');
        let mut ends = Vec::new();
        let mut kept = Vec::new();
        for descriptor in process::inherited(count) {
            match names.next().unwrap_or_default() {
                STASH => ends.push(descriptor),
                name => kept.push((name.to_owned(), descriptor)),
            }
        }
        let mut ends = ends.into_iter();
        // An end without the other holds nothing.
        let stash = ends.next().zip(ends.next());
        Self { stash, kept }
    }

    /// The sockets of a door, by worker, and where they are bound. Takes them out.
    pub fn take_door(
        &mut self,
        udp: bool,
        ip: Option<IpAddr>,
        port: u16,
    ) -> Option<(SocketAddr, Vec<OwnedFd>)> {
        let mut sockets = Vec::new();
        while let Some(at) = {
            let name = door_name(udp, ip, port, sockets.len());
            self.kept.iter().position(|(kept, _)| *kept == name)
        } {
            sockets.push(self.kept.swap_remove(at).1);
        }
        let address = socket::local_address(sockets.first()?.as_fd())?;
        // A name says nothing for sure.
        (address.port() == port).then_some((address, sockets))
    }
}

/// The name of one thread's socket of a door: of letters that the manager takes.
pub fn door_name(udp: bool, ip: Option<IpAddr>, port: u16, worker: usize) -> String {
    let proto = if udp { "udp" } else { "tcp" };
    let ip = ip.map_or_else(|| "any".to_owned(), |ip| ip.to_string().replace(':', "_"));
    format!("{proto}-{ip}-{port}-{worker}")
}

/// The name of both ends of the stash.
pub const STASH: &str = "park";
/// Keeping costs the manager more the more it keeps: it compares each with each.
pub const DOORS_KEPT_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_door_is_found_by_its_name_with_all_its_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ip = Some("127.0.0.1".parse().unwrap());
        let name = |worker| door_name(false, ip, port, worker);
        let again = |_| listener.try_clone().unwrap().into();
        let kept = (0..3).map(|worker| (name(worker), again(worker))).chain([("other".into(), again(9))]);
        let mut store = FdStore { stash: None, kept: kept.collect() };
        assert!(store.take_door(true, ip, port).is_none(), "another protocol");
        assert!(store.take_door(false, None, port).is_none(), "another address");
        let (address, sockets) = store.take_door(false, ip, port).unwrap();
        assert_eq!((address, sockets.len()), (listener.local_addr().unwrap(), 3));
        assert_eq!(store.kept.len(), 1);
    }

    #[test]
    fn names_are_of_letters_that_the_manager_takes() {
        let name = door_name(true, Some("2001:db8::1".parse().unwrap()), 53, 7);
        assert_eq!(name, "udp-2001_db8__1-53-7");
        assert_eq!(door_name(false, None, 5_432, 0), "tcp-any-5432-0");
    }
}
