//! Flows: whole datagrams, from the right address, to the right client, and what ends or moves them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use evenkeel::metrics::Drop as Dropped;
use evenkeel::reason::Reason;

use crate::rig::*;

/// A backend that answers each datagram with its name and the datagram.
pub struct Answering {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    pub fn start(name: &'static str) -> Self {
        Self::start_at(name, "127.0.0.1:0")
    }

    pub fn start_at(name: &'static str, address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                    let answer = [name.as_bytes(), &datagram[..length]].concat();
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// Its port is closed on return: datagrams to it are refused.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop();
    }
}

fn balancer(backends: &[&Answering], more: &str) -> Balancer {
    let backends: Vec<String> = backends.iter().map(|backend| format!("'{}'", backend.address)).collect();
    Balancer::start(&format!(
        "workers: 2\nshutdown: {{ grace: 0s }}\nlisteners:\n  door:\n    bind: 53\n    protocol: udp\n    backends: [{}]\n{more}",
        backends.join(", ")
    ))
}

/// A client of the balancer at one of our addresses.
pub fn client(balancer: &Balancer, host: &str) -> UdpSocket {
    let host: IpAddr = host.parse().unwrap();
    let any = if host.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect((host, balancer.address().port())).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Sends and waits for the answer.
pub fn ask(client: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    client.send(datagram).unwrap();
    hear(client)
}

pub fn hear(client: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 65_536];
    let length = client.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

/// Who answers, asked until somebody does: a datagram that meets a refusal is lost with it.
fn who_answers(client: &UdpSocket) -> String {
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut name = None;
    eventually("an answer", || {
        client.send(b"").unwrap();
        let mut answer = [0; 64];
        name = client
            .recv(&mut answer)
            .ok()
            .map(|length| String::from_utf8_lossy(&answer[..length]).into_owned());
        name.is_some()
    });
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    name.unwrap()
}

fn dropped(balancer: &Balancer, why: Dropped) -> u64 {
    balancer.counters().shards.sum(|shard| shard.dropped(why).value())
}

/// Flows are over, and every place they had is free again.
fn all_given_back(balancer: &Balancer) {
    balancer.settles();
    becomes("places of flows", 0, || balancer.server().workers().udp_permits().taken());
}

#[test]
fn datagrams_of_every_size_pass_whole_over_both_families() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let backend = Answering::start_at("", at);
        let balancer = balancer(&[&backend], "");
        for host in ["127.0.0.1", "::1"] {
            let client = client(&balancer, host);
            for size in [0, 1, 1_200, 1_472, 1_473, 9_000, 65_507] {
                let datagram = pattern(size);
                assert_eq!(ask(&client, &datagram), datagram, "{size} bytes through {host} to {at}");
            }
        }
        assert_eq!(balancer.begun(), 2);
    }
}

#[test]
fn an_answer_leaves_from_the_address_the_client_sent_to() {
    let backend = Answering::start("x");
    let balancer = balancer(&[&backend], "");
    let port = balancer.address().port();
    // Not connected: an answer from anywhere would be taken, and its source is looked at.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    for ours in ["127.0.0.7", "127.0.0.8", "127.0.0.7"] {
        let ours = SocketAddr::new(ours.parse().unwrap(), port);
        socket.send_to(b"?", ours).unwrap();
        let mut answer = [0; 8];
        let (length, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..length], from), (&b"x?"[..], ours));
    }
    assert_eq!(balancer.begun(), 2, "one flow for each address");
}

#[test]
fn many_clients_at_once_hear_only_what_is_theirs_in_order() {
    let backends = ["a", "b", "c"].map(Answering::start);
    let more = "    limits: { sessions_per_source: off }\n";
    let balancer = balancer(&backends.iter().collect::<Vec<_>>(), more);
    let clients: Vec<UdpSocket> = (0..1_000).map(|_| client(&balancer, "127.0.0.1")).collect();
    let mut answered: BTreeMap<u8, usize> = BTreeMap::new();
    for round in 0..5u32 {
        // A few at a time, so that no buffer of this test's own overflows.
        for (first, batch) in clients.chunks(50).enumerate().map(|(chunk, batch)| (chunk * 50, batch)) {
            for (number, client) in batch.iter().enumerate() {
                client.send(format!("{round} {}", first + number).as_bytes()).unwrap();
            }
            for (number, client) in batch.iter().enumerate() {
                let answer = hear(client);
                assert_eq!(answer[1..], *format!("{round} {}", first + number).as_bytes());
                *answered.entry(answer[0]).or_default() += 1;
            }
        }
    }
    assert_eq!(balancer.begun(), 1_000);
    let mut counts: Vec<usize> = answered.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1_665, 1_665, 1_670], "turns, and flows that stay");
}

#[test]
fn silence_ends_a_flow_and_everything_it_had_is_free_again() {
    let backend = Answering::start("x");
    let balancer = balancer(&[&backend], "    timeouts: { idle: 200ms }\n");
    let clients: Vec<UdpSocket> = (0..20).map(|_| client(&balancer, "127.0.0.1")).collect();
    clients.iter().for_each(|client| assert_eq!(ask(client, b"1"), b"x1"));
    balancer.ends(Reason::Idle, 20);
    all_given_back(&balancer);
    // The same clients begin anew.
    clients.iter().for_each(|client| assert_eq!(ask(client, b"2"), b"x2"));
    balancer.ends(Reason::Idle, 40);
    all_given_back(&balancer);
}

#[test]
fn a_flow_ends_when_every_expected_reply_has_come() {
    let backend = Answering::start("x");
    let balancer = balancer(&[&backend], "    udp: { responses: 1 }\n");
    let client = client(&balancer, "127.0.0.1");
    assert_eq!(ask(&client, b"1"), b"x1");
    balancer.ends(Reason::Responses, 1);
    for number in 0..3u8 {
        client.send(&[number]).unwrap();
    }
    let mut heard: Vec<u8> = (0..3).map(|_| hear(&client)[1]).collect();
    heard.sort_unstable();
    assert_eq!(heard, [0, 1, 2]);
    becomes("active flows", 0, || balancer.active());
    all_given_back(&balancer);
}

#[test]
fn requests_bring_a_new_pick() {
    let backends = ["a", "b"].map(Answering::start);
    let balancer = balancer(&backends.iter().collect::<Vec<_>>(), "    udp: { requests: 2 }\n");
    let client = client(&balancer, "127.0.0.1");
    let names: Vec<u8> = (0..8).map(|_| ask(&client, b"")[0]).collect();
    assert_eq!(names, b"aabbaabb");
    assert_eq!(balancer.begun(), 1);
}

#[test]
fn a_full_table_sheds_new_flows_and_keeps_the_old_ones() {
    let backend = Answering::start("x");
    let more = "    limits: { sessions: 10, sessions_per_source: off }\n";
    let balancer = balancer(&[&backend], more);
    let clients: Vec<UdpSocket> = (0..10).map(|_| client(&balancer, "127.0.0.1")).collect();
    clients.iter().for_each(|client| assert_eq!(ask(client, b"1"), b"x1"));
    let late = client(&balancer, "127.0.0.1");
    late.send(b"?").unwrap();
    becomes("shed datagrams", 1, || dropped(&balancer, Dropped::LimitSessions));
    clients.iter().for_each(|client| assert_eq!(ask(client, b"2"), b"x2"));
    assert_eq!(balancer.active(), 10);
}

#[test]
fn one_source_cannot_fill_a_listener() {
    let backend = Answering::start("x");
    let more = "    limits: { sessions: 10, sessions_per_source: 4 }\n";
    let balancer = balancer(&[&backend], more);
    let noisy: Vec<UdpSocket> = (0..8).map(|_| client(&balancer, "127.0.0.1")).collect();
    noisy.iter().for_each(|client| assert_eq!(client.send(b"1").unwrap(), 1));
    becomes("shed datagrams", 4, || dropped(&balancer, Dropped::LimitSessionsPerSource));
    let other = UdpSocket::bind("127.0.0.99:0").unwrap();
    other.connect(("127.0.0.1", balancer.address().port())).unwrap();
    other.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(ask(&other, b"1"), b"x1");
    assert_eq!(balancer.active(), 5);
}

#[test]
fn a_refused_flow_moves_to_another_backend() {
    let mut backends = ["a", "b"].map(Answering::start);
    let balancer = balancer(&backends.iter().collect::<Vec<_>>(), "");
    let client = client(&balancer, "127.0.0.1");
    assert_eq!(ask(&client, b""), b"a");
    backends[0].stop();
    assert_eq!(who_answers(&client), "b");
    let view = Arc::clone(&balancer.server().snapshots().load().pools[0]);
    assert_eq!(view.live.shards.sum(|shard| shard.rehomed.value()), 1);
    assert!(balancer.backend(0, |b| b.shards.sum(|shard| shard.connect_failures.value())) >= 1);
    assert_eq!((balancer.begun(), balancer.active()), (1, 1), "moving is no end");
}

#[test]
fn a_verdict_moves_keeps_or_ends_the_flows_of_a_backend() {
    for (on_down, expected) in [("rehome", "b"), ("keep", "a"), ("close", "b")] {
        let mut backends = ["a", "b"].map(Answering::start);
        // Asked at a port of its own, so that the backend goes on answering while its verdict is down.
        let mut health = Answering::start("ok");
        let second = Answering::start_at("ok", &format!("127.0.0.2:{}", health.address.port()));
        let balancer = Balancer::start(&format!(
            "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners:\n  door:\n    bind: 53\n    protocol: udp\n    backends:\n      \
             - {{ address: '{}', name: a }}\n      - {{ address: '127.0.0.2:{}', name: b }}\n    on_down: {on_down}\n    \
             health: {{ check: {{ udp: {{ send: 'x', expect: 'ok' }} }}, port: {}, interval: 100ms, timeout: 10s, fall: 1 }}\n",
            backends[0].address,
            backends[1].address.port(),
            health.address.port(),
        ));
        backends[1].stop();
        let b = Answering::start_at("b", &format!("127.0.0.2:{}", backends[1].address.port()));
        let client = client(&balancer, "127.0.0.1");
        assert_eq!(ask(&client, b""), b"a");
        health.stop();
        eventually("the verdict", || balancer.backend(0, evenkeel::pool::Backend::is_down));
        if on_down == "close" {
            becomes("ended", 1, || balancer.ended(Reason::BackendDown));
        }
        assert_eq!(ask(&client, b""), expected.as_bytes(), "{on_down}");
        drop((second, b));
    }
}

#[test]
fn a_stranger_is_not_heard() {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    let balancer = Balancer::start(&format!(
        "shutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: 53, protocol: udp, backends: ['{}'] }} }}",
        backend.local_addr().unwrap()
    ));
    let client = client(&balancer, "127.0.0.1");
    client.send(b"hello").unwrap();
    let mut datagram = [0; 16];
    backend.set_read_timeout(Some(DEADLINE)).unwrap();
    let (_, upstream) = backend.recv_from(&mut datagram).unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"lies", upstream).unwrap();
    backend.send_to(b"truth", upstream).unwrap();
    assert_eq!(hear(&client), b"truth");
}

#[test]
fn without_a_backend_a_flow_ends_at_once_and_is_counted() {
    let silent = closed_address();
    let balancer = Balancer::start(&format!(
        "shutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: 53, protocol: udp, backends: [{{ address: '{silent}', weight: 0 }}] }} }}"
    ));
    let client = client(&balancer, "127.0.0.1");
    client.send(b"1").unwrap();
    balancer.ends(Reason::NoBackend, 1);
    assert_eq!(dropped(&balancer, Dropped::NoBackend), 1);
    all_given_back(&balancer);
}
