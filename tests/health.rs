//! The health room against real sockets on loopback.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::config::settings::{Check, Health, SendProxy};
use evenkeel::health::{Cause, Checked, Checker, Haste, LocalError, Outcome, Target, TargetId};
use evenkeel::liveness::{Change, State};
use evenkeel::sys::probe::Route;
use tokio::sync::mpsc;

/// For what must happen, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn health(check: Check, interval_ms: u64, timeout_ms: u64) -> Arc<Health> {
    let (interval, timeout) = (Duration::from_millis(interval_ms), Duration::from_millis(timeout_ms));
    Arc::new(Health {
        check,
        interval,
        timeout,
        rise: 2,
        fall: 3,
        port: None,
        send_proxy: SendProxy::Off,
        keep: None,
    })
}

fn talk(send: &str, expect: &str) -> Check {
    Check::TcpTalk { send: send.into(), expect: expect.into() }
}

fn target(id: u64, address: SocketAddr, health: &Arc<Health>) -> Target {
    Target {
        id: TargetId(id),
        route: Route::to(address),
        health: Arc::clone(health),
        haste: Haste::default(),
        known: None,
    }
}

async fn next(events: &mut mpsc::Receiver<Checked>) -> Checked {
    tokio::time::timeout(PATIENCE, events.recv())
        .await
        .expect("no check was made")
        .expect("the checker ended")
}

/// What one check of `address` gives.
async fn check_once(address: SocketAddr, check: Check, timeout: Duration) -> Outcome {
    check_once_by(Route::to(address), check, timeout).await
}

async fn check_once_by(route: Route, check: Check, timeout: Duration) -> Outcome {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap();
    let (sender, mut events) = mpsc::channel(1);
    let target = Target { route, ..target(1, nowhere(), &health(check, 600_000, timeout_ms)) };
    let checker = Checker::start([target], 1, 1, sender);
    let outcome = next(&mut events).await.outcome;
    checker.stop().await;
    outcome
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A listener that answers no SYN: its backlog of 0 holds one connection, and that is held.
fn silent() -> (OwnedFd, TcpStream, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&listener, 0).unwrap();
    let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let held = TcpStream::connect(address).unwrap();
    (listener, held, address)
}

/// Serves every connection with `serve` in a thread, until the test ends.
fn serve(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let (listener, address) = listen();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

#[tokio::test]
async fn a_check_comes_from_the_first_address_that_this_host_has() {
    // 192.0.2.0/24 is for documentation: no host has it.
    let [own, foreign] = ["127.0.0.7", "192.0.2.7"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let (stream, datagrams) = (listen().0, UdpSocket::bind("127.0.0.1:0").unwrap());
    let (to, udp) = (stream.local_addr().unwrap(), datagrams.local_addr().unwrap());
    // Both answer with the address they are asked from.
    std::thread::spawn(move || {
        for mut asked in stream.incoming().flatten() {
            let peer = asked.peer_addr().unwrap().ip();
            let _ = asked.write_all(format!("from {peer} ").as_bytes());
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, peer)) = datagrams.recv_from(&mut [0; 16]) {
            let _ = datagrams.send_to(format!("from {} ", peer.ip()).as_bytes(), peer);
        }
    });
    let expect = || b"from 127.0.0.7 ".as_slice().into();
    let checks = [
        (to, Check::TcpTalk { send: b"".as_slice().into(), expect: expect() }),
        (udp, Check::Udp { send: b"?".as_slice().into(), expect: expect() }),
        (to, Check::Tcp),
    ];
    for (to, check) in checks {
        for from in [vec![own], vec![foreign, own]] {
            let outcome = check_once_by(Route { to, from: from.into() }, check.clone(), PATIENCE).await;
            assert_eq!(outcome, Outcome::Good, "{check:?}");
        }
        let outcome = check_once_by(Route { to, from: [foreign].into() }, check.clone(), PATIENCE).await;
        assert_eq!(outcome, Outcome::Local(LocalError::NoPort), "nobody to blame but this host: {check:?}");
    }
}

#[tokio::test]
async fn a_plain_check_is_never_accepted() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(bind).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let health = health(Check::Tcp, 5, 10_000);
        let (sender, mut events) = mpsc::channel(1);
        let checker =
            Checker::start((0..20).map(|id| target(id, address, &health)).collect::<Vec<_>>(), 64, 1, sender);
        let mut in_time = 0;
        while in_time < 200 {
            let checked = next(&mut events).await;
            assert_eq!(checked.outcome, Outcome::Good);
            in_time += 1;
            if checked.took > Duration::from_millis(100) {
                // This machine stalled: the last ACK may have left before the reset. Count anew.
                while listener.accept().is_ok() {}
                in_time = 0;
            }
        }
        checker.stop().await;
        // No socket is open any more, so what could have been accepted would be in the queue by now.
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{bind}");
        // The queue does show a connection that is not reset: the test can fail.
        let _plain = TcpStream::connect(address).unwrap();
        assert!(listener.accept().is_ok());
    }
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let address = TcpListener::bind(bind).unwrap().local_addr().unwrap();
        for check in [Check::Tcp, talk("x", "y")] {
            assert_eq!(check_once(address, check, PATIENCE).await, Outcome::Bad(Cause::Refused));
        }
    }
}

#[tokio::test]
async fn a_silent_backend_times_out() {
    let (_listener, _held, address) = silent();
    for check in [Check::Tcp, talk("x", "y")] {
        let outcome = check_once(address, check, Duration::from_millis(500)).await;
        // Late: this machine was so slow that the check says nothing.
        assert!(
            matches!(outcome, Outcome::Bad(Cause::Timeout) | Outcome::Local(LocalError::Late)),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn talks() {
    let echo = serve(|mut peer| {
        let mut word = [0; 6];
        let _ = peer.read_exact(&mut word);
        let _ = peer.write_all(if &word == b"PING\r\n" { b"+PONG\r\n" } else { b"-ERR\x07\r\n" });
    });
    assert_eq!(check_once(echo, talk("PING\r\n", "+PONG"), PATIENCE).await, Outcome::Good);
    let Outcome::Bad(Cause::WrongAnswer { excerpt }) =
        check_once(echo, talk("PONG\r\n", "+PONG"), PATIENCE).await
    else {
        panic!("a wrong answer was taken");
    };
    assert_eq!(excerpt.to_string(), "-ERR\\x07\\r\\n");

    let banner = serve(|mut peer| drop(peer.write_all(b"220 ready\r\n")));
    assert_eq!(check_once(banner, talk("", "220 "), PATIENCE).await, Outcome::Good);

    let drip = serve(|mut peer| {
        let _ = peer.set_nodelay(true);
        for byte in b"noise noise ex-expec-expected" {
            let _ = peer.write_all(&[*byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = peer.read(&mut [0]);
    });
    assert_eq!(check_once(drip, talk("", "expected"), PATIENCE).await, Outcome::Good);

    let (heard, sent) = std::sync::mpsc::channel();
    let sink = serve(move |mut peer| {
        let mut all = String::new();
        let _ = peer.read_to_string(&mut all);
        let _ = heard.send(all);
    });
    assert_eq!(check_once(sink, talk("hello", ""), PATIENCE).await, Outcome::Good);
    assert_eq!(sent.recv_timeout(PATIENCE).unwrap(), "hello");
}

#[tokio::test]
async fn the_expected_word_counts_only_within_64_kib() {
    for (noise, is_good) in [(65_536 - 4, true), (65_536 - 3, false), (65 * 1024, false)] {
        let address = serve(move |mut peer| {
            let _ = peer.write_all(&vec![b'.'; noise]);
            let _ = peer.write_all(b"word");
            let _ = peer.read(&mut [0]);
        });
        let outcome = check_once(address, talk("", "word"), PATIENCE).await;
        if is_good {
            assert_eq!(outcome, Outcome::Good, "{noise}");
        } else {
            assert!(matches!(outcome, Outcome::Bad(Cause::WrongAnswer { .. })), "{noise}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn talks_that_end_early() {
    let closing = serve(|mut peer| drop(peer.read(&mut [0; 16])));
    assert_eq!(check_once(closing, talk("x", "y"), PATIENCE).await, Outcome::Bad(Cause::Closed));

    let resetting = serve(|mut peer| {
        let _ = peer.read(&mut [0; 16]);
        rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(check_once(resetting, talk("x", "y"), PATIENCE).await, Outcome::Bad(Cause::Reset));

    let dumb = serve(|mut peer| drop(peer.read_to_end(&mut Vec::new())));
    let outcome = check_once(dumb, talk("x", "y"), Duration::from_millis(500)).await;
    assert!(
        matches!(outcome, Outcome::Bad(Cause::Timeout) | Outcome::Local(LocalError::Late)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_flapping_listener_rises_and_falls() {
    let (listener, address) = listen();
    let (sender, mut events) = mpsc::channel(1);
    let checker = Checker::start([target(1, address, &health(Check::Tcp, 40, 60_000))], 1, 1, sender);
    let first = next(&mut events).await;
    assert_eq!((first.verdict.state, first.verdict.change), (State::Up, Some(Change::CameUp)));

    drop(listener);
    let mut bad = Vec::new();
    while bad.last() != Some(&Some(Change::WentDown)) {
        let checked = next(&mut events).await;
        if matches!(checked.outcome, Outcome::Bad(_)) {
            bad.push(checked.verdict.change);
            assert_eq!(usize::from(checked.verdict.progress.done), bad.len() % 3);
        }
    }
    assert_eq!(bad.len(), 3);

    // std sets SO_REUSEADDR, so the port is free at once.
    let _listener = TcpListener::bind(address).unwrap();
    let mut good = Vec::new();
    while good.last() != Some(&Some(Change::CameUp)) {
        let checked = next(&mut events).await;
        if checked.outcome == Outcome::Good {
            good.push(checked.verdict.change);
        }
    }
    assert_eq!(good.len(), 2);
    checker.stop().await;
}

#[tokio::test]
async fn a_hundred_silent_backends_do_not_delay_a_live_one() {
    let silent: Vec<_> = (0..100).map(|_| silent()).collect();
    let (_listener, live) = listen();
    let patient = health(Check::Tcp, 1_000, 600_000);
    let quick = health(Check::Tcp, 100, 600_000);
    let mut targets: Vec<_> =
        silent.iter().enumerate().map(|(id, (.., address))| target(id as u64, *address, &patient)).collect();
    targets.push(target(100, live, &quick));
    let (sender, mut events) = mpsc::channel(1);
    let checker = Checker::start(targets, 128, 1, sender);
    for _ in 0..20 {
        let checked = next(&mut events).await;
        assert_eq!((checked.target, checked.outcome), (TargetId(100), Outcome::Good));
    }
    // 100 checks are in flight, with ten minutes to go.
    tokio::time::timeout(PATIENCE, checker.stop()).await.expect("a stop waits for checks in flight");
}

#[tokio::test]
async fn an_update_keeps_what_stays_and_starts_what_is_new() {
    let ((_one, first), (_two, second)) = (listen(), listen());
    let rare = health(Check::Tcp, 600_000, 60_000);
    let (sender, mut events) = mpsc::channel(8);
    let checker = Checker::start([target(1, first, &rare)], 8, 1, sender);
    assert_eq!(next(&mut events).await.target, TargetId(1));
    checker.update([target(1, first, &rare), target(2, second, &rare)]);
    assert_eq!(next(&mut events).await.target, TargetId(2));
    checker.update([target(1, second, &rare), target(2, second, &rare)]);
    let moved = next(&mut events).await;
    assert_eq!((moved.target, moved.verdict.change), (TargetId(1), Some(Change::CameUp)));
    checker.stop().await;
    assert!(events.recv().await.is_none(), "something was asked before its interval was over");
}

#[tokio::test]
async fn a_starved_checker_blames_nobody() {
    // The answer comes while this thread sleeps past the timeout: it is taken.
    let (asked, was_asked) = std::sync::mpsc::channel();
    let address = serve(move |mut peer| {
        let _ = peer.read(&mut [0]);
        let _ = asked.send(());
        let _ = peer.write_all(b"y");
        let _ = peer.read(&mut [0]);
    });
    let (sender, mut events) = mpsc::channel(1);
    let checker = Checker::start([target(1, address, &health(talk("x", "y"), 600_000, 2_000))], 1, 1, sender);
    while was_asked.try_recv().is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(next(&mut events).await.outcome, Outcome::Good);
    checker.stop().await;

    // Nothing comes, but this thread was kept from looking: no verdict.
    let (_listener, _held, address) = silent();
    let (sender, mut events) = mpsc::channel(1);
    let checker = Checker::start([target(1, address, &health(Check::Tcp, 10, 50))], 1, 1, sender);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "a wake-up of a starved thread was never called late");
        tokio::time::sleep(Duration::from_millis(10)).await;
        std::thread::sleep(Duration::from_millis(200));
        if next(&mut events).await.outcome == Outcome::Local(LocalError::Late) {
            break;
        }
    }
    checker.stop().await;
}

/// Runs again in a process of its own, where it uses up all descriptors.
#[test]
fn out_of_descriptors_never_counts() {
    const CHILD: &str = "HEALTH_TEST_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "out_of_descriptors_never_counts"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let (_listener, address) = listen();
        let (sender, mut events) = mpsc::channel(1);
        let checker = Checker::start([target(1, address, &health(Check::Tcp, 20, 60_000))], 1, 1, sender);
        assert_eq!(next(&mut events).await.verdict.state, State::Up);

        let limit = rustix::process::Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, limit).unwrap();
        let mut held = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            held.push(file);
        }
        let mut local = 0;
        while local < 10 {
            let checked = next(&mut events).await;
            assert_eq!((checked.verdict.state, checked.verdict.progress.done), (State::Up, 0));
            match checked.outcome {
                Outcome::Local(error) => {
                    assert_eq!(error, LocalError::NoFiles);
                    local += 1;
                }
                other => assert_eq!((other, local), (Outcome::Good, 0), "only checks from before"),
            }
        }
        drop(held);
        while next(&mut events).await.outcome != Outcome::Good {}
        checker.stop().await;
    });
}
