//! ICMP errors of a connected UDP socket, one by one and with who sent each (IP_RECVERR, MSG_ERRQUEUE).
//!
//! The kernel gives a socket only errors about a datagram between its own address and port and its peer's. Who says so is
//! not proven by that: anyone may send an error from an address of his own, and has only to guess the port.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Errno;
use super::udp::last_error;
use super::udp_batch::{each_control, read_name};

/// An error about a datagram that had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// Where the datagram was to go.
    pub to: SocketAddr,
    /// The host that says so; `None`: this one.
    pub offender: Option<IpAddr>,
    /// Nobody takes datagrams there, or somebody forbids them: it is not a trouble of the way that may pass.
    pub is_refusal: bool,
}

/// Takes the oldest error; `None`: there is no more. The error that the next call on the socket would have told goes with
/// the last one.
// What is cast are lengths of C structs.
#[allow(unsafe_code, clippy::cast_possible_truncation)]
pub fn take(fd: BorrowedFd<'_>) -> Result<Option<Error>, Errno> {
    // SAFETY: of all-zero bytes these C structs are valid: null pointers, zero lengths, family AF_UNSPEC.
    let (mut header, mut name) = unsafe {
        (
            MaybeUninit::<libc::msghdr>::zeroed().assume_init(),
            MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init(),
        )
    };
    let mut control = Control([0; CONTROL_BYTES]);
    // The datagram itself comes along, and is not looked at: without a vector all of it is cut.
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_BYTES;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: name and control block live through the call, with their true lengths; there is no vector.
    let outcome = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
    if outcome < 0 {
        let errno = last_error();
        return if errno == Errno::AGAIN { Ok(None) } else { Err(errno) };
    }
    let mut error = Error { to: read_name(&name), offender: None, is_refusal: false };
    each_control(&header, |level, kind, data| {
        if let (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) = (level, kind) {
            read_extended(data, &mut error);
        }
    });
    Ok(Some(error))
}

/// The next call on the socket tells no error, though some may still wait to be taken: each that is taken would make the next
/// one the socket's.
pub fn pass_over(fd: BorrowedFd<'_>) {
    // To ask for it is to clear it.
    let _ = rustix::net::sockopt::socket_error(fd);
}

/// struct sock_extended_err (errno u32, origin, type, code, a byte of nothing, two u32), the offender's address behind it.
fn read_extended(data: &[u8], error: &mut Error) {
    let Some(&[origin, kind, code]) = data.get(4..7).and_then(|bytes| bytes.first_chunk::<3>()) else {
        return;
    };
    error.is_refusal = match origin {
        libc::SO_EE_ORIGIN_ICMP => kind == UNREACHABLE_V4 && REFUSALS_V4.contains(&code),
        libc::SO_EE_ORIGIN_ICMP6 => kind == UNREACHABLE_V6 && REFUSALS_V6.contains(&code),
        _ => false,
    };
    let family = data.get(16..18).and_then(|bytes| bytes.first_chunk::<2>());
    error.offender = match family.map(|family| i32::from(u16::from_ne_bytes(*family))) {
        Some(libc::AF_INET) => {
            let octets = data.get(20..24).and_then(|bytes| bytes.first_chunk::<4>());
            octets.map(|octets| Ipv4Addr::from(*octets).into())
        }
        Some(libc::AF_INET6) => {
            let octets = data.get(24..40).and_then(|bytes| bytes.first_chunk::<16>());
            octets.map(|octets| IpAddr::from(Ipv6Addr::from(*octets)).to_canonical())
        }
        _ => None,
    };
}

/// Room for the control messages, aligned as the kernel's headers are.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// The error with its offender takes 64, and the mark of what came may stand beside it.
const CONTROL_BYTES: usize = 256;
/// ICMP "destination unreachable".
const UNREACHABLE_V4: u8 = 3;
/// Protocol and port unreachable; network and host unknown, isolated, forbidden; communication forbidden: those that the
/// kernel itself takes for final (`icmp_err_convert`).
const REFUSALS_V4: [u8; 10] = [2, 3, 6, 7, 8, 9, 10, 13, 14, 15];
/// ICMPv6 "destination unreachable".
const UNREACHABLE_V6: u8 = 1;
/// Forbidden; port unreachable; against the policy; a route that rejects.
const REFUSALS_V6: [u8; 4] = [1, 4, 5, 6];

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::super::udp::{Foreign, connect_from};
    use super::*;

    fn refused_at(host: &str) -> (SocketAddr, Error) {
        let gone = UdpSocket::bind((host, 0)).unwrap().local_addr().unwrap();
        let socket = connect_from(SocketAddr::new(gone.ip(), 0), gone, Foreign::No).unwrap();
        super::super::tcp::send(socket.as_fd(), b"?").unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(error) = take(socket.as_fd()).unwrap() {
                assert_eq!(take(socket.as_fd()), Ok(None));
                // Nothing is left for the next call.
                assert_eq!(super::super::tcp::send(socket.as_fd(), b"?"), Ok(1));
                return (gone, error);
            }
            assert!(Instant::now() < deadline, "no refusal came");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_refusal_says_about_whom_and_who_says_so() {
        for host in ["127.0.0.1", "::1"] {
            let (gone, error) = refused_at(host);
            assert_eq!(error, Error { to: gone, offender: Some(gone.ip()), is_refusal: true });
        }
    }

    #[test]
    fn what_is_cut_short_is_no_refusal() {
        let mut error =
            Error { to: SocketAddr::from(([127, 0, 0, 1], 1)), offender: None, is_refusal: false };
        let whole = [111, 0, 0, 0, libc::SO_EE_ORIGIN_ICMP, 3, 3, 0];
        for length in 0..7 {
            read_extended(&whole[..length], &mut error);
            assert!(!error.is_refusal, "{length}");
        }
        read_extended(&whole, &mut error);
        assert!(error.is_refusal && error.offender.is_none());
    }
}
