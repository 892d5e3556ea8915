//! Where clients come to: addresses, families, port ranges, and what happens when a door cannot be bound.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use evenkeel::reason::Reason;

use crate::ports::free_port;
use crate::rig::*;

/// Runs the program with this file until it ends by itself; its exit code and what it said.
fn run(yaml: &str, wrapper: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    // Another user may have to read it.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = folder.path().join("evenkeel.yaml");
    std::fs::write(&file, yaml).unwrap();
    let binary = env!("CARGO_BIN_EXE_evenkeel");
    let mut words = wrapper.to_vec();
    words.push(binary);
    let output =
        Command::new(words[0]).args(&words[1..]).arg("run").arg("--config").arg(&file).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_taken_port_is_told_with_listener_address_and_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, said) =
        run(&format!("listeners: {{ door: {{ bind: '{address}', backends: ['127.0.0.1:1'] }} }}"), &[]);
    assert_eq!(code, Some(1), "{said}");
    for part in ["door", &address.to_string(), "Address already in use"] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

#[test]
fn an_address_that_is_not_here_is_told() {
    let (code, said) = run("listeners: { door: { bind: '192.0.2.1:8000', backends: ['127.0.0.1:1'] } }", &[]);
    assert_eq!(code, Some(1), "{said}");
    for part in ["door", "192.0.2.1:8000", "Cannot assign requested address"] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

#[test]
fn with_freebind_an_address_may_come_later() {
    let backend = Backend::start(echo);
    let mut text = String::new();
    for (protocol, address) in
        [("tcp", "192.0.2.1"), ("udp", "192.0.2.2"), ("tcp", "[2001:db8::1]"), ("udp", "[2001:db8::2]")]
    {
        text += &format!(
            "  {}: {{ bind: '{address}:1', protocol: {protocol}, freebind: on, backends: ['{}'], health: {{ check: off }} }}\n",
            text.len(),
            backend.address
        );
    }
    let balancer = Balancer::start(&format!("workers: 2\nlisteners:\n{text}"));
    assert_eq!(balancer.server().addresses().len(), 4);
}

#[test]
fn a_backlog_is_the_length_of_the_kernels_queue() {
    let settings = settings(
        "listeners: { door: { bind: '127.0.0.1:1', backlog: 3, backends: ['127.0.0.1:2'], health: { check: off } } }",
    );
    assert_eq!(settings.listeners[0].backlog, Some(3));
    let balancer = Balancer::start_with(settings);
    assert_eq!(backlog_of(balancer.address().port()), 3);
}

/// The Send-Q column of a listening socket is its backlog.
fn backlog_of(port: u16) -> u32 {
    let output = Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let send_queue = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("no listener in {line:?}"));
    send_queue.parse().unwrap()
}

#[test]
fn a_queue_shorter_than_asked_for_is_told_once_with_what_to_set() {
    let is_root = rustix::process::getuid().is_root();
    let wrapper: &[&str] =
        if is_root { &["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all"] } else { &[] };
    // The program ends at its admin address, when all doors are bound.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [0; 3].map(|_| free_port());
    let [a, b, c] = ports;
    let (code, said) = run(
        &format!(
            "admin: {{ http: '{}' }}
listeners:
  a: {{ bind: '127.0.0.1:{a}', backlog: 65535, backends: ['127.0.0.1:1'] }}
  b: {{ bind: '127.0.0.1:{b}', protocol: udp, udp: {{ receive_buffer: 512MiB, send_buffer: 512MiB }}, backends: ['127.0.0.1:1'] }}
  c: {{ bind: '127.0.0.1:{c}', protocol: udp, udp: {{ receive_buffer: 512MiB, send_buffer: 512MiB }}, backends: ['127.0.0.1:1'] }}",
            taken.local_addr().unwrap()
        ),
        wrapper,
    );
    assert_eq!(code, Some(1), "{said}");
    let limit = |name: &str| -> u64 {
        std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap().trim().parse().unwrap()
    };
    for (name, asked) in [("somaxconn", 65_535), ("rmem_max", 512 << 20), ("wmem_max", 512 << 20)] {
        let told = said.matches(&format!("sysctl net.core.{name}={asked}")).count();
        assert_eq!(told, usize::from(limit(name) < asked), "net.core.{name} in: {said}");
    }
}

#[test]
fn a_low_port_without_the_capability_names_it() {
    let yaml = "listeners: { door: { bind: '127.0.0.1:81', backends: ['127.0.0.1:1'] } }";
    let first: u16 = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if first <= 81 {
        // Every user may bind port 81 here: there is nothing that could be refused.
        return;
    }
    let is_root = rustix::process::getuid().is_root();
    let wrapper: &[&str] =
        if is_root { &["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-all"] } else { &[] };
    let (code, said) = run(yaml, wrapper);
    assert_eq!(code, Some(1), "{said}");
    for part in ["door", "127.0.0.1:81", "Permission denied", "CAP_NET_BIND_SERVICE"] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

#[test]
fn starting_twice_is_refused() {
    let backend = Backend::start(echo);
    let yaml = format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    );
    let first = Program::start(&yaml);
    let (code, said) = run(&yaml.replace("PORT", &first.port.to_string()), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("already in use"), "{said}");
    exchange(&mut connect(first.address()), b"the first goes on");
}

#[test]
fn ipv6_clients_and_backends() {
    let backend = Backend::start_at("[::1]:0", echo);
    let yaml = format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '[::1]:1', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    );
    let balancer = Balancer::start(&yaml);
    let mut client = connect(balancer.address());
    assert!(client.peer_addr().unwrap().is_ipv6());
    exchange(&mut client, &pattern(50_000));
    drop(client);
    balancer.ends(Reason::ClientClosed, 1);
}

#[test]
fn an_ipv4_client_at_a_wildcard_door_is_logged_as_ipv4() {
    let backend = Backend::start(answer_with("word"));
    let program = Program::start(&format!(
        "workers: 1\nlog: {{ format: json, sessions: all }}\nlisteners: {{ door: {{ bind: PORT, backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    short_session(program.address()).unwrap();
    short_session(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], program.port))).unwrap();
    eventually("both are logged", || program.session_lines().len() == 2);
    let lines = program.session_lines();
    let of =
        |field: &str, line: usize| -> SocketAddr { lines[line][field].as_str().unwrap().parse().unwrap() };
    assert!(of("client", 0).is_ipv4(), "{}", lines[0]);
    assert_eq!(of("local", 0), program.address());
    assert!(of("client", 1).is_ipv6(), "{}", lines[1]);
    assert_eq!(of("local", 1).port(), program.port);
}

#[test]
fn a_backend_without_a_port_is_reached_at_the_clients_port() {
    // Two neighbouring ports that are free on the backend's address and at the balancer.
    // Below those that the kernel gives out by itself.
    let from = 10_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    let (first, backends) = (from..32_000)
        .find_map(|first| {
            let open = |port: u16| TcpListener::bind(("127.0.0.2", port)).ok();
            let here = [
                TcpListener::bind(("127.0.0.1", first)).ok()?,
                TcpListener::bind(("127.0.0.1", first + 1)).ok()?,
            ];
            let there = [open(first)?, open(first + 1)?];
            drop(here);
            Some((first, there))
        })
        .expect("two neighbouring free ports");
    let listening = backends.map(|listener| listener.local_addr().unwrap().to_string());
    let words = ["lower", "upper"];
    let _backends: Vec<Backend> = listening
        .iter()
        .zip(words)
        .map(|(address, word)| Backend::start_at(address, answer_with(word)))
        .collect();
    let last = first + 1;
    let yaml = format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:{first}-{last}', backends: [127.0.0.2], health: {{ check: off }} }} }}"
    );
    let balancer = Balancer::start(&yaml);
    for (port, word) in [(first, "lower"), (last, "upper")] {
        assert_eq!(short_session(SocketAddr::from(([127, 0, 0, 1], port))).unwrap(), word);
    }
    balancer.ends(Reason::BackendClosed, 2);
}
