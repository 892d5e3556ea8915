//! A filter for listening sockets that are about to close: no handshake begins there any more, and those under way may end.
//!
//! To close a listening socket resets whoever has answered half of a handshake. A filter of four instructions drops what asks for a
//! new one, as if it were lost on the way; the client asks again, and by then is refused.

use std::os::fd::{AsFd, AsRawFd};

use super::Errno;
use super::udp::last_error;

/// Drops what begins a handshake. The sockets that it accepts from now on inherit the filter: see [`take_off`].
#[allow(unsafe_code, clippy::cast_possible_truncation)]
pub fn put_on(door: impl AsFd) -> Result<(), Errno> {
    let mut program = PROGRAM;
    let filter = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads as many bytes as the length says from `filter`, and from the program it points to, which lives as
    // long as this call; it copies both and writes to neither.
    let outcome = unsafe {
        libc::setsockopt(
            door.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(last_error()) }
}

/// Takes the filter off. One that has none is no error.
#[allow(unsafe_code, clippy::cast_possible_truncation)]
pub fn take_off(socket: impl AsFd) {
    let unused: libc::c_int = 0;
    // SAFETY: the kernel reads as many bytes as the length says from `unused`, which lives as long as this call, or none.
    unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const unused).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

/// Whoever connects there has half of a handshake until he says something.
#[cfg(test)]
#[allow(unsafe_code, clippy::cast_possible_truncation)]
pub(crate) fn defer(door: impl AsFd) {
    let seconds: libc::c_int = 30;
    // SAFETY: the kernel reads as many bytes as the length says from `seconds`.
    let outcome = unsafe {
        libc::setsockopt(
            door.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(outcome, 0);
}

const fn instruction(code: u32, if_true: u8, if_false: u8, k: u32) -> libc::sock_filter {
    // The words of the kernel are wider than the field.
    #[allow(clippy::cast_possible_truncation)]
    libc::sock_filter { code: code as u16, jt: if_true, jf: if_false, k }
}

/// On what begins with the TCP header: SYN without ACK is dropped, everything else is kept whole.
const PROGRAM: [libc::sock_filter; 5] = [
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS_AT),
    instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
];
/// Where the flags stand in a TCP header.
const FLAGS_AT: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::sys::tcp;

    #[test]
    fn a_handshake_that_is_under_way_ends_and_no_other_begins() {
        let door = tcp::bind_door(Some([127, 0, 0, 1].into()), 0, false).unwrap();
        tcp::listen(&door, &tcp::StreamOptions::default(), Some(16)).unwrap();
        let address = tcp::local_address(door.as_fd()).unwrap();
        defer(&door);
        let mut half = TcpStream::connect(address).unwrap();
        put_on(&door).unwrap();
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        half.write_all(b"hello").unwrap();
        let (taken, _) = loop {
            match tcp::accept(door.as_fd()) {
                Ok(taken) => break taken,
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(errno) => panic!("{errno}"),
            }
        };
        let mut taken = TcpStream::from(taken);
        taken.set_nonblocking(false).unwrap();
        let mut text = [0; 5];
        taken.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
        take_off(&door);
        TcpStream::connect(address).unwrap();
    }
}
