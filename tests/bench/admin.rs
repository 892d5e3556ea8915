//! What `/status`, `/metrics` and one second of the dashboard cost with 1,000 backends: time until the answer is whole, over a
//! socket, at a balancer that is otherwise idle.
//!
//! `cargo bench --bench admin`: prints the median and the slowest of 20 of each, more than a second apart (a
//! text serves all who ask within one), and whether they are under 20 ms. It fails
//! only for an answer that is wrong: how fast a machine is, is no mistake of the program.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../ports/mod.rs"]
mod ports;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ports::free_port;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let [door, http, nobody] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let list: String = (0..BACKENDS)
        .map(|at| format!("        - {{ address: '{nobody}', name: backend-{at:04} }}\n"))
        .collect();
    let file = folder.path().join("evenkeel.yaml");
    let text = format!(
        "workers: 2\nadmin: {{ http: '{http}', socket: off }}\nlog: {{ level: error }}\nlisteners:\n  door:\n    bind: '{door}'\n    \
         health: {{ check: off }}\n    backends:\n{list}"
    );
    std::fs::write(&file, text).unwrap();
    let command = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["run", "--config"])
        .arg(&file)
        .stderr(Stdio::null())
        .spawn();
    let _balancer = Running(command.unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !answer(http, "/readyz").is_some_and(|text| text.contains("accepting")) {
        assert!(Instant::now() < deadline, "the balancer does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    for (path, part, times) in
        [("/status", "\"backend-0999\"", 1), ("/metrics", "backend=\"backend-0999\"", 5)]
    {
        let (mut took, mut bytes) = (Vec::new(), 0);
        for _ in 0..ROUNDS {
            std::thread::sleep(Duration::from_millis(1_010));
            let began = Instant::now();
            let text = answer(http, path).unwrap();
            took.push(began.elapsed());
            assert!(text.matches(part).count() >= times, "{path} lacks {part}");
            bytes = text.len();
        }
        took.sort_unstable();
        let (median, slowest) = (took[ROUNDS / 2], took[ROUNDS - 1]);
        let verdict = if median < LIMIT { "under" } else { "NOT under" };
        println!(
            "{path:<9} {BACKENDS} backends: median {median:.1?}, slowest {slowest:.1?} of {ROUNDS}, {} kB; {verdict} {LIMIT:?}",
            bytes / 1_000
        );
    }
    watched(http, 0);
    watched(http, 16);
}

/// What so many watchers of the dashboard cost.
fn watched(http: SocketAddr, count: usize) {
    let watchers: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(http).unwrap();
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
            let mut copy = stream.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut copy, &mut std::io::sink()));
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let (began, before) = (Instant::now(), cpu_seconds(http));
    std::thread::sleep(Duration::from_secs(5));
    let share = (cpu_seconds(http) - before) / began.elapsed().as_secs_f64();
    println!("dashboard {BACKENDS} backends, {count} watchers: {:.2} % of a core", share * 100.0);
    for stream in watchers {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

fn cpu_seconds(http: SocketAddr) -> f64 {
    let page = answer(http, "/metrics").unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total ")).unwrap();
    line.parse().unwrap()
}

/// The whole answer; `None`: nobody is there.
fn answer(at: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const BACKENDS: usize = 1_000;
const ROUNDS: usize = 20;
const LIMIT: Duration = Duration::from_millis(20);
