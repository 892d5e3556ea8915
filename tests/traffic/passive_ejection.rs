//! Backends that fail real traffic: ejected and back, spared when the pool needs them, and what `on_down: close` ends.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use evenkeel::pool::Backend as Live;
use evenkeel::reason::Reason;

use crate::ports::free_port;

use super::rig::{
    Backend, Balancer, Outcome, Switch, answer_with, becomes, closed_address, connect, echo, eventually,
    exchange, names_reached, read_to_end, short_session,
};

fn yaml(workers: usize, keys: &str, backends: &[SocketAddr]) -> String {
    let list: Vec<String> = backends.iter().map(|address| format!("'{address}'")).collect();
    let list = list.join(", ");
    format!("workers: {workers}\nlisteners: {{ door: {{ bind: '127.0.0.1:1', {keys} backends: [{list}] }} }}")
}

fn failures(backend: &Live) -> u64 {
    backend.shards.sum(|shard| shard.connect_failures.value())
}

fn ejections(backend: &Live) -> u64 {
    backend.checks.all_ejections()
}

#[test]
fn a_backend_that_refuses_real_traffic_is_ejected_and_asked_again_later() {
    let good = Backend::start(answer_with("good"));
    let mut bad = Switch::start(answer_with("bad"));
    let keys = "health: { check: off }, passive: { failures: 3, eject: 1s },";
    let balancer = Balancer::start(&yaml(2, keys, &[bad.address, good.address]));
    bad.off();
    // Nobody suffers: each failure is retried at the other backend.
    eventually("it is ejected", || {
        assert_eq!(short_session(balancer.address()).unwrap(), "good");
        balancer.ejected() == [true, false]
    });
    assert_eq!(balancer.ups(), [true, true], "no check says otherwise");
    let met = balancer.backend(0, failures);
    assert!((3..=20).contains(&met), "{met}");
    // While it is out nobody dials it; when it is back, it takes `failures` more to be out again.
    eventually("it is ejected again, for longer", || {
        assert_eq!(short_session(balancer.address()).unwrap(), "good");
        balancer.backend(0, ejections) >= 2
    });
    bad.on();
    eventually("it serves again", || short_session(balancer.address()).unwrap() == "bad");
    assert_eq!(balancer.ejected(), [false, false]);
    let reached = names_reached(balancer.address(), 20);
    assert_eq!((reached["good"], reached["bad"]), (10, 10));
}

#[test]
fn icmp_refusals_eject_for_flows_and_a_reply_starts_the_count_over() {
    let good = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to_good = good.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((length, from)) = good.recv_from(&mut bytes) {
            if &bytes[..length] == b"end" {
                return;
            }
            good.send_to(&bytes[..length], from).unwrap();
        }
    });
    let bad = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keys = "protocol: udp, passive: { failures: 3, eject: 1h },";
    let balancer = Balancer::start(&yaml(1, keys, &[bad, to_good]));
    let ask = || {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(balancer.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut answer = [0; 64];
        // The first datagram to a dead backend is lost: only the second meets its refusal, and goes on to the other.
        eventually("an answer", || {
            client.send(b"who?").unwrap();
            client.recv(&mut answer).is_ok()
        });
    };
    eventually("it is ejected", || {
        ask();
        balancer.ejected() == [true, false]
    });
    let (met, reached) = (balancer.backend(0, failures), balancer.backend(1, |b| b.load.active()));
    assert!(met >= 3, "{met}");
    (0..10).for_each(|_| ask());
    assert_eq!(balancer.backend(0, failures), met, "no flow is sent there any more");
    assert_eq!(balancer.backend(1, |b| b.load.active()), reached + 10);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"end", to_good).unwrap();
}

#[test]
fn a_success_starts_the_count_over() {
    let good = Backend::start(answer_with("good"));
    let mut flapping = Switch::start(answer_with("flapping"));
    let keys = "health: { check: off }, passive: { failures: 3 },";
    let balancer = Balancer::start(&yaml(1, keys, &[flapping.address, good.address]));
    for _ in 0..5 {
        flapping.off();
        let before = balancer.backend(0, failures);
        eventually("two failures", || {
            assert_eq!(short_session(balancer.address()).unwrap(), "good");
            balancer.backend(0, failures) == before + 2
        });
        flapping.on();
        eventually("a success", || short_session(balancer.address()).unwrap() == "flapping");
        assert_eq!(balancer.backend(0, Live::failures_in_a_row), 0);
    }
    assert_eq!(balancer.backend(0, ejections), 0);
}

#[test]
fn no_more_than_max_ejected_are_taken_out() {
    let good = Backend::start(answer_with("good"));
    let bad: Vec<SocketAddr> = (0..3).map(|_| closed_address()).collect();
    let keys = "health: { check: off }, connect: { attempts: 4 }, passive: { failures: 1, eject: 1m, max_ejected: 50% },";
    let balancer = Balancer::start(&yaml(2, keys, &[bad[0], bad[1], bad[2], good.address]));
    for _ in 0..60 {
        assert_eq!(short_session(balancer.address()).unwrap(), "good");
        let out = balancer.ejected().iter().filter(|ejected| **ejected).count();
        assert!(out <= 2, "{out} of 4 with max_ejected: 50%");
    }
    becomes("ejected", 2, || balancer.ejected().iter().filter(|ejected| **ejected).count());
}

#[test]
fn the_last_backend_that_serves_is_never_ejected() {
    for others in [0, 1] {
        let mut addresses = vec![closed_address()];
        addresses.extend((0..others).map(|_| closed_address()));
        let keys = "health: { check: off }, connect: { attempts: 1 }, passive: { failures: 1, eject: 1m, max_ejected: 100% },";
        let balancer = Balancer::start(&yaml(1, keys, &addresses));
        for _ in 0..10 {
            assert!(super::rig::is_turned_away(balancer.address()));
        }
        becomes("ejected", others, || balancer.ejected().iter().filter(|ejected| **ejected).count());
        assert_eq!(balancer.ended(Reason::NoBackend), 0, "{:?}", balancer.reasons());
    }
}

#[test]
fn a_good_check_ends_an_ejection_early() {
    let good = Backend::start(answer_with("good"));
    let mut bad = Switch::start(answer_with("bad"));
    // The checks are too slow to see the failure, but quick enough to see the recovery long before an hour is over.
    let keys = "health: { interval: 1s, fall: 200 }, passive: { failures: 2, eject: 1h },";
    let balancer = Balancer::start(&yaml(1, keys, &[bad.address, good.address]));
    bad.off();
    eventually("it is ejected", || {
        assert_eq!(short_session(balancer.address()).unwrap(), "good");
        balancer.ejected() == [true, false]
    });
    bad.on();
    eventually("a check lets it return", || balancer.ejected() == [false, false]);
    eventually("it serves", || short_session(balancer.address()).unwrap() == "bad");
}

#[test]
fn a_check_of_another_port_ends_no_ejection() {
    let good = Backend::start(answer_with("good"));
    let asked = Backend::start(echo);
    let port = asked.address.port();
    let keys = format!("health: {{ interval: 100ms, port: {port} }}, passive: {{ failures: 1, eject: 1h }},");
    let balancer = Balancer::start(&yaml(1, &keys, &[closed_address(), good.address]));
    let checks = |backend: &Live| backend.checks.good.value();
    eventually("it is ejected", || {
        assert_eq!(short_session(balancer.address()).unwrap(), "good");
        balancer.ejected() == [true, false]
    });
    let before = balancer.backend(0, checks);
    eventually("it was asked five more times", || balancer.backend(0, checks) >= before + 5);
    assert_eq!(balancer.ejected(), [true, false]);
}

/// Two servers with a service at one port and, at another, a door that says whether they are the primary, as Patroni's does.
struct Pair {
    ports: [u16; 2],
    doors: Vec<(Backend, Arc<AtomicBool>)>,
}

const HOSTS: [&str; 2] = ["127.0.2.1", "127.0.2.2"];

impl Pair {
    fn new(primaries: [bool; 2]) -> Self {
        let ports = [free_port(), free_port()];
        let door = |(host, is_primary): (&str, bool)| {
            let says = Arc::new(AtomicBool::new(is_primary));
            let told = Arc::clone(&says);
            let door = Backend::start_at(&format!("{host}:{}", ports[1]), move |mut stream| {
                let answer = if told.load(Ordering::SeqCst) { "primary" } else { "replica" };
                let _ = stream.write_all(answer.as_bytes());
            });
            (door, says)
        };
        Self { ports, doors: HOSTS.into_iter().zip(primaries).map(door).collect() }
    }

    fn service(&self, at: usize) -> Backend {
        Backend::start_at(&format!("{}:{}", HOSTS[at], self.ports[0]), answer_with(["a", "b"][at]))
    }

    fn says(&self, at: usize, is_primary: bool) {
        self.doors[at].1.store(is_primary, Ordering::SeqCst);
    }

    fn yaml(&self) -> String {
        let check = "check: { tcp: { send: '', expect: primary } }, interval: 100ms, fall: 2, rise: 1";
        let keys =
            format!("health: {{ {check}, port: {} }}, passive: {{ failures: 3, eject: 1h }},", self.ports[1]);
        yaml(1, &keys, &HOSTS.map(|host| format!("{host}:{}", self.ports[0]).parse().unwrap()))
    }
}

#[test]
fn a_primary_that_failed_before_it_was_a_replica_serves_as_soon_as_it_is_promoted_again() {
    let pair = Pair::new([true, false]);
    let (mut a, mut b) = (pair.service(0), pair.service(1));
    let balancer = Balancer::start(&pair.yaml());
    eventually("a is the primary", || short_session(balancer.address()).is_ok_and(|who| who == "a"));
    let fail = |index| {
        let before = balancer.backend(index, failures);
        eventually("five sessions meet its end", || {
            let _ = short_session(balancer.address());
            balancer.backend(index, failures) >= before + 5
        });
    };
    // The door of one that is gone still says what it was, as Patroni's does until its next look.
    a.stop();
    fail(0);
    pair.says(0, false);
    pair.says(1, true);
    eventually("b is the primary", || short_session(balancer.address()).is_ok_and(|who| who == "b"));
    let a = pair.service(0);
    b.stop();
    fail(1);
    pair.says(1, false);
    pair.says(0, true);
    eventually("a is the primary again", || short_session(balancer.address()).is_ok_and(|who| who == "a"));
    assert_eq!((balancer.backend(0, ejections), balancer.backend(1, ejections)), (0, 0));
    drop(a);
}

#[test]
fn an_ejected_backend_serves_again_when_no_other_is_left() {
    let pair = Pair::new([true, true]);
    let (mut a, _b) = (pair.service(0), pair.service(1));
    let balancer = Balancer::start(&pair.yaml());
    a.stop();
    eventually("a is ejected", || {
        let _ = short_session(balancer.address());
        balancer.ejected() == [true, false]
    });
    let _a = pair.service(0);
    pair.says(1, false);
    eventually("a serves", || short_session(balancer.address()).is_ok_and(|who| who == "a"));
    assert_eq!(balancer.ejected(), [false, false]);
}

#[test]
fn passive_off_ejects_nobody() {
    let good = Backend::start(answer_with("good"));
    let keys = "health: { check: off }, passive: off,";
    let balancer = Balancer::start(&yaml(1, keys, &[closed_address(), good.address]));
    for _ in 0..30 {
        assert_eq!(short_session(balancer.address()).unwrap(), "good");
    }
    assert_eq!(balancer.ejected(), [false, false]);
    // The second attempt of each session takes the turn of the other backend.
    assert_eq!(balancer.backend(0, failures), 30, "it is still dialled in its turns");
}

#[test]
fn a_backend_that_came_back_begins_with_a_tenth_of_its_weight() {
    let steady = Backend::start(answer_with("steady"));
    let mut mortal = Switch::start(answer_with("mortal"));
    // Slow enough that the steps are far apart on any machine.
    let keys = "health: { interval: 200ms, timeout: 200ms, rise: 1, fall: 1 }, slow_start: 1h,";
    let balancer = Balancer::start(&yaml(1, keys, &[mortal.address, steady.address]));
    let at_start = names_reached(balancer.address(), 20);
    assert_eq!((at_start["steady"], at_start["mortal"]), (10, 10), "a start is no return");
    mortal.off();
    eventually("it is down", || balancer.ups() == [false, true]);
    mortal.on();
    eventually("it is up", || balancer.ups() == [true, true]);
    let reached = names_reached(balancer.address(), 110);
    assert_eq!(reached, BTreeMap::from([("mortal".to_owned(), 10), ("steady".to_owned(), 100)]));
}

#[test]
fn slow_start_ends_with_the_whole_weight() {
    let steady = Backend::start(answer_with("steady"));
    let mut mortal = Switch::start(answer_with("mortal"));
    let keys = "health: { interval: 200ms, timeout: 200ms, rise: 1, fall: 1 }, slow_start: 1s,";
    let balancer = Balancer::start(&yaml(1, keys, &[mortal.address, steady.address]));
    mortal.off();
    eventually("it is down", || balancer.ups() == [false, true]);
    mortal.on();
    let tenths = || balancer.server().snapshots().load().pools[0].states[0].tenths();
    let mut seen = vec![];
    eventually("its weight is whole", || {
        if balancer.ups()[0] && seen.last() != Some(&tenths()) {
            seen.push(tenths());
        }
        seen.last() == Some(&10)
    });
    assert!(seen.is_sorted() && seen.len() <= 10, "{seen:?}");
    let reached = names_reached(balancer.address(), 20);
    assert_eq!((reached["steady"], reached["mortal"]), (10, 10));
}

#[test]
fn on_down_close_ends_the_sessions_of_a_dead_backend_within_a_second_and_no_others() {
    let steady = Backend::start(echo);
    let mut mortal = Switch::start(echo);
    let keys = "health: { interval: 200ms, timeout: 200ms, fall: 2 }, on_down: close,";
    let balancer = Balancer::start(&yaml(2, keys, &[mortal.address, steady.address]));
    let mut clients: Vec<_> = (0..40).map(|_| connect(balancer.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"hello"));
    // Its door closes; the connections it has stay, as they do when a server hangs.
    mortal.off();
    eventually("it is down", || balancer.ups() == [false, true]);
    let began = Instant::now();
    balancer_has(&balancer, Reason::BackendDown, 20);
    eprintln!("20 sessions were closed within {:?}", began.elapsed());
    let mut ended = 0;
    for client in &mut clients {
        if client.write_all(b"still there?").is_err() {
            ended += 1;
            continue;
        }
        let mut back = [0; 12];
        match std::io::Read::read_exact(client, &mut back) {
            Ok(()) => assert_eq!(&back, b"still there?"),
            Err(_) => ended += 1,
        }
    }
    assert_eq!(ended, 20);
    assert_eq!(balancer.active(), 20);
}

#[test]
fn on_down_keep_leaves_sessions_alone() {
    let steady = Backend::start(echo);
    let mut mortal = Switch::start(echo);
    let keys = "health: { interval: 200ms, timeout: 200ms, fall: 1 },";
    let balancer = Balancer::start(&yaml(1, keys, &[mortal.address, steady.address]));
    let mut clients: Vec<_> = (0..4).map(|_| connect(balancer.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"hello"));
    mortal.off();
    eventually("it is down", || balancer.ups() == [false, true]);
    // Longer than `close` takes, told by what happens meanwhile: ten checks.
    let checks = |backend: &Live| backend.checks.bad.value();
    let before = balancer.backend(0, checks);
    eventually("ten more checks", || balancer.backend(0, checks) >= before + 10);
    clients.iter_mut().for_each(|client| exchange(client, b"still there?"));
    assert_eq!(balancer.ended(Reason::BackendDown), 0);
    let mut first = clients.remove(0);
    first.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut first).1, Outcome::End);
}

#[track_caller]
fn balancer_has(balancer: &Balancer, reason: Reason, count: u64) {
    becomes("sessions that ended so", count, || balancer.ended(reason));
}
