//! Probe socket of a health check: begin a connect, learn its result.
//!
//! Non-blocking throughout; who waits for readiness is the caller's business. Every failure is a [`Fault`], a closed
//! list, so that no room above looks at error numbers.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::tcp::bind_address;

/// Whom to ask, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The peer.
    pub to: SocketAddr,
    /// Addresses of this host, of the peer's family: the first that it has is taken. With none, the kernel chooses.
    pub from: Arc<[IpAddr]>,
}

impl Route {
    /// From wherever the kernel chooses.
    pub fn to(peer: SocketAddr) -> Self {
        Self { to: peer, from: Arc::default() }
    }
}

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused by the peer (or by a rule that answers for it).
    Refused,
    /// The kernel gave up waiting.
    TimedOut,
    /// No way to the peer.
    Unreachable,
    /// The peer reset the connection.
    Reset,
    /// This process, or the machine, has no file descriptor left.
    NoFiles,
    /// No local port, or no local address, is free towards the peer.
    NoPort,
    /// The kernel has no memory for it.
    NoMemory,
    /// Forbidden.
    Denied,
    /// Anything else, by its number.
    Other(i32),
}

/// Begins a connect that the peer's program will never see, as long as the socket is dropped within 200 ms of being
/// connected and nothing is sent: the kernel holds back the last ACK of the handshake (no TCP_QUICKACK; the delayed-ACK
/// timer is 200 ms), and dropping sends a reset in its place (SO_LINGER of 0). Both must be set before the connect,
/// since on loopback the handshake is over before `connect` returns.
pub fn touch(route: &Route) -> Result<TcpStream, Fault> {
    let socket = open(route, SocketType::STREAM)?;
    sockopt::set_tcp_quickack(&socket, false)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    connect(&socket, route.to)?;
    Ok(socket.into())
}

/// Begins an ordinary connect; dropping the socket closes it in order.
pub fn dial(route: &Route) -> Result<TcpStream, Fault> {
    let socket = open(route, SocketType::STREAM)?;
    connect(&socket, route.to)?;
    Ok(socket.into())
}

/// A socket that exchanges datagrams with the peer alone.
pub fn datagrams(route: &Route) -> Result<UdpSocket, Fault> {
    let socket = open(route, SocketType::DGRAM)?;
    connect(&socket, route.to)?;
    Ok(socket.into())
}

/// The result of a connect. Only to be asked once the socket was seen writable: before that it says success.
///
/// Where nothing listens at a local port, the kernel may give that very port to the connect, and the socket meets itself
/// (a simultaneous open of TCP): nobody is there.
pub fn connected(socket: impl AsFd) -> Result<(), Fault> {
    sockopt::socket_error(&socket)??;
    match (net::getsockname(&socket), net::getpeername(&socket)) {
        (Ok(own), Ok(Some(peer))) if own == peer => Err(Fault::Refused),
        _ => Ok(()),
    }
}

/// The result of a connect, or `None` while the peer has not answered; for a caller that saw no readiness.
pub fn look(socket: impl AsFd) -> Option<Result<(), Fault>> {
    let socket = socket.as_fd();
    match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(0) => None,
        Ok(_) => Some(connected(socket)),
        Err(errno) => Some(Err(errno.into())),
    }
}

fn open(route: &Route, kind: SocketType) -> Result<OwnedFd, Fault> {
    let family = if route.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    let mut bound = Ok(());
    for ip in route.from.iter() {
        bound = bind_address(socket.as_fd(), SocketAddr::new(*ip, 0));
        // The next one is for a host that lacks this one.
        if bound != Err(Errno::ADDRNOTAVAIL) {
            break;
        }
    }
    bound?;
    Ok(socket)
}

fn connect(socket: &OwnedFd, peer: SocketAddr) -> Result<(), Fault> {
    match net::connect(socket, &peer) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl Fault {
    /// The fault behind an error of the standard library.
    pub fn of(error: &std::io::Error) -> Self {
        error.raw_os_error().map_or(Self::Other(0), |number| Errno::from_raw_os_error(number).into())
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::CONNREFUSED => Self::Refused,
            Errno::TIMEDOUT => Self::TimedOut,
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN | Errno::NONET => {
                Self::Unreachable
            }
            // What ICMP "protocol unreachable" and "source route failed" become.
            Errno::NOPROTOOPT | Errno::PROTO | Errno::OPNOTSUPP => Self::Unreachable,
            Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE => Self::Reset,
            Errno::MFILE | Errno::NFILE => Self::NoFiles,
            Errno::ADDRNOTAVAIL | Errno::ADDRINUSE | Errno::AGAIN => Self::NoPort,
            Errno::NOMEM | Errno::NOBUFS | Errno::NOSPC => Self::NoMemory,
            Errno::PERM | Errno::ACCESS => Self::Denied,
            other => Self::Other(other.raw_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    /// Waits, up to a generous limit, for the connect to be decided.
    fn wait(socket: &TcpStream) {
        let mut fds = [PollFd::new(socket, PollFlags::OUT)];
        assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 30, tv_nsec: 0 })), Ok(1), "not decided");
    }

    fn listeners() -> [TcpListener; 2] {
        ["127.0.0.1:0", "[::1]:0"].map(|address| TcpListener::bind(address).unwrap())
    }

    #[test]
    fn a_connect_that_meets_itself_is_refused() {
        // A port nobody has, bound by the connecting socket itself.
        let socket = open(&Route::to("127.0.0.1:1".parse().unwrap()), SocketType::STREAM).unwrap();
        net::bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        let own: SocketAddr = net::getsockname(&socket).unwrap().try_into().unwrap();
        connect(&socket, own).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let result = loop {
            match look(&socket) {
                Some(result) => break result,
                None => assert!(Instant::now() < deadline, "the connect never ended"),
            }
        };
        assert_eq!(result, Err(Fault::Refused));
    }

    #[test]
    fn a_touch_is_connected_and_never_accepted() {
        for listener in listeners() {
            listener.set_nonblocking(true).unwrap();
            let mut in_time = 0;
            while in_time < 20 {
                let began = Instant::now();
                let socket = touch(&Route::to(listener.local_addr().unwrap())).unwrap();
                wait(&socket);
                assert_eq!(look(&socket), Some(Ok(())));
                assert_eq!(connected(&socket), Ok(()));
                drop(socket);
                if began.elapsed() > Duration::from_millis(100) {
                    // This machine stalled, and the last ACK may have left.
                    let _ = listener.accept();
                    continue;
                }
                in_time += 1;
                // On loopback the reset was delivered before the close returned.
                assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            }
        }
    }

    #[test]
    fn a_dial_is_accepted_and_closed_in_order() {
        for listener in listeners() {
            let mut socket = dial(&Route::to(listener.local_addr().unwrap())).unwrap();
            wait(&socket);
            assert_eq!(connected(&socket), Ok(()));
            let (mut peer, _) = listener.accept().unwrap();
            socket.write_all(b"ask").unwrap();
            drop(socket);
            let mut asked = Vec::new();
            peer.read_to_end(&mut asked).unwrap();
            assert_eq!(asked, b"ask");
        }
    }

    #[test]
    fn a_closed_port_refuses() {
        for listener in listeners() {
            let address = listener.local_addr().unwrap();
            drop(listener);
            let refused = match touch(&Route::to(address)) {
                Ok(socket) => {
                    wait(&socket);
                    look(&socket)
                }
                Err(fault) => Some(Err(fault)),
            };
            assert_eq!(refused, Some(Err(Fault::Refused)));
        }
    }

    #[test]
    fn a_silent_peer_leaves_the_look_open() {
        let silent = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        net::bind(&silent, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        // A backlog of 0 holds one connection; the kernel drops every SYN while it is held.
        net::listen(&silent, 0).unwrap();
        let address = SocketAddr::try_from(net::getsockname(&silent).unwrap()).unwrap();
        let _held = TcpStream::connect(address).unwrap();
        assert_eq!(look(touch(&Route::to(address)).unwrap()), None);
    }
}
