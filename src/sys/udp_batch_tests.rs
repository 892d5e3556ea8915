//! Batches over real sockets on loopback.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

use super::*;
use crate::sys::udp::Foreign;
use crate::sys::{tcp, udp};

fn door(ip: Option<IpAddr>) -> (OwnedFd, u16) {
    let fd = udp::bind_door(ip, 0, false).unwrap();
    let port = tcp::local_address(fd.as_fd()).unwrap().port();
    (fd, port)
}

fn until_received(batch: &mut Batch, fd: &OwnedFd, count: usize) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while batch.received().len() < count {
        match batch.receive(fd.as_fd(), count) {
            Ok(_) | Err(Errno::AGAIN) => assert!(std::time::Instant::now() < deadline, "nothing came"),
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// All of the first slot, to the peer of a connected socket.
fn whole(batch: &Batch) -> Outgoing {
    let length = batch.received()[0].length;
    Outgoing { slot: 0, start: 0, length, to: None, from: None, part: None, mark: 0 }
}

#[test]
fn every_size_passes_whole_there_and_back() {
    let (door, port) = door(Some(Ipv4Addr::LOCALHOST.into()));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let mut batch = Batch::new(4);
    for size in [0, 1, 1_200, 1_472, 1_473, 9_000, 65_507] {
        let datagram: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        client.send_to(&datagram, (Ipv4Addr::LOCALHOST, port)).unwrap();
        until_received(&mut batch, &door, 1);
        let told = batch.received()[0];
        assert_eq!(told.from, client.local_addr().unwrap());
        assert_eq!(told.to, None, "a door of one address need not say so");
        assert!(!told.cut && told.part.is_none());
        assert_eq!(batch.bytes(0), datagram);
        let back = Outgoing { to: Some(told.from), from: told.to, ..whole(&batch) };
        assert_eq!(batch.send(door.as_fd(), &[back]), Ok(1));
        let mut answer = vec![0; 70_000];
        assert_eq!(client.recv(&mut answer).unwrap(), size);
        assert_eq!(&answer[..size], &datagram[..]);
        batch.clear();
    }
}

#[test]
fn an_answer_leaves_from_the_address_the_client_sent_to() {
    let (door, port) = door(None);
    let mut batch = Batch::new(4);
    for ours in ["127.0.0.7", "127.0.0.8", "::1"] {
        let ours: IpAddr = ours.parse().unwrap();
        let client = match ours {
            IpAddr::V4(_) => UdpSocket::bind("127.0.0.1:0").unwrap(),
            // A host without IPv6 has nothing to show here.
            IpAddr::V6(_) => match UdpSocket::bind("[::1]:0") {
                Ok(client) => client,
                Err(_) => continue,
            },
        };
        client.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        client.send_to(b"hello", (ours, port)).unwrap();
        until_received(&mut batch, &door, 1);
        let told = batch.received()[0];
        assert_eq!((told.to, told.from), (Some(ours), client.local_addr().unwrap()));
        let to = mapped_for_wildcard(told.from);
        let from = told.to.map(|ip| mapped_for_wildcard(SocketAddr::new(ip, 0)).ip());
        let back = Outgoing { to: Some(to), from, ..whole(&batch) };
        assert_eq!(batch.send(door.as_fd(), &[back]), Ok(1));
        let mut answer = [0; 16];
        let (length, from) = client.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..length], from), (&b"hello"[..], SocketAddr::new(ours, port)));
        batch.clear();
    }
}

fn mapped_for_wildcard(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[test]
fn merged_datagrams_come_and_go_as_parts() {
    let (door, port) = door(Some(Ipv4Addr::LOCALHOST.into()));
    udp::merge_received(door.as_fd()).unwrap();
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let sender = udp::connect_from("127.0.0.1:0".parse().unwrap(), to, Foreign::No).unwrap();
    // A slot of 10 parts, made by hand: received as one datagram, sent as many.
    let seed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram: Vec<u8> = (0..12_000).map(|i| (i % 249) as u8).collect();
    seed.send_to(&datagram, to).unwrap();
    let mut batch = Batch::new(16);
    until_received(&mut batch, &door, 1);
    let parts = Outgoing { part: Some(1_200), ..whole(&batch) };
    assert_eq!(batch.send(sender.as_fd(), &[parts]), Ok(1));
    let mut all = Vec::new();
    let mut came = Batch::new(16);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while all.len() < datagram.len() {
        assert!(std::time::Instant::now() < deadline);
        if came.receive(door.as_fd(), 16).is_ok() {
            for slot in 0..came.received().len() {
                let told = came.received()[slot];
                assert!(told.part == Some(1_200) || told.length <= 1_200, "{told:?}");
                all.extend_from_slice(came.bytes(slot));
            }
            came.clear();
        }
    }
    assert_eq!(all, datagram);
}

#[test]
fn the_mark_of_a_datagram_is_seen_and_carried() {
    let (door, port) = door(Some(Ipv4Addr::LOCALHOST.into()));
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let seed = UdpSocket::bind("127.0.0.1:0").unwrap();
    seed.send_to(b"x", to).unwrap();
    let mut batch = Batch::new(4);
    until_received(&mut batch, &door, 1);
    let sender = udp::connect_from("127.0.0.1:0".parse().unwrap(), to, Foreign::No).unwrap();
    // DSCP EF, ECN ECT(0).
    let marked = Outgoing { mark: 0xba, ..whole(&batch) };
    assert_eq!(batch.send(sender.as_fd(), &[marked]), Ok(1));
    batch.clear();
    until_received(&mut batch, &door, 1);
    assert_eq!(batch.received()[0].mark, 0xba);
}

#[test]
fn two_sockets_share_a_port_towards_different_peers_and_a_refusal_shows() {
    let peers: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let first =
        udp::connect_from("127.0.0.1:0".parse().unwrap(), peers[0].local_addr().unwrap(), Foreign::No)
            .unwrap();
    let local = tcp::local_address(first.as_fd()).unwrap();
    let second = udp::connect_beside(local, peers[1].local_addr().unwrap(), Foreign::No).unwrap();
    for (peer, word) in peers.iter().zip([b"1", b"2"]) {
        peer.send_to(word, local).unwrap();
    }
    let mut batch = Batch::new(4);
    for (socket, word) in [(&first, b"1"), (&second, b"2")] {
        until_received(&mut batch, socket, 1);
        assert_eq!(batch.bytes(0), word);
        batch.clear();
    }
    let gone = peers[0].local_addr().unwrap();
    peers.into_iter().for_each(drop);
    let socket = udp::connect_from("127.0.0.1:0".parse().unwrap(), gone, Foreign::No).unwrap();
    net_send(&socket);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match batch.receive(socket.as_fd(), 1) {
            Err(Errno::CONNREFUSED) => break,
            Err(Errno::AGAIN) => assert!(std::time::Instant::now() < deadline, "no refusal came"),
            other => panic!("{other:?}"),
        }
    }
}

fn net_send(fd: &OwnedFd) {
    tcp::send(fd.as_fd(), b"x").unwrap();
}

#[test]
fn what_the_kernel_dropped_is_told_beyond_two_thousand_million_too() {
    let mut batch = Batch::new(1);
    batch.prepare(1);
    let mut control = Control([0; CONTROL_BYTES]);
    let mut length = 0;
    let lost = 0x8000_0001_u32;
    put(&mut control, &mut length, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &lost.to_ne_bytes());
    let mut message = batch.headers[0];
    message.msg_hdr.msg_control = (&raw mut control).cast();
    message.msg_hdr.msg_controllen = length;
    assert_eq!(read_message(&message, &batch.names[0]).lost_so_far, Some(lost));
}
