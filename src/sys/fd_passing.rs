//! File descriptor passing (SCM_RIGHTS): descriptors on their way from one process to another: a pair of sockets that
//! carry them, and memory that travels as one.
//!
//! What is in the pair lives as long as somebody holds one of its ends, also when the process that sent it is gone.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::{MaybeUninit, size_of_val};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

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
    // SAFETY: the numbers are only given to the kernel, which answers EBADF for one that is not open; nothing here
    // keeps them.
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

/// Memory with these bytes that nobody can change any more.
pub fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"evenkeel-manifest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file.into())
}

/// What such memory holds, if it is no more than `most`.
pub fn read_sealed(fd: OwnedFd, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    let about = file.metadata()?;
    if !about.is_file() || about.len() > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Says of these sockets what becomes of a stream when the last who has it closes it: a reset, or an end as usual.
#[allow(unsafe_code)]
pub fn reset_when_dropped(sockets: impl Iterator<Item = RawFd>, reset: bool) {
    for number in sockets {
        // SAFETY: the number is only given to the kernel, which answers EBADF for one that is not open; nothing here
        // keeps it.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = sockopt::set_socket_linger(socket, reset.then_some(Duration::ZERO));
    }
}

/// What the service manager gave to this process: so many descriptors, from 3 on. To be called once, before anything else
/// is opened.
#[allow(unsafe_code)]
pub fn inherited(count: u32) -> Vec<OwnedFd> {
    let is_open = |number: &RawFd| {
        // SAFETY: the number is only given to the kernel, which answers EBADF where it is not open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(*number) };
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).is_ok()
    };
    let numbers = (0..count.min(INHERITED_MAX)).filter_map(|number| RawFd::try_from(number + 3).ok());
    // SAFETY: they are open, and the manager passed them for this process to own; nobody here has taken them before.
    numbers.filter(is_open).map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()
}

/// Makes the table of descriptors large enough for so many, or as large as it may be. Once there are several threads each
/// doubling of the table waits for all of them, some 10 ms: while nobody waits for this process, and it has one thread, it is
/// free.
pub fn make_room(descriptors: u32) {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let highest = u64::from(descriptors).min(most.saturating_sub(1));
    if let Ok(highest) = RawFd::try_from(highest) {
        // Closed at once: the table stays as large as it is.
        drop(rustix::io::fcntl_dupfd_cloexec(io::stderr(), highest));
    }
}

/// What was given to this process as its standard input, which is `/dev/null` from now on.
pub fn take_standard_input() -> io::Result<OwnedFd> {
    let given = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(given)
}

/// Another process: held, so that its number cannot come to mean a third one.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    descriptor: OwnedFd,
}

impl Process {
    /// The process of this number, while it is there.
    pub fn named(pid: u32) -> io::Result<Self> {
        let named = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { pid, descriptor: pidfd_open(named, PidfdFlags::empty())? })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it. One that has ended stays so.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }
}

/// The clock of the machine that goes on from process to process, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, rest) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + rest.unwrap_or(0)
}

/// What the kernel takes with one message.
pub const DESCRIPTORS_MAX: usize = 253;
/// More than the manager is ever asked to keep.
const INHERITED_MAX: u32 = 4_096;
const ROOM_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_is_sealed_comes_back_and_cannot_be_changed() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let fd = sealed(&bytes).unwrap();
        assert_eq!(rustix::io::pwrite(&fd, b"x", 0), Err(Errno::PERM));
        let copy = fd.try_clone().unwrap();
        assert!(read_sealed(copy, 1_000).is_err(), "more than may be");
        assert_eq!(read_sealed(fd, 1 << 30).unwrap(), bytes);
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(read_sealed(pipe, 1_000).is_err(), "no such memory");
    }
}
