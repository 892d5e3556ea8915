//! Doors: the listening sockets of every listener, one per data thread at each address and port.
//!
//! All are bound, or none stays: the first that cannot be bound is told with its listener, address and reason. They
//! listen from then on, so clients that come before the first round of health checks wait in the kernel's queue.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::config::settings::{Bind, Listener};
use crate::sys::{Errno, socket};
use crate::tcp::Terms;
use crate::worker::{Crew, Door, Message};

/// The doors of one listener at one address and port.
#[derive(Debug)]
pub struct BoundDoor {
    /// Where it listens, its real port included.
    pub address: SocketAddr,
    terms: Arc<Terms>,
    sockets: Vec<OwnedFd>,
}

impl BoundDoor {
    /// Whose door it is.
    pub fn listener(&self) -> &str {
        &self.terms.listener
    }
}

/// A door that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener `{listener}` cannot listen on {address}: {}{}", std::io::Error::from(*errno), advice(*errno, *address))]
pub struct BindError {
    /// Whose door.
    pub listener: String,
    /// Where.
    pub address: SocketAddr,
    /// What the kernel said.
    pub errno: Errno,
}

/// Binds every door of these listeners, `workers` sockets each.
pub fn bind(listeners: &[(&Listener, Arc<Terms>)], workers: usize) -> Result<Vec<BoundDoor>, BindError> {
    let doors = || {
        listeners
            .iter()
            .flat_map(|(listener, terms)| listener.bind.iter().map(move |at| (listener, at, terms)))
    };
    // Sockets that share a port by SO_REUSEPORT would also share it with a stranger of the same user, such as an
    // evenkeel started twice, each getting some of the clients. One look without the option tells.
    for (listener, at, _) in doors() {
        socket::probe_door(at.ip, at.port).map_err(|errno| failure(listener, at, errno))?;
    }
    doors()
        .map(|(listener, at, terms)| {
            bind_door(at, terms, workers).map_err(|errno| failure(listener, at, errno))
        })
        .collect()
}

/// Hands the doors to the data threads.
pub fn open(doors: Vec<BoundDoor>, crew: &Crew) {
    for door in doors {
        for (worker, fd) in door.sockets.into_iter().enumerate() {
            let terms = Arc::clone(&door.terms);
            crew.mailbox(worker).post(Message::Open(Door { fd, port: door.address.port(), terms }));
        }
    }
}

fn bind_door(at: &Bind, terms: &Arc<Terms>, workers: usize) -> Result<BoundDoor, Errno> {
    let mut sockets: Vec<OwnedFd> = Vec::with_capacity(workers);
    let mut port = at.port;
    for _ in 0..workers {
        let fd = socket::bind_door(at.ip, port)?;
        // Port 0: the first socket finds a free port, the others join it.
        port = socket::local_address(fd.as_fd()).map_or(port, |address| address.port());
        sockets.push(fd);
    }
    for fd in &sockets {
        socket::listen(fd, &terms.options)?;
    }
    Ok(BoundDoor { address: address_of(at, port), terms: Arc::clone(terms), sockets })
}

fn failure(listener: &Listener, at: &Bind, errno: Errno) -> BindError {
    BindError { listener: listener.name.clone(), address: address_of(at, at.port), errno }
}

/// A bind without an address shows as `[::]`, as it does in `ss`.
fn address_of(at: &Bind, port: u16) -> SocketAddr {
    SocketAddr::new(at.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), port)
}

fn advice(errno: Errno, address: SocketAddr) -> String {
    match errno {
        Errno::ACCESS if address.port() < 1024 => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: run it as the \
             systemd service, or `setcap cap_net_bind_service=+ep` on the binary"
                .to_owned()
        }
        Errno::ADDRINUSE => {
            format!("; another program listens there: `ss -ltnp 'sport = :{}'` shows which", address.port())
        }
        Errno::ADDRNOTAVAIL => {
            "; no interface of this host has that address: `ip address` shows those it has".to_owned()
        }
        Errno::MFILE => "; too few open files are allowed: raise LimitNOFILE= or `ulimit -n`".to_owned(),
        _ => String::new(),
    }
}
