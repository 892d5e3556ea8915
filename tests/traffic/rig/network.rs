//! Networks of a test's own, and errors (ICMP) as other hosts send them. Both take root; without it a test says so and is left out.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use socket2::{Domain, Protocol, Socket, Type};

/// This thread, and those that it starts from now on, get a network of their own, with this done in it: one command of
/// `sh` a line. False, and a word why: not here.
pub fn enter_network(commands: &str) -> bool {
    // SAFETY: a network namespace holds no memory and no files of other threads.
    #[allow(unsafe_code)]
    if let Err(errno) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
        eprintln!("skipped: a network of one's own takes root ({errno})");
        return false;
    }
    configure("ip link set lo up");
    configure(commands);
    true
}

/// Changes the network this thread is in.
pub fn configure(commands: &str) {
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A host that sends "destination unreachable".
pub struct Offender(Socket);

impl Offender {
    /// At this address. `None`, and a word why: not here.
    pub fn at(ip: &str) -> Option<Self> {
        let ip: Ipv4Addr = ip.parse().unwrap();
        match Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)) {
            Ok(socket) => {
                socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
                Some(Self(socket))
            }
            Err(error) => {
                eprintln!("skipped: to send ICMP takes root ({error})");
                None
            }
        }
    }

    /// Says of a datagram from one to the other that it did not arrive, with this code.
    pub fn refuse(&self, from: SocketAddr, to: SocketAddr, code: u8) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv4 alone") };
        let message = unreachable(from, to, code);
        self.0.send_to(&message, &SocketAddr::from((*from.ip(), 0)).into()).unwrap();
    }
}

/// ICMP: type 3, the code, and the head of the datagram it is about (IPv4, UDP).
fn unreachable(from: SocketAddrV4, to: SocketAddrV4, code: u8) -> Vec<u8> {
    let mut message = vec![3, code, 0, 0, 0, 0, 0, 0];
    message.extend([0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    message.extend(from.ip().octets());
    message.extend(to.ip().octets());
    message.extend(from.port().to_be_bytes());
    message.extend(to.port().to_be_bytes());
    message.extend([0, 8, 0, 0]);
    let sum: u32 = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).unwrap();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}
