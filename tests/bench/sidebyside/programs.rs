//! Real servers and the load programs that come with them: what these say of a proxy, and what it needed for it.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::peers::{free_address, is_there, listens};
use super::rows::{Found, Size};
use crate::knot;
use crate::postgres::Postgres;

/// A server of our own, gone with this.
pub(crate) struct Server {
    address: SocketAddr,
    process: Option<Child>,
    #[allow(dead_code)] // It goes with it.
    postgres: Option<Postgres>,
    #[allow(dead_code)] // Likewise.
    folder: Option<tempfile::TempDir>,
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

pub(crate) fn redis() -> Option<Server> {
    if !is_there("redis-server") || !is_there("redis-benchmark") {
        return None;
    }
    let address = free_address();
    let port = address.port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let process = command.stdout(Stdio::null()).spawn().ok()?;
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < READY_MAX, "redis does not answer");
        thread::sleep(Duration::from_millis(20));
    }
    Some(Server { address, process: Some(process), postgres: None, folder: None })
}

pub(crate) fn postgres() -> Option<Server> {
    let binaries = Postgres::find().filter(|_| is_there("pgbench"))?;
    let postgres = Postgres::start(&binaries);
    let address = SocketAddr::from(([127, 0, 0, 1], postgres.port));
    said_by(
        "pgbench",
        &["-h", "127.0.0.1", "-p", &address.port().to_string(), "-U", "postgres", "-i", "-q", "postgres"],
    );
    Some(Server { address, process: None, postgres: Some(postgres), folder: None })
}

pub(crate) fn names() -> Option<Server> {
    let knotd = ["/usr/sbin/knotd", "/usr/bin/knotd"].into_iter().find(|path| Path::new(path).exists())?;
    if !is_there("dnsperf") {
        return None;
    }
    let (folder, address) = (tempfile::tempdir().ok()?, free_address());
    let process = knot::start(Path::new(knotd), folder.path(), address.port());
    Some(Server { address, process: Some(process), postgres: None, folder: Some(folder) })
}

/// Where iperf3 listens whenever one of its rows runs.
pub(crate) fn place_of_iperf() -> Option<SocketAddr> {
    static PLACE: std::sync::OnceLock<SocketAddr> = std::sync::OnceLock::new();
    is_there("iperf3").then(|| *PLACE.get_or_init(free_address))
}

/// redis-benchmark's figures, with so many requests on their way at once on each connection.
pub(crate) fn redis_benchmark(door: SocketAddr, size: Size, pipeline: usize) -> Found {
    let requests = size.of(40_000 * pipeline.min(8));
    let (port, count, depth) = (door.port().to_string(), requests.to_string(), pipeline.to_string());
    let began = Instant::now();
    let text = said_by(
        "redis-benchmark",
        &["-h", "127.0.0.1", "-p", &port, "-n", &count, "-P", &depth, "-t", "get", "-q", "--csv"],
    );
    let said = text.lines().find(|line| line.starts_with("\"GET\"")).expect("its figure");
    let figure = |place: usize| -> f64 {
        said.split(',').nth(place).and_then(|word| word.trim_matches('"').parse().ok()).expect("a number")
    };
    let figures = vec![("requests_per_s", figure(1)), ("p50_ms", figure(4)), ("p99_ms", figure(6))];
    Found { units: requests as f64, took_s: began.elapsed().as_secs_f64(), figures, cpu: None }
}

/// pgbench's figures for reading transactions of eight clients, on connections that stay, or a new one for each.
pub(crate) fn pgbench(door: SocketAddr, size: Size, reconnecting: bool) -> Found {
    const CLIENTS: usize = 8;
    let each = size.of(if reconnecting { 60 } else { 1_500 });
    let (port, count) = (door.port().to_string(), each.to_string());
    let mut arguments =
        vec!["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-n", "-S", "-c", "8", "-t", &count];
    if reconnecting {
        arguments.push("-C");
    }
    arguments.push("postgres");
    let began = Instant::now();
    let text = said_by("pgbench", &arguments);
    let done = (each * CLIENTS) as f64;
    assert_eq!(number_after(&text, "actually processed: "), done, "{text}");
    let figures = vec![
        ("tps", number_after(&text, "tps = ")),
        ("latency_ms", number_after(&text, "latency average = ")),
    ];
    Found { units: done, took_s: began.elapsed().as_secs_f64(), figures, cpu: None }
}

/// dnsperf's figures.
pub(crate) fn dnsperf(door: SocketAddr, size: Size) -> Found {
    let folder = tempfile::tempdir().expect("a folder");
    let questions: PathBuf = folder.path().join("questions");
    std::fs::write(&questions, knot::questions()).expect("writing questions");
    // Times through the file of twenty.
    let (port, times) = (door.port().to_string(), size.of(1_500).to_string());
    let began = Instant::now();
    let text = said_by(
        "dnsperf",
        &[
            "-s",
            "127.0.0.1",
            "-p",
            &port,
            "-c",
            "16",
            "-q",
            "32",
            "-n",
            &times,
            "-d",
            questions.to_str().expect("a path"),
        ],
    );
    let took_s = began.elapsed().as_secs_f64();
    let done = number_after(&text, "Queries completed:");
    assert!(done > 0.0, "{text}");
    let latency = text
        .lines()
        .find(|line| line.contains("Average Latency"))
        .map_or(0.0, |line| number_after(line, ":"));
    let figures = vec![
        ("queries_per_s", number_after(&text, "Queries per second:")),
        ("lost", number_after(&text, "Queries lost:")),
        ("latency_ms", latency * 1e3),
    ];
    Found { units: done, took_s, figures, cpu: None }
}

/// Which way iperf3 sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
    Datagrams,
}

/// iperf3's figures: four streams, or one of datagrams at a fixed rate.
pub(crate) fn iperf(door: SocketAddr, size: Size, way: Way) -> Found {
    // More than all buffers on the way hold: what is still there when the sender is done, its server does not count.
    let (port, megabytes) = (door.port().to_string(), format!("{}M", size.of(512).max(64)));
    let mut arguments = vec!["-c", "127.0.0.1", "-p", &port, "-J"];
    let packets = size.of(20_000).to_string();
    match way {
        Way::Up => arguments.extend(["-P", "4", "-n", &megabytes]),
        Way::Down => arguments.extend(["-R", "-P", "4", "-n", &megabytes]),
        Way::Datagrams => arguments.extend(["-u", "-b", "100M", "-l", "1200", "-k", &packets]),
    }
    let (said, took_s) = iperf_once(&arguments).unwrap_or_else(|text| panic!("iperf3 {arguments:?}: {text}"));
    let text = &said;
    let figure =
        |name: &str, of: &str| said["end"][name][of].as_f64().unwrap_or_else(|| panic!("{of}: {text}"));
    if way == Way::Datagrams {
        let figures =
            vec![("lost_percent", figure("sum", "lost_percent")), ("jitter_ms", figure("sum", "jitter_ms"))];
        return Found { units: figure("sum", "packets"), took_s, figures, cpu: None };
    }
    let figures = vec![("gb_per_s", figure("sum_received", "bits_per_second") / 8e9)];
    Found { units: figure("sum_received", "bytes") / 1e6, took_s, figures, cpu: None }
}

/// What the client says to a server of its own, and how long it took.
fn iperf_once(arguments: &[&str]) -> Result<(Value, f64), String> {
    let place = place_of_iperf().expect("iperf3 is there");
    let mut server = Command::new("iperf3");
    server.args(["-s", "-1", "-B", "127.0.0.1", "-p", &place.port().to_string()]);
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starting iperf3");
    let began = Instant::now();
    while !listens(place) {
        assert!(began.elapsed() < READY_MAX, "iperf3 does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    let began = Instant::now();
    let output = Command::new("iperf3").args(arguments).output().expect("running iperf3");
    let took_s = began.elapsed().as_secs_f64();
    let _ = server.kill();
    let _ = server.wait();
    let text = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str::<Value>(&text) {
        // It may succeed, in its own eyes, and tell of an error.
        Ok(said) if output.status.success() && said.get("error").is_none() => Ok((said, took_s)),
        _ => Err(text.into_owned()),
    }
}

/// What a program says; one that fails ends the run.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("running a load program");
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn number_after(text: &str, what: &str) -> f64 {
    let rest = text.split_once(what).unwrap_or_else(|| panic!("{what}: {text}")).1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("{what}: {text}"))
}

const READY_MAX: Duration = Duration::from_secs(30);
