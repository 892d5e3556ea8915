//! Doors: the listening sockets of every listener, one per data thread at each address and port.
//!
//! All are bound, or none stays: the first that cannot be bound is told with its listener, address and reason. They
//! listen from then on, so clients that come before the first round of health checks wait in the kernel's queue.

mod grants;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::config::settings::{Bind, Listener, Protocol};
use crate::sys::{Errno, socket, udp as udp_socket};
use crate::worker::{Crew, Door, Message};
use crate::{tcp, udp};

/// What the sessions of a listener are born with.
#[derive(Debug, Clone)]
pub enum Terms {
    /// Of a tcp listener.
    Tcp(Arc<tcp::Terms>),
    /// Of a udp listener.
    Udp(Arc<udp::Terms>),
}

/// A door that is to be.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Names it from now on, on every thread the same.
    pub id: u64,
    /// Whose.
    pub listener: &'a Listener,
    /// Where.
    pub at: Bind,
    /// This process has other doors at that port: then a stranger could not be told from them.
    pub beside_own: bool,
}

/// The doors of one listener at one address and port.
#[derive(Debug)]
pub struct BoundDoor {
    /// Its name on every thread.
    pub id: u64,
    /// Where it listens, its real port included.
    pub address: SocketAddr,
    /// The address it was asked for.
    ip: Option<IpAddr>,
    sockets: Vec<OwnedFd>,
    /// Bytes that the kernel grants to datagrams that wait; nothing for tcp.
    receive_buffer: usize,
}

impl Terms {
    /// The listener's name.
    pub fn listener(&self) -> &str {
        match self {
            Self::Tcp(terms) => &terms.listener,
            Self::Udp(terms) => &terms.listener,
        }
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

/// Binds every one of these doors, `workers` sockets each.
pub fn bind(doors: &[Wanted<'_>], workers: usize) -> Result<Vec<BoundDoor>, BindError> {
    // Sockets that share a port by SO_REUSEPORT would also share it with a stranger of the same user, such as an
    // evenkeel started twice, each getting some of the clients. One look without the option tells.
    for door in doors.iter().filter(|door| !door.beside_own) {
        probe(door.listener, &door.at).map_err(|errno| failure(door, errno))?;
    }
    let bound = doors
        .iter()
        .map(|door| bind_door(door, workers).map_err(|errno| failure(door, errno)))
        .collect::<Result<Vec<_>, BindError>>()?;
    grants::warn(doors.iter().map(|door| door.listener), &bound);
    Ok(bound)
}

/// Hands a door to the data threads, with what its sessions are born with.
pub fn open(door: BoundDoor, terms: &Terms, crew: &Crew) {
    let (id, port) = (door.id, door.address.port());
    for (worker, fd) in door.sockets.into_iter().enumerate() {
        crew.mailbox(worker).post(match terms {
            Terms::Tcp(terms) => Message::Open(Door { id, fd, port, terms: Arc::clone(terms) }),
            Terms::Udp(terms) => {
                let is_dual = door.ip.is_none() && door.address.is_ipv6();
                let (ip, terms) = (door.ip, Arc::clone(terms));
                let appetite = udp::Appetite::default();
                Message::OpenDatagrams(udp::Door { id, fd, ip, port, is_dual, terms, lost_seen: 0, appetite })
            }
        });
    }
}

/// New sessions of this door are born with these terms.
pub fn renew(id: u64, terms: &Terms, crew: &Crew) {
    for worker in 0..crew.workers() {
        crew.mailbox(worker).post(match terms {
            Terms::Tcp(terms) => Message::Renew(id, Arc::clone(terms)),
            Terms::Udp(terms) => Message::RenewDatagrams(id, Arc::clone(terms)),
        });
    }
}

/// Closes this door. Connections that wait there are taken; flows that live there end.
pub fn close(id: u64, protocol: Protocol, crew: &Crew) {
    for worker in 0..crew.workers() {
        crew.mailbox(worker).post(match protocol {
            Protocol::Tcp => Message::CloseDoor(id),
            Protocol::Udp => Message::CloseDatagrams(id),
        });
    }
}

fn probe(listener: &Listener, at: &Bind) -> Result<(), Errno> {
    match listener.protocol {
        Protocol::Tcp => socket::probe_door(at.ip, at.port, listener.freebind),
        Protocol::Udp => udp_socket::probe_door(at.ip, at.port, listener.freebind),
    }
}

fn bind_door(door: &Wanted<'_>, workers: usize) -> Result<BoundDoor, Errno> {
    let (at, protocol) = (&door.at, door.listener.protocol);
    let mut sockets: Vec<OwnedFd> = Vec::with_capacity(workers);
    let mut port = at.port;
    for _ in 0..workers {
        let fd = match protocol {
            Protocol::Tcp => socket::bind_door(at.ip, port, door.listener.freebind)?,
            Protocol::Udp => udp_socket::bind_door(at.ip, port, door.listener.freebind)?,
        };
        // Port 0: the first socket finds a free port, the others join it.
        port = socket::local_address(fd.as_fd()).map_or(port, |address| address.port());
        sockets.push(fd);
    }
    let mut receive_buffer = usize::MAX;
    // Only when all are bound: a datagram socket that joins later would move flows to another thread.
    for fd in &sockets {
        match protocol {
            Protocol::Tcp => socket::listen(fd, &tcp::options_of(door.listener), door.listener.backlog)?,
            Protocol::Udp => receive_buffer = receive_buffer.min(prepare_datagrams(fd, door.listener)),
        }
    }
    let mut address = address_of(at, port);
    if at.ip.is_none()
        && sockets.first().and_then(|fd| socket::local_address(fd.as_fd())).is_some_and(|a| a.is_ipv4())
    {
        // No IPv6 on this host.
        address.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
    }
    Ok(BoundDoor { id: door.id, address, ip: at.ip, sockets, receive_buffer })
}

/// Room for bursts; tells how much there is.
fn prepare_datagrams(fd: &OwnedFd, listener: &Listener) -> usize {
    let asked = usize::try_from(listener.udp.receive_buffer).unwrap_or(usize::MAX);
    udp_socket::set_receive_buffer(fd.as_fd(), asked)
}

fn failure(door: &Wanted<'_>, errno: Errno) -> BindError {
    BindError { listener: door.listener.name.clone(), address: address_of(&door.at, door.at.port), errno }
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
            let port = address.port();
            format!(
                "; another program has that port: `ss -tuanp 'sport = :{port}'` shows which. Where it only went out from \
                 there, put the port into net.ipv4.ip_local_reserved_ports"
            )
        }
        Errno::ADDRNOTAVAIL => {
            "; no interface of this host has that address: `ip address` shows those it has. If it comes later, as a \
             VIP on a standby does: `freebind: on`"
                .to_owned()
        }
        Errno::MFILE => "; too few open files are allowed: raise LimitNOFILE= or `ulimit -n`".to_owned(),
        _ => String::new(),
    }
}
