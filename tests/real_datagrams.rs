//! Real senders of datagrams and real servers through the real program: dnsperf and Knot DNS, iperf3, DDNet. Where the programs
//! are not installed the test says so and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "servers/knot.rs"]
mod knot;
mod ports;

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ports::free_port;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A child that is killed when dropped.
struct Guard(Child);

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

/// Where a program is; without it the test fails.
#[track_caller]
fn find(program: &str, package: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/games"];
    let found = folders.map(|folder| Path::new(folder).join(program)).into_iter().find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed (apt: {package})"))
}

struct Balancer {
    _child: Guard,
    _folder: TempDir,
    admin: u16,
    /// The process that serves now: the child, or one that took over from it.
    pid: Cell<u64>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        kill("-9", self.pid.get());
    }
}

fn kill(signal: &str, pid: u64) {
    // One that has ended needs none.
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

impl Balancer {
    fn start(listeners: &str) -> Self {
        let (folder, admin) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("evenkeel.yaml");
        fs::write(
            &file,
            format!("admin: {{ http: '127.0.0.1:{admin}', socket: off }}\nlisteners: {{ {listeners} }}\n"),
        )
        .unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let child = command
            .arg("run")
            .arg("--config")
            .arg(&file)
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        eventually("the balancer accepts", || {
            fs::read_to_string(&log).unwrap().contains("admin.http is ready")
        });
        let pid = Cell::new(u64::from(child.id()));
        Self { _child: Guard(child), _folder: folder, admin, pid }
    }

    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.admin))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// Hands over to a new process, as a signal asks.
    fn upgrade(&self) {
        let before = self.pid.get();
        kill("-USR2", before);
        eventually("another process answers", || {
            let page = self.page("/status");
            let body = page.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let status: Option<serde_json::Value> = serde_json::from_str(body).ok();
            let pid = status.and_then(|status| status["pid"].as_u64());
            pid.is_some_and(|pid| {
                self.pid.set(pid);
                pid != before
            })
        });
    }

    fn metric(&self, name: &str) -> f64 {
        // A text serves all who ask within a second: what this test was given before is let grow old.
        std::thread::sleep(Duration::from_secs(1));
        let page = self.page("/metrics");
        let line =
            page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {page}"));
        line.trim().parse().unwrap()
    }
}

fn knot(knotd: &Path, folder: &Path, name: &str) -> (Guard, u16) {
    let (home, port) = (folder.join(name), free_port());
    fs::create_dir(&home).unwrap();
    (Guard(knot::start(knotd, &home, port)), port)
}

#[test]
#[ignore = "needs knotd, dnsperf"]
fn dnsperf_loses_no_query_over_two_servers() {
    let (knotd, dnsperf) = (find("knotd", "knot"), find("dnsperf", "dnsperf"));
    let folder = tempfile::tempdir().unwrap();
    let servers = [knot(&knotd, folder.path(), "one"), knot(&knotd, folder.path(), "two")];
    let door = free_port();
    let balancer = Balancer::start(&format!(
        "dns: {{ bind: '127.0.0.1:{door}', protocol: udp, udp: {{ responses: 1 }}, limits: {{ sessions_per_source: off }}, \
         backends: ['127.0.0.1:{}', '127.0.0.1:{}'], \
         health: {{ check: {{ dns: {{ name: example.test, type: SOA }} }}, timeout: 10s }} }}",
        servers[0].1, servers[1].1
    ));
    let queries = folder.path().join("queries");
    fs::write(&queries, knot::questions()).unwrap();
    // A rate that a busy machine carries too; a query is waited for a minute before it counts as lost.
    let mut command = Command::new(dnsperf);
    command.args([
        "-s",
        "127.0.0.1",
        "-p",
        &door.to_string(),
        "-l",
        "3",
        "-c",
        "8",
        "-T",
        "1",
        "-Q",
        "1000",
        "-t",
        "50",
        "-d",
    ]);
    let output = command.arg(&queries).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |what: &str| -> u64 {
        let line = said.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {said}"));
        line.split(':').nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(number("Queries sent") >= 500, "{said}");
    assert_eq!((number("Queries lost"), number("Queries completed")), (0, number("Queries sent")), "{said}");
    assert!(said.contains("NOERROR"), "{said}");
    eventually("every flow ended with its reply", || {
        balancer.metric("evenkeel_sessions_active{listener=\"dns\"}") == 0.0
    });
    let ended = balancer.metric("evenkeel_sessions_total{listener=\"dns\",reason=\"responses\"}");
    assert!(ended >= 8.0, "{ended} flows");
    for (_, port) in &servers {
        let sessions =
            format!("evenkeel_backend_sessions_total{{pool=\"dns\",backend=\"127.0.0.1:{port}\"}}");
        assert!(balancer.metric(&sessions) > 0.0, "{sessions}");
    }
}

#[test]
#[ignore = "needs iperf3"]
fn iperf3_sends_datagrams_beside_its_control_connection() {
    let iperf3 = find("iperf3", "iperf3");
    let (server, door) = (free_port(), free_port());
    let mut command = Command::new(&iperf3);
    let child = command
        .args(["-s", "-p", &server.to_string(), "-B", "127.0.0.1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Guard(child);
    eventually("iperf3 listens", || TcpListener::bind(("127.0.0.1", server)).is_err());
    let balancer = Balancer::start(&format!(
        "control: {{ bind: '127.0.0.1:{door}', backends: ['127.0.0.1:{server}'], health: {{ check: off }} }}, \
         data: {{ bind: '127.0.0.1:{door}', protocol: udp, backends: ['127.0.0.1:{server}'] }}"
    ));
    for direction in [&[][..], &["-R"]] {
        let mut command = Command::new(&iperf3);
        command.args([
            "-c",
            "127.0.0.1",
            "-p",
            &door.to_string(),
            "-u",
            "-b",
            "20M",
            "-l",
            "1200",
            "-t",
            "2",
            "--json",
        ]);
        let output: Output = command.args(direction).output().unwrap();
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let sum = &result["end"]["sum"];
        let (packets, lost) =
            (sum["packets"].as_u64().unwrap_or(0), sum["lost_packets"].as_u64().unwrap_or(0));
        assert!(
            packets > 1_000 && lost * 2 < packets,
            "{direction:?}: {lost} of {packets} lost: {}",
            result["error"]
        );
        eprintln!("{direction:?}: {lost} of {packets} lost");
    }
    for way in ["to_backend", "to_client"] {
        let datagrams = balancer
            .metric(&format!("evenkeel_udp_datagrams_total{{listener=\"data\",direction=\"{way}\"}}"));
        assert!(datagrams > 1_000.0, "{way}: {datagrams}");
    }
}

/// A game server of this name, on IPv4 and known to nobody.
fn ddnet(program: &Path, folder: &Path, name: &str, port: u16) -> Guard {
    let file = folder.join(format!("{name}.cfg"));
    let settings =
        format!("sv_name {name}\nsv_port {port}\nsv_register 0\nsv_ipv4only 1\nbindaddr 127.0.0.1\n");
    fs::write(&file, settings).unwrap();
    let mut command = Command::new(program);
    command.arg("-f").arg(&file).env("HOME", folder).current_dir(folder);
    let server = Guard(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let direct = player(port);
    eventually("the game server answers", || server_name(&direct).as_deref() == Some(name));
    server
}

fn player(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Asks as the server browser of the game does; `None` when no answer comes in time.
fn server_name(player: &UdpSocket) -> Option<String> {
    player.send(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xffgie3\x05").ok()?;
    let mut answer = [0; 1_400];
    let length = player.recv(&mut answer).ok()?;
    let fields = answer[..length].strip_prefix(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xffinf3")?;
    // Token, version, name; the number of players stands behind the name.
    let name = String::from_utf8(fields.split(|byte| *byte == 0).nth(2)?.to_vec()).ok()?;
    name.split_whitespace().next().map(str::to_owned)
}

#[test]
#[ignore = "needs DDNet-Server"]
fn players_of_a_game_go_on_when_their_server_dies_and_meet_it_again() {
    let program = find("DDNet-Server", "ddnet-server");
    let folder = tempfile::tempdir().unwrap();
    let (ports, door) = ([free_port(), free_port()], free_port());
    let mut first = ddnet(&program, folder.path(), "one", ports[0]);
    let _second = ddnet(&program, folder.path(), "two", ports[1]);
    let balancer = Balancer::start(&format!(
        "games: {{ bind: '127.0.0.1:{door}', protocol: udp, balance: first, \
         backends: ['127.0.0.1:{}', '127.0.0.1:{}'], \
         health: {{ check: {{ udp: {{ send: '\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xffgie3\\x05', expect: inf3 }} }}, interval: 500ms, timeout: 400ms, rise: 1 }} }}",
        ports[0], ports[1]
    ));
    let asks = |player: &UdpSocket| {
        let mut name = None;
        eventually("a server answers", || {
            name = server_name(player);
            name.is_some()
        });
        name.unwrap()
    };
    let veteran = player(door);
    assert_eq!(asks(&veteran), "one");
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    assert_eq!(asks(&veteran), "two", "the same flow, at the server that is left");
    assert_eq!(balancer.metric("evenkeel_sessions_active{listener=\"games\"}"), 1.0);
    for _ in 0..3 {
        balancer.upgrade();
        assert_eq!(server_name(&veteran).as_deref(), Some("two"), "no datagram is lost at an upgrade");
        assert_eq!(balancer.metric("evenkeel_sessions_active{listener=\"games\"}"), 1.0, "nor its flow");
    }
    let _first = ddnet(&program, folder.path(), "one", ports[0]);
    eventually("newcomers meet the first again", || server_name(&player(door)).as_deref() == Some("one"));
    assert_eq!(asks(&veteran), "two", "and who is at home stays there");
}
