//! A machine that nobody is to be sent to: what those who send clients hear, and that nothing else changes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::datagrams::Answering;
use crate::ports::free_port;
use crate::rig::*;

/// The code and the text of an answer.
fn asked(door: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(door).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // By a name that nobody told it of.
    write!(stream, "GET {path} HTTP/1.1\r\nHost: lb.example.org\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let code = page.split(' ').nth(1)?.parse().ok()?;
    Some((code, page.split("\r\n\r\n").nth(1)?.trim_end().to_owned()))
}

fn file(backend: &Backend, more: &str) -> String {
    format!(
        "{more}listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    )
}

/// With a door for readiness alone, brought by a reload.
fn add_readiness(program: &Program) -> SocketAddr {
    let door = SocketAddr::from(([127, 0, 0, 1], free_port()));
    program.write_file(&program.file().replace("admin: {", &format!("admin: {{ ready: '{door}',")));
    program.say(&["reload"]);
    door
}

#[test]
fn readiness_has_a_door_of_its_own_that_says_nothing_else() {
    let backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let door = add_readiness(&program);
    assert_eq!(asked(door, "/readyz"), Some((200, "accepting".into())));
    assert_eq!(asked(door, "/healthz"), Some((200, "alive".into())));
    assert_eq!(asked(door, "/readyz?listener=door").map(|(code, _)| code), Some(200));
    for path in ["/", "/status", "/metrics", "/events"] {
        assert_eq!(asked(door, path), Some((404, "there are /readyz and /healthz".into())), "{path}");
    }
    // It goes along to the next process, and leaves with the file.
    program.upgrade();
    assert_eq!(asked(door, "/readyz"), Some((200, "accepting".into())));
    program.write_file(&program.file().replace(&format!("ready: '{door}',"), ""));
    program.say(&["reload"]);
    eventually("it is closed", || TcpStream::connect(door).is_err());
}

#[test]
fn a_withdrawn_machine_serves_on_and_says_so_until_it_is_announced_also_after_a_stop() {
    let backend = Backend::start(echo);
    let folder = tempfile::tempdir().unwrap();
    let script = format!("STATE_DIRECTORY='{}' exec \"$@\"", folder.path().display());
    let mut program = Program::start_under(&script, &file(&backend, "shutdown: { grace: 1s }\n"));
    let door = add_readiness(&program);
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    let text = program.say(&["withdraw"]);
    assert!(text.contains("evenkeel announce"), "{text}");
    let (code, who) = asked(door, "/readyz").unwrap();
    assert_eq!((code, who.starts_with("withdrawn by ")), (503, true), "{who}");
    assert_eq!(asked(door, "/healthz").map(|(code, _)| code), Some(200));
    assert_eq!(program.metric("evenkeel_withdrawn"), 1.0);
    assert!(program.say(&["status"]).contains("Withdrawn by "));
    exchange(&mut client, b"after");
    exchange(&mut connect(program.address()), b"another");
    program.upgrade();
    assert_eq!(asked(door, "/readyz"), Some((503, who.clone())), "the next process knows");
    program.signal(Signal::TERM);
    let _ = program.wait();
    let again = Program::start_under(&script, &file(&backend, ""));
    let door = add_readiness(&again);
    assert_eq!(asked(door, "/readyz"), Some((503, who)), "and the one after a stop");
    again.say(&["announce"]);
    assert_eq!(asked(door, "/readyz"), Some((200, "accepting".into())));
    assert_eq!(again.metric("evenkeel_withdrawn"), 0.0);
    assert!(!folder.path().join("withdrawn").exists());
}

#[test]
fn whoever_waits_for_the_withdrawal_hears_when_nobody_comes_any_more() {
    let backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let output = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| program.command(&["withdraw", "--wait"]));
        let began = Instant::now();
        // Whoever does not look at readiness goes on for a while.
        while began.elapsed() < Duration::from_secs(2) {
            exchange(&mut connect(program.address()), b"?");
            assert!(!waiting.is_finished(), "somebody still comes");
            std::thread::sleep(Duration::from_millis(100));
        }
        let last = Instant::now();
        let output = waiting.join().unwrap();
        assert!(last.elapsed() > Duration::from_millis(4_500), "{:?}", last.elapsed());
        output
    });
    assert!(output.status.success());
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no session has begun for 5 s") && text.contains("StateDirectory"), "{text}");
    // It gives up when it is told to.
    let came = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| program.command(&["withdraw", "--wait", "--timeout", "1s"]));
        while !waiting.is_finished() {
            exchange(&mut connect(program.address()), b"?");
        }
        waiting.join().unwrap()
    });
    assert_eq!(came.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&came.stderr).contains("sessions still begin here"));
}

#[test]
fn after_sigterm_everything_is_served_for_the_delay_and_readiness_says_that_it_will_not() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&file(&backend, "shutdown: { delay: 3s, grace: 1s }\n"));
    let door = add_readiness(&program);
    let began = Instant::now();
    program.signal(Signal::TERM);
    eventually("readiness says it", || asked(door, "/readyz") == Some((503, "leaving".into())));
    let mut served = 0;
    while began.elapsed() < Duration::from_millis(2_500) {
        exchange(&mut connect(program.address()), b"?");
        served += 1;
    }
    assert!(served > 10, "{served}");
    let reload = program.command(&["reload"]);
    assert!(String::from_utf8_lossy(&reload.stderr).contains("leaving"), "{reload:?}");
    assert_eq!(program.wait().code(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[test]
fn a_second_signal_ends_the_delay() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&file(&backend, "shutdown: { delay: 1h }\n"));
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    program.signal(Signal::TERM);
    eventually("it leaves", || program.status()["phase"] == "leaving");
    exchange(&mut client, b"still");
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset));
}

#[test]
fn sessions_of_an_address_that_moved_to_another_machine_can_be_closed() {
    let (backend, answering, port) = (Backend::start(echo), Answering::start("a"), free_port());
    let program = Program::start(&format!(
        "listeners: {{ door: {{ bind: 'PORT', backends: ['{}'], health: {{ check: off }} }}, games: {{ protocol: udp, bind: {port}, backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address, answering.address
    ));
    let at = |ip: &str, port: u16| SocketAddr::new(ip.parse().unwrap(), port);
    let tcp = program.address().port();
    let [mut moved, mut stays] = ["127.0.0.2", "127.0.0.1"].map(|ip| connect(at(ip, tcp)));
    let players = ["127.0.0.2", "127.0.0.1"].map(|ip| {
        let player = UdpSocket::bind("127.0.0.1:0").unwrap();
        player.connect(at(ip, port)).unwrap();
        player.set_read_timeout(Some(DEADLINE)).unwrap();
        player.send(b"?").unwrap();
        player.recv(&mut [0; 64]).unwrap();
        player
    });
    exchange(&mut moved, b"before");
    exchange(&mut stays, b"before");
    let rows = |args: &[&str]| {
        let text = program.say(&[&["sessions", "--json"], args].concat());
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        let local = |row: &serde_json::Value| row["local"].as_str().unwrap().to_owned();
        told["sessions"].as_array().unwrap().iter().map(local).collect::<Vec<_>>()
    };
    assert_eq!(rows(&[]).len(), 4);
    let mut of_moved = rows(&["--local", "127.0.0.2"]);
    of_moved.sort();
    let mut expected = [tcp, port].map(|port| format!("127.0.0.2:{port}"));
    expected.sort();
    assert_eq!(of_moved, expected);
    assert!(program.say(&["close", "--local", "127.0.0.2"]).contains("2 sessions closed"));
    assert_eq!(read_to_end(&mut moved), (Vec::new(), Outcome::Reset));
    exchange(&mut stays, b"after");
    players[1].send(b"?").unwrap();
    players[1].recv(&mut [0; 64]).unwrap();
    assert_eq!(rows(&[]).len(), 2);
    let wrong = program.command(&["close", "--local", "eth0"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("`eth0` is no IP address"), "{wrong:?}");
}
