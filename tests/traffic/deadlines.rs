//! Timeouts, socket options, and what an idle session costs: nothing.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use evenkeel::reason::Reason;

use crate::rig::*;

fn yaml(backend: &Backend, keys: &str) -> String {
    format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:1', {keys} backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    )
}

#[test]
fn an_idle_session_ends_and_a_busy_one_does_not() {
    let backend = Backend::start(echo);
    let balancer = Balancer::start(&yaml(&backend, "timeouts: { idle: 2s },"));
    let mut busy = connect(balancer.address());
    let began = Instant::now();
    let mut idle = connect(balancer.address());
    let worker = std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        while began.elapsed() < Duration::from_secs(4) {
            let last = Instant::now();
            exchange(&mut busy, b"busy");
            std::thread::sleep(Duration::from_millis(50));
            longest = longest.max(last.elapsed());
        }
        // On a machine that stood still for two seconds it may have been idle after all.
        assert!(
            longest > Duration::from_secs(2) || {
                exchange(&mut busy, b"busy");
                true
            }
        );
    });
    let (bytes, outcome) = read_to_end(&mut idle);
    assert_eq!((bytes.len(), outcome), (0, Outcome::End));
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    worker.join().unwrap();
    eventually("the idle one is counted", || balancer.ended(Reason::Idle) >= 1);
}

#[test]
fn a_half_closed_session_ends_when_the_other_side_is_silent() {
    let backend = Backend::start(|mut stream| {
        let _ = read_to_end(&mut stream);
        // The balancer ends it.
        let _ = stream.set_read_timeout(Some(DEADLINE));
        std::thread::sleep(Duration::from_secs(3));
    });
    let balancer = Balancer::start(&yaml(&backend, "timeouts: { half_closed: 1s },"));
    let began = Instant::now();
    let mut client = connect(balancer.address());
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client).0.len(), 0);
    assert!(began.elapsed() >= Duration::from_secs(1));
    balancer.ends(Reason::HalfClosed, 1);
}

#[test]
fn lifetimes_end_spread_over_ten_percent() {
    let backend = Backend::start(echo);
    let balancer = Balancer::start(&yaml(&backend, "timeouts: { lifetime: 3s },"));
    let address = balancer.address();
    let threads: Vec<_> = (0..40)
        .map(|_| {
            std::thread::spawn(move || {
                let began = Instant::now();
                let mut client = connect(address);
                client.write_all(b"x").unwrap();
                assert_eq!(read_to_end(&mut client), (b"x".to_vec(), Outcome::End));
                began.elapsed()
            })
        })
        .collect();
    let lived: Vec<Duration> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let shortest = *lived.iter().min().unwrap();
    assert!(shortest >= Duration::from_millis(2_700), "{shortest:?}");
    assert!(shortest < Duration::from_secs(3), "40 of 40 above the middle: {shortest:?}");
    let spread = *lived.iter().max().unwrap() - shortest;
    assert!(spread >= Duration::from_millis(150), "{spread:?}");
    balancer.ends(Reason::Lifetime, 40);
}

/// TCP_USER_TIMEOUT: a client that stops reading is given up, and its backend gets a reset.
#[test]
fn a_client_that_acknowledges_nothing_for_too_long_is_lost() {
    let (sender, ended) = std::sync::mpsc::channel();
    let backend = Backend::start(move |mut stream| {
        // Ends with an error: nobody can take all of this.
        sender.send(stream.write_all(&pattern(64 << 20)).map_err(|error| error.kind())).unwrap();
    });
    let balancer = Balancer::start(&yaml(&backend, "timeouts: { unacknowledged: 1s },"));
    let client = connect(balancer.address());
    let outcome = ended.recv_timeout(DEADLINE).unwrap();
    assert_eq!(outcome, Err(std::io::ErrorKind::ConnectionReset));
    balancer.ends(Reason::ClientLost, 1);
    drop(client);
}

/// Copies of the two sockets of the only session of a child: its descriptors, reached through pidfd.
fn sockets_of(program: &Program) -> Vec<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(program.pid()).unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap() {
        let entry = entry.unwrap();
        let target = std::fs::read_link(entry.path()).unwrap();
        if !target.to_string_lossy().starts_with("socket:") {
            continue;
        }
        let number: i32 = entry.file_name().to_string_lossy().parse().unwrap();
        let flags = rustix::process::PidfdGetfdFlags::empty();
        let socket = rustix::process::pidfd_getfd(&pidfd, number, flags).unwrap();
        if rustix::net::getpeername(&socket).is_ok() && rustix::net::sockopt::tcp_nodelay(&socket).is_ok() {
            sockets.push(socket);
        }
    }
    sockets
}

#[test]
fn keepalive_and_unacknowledged_are_set_on_both_sockets() {
    use rustix::net::sockopt;
    let backend = Backend::start(echo);
    let keys = "timeouts: { unacknowledged: 9s }, keepalive: { idle: 61s, interval: 16s, count: 5 },";
    let program = Program::start(&yaml(&backend, keys).replace("127.0.0.1:1'", "127.0.0.1:PORT'"));
    let mut client = connect(program.address());
    exchange(&mut client, b"both connected");
    let mut checked = 0;
    for socket in sockets_of(&program) {
        let peer: std::net::SocketAddr =
            rustix::net::getpeername(&socket).unwrap().unwrap().try_into().unwrap();
        if peer != client.local_addr().unwrap() && peer != backend.address {
            continue;
        }
        checked += 1;
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), Duration::from_secs(61));
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), Duration::from_secs(16));
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), 5);
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 9_000);
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
    }
    assert_eq!(checked, 2);
}

#[test]
fn idle_sessions_cost_no_wake_ups() {
    let backend = Backend::start(echo);
    let program =
        Program::start(&yaml(&backend, "timeouts: { idle: 1h },").replace("127.0.0.1:1'", "127.0.0.1:PORT'"));
    let mut clients: Vec<_> = (0..50).map(|_| connect(program.address())).collect();
    for client in &mut clients {
        exchange(client, b"connected");
    }
    let [thread] = &program.data_threads()[..] else { panic!("one data thread") };
    // Late acknowledgements of the exchange may still wake it.
    let mut before = thread.sleeps();
    let mut fewest = u64::MAX;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(2));
        let now = thread.sleeps();
        fewest = fewest.min(now - before);
        before = now;
        if fewest <= 1 {
            break;
        }
    }
    assert!(fewest <= 1, "{fewest} wake-ups in 2 s of 50 idle sessions");
}
