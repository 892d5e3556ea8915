//! From which address backends are reached, in network namespaces: a client, the balancer and a backend, each with a
//! network of its own, and the rules of docs/client-addresses.md.
//!
//! Needs root, `ip`, `nft` and `setpriv`; without one of them it says so and passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs)]

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};

const DEADLINE: Duration = Duration::from_secs(60);
const DOCS: &str = include_str!("../docs/client-addresses.md");

/// A namespace, gone when dropped.
struct Net(String);

impl Net {
    fn new(name: &str) -> Self {
        let net = Self(format!("evenkeel-{name}-{}", std::process::id()));
        run(&["ip", "netns", "add", &net.0]);
        net.ip(&["link", "set", "lo", "up"]);
        net
    }

    fn ip(&self, words: &[&str]) {
        run(&[&["ip", "-n", &self.0], words].concat());
    }

    /// Runs a piece of the documentation as it stands there.
    fn sh(&self, script: &str) {
        run(&["ip", "netns", "exec", &self.0, "bash", "-euc", script]);
    }

    /// A thread of its own enters the namespace; what it opens stays there.
    fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
        let thread = std::thread::spawn(move || {
            use std::os::fd::AsFd;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// A wire between two namespaces: `(interface, IPv4, IPv6)` of each end.
    fn wire(&self, own: [&str; 3], other: &Self, others: [&str; 3]) {
        run(&[
            "ip", "-n", &self.0, "link", "add", own[0], "type", "veth", "peer", "name", others[0], "netns",
            &other.0,
        ]);
        for (net, end) in [(self, own), (other, others)] {
            net.ip(&["addr", "add", end[1], "dev", end[0]]);
            net.ip(&["addr", "add", end[2], "dev", end[0], "nodad"]);
            net.ip(&["link", "set", end[0], "up"]);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// The program in a namespace, ended when dropped.
struct Balancer {
    child: Child,
    folder: tempfile::TempDir,
}

impl Balancer {
    fn start(net: &Net, yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("evenkeel.yaml"), yaml).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &net.0, env!("CARGO_BIN_EXE_evenkeel"), "run", "--config"]);
        let child = command.arg(folder.path().join("evenkeel.yaml")).stderr(log).spawn().unwrap();
        let mut balancer = Self { child, folder };
        eventually("the balancer serves", || {
            assert!(balancer.child.try_wait().unwrap().is_none(), "{}", balancer.log());
            balancer.log().contains("serving: ")
        });
        balancer
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Says why, loudly, when these tests cannot be made here.
fn is_possible() -> bool {
    let lacks = |program: &str| {
        Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    };
    let why = if rustix::process::getuid().is_root() {
        ["ip", "nft", "setpriv"].into_iter().find(|program| lacks(program))
    } else {
        Some("root")
    };
    if let Some(why) = why {
        eprintln!("SKIPPED: network namespaces need {why}");
    }
    why.is_none()
}

/// The block of the documentation with this name.
fn documented(name: &str) -> &'static str {
    let (_, rest) = DOCS.split_once(&format!("```sh {name}\n")).expect("the block is there");
    rest.split_once("```").expect("the block ends").0
}

/// A server that answers everyone with the address it sees.
fn mirror(net: &Net, address: &'static str) {
    let (tcp, udp) =
        net.enter(move || (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()));
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().unwrap();
            std::thread::spawn(move || {
                let _ = stream.write_all(format!("{peer}\n").as_bytes());
                let _ = stream.read(&mut [0; 16]);
            });
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, from)) = udp.recv_from(&mut [0; 64]) {
            let _ = udp.send_to(from.to_string().as_bytes(), from);
        }
    });
}

/// A client at `from`, whose connection stays open, and whom the backend saw.
fn tcp_seen(net: &Net, from: &str, to: &str) -> Result<(TcpStream, SocketAddr), std::io::Error> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    net.enter(move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), DEADLINE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut seen = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
            seen.push(byte[0]);
        }
        let seen = String::from_utf8(seen).unwrap();
        seen.parse().map(|seen| (stream, seen)).map_err(|_| std::io::ErrorKind::UnexpectedEof.into())
    })
}

/// The metrics page, asked for from a port that is none of the range.
fn metrics(net: &Net) -> String {
    // A text serves all who ask within a second: what this test was given before is let grow old.
    std::thread::sleep(Duration::from_secs(1));
    net.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.2:51000".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.connect(&"127.0.0.1:9900".parse::<SocketAddr>().unwrap().into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    })
}

/// The client's own address, and whom the backend saw; nothing: no answer within `patience`.
fn udp_seen(net: &Net, from: &str, to: &str, patience: Duration) -> Option<(UdpSocket, SocketAddr)> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    net.enter(move || {
        let socket = UdpSocket::bind(from).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.send(b"?").unwrap();
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).ok()?;
        Some((socket, std::str::from_utf8(&answer[..length]).unwrap().parse().unwrap()))
    })
}

/// Client, balancer and backend, with the rules as documented.
fn three(name: &str) -> (Net, Net, Net) {
    let (client, balancer, backend) =
        (Net::new(&format!("{name}-c")), Net::new(&format!("{name}-b")), Net::new(&format!("{name}-s")));
    client.wire(
        ["c0", "192.0.2.7/24", "2001:db8:2::7/64"],
        &balancer,
        ["b0", "192.0.2.1/24", "2001:db8:2::1/64"],
    );
    balancer.wire(
        ["b1", "10.0.1.5/24", "2001:db8:1::5/64"],
        &backend,
        ["s0", "10.0.1.11/24", "2001:db8:1::11/64"],
    );
    // As strict as systems are set up.
    balancer.sh("for name in all default b0 b1; do echo 1 >/proc/sys/net/ipv4/conf/$name/rp_filter; done");
    balancer.sh(documented("balancer"));
    backend.sh(documented("backend"));
    (client, balancer, backend)
}

#[test]
fn with_the_documented_rules_the_backend_sees_the_client() {
    if !is_possible() {
        return;
    }
    let (client, balancer, backend) = three("seen");
    mirror(&backend, "10.0.1.11:5432");
    mirror(&backend, "[2001:db8:1::11]:5432");
    let running = Balancer::start(
        &balancer,
        "workers: 2
log: { format: json, sessions: all }
defaults: { pool: { connect_from: client, health: { check: off } } }
listeners:
  tcp4: { bind: '192.0.2.1:5432', backends: ['10.0.1.11:5432'] }
  tcp6: { bind: '[2001:db8:2::1]:5432', backends: ['[2001:db8:1::11]:5432'] }
  udp4: { bind: '192.0.2.1:5432', protocol: udp, backends: ['10.0.1.11:5432'] }
  other: { bind: '192.0.2.1:5433', protocol: udp, backends: ['10.0.1.11:5432'] }
  udp6: { bind: '[2001:db8:2::1]:5432', protocol: udp, backends: ['[2001:db8:1::11]:5432'] }
  apart: { bind: '[2001:db8:2::1]:5433', backends: ['10.0.1.11:5432'] }",
    );
    for (from, to) in
        [("192.0.2.7:40001", "192.0.2.1:5432"), ("[2001:db8:2::7]:40002", "[2001:db8:2::1]:5432")]
    {
        let own: SocketAddr = from.parse().unwrap();
        let (stream, seen) =
            tcp_seen(&client, from, to).unwrap_or_else(|error| panic!("{error}: {}", running.log()));
        assert_eq!(seen, own, "tcp");
        drop(stream);
        let (_, seen) = udp_seen(&client, from, to, DEADLINE).unwrap_or_else(|| panic!("{}", running.log()));
        assert_eq!(seen, own, "udp");
    }

    // Somebody on the balancer has the port: the address stays.
    let taken = balancer.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_ip_transparent_v4(true).unwrap();
        socket.bind(&"192.0.2.7:40003".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket
    });
    let (_, seen) = tcp_seen(&client, "192.0.2.7:40003", "192.0.2.1:5432").unwrap();
    assert_eq!(seen.ip().to_string(), "192.0.2.7");
    assert_ne!(seen.port(), 40_003);
    drop(taken);

    // One client at two doors has one pair of addresses towards the backend: the second flow must not get its answers.
    let (first, seen) = udp_seen(&client, "192.0.2.7:40004", "192.0.2.1:5432", DEADLINE).unwrap();
    assert_eq!(seen.port(), 40_004);
    let second = client.enter(move || {
        let from = first.local_addr().unwrap();
        drop(first);
        let socket = UdpSocket::bind(from).unwrap();
        socket.connect("192.0.2.1:5433").unwrap();
        socket.send(b"?").unwrap();
        socket
    });
    eventually("the second flow is refused", || running.log().contains(r#""reason":"no_source_port""#));
    drop(second);

    let apart = tcp_seen(&client, "[2001:db8:2::7]:40005", "[2001:db8:2::1]:5433");
    assert!(apart.is_err(), "an IPv4 backend cannot see an IPv6 client");
    eventually("and that is told", || running.log().contains(r#""reason":"connect_failed""#));
}

#[test]
fn addresses_are_used_in_turn_and_one_without_ports_is_passed_over() {
    if !is_possible() {
        return;
    }
    let net = Net::new("ports");
    // The kernel searches an even number of ports.
    net.sh("echo '40000 40003' >/proc/sys/net/ipv4/ip_local_port_range");
    mirror(&net, "127.0.0.1:5432");
    let running = Balancer::start(
        &net,
        "workers: 1
log: { format: json, sessions: failed }
admin: { http: '127.0.0.1:9900' }
listeners:
  tcp: { bind: '127.0.0.1:80', pool: p }
  udp: { bind: '127.0.0.1:80', protocol: udp, backends: ['127.0.0.1:5432'], connect_from: [127.0.0.5, 127.0.0.6] }
pools:
  p: { backends: ['127.0.0.1:5432'], connect: { attempts: 1 }, connect_from: [127.0.0.5, 127.0.0.6], health: { check: off }, passive: { failures: 1, max_ejected: 100% } }",
    );
    let open: Vec<_> = (0..8)
        .map(|n| tcp_seen(&net, &format!("127.0.0.2:{}", 50_000 + n), "127.0.0.1:80").unwrap())
        .collect();
    let of = |ip: &str| open.iter().filter(|(_, seen)| seen.ip().to_string() == ip).count();
    assert_eq!((of("127.0.0.5"), of("127.0.0.6")), (4, 4));
    assert!(open.windows(2).all(|two| two[0].1.ip() != two[1].1.ip()), "not in turn: {open:?}");
    let ninth = tcp_seen(&net, "127.0.0.2:50009", "127.0.0.1:80");
    assert!(ninth.is_err(), "there is no ninth port");
    eventually("that is told", || running.log().contains(r#""reason":"no_source_port""#));

    let flows: Vec<_> = (0..8)
        .map(|n| udp_seen(&net, &format!("127.0.0.2:{}", 50_000 + n), "127.0.0.1:80", DEADLINE).unwrap())
        .collect();
    let of = |ip: &str| flows.iter().filter(|(_, seen)| seen.ip().to_string() == ip).count();
    assert_eq!((of("127.0.0.5"), of("127.0.0.6")), (4, 4));
    assert!(udp_seen(&net, "127.0.0.2:50009", "127.0.0.1:80", Duration::from_millis(500)).is_none());

    let page = metrics(&net);
    let value = |name: &str| -> f64 {
        let line =
            page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {page}"));
        line.trim().parse().unwrap()
    };
    assert!(value(r#"evenkeel_source_address_full_total{pool="p"}"#) >= 2.0);
    assert!(value(r#"evenkeel_source_address_full_total{pool="udp"}"#) >= 2.0);
    assert_eq!(value(r#"evenkeel_limit_in_use_ratio{limit="source_ports"}"#), 1.0);
    // It is nothing of the backend's.
    let backend = r#"{pool="p",backend="127.0.0.1:5432"}"#;
    assert_eq!(value(&format!("evenkeel_connect_failures_total{backend}")), 0.0);
    assert_eq!(
        value(&format!("evenkeel_backend_ejections_total{}", backend.replace("}", r#",cause="failures"}"#))),
        0.0
    );
    eventually("a warning comes", || running.log().contains("local ports towards one backend run out"));
}

#[test]
fn what_strangers_send_before_a_flow_is_connected_reaches_nobody() {
    const FLOWS: usize = 20_000;
    if !is_possible() {
        return;
    }
    let (client, balancer, backend) = three("strangers");
    mirror(&backend, "10.0.1.11:5432");
    let running = Balancer::start(
        &balancer,
        "workers: 1
admin: { http: '127.0.0.1:9900' }
listeners:
  door: { bind: '192.0.2.1:53', protocol: udp, udp: { responses: 1 }, backends: ['10.0.1.11:5432'], connect_from: client }",
    );
    // The door of a flow stands open to everyone between its bind and its connect.
    let done = Arc::new(AtomicBool::new(false));
    let stranger = backend.enter(|| UdpSocket::bind("10.0.1.11:9999").unwrap());
    let spamming = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                let _ = stranger.send_to(b"stranger", "192.0.2.7:40010");
            }
        }
    });
    let socket = client.enter(|| UdpSocket::bind("192.0.2.7:40010").unwrap());
    socket.connect("192.0.2.1:53").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut lost = 0;
    for _ in 0..FLOWS {
        // Each answer ends its flow, so each question begins one.
        socket.send(b"?").unwrap();
        let mut answer = [0; 64];
        match socket.recv(&mut answer) {
            Ok(length) => assert_eq!(std::str::from_utf8(&answer[..length]).unwrap(), "192.0.2.7:40010"),
            // Strangers may have filled what the kernel has room for.
            Err(_) => lost += 1,
        }
    }
    done.store(true, Ordering::Relaxed);
    spamming.join().unwrap();
    let page = metrics(&balancer);
    let strangers = r#"evenkeel_udp_dropped_total{listener="door",reason="stranger"}"#;
    let strangers =
        page.lines().find_map(|line| line.strip_prefix(strangers)).unwrap_or_else(|| panic!("{page}"));
    eprintln!("{strangers} datagrams of strangers were discarded, {lost} answers lost");
    assert!(lost < FLOWS / 10, "{lost} lost: {}", running.log());
}

#[test]
fn without_the_capability_the_start_names_the_drop_in() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evenkeel.yaml");
    std::fs::write(
        &file,
        "log: { format: text }\nlisteners: { web: { bind: '127.0.0.1:1', backends: ['127.0.0.1:2'], connect_from: client } }",
    )
    .unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin,-net_raw", "--inh-caps=-all"]);
    command.arg(env!("CARGO_BIN_EXE_evenkeel")).args(["run", "--config"]).arg(&file);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in
        ["`web`", "CAP_NET_ADMIN", "AmbientCapabilities=CAP_NET_ADMIN", "CapabilityBoundingSet=CAP_NET_ADMIN"]
    {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

#[test]
fn four_backends_carry_four_times_as_many_flows_as_an_address_has_ports() {
    const PORTS: usize = 4;
    const BACKENDS: usize = 4;
    if !is_possible() {
        return;
    }
    let net = Net::new("narrow");
    net.sh("echo '40000 40003' >/proc/sys/net/ipv4/ip_local_port_range");
    for backend in 0..BACKENDS {
        let socket = net.enter(move || UdpSocket::bind(format!("127.0.1.{}:53", backend + 1)).unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..length], from);
            }
        });
    }
    let list: Vec<String> = (1..=BACKENDS).map(|backend| format!("'127.0.1.{backend}:53'")).collect();
    let running = Balancer::start(
        &net,
        &format!(
            "workers: 1\nlog: {{ format: json }}\nadmin: {{ http: '127.0.0.1:9900' }}\nlisteners: {{ dns: {{ bind: '127.0.0.1:53', \
             protocol: udp, limits: {{ sessions_per_source: off }}, backends: [{}] }} }}",
            list.join(", ")
        ),
    );
    // The clients' own ports are not of the narrow range.
    let client = |number: usize| {
        net.enter(move || {
            let socket = UdpSocket::bind(format!("127.0.0.9:{}", 50_000 + number)).unwrap();
            socket.connect("127.0.0.1:53").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            socket
        })
    };
    let is_answered = |socket: &UdpSocket, number: usize| {
        let question = format!("question {number}");
        socket.send(question.as_bytes()).unwrap();
        let mut answer = [0; 64];
        match socket.recv(&mut answer) {
            Ok(length) => {
                assert_eq!(&answer[..length], question.as_bytes(), "the reply of another client");
                true
            }
            Err(_) => false,
        }
    };
    let clients: Vec<UdpSocket> = (0..PORTS * BACKENDS).map(client).collect();
    for round in 0..3 {
        for (number, socket) in clients.iter().enumerate() {
            let number = round * 100 + number;
            eventually("an answer", || is_answered(socket, number));
        }
    }
    eventually("a warning comes before the end", || {
        // The ports are looked at while something moves, once a second.
        is_answered(&clients[0], 400);
        running.log().contains("local ports towards one backend run out")
    });
    let late = client(PORTS * BACKENDS);
    assert!(!is_answered(&late, 999), "there is no port left towards any backend");
    eventually("that is told", || running.log().contains(r#""reason":"no_source_port""#));
    assert!(metrics(&net).contains(r#"evenkeel_sessions_active{listener="dns"} 16"#), "{}", metrics(&net));
    // Those that are there go on.
    clients.iter().enumerate().for_each(|(number, socket)| {
        eventually("an answer", || is_answered(socket, 500 + number));
    });
}

#[test]
fn a_backend_of_a_family_that_this_host_lacks_is_passed_over() {
    if !is_possible() {
        return;
    }
    let net = Net::new("family");
    net.sh("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
    mirror(&net, "127.0.0.1:5432");
    let _running = Balancer::start(
        &net,
        "workers: 1
admin: { http: '127.0.0.1:9900' }
listeners:
  door: { bind: '127.0.0.1:80', balance: first, backends: ['[::1]:5432', '127.0.0.1:5432'], health: { check: off }, passive: off }",
    );
    for number in 0..5 {
        tcp_seen(&net, &format!("127.0.0.2:{}", 50_000 + number), "127.0.0.1:80").unwrap();
    }
    let page = metrics(&net);
    let failures = r#"evenkeel_connect_failures_total{pool="door",backend="[::1]:5432"} 0"#;
    assert!(page.contains(failures), "it is nothing of the backend's: {page}");
}

/// The process that serves now, ended when dropped.
struct Serving(Pid);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn flows_keep_ports_of_their_own_when_the_number_of_threads_changes() {
    if !is_possible() {
        return;
    }
    let net = Net::new("threads");
    net.sh("echo '40000 40399' >/proc/sys/net/ipv4/ip_local_port_range");
    mirror(&net, "127.0.1.1:53");
    let yaml = |workers: usize| {
        format!(
            "workers: {workers}\nlog: {{ format: json }}\nlisteners: {{ dns: {{ bind: '127.0.0.1:53', protocol: udp, \
             limits: {{ sessions_per_source: off }}, backends: ['127.0.1.1:53'], health: {{ check: off }} }} }}"
        )
    };
    let running = Balancer::start(&net, &yaml(1));
    // The clients' own ports are not of the narrow range. All of their flows live to the end.
    let client = |number: usize| {
        udp_seen(&net, &format!("127.0.0.9:{}", 50_000 + number), "127.0.0.1:53", DEADLINE)
            .unwrap_or_else(|| panic!("no answer for {number}: {}", running.log()))
    };
    let mut flows: Vec<_> = (0..100).map(client).collect();
    let mut process = Serving(Pid::from_child(&running.child));
    // One thread had every port; each of four has every fourth, and the flows stay with the first; and so on.
    for (times, workers) in [(1, 4), (2, 2), (3, 3)] {
        std::fs::write(running.folder.path().join("evenkeel.yaml"), yaml(workers)).unwrap();
        kill_process(process.0, Signal::USR2).unwrap();
        let successors = || {
            let log = running.log();
            let lines = log.lines().filter(|line| line.contains("handed over to the new process"));
            lines.map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
        };
        eventually("another process has taken over", || successors().len() == times);
        let pid = successors()[times - 1]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        process.0 = pid.and_then(Pid::from_raw).unwrap();
        flows.extend((flows.len()..flows.len() + 50).map(client));
        let ports: HashSet<SocketAddr> = flows.iter().map(|(_, seen)| *seen).collect();
        assert_eq!(ports.len(), flows.len(), "two flows share a port with {workers} threads");
    }
}

#[test]
fn a_client_goes_on_with_its_own_address_when_the_number_of_threads_changes() {
    if !is_possible() {
        return;
    }
    let (client, balancer, backend) = three("threads-c");
    mirror(&backend, "10.0.1.11:5432");
    let yaml = |workers: usize| {
        format!(
            "workers: {workers}\nlog: {{ format: json }}\nlisteners: {{ dns: {{ bind: '192.0.2.1:53', protocol: udp, \
             limits: {{ sessions_per_source: off }}, backends: ['10.0.1.11:5432'], connect_from: client, health: {{ check: off }} }} }}"
        )
    };
    let running = Balancer::start(&balancer, &yaml(1));
    let sockets: Vec<_> = (0..16)
        .map(|number| {
            let from = format!("192.0.2.7:{}", 40_100 + number);
            let (socket, seen) = udp_seen(&client, &from, "192.0.2.1:53", DEADLINE).unwrap();
            assert_eq!(seen.to_string(), from);
            socket
        })
        .collect();
    std::fs::write(running.folder.path().join("evenkeel.yaml"), yaml(2)).unwrap();
    kill_process(Pid::from_child(&running.child), Signal::USR2).unwrap();
    let successors = || {
        let log = running.log();
        let lines = log.lines().filter(|line| line.contains("handed over to the new process"));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    eventually("another process has taken over", || successors().len() == 1);
    let pid = successors()[0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let _process = Serving(pid.and_then(Pid::from_raw).unwrap());
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        eventually("everyone is answered", || {
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 64]).is_ok()
        });
    }
}
