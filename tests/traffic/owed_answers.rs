//! Backends that are slow or silent without failing: what they owe is seen, and `least_busy` sends elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use evenkeel::backend_state::EjectedFor;
use evenkeel::pool::Backend as Live;

use super::rig::{Backend, Balancer, DEADLINE, becomes, connect, echo, eventually, exchange};

fn yaml(keys: &str, backends: &[SocketAddr]) -> String {
    let list: Vec<String> = backends.iter().map(|address| format!("'{address}'")).collect();
    let list = list.join(", ");
    format!("workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:1', {keys} backends: [{list}] }} }}")
}

/// Takes what comes, and never answers.
fn black_hole() -> Backend {
    Backend::start(|mut stream| {
        let mut bytes = [0; 64];
        while !matches!(stream.read(&mut bytes), Ok(0) | Err(_)) {}
    })
}

/// Greets at once, and answers everything after a while.
fn slow_behind_its_login() -> Backend {
    Backend::start(|mut stream| {
        let mut bytes = [0; 64];
        let mut is_login = true;
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            if !std::mem::take(&mut is_login) {
                std::thread::sleep(Duration::from_millis(100));
            }
            if stream.write_all(&bytes[..length]).is_err() {
                return;
            }
        }
    })
}

fn owed(backend: &Live) -> u32 {
    backend.load.owed()
}

#[test]
fn an_answer_is_owed_from_the_clients_word_to_the_backends() {
    let (hole, good) = (black_hole(), Backend::start(echo));
    let balancer =
        Balancer::start(&yaml("balance: first, health: { check: off },", &[hole.address, good.address]));
    let mut waiting: Vec<TcpStream> = (0..3).map(|_| connect(balancer.address())).collect();
    eventually("they are connected", || hole.accepted() == 3);
    assert_eq!(balancer.backend(0, owed), 0, "nobody has said anything");
    waiting.iter_mut().for_each(|stream| stream.write_all(b"hello?").unwrap());
    becomes("owed", 3, || balancer.backend(0, owed));
    waiting[0].write_all(b"are you there?").unwrap();
    // Who gives up has waited so long.
    let began = Instant::now();
    eventually("they have waited for a while", || began.elapsed() > Duration::from_millis(60));
    drop(waiting);
    becomes("owed", 0, || balancer.backend(0, owed));
    // As it was, whatever time has passed: the reader's clock stands at the beginning.
    let answer_ns = balancer.backend(0, |one| one.load.answer_ns(0)).unwrap();
    assert!(answer_ns >= 40e6, "{answer_ns}");
}

/// Sessions one after the other, of which each says `turns` words and waits for each answer, at most so long. How many of them
/// each backend got, and how many were given up.
fn run(balancer: &Balancer, sessions: usize, turns: usize, patience: Duration) -> (Vec<u64>, usize) {
    let mut given_up = 0;
    for _ in 0..sessions {
        let mut stream = connect(balancer.address());
        stream.set_read_timeout(Some(patience)).unwrap();
        for _ in 0..turns {
            stream.write_all(b"word").unwrap();
            if stream.read_exact(&mut [0; 4]).is_err() {
                given_up += 1;
                break;
            }
        }
    }
    let count = balancer.server().snapshots().load().pools[0].backends.len();
    let got = |at| balancer.backend(at, |one| one.shards.sum(|shard| shard.sessions.value()));
    ((0..count).map(got).collect(), given_up)
}

#[test]
fn a_black_hole_gets_next_to_nothing() {
    for balance in ["least_busy", "least_latency"] {
        let (hole, one, other) = (black_hole(), Backend::start(echo), Backend::start(echo));
        let keys = format!("balance: {balance}, health: {{ check: off }},");
        let balancer = Balancer::start(&yaml(&keys, &[hole.address, one.address, other.address]));
        let (got, given_up) = run(&balancer, 200, 2, Duration::from_millis(250));
        assert!(got[0] <= 4 && given_up <= 4, "{balance}: {got:?}, {given_up} given up");
    }
}

#[test]
fn one_that_logs_in_fast_and_answers_slowly_is_found_out() {
    for balance in ["least_busy", "least_latency"] {
        let (slow, one, other) = (slow_behind_its_login(), Backend::start(echo), Backend::start(echo));
        let keys = format!("balance: {balance}, health: {{ check: off }},");
        let balancer = Balancer::start(&yaml(&keys, &[slow.address, one.address, other.address]));
        let (got, given_up) = run(&balancer, 200, 3, DEADLINE);
        assert!(got[0] <= 8 && given_up == 0, "{balance}: {got:?}, {given_up} given up");
    }
}

#[test]
fn idle_sessions_are_no_work() {
    let (one, other) = (Backend::start(echo), Backend::start(echo));
    let balancer =
        Balancer::start(&yaml("balance: least_busy, health: { check: off },", &[one.address, other.address]));
    // All have spoken once, and been answered.
    let mut idle: Vec<TcpStream> = (0..20).map(|_| connect(balancer.address())).collect();
    idle.iter_mut().for_each(|stream| exchange(stream, b"word"));
    becomes("sessions", 20, || {
        [0, 1].map(|at| balancer.backend(at, |one| one.load.active())).iter().sum::<u32>()
    });
    // Equally quick, give or take what the machine does: by sessions.
    let fewest = [0, 1].map(|at| balancer.backend(at, |one| one.load.active())).into_iter().min();
    assert!(fewest >= Some(5), "{fewest:?}");
    becomes("owed", [0, 0], || [0, 1].map(|at| balancer.backend(at, owed)));
}

#[test]
fn flows_owe_answers_too() {
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (to_hole, to_good) = (hole.local_addr().unwrap(), good.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((length, from)) = good.recv_from(&mut bytes) {
            if &bytes[..length] == b"end" {
                return;
            }
            good.send_to(&bytes[..length], from).unwrap();
        }
    });
    let keys = "protocol: udp, balance: least_busy, timeouts: { idle: 300ms },";
    let balancer = Balancer::start(&yaml(keys, &[to_hole, to_good]));
    let mut lost = 0;
    for _ in 0..100 {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(balancer.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        client.send(b"who?").unwrap();
        lost += usize::from(client.recv(&mut [0; 64]).is_err());
    }
    assert!(lost <= 4, "{lost} of 100 went to the one that never answers");
    let began = Instant::now();
    becomes("owed", [0, 0], || [0, 1].map(|at| balancer.backend(at, owed)));
    assert!(began.elapsed() < DEADLINE);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"end", to_good).unwrap();
}

#[test]
fn a_backend_that_owes_and_says_nothing_is_ejected_and_one_with_a_long_question_is_not() {
    // Answers at once, but for one that asks to be told later.
    let patient = || {
        Backend::start(|mut stream| {
            let mut bytes = [0; 4];
            while stream.read_exact(&mut bytes).is_ok() {
                if &bytes != b"wait" && stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        })
    };
    let (hole, one, other) = (black_hole(), patient(), patient());
    let keys = "health: { check: tcp, interval: 100ms }, passive: { silent: 1s, eject: 1h },";
    let balancer = Balancer::start(&yaml(keys, &[hole.address, one.address, other.address]));
    let mut held = Vec::new();
    let mut long: Vec<TcpStream> = (0..3).map(|_| connect(balancer.address())).collect();
    long.iter_mut().for_each(|stream| stream.write_all(b"wait").unwrap());
    eventually("the silent one is ejected", || {
        // One of three waits there.
        let mut stream = connect(balancer.address());
        stream.write_all(b"word").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let _ = stream.read(&mut [0; 4]);
        held.push(stream);
        balancer.ejected()[0]
    });
    assert_eq!(balancer.ejected(), [true, false, false]);
    assert_eq!(balancer.backend(0, |one| one.checks.ejections(EjectedFor::Silent).value()), 1);
}

#[test]
fn a_backend_that_is_far_slower_than_its_pool_is_ejected_however_well_it_checks() {
    let slow = Backend::start(|mut stream| {
        let mut bytes = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            std::thread::sleep(Duration::from_millis(40));
            if stream.write_all(&bytes[..length]).is_err() {
                return;
            }
        }
    });
    let (one, other) = (Backend::start(echo), Backend::start(echo));
    let keys = "health: { check: tcp, interval: 100ms }, passive: { slow: 5, eject: 1h },";
    let balancer = Balancer::start(&yaml(keys, &[slow.address, one.address, other.address]));
    let mut sessions = 0;
    eventually("it is ejected", || {
        exchange(&mut connect(balancer.address()), b"word");
        sessions += 1;
        balancer.ejected()[0]
    });
    assert!(sessions >= 60, "{sessions}: a third of them in turn, and 20 are the least");
    assert_eq!(balancer.ejected(), [true, false, false]);
    assert_eq!(balancer.backend(0, |one| one.checks.ejections(EjectedFor::Slow).value()), 1);
}
