//! TCP sockets: doors, dialling, what a relay does with a connected one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use super::Errno;

/// Options of both sockets of a session. Set on a door, the sockets it accepts inherit them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// First probe after, between probes, probes: TCP keepalive.
    pub keepalive: Option<(Duration, Duration, u8)>,
    /// TCP_USER_TIMEOUT.
    pub unacknowledged: Option<Duration>,
}

/// A bound, not yet listening door of one worker. `None` binds every address of both families where the host has IPv6.
/// Port 0 takes any free port. `freebind`: the address need not be here yet.
pub fn bind_door(ip: Option<IpAddr>, port: u16, freebind: bool) -> Result<OwnedFd, Errno> {
    bind_any(ip, port, |address, v6| bind_one(address, v6, true, freebind))
}

/// Would a door be alone there? Leaves nothing behind.
pub fn probe_door(ip: Option<IpAddr>, port: u16, freebind: bool) -> Result<(), Errno> {
    bind_any(ip, port, |address, v6| bind_one(address, v6, false, freebind)).map(drop)
}

/// Makes a bound door listen. The kernel caps the backlog at `net.core.somaxconn`, which is also what `None` means.
pub fn listen(door: &OwnedFd, options: &StreamOptions, backlog: Option<u32>) -> Result<(), Errno> {
    set_options(door.as_fd(), options)?;
    if options.keepalive.is_none() {
        // A door that was kept may still carry what an earlier configuration said.
        sockopt::set_socket_keepalive(door, false)?;
    }
    if options.unacknowledged.is_none() {
        sockopt::set_tcp_user_timeout(door, 0)?;
    }
    let backlog = backlog.and_then(|backlog| i32::try_from(backlog).ok()).unwrap_or(BACKLOG_MAX);
    net::listen(door, backlog)
}

/// Takes one waiting connection: its socket and who it is.
pub fn accept(door: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddr), Errno> {
    let (fd, peer) = net::acceptfrom_with(door, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::AFNOSUPPORT)?;
    Ok((fd, canonical(peer)))
}

/// Where a connect comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel chooses.
    Any,
    /// This address of ours, and a port that is free towards the peer.
    Address(IpAddr),
    /// An address and port that may be another host's; its port 0 is any free one. Needs CAP_NET_ADMIN.
    Foreign(SocketAddr),
}

/// Begins a connect. The outcome shows as writability; then ask [`take_error`].
pub fn dial(to: SocketAddr, from: Origin, options: &StreamOptions) -> Result<OwnedFd, Errno> {
    let fd = stream_socket(to)?;
    set_options(fd.as_fd(), options)?;
    match from {
        Origin::Any => {}
        Origin::Address(ip) => bind_address(fd.as_fd(), SocketAddr::new(ip, 0))?,
        Origin::Foreign(client) => {
            set_transparent(fd.as_fd(), to)?;
            // A client may have the same port towards several of our doors.
            sockopt::set_socket_reuseaddr(&fd, true)?;
            bind_address(fd.as_fd(), client)?;
        }
    }
    match net::connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

/// May this process connect from addresses that are not its host's? EPERM: it lacks CAP_NET_ADMIN.
pub fn probe_foreign() -> Result<(), Errno> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    set_transparent(stream_socket(any)?.as_fd(), any)
}

/// Has this host the address?
pub fn has_address(ip: IpAddr) -> bool {
    let address = SocketAddr::new(ip, 0);
    stream_socket(address).and_then(|fd| net::bind(&fd, &address)) != Err(Errno::ADDRNOTAVAIL)
}

/// Reads into `buffer`. 0 is the end of the stream.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry(|| net::recv(fd, &mut *buffer, RecvFlags::empty()).map(|(_, length)| length))
}

/// Reads into `buffer` and leaves in the socket what was read. 0 is the end of the stream.
pub fn peek(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry(|| net::recv(fd, &mut *buffer, RecvFlags::PEEK).map(|(_, length)| length))
}

/// Writes what there is room for.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    retry(|| net::send(fd, bytes, SendFlags::NOSIGNAL))
}

/// Tells the peer that no more will come. A peer that is already gone is no error.
pub fn finish(fd: BorrowedFd<'_>) {
    let _ = net::shutdown(fd, net::Shutdown::Write);
}

/// Makes the coming close a reset.
pub fn reset_on_close(fd: BorrowedFd<'_>) {
    let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
}

/// The pending error of a socket, which is cleared by looking.
pub fn take_error(fd: BorrowedFd<'_>) -> Option<Errno> {
    match sockopt::socket_error(fd) {
        Ok(Ok(())) => None,
        Ok(Err(errno)) | Err(errno) => Some(errno),
    }
}

/// Bytes that have come and were not read.
pub fn receivable(fd: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap_or(0)
}

/// Bytes the peer has not acknowledged yet. 0 also when the kernel cannot tell: nobody may wait for it then.
#[allow(unsafe_code)]
pub fn unacknowledged(fd: BorrowedFd<'_>) -> u32 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (TIOCOUTQ) writes one int to the pointer, which is valid for the call; the fd is borrowed.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome == 0 { u32::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// How long ago the peer last sent bytes, in the kernel's ticks of some milliseconds; of a peer that never did, how long ago
/// it connected. `None`: the kernel cannot tell.
// The size of a structure fits.
#[allow(unsafe_code, clippy::cast_possible_truncation)]
pub fn silent_ms(fd: BorrowedFd<'_>) -> Option<u64> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: pointer and length are those of one tcp_info that lives through the call; the fd is borrowed.
    let outcome = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // SAFETY: it was zeroed, and of zeroes and what the kernel wrote every tcp_info is made of plain numbers.
    let info = unsafe { info.assume_init() };
    (outcome == 0).then_some(info.tcpi_last_data_recv.into())
}

/// Our own address and port.
pub fn local_address(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    let name = net::getsockname(fd).ok()?;
    SocketAddr::try_from(name).ok().map(canonical)
}

/// IPv4 that came through an IPv6 socket is IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// One address, or every address of both families where the host has IPv6: then `bind` is to let IPv4 through, too.
pub(super) fn bind_any(
    ip: Option<IpAddr>,
    port: u16,
    bind: impl Fn(SocketAddr, V6) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    match ip {
        Some(ip) => bind(SocketAddr::new(ip, port), V6::Only),
        None => match bind((Ipv6Addr::UNSPECIFIED, port).into(), V6::AndV4) {
            // A host without IPv6 has no such family, or the family but no address.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                bind((Ipv4Addr::UNSPECIFIED, port).into(), V6::Only)
            }
            other => other,
        },
    }
}

/// What comes through an IPv6 socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum V6 {
    /// IPv6.
    Only,
    /// IPv4 as well.
    AndV4,
}

/// Binds the address; port 0 is chosen by the connect, which knows the peer: else each port would serve one peer alone.
pub(super) fn bind_address(fd: BorrowedFd<'_>, address: SocketAddr) -> Result<(), Errno> {
    if address.port() == 0 {
        super::udp::set(fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    }
    net::bind(fd, &address)
}

/// Lets a socket bind an address of another host, and have what comes back to it.
pub(super) fn set_transparent(fd: BorrowedFd<'_>, peer: SocketAddr) -> Result<(), Errno> {
    if peer.is_ipv4() {
        super::udp::set(fd, libc::SOL_IP, libc::IP_TRANSPARENT, 1)
    } else {
        super::udp::set(fd, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1)
    }
}

/// Lets a socket bind an address that this host does not have yet.
pub(super) fn set_freebind(fd: BorrowedFd<'_>, address: SocketAddr) -> Result<(), Errno> {
    if address.is_ipv4() { sockopt::set_ip_freebind(fd, true) } else { sockopt::set_ipv6_freebind(fd, true) }
}

fn bind_one(address: SocketAddr, v6: V6, shared: bool, freebind: bool) -> Result<OwnedFd, Errno> {
    let fd = stream_socket(address)?;
    if freebind {
        set_freebind(fd.as_fd(), address)?;
    }
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, shared)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, v6 == V6::Only)?;
    }
    net::bind(&fd, &address)?;
    Ok(fd)
}

fn stream_socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}

/// Sets what differs from a new socket: a dialling one pays for no more calls than it needs.
fn set_options(fd: BorrowedFd<'_>, options: &StreamOptions) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(fd, true)?;
    if let Some((idle, interval, count)) = options.keepalive {
        sockopt::set_socket_keepalive(fd, true)?;
        sockopt::set_tcp_keepidle(fd, idle)?;
        sockopt::set_tcp_keepintvl(fd, interval)?;
        sockopt::set_tcp_keepcnt(fd, count.into())?;
    }
    if let Some(timeout) = options.unacknowledged {
        sockopt::set_tcp_user_timeout(fd, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// More than any `net.core.somaxconn` in use; the kernel takes the smaller one.
const BACKLOG_MAX: i32 = 65_535;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn door_address(door: &OwnedFd) -> SocketAddr {
        local_address(door.as_fd()).unwrap()
    }

    fn until_accepted(door: &OwnedFd) -> (OwnedFd, SocketAddr) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            match accept(door.as_fd()) {
                Ok(taken) => return taken,
                Err(Errno::AGAIN) => assert!(std::time::Instant::now() < deadline, "nothing to accept"),
                Err(errno) => panic!("accept: {errno}"),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_accepted_socket_inherits_the_options_of_its_door() {
        let door = bind_door(Some(Ipv4Addr::LOCALHOST.into()), 0, false).unwrap();
        let options = StreamOptions {
            keepalive: Some((Duration::from_secs(61), Duration::from_secs(16), 5)),
            unacknowledged: Some(Duration::from_millis(7_000)),
        };
        listen(&door, &options, None).unwrap();
        let client = std::net::TcpStream::connect(door_address(&door)).unwrap();
        let (taken, peer) = until_accepted(&door);
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(sockopt::tcp_nodelay(&taken).unwrap());
        assert!(sockopt::socket_keepalive(&taken).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&taken).unwrap(), Duration::from_secs(61));
        assert_eq!(sockopt::tcp_keepintvl(&taken).unwrap(), Duration::from_secs(16));
        assert_eq!(sockopt::tcp_keepcnt(&taken).unwrap(), 5);
        assert_eq!(sockopt::tcp_user_timeout(&taken).unwrap(), 7_000);
    }

    #[test]
    fn a_port_alone_takes_both_families_and_shows_ipv4_as_ipv4() {
        let door = bind_door(None, 0, false).unwrap();
        listen(&door, &StreamOptions::default(), None).unwrap();
        let port = door_address(&door).port();
        let _client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (_, peer) = until_accepted(&door);
        assert!(peer.is_ipv4(), "{peer}");
        let client = std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port));
        if client.is_ok() {
            let (_, peer) = until_accepted(&door);
            assert!(peer.is_ipv6(), "{peer}");
        }
    }

    #[test]
    fn unacknowledged_bytes_are_seen_and_a_reset_is_a_reset() {
        let door = bind_door(Some(Ipv4Addr::LOCALHOST.into()), 0, false).unwrap();
        listen(&door, &StreamOptions::default(), None).unwrap();
        let mut client = std::net::TcpStream::connect(door_address(&door)).unwrap();
        let (taken, _) = until_accepted(&door);
        // More than the peer's window: the rest stays unacknowledged until it reads.
        let bytes = vec![1u8; 256 * 1024];
        let mut sent = 0;
        while let Ok(n) = send(taken.as_fd(), &bytes) {
            sent += n;
        }
        assert!(unacknowledged(taken.as_fd()) > 0);
        client.set_nonblocking(true).unwrap();
        let (mut read, mut buffer) = (0, vec![0u8; 65_536]);
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while read < sent && std::time::Instant::now() < deadline {
            read += client.read(&mut buffer).unwrap_or(0);
        }
        assert_eq!(read, sent);
        while unacknowledged(taken.as_fd()) > 0 {
            assert!(std::time::Instant::now() < deadline, "the queue never emptied");
        }
        reset_on_close(taken.as_fd());
        drop(taken);
        client.set_nonblocking(false).unwrap();
        let error = client.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(client.write(b"x").is_err());
    }
}
