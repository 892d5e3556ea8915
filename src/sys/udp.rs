//! UDP sockets: doors that tell which of our addresses a datagram came to, and connected ones towards backends.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::Errno;
use super::tcp::{V6, bind_any, set_freebind, set_transparent};

/// A bound door of one worker, sharing its port with the other workers' by SO_REUSEPORT. It tells of each datagram which
/// of our addresses it came to, unless it has one alone. `None` binds every address of
/// both families where the host has IPv6. Port 0 takes any free port. `freebind`: the address need not be here yet.
///
/// Path MTU discovery stays as the kernel has it for every plain UDP socket: what does not fit is fragmented.
pub fn bind_door(ip: Option<IpAddr>, port: u16, freebind: bool) -> Result<OwnedFd, Errno> {
    bind_any(ip, port, |address, v6| bind_one(address, v6, true, freebind))
}

/// Would a door be alone there? Leaves nothing behind.
pub fn probe_door(ip: Option<IpAddr>, port: u16, freebind: bool) -> Result<(), Errno> {
    bind_any(ip, port, |address, v6| bind_one(address, v6, false, freebind)).map(drop)
}

/// A socket that exchanges datagrams with `to` alone, from this very address and port, which nobody has: ADDRINUSE
/// otherwise. While it lives no other user can have them, and no socket that does not ask to join; this process may, by
/// [`connect_beside`]. What strangers send is for the caller to tell by its source; errors are had from
/// [`super::udp_errors`].
pub fn connect_from(local: SocketAddr, to: SocketAddr, foreign: Foreign) -> Result<OwnedFd, Errno> {
    let fd = outgoing_socket(to, foreign)?;
    // Two sockets share an address and port where both say so (SO_REUSEPORT) and one user has made both. The first one does
    // not say so while it binds, so it is alone: another process that does the same is refused, whichever came first.
    net::bind(&fd, &local)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    net::connect(&fd, &to)?;
    Ok(fd)
}

/// The same from an address and port that sockets of this process have towards other peers.
pub fn connect_beside(local: SocketAddr, to: SocketAddr, foreign: Foreign) -> Result<OwnedFd, Errno> {
    let fd = outgoing_socket(to, foreign)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    net::bind(&fd, &local)?;
    net::connect(&fd, &to)?;
    Ok(fd)
}

/// Makes a connected socket of an older build like those of [`connect_from`].
pub fn make_exclusive(fd: BorrowedFd<'_>, v6: bool) -> Result<(), Errno> {
    sockopt::set_socket_reuseport(fd, true)?;
    sockopt::set_socket_reuseaddr(fd, false)?;
    set_flag(fd, v6, libc::IP_RECVERR, libc::IPV6_RECVERR)
}

fn outgoing_socket(to: SocketAddr, foreign: Foreign) -> Result<OwnedFd, Errno> {
    let fd = datagram_socket(to)?;
    if foreign == Foreign::Yes {
        set_transparent(fd.as_fd(), to)?;
    }
    set_flag(fd.as_fd(), to.is_ipv6(), libc::IP_RECVTOS, libc::IPV6_RECVTCLASS)?;
    set_flag(fd.as_fd(), to.is_ipv6(), libc::IP_RECVERR, libc::IPV6_RECVERR)?;
    Ok(fd)
}

/// Is the local address one of another host? Binding it needs CAP_NET_ADMIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It is one of ours.
    No,
    /// It may be anyone's.
    Yes,
}

/// The address this host would use towards `to`.
pub fn source_towards(to: SocketAddr) -> Result<IpAddr, Errno> {
    let fd = datagram_socket(to)?;
    net::connect(&fd, &to)?;
    super::tcp::local_address(fd.as_fd()).map(|address| address.ip()).ok_or(Errno::ADDRNOTAVAIL)
}

/// Ports the kernel gives out by itself, first and last: the range an operator has set aside for outgoing traffic.
pub fn local_ports() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().filter_map(|port| port.parse().ok());
    match (ports.next(), ports.next()) {
        (Some(first), Some(last)) if first <= last => (first, last),
        _ => (32_768, 60_999),
    }
}

/// Asks for a receive buffer of this size and tells what was granted: the kernel caps it at `net.core.rmem_max` for those
/// without CAP_NET_ADMIN.
pub fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: usize) -> usize {
    if sockopt::set_socket_recv_buffer_size_force(fd, bytes).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(fd, bytes);
    }
    // The kernel takes twice of what is asked for, for its own book-keeping, and tells that.
    sockopt::socket_recv_buffer_size(fd).map_or(0, |doubled| doubled / 2)
}

/// Asks for a send buffer of this size and tells what was granted, likewise: the cap is `net.core.wmem_max`.
pub fn set_send_buffer(fd: BorrowedFd<'_>, bytes: usize) -> usize {
    if sockopt::set_socket_send_buffer_size_force(fd, bytes).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(fd, bytes);
    }
    sockopt::socket_send_buffer_size(fd).map_or(0, |doubled| doubled / 2)
}

/// Lets the kernel deliver several datagrams of one sender as one (UDP_GRO).
pub fn merge_received(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    set(fd, libc::SOL_UDP, libc::UDP_GRO, 1)
}

fn bind_one(address: SocketAddr, through: V6, shared: bool, freebind: bool) -> Result<OwnedFd, Errno> {
    let fd = datagram_socket(address)?;
    if freebind {
        set_freebind(fd.as_fd(), address)?;
    }
    sockopt::set_socket_reuseport(&fd, shared)?;
    let v6 = address.is_ipv6();
    if v6 {
        sockopt::set_ipv6_v6only(&fd, through == V6::Only)?;
    }
    if !has_one_address(address.ip()) {
        set_flag(fd.as_fd(), v6, libc::IP_PKTINFO, libc::IPV6_RECVPKTINFO)?;
    }
    set_flag(fd.as_fd(), v6, libc::IP_RECVTOS, libc::IPV6_RECVTCLASS)?;
    if v6 && through == V6::AndV4 {
        // IPv4 through an IPv6 socket shows its mark the IPv4 way.
        set(fd.as_fd(), libc::SOL_IP, libc::IP_RECVTOS, 1)?;
    }
    set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    net::bind(&fd, &address)?;
    Ok(fd)
}

/// All that comes to a door of this address came to it, and what leaves leaves from it: the kernel need not say so. What is
/// sent to a group cannot be answered from the group.
pub fn has_one_address(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

fn datagram_socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))
}

fn set_flag(fd: BorrowedFd<'_>, v6: bool, v4_option: i32, v6_option: i32) -> Result<(), Errno> {
    let (level, option) = if v6 { (libc::SOL_IPV6, v6_option) } else { (libc::SOL_IP, v4_option) };
    set(fd, level, option, 1)
}

// The length of an int fits.
#[allow(unsafe_code, clippy::cast_possible_truncation)]
pub(super) fn set(fd: BorrowedFd<'_>, level: i32, option: i32, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the pointer and length are those of an int that lives through the call; the fd is borrowed.
    let outcome = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(last_error()) }
}

/// The errno of the call that just failed.
pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
