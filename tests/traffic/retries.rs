//! Backends that are slow, silent, gone or refusing.

use std::hash::Hasher;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use evenkeel::metrics::Direction;
use evenkeel::reason::Reason;
use siphasher::sip::SipHasher13;

use crate::rig::*;

fn yaml(keys: &str, backends: &[String]) -> String {
    let backends = backends.join("', '");
    format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:1', {keys} backends: ['{backends}'], health: {{ check: off }} }} }}"
    )
}

/// Pushes until nothing is taken for a while; tells how much was.
fn push_until_stuck(stream: &mut std::net::TcpStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut accepted, mut quiet) = (0, 0);
    while quiet < 60 {
        match stream.write(&bytes[accepted..]) {
            Ok(written) => (accepted, quiet) = (accepted + written, 0),
            Err(_) => {
                quiet += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    accepted
}

#[test]
fn a_backend_that_stalls_costs_bounded_memory_and_no_cpu_and_later_goes_on() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (sums, summed) = mpsc::channel();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let backend = Backend::start(move |mut stream| {
        let _ = may_go_on.lock().unwrap().recv();
        sums.send(sum_of(&mut stream)).unwrap();
    });
    let program = Program::start(&format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let before_kib = program.private_kib();
    let mut client = connect(program.address());
    let bytes = pattern(64 << 20);
    let accepted = push_until_stuck(&mut client, &bytes);
    assert!(accepted > 100_000, "{accepted}");
    assert!(accepted < 48 << 20, "{accepted} bytes were taken although nobody reads");
    let grown_kib = program.private_kib().saturating_sub(before_kib);
    assert!(grown_kib < 4 << 10, "{grown_kib} KiB more while a backend stalls");

    let [thread] = &program.data_threads()[..] else { panic!("one data thread") };
    let (cpu_ms, began) = (thread.cpu_ms(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let (spent_ms, passed_ms) = (thread.cpu_ms() - cpu_ms, began.elapsed().as_millis());
    assert!(spent_ms < 50, "{spent_ms} ms of CPU in {passed_ms} ms of stall");

    go_on.send(()).unwrap();
    client.write_all(&bytes[accepted..]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (length, received) = summed.recv_timeout(DEADLINE).unwrap();
    assert_eq!((length, received), (bytes.len() as u64, sum(&bytes)));
}

/// Many stalls and wake-ups in both directions at once, through pipes that are full again and again.
#[test]
fn full_pipes_that_meet_stalled_readers_go_on_with_every_byte() {
    const BYTES: usize = 48 << 20;
    let backend = Backend::start(|stream| {
        let mut reader = stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || slow_sum(&mut reader, BYTES));
        let mut writer = stream;
        let bytes = pattern(BYTES);
        writer.write_all(&bytes).unwrap();
        assert_eq!(reading.join().unwrap(), sum(&bytes));
    });
    let balancer = Balancer::start(&yaml("", &[backend.address.to_string()]));
    let stream = connect(balancer.address());
    let mut writer = stream.try_clone().unwrap();
    let bytes = pattern(BYTES);
    let wanted = sum(&bytes);
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut reader = stream;
    assert_eq!(slow_sum(&mut reader, BYTES), wanted);
    writing.join().unwrap();
    drop(reader);
    eventually("the session ends", || balancer.active() == 0);
    assert_eq!(balancer.bytes(Direction::ToBackend), BYTES as u64);
    assert_eq!(balancer.bytes(Direction::ToClient), BYTES as u64);
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Reads in gulps of changing size, with a rest after some, so that every buffer on the way fills.
fn slow_sum(stream: &mut impl Read, length: usize) -> u64 {
    let mut hasher = SipHasher13::new();
    let (mut read, mut gulp) = (0, 0);
    let mut buffer = vec![0; 3 << 20];
    while read < length {
        gulp += 1;
        let most = [1_000, 3 << 20, 70_000, 64 * 1024][gulp % 4].min(length - read);
        let mut taken = 0;
        while taken < most {
            taken += stream.read(&mut buffer[taken..most]).unwrap();
        }
        hasher.write(&buffer[..most]);
        read += most;
        if gulp % 7 == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    hasher.finish()
}

#[test]
fn a_backend_that_refuses_is_passed_over() {
    let good = Backend::start(answer_with("good"));
    let balancer = Balancer::start(&yaml(
        "balance: first, passive: off,",
        &[closed_address().to_string(), good.address.to_string()],
    ));
    assert_eq!(names_reached(balancer.address(), 20).get("good"), Some(&20));
    balancer.ends(Reason::BackendClosed, 20);
    assert_eq!(balancer.retries(), 20);
    assert_eq!(balancer.backend(0, |b| b.shards.sum(|shard| shard.connect_failures.value())), 20);
    assert_eq!(balancer.backend(0, |b| b.shards.sum(|shard| shard.sessions.value())), 0);
    assert_eq!(balancer.backend(1, |b| b.shards.sum(|shard| shard.sessions.value())), 20);
}

#[test]
fn a_backend_that_never_answers_is_left_after_the_connect_timeout() {
    let (silent, good) = (Silent::start(), Backend::start(answer_with("good")));
    let balancer = Balancer::start(&yaml(
        "balance: first, connect: { timeout: 300ms },",
        &[silent.address.to_string(), good.address.to_string()],
    ));
    let began = Instant::now();
    assert_eq!(short_session(balancer.address()).unwrap(), "good");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    balancer.ends(Reason::BackendClosed, 1);
    assert_eq!(balancer.retries(), 1);
}

#[test]
fn when_every_attempt_fails_the_client_is_reset_and_each_attempt_is_counted() {
    let backends: Vec<String> = (0..5).map(|_| closed_address().to_string()).collect();
    let balancer = Balancer::start(&yaml("connect: { timeout: 5s, attempts: 3 },", &backends));
    assert!(is_turned_away(balancer.address()));
    balancer.ends(Reason::ConnectFailed, 1);
    assert_eq!(balancer.retries(), 2);
    let failures = |index| balancer.backend(index, |b| b.shards.sum(|shard| shard.connect_failures.value()));
    let each: Vec<u64> = (0..5).map(failures).collect();
    assert_eq!(each.iter().sum::<u64>(), 3, "{each:?}");
    assert!(each.iter().all(|&count| count <= 1), "each attempt at another backend: {each:?}");
}

#[test]
fn a_repeat_at_the_only_backend_comes_after_a_pause() {
    let balancer =
        Balancer::start(&yaml("connect: { timeout: 400ms, attempts: 3 },", &[closed_address().to_string()]));
    let began = Instant::now();
    let mut client = connect(balancer.address());
    assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset));
    // Two pauses of 400 ms, each jittered by at most a quarter.
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    balancer.ends(Reason::ConnectFailed, 1);
    assert_eq!(balancer.retries(), 2);
}

/// The pause is long enough for a backend that is just restarting.
#[test]
fn a_backend_that_comes_back_during_the_pause_serves() {
    let mut only = Switch::start(answer_with("back"));
    only.off();
    let balancer =
        Balancer::start(&yaml("connect: { timeout: 5s, attempts: 16 },", &[only.address.to_string()]));
    let address = balancer.address();
    let client = std::thread::spawn(move || short_session(address).unwrap());
    eventually("an attempt has failed", || {
        balancer.backend(0, |b| b.shards.sum(|shard| shard.connect_failures.value())) > 0
    });
    only.on();
    assert_eq!(client.join().unwrap(), "back");
    balancer.ends(Reason::BackendClosed, 1);
}

#[test]
fn a_backend_that_vanishes_in_mid_stream_resets_its_client() {
    let backend = Backend::start(|mut stream| {
        stream.write_all(&pattern(100_000)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        reset(stream);
    });
    let balancer = Balancer::start(&yaml("", &[backend.address.to_string()]));
    let mut client = connect(balancer.address());
    let mut got = vec![0; 50_000];
    client.read_exact(&mut got).unwrap();
    client.write_all(b"!").unwrap();
    let (rest, outcome) = read_to_end(&mut client);
    assert_eq!((rest.len(), outcome), (50_000, Outcome::Reset));
    balancer.ends(Reason::BackendReset, 1);
}

#[test]
fn an_answer_in_single_bytes_arrives_whole() {
    let backend = Backend::start(|mut stream| {
        stream.set_nodelay(true).unwrap();
        for byte in pattern(5_000) {
            stream.write_all(&[byte]).unwrap();
        }
    });
    let balancer = Balancer::start(&yaml("", &[backend.address.to_string()]));
    let mut client = connect(balancer.address());
    assert!(read_to_end(&mut client) == (pattern(5_000), Outcome::End));
    eventually("counted", || balancer.bytes(Direction::ToClient) == 5_000);
}

#[test]
fn a_client_that_only_finished_sending_while_dialling_is_served() {
    let (silent, good) = (
        Silent::start(),
        Backend::start(|mut stream| {
            let (request, _) = read_to_end(&mut stream);
            stream.write_all(&request).unwrap();
        }),
    );
    let balancer = Balancer::start(&yaml(
        "balance: first, connect: { timeout: 300ms },",
        &[silent.address.to_string(), good.address.to_string()],
    ));
    let mut client = connect(balancer.address());
    client.write_all(b"echo x").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), (b"echo x".to_vec(), Outcome::End));
    balancer.ends(Reason::ClientClosed, 1);
}

#[test]
fn a_client_that_resets_while_dialling_gives_its_place_back_at_once() {
    let silent = Silent::start();
    let balancer = Balancer::start(&yaml("connect: { timeout: 60s },", &[silent.address.to_string()]));
    let began = Instant::now();
    let clients: Vec<_> = (0..50).map(|_| connect(balancer.address())).collect();
    eventually("all dial", || balancer.backend(0, |b| b.load.active()) == 50);
    clients.into_iter().for_each(reset);
    balancer.ends(Reason::ClientReset, 50);
    assert!(began.elapsed() < Duration::from_secs(55), "they waited for the connect timeout");
}

#[test]
fn a_silent_backend_that_wakes_up_serves_those_who_waited() {
    let silent = Silent::start();
    let balancer = Balancer::start(&yaml("connect: { timeout: 50s },", &[silent.address.to_string()]));
    let mut client = connect(balancer.address());
    client.write_all(b"still there?").unwrap();
    eventually("it dials", || balancer.backend(0, |b| b.load.active()) == 1);
    let mut stream = silent.wake();
    let mut asked = [0; 12];
    stream.read_exact(&mut asked).unwrap();
    stream.write_all(b"yes").unwrap();
    drop(stream);
    assert_eq!(read_to_end(&mut client), (b"yes".to_vec(), Outcome::End));
    drop(client);
    balancer.ends(Reason::BackendClosed, 1);
}

/// Dialling a port of one's own host where nobody listens may take that very port as its own, and TCP then connects the
/// socket to itself. Needs a network of its own with one local port, so it runs this test again inside of one.
#[test]
#[ignore = "needs root, for a network of its own"]
fn a_dial_that_meets_itself_is_no_backend() {
    const INSIDE: &str = "EVENKEEL_TEST_ALONE";
    const PORT: u16 = 40_001;
    if std::env::var_os(INSIDE).is_none() {
        crate::rig::in_a_network_of_its_own(module_path!(), "a_dial_that_meets_itself_is_no_backend", INSIDE);
        return;
    }
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("{PORT} {PORT}")).unwrap();
    let mut settings =
        settings(&yaml("connect: { timeout: 1s, attempts: 2 },", &[format!("127.0.0.1:{PORT}")]));
    settings.listeners[0].bind[0].port = 20_000;
    let balancer = Balancer::start_with(settings);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let own: std::net::SocketAddr = "127.0.0.1:30000".parse().unwrap();
    socket.bind(&own.into()).unwrap();
    socket.connect(&balancer.address().into()).unwrap();
    let mut client = std::net::TcpStream::from(socket);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"is anybody there?").unwrap();
    assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset));
    balancer.ends(Reason::ConnectFailed, 1);
    assert_eq!(balancer.retries(), 1);
}

/// Ends of both kinds at random moments, from both sides at once: nothing is left behind and everything adds up.
#[test]
fn ends_at_any_moment_leave_nothing_behind() {
    let coin = Arc::new(AtomicBool::new(false));
    let toss = Arc::clone(&coin);
    let backend = Backend::start(move |mut stream| {
        let mut buffer = [0; 8_192];
        let mut sum = 0_usize;
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            sum += length;
            if sum % 11 == 3 && toss.fetch_xor(true, Ordering::Relaxed) {
                return reset(stream);
            }
            if stream.write_all(&buffer[..length]).is_err() || sum % 13 == 5 {
                return;
            }
        }
    });
    let balancer =
        Balancer::start(&yaml("", &[backend.address.to_string()]).replace("workers: 1", "workers: 2"));
    let address = balancer.address();
    let threads: Vec<_> = (0..4_usize)
        .map(|thread| {
            std::thread::spawn(move || {
                for round in 0..400_usize {
                    let mut client = connect(address);
                    let length = (round * 7_919 + thread * 104_729) % 30_000;
                    let _ = client.write_all(&pattern(length));
                    match (round + thread) % 4 {
                        0 => reset(client),
                        1 => drop(client),
                        2 => {
                            let _ = client.shutdown(std::net::Shutdown::Write);
                            let _ = client.read_to_end(&mut Vec::new());
                        }
                        _ => {
                            let mut some = [0; 100];
                            let _ = client.set_read_timeout(Some(Duration::from_millis(20)));
                            let _ = client.read(&mut some);
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    balancer.settles();
    assert_eq!(balancer.begun(), 1_600);
    for (reason, _) in balancer.reasons() {
        assert!(
            ["client_closed", "backend_closed", "client_reset", "backend_reset", "backend_empty"]
                .contains(&reason),
            "{:?}",
            balancer.reasons()
        );
    }
}

#[test]
fn a_backend_that_failed_a_session_is_not_tried_again_when_a_reload_moves_its_place() {
    let (first, second, good) = (Silent::start(), Silent::start(), Backend::start(answer_with("good")));
    let with = |more: &str| {
        format!(
            "workers: 1\nlisteners: {{ door: {{ bind: 1, balance: first, health: {{ check: off }}, \
             connect: {{ timeout: 500ms, attempts: 3 }}, backends: [{more} '{}', '{}', '{}'] }} }}",
            first.address, second.address, good.address
        )
    };
    let balancer = Balancer::start(&with("{ address: '127.0.0.1:9', weight: 0 },"));
    let address = balancer.address();
    let client = std::thread::spawn(move || short_session(address));
    // The first has failed and the second is being dialled: now both stand one place further in front.
    becomes("retries", 1, || balancer.retries());
    balancer.reload(&with("")).unwrap();
    assert_eq!(client.join().unwrap().unwrap(), "good");
    assert_eq!(balancer.retries(), 2);
}
