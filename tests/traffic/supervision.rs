//! Upgrades where somebody follows the process that was started: the kernel (PID 1), tini, runit, a shell.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use rustix::process::Signal;

use super::rig::{Backend, Program, connect, echo, eventually, exchange};

fn yaml(backend: &Backend) -> String {
    format!(
        "shutdown: {{ grace: 2s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    )
}

fn sessions(program: &Program) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..5).map(|_| connect(program.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    clients
}

/// Upgrades by command, without keeping the number of the process, which may be that of another namespace.
fn upgrade(program: &Program, clients: &mut [TcpStream]) -> u64 {
    let answer: serde_json::Value = serde_json::from_str(&program.say(&["upgrade", "--json"])).unwrap();
    assert_eq!(answer["sessions"].as_u64(), Some(5));
    clients.iter_mut().for_each(|client| exchange(client, b"after"));
    answer["pid"].as_u64().unwrap()
}

/// What a process runs, and of which it is a child.
fn told_of(pid: u32) -> (String, u32) {
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    (command.replace('\0', " "), parent.map_or(0, |parent| parent.trim().parse().unwrap()))
}

#[test]
fn the_process_that_was_started_stays_passes_signals_on_and_ends_as_the_last_does() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&yaml(&backend));
    let mut clients = sessions(&program);
    for _ in 0..3 {
        program.upgrade();
        clients.iter_mut().for_each(|client| exchange(client, b"after"));
        let last = program.pid();
        eventually("the first follows the last", || {
            let command = told_of(program.started()).0;
            told_of(last).1 == program.started() && command.contains(" follow ")
        });
    }
    // Two of three have ended, and nobody waits to be asked how.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.started()));
    if let Ok(children) = children {
        eventually("one child is left", || {
            let path = format!("/proc/{0}/task/{0}/children", program.started());
            fs::read_to_string(path).unwrap().split_whitespace().count() == 1
        });
        assert!(children.contains(&program.pid().to_string()), "{children}");
    }
    let reloads = || program.log().matches("reloaded: nothing changed").count();
    program.signal_started(Signal::HUP);
    eventually("it reloads", || reloads() == 1);
    program.signal_started(Signal::TERM);
    eventually("it drains", || program.log().contains("stopping: no new sessions"));
    exchange(&mut clients[0], b"to the end");
    // The second says that there is no time left.
    program.signal_started(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    assert!(program.log().contains("cutting what is left"));
}

#[test]
fn a_new_process_that_is_killed_is_told_to_whoever_started_the_first() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&yaml(&backend));
    program.upgrade();
    program.upgrade();
    program.signal(Signal::KILL);
    assert_eq!(program.wait().code(), Some(128 + 9));
}

#[test]
fn a_follower_that_is_killed_leaves_nobody_in_the_way() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&yaml(&backend));
    program.upgrade();
    eventually("it follows", || told_of(program.started()).0.contains(" follow "));
    program.signal_started(Signal::KILL);
    program.wait();
    eventually("the other stops", || !fs::exists(format!("/proc/{}", program.pid())).unwrap());
}

#[test]
fn an_upgrade_that_fails_leaves_no_child() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml(&backend));
    let refused = program.command(&["upgrade", "--binary", "/bin/false"]);
    assert!(!refused.status.success());
    let (mut mine, all) = (0, fs::read_dir("/proc").unwrap().flatten());
    for entry in all {
        let number = entry.file_name().to_string_lossy().parse::<u32>();
        mine += usize::from(number.is_ok_and(|number| told_of(number).1 == program.started()));
    }
    assert_eq!(mine, 0);
}

#[test]
#[ignore = "needs root, for a PID namespace"]
fn as_pid_1_it_stays() {
    let backend = Backend::start(echo);
    let mut program =
        Program::start_under("exec unshare --pid --fork --mount-proc --kill-child \"$@\"", &yaml(&backend));
    let mut clients = sessions(&program);
    assert_eq!(program.status()["pid"].as_u64(), Some(1));
    for _ in 0..3 {
        let pid = upgrade(&program, &mut clients);
        assert_eq!(program.status()["pid"].as_u64(), Some(pid));
    }
    exchange(&mut connect(program.address()), b"and whoever comes");
    drop(clients);
    // What the engine of a container sends to its PID 1: the child of `unshare`.
    let first = fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.started())).unwrap();
    let killed = Command::new("kill").args(["-TERM", first.trim()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(program.wait().code(), Some(0));
    assert!(program.log().contains("\"stopped\""));
}

#[test]
#[ignore = "needs root, for a PID namespace"]
fn where_it_cannot_find_its_children_it_refuses_and_says_why() {
    let backend = Backend::start(echo);
    let program = Program::start_under("exec unshare --pid --fork --kill-child \"$@\"", &yaml(&backend));
    let mut clients = sessions(&program);
    let refused = program.command(&["upgrade"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("/proc is not there, or is that of another"),
        "{said}"
    );
    clients.iter_mut().for_each(|client| exchange(client, b"still here"));
}

#[test]
#[ignore = "needs tini"]
fn under_tini_it_stays() {
    let backend = Backend::start(echo);
    let mut program = Program::start_under("exec tini -s -- \"$@\"", &yaml(&backend));
    let mut clients = sessions(&program);
    for _ in 0..3 {
        upgrade(&program, &mut clients);
    }
    drop(clients);
    program.signal_started(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    assert!(program.log().contains("\"stopped\""));
}

#[test]
#[ignore = "needs runit"]
fn under_runit_it_stays() {
    let backend = Backend::start(echo);
    // A service of one process, in the folder of its file.
    let script = "for file; do :; done; service=$(dirname \"$file\")/service; mkdir \"$service\"\n\
                  printf '#!/bin/sh\\nexec %s\\n' \"$*\" >\"$service/run\"; chmod 755 \"$service/run\"; exec runsv \"$service\"";
    let mut program = Program::start_under(script, &yaml(&backend));
    let service = program.socket().with_file_name("service");
    let sv = |order: &str| {
        let output = Command::new("sv").arg(order).arg(&service).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // As in `run: /path: (pid 12) 3s`.
    let pid = || sv("status").split_once("(pid ").map(|(_, rest)| rest.split(')').next().unwrap().to_owned());
    let mut clients = sessions(&program);
    let before = pid().unwrap();
    for _ in 0..3 {
        upgrade(&program, &mut clients);
        assert_eq!(pid().as_ref(), Some(&before), "runit sees the process that it started");
    }
    sv("hup");
    eventually("it reloads", || program.log().contains("reloaded: nothing changed"));
    // When the service fails runit starts it anew.
    let serving = program.status()["pid"].as_u64().unwrap().to_string();
    Command::new("kill").args(["-KILL", &serving]).status().unwrap();
    eventually("it is started anew", || pid().is_some_and(|now| now != before));
    eventually("it serves", || program.command(&["status"]).status.success());
    exchange(&mut connect(program.address()), b"anew");
    program.signal_started(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    assert!(program.log().contains("\"stopped\""));
}
