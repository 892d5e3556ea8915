//! File descriptor passing (SCM_RIGHTS): descriptors on their way from one process to another, by a pair of sockets that
//! carry them.
//!
//! What is in the pair lives as long as somebody holds one of its ends, also when the process that sent it is gone.

use std::io::{IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};

use super::Errno;

/// One message.
#[derive(Debug)]
pub struct Arrived {
    /// Bytes of it, at the front of the buffer.
    pub length: usize,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
    /// More came than was taken: of the bytes, or of the descriptors.
    pub cut: bool,
}

/// Two ends that keep messages whole and wait for nobody.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (one, other) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    for end in [&one, &other] {
        // As much room as may be had; with the usual size some 140,000 descriptors fit.
        if sockopt::set_socket_send_buffer_size_force(end, ROOM_BYTES).is_err() {
            sockopt::set_socket_send_buffer_size(end, ROOM_BYTES)?;
        }
    }
    Ok((one, other))
}

/// Sends one message with these descriptors, which stay open here.
#[allow(unsafe_code)]
pub fn send(to: BorrowedFd<'_>, bytes: &[u8], descriptors: &[RawFd]) -> Result<(), Errno> {
    // SAFETY: each is open through the call and none is -1: they are of a table whose thread makes this call, or stands still
    // until it is over, and of listening sockets that no reload may close meanwhile.
    let borrowed: Vec<BorrowedFd<'_>> =
        descriptors.iter().map(|fd| unsafe { BorrowedFd::borrow_raw(*fd) }).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::INVAL);
    }
    net::sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Takes the next message. `peek`: it stays, and the next look tells the one behind it; [`look_again`] goes back to the
/// first. `None`: the other end is closed.
pub fn receive(from: BorrowedFd<'_>, buffer: &mut [u8], peek: bool) -> Result<Option<Arrived>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if peek {
        flags |= RecvFlags::PEEK;
    }
    let told = net::recvmsg(from, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    if told.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    let cut = told.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Some(Arrived { length: told.bytes, descriptors, cut }))
}

/// The next look is at the first message.
#[allow(unsafe_code)]
pub fn look_again(at: BorrowedFd<'_>) -> Result<(), Errno> {
    let offset: libc::c_int = 0;
    // SAFETY: the option takes an int, which lives through the call.
    let outcome = unsafe {
        libc::setsockopt(
            at.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            libc::socklen_t::try_from(size_of_val(&offset)).unwrap_or(4),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(super::udp::last_error()) }
}

/// Says of these sockets what becomes of a stream when the last who has it closes it: a reset, or an end as usual.
#[allow(unsafe_code)]
pub fn reset_when_dropped(sockets: impl Iterator<Item = RawFd>, reset: bool) {
    for number in sockets {
        // SAFETY: it is open through the call and not -1: it is the number of an `OwnedFd` that the caller has, or that a session
        // has whose thread stands still.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = sockopt::set_socket_linger(socket, reset.then_some(Duration::ZERO));
    }
}

/// What the kernel takes with one message.
pub const DESCRIPTORS_MAX: usize = 253;
const ROOM_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_look_leaves_everything_and_begins_anew_when_asked() {
        let (one, other) = pair().unwrap();
        let (read_end, write_end) = rustix::pipe::pipe().unwrap();
        send(one.as_fd(), b"first", &[read_end.as_raw_fd()]).unwrap();
        send(one.as_fd(), b"second", &[write_end.as_raw_fd(), read_end.as_raw_fd()]).unwrap();
        let mut buffer = [0; 16];
        for _ in 0..2 {
            look_again(other.as_fd()).unwrap();
            for (text, count) in [(&b"first"[..], 1), (b"second", 2)] {
                let arrived = receive(other.as_fd(), &mut buffer, true).unwrap().unwrap();
                assert_eq!((&buffer[..arrived.length], arrived.descriptors.len()), (text, count));
            }
            assert_eq!(receive(other.as_fd(), &mut buffer, true).unwrap_err(), Errno::AGAIN);
        }
        // What was sent works after the sender's own are closed.
        drop((read_end, write_end));
        let first = receive(other.as_fd(), &mut buffer, false).unwrap().unwrap();
        let second = receive(other.as_fd(), &mut buffer, false).unwrap().unwrap();
        assert_eq!(receive(other.as_fd(), &mut buffer, false).unwrap_err(), Errno::AGAIN);
        rustix::io::write(&second.descriptors[0], b"through").unwrap();
        let length = rustix::io::read(&first.descriptors[0], &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"through");
        drop(one);
        assert!(receive(other.as_fd(), &mut buffer, false).unwrap().is_none(), "the other end is closed");
    }
}
