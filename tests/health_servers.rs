//! The health room against real servers: a plain TCP check leaves no trace in PostgreSQL and MariaDB, and a talk check
//! understands Redis. A test whose server is not installed says so in one line and passes.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod ports;

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::config::settings::{Check, Health, SendProxy};
use evenkeel::health::{Checked, Checker, Haste, Outcome, Target, TargetId};
use evenkeel::liveness::State;
use evenkeel::roles::Claim;
use evenkeel::sys::probe::Route;
use ports::free_port;
use tokio::sync::mpsc;

/// Servers need long to make their first files on a slow disk.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server process; killed and waited for when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts `program`, its output in `log`, and waits until a query by `is_ready` succeeds.
    fn start(mut program: Command, port: u16, log: &Path, is_ready: impl Fn() -> bool) -> Self {
        let file = File::create(log).unwrap();
        program.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let process = program.spawn().unwrap();
        let server = Self { process, address: ([127, 0, 0, 1], port).into(), log: log.into() };
        let deadline = Instant::now() + PATIENCE;
        while !is_ready() {
            assert!(Instant::now() < deadline, "not ready: {}", server.log_text());
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT is the fast stop of all three; a killed PostgreSQL would leave children and shared memory behind.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let deadline = Instant::now() + Duration::from_secs(20);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The newest program at one of the places; without one the test fails.
#[track_caller]
fn installed(name: &str, places: &[&str]) -> PathBuf {
    let mut found: Vec<PathBuf> = places.iter().map(|place| Path::new(place).join(name)).collect();
    for version in std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        found.push(version.path().join("bin").join(name));
    }
    found.retain(|path| path.is_file());
    found.sort();
    found.pop().unwrap_or_else(|| panic!("{name} is not installed"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `program`, as `user` where we are root: databases refuse to run as root. `exec`ed, so signals reach the program.
fn command_as(user: &str, program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", "--"]).arg(program);
    // Nothing of root's home may be looked for.
    command.current_dir("/").env("HOME", "/");
    command
}

/// A folder anyone may write in, removed at the end; its name is short enough for a Unix socket in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("health").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

fn run(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn succeeds(mut command: Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

fn start_checks(address: SocketAddr, check: Check, targets: u64) -> (Checker, mpsc::Receiver<Checked>) {
    start_patient_checks(address, check, targets, Duration::from_secs(60))
}

fn start_patient_checks(
    address: SocketAddr,
    check: Check,
    targets: u64,
    timeout: Duration,
) -> (Checker, mpsc::Receiver<Checked>) {
    let interval = Duration::from_millis(20);
    let health = Arc::new(Health {
        check,
        interval,
        timeout,
        rise: 2,
        fall: 3,
        port: None,
        send_proxy: SendProxy::Off,
        keep: None,
    });
    let target = |id| Target {
        id: TargetId(id),
        route: Route::to(address),
        health: Arc::clone(&health),
        haste: Haste::default(),
        known: None,
    };
    let (sender, events) = mpsc::channel(1);
    (Checker::start((0..targets).map(target).collect::<Vec<_>>(), 64, 1, sender), events)
}

async fn next(events: &mut mpsc::Receiver<Checked>) -> Checked {
    tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
}

/// 200 plain checks, each good. False: this machine stalled for so long that an ACK may have left before its reset.
fn check_200_times(address: SocketAddr) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (checker, mut events) = start_checks(address, Check::Tcp, 10);
        let mut slowest = Duration::ZERO;
        for _ in 0..200 {
            let checked = next(&mut events).await;
            assert_eq!(checked.outcome, Outcome::Good);
            slowest = slowest.max(checked.took);
        }
        checker.stop().await;
        slowest < Duration::from_millis(100)
    })
}

/// Repeats `round`, with a fresh server each time, until the machine did not stall in it.
fn without_a_stall(round: fn() -> bool) {
    assert!((0..5).any(|_| round()), "this machine stalls for 100 ms again and again");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn postgres_sees_nothing_of_a_plain_check() {
    without_a_stall(postgres);
}

fn postgres() -> bool {
    let places = ["/usr/bin", "/usr/local/bin"];
    let (postgres, initdb, psql) =
        (installed("postgres", &places), installed("initdb", &places), installed("psql", &places));
    let (folder, port) = (folder(), free_port());
    let data = folder.path().join("data");
    let mut init = command_as("postgres", &initdb);
    init.args(["--auth=trust", "--no-sync", "--username=check", "-D"]).arg(&data);
    run(init);
    let mut program = command_as("postgres", &postgres);
    program.arg("-D").arg(&data).arg("-k").arg(folder.path()).args(["-p", &port.to_string()]);
    program.args([
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "log_connections=on",
        "-c",
        "log_min_messages=debug1",
    ]);
    let query = || {
        let mut query = Command::new(&psql);
        query.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "check", "-c", "select 1", "postgres"]);
        query
    };
    let server = Server::start(program, port, &folder.path().join("log"), || succeeds(query()));

    let received = |log: &str| log.matches("connection received").count();
    let before = received(&server.log_text());
    if !check_200_times(server.address) {
        return false;
    }
    // A connect the server does see comes after the checks in its queue: once that is logged, so would they be.
    drop(TcpStream::connect(server.address).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while received(&server.log_text()) == before {
        assert!(Instant::now() < deadline, "an ordinary connect is not logged: {}", server.log_text());
        std::thread::sleep(Duration::from_millis(20));
    }
    run(query());
    assert_eq!(received(&server.log_text()), before + 2, "{}", server.log_text());
    true
}

/// MariaDB keeps no host_cache entry for loopback addresses (it maps them to `localhost` without asking), so the
/// evidence here are its counters of all connects and its error log, which names broken handshakes at log_warnings 4.
#[test]
#[ignore = "needs MariaDB"]
fn mariadb_sees_nothing_of_a_plain_check() {
    without_a_stall(mariadb);
}

fn mariadb() -> bool {
    let places = ["/usr/bin", "/usr/sbin"];
    let mariadbd = installed("mariadbd", &places);
    let (install, client) = (installed("mariadb-install-db", &places), installed("mariadb", &places));
    let (folder, port) = (folder(), free_port());
    let (data, socket) = (folder.path().join("data"), folder.path().join("s"));
    let mut init = command_as("mysql", &install);
    init.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    init.arg(format!("--datadir={}", data.display()));
    run(init);
    let mut program = command_as("mysql", &mariadbd);
    program.args([
        "--no-defaults",
        "--bind-address=127.0.0.1",
        "--performance-schema=on",
        "--log-warnings=4",
    ]);
    program.args([format!("--datadir={}", data.display()), format!("--socket={}", socket.display())]);
    program.arg(format!("--port={port}"));
    let query = |sql: &str| {
        let mut query = Command::new(&client);
        query.args(["--no-defaults", "-uroot", "-N", "-B", "-e", sql]);
        query.arg(format!("--socket={}", socket.display()));
        query
    };
    let server = Server::start(program, port, &folder.path().join("log"), || succeeds(query("select 1")));

    let counts = || {
        let names = "('Connections', 'Aborted_connects', 'Aborted_connects_preauth')";
        let text = run(query(&format!("show global status where Variable_name in {names}")));
        let count = |name: &str| -> u64 {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (count("Connections"), count("Aborted_connects"), count("Aborted_connects_preauth"))
    };
    let errors =
        || run(query("select ifnull(sum(SUM_CONNECT_ERRORS), 0) from performance_schema.host_cache"));
    let (errors_before, (connections, aborted, aborted_early)) = (errors(), counts());
    let log_before = server.log_text().lines().count();
    if !check_200_times(server.address) {
        return false;
    }
    // The only connect in between is that of the second count itself.
    assert_eq!(counts(), (connections + 1, aborted, aborted_early));
    assert_eq!(errors(), errors_before);
    assert_eq!(server.log_text().lines().count(), log_before, "{}", server.log_text());

    // The counters do show a connect that is closed without a word: the test can fail.
    drop(TcpStream::connect(server.address).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while counts().1 == aborted {
        assert!(Instant::now() < deadline, "an ordinary connect is not counted");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(errors(), errors_before, "loopback is in the host_cache after all: it is evidence then");
    true
}

#[test]
#[ignore = "needs redis-server"]
fn redis_answers_a_talk_until_it_is_stopped() {
    let places = ["/usr/bin", "/usr/local/bin"];
    let redis = installed("redis-server", &places);
    let (folder, port) = (folder(), free_port());
    let mut program = Command::new(redis);
    program
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"])
        .arg(folder.path());
    let server = Server::start(program, port, &folder.path().join("log"), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let check = Check::TcpTalk { send: b"PING\r\n".to_vec(), expect: b"+PONG".to_vec() };
        let (checker, mut events) = start_checks(server.address, check, 1);
        for _ in 0..20 {
            let checked = next(&mut events).await;
            assert_eq!((checked.outcome, checked.verdict.state), (Outcome::Good, State::Up));
        }
        drop(server);
        while next(&mut events).await.verdict.state == State::Up {}
        checker.stop().await;
    });
}

/// What docs/redis.md promises: the door leads to the primary, and to the other one when that takes over.
#[test]
#[ignore = "needs redis-server"]
fn a_redis_primary_is_told_from_its_replica_and_followed() {
    let places = ["/usr/bin", "/usr/local/bin"];
    let redis = installed("redis-server", &places);
    let cli = installed("redis-cli", &places);
    let folders = [folder(), folder()];
    let ports = [free_port(), free_port()];
    let start = |at: usize, more: &[&str]| {
        let mut program = Command::new(&redis);
        program
            .args(["--bind", "127.0.0.1", "--port", &ports[at].to_string(), "--save", "", "--dir"])
            .arg(folders[at].path())
            .args(more);
        Server::start(program, ports[at], &folders[at].path().join("log"), || {
            TcpStream::connect(("127.0.0.1", ports[at])).is_ok()
        })
    };
    let primary = start(0, &[]);
    let replica = start(1, &["--replicaof", "127.0.0.1", &ports[0].to_string()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // A replica answers at once, and what is expected never comes: it is waited for to the end.
        let patience = Duration::from_millis(500);
        let check = || Check::TcpTalk { send: b"PING\r\nROLE\r\n".to_vec(), expect: REDIS_PRIMARY.to_vec() };
        let (first, mut of_first) = start_patient_checks(primary.address, check(), 1, patience);
        let (second, mut of_second) = start_patient_checks(replica.address, check(), 1, patience);
        while next(&mut of_first).await.verdict.state != State::Up {}
        for _ in 0..3 {
            assert_ne!(next(&mut of_second).await.verdict.state, State::Up);
        }
        drop(primary);
        while next(&mut of_first).await.verdict.state == State::Up {}
        let mut promote = Command::new(cli);
        promote.args(["-p", &ports[1].to_string(), "REPLICAOF", "NO", "ONE"]);
        assert!(succeeds(promote));
        while next(&mut of_second).await.verdict.state != State::Up {}
        first.stop().await;
        second.stop().await;
    });
}

/// What a primary that serves says to `PING` and `ROLE`.
const REDIS_PRIMARY: &[u8] = b"+PONG\r\n*3\r\n$6\r\nmaster";

/// A server that was restarted says that it is a master before it has its data.
#[test]
#[ignore = "needs redis-server"]
fn a_redis_that_loads_its_data_is_no_primary_yet() {
    let places = ["/usr/bin", "/usr/local/bin"];
    let (redis, cli) = (installed("redis-server", &places), installed("redis-cli", &places));
    let (folder, port) = (folder(), free_port());
    let start = |more: &[&str]| {
        let mut program = Command::new(&redis);
        program.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]);
        program.arg(folder.path()).args(["--enable-debug-command", "local"]).args(more);
        Server::start(program, port, &folder.path().join("log"), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
    };
    let say = |words: &[&str]| {
        let mut command = Command::new(&cli);
        command.args(["-p", &port.to_string()]).args(words);
        run(command)
    };
    let before = start(&[]);
    say(&["DEBUG", "POPULATE", "3000"]);
    say(&["SAVE"]);
    drop(before);
    // A millisecond a key: it loads for 3 s at least.
    let server = start(&["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let talk =
            |send: &[u8], expect: &[u8]| Check::TcpTalk { send: send.to_vec(), expect: expect.to_vec() };
        let patience = Duration::from_millis(300);
        let asked = talk(b"PING\r\nROLE\r\n", REDIS_PRIMARY);
        let (checker, mut events) = start_patient_checks(server.address, asked, 1, patience);
        let role_alone = talk(b"ROLE\r\n", b"master");
        let (naive, mut of_naive) = start_patient_checks(server.address, role_alone, 1, patience);
        assert_eq!(next(&mut of_naive).await.outcome, Outcome::Good, "it says so while it loads");
        match next(&mut events).await.outcome {
            Outcome::Bad(cause) => assert!(cause.to_string().contains("-LOADING"), "{cause}"),
            other => panic!("{other:?}"),
        }
        naive.stop().await;
        while next(&mut events).await.verdict.state != State::Up {}
        checker.stop().await;
    });
    assert_eq!(say(&["DBSIZE"]).trim(), "3000", "it was up when all was there");
}

/// What docs/redis.md promises of roles: each server tells its own, and a promotion counts at the next answer.
#[test]
#[ignore = "needs redis-server"]
fn redis_servers_tell_their_roles() {
    let places = ["/usr/bin", "/usr/local/bin"];
    let (redis, cli) = (installed("redis-server", &places), installed("redis-cli", &places));
    let folders = [folder(), folder()];
    let ports = [free_port(), free_port()];
    let start = |at: usize, more: &[&str]| {
        let mut program = Command::new(&redis);
        program
            .args(["--bind", "127.0.0.1", "--port", &ports[at].to_string(), "--save", "", "--dir"])
            .arg(folders[at].path())
            .args(more);
        Server::start(program, ports[at], &folders[at].path().join("log"), || {
            TcpStream::connect(("127.0.0.1", ports[at])).is_ok()
        })
    };
    let primary = start(0, &[]);
    let replica = start(1, &["--replicaof", "127.0.0.1", &ports[0].to_string()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let check = || Check::TcpRoles {
            send: b"PING\r\nROLE\r\n".to_vec(),
            primary: REDIS_PRIMARY.to_vec(),
            replica: b"+PONG\r\n*5\r\n$5\r\nslave".to_vec(),
        };
        let claim = |checked: Checked| match checked.outcome {
            Outcome::Role(answer) => Some((answer.claim, checked.verdict.state)),
            _ => None,
        };
        let (first, mut of_first) = start_checks(primary.address, check(), 1);
        let (second, mut of_second) = start_checks(replica.address, check(), 1);
        assert_eq!(claim(next(&mut of_first).await), Some((Claim::Primary, State::Up)));
        assert_eq!(claim(next(&mut of_second).await), Some((Claim::Replica, State::Up)));
        drop(primary);
        while next(&mut of_first).await.verdict.state == State::Up {}
        let mut promote = Command::new(cli);
        promote.args(["-p", &ports[1].to_string(), "REPLICAOF", "NO", "ONE"]);
        assert!(succeeds(promote));
        while claim(next(&mut of_second).await) != Some((Claim::Primary, State::Up)) {}
        first.stop().await;
        second.stop().await;
    });
}
