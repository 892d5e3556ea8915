//! Local ports towards backends: nobody else has them, nobody can foresee them, and they come back.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use evenkeel::metrics::Drop as Dropped;
use rustix::process::Uid;
use socket2::{Domain, Socket, Type};

use super::datagrams::{Answering, ask, client, hear};
use crate::rig::*;

fn balancer(workers: usize, backends: &[SocketAddr], more: &str) -> Balancer {
    let backends: Vec<String> = backends.iter().map(|backend| format!("'{backend}'")).collect();
    Balancer::start(&format!(
        "workers: {workers}\nshutdown: {{ grace: 0s }}\nlisteners:\n  door:\n    bind: 53\n    protocol: udp\n    \
         limits: {{ sessions_per_source: off }}\n    backends: [{}]\n{more}",
        backends.join(", ")
    ))
}

/// A backend that tells from where it was asked.
fn telling() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn asked_from(backend: &UdpSocket) -> SocketAddr {
    backend.recv_from(&mut [0; 64]).unwrap().1
}

#[test]
fn two_balancers_with_a_common_backend_hear_only_their_own_answers() {
    let backend = Answering::start("");
    let balancers = [0, 1].map(|_| balancer(1, &[backend.address], ""));
    let clients: Vec<(String, UdpSocket)> = (0..1_200)
        .map(|number| {
            let of = &balancers[number % 2];
            (format!("{} {number}", number % 2), client(of, "127.0.0.1"))
        })
        .collect();
    let mut wrong = 0;
    for round in 0..2 {
        for some in clients.chunks(50) {
            some.iter().for_each(|(word, client)| assert!(client.send(word.as_bytes()).is_ok()));
            for (word, client) in some {
                client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                let mut answer = [0; 64];
                // A slow machine may lose some; those that go elsewhere do so again and again.
                let heard = (0..10).find_map(|_| {
                    let heard = client.recv(&mut answer).ok();
                    heard.is_none().then(|| client.send(word.as_bytes()).unwrap());
                    heard
                });
                wrong += usize::from(heard.is_none_or(|length| &answer[..length] != word.as_bytes()));
            }
        }
        assert_eq!(wrong, 0, "answers of 1,200 that went to another client or were lost in round {round}");
    }
}

#[test]
fn nobody_else_can_bind_the_port_of_a_flow() {
    let backend = telling();
    let balancer = balancer(1, &[backend.local_addr().unwrap()], "");
    client(&balancer, "127.0.0.1").send(b"?").unwrap();
    let ours = asked_from(&backend);
    let bind = move |at: SocketAddr, address: bool, port: bool| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_address(address).unwrap();
        socket.set_reuse_port(port).unwrap();
        socket.bind(&at.into()).map_err(|error| error.kind())
    };
    let everywhere = SocketAddr::from(([0, 0, 0, 0], ours.port()));
    for at in [ours, everywhere] {
        assert_eq!(bind(at, false, false), Err(std::io::ErrorKind::AddrInUse));
        assert_eq!(bind(at, true, false), Err(std::io::ErrorKind::AddrInUse), "SO_REUSEADDR");
    }
    let stranger = std::thread::spawn(move || {
        if rustix::thread::set_thread_uid(Uid::from_raw(65_534)).is_err() {
            eprintln!("skipped: to be another user takes root");
            return;
        }
        for (address, port) in [(true, false), (false, true), (true, true)] {
            for at in [ours, everywhere] {
                let outcome = bind(at, address, port);
                assert_eq!(outcome, Err(std::io::ErrorKind::AddrInUse), "{at} {address} {port}");
            }
        }
    });
    stranger.join().unwrap();
}

#[test]
fn a_port_serves_one_flow_of_each_backend() {
    // A thread of its own: the network stays with it.
    let here = std::thread::spawn(|| {
        if !enter_network("echo 40000 40009 >/proc/sys/net/ipv4/ip_local_port_range") {
            return;
        }
        let backends = ["a", "b"].map(|name| Answering::start_at(name, "127.0.0.1:0"));
        let balancer = balancer(1, &backends.each_ref().map(|backend| backend.address), "");
        // Clients would take ports of the narrow range.
        let clients: Vec<UdpSocket> = (0..21)
            .map(|number| {
                let client = UdpSocket::bind(("127.0.0.1", 50_000 + number)).unwrap();
                client.connect(("127.0.0.1", balancer.address().port())).unwrap();
                client.set_read_timeout(Some(DEADLINE)).unwrap();
                client
            })
            .collect();
        // The backends and the balancer have bound some of them.
        let mut answered = 0;
        for client in &clients {
            client.send(b"?").unwrap();
            client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            answered += usize::from(client.recv(&mut [0; 8]).is_ok());
        }
        let taken: HashSet<u16> = backends
            .iter()
            .map(|backend| backend.address.port())
            .chain([balancer.address().port()])
            .collect();
        let free = (40_000..=40_009_u16).filter(|port| !taken.contains(port)).count();
        assert_eq!(answered, (2 * free).min(21), "of {free} ports");
        let dropped = balancer.counters().shards.sum(|shard| shard.dropped(Dropped::NoSourcePort).value());
        assert_eq!(dropped, 21 - answered as u64);
    });
    here.join().unwrap();
}

#[test]
fn nobody_can_foresee_the_port_of_the_next_flow() {
    let backend = telling();
    let balancer = balancer(1, &[backend.local_addr().unwrap()], "");
    let clients: Vec<UdpSocket> = (0..60).map(|_| client(&balancer, "127.0.0.1")).collect();
    let ports: Vec<i32> = clients
        .iter()
        .map(|client| {
            client.send(b"?").unwrap();
            asked_from(&backend).port().into()
        })
        .collect();
    let steps: HashSet<i32> = ports.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(steps.len() > 50, "{} steps: {ports:?}", steps.len());
    assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 60);
}

#[test]
fn flows_go_on_and_begin_after_the_hosts_address_has_changed() {
    let here = std::thread::spawn(|| {
        let route = |from| format!("ip route replace local 10.77.1.1 dev lo table local src {from}");
        let first = "ip addr add 10.77.1.1/32 dev lo; ip addr add 10.77.0.1/32 dev lo";
        if !enter_network(&format!("{first}; {}", route("10.77.0.1"))) {
            return;
        }
        let backend = Answering::start_at("", "10.77.1.1:0");
        let balancer = balancer(1, &[backend.address], "");
        let before = client(&balancer, "127.0.0.1");
        assert_eq!(ask(&before, b"before"), b"before");
        configure(&format!(
            "ip addr add 10.77.0.2/32 dev lo; {}; ip addr del 10.77.0.1/32 dev lo",
            route("10.77.0.2")
        ));
        let after = client(&balancer, "127.0.0.1");
        after.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(ask(&after, b"a new one"), b"a new one");
        before.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        before.send(b"an old one").unwrap();
        assert_eq!(hear(&before), b"an old one");
    });
    here.join().unwrap();
}
