//! The way out, with the real program and real signals.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use evenkeel::worker::Message;
use rustix::process::Signal;

use crate::rig::*;

fn program(backend: &Backend, grace: &str) -> Program {
    Program::start(&format!(
        "workers: 2\nlog: {{ format: json, sessions: all }}\nshutdown: {{ grace: {grace} }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ))
}

fn reasons(program: &Program) -> Vec<String> {
    program.session_lines().iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn after_sigterm_nothing_is_accepted_and_a_living_session_finishes() {
    let backend = Backend::start(echo);
    let mut program = program(&backend, "60s");
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    let began = Instant::now();
    program.signal(Signal::TERM);
    eventually("nothing is accepted any more", || std::net::TcpStream::connect(program.address()).is_err());
    exchange(&mut client, &pattern(100_000));
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::End));
    drop(client);
    assert_eq!(program.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(55), "it waited for the whole grace");
    let lines = program.session_lines();
    let of_client: Vec<_> = lines.iter().filter(|line| line["to_backend"] == 100_006).collect();
    assert_eq!(of_client.len(), 1, "{lines:?}");
    assert_eq!(of_client[0]["reason"], "client_closed");
    assert_eq!(of_client[0]["to_client"], 100_006);
}

#[test]
fn after_the_grace_the_rest_is_cut() {
    let backend = Backend::start(echo);
    let mut program = program(&backend, "1s");
    let mut clients: Vec<_> = (0..10).map(|_| connect(program.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    let began = Instant::now();
    program.signal(Signal::TERM);
    for mut client in clients {
        assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset));
    }
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(reasons(&program), vec!["shutdown"; 10]);
}

#[test]
fn a_second_signal_cuts_now() {
    for second in [Signal::TERM, Signal::INT] {
        let backend = Backend::start(echo);
        let mut program = program(&backend, "10m");
        let mut client = connect(program.address());
        exchange(&mut client, b"before");
        program.signal(Signal::TERM);
        eventually("it drains", || program.log().contains("stopping: no new sessions"));
        program.signal(second);
        assert_eq!(program.wait().code(), Some(0));
        assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset));
        assert_eq!(reasons(&program), ["shutdown"]);
    }
}

#[test]
fn connections_that_wait_at_the_door_at_sigterm_are_served() {
    let backend = Backend::start(answer_with("served"));
    let mut program = program(&backend, "60s");
    // The process sleeps while the kernel goes on taking connections into its queue.
    program.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..200).map(|_| connect(program.address())).collect();
    program.signal(Signal::TERM);
    program.signal(Signal::CONT);
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "served");
    }
    drop(clients);
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(reasons(&program).len(), 200);
}

#[test]
fn a_stop_while_the_first_checks_are_under_way_ends_at_once() {
    let silent = Silent::start();
    let yaml = format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ timeout: 1s, interval: 1s }} }} }}",
        silent.address
    );
    let mut program = Program::spawn_listening(&yaml);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn sighup_reads_the_file_again_and_a_wrong_one_changes_nothing() {
    let (first, second) = (Backend::start(answer_with("first")), Backend::start(answer_with("second")));
    let program = program(&first, "0s");
    assert_eq!(short_session(program.address()).unwrap(), "first");
    let file = program.file();
    program.write_file(&file.replace("listeners:", "listenres:"));
    program.signal(Signal::HUP);
    eventually("the mistake is in the log", || program.log().contains("did you mean `listeners`?"));
    eventually("that it is refused too", || program.log().contains("the file is refused"));
    assert_eq!(short_session(program.address()).unwrap(), "first");
    program.write_file(&file.replace(&first.address.to_string(), &second.address.to_string()));
    program.signal(Signal::HUP);
    eventually("what changed is in the log", || {
        program.log().contains(&format!("backend {} added", second.address))
    });
    assert_eq!(short_session(program.address()).unwrap(), "second");
    program.signal(Signal::HUP);
    eventually("nothing is to be done", || program.log().contains("reloaded: nothing changed"));
    let reloads = |result| program.metric(&format!("evenkeel_config_reloads_total{{result=\"{result}\"}}"));
    assert_eq!((reloads("done"), reloads("refused")), (2.0, 1.0));
    assert_eq!(program.metric("evenkeel_config_generation"), 3.0);
}

#[test]
fn a_living_flow_is_cut_after_the_grace_and_told() {
    let backend = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut program = Program::start(&format!(
        "log: {{ format: json, sessions: all }}\nshutdown: {{ grace: 100ms }}\nlisteners:\n  \
         door: {{ bind: '127.0.0.1:PORT', backends: ['{0}'], health: {{ check: off }} }}\n  \
         datagrams: {{ bind: '127.0.0.1:PORT', protocol: udp, backends: ['{0}'] }}\n",
        backend.local_addr().unwrap()
    ));
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", program.address()).unwrap();
    let mut datagram = [0; 16];
    backend.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(backend.recv(&mut datagram).unwrap(), 5);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    let lines = program.session_lines();
    let flows: Vec<_> = lines.iter().filter(|line| line["proto"] == "udp").collect();
    assert_eq!(flows.len(), 1, "{lines:?}");
    assert_eq!((&flows[0]["reason"], &flows[0]["datagrams_to_backend"]), (&"shutdown".into(), &1.into()));
}

#[test]
fn a_data_thread_that_ends_unasked_is_noticed() {
    let backend = Backend::start(echo);
    let balancer = Balancer::start(&format!(
        "workers: 2\nlisteners: {{ door: {{ bind: '127.0.0.1:1', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let is_broken = |patience| {
        balancer.wait_for(async { tokio::time::timeout(patience, balancer.server().broken()).await.is_ok() })
    };
    assert!(!is_broken(Duration::from_millis(1)));
    balancer.server().workers().mailbox(1).post(Message::Leave);
    assert!(is_broken(DEADLINE));
    // With a thread missing there is no stopping in good order: the program ends at once then.
    std::mem::forget(balancer);
}
