//! Batched UDP (recvmmsg, sendmmsg): many datagrams with one system call, and per message who sent it, to which of our
//! addresses, its mark (DSCP and ECN), and the size of its segments where the kernel merged several (UDP_GRO,
//! UDP_SEGMENT).
//!
//! A batch is a fixed number of slots in one arena, each large enough for the largest datagram: nothing is ever cut.
//! What was received into a slot is sent from it; bytes are not copied.

// What is cast here are lengths of C structs and counts of a few slots, far below 2^32.
#![allow(clippy::cast_possible_truncation)]

use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::Errno;
use super::udp::last_error;

/// What was received into a slot.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Who sent it; IPv4 as IPv4.
    pub from: SocketAddr,
    /// Which of our addresses it came to, where the socket was told to say.
    pub to: Option<IpAddr>,
    /// How many bytes.
    pub length: usize,
    /// The size of its parts when several datagrams came as one; the last part may be shorter.
    pub part: Option<u16>,
    /// DSCP and ECN.
    pub mark: u8,
    /// More than a slot holds came: the rest is lost, and this must not be forwarded.
    pub cut: bool,
    /// How many datagrams this socket has lost so far for want of room (it wraps).
    pub lost_so_far: Option<u32>,
}

impl Received {
    /// Of one datagram of `length` bytes among those that came as one.
    pub fn piece(&self, length: usize) -> Self {
        Self { length, part: None, ..*self }
    }
}

/// A datagram to be sent from a slot.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Where its bytes are.
    pub slot: usize,
    /// The first of them.
    pub start: usize,
    /// How many.
    pub length: usize,
    /// To whom; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    /// From which of our addresses; `None` leaves it to the kernel.
    pub from: Option<IpAddr>,
    /// As it was received.
    pub part: Option<u16>,
    /// As it was received.
    pub mark: u8,
}

impl Outgoing {
    /// There is nothing to say besides its bytes.
    fn is_plain(&self) -> bool {
        self.to.is_none() && self.from.is_none() && self.part.is_none() && self.mark == 0
    }
}

/// The slots of one thread, and what the kernel needs to fill and empty them.
pub struct Batch {
    /// The slots, and a spare one behind them.
    arena: Box<[u8]>,
    slots: usize,
    received: Vec<Received>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
}

/// Room for the control messages of one datagram, aligned as the kernel's headers are.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

impl Batch {
    /// With this many slots. The arena is virtual memory until datagrams fill it.
    pub fn new(slots: usize) -> Self {
        Self {
            arena: vec![0; (slots + 1) * SLOT_BYTES].into(),
            slots,
            received: Vec::with_capacity(slots),
            headers: Vec::with_capacity(slots),
            vectors: Vec::with_capacity(slots),
            names: Vec::with_capacity(slots),
            controls: Vec::with_capacity(slots),
        }
    }

    /// Slots that hold nothing.
    pub fn room(&self) -> usize {
        self.slots - self.received.len()
    }

    /// What the filled slots hold, by slot.
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// The bytes of a slot.
    pub fn bytes(&self, slot: usize) -> &[u8] {
        &self.arena[slot * SLOT_BYTES..][..self.received[slot].length]
    }

    /// The same datagram with `front` in front of it, to be sent before the next is composed. `None`: no slot holds so
    /// much. This copies; it is for first datagrams.
    pub fn compose(&mut self, front: &[u8], of: &Outgoing) -> Option<Outgoing> {
        let length = front.len() + of.length;
        if length > SLOT_BYTES {
            return None;
        }
        let (spare, start) = (self.slots * SLOT_BYTES, of.slot * SLOT_BYTES + of.start);
        self.arena[spare..][..front.len()].copy_from_slice(front);
        self.arena.copy_within(start..start + of.length, spare + front.len());
        Some(Outgoing { slot: self.slots, start: 0, length, part: None, ..*of })
    }

    /// Empties all slots.
    pub fn clear(&mut self) {
        self.received.clear();
    }

    /// Receives into the free slots, at most `most` datagrams; tells how many came. Without a free slot none does.
    #[allow(unsafe_code)]
    pub fn receive(&mut self, fd: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        let first = self.received.len();
        let count = most.min(self.room());
        self.prepare(count);
        for index in 0..count {
            let bytes = &mut self.arena[(first + index) * SLOT_BYTES..][..SLOT_BYTES];
            self.vectors[index] = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: SLOT_BYTES };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = CONTROL_BYTES;
        }
        let raw = fd.as_raw_fd();
        let came = if let [only] = &mut self.headers[..] {
            // SAFETY: the header points to a name, one vector and a control block that live in `self` through the call,
            // with their true lengths; the vector points into the arena.
            let outcome = unsafe { libc::recvmsg(raw, &raw mut only.msg_hdr, libc::MSG_DONTWAIT) };
            only.msg_len = u32::try_from(outcome).map_err(|_| last_error())?;
            1
        } else {
            let flags = libc::MSG_DONTWAIT;
            let headers = self.headers.as_mut_ptr();
            // SAFETY: as above for each of the `count` headers; their slots are disjoint.
            let outcome =
                unsafe { libc::recvmmsg(raw, headers, count as libc::c_uint, flags, ptr::null_mut()) };
            usize::try_from(outcome).map_err(|_| last_error())?
        };
        for index in 0..came {
            let told = read_message(&self.headers[index], &self.names[index]);
            self.received.push(told);
        }
        Ok(came)
    }

    /// Sends these, in order; tells how many the kernel took. An error is that of the first: nothing was sent then.
    #[allow(unsafe_code)]
    pub fn send(&mut self, fd: BorrowedFd<'_>, messages: &[Outgoing]) -> Result<usize, Errno> {
        if let [only] = messages
            && only.is_plain()
        {
            let bytes = &self.arena[only.slot * SLOT_BYTES..][only.start..][..only.length];
            return super::tcp::send(fd, bytes).map(|_| 1);
        }
        self.prepare(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let bytes = &self.arena[message.slot * SLOT_BYTES..][message.start..][..message.length];
            let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            self.address(index, vector, message);
        }
        let (raw, flags) = (fd.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        if let [only] = &self.headers[..] {
            // SAFETY: as in `receive`; the kernel only reads name, vector, control and slot.
            let outcome = unsafe { libc::sendmsg(raw, &raw const only.msg_hdr, flags) };
            return usize::try_from(outcome).map(|_| 1).map_err(|_| last_error());
        }
        let headers = self.headers.as_mut_ptr();
        // SAFETY: as above, for each of them.
        let outcome = unsafe { libc::sendmmsg(raw, headers, messages.len() as libc::c_uint, flags) };
        usize::try_from(outcome).map_err(|_| last_error())
    }

    /// Sends bytes that stand in no slot, to whom and from where the message says.
    #[allow(unsafe_code)]
    pub fn send_apart(&mut self, fd: BorrowedFd<'_>, bytes: &[u8], message: &Outgoing) -> Result<(), Errno> {
        self.prepare(1);
        let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.address(0, vector, message);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: as in `send`; the bytes live through the call, and the kernel only reads them.
        let outcome = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const self.headers[0].msg_hdr, flags) };
        if outcome < 0 { Err(last_error()) } else { Ok(()) }
    }

    /// Makes the header of a message that is to be sent.
    fn address(&mut self, index: usize, vector: libc::iovec, message: &Outgoing) {
        self.vectors[index] = vector;
        let header = &mut self.headers[index].msg_hdr;
        header.msg_iov = &raw mut self.vectors[index];
        header.msg_iovlen = 1;
        if let Some(to) = message.to {
            // The family of the socket decides the form: a name says which.
            header.msg_namelen = write_name(&mut self.names[index], to);
            header.msg_name = (&raw mut self.names[index]).cast();
        }
        let length = write_control(&mut self.controls[index], message);
        if length > 0 {
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = length;
        }
    }

    /// Makes room for this many messages, all empty.
    #[allow(unsafe_code)]
    fn prepare(&mut self, count: usize) {
        // SAFETY: of all-zero bytes these C structs are valid: null pointers, zero lengths, family AF_UNSPEC.
        let (header, name) = unsafe {
            (
                MaybeUninit::<libc::mmsghdr>::zeroed().assume_init(),
                MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init(),
            )
        };
        self.headers.clear();
        self.headers.resize(count, header);
        self.vectors
            .resize(count.max(self.vectors.len()), libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 });
        self.names.resize(count.max(self.names.len()), name);
        self.controls.resize(count.max(self.controls.len()), Control([0; CONTROL_BYTES]));
    }
}

/// What the kernel told of one received datagram.
fn read_message(message: &libc::mmsghdr, name: &libc::sockaddr_storage) -> Received {
    let header = &message.msg_hdr;
    let mut told = Received {
        from: read_name(name),
        to: None,
        length: (message.msg_len as usize).min(SLOT_BYTES),
        part: None,
        mark: 0,
        cut: header.msg_flags & libc::MSG_TRUNC != 0,
        lost_so_far: None,
    };
    each_control(header, |level, kind, data| match (level, kind) {
        (libc::SOL_IP, libc::IP_PKTINFO) => {
            // struct in_pktinfo: interface index, our address (ipi_spec_dst), the header's destination.
            if let Some(octets) = data.get(4..8).and_then(|bytes| bytes.first_chunk::<4>()) {
                told.to = Some(Ipv4Addr::from(*octets).into());
            }
        }
        (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
            if let Some(octets) = data.first_chunk::<16>() {
                told.to = Some(IpAddr::from(*octets).to_canonical());
            }
        }
        (libc::SOL_IP, libc::IP_TOS) => told.mark = data.first().copied().unwrap_or(0),
        (libc::SOL_IPV6, libc::IPV6_TCLASS) => told.mark = native_int(data).to_le_bytes()[0],
        (libc::SOL_UDP, libc::UDP_GRO) => {
            let part = u16::try_from(native_int(data)).ok().filter(|&part| part > 0);
            told.part = part.filter(|&part| usize::from(part) < told.length);
        }
        // A count of 32 bits that goes round: read as signed it would stand still for half of its way.
        (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
            told.lost_so_far = data.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
        }
        _ => {}
    });
    told
}

fn native_int(data: &[u8]) -> i32 {
    data.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

/// Calls `see` with level, kind and data of each control message.
#[allow(unsafe_code)]
pub(super) fn each_control(header: &libc::msghdr, mut see: impl FnMut(i32, i32, &[u8])) {
    // SAFETY: the header is one the kernel has just filled: its control block is valid for the length it gives, and the
    // CMSG macros stay within it.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = next.as_ref() {
            let length = control.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
            let data = std::slice::from_raw_parts(libc::CMSG_DATA(control), length);
            see(control.cmsg_level, control.cmsg_type, data);
            next = libc::CMSG_NXTHDR(header, control);
        }
    }
}

/// Writes the control messages of one datagram; tells their length.
fn write_control(control: &mut Control, message: &Outgoing) -> usize {
    let mut length = 0;
    match message.from {
        // struct in_pktinfo: any interface, this source, no destination.
        Some(IpAddr::V4(ip)) => {
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&ip.octets());
            put(control, &mut length, libc::SOL_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(ip)) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&ip.octets());
            put(control, &mut length, libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    if message.mark != 0 {
        // Each family takes its own and passes over the other's; an IPv6 socket that sends to IPv4 wants the latter.
        let mark = i32::from(message.mark).to_ne_bytes();
        put(control, &mut length, libc::SOL_IP, libc::IP_TOS, &mark);
        put(control, &mut length, libc::SOL_IPV6, libc::IPV6_TCLASS, &mark);
    }
    if let Some(part) = message.part {
        put(control, &mut length, libc::SOL_UDP, libc::UDP_SEGMENT, &part.to_ne_bytes());
    }
    length
}

/// Appends one control message: header, data, padding to the alignment of the next.
#[allow(unsafe_code)]
fn put(control: &mut Control, length: &mut usize, level: i32, kind: i32, data: &[u8]) {
    // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
    let (own, space) = unsafe {
        let data_length = data.len() as libc::c_uint;
        (libc::CMSG_LEN(data_length) as usize, libc::CMSG_SPACE(data_length) as usize)
    };
    let place = &mut control.0[*length..*length + space];
    place[..8].copy_from_slice(&own.to_ne_bytes());
    place[8..12].copy_from_slice(&level.to_ne_bytes());
    place[12..16].copy_from_slice(&kind.to_ne_bytes());
    place[16..16 + data.len()].copy_from_slice(data);
    *length += space;
}

#[allow(unsafe_code)]
pub(super) fn read_name(name: &libc::sockaddr_storage) -> SocketAddr {
    let address = match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a sockaddr_in, which the storage is large and aligned enough for.
            let v4 = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the kernel wrote a sockaddr_in6, as above.
            let v6 = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            // The scope is part of a link-local peer's identity.
            SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id))
        }
        _ => SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
    };
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => super::tcp::canonical(address),
        other => other,
    }
}

#[allow(unsafe_code)]
fn write_name(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large and aligned enough for a sockaddr_in; all its bytes are valid for it.
            let raw = unsafe { &mut *ptr::from_mut(name).cast::<libc::sockaddr_in>() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            raw.sin_zero = [0; 8];
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above, for a sockaddr_in6.
            let raw = unsafe { &mut *ptr::from_mut(name).cast::<libc::sockaddr_in6>() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_flowinfo = 0;
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// The largest datagram there is, and what the kernel merges at most.
pub const SLOT_BYTES: usize = 65_536;
/// pktinfo, mark, part size and overflow count with their headers need 120.
const CONTROL_BYTES: usize = 160;
const _: () = assert!(mem::size_of::<libc::cmsghdr>() == 16);

#[cfg(test)]
#[path = "udp_batch_tests.rs"]
mod tests;
