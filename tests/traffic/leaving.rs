//! Backends that left the file while they have sessions: they stay checked, `on_down` acts on them, flows move on, and
//! `on_removed` and `removed_grace` say what becomes of the rest.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use evenkeel::reason::Reason;

use crate::datagrams::{Answering, ask, client};
use crate::ports::free_port;
use crate::rig::*;

fn file(port: u16, keys: &str, backends: &[SocketAddr]) -> String {
    let list: Vec<String> = backends.iter().map(|address| format!("'{address}'")).collect();
    format!(
        "workers: 2\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:{port}', {keys} backends: [{}] }} }}",
        list.join(", ")
    )
}

/// Clients of both backends, by turns.
fn living(balancer: &Balancer, count: usize) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..count).map(|_| connect(balancer.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"x"));
    clients
}

const QUICK: &str = "health: { interval: 200ms, timeout: 200ms, fall: 2 },";

#[test]
fn flows_of_a_backend_that_left_move_with_their_next_datagram() {
    for (keys, expected) in [("", 0), ("on_removed: rehome,", 0), ("on_removed: keep,", 20)] {
        let [a, b] = ["a", "b"].map(Answering::start);
        let port = free_port();
        let keys = format!("protocol: udp, {keys}");
        let balancer = Balancer::start(&file(port, &keys, &[a.address, b.address]));
        let clients: Vec<UdpSocket> = (0..40).map(|_| client(&balancer, "127.0.0.1")).collect();
        let at_a = || clients.iter().filter(|client| ask(client, b"") == b"a").count();
        assert_eq!(at_a(), 20);
        balancer.reload(&file(port, &keys, &[b.address])).unwrap();
        assert_eq!(at_a(), expected, "{keys}");
        assert_eq!((balancer.begun(), balancer.active()), (40, 40), "moving is no end");
    }
}

#[test]
fn a_backend_that_left_is_checked_while_it_has_sessions_and_they_end_with_it() {
    let (mut mortal, steady) = (Switch::start(echo), Backend::start(echo));
    let port = free_port();
    let keys = format!("{QUICK} on_down: close,");
    let balancer = Balancer::start(&file(port, &keys, &[mortal.address, steady.address]));
    let mut clients = living(&balancer, 20);
    balancer.reload(&file(port, &keys, &[steady.address])).unwrap();
    clients.iter_mut().for_each(|client| exchange(client, b"still there"));
    mortal.off();
    let began = Instant::now();
    becomes("sessions that ended with it", 10, || balancer.ended(Reason::BackendDown));
    // Two checks in a row, and the second over which the ends are spread.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(balancer.active(), 10);
    // Nobody is there any more: it is asked no more.
    let bad = || {
        let snapshot = balancer.server().snapshots().load();
        snapshot.pools[0].leaving[0].backend.checks.bad.value()
    };
    let mut before = bad();
    let mut since = Instant::now();
    eventually("no check for a second", || {
        if bad() != before {
            (before, since) = (bad(), Instant::now());
        }
        since.elapsed() > Duration::from_secs(1)
    });
}

#[test]
fn sessions_of_a_backend_that_left_end_when_its_grace_is_over_and_not_before() {
    let [a, b] = [Backend::start(echo), Backend::start(echo)];
    let port = free_port();
    let keys = "removed_grace: 2s,";
    let balancer = Balancer::start(&file(port, keys, &[a.address, b.address]));
    let mut clients = living(&balancer, 20);
    let began = Instant::now();
    balancer.reload(&file(port, keys, &[b.address])).unwrap();
    eventually("the first ends", || balancer.ended(Reason::Removed) > 0);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    becomes("sessions that ended so", 10, || balancer.ended(Reason::Removed));
    assert!(began.elapsed() < Duration::from_millis(3_500), "{:?}", began.elapsed());
    assert_eq!(balancer.active(), 10);
    let alive = clients.iter_mut().filter_map(|client| {
        use std::io::{Read, Write};
        (client.write_all(b"y").is_ok() && matches!(client.read(&mut [0]), Ok(1))).then_some(())
    });
    assert_eq!(alive.count(), 10);
}

#[test]
fn on_removed_close_ends_sessions_and_flows_within_a_second_and_no_others() {
    let [a, b] = [Backend::start(echo), Backend::start(echo)];
    let port = free_port();
    let balancer = Balancer::start(&file(port, "on_removed: close,", &[a.address, b.address]));
    let _clients = living(&balancer, 20);
    let began = Instant::now();
    balancer.reload(&file(port, "on_removed: close,", &[b.address])).unwrap();
    becomes("sessions that ended so", 10, || balancer.ended(Reason::Removed));
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert_eq!(balancer.active(), 10);

    let [a, b] = ["a", "b"].map(Answering::start);
    let (port, keys) = (free_port(), "protocol: udp, on_removed: close,");
    let balancer = Balancer::start(&file(port, keys, &[a.address, b.address]));
    let clients: Vec<UdpSocket> = (0..40).map(|_| client(&balancer, "127.0.0.1")).collect();
    clients.iter().for_each(|client| _ = ask(client, b""));
    balancer.reload(&file(port, keys, &[b.address])).unwrap();
    becomes("flows that ended so", 20, || balancer.ended(Reason::Removed));
    assert_eq!(balancer.active(), 20);
}

#[test]
fn a_backend_that_comes_back_in_time_keeps_its_sessions_and_its_marks() {
    let [a, b] = [Backend::start(echo), Backend::start(echo)];
    let port = free_port();
    let keys = format!("{QUICK} removed_grace: 1s,");
    let both = file(port, &keys, &[a.address, b.address]);
    let balancer = Balancer::start(&both);
    let mut clients = living(&balancer, 20);
    let whom = || evenkeel::server::Whom { pool: "door".into(), backend: a.address.to_string() };
    let drain = Some(evenkeel::backend_state::Mark::Drain);
    balancer.wait_for(balancer.server().mark(whom(), drain, "a test")).unwrap();
    balancer.reload(&file(port, &keys, &[b.address])).unwrap();
    balancer.reload(&both).unwrap();
    // Longer than the grace, told by what happens meanwhile: its checks.
    let good = || balancer.backend(0, |backend| backend.checks.good.value());
    let before = good();
    eventually("ten more checks", || good() >= before + 10);
    clients.iter_mut().for_each(|client| exchange(client, b"still there"));
    assert_eq!(balancer.ended(Reason::Removed), 0);
    assert_eq!(balancer.backend(0, |backend| backend.load.active()), 10);
    let snapshot = balancer.server().snapshots().load();
    assert!(snapshot.pools[0].states[0].marked().is_some(), "it is drained as before");
}

#[test]
fn a_pool_that_left_has_its_backends_checked_while_it_has_sessions() {
    let mut mortal = Switch::start(echo);
    let steady = Backend::start(echo);
    let port = free_port();
    let with = |pool: &str, address: SocketAddr| {
        format!(
            "workers: 2\nlisteners: {{ door: {{ bind: '127.0.0.1:{port}', pool: {pool} }} }}\n\
             pools: {{ {pool}: {{ {QUICK} on_down: close, backends: ['{address}'] }} }}"
        )
    };
    let balancer = Balancer::start(&with("before", mortal.address));
    let _clients = living(&balancer, 10);
    balancer.reload(&with("after", steady.address)).unwrap();
    let _others = living(&balancer, 5);
    mortal.off();
    becomes("sessions that ended with it", 10, || balancer.ended(Reason::BackendDown));
    assert_eq!(balancer.active(), 5);
}
