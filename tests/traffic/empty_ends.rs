//! Backends that take connections and end them without a byte: port forwarders without their server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use evenkeel::backend_state::EjectedFor;
use evenkeel::pool::Backend as Live;
use evenkeel::reason::Reason;
use socket2::SockRef;

use super::rig::{
    Backend, Balancer, DEADLINE, Outcome, becomes, connect, echo, eventually, exchange, pattern, read_to_end,
    reset,
};

fn yaml(keys: &str, backends: &[SocketAddr]) -> String {
    let list: Vec<String> = backends.iter().map(|address| format!("'{address}'")).collect();
    let list = list.join(", ");
    format!("workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:1', {keys} backends: [{list}] }} }}")
}

/// What docker-proxy does when nobody listens in the container.
fn closing() -> Backend {
    Backend::start(drop)
}

fn resetting() -> Backend {
    Backend::start(|stream| SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap())
}

/// Reads what the client says first, and leaves.
fn deaf() -> Backend {
    Backend::start(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
    })
}

fn empty_ends(backend: &Live) -> u64 {
    backend.shards.sum(|shard| shard.empty_ends.value())
}

/// Listens only: what it was told until an ordinary end.
fn greeting(to: SocketAddr) -> String {
    let (bytes, outcome) = read_to_end(&mut connect(to));
    assert_eq!(outcome, Outcome::End);
    String::from_utf8(bytes).unwrap()
}

/// Says this first, and tells what came back until the end.
fn ask(to: SocketAddr, words: &[u8]) -> Vec<u8> {
    let mut stream = connect(to);
    stream.write_all(words).unwrap();
    let mut answer = [0; 64];
    // A reset is no answer either.
    let length = stream.read(&mut answer).unwrap_or(0);
    answer[..length].to_vec()
}

#[test]
fn a_backend_that_accepts_and_closes_costs_no_client_anything_and_is_ejected() {
    for (bad, resets) in [(closing(), false), (resetting(), true)] {
        let good = Backend::start(|mut stream| stream.write_all(b"good").unwrap());
        let keys = "health: { check: tcp, interval: 100ms }, passive: { eject: 1h },";
        let balancer = Balancer::start(&yaml(keys, &[bad.address, good.address]));
        // Greetings of the good one tell that backends here speak first.
        eventually("it is ejected", || {
            assert_eq!(greeting(balancer.address()), "good");
            balancer.ejected() == [true, false]
        });
        let ends = balancer.backend(0, empty_ends);
        assert!((5..=24).contains(&ends), "{ends}");
        assert_eq!(balancer.retries(), ends, "each was tried elsewhere");
        balancer.ends(Reason::BackendClosed, balancer.begun());
        // A reset may come before the connect is noticed, which makes it a failed one.
        let causes = [EjectedFor::Empty, EjectedFor::Failures];
        let ejections = causes.map(|cause| balancer.backend(0, |one| one.checks.ejections(cause).value()));
        assert_eq!((ejections[0] == 1 || resets, ejections.iter().sum::<u64>()), (true, 1));
        if ejections[0] == 0 {
            continue;
        }
        // The kernel answers the checks, whatever is behind it: that says nothing.
        let checks = balancer.backend(0, |one| one.checks.good.value());
        eventually("checks find it well", || balancer.backend(0, |one| one.checks.good.value()) > checks + 5);
        assert_eq!(balancer.ejected(), [true, false]);
    }
}

#[test]
fn what_the_client_had_said_is_not_said_twice_and_the_end_is_told() {
    let (bad, good) = (deaf(), Backend::start(echo));
    let keys = "health: { check: off }, passive: { eject: 1h },";
    let balancer = Balancer::start(&yaml(keys, &[bad.address, good.address]));
    assert_eq!(ask(balancer.address(), b"hello"), b"", "the first in turn");
    becomes("ends", vec![("backend_empty", 1)], || balancer.reasons());
    assert_eq!(balancer.retries(), 0);
    assert_eq!(
        balancer.backend(0, Live::empty_in_a_row),
        0,
        "nobody has shown yet that backends here answer"
    );
    eventually("it is ejected", || {
        ask(balancer.address(), b"hello");
        balancer.ejected() == [true, false]
    });
    assert!((6..=9).contains(&bad.accepted()), "{}", bad.accepted());
    assert_eq!(ask(balancer.address(), b"hello"), b"hello");
}

#[test]
fn an_answer_starts_the_count_over() {
    let flaky = Backend::start(|mut stream| {
        let mut word = [0; 64];
        let length = stream.read(&mut word).unwrap_or(0);
        if &word[..length] != b"crash" {
            let _ = stream.write_all(b"here");
        }
    });
    let good = Backend::start(echo);
    let keys = "balance: first, health: { check: off },";
    let balancer = Balancer::start(&yaml(keys, &[flaky.address, good.address]));
    for _ in 0..4 {
        assert_eq!(ask(balancer.address(), b"hello"), b"here");
        (0..4).for_each(|_| assert_eq!(ask(balancer.address(), b"crash"), b""));
        becomes("in a row", 4, || balancer.backend(0, Live::empty_in_a_row));
    }
    assert_eq!(balancer.ejected(), [false, false]);
}

#[test]
fn a_client_that_finishes_or_leaves_first_says_nothing_against_a_backend() {
    // Both speak first when they are waited for, and end with the client.
    let greets = |mut stream: TcpStream| {
        let mut word = [0; 64];
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        if !matches!(stream.read(&mut word), Ok(0)) {
            let _ = stream.write_all(b"welcome");
        }
    };
    let (one, other) = (Backend::start(greets), Backend::start(greets));
    let keys = "health: { check: off }, passive: { empty: 1, eject: 1h },";
    let balancer = Balancer::start(&yaml(keys, &[one.address, other.address]));
    assert_eq!(greeting(balancer.address()), "welcome");
    for _ in 0..10 {
        // A port scan, `nc -N`, and one that resets.
        drop(connect(balancer.address()));
        let stream = connect(balancer.address());
        stream.shutdown(Shutdown::Write).unwrap();
        eventually("its end", || matches!((&stream).read(&mut [0; 8]), Ok(0) | Err(_)));
        reset(connect(balancer.address()));
    }
    balancer.settles();
    assert_eq!(balancer.ended(Reason::BackendEmpty), 0, "{:?}", balancer.reasons());
    assert_eq!([0, 1].map(|at| balancer.backend(at, empty_ends)), [0, 0]);
    assert_eq!((balancer.ejected(), balancer.retries()), (vec![false, false], 0));
}

#[test]
fn a_pool_of_sinks_is_never_blamed_for_its_silence() {
    let (one, other) = (deaf(), deaf());
    let keys = "health: { check: off }, passive: { empty: 1, eject: 1h },";
    let balancer = Balancer::start(&yaml(keys, &[one.address, other.address]));
    (0..10).for_each(|_| assert_eq!(ask(balancer.address(), b"<13>a line"), b""));
    balancer.ends(Reason::BackendEmpty, 10);
    assert_eq!(balancer.ejected(), [false, false]);
}

#[test]
fn where_nobody_else_is_there_the_end_is_passed_on_at_once() {
    let bad = closing();
    let balancer = Balancer::start(&yaml("health: { check: off },", &[bad.address]));
    for _ in 0..3 {
        assert_eq!(connect(balancer.address()).read(&mut [0; 8]).unwrap(), 0, "an end, and no reset");
    }
    balancer.ends(Reason::BackendEmpty, 3);
    assert_eq!((bad.accepted(), balancer.retries()), (3, 0));
}

#[test]
fn attempts_are_the_bound_and_the_last_one_is_named() {
    let bad: Vec<Backend> = (0..5).map(|_| resetting()).collect();
    let addresses: Vec<SocketAddr> = bad.iter().map(|one| one.address).collect();
    let keys = "health: { check: off }, connect: { attempts: 3 },";
    let balancer = Balancer::start(&yaml(keys, &addresses));
    assert!(connect(balancer.address()).read(&mut [0; 8]).is_err(), "a reset");
    balancer.ends(Reason::BackendEmpty, 1);
    assert_eq!(bad.iter().map(Backend::accepted).sum::<usize>(), 3);
}

/// It was handed the place of the one that had ended it already, again and again, until no attempt was left.
#[test]
fn a_session_waits_for_the_full_backend_and_not_for_the_one_that_ended_it() {
    let bad = Backend::start(|stream| {
        // Once it is reached: a failed connect would be another matter.
        std::thread::sleep(Duration::from_millis(50));
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let good = Backend::start(echo);
    let balancer = Balancer::start(&format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:1', balance: first, queue: {{ sessions: 9, timeout: 60s }}, passive: off, \
         health: {{ check: off }}, backends: [{{ address: '{}', max_sessions: 1 }}, '{}'] }} }}",
        good.address, bad.address
    ));
    let mut first = connect(balancer.address());
    exchange(&mut first, b"first");
    let mut second = connect(balancer.address());
    becomes("the other one has ended it", 1, || balancer.backend(1, empty_ends));
    becomes("it is in line", 2, || balancer.active());
    // Long enough for several ends more.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(balancer.backend(1, empty_ends), 1, "it is left alone");
    drop(first);
    exchange(&mut second, b"second");
}

#[test]
fn the_next_backend_gets_the_proxy_header_too() {
    let bad = closing();
    let good = Backend::start(|mut stream| {
        let mut heard = vec![0; 256];
        let length = stream.read(&mut heard).unwrap();
        stream.write_all(&heard[..length]).unwrap();
    });
    let keys = "balance: first, health: { check: off }, send_proxy: v1, passive: off,";
    let balancer = Balancer::start(&yaml(keys, &[bad.address, good.address]));
    let heard = greeting(balancer.address());
    assert!(heard.starts_with("PROXY TCP4 127.0.0.1 "), "{heard:?}");
    balancer.ends(Reason::BackendClosed, 1);
}

/// A sink that has nothing to say shuts its own direction at once, and takes what comes.
#[test]
fn a_backend_that_only_listens_is_served_by_as_before() {
    let (sent, got) = std::sync::mpsc::channel();
    let sink = Backend::start(move |mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        sent.send(bytes.len()).unwrap();
    });
    let balancer = Balancer::start(&yaml("health: { check: off },", &[sink.address]));
    let mut stream = connect(balancer.address());
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    stream.write_all(&[7; 300_000]).unwrap();
    drop(stream);
    assert_eq!(got.recv_timeout(DEADLINE).unwrap(), 300_000);
    balancer.ends(Reason::BackendEmpty, 1);
}

#[test]
fn a_first_message_is_said_again_where_the_file_says_that_it_may_be() {
    let (bad, good) = (deaf(), Backend::start(echo));
    let keys = "balance: first, health: { check: off }, passive: off, send_proxy: v1, connect: { replay_first: on },";
    let header_eater = Backend::start(|mut stream| {
        let mut heard = vec![0; 256];
        let length = stream.read(&mut heard).unwrap();
        stream.write_all(&heard[..length]).unwrap();
    });
    let balancer = Balancer::start(&yaml(keys, &[bad.address, header_eater.address]));
    let mut stream = connect(balancer.address());
    stream.write_all(b"hello").unwrap();
    let (heard, _) = read_to_end(&mut stream);
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.starts_with("PROXY TCP4 127.0.0.1 "), "{heard:?}");
    drop(stream);
    balancer.ends(Reason::BackendClosed, 1);

    let keys = "balance: first, health: { check: off }, passive: off, connect: { replay_first: on },";
    let balancer = Balancer::start(&yaml(keys, &[bad.address, good.address]));
    let replays = |which: usize| {
        let snapshot = balancer.server().snapshots().load();
        let shards = &snapshot.pools[0].live.shards;
        [shards.sum(|one| one.replays.value()), shards.sum(|one| one.replays_forgone.value())][which]
    };
    for length in [1, 5_000, 16 * 1024] {
        let mut stream = connect(balancer.address());
        let bytes = pattern(length);
        exchange(&mut stream, &bytes);
        exchange(&mut stream, b"and more");
    }
    assert_eq!((replays(0), replays(1)), (3, 0));
    // What is longer is not said again: the client hears of the end.
    let mut stream = connect(balancer.address());
    stream.write_all(&pattern(16 * 1024 + 1)).unwrap();
    assert_eq!(read_to_end(&mut stream).0, b"");
    drop(stream);
    eventually("it is counted", || (replays(0), replays(1)) == (3, 1));
    becomes("ends", 1, || balancer.ended(Reason::BackendEmpty));
}
