//! Real servers and real clients through the real program: redis with redis-benchmark, PostgreSQL with pgbench; a server
//! is stopped and started in the middle. Where the programs are not installed the test says so and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, unreachable_pub)]

mod ports;
#[path = "servers/postgres.rs"]
mod postgres;

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ports::free_port;
use postgres::Postgres;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A child that is killed when dropped.
struct Guard(Child);

impl Guard {
    fn spawn(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn answers(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The balancer in front of these ports.
struct Balancer {
    _child: Guard,
    folder: TempDir,
    port: u16,
    /// Processes that took over.
    successors: RefCell<Vec<String>>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        for pid in self.successors.borrow().iter() {
            // Those that were followed have ended.
            let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
        }
    }
}

impl Balancer {
    fn start(ports: &[u16]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, admin) = (free_port(), free_port());
        let backends: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        let yaml = format!(
            "log: {{ format: json, sessions: all }}\nadmin: {{ http: '127.0.0.1:{admin}', socket: '{}/admin.sock' }}\nlisteners: {{ door: {{ \
             bind: '127.0.0.1:{port}', balance: least_connections, backends: [{}], \
             connect: {{ timeout: 5s, attempts: 8 }}, health: {{ interval: 200ms, timeout: 1s }} }} }}",
            folder.path().display(),
            backends.join(", ")
        );
        let file = folder.path().join("evenkeel.yaml");
        fs::write(&file, yaml).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let child = Guard::spawn(command.arg("run").arg("--config").arg(&file).stderr(log));
        let balancer = Self { _child: child, folder, port, successors: RefCell::default() };
        eventually("the balancer accepts", || balancer.log().contains("admin.http is ready"));
        balancer
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Hands over to a new process; how many sessions that has.
    fn upgrade(&self) -> u64 {
        let socket = self.folder.path().join("admin.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let output = command.args(["upgrade", "--json", "--socket"]).arg(socket).output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        self.successors.borrow_mut().push(answer["pid"].to_string());
        answer["sessions"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    /// Ended sessions with this reason.
    fn ended(&self, reason: &str) -> usize {
        self.lines().iter().filter(|line| line["reason"] == reason).count()
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let log = self.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parsed = whole.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        parsed.filter(|line| line["target"] == "session").collect()
    }

    /// Backends that had sessions.
    fn backends_used(&self) -> usize {
        let used: std::collections::HashSet<String> =
            self.lines().iter().filter_map(|line| Some(line["backend"].as_str()?.to_owned())).collect();
        used.len()
    }
}

fn redis_server(port: u16, folder: &Path) -> Guard {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let server = Guard::spawn(command.arg("--dir").arg(folder));
    eventually("redis answers", || answers(port));
    server
}

fn redis_benchmark(port: u16, more: &[&str]) -> Output {
    let port = port.to_string();
    Command::new("timeout")
        .args(["60", "redis-benchmark", "-h", "127.0.0.1", "-p", &port, "-t", "set,get", "--csv"])
        .args(more)
        .output()
        .unwrap()
}

#[test]
#[ignore = "needs redis-server, redis-benchmark"]
fn redis_benchmark_over_three_servers_one_of_which_restarts() {
    for program in ["redis-server", "redis-benchmark"] {
        assert!(on_path(program).is_some(), "{program} is not installed (apt: redis-server redis-tools)");
    }
    let folder = tempfile::tempdir().unwrap();
    let ports = [free_port(), free_port(), free_port()];
    let mut servers: Vec<Option<Guard>> =
        ports.iter().map(|&port| Some(redis_server(port, folder.path()))).collect();
    let balancer = Balancer::start(&ports);

    let output = redis_benchmark(balancer.port, &["-n", "50000", "-c", "50", "-P", "8"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("\"SET\"") && said.contains("\"GET\""), "{said}");
    assert_eq!(balancer.backends_used(), 3);

    // A connection for each request: those on the server that stops may fail, and no others.
    let mut failed_runs = 0;
    let mut runs = 0;
    for round in 0..12 {
        match round {
            4 => servers[1] = None,
            8 => servers[1] = Some(redis_server(ports[1], folder.path())),
            _ => {}
        }
        let output = redis_benchmark(balancer.port, &["-n", "300", "-c", "10", "-k", "0"]);
        runs += 1;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() || said.contains("rror") {
            failed_runs += 1;
        }
    }
    let broken = balancer.ended("backend_reset") + balancer.ended("backend_lost");
    assert!(failed_runs <= broken, "{failed_runs} of {runs} runs failed, {broken} sessions were broken");
    assert_eq!(balancer.ended("no_backend") + balancer.ended("connect_failed"), 0);
    drop(servers);
}

fn pgbench(port: u16, more: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["100", "pgbench", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres", "-n"]);
    command.args(more).arg("postgres");
    command
}

#[test]
#[ignore = "needs PostgreSQL, pgbench"]
fn pgbench_over_two_servers_one_of_which_restarts() {
    let binaries = Postgres::find().filter(|_| on_path("pgbench").is_some());
    let binaries = binaries.expect("PostgreSQL and pgbench are not installed (apt: postgresql)");
    let mut servers = [Postgres::start(&binaries), Postgres::start(&binaries)];
    for server in &servers {
        let output = pgbench(server.port, &["-i", "-s", "1", "-q"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let balancer = Balancer::start(&servers.each_ref().map(|server| server.port));

    let output = pgbench(balancer.port, &["-S", "-c", "8", "-t", "500"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("4000/4000"), "{output:?}");
    assert_eq!(balancer.backends_used(), 2);

    // A connection for each transaction, and one server is cut in the middle and returns.
    let run = |transactions: &str| {
        pgbench(balancer.port, &["-S", "-C", "-c", "4", "-t", transactions]).output().unwrap()
    };
    let said = run("50");
    assert!(said.status.success(), "{said:?}");
    let before = balancer.ended("backend_reset") + balancer.ended("backend_lost");
    assert_eq!(before, 0);
    let mut failed_runs = 0;
    let down_at = [3, 5];
    for round in 0..8 {
        if round == down_at[0] {
            servers[0].down();
        } else if round == down_at[1] {
            servers[0].up();
        }
        failed_runs += usize::from(!run("25").status.success());
    }
    // It was stopped between two runs, so nobody was on it: nobody may have failed.
    assert_eq!(failed_runs, 0, "{}", balancer.log());

    // And now in the middle of a run: its clients may fail, one for each session that was on the server.
    let mut child = pgbench(balancer.port, &["-S", "-C", "-c", "4", "-T", "4"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    servers[0].down();
    std::thread::sleep(Duration::from_secs(1));
    servers[0].up();
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    let aborted = said.lines().filter(|line| line.contains("aborted")).count();
    // A server that is stopping says so to its clients and ends their sessions in order: those count too.
    let touched: Vec<_> = balancer
        .lines()
        .into_iter()
        .filter(|line| line["backend"].as_str().unwrap_or("").ends_with(&format!(":{}", servers[0].port)))
        .collect();
    let cut = touched
        .iter()
        .filter(|line| line["reason"] == "backend_reset" || line["reason"] == "backend_closed")
        .count();
    assert!(aborted <= cut, "{aborted} clients failed, {cut} sessions were cut: {status:?}\n{said}");
    assert_eq!(balancer.ended("no_backend") + balancer.ended("connect_failed"), 0);
}

#[test]
#[ignore = "needs redis-server, redis-benchmark"]
fn redis_clients_notice_nothing_of_upgrades() {
    for program in ["redis-server", "redis-benchmark"] {
        assert!(on_path(program).is_some(), "{program} is not installed (apt: redis-server redis-tools)");
    }
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _server = redis_server(port, folder.path());
    let balancer = Balancer::start(&[port]);
    let cli = |port: u16| {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        command
    };
    let subscriber = cli(balancer.port).args(["subscribe", "news"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut subscriber = Guard(subscriber);
    let subscribed = || {
        let output = cli(port).args(["pubsub", "numsub", "news"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().nth(1) == Some("1")
    };
    eventually("it is subscribed", subscribed);
    let door = balancer.port;
    let benchmark = std::thread::spawn(move || redis_benchmark(door, &["-n", "100000", "-c", "20"]));
    for round in 0..5 {
        assert!(balancer.upgrade() >= 1);
        assert!(subscribed());
        let said = cli(balancer.port).args(["publish", "news", &format!("round {round}")]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "1", "one subscriber hears it");
    }
    let output = benchmark.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("rror"), "{output:?}");
    let mut heard = subscriber.0.stdout.take().unwrap();
    drop(subscriber);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut heard, &mut text).unwrap();
    assert!((0..5).all(|round| text.contains(&format!("round {round}"))), "{text}");
}

#[test]
#[ignore = "needs PostgreSQL, pgbench"]
fn postgresql_clients_notice_nothing_of_upgrades() {
    let binaries = Postgres::find().filter(|_| on_path("pgbench").is_some());
    let binaries = binaries.expect("PostgreSQL and pgbench are not installed (apt: postgresql)");
    let server = Postgres::start(&binaries);
    let output = pgbench(server.port, &["-i", "-s", "1", "-q"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let balancer = Balancer::start(&[server.port]);
    // A session that is open all the while, with something of its own at the server, and clients that come and go.
    let port = balancer.port.to_string();
    let mut psql = Command::new("psql");
    psql.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-At", "-d", "postgres"]);
    let mut long = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut asked = long.stdin.take().unwrap();
    let mut answers = BufReader::new(long.stdout.take().unwrap()).lines();
    writeln!(asked, "create temp table t as select 42 as n;").unwrap();
    assert_eq!(answers.next().unwrap().unwrap(), "SELECT 1");
    let run = |more: &[&str]| {
        pgbench(balancer.port, more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (steady, coming) = (run(&["-c", "8", "-T", "4"]), run(&["-S", "-C", "-c", "4", "-T", "4"]));
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(300));
        assert!(balancer.upgrade() >= 1);
    }
    for child in [steady, coming] {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("failed transactions: 0"), "{output:?}");
    }
    writeln!(asked, "select n from t;").unwrap();
    assert_eq!(answers.next().unwrap().unwrap(), "42");
    drop(asked);
    assert!(long.wait().unwrap().success());
}
