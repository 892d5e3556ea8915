//! Real servers that fail without dying, through the real program: docker-proxy without its container, PgBouncer without its
//! server, Redis that stands still and Redis that is busy, a DNS server that stands still. `least_busy` beside `round_robin`.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod ports;
#[path = "servers/postgres.rs"]
mod postgres;
#[path = "servers/postgres_client.rs"]
#[allow(dead_code)] // Why there is no answer is only shown when a test fails.
mod postgres_client;
#[path = "servers/program.rs"]
mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use ports::free_port;
use postgres::Postgres;
use postgres_client::Session;
use program::{Balancer, Guard, eventually, find};

const PATIENCE: Duration = Duration::from_millis(500);

fn redis() -> (Guard, u16) {
    let port = free_port();
    let mut command = Command::new(find("redis-server", "redis-server"));
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
    let server = Guard::spawn(&mut command);
    eventually("Redis answers", || ping(port).is_some());
    (server, port)
}

/// How long a connection and a PING took; `None`: there was no answer.
fn ping(port: u16) -> Option<Duration> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).ok()?;
    (&answer == b"+PONG\r\n").then(|| began.elapsed())
}

fn start(keys: &str, backends: &[u16]) -> (Balancer, u16) {
    let (door, addresses) = (free_port(), backends.iter().map(|port| format!("'127.0.0.1:{port}'")));
    let addresses = addresses.collect::<Vec<_>>().join(", ");
    let yaml = format!("listeners:\n  p: {{ bind: '127.0.0.1:{door}', {keys}, backends: [{addresses}] }}\n");
    (Balancer::start(&yaml), door)
}

/// The worst of a hundred, and how many of them failed.
fn hundreds(all: &mut [Option<Duration>]) -> (Duration, usize) {
    all.sort_by_key(|one| one.unwrap_or(PATIENCE));
    let failed = all.iter().filter(|one| one.is_none()).count();
    (all[all.len() * 99 / 100].unwrap_or(PATIENCE), failed)
}

#[test]
#[ignore = "needs docker-proxy, redis-server"]
fn a_docker_proxy_without_its_container_is_found_out_and_its_clients_are_served_elsewhere() {
    let (_server, real) = redis();
    let dead = free_port();
    // It tells its parent by descriptor 3 that it listens.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/null 3>/dev/null"]).arg(find("docker-proxy", "docker.io"));
    command.args(["-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", &dead.to_string()]);
    command.args(["-container-ip", "127.0.0.1", "-container-port", &free_port().to_string()]);
    let _proxy = Guard::spawn(&mut command);
    eventually("the proxy accepts", || TcpStream::connect(("127.0.0.1", dead)).is_ok());
    assert_eq!(ping(dead), None, "and nobody is behind it");

    let keys = "health: { check: tcp, interval: 200ms }, passive: { eject: 5m }";
    let (balancer, door) = start(keys, &[dead, real]);
    // Five in a row, and what comes before the verdict is published, which takes a busy machine a moment.
    let failed = (0..100).filter(|_| ping(door).is_none()).count();
    assert!((1..=45).contains(&failed), "{failed} of 100");
    assert_eq!((0..50).filter(|_| ping(door).is_none()).count(), 0, "it is out");
    let pool = balancer.pool();
    assert_eq!(
        (&pool["backends"][0]["state"], &pool["backends"][0]["ejection_cause"]),
        (&"ejected".into(), &"empty".into())
    );
    assert_eq!(balancer.said(&["backend is ejected: it ended sessions without a byte"]), 1);

    let (balancer, door) = start(&format!("{keys}, connect: {{ replay_first: on }}"), &[dead, real]);
    assert_eq!((0..100).filter(|_| ping(door).is_none()).count(), 0, "what was said is said again");
    assert_eq!(balancer.pool()["backends"][0]["ejection_cause"], "empty");
}

/// It lets clients in, and keeps them for `query_wait_timeout`, two minutes, without a word.
#[test]
#[ignore = "needs pgbouncer, PostgreSQL"]
fn a_pgbouncer_without_its_server_is_silent() {
    let (folder, dead) = (tempfile::tempdir().unwrap(), free_port());
    let (file, users) = (folder.path().join("pgbouncer.ini"), folder.path().join("users.txt"));
    std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {dead}\nunix_socket_dir =\n\
         auth_type = trust\nauth_file = {}\n",
        free_port(),
        users.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(find("pgbouncer", "pgbouncer"));
    // It does not run as root.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).unwrap();
    if std::process::Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
        let pgbouncer = command.get_program().to_owned();
        command = Command::new(find("setpriv", "util-linux"));
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(pgbouncer);
    }
    let _pooler = Guard::spawn(command.arg("-q").arg(&file));
    eventually("the pooler accepts", || TcpStream::connect(("127.0.0.1", dead)).is_ok());

    let binaries = Postgres::find().expect("postgresql is not installed (apt: postgresql)");
    let postgres = Postgres::start(&binaries);
    let keys = "health: { check: tcp, interval: 200ms }, passive: { silent: 1s, eject: 5m }";
    let (balancer, door) = start(keys, &[dead, postgres.port]);
    let door = SocketAddr::from(([127, 0, 0, 1], door));
    // Those that the pooler has wait on threads of their own, for longer than it takes.
    let waiting: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || Session::open(door, "postgres", 10 * PATIENCE).is_ok()))
        .collect();
    eventually("the pooler is ejected", || {
        assert!(balancer.log().matches("backend_empty").count() == 0, "it is silent, and does not close");
        balancer.pool()["backends"][0]["state"] == "ejected"
    });
    assert_eq!(balancer.pool()["backends"][0]["ejection_cause"], "silent");
    for _ in 0..30 {
        let mut session = Session::open(door, "postgres", 4 * PATIENCE).unwrap();
        assert_eq!(session.query("select 7").unwrap(), "7");
    }
    let served = waiting.into_iter().map(|one| one.join().unwrap()).filter(|served| *served).count();
    assert_eq!(served, 2, "every other one in turn");
}

#[test]
#[ignore = "needs redis-server"]
fn a_redis_that_stands_still_gets_next_to_nothing() {
    let servers = [redis(), redis(), redis()];
    let ports = servers.each_ref().map(|(_, port)| *port);
    let mut seen = Vec::new();
    for balance in ["round_robin", "least_busy"] {
        let keys = format!("balance: {balance}, health: {{ check: tcp, interval: 200ms }}");
        let (_balancer, door) = start(&keys, &ports);
        assert!((0..60).all(|_| ping(door).is_some()));
        servers[0].0.signal("-STOP");
        let mut all: Vec<_> = (0..150).map(|_| ping(door)).collect();
        servers[0].0.signal("-CONT");
        let (p99, failed) = hundreds(&mut all);
        println!("{balance}: one of three Redis stands still: p99 {p99:?}, {failed} of 150 failed");
        seen.push(failed);
    }
    assert!(seen[1] <= 2, "{seen:?}");
    assert!(seen[0] >= 40, "{seen:?}: one of three");
}

#[test]
#[ignore = "needs redis-server"]
fn a_redis_that_is_busy_with_scripts_gets_little() {
    let servers = [redis(), redis(), redis()];
    let ports = servers.each_ref().map(|(_, port)| *port);
    let busy = ports[0];
    let done = std::sync::atomic::AtomicBool::new(false);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        // The neighbour: 30 ms of work at a time, one after the other.
        scope.spawn(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", busy)).unwrap();
            let script = "local t=redis.call('TIME') local e=t[1]*1000000+t[2]+30000 repeat t=redis.call('TIME') until t[1]*1000000+t[2]>e return 1";
            let command = format!("*3\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n0\r\n", script.len());
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                stream.write_all(command.as_bytes()).unwrap();
                if stream.read(&mut [0; 64]).unwrap_or(0) == 0 {
                    return;
                }
            }
        });
        for balance in ["round_robin", "least_busy"] {
            let (balancer, door) = start(&format!("balance: {balance}, health: {{ check: tcp }}"), &ports);
            assert!((0..60).all(|_| ping(door).is_some()));
            let before = balancer.pool()["backends"][0]["sessions"].as_u64().unwrap();
            let mut all: Vec<_> = (0..400).map(|_| ping(door)).collect();
            let got = balancer.pool()["backends"][0]["sessions"].as_u64().unwrap() - before;
            let (p99, failed) = hundreds(&mut all);
            println!(
                "{balance}: one of three Redis is busy: p99 {p99:?}, {failed} of 400 failed, it got {got}"
            );
            seen.push(got);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(seen[1] <= 12 && seen[0] >= 100, "{seen:?}");
}

#[test]
#[ignore = "needs dnsmasq"]
fn a_dns_server_that_stands_still_gets_next_to_nothing() {
    let dnsmasq = || {
        let port = free_port();
        let mut command = Command::new(find("dnsmasq", "dnsmasq-base"));
        command.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
        ]);
        command.args([
            "--conf-file=/dev/null",
            "--pid-file=",
            "--listen-address=127.0.0.1",
            "--address=/example.test/192.0.2.7",
        ]);
        command.args(["--port", &port.to_string()]);
        let server = Guard::spawn(&mut command);
        eventually("dnsmasq answers", || asks(port, 1));
        (server, port)
    };
    let servers = [dnsmasq(), dnsmasq(), dnsmasq()];
    let ports = servers.each_ref().map(|(_, port)| *port);
    let mut seen = Vec::new();
    for balance in ["round_robin", "least_busy"] {
        let (_balancer, door) = start(
            &format!("protocol: udp, balance: {balance}, limits: {{ sessions_per_source: off }}"),
            &ports,
        );
        assert!((0..30).all(|number| asks(door, number)));
        servers[0].0.signal("-STOP");
        let failed = (0..60).filter(|number| !asks(door, *number)).count();
        servers[0].0.signal("-CONT");
        println!("{balance}: one of three dnsmasq stands still: {failed} of 60 questions failed");
        seen.push(failed);
    }
    assert!(seen[1] <= 2 && seen[0] >= 15, "{seen:?}");
}

/// A question of a client of its own for an address of example.test, and whether it was answered.
fn asks(port: u16, number: u16) -> bool {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE / 2)).unwrap();
    let mut question = number.to_be_bytes().to_vec();
    question.extend_from_slice(b"\x01\0\0\x01\0\0\0\0\0\0\x07example\x04test\0\0\x01\0\x01");
    let mut answer = [0; 512];
    client.send(&question).is_ok() && client.recv(&mut answer).is_ok_and(|length| length > question.len())
}
