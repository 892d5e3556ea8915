//! How long nobody is served at an upgrade, whatever the file holds and however the new program fails.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::rig::{Backend, Program, becomes, configure, connect, echo, eventually, exchange, reset};

/// So many pools of `source_hash`, each with four backends: a table for each is built at a start.
fn yaml_of(pools: usize, backend: SocketAddr) -> String {
    let mut yaml = format!(
        "log: {{ sessions: all }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{backend}'], health: {{ check: off }} }} }}\npools:\n"
    );
    for pool in 0..pools {
        let backends = (1..=4).map(|number| format!("'127.0.0.{number}:9'")).collect::<Vec<_>>().join(", ");
        let keys = "balance: source_hash, health: { check: off }";
        writeln!(yaml, "  p{pool}: {{ {keys}, backends: [{backends}] }}").unwrap();
    }
    yaml
}

/// The largest gap of an exchange that goes on while `act` runs, and what that gives.
fn gap_during<T>(client: &mut TcpStream, act: impl FnOnce() -> T + Send) -> (Duration, T)
where
    T: Send,
{
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            let done = act();
            over.store(true, Ordering::Release);
            done
        });
        let mut gap = Duration::ZERO;
        while !over.load(Ordering::Acquire) {
            let began = Instant::now();
            exchange(client, b"still there?");
            gap = gap.max(began.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        (gap, acting.join().unwrap())
    })
}

/// How long the old process says that nothing moved, at its last upgrade.
fn pause_ms(program: &Program) -> f64 {
    let lines = program.json_log();
    let told = lines.iter().rfind(|line| line["message"] == "handed over to the new process").unwrap();
    told["pause_ms"].as_f64().unwrap()
}

#[test]
fn three_hundred_tables_are_built_before_anybody_stands_still() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml_of(300, backend.address));
    let mut clients: Vec<TcpStream> = (0..20).map(|_| connect(program.address())).collect();
    for _ in 0..2 {
        clients.iter_mut().for_each(|client| exchange(client, b"before"));
        let (_, sessions) = gap_during(&mut clients[0], || program.upgrade());
        assert_eq!(sessions, 20);
        // A second and more where they were built meanwhile: this is no figure, but far from that.
        let pause_ms = pause_ms(&program);
        assert!(pause_ms < 200.0, "{pause_ms} ms");
        clients.iter_mut().for_each(|client| exchange(client, b"after"));
    }
}

/// What is counted and marked while the successor builds is not lost on the way.
#[test]
fn what_happens_while_the_successor_prepares_goes_along() {
    let backend = Backend::start(echo);
    let program = Program::start(&format!(
        "{}  many: {{ sticky: {{}}, health: {{ check: off }}, backends: [{{ name: a, address: '{}' }}, {{ name: b, address: '{}' }}] }}\n",
        yaml_of(100, backend.address).replace(
            "listeners: { door:",
            "listeners: { tells: { bind: '127.0.0.2:PORT', pool: many }, door:"
        ),
        backend.address,
        backend.address
    ));
    let to = SocketAddr::from(([127, 0, 0, 2], program.port));
    let begun = |program: &Program| {
        let status = program.status();
        let sum = |key: &str| {
            let all = status["listeners"].as_array().unwrap().iter().map(|one| one[key].as_u64().unwrap());
            all.sum::<u64>()
        };
        (sum("begun"), sum("to_backend"))
    };
    let over = AtomicBool::new(false);
    let (done, moved) = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let (mut done, mut moved) = (0, 0);
            while !over.load(Ordering::Acquire) {
                exchange(&mut connect(to), b"four");
                (done, moved) = (done + 1, moved + 4);
                std::thread::sleep(Duration::from_millis(2));
            }
            (done, moved)
        });
        for round in 0..4 {
            // A mark that comes at any time is there afterwards.
            let (order, whose) = (if round % 2 == 0 { "drain" } else { "ready" }, &program);
            let marking = scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                whose.command(&[order, "many/a"])
            });
            program.upgrade();
            assert!(marking.join().unwrap().status.success());
            let pools = program.status()["pools"].clone();
            let many = pools.as_array().unwrap().iter().find(|pool| pool["name"] == "many").unwrap().clone();
            let is_drained = many["backends"][0]["state"] != "up" && !many["backends"][0]["mark"].is_null()
                || many.to_string().contains("drain");
            assert_eq!(is_drained, round % 2 == 0, "{many}");
        }
        over.store(true, Ordering::Release);
        busy.join().unwrap()
    });
    eventually("all are counted", || begun(&program) == (done, moved));
    assert_eq!(u64::try_from(backend.accepted()).unwrap(), done);
}

#[test]
#[ignore = "needs root, for a network of its own, and nft"]
fn a_firewall_that_lets_no_datagram_through_on_loopback_hinders_no_upgrade() {
    const INSIDE: &str = "EVENKEEL_TEST_FIREWALL";
    if std::env::var_os(INSIDE).is_none() {
        let name = "a_firewall_that_lets_no_datagram_through_on_loopback_hinders_no_upgrade";
        super::rig::in_a_network_of_its_own(module_path!(), name, INSIDE);
        return;
    }
    configure(
        "ip link set lo up\nnft add table inet wall\n\
         nft 'add chain inet wall out { type filter hook output priority 0; }'\n\
         nft add rule inet wall out ip daddr 127.0.0.1 meta l4proto udp drop",
    );
    let backend = Backend::start(echo);
    let program = Program::start(&yaml_of(10, backend.address));
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _ = silent.send_to(b"?", silent.local_addr().unwrap());
    silent.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(silent.recv(&mut [0; 8]).is_err(), "the rule holds");
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    let (gap, sessions) = gap_during(&mut client, || program.upgrade());
    assert_eq!(sessions, 1);
    // It tries offloads for two seconds, and nobody waits for that.
    assert!(gap < Duration::from_millis(500), "{gap:?}");
}

/// A program in the place of evenkeel's that says this and then nothing.
fn saying(folder: &Path, words: &str) -> PathBuf {
    let path = folder.join("other");
    let script = format!("#!/bin/sh\nprintf '{words}' >&0\nexec sleep 60\n");
    // Written by another process: see `builds`.
    let write = "printf %s \"$1\" >\"$2.new\" && chmod 755 \"$2.new\" && mv \"$2.new\" \"$2\"";
    let done = std::process::Command::new("sh").args(["-c", write, "sh", &script]).arg(&path).status();
    assert!(done.unwrap().success());
    path
}

#[test]
#[ignore = "waits for half a minute"]
fn a_successor_that_is_silent_after_ready_holds_nobody_up() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml_of(1, backend.address));
    let folder = tempfile::tempdir().unwrap();
    let silent = saying(folder.path(), "ready 99 3 prepare");
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    let upgrade = || program.command(&["upgrade", "--binary", silent.to_str().unwrap()]);
    let (gap, output) = gap_during(&mut client, upgrade);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("did not build its pools"), "{said}");
    assert!(gap < Duration::from_millis(500), "{gap:?}");
    exchange(&mut client, b"still here");
    assert_eq!(program.upgrade(), 1);
}

/// One that knows nothing of preparing stands everybody still, but for no longer than the limit.
#[test]
fn a_successor_of_the_release_before_that_is_silent_is_given_up_within_the_limit() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml_of(1, backend.address));
    let folder = tempfile::tempdir().unwrap();
    let silent = saying(folder.path(), "ready 99 3");
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    let upgrade = || program.command(&["upgrade", "--binary", silent.to_str().unwrap()]);
    let (gap, output) = gap_during(&mut client, upgrade);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("did not take over within 1.00001s"), "{said}");
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&gap), "{gap:?}");
    exchange(&mut client, b"still here");
}

/// A program as it might be built later, which fails in this way when it has everything.
fn failing(folder: &Path, how: &str) -> PathBuf {
    let next = Path::new(env!("CARGO_BIN_EXE_evenkeel")).with_file_name("evenkeel-next");
    assert!(next.is_file(), "there is no {}: scripts/test makes it", next.display());
    let path = folder.join("failing");
    let script = format!("#!/bin/sh\nEVENKEEL_NEXT_FAILS={how} exec {} \"$@\"\n", next.display());
    let write = "printf %s \"$1\" >\"$2.new\" && chmod 755 \"$2.new\" && mv \"$2.new\" \"$2\"";
    let done = std::process::Command::new("sh").args(["-c", write, "sh", &script]).arg(&path).status();
    assert!(done.unwrap().success());
    path
}

#[test]
#[ignore = "needs the build with manifest-next, which scripts/test makes"]
fn a_program_that_fails_when_it_has_everything_gives_everything_back() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml_of(3, backend.address));
    let folder = tempfile::tempdir().unwrap();
    let mut clients: Vec<TcpStream> = (0..50).map(|_| connect(program.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    for (how, why) in [
        ("panic", "it ended before it had taken over"),
        ("thread", "it ended before it had taken over"),
        ("silence", "did not take over within 1.0005s"),
    ] {
        let binary = failing(folder.path(), how);
        let output = program.command(&["upgrade", "--binary", binary.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{how}: {said}");
        clients.iter_mut().for_each(|client| exchange(client, how.as_bytes()));
        exchange(&mut connect(program.address()), b"and whoever comes now");
        // The socket of the commands is there, and its file.
        assert_eq!(program.status()["pid"].as_u64(), Some(program.pid().into()));
    }
    assert_eq!(program.upgrade(), 50);
    clients.iter_mut().for_each(|client| exchange(client, b"after"));
}

/// Descriptors that the program has open.
fn open_files(program: &Program) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap().count()
}

/// The sockets of sessions go to the successor while sessions go on here: whoever ends in between ends for both peers, and
/// leaves nothing behind in the new process.
#[test]
fn sessions_that_end_while_their_sockets_are_copied_end_for_both_peers() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml_of(3, backend.address));
    let mut clients: Vec<TcpStream> = (0..200).map(|_| connect(program.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    let files = open_files(&program);
    let over = AtomicBool::new(false);
    let to = program.address();
    let churn = |number: u64| -> u64 {
        let mut done = 0;
        let mut last = connect(to);
        while !over.load(Ordering::Acquire) {
            // Two at a time, so that one of them is of the age to go ahead.
            let mut next = connect(to);
            exchange(&mut next, b"hello");
            exchange(&mut last, b"still here");
            let ended = std::mem::replace(&mut last, next);
            if (done + number).is_multiple_of(2) {
                reset(ended);
            } else {
                drop(ended);
            }
            done += 1;
        }
        done
    };
    let done: u64 = std::thread::scope(|scope| {
        let busy: Vec<_> = (0..4).map(|number| scope.spawn(move || churn(number))).collect();
        for _ in 0..6 {
            assert!(program.upgrade() >= 200);
        }
        over.store(true, Ordering::Release);
        busy.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert!(done > 20, "{done} sessions came and went");
    becomes("only those that stay are there", 200, || backend.living());
    clients.iter_mut().for_each(|client| exchange(client, b"after"));
    // What is watched, and what is not named, differs by a few.
    eventually("no descriptor is left behind", || open_files(&program) <= files + 20);
    drop(clients);
    becomes("nobody is there", 0, || backend.living());
}
