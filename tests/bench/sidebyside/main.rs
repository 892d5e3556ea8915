//! CPU time of the proxy per unit of work: evenkeel against the plain `tokio::io::copy_bidirectional` loop that a
//! balancer would otherwise be, each in a process and on a core of its own, load and backend on the other.
//!
//! `cargo bench --bench relay`. Rounds alternate between the two, so that a drifting machine hits both alike; only the
//! ratios of one run mean anything. `EVENKEEL_BENCH_OTHER` names another build of evenkeel to compare with as well. Every byte that comes back is compared or counted: a wrong one ends the run.

// A bench that cannot go on has nothing to measure.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::cast_possible_truncation)]

mod baseline;
mod bursts;
mod load;
mod peers;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One kind of work: its name, unit, and how to do it; tells how many units were done.
type Row = (&'static str, &'static str, fn(SocketAddr) -> f64);

const ROWS: [Row; 7] = [
    ("bulk, 4 streams one way", "us per MB", load::bulk),
    ("64 B request/response, 1 connection", "us per round", load::small_one),
    ("64 B request/response, 64 connections", "us per round", load::small_many),
    ("connect, 64 B, close", "us per connection", load::connects),
    ("udp 64 B request/reply, 1 client", "us per exchange", load::udp_one),
    ("udp 64 B request/reply, 64 clients", "us per exchange", load::udp_many),
    ("udp bursts, 40 of 1,200 B at once", "us per datagram", bursts::bursts),
];
const ROUNDS: usize = 7;
const BASELINE_FLAG: &str = "EVENKEEL_BENCH_BASELINE";

fn main() {
    if let Ok(backend) = std::env::var(BASELINE_FLAG) {
        return baseline::run(backend.parse().expect("an address"));
    }
    pin_self();
    let backends = load::Backends::start();
    println!(
        "{:<38} {:>18} {:<26} {:>9} {:>20} {:>8}",
        "ROW", "UNIT", "PROXY", "COST", "EVENKEEL TO IT", "IN TIME"
    );
    // `cargo bench --bench relay -- udp` does the rows with that word.
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    for (name, unit, work) in ROWS.into_iter().filter(|(name, ..)| name.contains(&word)) {
        let backend = backends.of(name);
        let peers = if name.starts_with("udp") { peers::found_udp() } else { peers::found() };
        let proxies: Vec<Proxy> = peers.iter().map(|(_, start)| start(backend)).collect();
        for proxy in &proxies {
            work(proxy.door);
        }
        let mut costs = vec![Vec::new(); proxies.len()];
        let mut times = costs.clone();
        for _ in 0..ROUNDS {
            for ((proxy, costs), times) in proxies.iter().zip(&mut costs).zip(&mut times) {
                let (before, began) = (proxy.cpu(), Instant::now());
                let units = work(proxy.door);
                times.push(began.elapsed().as_secs_f64() / units);
                costs.push((proxy.cpu() - before).as_secs_f64() * 1e6 / units);
            }
        }
        for (((peer, _), theirs), their_times) in peers.iter().zip(&costs).zip(&times) {
            let ratios = ratios(&costs[0], theirs);
            let ratio = format!("{:.2} ({:.2}-{:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
            let time = self::ratios(&times[0], their_times)[ROUNDS / 2];
            let cost = median(theirs.clone());
            println!("{name:<38} {unit:>18} {peer:<26} {cost:>9.2} {ratio:>20} {time:>8.2}");
        }
    }
    println!(
        "\nCPU time of all processes of the proxy, medians of {ROUNDS} rounds in turn (lowest and highest ratio); \
         and the time that the work took, evenkeel to the other: with one client, that of its answers"
    );
}

/// A proxy in a process of its own, on the second core where there is one.
struct Proxy {
    child: Child,
    door: SocketAddr,
    _config: Option<tempfile::NamedTempFile>,
}

impl Proxy {
    fn of_config(mut command: Command, door: SocketAddr, text: &str) -> Self {
        let config = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(config.path(), text).expect("writing the configuration");
        let child = command
            .arg(config.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting a proxy");
        Self::ready(child, door, Some(config))
    }

    fn evenkeel(backend: SocketAddr) -> Self {
        Self::evenkeel_with(backend, "tcp")
    }

    fn evenkeel_udp(backend: SocketAddr) -> Self {
        Self::evenkeel_with(backend, "udp")
    }

    fn other_udp(backend: SocketAddr) -> Self {
        Self::of_build(&other().expect("it is there"), backend, "udp")
    }

    fn evenkeel_with(backend: SocketAddr, protocol: &str) -> Self {
        Self::of_build(env!("CARGO_BIN_EXE_evenkeel"), backend, protocol)
    }

    fn of_build(program: &str, backend: SocketAddr, protocol: &str) -> Self {
        let door = free_address();
        // Both protocols at the door: that the tcp one answers shows that the program is ready.
        let text = format!(
            "workers: 1\nlisteners:\n  ready: {{ bind: '{door}', backends: ['{backend}'] }}\n  \
             bench: {{ bind: '{door}', protocol: {protocol}, backends: ['{backend}']LIMITS }}\n"
        );
        let text = if protocol == "tcp" {
            text.replace("  ready: ", "  # ").replace("LIMITS", "")
        } else {
            // All clients of the bench are one source.
            text.replace("LIMITS", ", limits: { sessions: off, sessions_per_source: off }")
        };
        let mut command = pinned(program);
        command.args(["run", "--config"]);
        Self::of_config(command, door, &text)
    }

    fn baseline(backend: SocketAddr) -> Self {
        let door = free_address();
        let me = std::env::current_exe().expect("this program");
        let child = pinned(me.to_str().expect("a path in UTF-8"))
            .env(BASELINE_FLAG, format!("{backend}"))
            .env("EVENKEEL_BENCH_DOOR", format!("{door}"))
            .spawn()
            .expect("starting the baseline");
        Self::ready(child, door, None)
    }

    fn ready(child: Child, door: SocketAddr, config: Option<tempfile::NamedTempFile>) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(door).is_err() {
            assert!(Instant::now() < deadline, "the proxy does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, door, _config: config }
    }

    /// User and system time of all its threads, in the kernel's nanoseconds where it counts them so finely.
    fn cpu(&self) -> Duration {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the proxy's threads");
        let ran = tasks.flatten().map(|task| {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(ran.sum())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another build to compare with.
fn other() -> Option<String> {
    std::env::var("EVENKEEL_BENCH_OTHER").ok()
}

fn pinned(program: &str) -> Command {
    let two_cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    if !two_cores || Command::new("taskset").arg("--version").output().is_err() {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "1", program]);
    command
}

fn pin_self() {
    let me = std::process::id().to_string();
    let outcome = Command::new("taskset").args(["-a", "-cp", "0", &me]).stdout(Stdio::null()).status();
    if outcome.is_err() {
        println!("taskset is not here: load and proxy share their cores, read the ratios with care");
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// Ours to theirs, round by round, in order of size.
fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
