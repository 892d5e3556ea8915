//! Nothing holds up the health checks: neither hostile clients of the admin door nor a reload that builds many tables.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::rig::*;

/// Clients that ask for everything all the time, until dropped.
struct Hostile {
    stop: Arc<AtomicBool>,
    /// Bytes of answers.
    answered: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Hostile {
    fn begin(clients: usize, door: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |at: usize| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let path = ["/metrics", "/status"][at % 2];
            std::thread::spawn(move || {
                // Many questions at once: each turn of a server that answers what is there answers several.
                let asked = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").repeat(100);
                while !stop.load(Ordering::Relaxed) {
                    let mut client = connect(door);
                    let mut asking = client.try_clone().unwrap();
                    let asked = asked.clone();
                    let asker =
                        std::thread::spawn(move || while asking.write_all(asked.as_bytes()).is_ok() {});
                    let mut bytes = vec![0; 256 * 1024];
                    while let Ok(count @ 1..) = client.read(&mut bytes) {
                        answered.fetch_add(count as u64, Ordering::Relaxed);
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    let _ = client.shutdown(std::net::Shutdown::Both);
                    let _ = asker.join();
                }
            })
        };
        let threads = (0..clients).map(client).collect();
        Self { stop, answered, threads }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A listener at all addresses of loopback, whose program counts what it is given.
fn crowd() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&seen);
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (port, seen)
}

/// `count` addresses of loopback.
fn addresses(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    (1..=count).map(|at| Ipv4Addr::from_bits(0x7f0a_0000 + at))
}

/// Good checks so far, and when that was counted.
fn good_checks(program: &Program) -> (u64, u64) {
    let status = program.status();
    let pools = status["pools"].as_array().unwrap();
    let backends = pools.iter().flat_map(|pool| pool["backends"].as_array().unwrap());
    (backends.map(|one| one["checks"]["good"].as_u64().unwrap()).sum(), status["uptime_ms"].as_u64().unwrap())
}

/// Good checks in a second, over some seconds.
fn checks_per_s(program: &Program) -> f64 {
    let before = good_checks(program);
    std::thread::sleep(Duration::from_secs(4));
    let after = good_checks(program);
    (after.0 - before.0) as f64 * 1_000.0 / (after.1 - before.1) as f64
}

#[test]
fn hostile_clients_of_the_admin_door_hold_up_no_check() {
    let (port, seen) = crowd();
    let dying = TcpListener::bind("127.0.0.1:0").unwrap();
    let list: Vec<String> = addresses(1_000).map(|address| format!("'{address}:{port}'")).collect();
    let program = Program::start(&format!(
        "workers: 1\nlog: {{ sessions: off }}\nlisteners:\n  door: {{ bind: '127.0.0.1:PORT', pool: many }}\n  \
         other: {{ bind: '127.0.0.1:{other}', pool: dying }}\npools:\n  many: {{ health: {{ interval: 1s }}, backends: [{list}] }}\n  \
         dying: {{ health: {{ interval: 1s }}, backends: ['{dead}'] }}",
        other = crate::ports::free_port(),
        list = list.join(", "),
        dead = dying.local_addr().unwrap(),
    ));
    let quiet = checks_per_s(&program);
    let hostile = Hostile::begin(64, program.http());
    let (answered, seen_before) = (hostile.answered.load(Ordering::Relaxed), seen.load(Ordering::Relaxed));
    let loud = checks_per_s(&program);
    drop(dying);
    let died = Instant::now();
    eventually("the dead one is noticed", || program.log().contains("backend is down"));
    let noticed = died.elapsed();
    let megabytes = hostile.answered.load(Ordering::Relaxed) - answered;
    let megabytes = megabytes / 1_000_000;
    let seen = seen.load(Ordering::Relaxed) - seen_before;
    let figures = format!(
        "{quiet:.0} checks a second, {loud:.0} beside {megabytes} MB of answers; noticed after {noticed:.1?}; {seen} checks seen"
    );
    println!("{figures}");
    assert!(loud > quiet * 0.8, "{figures}");
    // Three bad checks, the last two a quarter of the interval apart: 1.5 s. A machine that stalls may need more.
    assert!(noticed < Duration::from_secs(3), "{figures}");
    assert!(seen < 10, "{figures}");
    assert!(megabytes > 8, "{figures}");
}

/// What the read-only address says.
fn asked(door: SocketAddr, path: &str) -> String {
    let mut client = connect(door);
    client.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn one_text_serves_all_who_ask_within_a_second_and_who_changes_something_sees_it() {
    let backend = Backend::start(echo);
    let program = Program::start(&format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: [{{ address: '{}', name: b }}], health: {{ check: off }} }} }}",
        backend.address
    ));
    for path in ["/metrics", "/status"] {
        // A machine that stalls is given another try.
        eventually("many ask within a second", || {
            let (began, first) = (Instant::now(), asked(program.http(), path));
            let others: Vec<String> = (0..20).map(|_| asked(program.http(), path)).collect();
            let in_time = began.elapsed() < Duration::from_millis(500);
            // The first may have been given a text that had some time left; from the second on no more than one is new.
            let texts: std::collections::HashSet<&String> = others.iter().chain([&first]).collect();
            assert!(!in_time || texts.len() <= 2, "{} texts of {path}", texts.len());
            in_time
        });
        std::thread::sleep(Duration::from_secs(1));
        assert!(!asked(program.http(), path).is_empty());
    }
    let mark = |program: &Program| {
        let status: serde_json::Value = serde_json::from_str(&asked(program.http(), "/status")).unwrap();
        status["pools"][0]["backends"][0]["mark"]["mark"].as_str().map(str::to_owned)
    };
    for _ in 0..3 {
        program.say(&["drain", "door/b"]);
        assert_eq!(mark(&program).as_deref(), Some("drain"));
        assert_eq!(program.status()["pools"][0]["backends"][0]["mark"]["mark"], "drain");
        program.say(&["ready", "door/b"]);
        assert_eq!(mark(&program), None);
    }
    let generation = |program: &Program| {
        let metrics = asked(program.http(), "/metrics");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix("evenkeel_config_generation ").map(str::to_owned))
            .unwrap()
    };
    assert_eq!(generation(&program), "1");
    program.write_file(&format!("{}\n# more", program.file()));
    program.say(&["reload"]);
    assert_eq!(generation(&program), "2");
}
