//! Refusals (ICMP errors) of UDP flows: those of a backend that is gone move its flows and count, those of strangers do
//! nothing, and no datagram of a client is lost to one.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use evenkeel::metrics::{Direction, Drop as Dropped};
use evenkeel::pool;

use super::datagrams::{Answering, ask, client, hear};
use crate::rig::*;

/// Answers "a"; its port can be closed and opened again. It tells from where it was asked.
struct Closing {
    address: SocketAddr,
    socket: Option<UdpSocket>,
}

impl Closing {
    fn start() -> Self {
        let mut closing = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), socket: None };
        closing.open();
        closing
    }

    fn open(&mut self) {
        let socket = UdpSocket::bind(self.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        self.address = socket.local_addr().unwrap();
        self.socket = Some(socket);
    }

    fn close(&mut self) {
        self.socket = None;
    }

    /// Takes a datagram; tells what and from where.
    fn take(&self) -> (Vec<u8>, SocketAddr) {
        let mut bytes = [0; 2_000];
        let (length, from) = self.socket.as_ref().unwrap().recv_from(&mut bytes).unwrap();
        (bytes[..length].to_vec(), from)
    }

    fn answer(&self) -> SocketAddr {
        let (_, from) = self.take();
        self.socket.as_ref().unwrap().send_to(b"a", from).unwrap();
        from
    }
}

fn balancer(backends: &[SocketAddr], more: &str) -> Balancer {
    let backends: Vec<String> = backends.iter().map(|backend| format!("'{backend}'")).collect();
    Balancer::start(&format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners:\n  door:\n    bind: 53\n    protocol: udp\n    \
         backends: [{}]\n    health: {{ check: off }}\n{more}",
        backends.join(", ")
    ))
}

fn rehomed(balancer: &Balancer) -> u64 {
    balancer.server().snapshots().load().pools[0].live.shards.sum(|shard| shard.rehomed.value())
}

fn refusals(balancer: &Balancer) -> u64 {
    balancer.backend(0, |backend| backend.shards.sum(|shard| shard.connect_failures.value()))
}

fn dropped(balancer: &Balancer) -> u64 {
    balancer.counters().shards.sum(|shard| shard.dropped(Dropped::ToBackend).value())
}

#[test]
fn errors_of_a_stranger_move_no_flow_and_eject_nobody() {
    let Some(stranger) = Offender::at("127.0.0.66") else { return };
    let (first, second) = (Closing::start(), Answering::start("b"));
    let balancer = balancer(&[first.address, second.address], "    passive: { failures: 3, eject: 1h }\n");
    let client = client(&balancer, "127.0.0.1");
    let mut sent = 0;
    for round in 0..30 {
        client.send(b"?").unwrap();
        let from = first.answer();
        assert_eq!(hear(&client), b"a", "round {round}");
        // Every port there is, and those that hit again and again.
        if round == 0 {
            for port in 32_768..61_000 {
                stranger.refuse(SocketAddr::new(from.ip(), port), first.address, 3);
                sent += 1;
            }
        }
        for code in [3, 10, 13].repeat(10) {
            stranger.refuse(from, first.address, code);
            sent += 1;
        }
    }
    // Also while an answer is outstanding.
    client.send(b"?").unwrap();
    let (_, from) = first.take();
    for code in [3, 10, 13].repeat(10) {
        stranger.refuse(from, first.address, code);
        sent += 1;
    }
    client.send(b"?").unwrap();
    for code in [3, 10, 13].repeat(10) {
        stranger.refuse(from, first.address, code);
        sent += 1;
    }
    first.answer();
    assert_eq!(hear(&client), b"a");
    assert!(sent > 29_000);
    assert_eq!((rehomed(&balancer), balancer.ejected()), (0, vec![false, false]), "{sent} packets");
    assert_eq!(balancer.backend(0, pool::Backend::failures_in_a_row), 0);
}

#[test]
fn one_refusal_moves_no_flow_and_the_second_in_a_row_does() {
    let (mut first, second) = (Closing::start(), Answering::start("b"));
    let balancer = balancer(&[first.address, second.address], "    passive: { failures: 50, eject: 1h }\n");
    let client = client(&balancer, "127.0.0.1");
    client.send(b"?").unwrap();
    first.answer();
    assert_eq!(hear(&client), b"a");
    for round in 1..=3 {
        first.close();
        client.send(b"lost").unwrap();
        becomes("refusals", round, || refusals(&balancer));
        // It was only restarted.
        first.open();
        client.send(b"?").unwrap();
        first.answer();
        assert_eq!(hear(&client), b"a");
    }
    assert_eq!(rehomed(&balancer), 0);
    first.close();
    for round in 4..=5 {
        client.send(b"lost").unwrap();
        becomes("refusals", round, || refusals(&balancer));
    }
    assert_eq!(ask(&client, b""), b"b");
    assert_eq!((rehomed(&balancer), balancer.backend(0, pool::Backend::failures_in_a_row)), (1, 2));
}

#[test]
fn silence_after_one_refusal_moves_a_flow() {
    let (mut first, second) = (Closing::start(), Answering::start("b"));
    let balancer = balancer(&[first.address, second.address], "");
    let client = client(&balancer, "127.0.0.1");
    client.send(b"?").unwrap();
    first.answer();
    assert_eq!(hear(&client), b"a");
    first.close();
    client.send(b"lost").unwrap();
    becomes("refusals", 1, || refusals(&balancer));
    // Somebody listens, and says nothing.
    first.open();
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let began = Instant::now();
    eventually("the other answers", || {
        client.send(b"").unwrap();
        let mut answer = [0; 8];
        client.recv(&mut answer).is_ok_and(|length| &answer[..length] == b"b")
    });
    assert!(began.elapsed() > Duration::from_millis(500), "at once: {:?}", began.elapsed());
    assert_eq!(rehomed(&balancer), 1);
}

#[test]
fn what_a_firewall_forbids_counts_like_a_refusal() {
    // Network, host and communication administratively prohibited, and a host unknown.
    for code in [9, 10, 13, 7] {
        // The firewall of the backend's own host.
        let Some(firewall) = Offender::at("127.0.0.1") else { return };
        let (first, second) = (Closing::start(), Answering::start("b"));
        let balancer = balancer(&[first.address, second.address], "");
        let client = client(&balancer, "127.0.0.1");
        for round in 1..=2 {
            client.send(b"?").unwrap();
            let (_, from) = first.take();
            firewall.refuse(from, first.address, code);
            becomes("refusals", round, || refusals(&balancer));
        }
        assert_eq!(ask(&client, b""), b"b", "code {code}");
    }
}

#[test]
fn a_firewall_on_the_way_is_heard_by_the_silence_behind_it() {
    let Some(firewall) = Offender::at("127.0.0.77") else { return };
    let (first, second) = (Closing::start(), Answering::start("b"));
    let balancer = balancer(&[first.address, second.address], "");
    let client = client(&balancer, "127.0.0.1");
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    client.send(b"?").unwrap();
    let (_, from) = first.take();
    firewall.refuse(from, first.address, 13);
    eventually("the other answers", || {
        client.send(b"").unwrap();
        let mut answer = [0; 8];
        let heard = client.recv(&mut answer).is_ok_and(|length| &answer[..length] == b"b");
        if !heard {
            firewall.refuse(from, first.address, 13);
        }
        heard
    });
    assert_eq!(rehomed(&balancer), 1);
}

#[test]
fn an_error_that_waits_eats_no_datagram() {
    let nobody = closed_address();
    let balancer = balancer(&[nobody], "    on_down: keep\n    passive: off\n");
    let client = client(&balancer, "127.0.0.1");
    for _ in 0..1_000 {
        client.send(b"?").unwrap();
    }
    let sent = || balancer.counters().shards.sum(|shard| shard.datagrams(Direction::ToBackend).value());
    becomes("datagrams dealt with", 1_000, || sent() + dropped(&balancer));
    assert_eq!((sent(), dropped(&balancer)), (1_000, 0));
}

#[test]
fn a_rejecting_firewall_is_heard_and_eats_no_datagram() {
    let here = std::thread::spawn(|| {
        if !enter_network("") {
            return;
        }
        let backends = [Answering::start("a"), Answering::start("b")];
        let port = backends[0].address.port();
        configure(&format!(
            "nft add table ip t; nft 'add chain ip t i {{ type filter hook input priority 0; }}'; \
             nft add rule ip t i udp dport {port} reject with icmp type admin-prohibited"
        ));
        let balancer = balancer(
            &backends.each_ref().map(|backend| backend.address),
            "    passive: { failures: 3, eject: 1h }\n",
        );
        let mut answered = 0;
        for _ in 0..40 {
            let client = client(&balancer, "127.0.0.1");
            client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            answered += usize::from((0..3).any(|_| {
                client.send(b"").unwrap();
                client.recv(&mut [0; 8]).is_ok()
            }));
        }
        assert_eq!(answered, 40, "clients of 40 that were answered in three tries");
        assert_eq!(dropped(&balancer), 0);
    });
    here.join().unwrap();
}
