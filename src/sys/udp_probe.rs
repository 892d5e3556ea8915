//! UDP offload probe (GSO, GRO): what this kernel does with several datagrams at once, found out by doing it: two
//! sockets of our own on the loopback address, a datagram of two segments from one to the other.
//!
//! That an option can be set tells little: kernels take UDP_SEGMENT that then fail each send. Nothing is left behind.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::udp::{self, Foreign};
use super::udp_batch::{Batch, Outgoing};
use super::{Errno, tcp};

/// What works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// UDP_GRO: several datagrams of one sender are received as one.
    pub merging: Result<(), Lack>,
    /// UDP_SEGMENT: what came as one is sent as one, and the kernel makes several of it.
    pub splitting: Result<(), Lack>,
}

/// Why something does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// It could not be tried.
    Untried(Errno),
    /// The kernel says no.
    Refused(Errno),
    /// Something else came out than went in.
    Wrong,
}

impl fmt::Display for Lack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untried(errno) => {
                write!(
                    out,
                    "it could not be tried over the loopback address: {}",
                    std::io::Error::from(*errno)
                )
            }
            Self::Refused(errno) => write!(out, "{}", std::io::Error::from(*errno)),
            Self::Wrong => out.write_str("a trial over the loopback address came out wrong"),
        }
    }
}

/// Tries both.
pub fn probe() -> Offloads {
    match pair(Ipv4Addr::LOCALHOST.into()).or_else(|_| pair(Ipv6Addr::LOCALHOST.into())) {
        Ok((sender, receiver)) => probe_between(sender.as_fd(), receiver.as_fd()),
        Err(errno) => Offloads { merging: Err(Lack::Untried(errno)), splitting: Err(Lack::Untried(errno)) },
    }
}

/// Tries both between these two: what `sender` sends comes to `receiver`, which does not merge yet.
pub fn probe_between(sender: BorrowedFd<'_>, receiver: BorrowedFd<'_>) -> Offloads {
    let mut seed = Batch::new(1);
    let splitting = plant(&mut seed, sender, receiver)
        .and_then(|()| send_parts(&mut seed, sender))
        .and_then(|()| arrives(receiver));
    let merging = udp::merge_received(receiver).map_err(Lack::Refused).and_then(|()| {
        if splitting.is_err() {
            // Without parts nothing can be merged here; a network card may still do it.
            return Ok(());
        }
        send_parts(&mut seed, sender).and_then(|()| arrives(receiver))
    });
    Offloads { merging, splitting }
}

fn pair(ip: IpAddr) -> Result<(OwnedFd, OwnedFd), Errno> {
    let receiver = udp::bind_door(Some(ip), 0, false)?;
    let to = tcp::local_address(receiver.as_fd()).ok_or(Errno::ADDRNOTAVAIL)?;
    Ok((udp::connect_from(SocketAddr::new(ip, 0), to, Foreign::No)?, receiver))
}

/// Puts both parts into the first slot, the only way there is: they are received.
fn plant(seed: &mut Batch, sender: BorrowedFd<'_>, receiver: BorrowedFd<'_>) -> Result<(), Lack> {
    let parts: [u8; 2 * PART] = std::array::from_fn(|place| (place % 251).to_le_bytes()[0]);
    tcp::send(sender, &parts).map_err(Lack::Untried)?;
    receive(seed, receiver)?;
    if seed.received().len() == 1 && seed.bytes(0) == parts { Ok(()) } else { Err(Lack::Wrong) }
}

fn send_parts(seed: &mut Batch, sender: BorrowedFd<'_>) -> Result<(), Lack> {
    let part = u16::try_from(PART).ok();
    let whole = Outgoing { slot: 0, start: 0, length: 2 * PART, to: None, from: None, part, mark: 0 };
    seed.send(sender, &[whole]).map(drop).map_err(Lack::Refused)
}

/// Both parts come, in order: one by one, or merged and saying so. Which of the two is the affair of the device.
fn arrives(receiver: BorrowedFd<'_>) -> Result<(), Lack> {
    let (mut batch, mut place) = (Batch::new(2), 0);
    for slot in 0..2 {
        if batch.received().len() == slot {
            receive(&mut batch, receiver)?;
        }
        let told = batch.received()[slot];
        let is_right =
            told.length == PART || told.length == 2 * PART && told.part.map(usize::from) == Some(PART);
        let expected = (place..place + told.length).map(|place| (place % 251).to_le_bytes()[0]);
        if !is_right || !batch.bytes(slot).iter().copied().eq(expected) {
            return Err(Lack::Wrong);
        }
        place += told.length;
        if place == 2 * PART {
            return Ok(());
        }
    }
    Err(Lack::Wrong)
}

/// Waits for at least one more.
fn receive(batch: &mut Batch, receiver: BorrowedFd<'_>) -> Result<(), Lack> {
    let patience = Timespec { tv_sec: PATIENCE_S, tv_nsec: 0 };
    let ready = retry_on_intr(|| poll(&mut [PollFd::new(&receiver, PollFlags::IN)], Some(&patience)));
    match ready {
        // A rule of a firewall, most likely.
        Ok(0) => Err(Lack::Untried(Errno::TIMEDOUT)),
        Ok(_) => batch.receive(receiver, batch.room()).map(drop).map_err(Lack::Untried),
        Err(errno) => Err(Lack::Untried(errno)),
    }
}

/// Fits into any path.
const PART: usize = 500;
/// Loopback delivers before the send returns, or when a busy kernel comes to it.
const PATIENCE_S: i64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> (OwnedFd, OwnedFd) {
        pair(Ipv4Addr::LOCALHOST.into()).unwrap()
    }

    #[test]
    fn both_work_here() {
        // Every kernel that is still maintained has both.
        assert_eq!(probe(), Offloads { merging: Ok(()), splitting: Ok(()) });
        let (sender, receiver) = pair(Ipv6Addr::LOCALHOST.into()).unwrap();
        assert_eq!(probe_between(sender.as_fd(), receiver.as_fd()).splitting, Ok(()));
    }

    #[test]
    fn a_kernel_that_fails_to_send_parts_is_found_out() {
        let (sender, receiver) = sockets();
        // The kernel takes parts only where it can sum them, and here it was told not to.
        udp::set(sender.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
        let found = probe_between(sender.as_fd(), receiver.as_fd());
        assert_eq!(found, Offloads { merging: Ok(()), splitting: Err(Lack::Refused(Errno::INVAL)) });
        assert!(found.splitting.unwrap_err().to_string().contains("Invalid argument"));
    }

    #[test]
    fn a_kernel_that_does_not_merge_is_found_out() {
        let (sender, _receiver) = sockets();
        let stream = tcp::bind_door(Some(Ipv4Addr::LOCALHOST.into()), 0, false).unwrap();
        // A stream knows no UDP_GRO, as an old kernel does not.
        let found = probe_between(sender.as_fd(), stream.as_fd());
        assert_eq!(found.merging, Err(Lack::Refused(Errno::NOPROTOOPT)));
    }

    #[test]
    fn a_network_that_carries_nothing_is_told() {
        // What is sent goes to another than the one that waits for it.
        let ((sender, _elsewhere), (_, silent)) = (sockets(), sockets());
        let found = probe_between(sender.as_fd(), silent.as_fd());
        assert_eq!(found.splitting, Err(Lack::Untried(Errno::TIMEDOUT)));
    }
}
