//! Listening sockets (bind, listen, SO_REUSEPORT): the doors of every listener, one per data thread at each address and
//! port.
//!
//! All are bound, or none stays: the first that cannot be bound is told with its listener, address and reason. They
//! listen from then on, so clients that come before the first round of health checks wait in the kernel's queue.

mod kernel_limits;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::config::settings::{Bind, Listener, Protocol};
use crate::sys::{Errno, tcp as socket, udp as udp_socket};
use crate::worker::{Door, Message, Workers};
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
    /// By worker; when there were more of them before, it goes round.
    sockets: Vec<DoorSocket>,
    /// What the kernel grants to datagrams that wait; nothing for tcp.
    granted: Buffers,
}

/// Room that the kernel grants to datagrams at each socket of a door, in bytes.
#[derive(Debug, Clone, Copy)]
struct Buffers {
    receive: usize,
    send: usize,
}

/// One thread's socket of a door.
#[derive(Debug)]
pub struct DoorSocket {
    /// The socket.
    pub fd: OwnedFd,
    /// Datagrams that the kernel had lost there when it was last heard of.
    pub lost_seen: u32,
}

impl BoundDoor {
    /// It has a socket for each of so many data threads.
    pub fn is_complete(&self, workers: usize) -> bool {
        self.sockets.len() >= workers
    }

    /// Its sockets, by worker.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.fd.as_fd())
    }
}

impl Terms {
    /// The listener's name.
    pub fn listener(&self) -> &str {
        match self {
            Self::Tcp(terms) => &terms.listener,
            Self::Udp(terms) => &terms.listener,
        }
    }

    /// Whose they are.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp(_) => Protocol::Udp,
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
    bind_with(doors, workers, |_| None)
}

/// The same, with sockets that are there already: `known` tells where one is bound and its sockets, in the order in which
/// the kernel knows them. A door that has fewer than `workers` of them lacks the others until [`complete`] binds them.
pub fn bind_with(
    doors: &[Wanted<'_>],
    workers: usize,
    mut known: impl FnMut(&Wanted<'_>) -> Option<(SocketAddr, Vec<DoorSocket>)>,
) -> Result<Vec<BoundDoor>, BindError> {
    let known: Vec<_> = doors.iter().map(&mut known).collect();
    for (door, _) in doors.iter().zip(&known).filter(|(door, known)| known.is_none() && !door.beside_own) {
        probe(door.listener, &door.at).map_err(|errno| failure(door, errno))?;
    }
    let bound = doors
        .iter()
        .zip(known)
        .map(|(door, known)| {
            let bound = match known {
                Some((address, sockets)) => adopt_door(door, address, sockets),
                None => bind_door(door, workers),
            };
            bound.map_err(|errno| failure(door, errno))
        })
        .collect::<Result<Vec<_>, BindError>>()?;
    let granted = || bound.iter().map(|door| &door.granted);
    kernel_limits::warn(
        doors.iter().map(|door| door.listener),
        granted().map(|granted| granted.receive),
        granted().map(|granted| granted.send),
    );
    Ok(bound)
}

/// Hands a door to the data threads, with what its sessions are born with.
pub fn open(door: BoundDoor, terms: &Terms, workers: &Workers) {
    let (id, port) = (door.id, door.address.port());
    for (number, DoorSocket { fd, lost_seen }) in (0_u32..).zip(door.sockets) {
        // A door has a few sockets.
        let worker = usize::try_from(number).unwrap_or(0) % workers.count();
        workers.mailbox(worker).post(match terms {
            Terms::Tcp(terms) => Message::Open(Door { id, number, fd, port, terms: Arc::clone(terms) }),
            Terms::Udp(terms) => {
                let is_dual = door.ip.is_none() && door.address.is_ipv6();
                let (ip, terms) = (door.ip, Arc::clone(terms));
                let batch_size = udp::BatchSize::default();
                Message::OpenDatagrams(udp::Door {
                    id,
                    number,
                    fd,
                    ip,
                    port,
                    is_dual,
                    terms,
                    lost_seen,
                    batch_size,
                })
            }
        });
    }
}

/// New sessions of this door are born with these terms.
pub fn renew(id: u64, terms: &Terms, workers: &Workers) {
    for worker in 0..workers.count() {
        workers.mailbox(worker).post(match terms {
            Terms::Tcp(terms) => Message::Renew(id, Arc::clone(terms)),
            Terms::Udp(terms) => Message::RenewDatagrams(id, Arc::clone(terms)),
        });
    }
}

/// Lets nobody new in at this tcp door, which is to close when the handshakes that are under way there had time to end.
pub fn leave(id: u64, workers: &Workers) {
    for worker in 0..workers.count() {
        workers.mailbox(worker).post(Message::LeaveDoor(id));
    }
}

/// Closes this door. Connections that wait there are taken; flows that live there end.
pub fn close(id: u64, protocol: Protocol, workers: &Workers) {
    for worker in 0..workers.count() {
        workers.mailbox(worker).post(match protocol {
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

/// A door whose sockets are there.
fn adopt_door(door: &Wanted<'_>, address: SocketAddr, sockets: Vec<DoorSocket>) -> Result<BoundDoor, Errno> {
    let granted = prepare(door, &sockets)?;
    Ok(BoundDoor { id: door.id, address, ip: door.at.ip, sockets, granted })
}

/// Binds what doors whose sockets were there lack: one for each data thread. The kernel gives some of who comes to these
/// from then on: whoever had the others must not serve any more.
pub fn complete(doors: &mut [(BoundDoor, &Listener, Bind)], workers: usize) -> Result<(), BindError> {
    for (bound, listener, at) in doors {
        let wanted = Wanted { id: bound.id, listener, at: *at, beside_own: true };
        let there = bound.sockets.len();
        while bound.sockets.len() < workers {
            let fd = bind_socket(&wanted, bound.address.port()).map_err(|errno| failure(&wanted, errno))?;
            bound.sockets.push(DoorSocket { fd, lost_seen: 0 });
        }
        prepare(&wanted, &bound.sockets[there..]).map_err(|errno| failure(&wanted, errno))?;
    }
    Ok(())
}

/// Makes the sockets of a door what its listener wants; tells the room for datagrams that the kernel grants.
fn prepare(door: &Wanted<'_>, sockets: &[DoorSocket]) -> Result<Buffers, Errno> {
    let mut granted = Buffers { receive: usize::MAX, send: usize::MAX };
    for DoorSocket { fd, .. } in sockets {
        match door.listener.protocol {
            Protocol::Tcp => socket::listen(fd, &tcp::options_of(door.listener), door.listener.backlog)?,
            Protocol::Udp => granted = granted.least(prepare_datagrams(fd, door.listener)),
        }
    }
    Ok(granted)
}

/// One thread's socket, not open yet.
fn bind_socket(door: &Wanted<'_>, port: u16) -> Result<OwnedFd, Errno> {
    let (at, freebind) = (&door.at, door.listener.freebind);
    match door.listener.protocol {
        Protocol::Tcp => socket::bind_door(at.ip, port, freebind),
        Protocol::Udp => udp_socket::bind_door(at.ip, port, freebind),
    }
}

fn bind_door(door: &Wanted<'_>, workers: usize) -> Result<BoundDoor, Errno> {
    let at = &door.at;
    let mut sockets: Vec<DoorSocket> = Vec::with_capacity(workers);
    let mut port = at.port;
    for _ in 0..workers {
        let fd = bind_socket(door, port)?;
        port = socket::local_address(fd.as_fd()).map_or(port, |address| address.port());
        sockets.push(DoorSocket { fd, lost_seen: 0 });
    }
    // Only when all are bound: a datagram socket that joins later would move flows to another thread.
    let granted = prepare(door, &sockets)?;
    let mut address = address_of(at, port);
    if at.ip.is_none()
        && sockets.first().and_then(|one| socket::local_address(one.fd.as_fd())).is_some_and(|a| a.is_ipv4())
    {
        // No IPv6 on this host.
        address.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
    }
    Ok(BoundDoor { id: door.id, address, ip: at.ip, sockets, granted })
}

/// Room for bursts; tells how much there is.
fn prepare_datagrams(fd: &OwnedFd, listener: &Listener) -> Buffers {
    let bytes = |asked: u32| usize::try_from(asked).unwrap_or(usize::MAX);
    Buffers {
        receive: udp_socket::set_receive_buffer(fd.as_fd(), bytes(listener.udp.receive_buffer)),
        send: udp_socket::set_send_buffer(fd.as_fd(), bytes(listener.udp.send_buffer)),
    }
}

impl Buffers {
    fn least(self, other: Self) -> Self {
        Self { receive: self.receive.min(other.receive), send: self.send.min(other.send) }
    }
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
