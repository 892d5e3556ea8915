//! A reload, and then another process: what the file said in between must not get lost on the way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use super::datagrams::Answering;
use crate::ports::free_port;
use crate::rig::*;

/// Serves this file from now on.
fn reload(program: &Program, file: &str) {
    program.write_file(file);
    program.say(&["reload"]);
}

fn player(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// Who answers; asked until somebody does.
fn name_of(player: &UdpSocket) -> String {
    let mut answer = [0; 64];
    let mut name = String::new();
    eventually("somebody answers", || {
        player.send(b"?").unwrap();
        let length = player.recv(&mut answer).unwrap_or(0);
        name = String::from_utf8_lossy(&answer[..length.saturating_sub(1)]).into_owned();
        length > 0
    });
    name
}

#[test]
fn flows_of_a_renamed_listener_hold_up_no_stop() {
    let (backend, port) = (Answering::start("a"), free_port());
    let listener = format!(
        "{{ protocol: udp, bind: '127.0.0.1:{port}', backends: ['{}'], health: {{ check: off }} }}",
        backend.address
    );
    let mut program = Program::start(&format!(
        "shutdown: {{ grace: 1s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['127.0.0.1:9'], health: {{ check: off }} }}, games: {listener} }}"
    ));
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let player = player(to);
    assert_eq!(name_of(&player), "a");
    reload(&program, &program.file().replace("games:", "other:"));
    assert_eq!(program.upgrade(), 1);
    assert_eq!(name_of(&player), "a");
    assert!(program.metric("evenkeel_limit_in_use_ratio{limit=\"udp_sessions\"}") > 0.0, "it is counted");
    program.signal(Signal::TERM);
    // A flow that goes on talking is cut when the grace is over.
    eventually("the process ends", || {
        let _ = player.send(b"?");
        !std::path::Path::new(&format!("/proc/{}", program.pid())).exists()
    });
    let _ = program.wait();
}

#[test]
fn a_name_that_has_another_protocol_now_stays_one_series() {
    let (backend, answering) = (Backend::start(echo), Answering::start("a"));
    let (port, other) = (free_port(), free_port());
    let tcp = format!("bind: '127.0.0.1:{port}', backends: ['{}']", backend.address);
    let udp = format!("protocol: udp, bind: '127.0.0.1:{other}', backends: ['{}']", answering.address);
    let program = Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['127.0.0.1:9'], health: {{ check: off }} }}, games: {{ {tcp}, health: {{ check: off }} }} }}"
    ));
    let to = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut old = connect(to(port));
    exchange(&mut old, b"before");
    reload(&program, &program.file().replace(&tcp, &udp));
    let player = player(to(other));
    assert_eq!(name_of(&player), "a");
    let active = || program.metric("evenkeel_sessions_active{listener=\"games\"}");
    let bytes = || program.metric("evenkeel_bytes_total{listener=\"games\",direction=\"to_backend\"}");
    let rows = || {
        let status = program.status();
        let all = status["listeners"].as_array().unwrap().iter();
        all.filter(|row| row["name"] == "games")
            .map(|row| row["protocol"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    becomes("both count", 2.0, active);
    assert_eq!(rows(), ["udp", "tcp"]);
    let before = bytes();
    assert!(before >= 7.0, "{before}");
    assert_eq!(program.upgrade(), 2);
    becomes("both are counted on", 2.0, active);
    exchange(&mut old, b"after");
    becomes("bytes of both are one series", before + 5.0, bytes);
    drop(old);
    becomes("the session has ended", 1.0, active);
    // Whatever the file says next, what was counted stays.
    reload(&program, &program.file());
    assert_eq!((bytes(), rows()), (before + 5.0, vec!["udp".to_owned()]));
}

#[test]
fn a_listener_that_comes_back_within_the_grace_keeps_its_sessions() {
    let (backend, port) = (Backend::start(echo), free_port());
    let more = format!(", back: {{ bind: '127.0.0.1:{port}', pool: p }} }}");
    let program = Program::start(&format!(
        "shutdown: {{ grace: 1s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', pool: p }}{more}\n\
         pools: {{ p: {{ backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let mut old = connect(to);
    exchange(&mut old, b"before");
    let file = program.file();
    program.write_file(&file.replace(&more, " }"));
    assert_eq!(program.upgrade(), 1);
    reload(&program, &file);
    let mut new = connect(to);
    exchange(&mut new, b"new");
    // Nothing tells that nothing will come: the grace is let pass, and twice that.
    std::thread::sleep(Duration::from_secs(3));
    exchange(&mut old, b"still there");
    exchange(&mut new, b"this one, too");
}

#[test]
fn a_pool_that_left_the_file_is_reached_as_before() {
    let (silent, other) = (Silent::start(), Answering::start("b"));
    let (mut first, port) = (Answering::start("a"), free_port());
    // The first pool of the file has what the ones that leave have not.
    let yaml = format!(
        "listeners:\n  aa: {{ bind: '127.0.0.1:{}', pool: aa }}\n  door: {{ bind: '127.0.0.1:PORT', pool: NAME }}\n  \
         games: {{ protocol: udp, bind: '127.0.0.1:{port}', pool: udpNAME }}\npools:\n  \
         aa: {{ send_proxy: v2, backends: ['127.0.0.1:9'], health: {{ check: off }} }}\n  \
         NAME: {{ connect: {{ timeout: 60s, attempts: 1 }}, backends: ['{}'], health: {{ check: off }} }}\n  \
         udpNAME: {{ balance: first, backends: ['{}', '{}'], health: {{ check: off }} }}\n",
        free_port(),
        silent.address,
        first.address,
        other.address
    );
    let program = Program::start(&yaml.replace("NAME", "old"));
    let mut client = connect(program.address());
    client.write_all(b"hello").unwrap();
    let player = player(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(name_of(&player), "a");
    eventually("its connect is under way", || program.status()["listeners"][1]["active"] == 1);
    reload(&program, &program.file().replace("old", "new"));
    assert_eq!(program.upgrade(), 2);
    // No header in front of it, as its pool wanted.
    let mut reached = silent.wake();
    let mut bytes = [0; 5];
    reached.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    // The flow's backend dies: the other one of its pool takes it.
    first.stop();
    assert_eq!(name_of(&player), "b");
}

#[test]
fn who_waits_for_a_header_is_still_judged() {
    let backend = Backend::start(echo);
    let program = Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', accept_proxy: [127.0.0.0/8], deny: [192.0.2.0/24], \
         timeouts: {{ idle: 60s }}, backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let mut client = connect(program.address());
    eventually("it waits", || program.status()["listeners"][0]["active"] == 1);
    reload(&program, &program.file().replace("idle: 60s", "idle: 61s"));
    assert_eq!(program.upgrade(), 1);
    client.write_all(b"PROXY TCP4 192.0.2.9 127.0.0.1 1000 2000\r\nhello").unwrap();
    assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset));
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn a_stop_that_meets_a_handover_is_no_fault() {
    let backend = Backend::start(echo);
    for pause_ms in [1, 3, 6, 10, 15] {
        let mut program = Program::start(&format!(
            "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
            backend.address
        ));
        program.signal(Signal::USR2);
        std::thread::sleep(Duration::from_millis(pause_ms));
        program.signal(Signal::TERM);
        assert_eq!(program.wait().code(), Some(0), "{}", program.log());
        let handed = |line: &&serde_json::Value| line["message"] == "handed over to the new process";
        if let Some(line) = program.json_log().iter().find(handed) {
            program.succeeded_by(u32::try_from(line["pid"].as_u64().unwrap()).unwrap());
        }
    }
}

#[test]
fn limits_of_a_listener_that_comes_back_count_the_sessions_it_has() {
    let (backend, port) = (Backend::start(echo), free_port());
    let back = format!(", back: {{ bind: '127.0.0.1:{port}', pool: p, limits: {{ sessions: 2 }} }}");
    let yaml = |more: &str| {
        format!(
            "listeners: {{ door: {{ bind: '127.0.0.1:1', pool: p }}{more} }}\n\
             pools: {{ p: {{ backends: ['{}'], health: {{ check: off }} }} }}",
            backend.address
        )
    };
    let balancer = Balancer::start(&yaml(&back));
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let mut clients: Vec<TcpStream> = (0..2).map(|_| connect(to)).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    balancer.reload(&yaml("")).unwrap();
    balancer.reload(&yaml(&back)).unwrap();
    assert!(is_turned_away(to), "two is the limit");
    clients.iter_mut().for_each(|client| exchange(client, b"after"));
}

#[test]
fn a_backend_that_is_back_at_its_address_counts_the_sessions_it_has() {
    let backends = [Backend::start(echo), Backend::start(echo)];
    let port = free_port();
    let yaml = |at: usize| {
        format!(
            "listeners: {{ door: {{ bind: '127.0.0.1:{port}', pool: p }} }}\npools: {{ p: {{ backends: \
             [{{ name: b, address: '{}', max_sessions: 1 }}], health: {{ check: off }} }} }}",
            backends[at].address
        )
    };
    let balancer = Balancer::start(&yaml(0));
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let mut first = connect(to);
    exchange(&mut first, b"before");
    balancer.reload(&yaml(1)).unwrap();
    balancer.reload(&yaml(0)).unwrap();
    assert!(is_turned_away(to), "it has its one session");
    exchange(&mut first, b"after");
}

#[test]
fn a_flow_leaves_the_old_address_of_a_backend_that_moved() {
    let (mut old, new, port) = (Answering::start("old"), Answering::start("new"), free_port());
    let yaml = |address: SocketAddr| {
        format!(
            "shutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ protocol: udp, bind: '127.0.0.1:{port}', pool: p }} }}\npools: {{ p: {{ backends: \
             [{{ name: b, address: '{address}' }}], health: {{ check: off }} }} }}"
        )
    };
    let balancer = Balancer::start(&yaml(old.address));
    let player = player(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(name_of(&player), "old");
    balancer.reload(&yaml(new.address)).unwrap();
    old.stop();
    assert_eq!(name_of(&player), "new");
}
