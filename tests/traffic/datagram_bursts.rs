//! Bursts as QUIC stacks send them (UDP_SEGMENT) and take them (UDP_GRO), on kernels and paths that carry several datagrams
//! as one and on those that do not; and the marks (DSCP and ECN) of datagrams.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use evenkeel::metrics::Direction;
use evenkeel::sys::udp_batch::{Batch, Outgoing};
use evenkeel::sys::udp_probe::{self, Lack, Offloads};
use evenkeel::sys::{Errno, tcp as socket, udp};

use crate::rig::*;

/// A socket that tells all there is to know of what it receives.
struct Peer {
    fd: OwnedFd,
    address: SocketAddr,
    batch: Batch,
}

/// A datagram, or several that came as one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Came {
    bytes: Vec<u8>,
    from: SocketAddr,
    part: Option<u16>,
    mark: u8,
}

impl Peer {
    fn at(ip: &str) -> Self {
        let ip: IpAddr = ip.parse().unwrap();
        let fd = udp::bind_door(Some(ip), 0, false).unwrap();
        udp::set_receive_buffer(fd.as_fd(), 1 << 20);
        let address = socket::local_address(fd.as_fd()).unwrap();
        Self { fd, address, batch: Batch::new(1) }
    }

    /// Takes several as one from now on.
    fn merging(self) -> Self {
        udp::merge_received(self.fd.as_fd()).unwrap();
        self
    }

    #[track_caller]
    fn next(&mut self) -> Came {
        let deadline = Instant::now() + DEADLINE;
        self.batch.clear();
        while self.batch.received().is_empty() {
            assert!(Instant::now() < deadline, "nothing came");
            match self.batch.receive(self.fd.as_fd(), 1) {
                Ok(_) => {}
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(errno) => panic!("{errno}"),
            }
        }
        let told = self.batch.received()[0];
        Came { bytes: self.batch.bytes(0).to_vec(), from: told.from, part: told.part, mark: told.mark }
    }

    /// The datagrams until so many bytes have come, each by itself, and whether any came merged.
    #[track_caller]
    fn until(&mut self, bytes: usize) -> (Vec<Vec<u8>>, bool, SocketAddr) {
        let (mut datagrams, mut merged, mut length) = (Vec::new(), false, 0);
        loop {
            let came = self.next();
            merged |= came.part.is_some();
            length += came.bytes.len();
            let part = came.part.map_or(came.bytes.len().max(1), usize::from);
            datagrams.extend(came.bytes.chunks(part).map(<[u8]>::to_vec));
            if length >= bytes {
                return (datagrams, merged, came.from);
            }
        }
    }

    fn send(&mut self, bytes: &[u8], part: Option<u16>, mark: u8, to: SocketAddr) {
        // What is sent stands in a slot, and gets there by being received.
        let seed = UdpSocket::bind("127.0.0.1:0").unwrap();
        seed.send_to(bytes, seed.local_addr().unwrap()).unwrap();
        self.batch.clear();
        eventually("it stands there", || self.batch.receive(seed.as_fd(), 1) == Ok(1));
        let to = Some(to);
        let whole = Outgoing { slot: 0, start: 0, length: bytes.len(), to, from: None, part, mark };
        assert_eq!(self.batch.send(self.fd.as_fd(), &[whole]), Ok(1));
    }
}

fn yaml(backend: &Peer) -> String {
    format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: 53, protocol: udp, backends: ['{}'] }} }}",
        backend.address
    )
}

/// `count` datagrams of 1,200 bytes, the last one shorter.
fn burst(count: usize) -> Vec<u8> {
    pattern(1_200 * count - 700)
}

fn datagrams_of(burst: &[u8]) -> Vec<Vec<u8>> {
    burst.chunks(1_200).map(<[u8]>::to_vec).collect()
}

fn carried(balancer: &Balancer, direction: Direction) -> u64 {
    balancer.counters().shards.sum(|shard| shard.datagrams(direction).value())
}

/// Bursts of all lengths there and back. Do they stay merged at the backend and at the client?
fn bursts_through(balancer: &Balancer, client: &mut Peer, backend: &mut Peer) -> (bool, bool) {
    let host = if client.address.is_ipv4() { "127.0.0.1" } else { "::1" };
    let door = SocketAddr::new(host.parse().unwrap(), balancer.address().port());
    let (mut there, mut back, mut total) = (false, false, 0);
    for count in [2, 3, 17, 39, 40] {
        let sent = burst(count);
        client.send(&sent, Some(1_200), 0, door);
        let (datagrams, merged, upstream) = backend.until(sent.len());
        assert_eq!(datagrams, datagrams_of(&sent), "{count} to the backend");
        there |= merged;
        backend.send(&sent, Some(1_200), 0, upstream);
        let (datagrams, merged, _) = client.until(sent.len());
        assert_eq!(datagrams, datagrams_of(&sent), "{count} to the client");
        back |= merged;
        total += count as u64;
    }
    becomes("datagrams to the backend", total, || carried(balancer, Direction::ToBackend));
    becomes("datagrams to the client", total, || carried(balancer, Direction::ToClient));
    (there, back)
}

#[test]
fn bursts_pass_whole_and_in_order_both_ways_and_stay_together() {
    for (client, backend) in
        [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")]
    {
        let (mut client, mut backend) = (Peer::at(client).merging(), Peer::at(backend).merging());
        let balancer = Balancer::start(&yaml(&backend));
        let merged = bursts_through(&balancer, &mut client, &mut backend);
        assert_eq!(merged, (true, true), "{} to {}", client.address, backend.address);
    }
}

#[test]
fn peers_that_do_not_merge_get_each_datagram() {
    let (mut client, mut backend) = (Peer::at("127.0.0.1"), Peer::at("127.0.0.1"));
    let balancer = Balancer::start(&yaml(&backend));
    assert_eq!(bursts_through(&balancer, &mut client, &mut backend), (false, false));
}

#[test]
fn a_kernel_that_lacks_one_or_the_other_carries_the_same_bursts() {
    let lacks = Err(Lack::Refused(Errno::INVAL));
    for offloads in [
        Offloads { merging: Ok(()), splitting: lacks },
        Offloads { merging: lacks, splitting: Ok(()) },
        Offloads { merging: lacks, splitting: lacks },
    ] {
        let (mut client, mut backend) = (Peer::at("127.0.0.1").merging(), Peer::at("127.0.0.1").merging());
        let balancer = Balancer::start_on(settings(&yaml(&backend)), offloads);
        let merged = bursts_through(&balancer, &mut client, &mut backend);
        assert_eq!(merged, (false, false), "{offloads:?}: what it lacks is not used");
    }
}

/// A path with an MTU below the size of the parts takes datagrams of that size, in fragments, and no parts. Needs a network
/// of its own, so it runs this test again inside of one.
#[test]
#[ignore = "needs root, for a network of its own"]
fn a_path_that_takes_no_parts_takes_the_datagrams_one_by_one() {
    const INSIDE: &str = "EVENKEEL_TEST_NARROW";
    if std::env::var_os(INSIDE).is_none() {
        crate::rig::in_a_network_of_its_own(
            module_path!(),
            "a_path_that_takes_no_parts_takes_the_datagrams_one_by_one",
            INSIDE,
        );
        return;
    }
    for words in ["link set lo up", "route add local 127.9.0.0/16 dev lo mtu 1000 table local"] {
        let done = std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(done.success(), "ip {words}");
    }
    // Parts leave towards the narrow backend, and towards the narrow client.
    let (mut client, mut backend) = (Peer::at("127.0.0.1").merging(), Peer::at("127.9.0.1").merging());
    let program = with_log(&backend);
    for count in [2, 17, 40] {
        let sent = burst(count);
        client.send(&sent, Some(1_200), 0, program.address());
        let (datagrams, merged, _) = backend.until(sent.len());
        assert_eq!((datagrams, merged), (datagrams_of(&sent), false), "{count}");
    }
    eventually("it is told", || times_told(&program) == 1);
    let (mut client, mut backend) = (Peer::at("127.9.0.1").merging(), Peer::at("127.0.0.1").merging());
    let program = with_log(&backend);
    client.send(b"?", None, 0, program.address());
    let upstream = backend.next().from;
    for count in [2, 17, 40] {
        let sent = burst(count);
        backend.send(&sent, Some(1_200), 0, upstream);
        let (datagrams, merged, _) = client.until(sent.len());
        assert_eq!((datagrams, merged), (datagrams_of(&sent), false), "{count}");
    }
    eventually("it is told", || times_told(&program) == 1);
}

fn with_log(backend: &Peer) -> Program {
    // Both protocols at the door: that the tcp one answers shows that the program serves.
    Program::start(&format!(
        "workers: 1\nlisteners:\n  ready: {{ bind: '127.0.0.1:PORT', backends: ['{0}'], health: {{ check: off }} }}\n  \
         door: {{ bind: '127.0.0.1:PORT', protocol: udp, backends: ['{0}'] }}",
        backend.address
    ))
}

fn times_told(program: &Program) -> usize {
    program.log().matches("a path does not take several datagrams as one").count()
}

#[test]
fn dscp_and_ecn_go_with_a_datagram_both_ways() {
    assert_eq!(udp_probe::probe().splitting, Ok(()), "the bursts below are bursts");
    for (client, backend) in
        [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")]
    {
        let (mut client, mut backend) = (Peer::at(client).merging(), Peer::at(backend).merging());
        let balancer = Balancer::start(&yaml(&backend));
        let door = SocketAddr::new(client.address.ip(), balancer.address().port());
        // Expedited forwarding with ECT(0), none, ECT(1), CE alone, CE with CS1.
        for mark in [0xba, 0, 0x01, 0x03, 0x23] {
            for (bytes, part) in [(&b"?"[..], None), (&[7; 3_000][..], Some(1_000))] {
                let what = format!("{mark:#x}, {part:?}, {} to {}", client.address, backend.address);
                client.send(bytes, part, mark, door);
                let came = backend.next();
                assert_eq!((came.mark, came.part, &came.bytes[..]), (mark, part, bytes), "{what}");
                backend.send(bytes, part, mark ^ 0x20, came.from);
                let came = client.next();
                assert_eq!(
                    (came.mark, came.part, &came.bytes[..]),
                    (mark ^ 0x20, part, bytes),
                    "back: {what}"
                );
            }
        }
    }
}

#[test]
fn a_pick_after_so_many_requests_is_exact_in_a_burst_too() {
    let mut backends = [Peer::at("127.0.0.1"), Peer::at("127.0.0.1")];
    for requests in [1, 3] {
        let balancer = Balancer::start(&format!(
            "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: 53, protocol: udp, udp: {{ requests: {requests} }}, \
             backends: ['{}', '{}'] }} }}",
            backends[0].address, backends[1].address
        ));
        let mut client = Peer::at("127.0.0.1");
        let burst = burst(24);
        client.send(&burst, Some(1_200), 0, SocketAddr::from(([127, 0, 0, 1], balancer.address().port())));
        becomes("datagrams", 24, || carried(&balancer, Direction::ToBackend));
        let sent = datagrams_of(&burst);
        for (turn, some) in sent.chunks(requests).enumerate() {
            let backend = &mut backends[turn % 2];
            let bytes = some.iter().map(Vec::len).sum();
            let (datagrams, _, _) = backend.until(bytes);
            assert_eq!(datagrams, some, "requests {requests}, turn {turn}");
        }
    }
}
