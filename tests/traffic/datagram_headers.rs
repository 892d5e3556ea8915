//! PROXY headers of UDP: in front of the first datagram that a backend gets of a flow, and taken off those of listed peers.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use evenkeel::metrics::{Direction, Drop as Dropped};
use evenkeel::proxy_protocol::{Addresses, Carried, Header, Transport, decode_datagram, encode_v2};
use evenkeel::reason::Reason;
use evenkeel::sys::udp_batch::{Batch, Outgoing};

use crate::rig::*;

fn backend() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn balancer(backends: &[&UdpSocket], more: &str) -> Balancer {
    let backends: Vec<String> =
        backends.iter().map(|socket| format!("'{}'", socket.local_addr().unwrap())).collect();
    Balancer::start(&format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners:\n  door:\n    bind: '127.0.0.1:53'\n    protocol: udp\n    balance: first\n    backends: [{}]\n{more}",
        backends.join(", ")
    ))
}

fn client(balancer: &Balancer) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(balancer.address()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// The next datagram a backend gets.
fn next(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut datagram).unwrap();
    datagram.truncate(length);
    // Answered, so that the flow is known to be there.
    socket.send_to(b"answer", from).unwrap();
    datagram
}

/// Sends datagrams of `part` bytes as one (UDP_SEGMENT): over loopback they stay one.
fn send_merged(socket: &UdpSocket, bytes: &[u8], part: u16) {
    let (from, to) = (backend(), backend());
    from.send_to(bytes, to.local_addr().unwrap()).unwrap();
    let mut batch = Batch::new(1);
    assert_eq!(batch.receive(to.as_fd(), 1), Ok(1));
    let part = Some(part);
    let whole = Outgoing { slot: 0, start: 0, length: bytes.len(), to: None, from: None, part, mark: 0 };
    assert_eq!(batch.send(socket.as_fd(), &[whole]), Ok(1));
}

fn hear(socket: &UdpSocket) {
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"answer");
}

#[track_caller]
fn header_of(datagram: &[u8]) -> Header<'_> {
    decode_datagram(datagram).unwrap().unwrap_or_else(|| panic!("no header: {datagram:?}"))
}

fn dropped(balancer: &Balancer, why: Dropped) -> u64 {
    balancer.counters().shards.sum(|shard| shard.dropped(why).value())
}

fn both() -> Addresses {
    Addresses::new("192.0.2.7:50000".parse().unwrap(), "198.51.100.1:53".parse().unwrap())
}

fn with_header(addresses: Option<&Addresses>, payload: &[u8]) -> Vec<u8> {
    [&encode_v2(addresses, Transport::Datagram, &[0x05, 0, 1, b'i'])[..], payload].concat()
}

#[test]
fn the_first_datagram_of_a_flow_has_a_header_and_no_other() {
    let backend = backend();
    let balancer = balancer(&[&backend], "    send_proxy: v2\n");
    for first in [&b"first"[..], b""] {
        let client = client(&balancer);
        client.send(first).unwrap();
        let datagram = next(&backend);
        let header = header_of(&datagram);
        let expected = Addresses::new(client.local_addr().unwrap(), balancer.address());
        assert_eq!(header.carried, Carried::Proxy(expected));
        assert_eq!(&datagram[header.length..], first);
        hear(&client);
        for later in [&b"second"[..], b"", b"third"] {
            client.send(later).unwrap();
            assert_eq!(next(&backend), later);
            hear(&client);
        }
    }
    becomes("bytes without headers", 5 + 2 * 11, || balancer.bytes(Direction::ToBackend));
}

#[test]
fn a_burst_that_begins_a_flow_has_one_header_and_keeps_its_order() {
    let backend = backend();
    let balancer = balancer(&[&backend], "    send_proxy: v2\n");
    for round in 0..20_u8 {
        let client = client(&balancer);
        let burst: Vec<Vec<u8>> = (0..20).map(|number| vec![number ^ round; 1_000]).collect();
        // By itself each, or all in one piece as the kernel hands them over then.
        if round % 2 == 0 {
            for datagram in &burst {
                client.send(datagram).unwrap();
            }
        } else {
            send_merged(&client, &burst.concat(), 1_000);
        }
        let first = next(&backend);
        assert_eq!(first[header_of(&first).length..], burst[0]);
        for datagram in &burst[1..] {
            assert_eq!(next(&backend), *datagram);
        }
    }
}

#[test]
fn a_backend_that_takes_over_gets_the_header_too() {
    let (first, second) = (backend(), backend());
    let balancer = balancer(&[&first, &second], "    send_proxy: v2\n");
    let client = client(&balancer);
    client.send(b"1").unwrap();
    assert_eq!(
        header_of(&next(&first)).carried,
        header_of(&with_header(Some(&Addresses::new(client.local_addr().unwrap(), balancer.address())), b""))
            .carried
    );
    hear(&client);
    drop(first);
    // The refusal of one datagram moves the flow; how many are lost meanwhile is the kernel's affair.
    second.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    let mut came = vec![0; 100];
    let mut length = 0;
    eventually("the flow has moved", || {
        client.send(b"2").unwrap();
        length = second.recv(&mut came).unwrap_or(0);
        length > 0
    });
    let header = header_of(&came[..length]);
    assert_eq!(came[header.length..length], *b"2");
    let Carried::Proxy(told) = header.carried else { panic!("{header:?}") };
    assert_eq!(told.source, client.local_addr().unwrap());
}

#[test]
fn a_datagram_that_is_too_large_with_its_header_is_dropped_and_the_next_has_it() {
    let backend = backend();
    let balancer = balancer(&[&backend], "    send_proxy: v2\n");
    let client = client(&balancer);
    client.send(&vec![1; 65_507]).unwrap();
    becomes("dropped", 1, || dropped(&balancer, Dropped::ToBackend));
    client.send(b"small").unwrap();
    let datagram = next(&backend);
    assert_eq!(&datagram[header_of(&datagram).length..], b"small");
    hear(&client);
    client.send(&vec![1; 65_507]).unwrap();
    assert_eq!(next(&backend).len(), 65_507, "without a header it fits");
}

#[test]
fn headers_of_listed_peers_are_taken_off_and_answers_go_to_the_peer() {
    let backend = backend();
    let balancer = balancer(&[&backend], "    accept_proxy: 127.0.0.0/8\n");
    let proxy = client(&balancer);
    for payload in [&b"first"[..], b"", b"third"] {
        // Each may have one; none need.
        proxy.send(&with_header(Some(&both()), payload)).unwrap();
        assert_eq!(next(&backend), payload);
        hear(&proxy);
        proxy.send(payload).unwrap();
        assert_eq!(next(&backend), payload);
        hear(&proxy);
    }
    proxy.send(&with_header(None, b"local")).unwrap();
    assert_eq!(next(&backend), b"local");
    // v1 has no form for datagrams: plain bytes.
    proxy.send(b"PROXY UNKNOWN\r\n").unwrap();
    assert_eq!(next(&backend), b"PROXY UNKNOWN\r\n");
    assert_eq!(balancer.active(), 1);
    becomes("bytes", 2 * 10 + 5 + 15, || balancer.bytes(Direction::ToBackend));
}

#[test]
fn each_datagram_of_a_burst_may_have_its_header() {
    let backend = backend();
    let balancer = balancer(&[&backend], "    accept_proxy: 127.0.0.1\n");
    let proxy = client(&balancer);
    let datagrams: Vec<Vec<u8>> = (0..10).map(|number| with_header(Some(&both()), &[number; 500])).collect();
    send_merged(&proxy, &datagrams.concat(), u16::try_from(datagrams[0].len()).unwrap());
    for number in 0..10 {
        assert_eq!(next(&backend), [number; 500]);
    }
}

#[test]
fn broken_headers_are_dropped_and_counted() {
    let backend = backend();
    let balancer = balancer(&[&backend], "    accept_proxy: 127.0.0.1\n");
    let proxy = client(&balancer);
    let whole = with_header(Some(&both()), b"payload");
    let mut wrong_checksum = whole.clone();
    wrong_checksum[20] ^= 1;
    let mut too_long = whole.clone();
    too_long[14..16].copy_from_slice(&[0xff, 0xff]);
    let mut too_short = whole.clone();
    too_short[14..16].copy_from_slice(&[0, 11]);
    for broken in [&whole[..12], &whole[..20], &wrong_checksum, &too_long, &too_short] {
        proxy.send(broken).unwrap();
    }
    becomes("dropped", 5, || dropped(&balancer, Dropped::BadProxyHeader));
    assert_eq!(balancer.begun(), 0, "no flow begins so");
    proxy.send(&whole).unwrap();
    assert_eq!(next(&backend), b"payload");
    proxy.send(&wrong_checksum).unwrap();
    becomes("dropped", 6, || dropped(&balancer, Dropped::BadProxyHeader));
    assert_eq!(balancer.ended(Reason::BadProxyHeader), 0, "datagrams are counted, not sessions");
}

#[test]
fn a_header_of_a_peer_that_is_not_listed_is_payload() {
    let backend = backend();
    let balancer = balancer(&[&backend], "    accept_proxy: 192.0.2.0/24\n");
    let stranger = client(&balancer);
    let datagram = with_header(Some(&both()), b"payload");
    for datagram in [&datagram[..], &datagram[..14]] {
        stranger.send(datagram).unwrap();
        assert_eq!(next(&backend), datagram);
    }
}

#[test]
fn what_came_with_a_header_goes_on_with_it() {
    let backend = backend();
    let balancer = balancer(&[&backend], "    accept_proxy: 127.0.0.1\n    send_proxy: v2\n");
    let proxy = client(&balancer);
    proxy.send(&with_header(Some(&both()), b"payload")).unwrap();
    let datagram = next(&backend);
    let header = header_of(&datagram);
    assert_eq!((header.carried, &header.tlvs[..4]), (Carried::Proxy(both()), &[0x05, 0, 1, b'i'][..]));
    assert_eq!(&datagram[header.length..], b"payload");
    let other = client(&balancer);
    other.send(&with_header(None, b"mine")).unwrap();
    let datagram = next(&backend);
    assert_eq!(header_of(&datagram).carried, Carried::Local);
}

#[test]
fn the_client_in_the_header_is_the_source_that_is_counted_and_hashed() {
    let backends = [backend(), backend(), backend(), backend()];
    let list: Vec<String> =
        backends.iter().map(|socket| format!("'{}'", socket.local_addr().unwrap())).collect();
    let balancer = Balancer::start(&format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:53', protocol: udp, accept_proxy: 127.0.0.1, balance: source_hash, limits: {{ sessions_per_source: 1 }}, backends: [{}] }} }}",
        list.join(", ")
    ));
    let from = |number: u8| {
        let mut both = both();
        both.source.set_ip([192, 0, 2, number].into());
        let proxy = client(&balancer);
        proxy.send(&with_header(Some(&both), b"x")).unwrap();
        proxy
    };
    let _flows: Vec<UdpSocket> = (0..40).map(from).collect();
    becomes("flows", 40, || balancer.begun());
    let had: Vec<u64> =
        (0..4).map(|at| balancer.backend(at, |backend| backend.load.active()).into()).collect();
    assert!(
        had.iter().filter(|flows| **flows > 0).count() > 1,
        "all flows of one peer at one backend: {had:?}"
    );
    // The second of the same client, from whatever peer.
    let _one_more = from(7);
    becomes("shed", 1, || dropped(&balancer, Dropped::LimitSessionsPerSource));
}

#[test]
fn checks_over_udp_have_a_local_header_in_front() {
    let backend = backend();
    let balancer = balancer(
        &[&backend],
        "    send_proxy: v2\n    health: { check: { udp: { send: ping, expect: answer } }, interval: 100ms }\n",
    );
    for _ in 0..3 {
        let datagram = next(&backend);
        let header = header_of(&datagram);
        assert_eq!((header.carried, &datagram[header.length..]), (Carried::Local, &b"ping"[..]));
    }
    eventually("it is good", || balancer.backend(0, |backend| backend.checks.good.value()) >= 2);
}

#[test]
fn a_door_that_begins_to_take_headers_stops_merging() {
    let port = backend().local_addr().unwrap().port();
    let backend = backend();
    let file = |more: &str| {
        format!(
            "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:{port}', protocol: udp, {more} backends: ['{}'] }} }}",
            backend.local_addr().unwrap()
        )
    };
    let balancer = Balancer::start(&file(""));
    balancer.reload(&file("accept_proxy: 127.0.0.1,")).unwrap();
    eventually("the new file holds", || {
        let probe = client(&balancer);
        probe.send(&with_header(Some(&both()), b"probe")).unwrap();
        next(&backend) == b"probe"
    });
    let proxy = client(&balancer);
    let datagrams: Vec<Vec<u8>> = (0..10).map(|number| with_header(Some(&both()), &[number; 500])).collect();
    send_merged(&proxy, &datagrams.concat(), u16::try_from(datagrams[0].len()).unwrap());
    for number in 0..10 {
        assert_eq!(next(&backend), [number; 500]);
    }
}

#[test]
fn the_peer_of_a_flow_is_judged_by_deny_and_its_client_by_everything() {
    for (lists, header, passes) in [
        ("allow: [192.0.2.0/24],", Some(Some(both())), true),
        ("allow: [192.0.2.0/24],", Some(None), true),
        ("allow: [192.0.2.0/24],", None, false),
        ("deny: [192.0.2.0/24],", Some(Some(both())), false),
        ("deny: [192.0.2.0/24],", Some(None), true),
        ("allow: [192.0.2.0/24], deny: [127.0.0.0/8],", Some(Some(both())), false),
    ] {
        let backend = backend();
        let balancer = Balancer::start(&format!(
            "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:53', protocol: udp, accept_proxy: 127.0.0.1, {lists} backends: ['{}'] }} }}",
            backend.local_addr().unwrap()
        ));
        let datagram = match &header {
            Some(header) => with_header(header.as_ref(), b"x"),
            None => b"x".to_vec(),
        };
        client(&balancer).send(&datagram).unwrap();
        if passes {
            assert_eq!(next(&backend), b"x", "{lists} {header:?}");
        } else {
            becomes("denied", 1, || dropped(&balancer, Dropped::Denied));
        }
    }
}
