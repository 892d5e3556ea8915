//! Builds of different times: each goes on with what the other hands over, or is refused and told why.
//!
//! The other build is this program with the feature `manifest-next`, as `evenkeel-next` beside it: `scripts/test` makes it,
//! and runs the tests that need it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};

use evenkeel::sys::{fd_passing, memfd};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::datagrams::Answering;
use super::ports::free_port;
use super::rig::{
    Backend, DEADLINE, Outcome, Program, connect, echo, eventually, exchange, read_to_end, reset,
};

fn plain() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_evenkeel"))
}

fn next() -> PathBuf {
    let path = plain().with_file_name("evenkeel-next");
    assert!(path.is_file(), "there is no {}: scripts/test makes it", path.display());
    path
}

/// Another process writes programs: a file that this one has open for writing while another test starts a child could not be
/// run as long as that child has it, too.
fn shell(command: &str, arguments: &[&Path]) {
    let status = Command::new("sh").args(["-c", command, "sh"]).args(arguments).status().unwrap();
    assert!(status.success(), "{command}");
}

/// What is told of a listener.
fn listener(program: &Program, name: &str) -> Value {
    let status = program.status();
    let all = status["listeners"].as_array().unwrap();
    all.iter().find(|listener| listener["name"] == name).unwrap().clone()
}

fn door(program: &Program, name: &str) -> SocketAddr {
    listener(program, name)["addresses"][0].as_str().unwrap().parse().unwrap()
}

/// Begun = sum over reasons + active, for every listener.
#[track_caller]
fn adds_up(program: &Program) {
    for listener in program.status()["listeners"].as_array().unwrap() {
        let ended: u64 =
            listener["ended"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        let all = ended + listener["active"].as_u64().unwrap();
        assert_eq!(listener["begun"].as_u64(), Some(all), "{listener}");
    }
}

fn states(program: &Program) -> Vec<String> {
    let answer: Value = serde_json::from_str(&program.say(&["sessions", "--json"])).unwrap();
    let rows = answer["sessions"].as_array().unwrap();
    let mut states: Vec<_> = rows.iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect();
    states.sort();
    states
}

/// A backend that reads to the end, and says its word when it is told to.
fn late_backend() -> (Backend, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let backend = Backend::start(move |mut stream| {
        let mut asked = Vec::new();
        let _ = stream.read_to_end(&mut asked);
        let _ = released.lock().unwrap().recv_timeout(DEADLINE);
        let _ = stream.write_all(&asked);
    });
    (backend, release)
}

/// A backend with little room, which reads nothing until it is asked to.
fn narrow_backend() -> (TcpListener, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn yaml(echo: SocketAddr, late: SocketAddr, narrow: SocketAddr, games: SocketAddr) -> String {
    let check = "health: { check: off }";
    let more = ["late", "lined", "games", "spare", "slow"].map(|_| free_port());
    format!(
        "log: {{ sessions: all }}\nlisteners:\n  door: {{ bind: '127.0.0.1:PORT', backends: ['{echo}'], {check} }}\n  \
         late: {{ bind: '127.0.0.1:{}', backends: ['{late}'], {check} }}\n  \
         lined: {{ bind: '127.0.0.1:{}', pool: narrow }}\n  \
         games: {{ protocol: udp, bind: '127.0.0.1:{}', backends: ['{games}'], {check} }}\n  \
         spare: {{ bind: '127.0.0.1:{}', backends: ['{echo}'], {check} }}\n  \
         slow: {{ bind: '127.0.0.1:{}', backends: ['{narrow}'], {check} }}\n\
         pools: {{ narrow: {{ backends: [{{ address: '{echo}', max_sessions: 1 }}], queue: {{ timeout: 100s }}, {check} }} }}",
        more[0], more[1], more[2], more[3], more[4]
    )
}

#[test]
#[ignore = "needs the build with manifest-next, which scripts/test makes"]
fn everything_goes_on_between_builds_in_both_directions() {
    let (backend, games) = (Backend::start(echo), Answering::start("a"));
    let (late, release) = late_backend();
    let (slow, narrow) = narrow_backend();
    let program = Program::start(&yaml(backend.address, late.address, narrow, games.address));
    let mut clients: Vec<TcpStream> = (0..5).map(|_| connect(program.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    let mut half = connect(door(&program, "late"));
    half.write_all(b"all of it").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut first = connect(door(&program, "lined"));
    exchange(&mut first, b"first");
    let mut waiting = connect(door(&program, "lined"));
    waiting.write_all(b"later").unwrap();
    // One whose client is gone, and whose backend has not read everything: it hears of that afterwards.
    let mut gone = connect(door(&program, "slow"));
    gone.write_all(&[7; SENT_BYTES]).unwrap();
    let mut reached = slow.accept().unwrap().0;
    reached.set_read_timeout(Some(DEADLINE)).unwrap();
    eventually("all of it is on its way", || listener(&program, "slow")["to_backend"] == SENT_BYTES);
    reset(gone);
    let players: Vec<UdpSocket> = (0..4).map(|_| player(door(&program, "games"))).collect();
    players.iter().for_each(|player| ask(player, 0));
    eventually("each is where it is to be", || {
        let states = states(&program);
        let count = |wanted: &str| states.iter().filter(|state| *state == wanted).count();
        (count("open"), count("queued"), count("closing")) == (11, 1, 1)
    });
    let before = states(&program);
    let (plain, next) = (plain(), next());
    for (round, binary) in [&next, plain, &next, plain].into_iter().enumerate() {
        assert_eq!(program.upgrade_to(binary), 13, "round {round}");
        assert_eq!(states(&program), before, "round {round}");
        clients.iter_mut().for_each(|client| exchange(client, b"after"));
        exchange(&mut first, b"first again");
        players.iter().for_each(|player| ask(player, round + 1));
        // Each build has its own word for the end of this one.
        let mut spare = connect(door(&program, "spare"));
        exchange(&mut spare, b"closed soon");
        program.say(&["close", "--listener", "spare"]);
        assert_eq!(read_to_end(&mut spare).1, Outcome::Reset);
        eventually("it has ended", || listener(&program, "spare")["active"] == 0);
        adds_up(&program);
    }
    // Both words are counted here, though only one of them is known.
    let ended = &listener(&program, "spare")["ended"];
    assert_eq!((&ended["closed"], &ended["closed_next"]), (&2.into(), &2.into()), "{ended}");
    let counted = program.metric(r#"evenkeel_sessions_total{listener="spare",reason="closed_next"}"#);
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
    // What only the other build counts went through this one and on: 9 sessions each time.
    let lines = program.json_log();
    let told = lines.iter().filter(|line| line["message"] == "sessions came from processes before");
    assert_eq!(told.map(|line| line["taken_over"].as_u64().unwrap()).collect::<Vec<_>>(), [9, 18]);
    release.send(()).unwrap();
    assert_eq!(read_to_end(&mut half), (b"all of it".to_vec(), Outcome::End));
    let mut all = vec![0; SENT_BYTES];
    reached.read_exact(&mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == 7));
    assert_eq!(read_to_end(&mut reached), (Vec::new(), Outcome::Reset));
    let ended = || listener(&program, "slow")["ended"].clone();
    eventually("it has ended", || ended()["client_reset"] == 1);
    drop(first);
    let mut back = [0; 5];
    waiting.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"later");
    assert_eq!(listener(&program, "games")["begun"], 4, "no flow began anew");
}

#[test]
#[ignore = "needs the build with manifest-next, which scripts/test makes"]
fn a_program_put_in_the_place_of_another_takes_over_at_sigusr2() {
    let (backend, games) = (Backend::start(echo), Answering::start("a"));
    let (late, _release) = late_backend();
    let (_slow, narrow) = narrow_backend();
    let folder = tempfile::tempdir().unwrap();
    let installed = folder.path().join("evenkeel");
    let install = |binary: &Path| {
        // At once, as a package does.
        let new = folder.path().join("new");
        shell("cp \"$1\" \"$2\"", &[binary, &new]);
        std::fs::rename(&new, &installed).unwrap();
    };
    install(plain());
    let program = Program::start_by(&installed, &yaml(backend.address, late.address, narrow, games.address));
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    let player = player(door(&program, "games"));
    ask(&player, 0);
    let next = next();
    for (round, binary) in [&next, plain(), &next].into_iter().enumerate() {
        install(binary);
        program.signal(Signal::USR2);
        let handed_over = || {
            let lines = program.json_log();
            let all = lines.iter().filter(|line| line["message"] == "handed over to the new process");
            all.map(|line| line["pid"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        eventually("it is handed over", || handed_over().len() == round + 1);
        program.succeeded_by(u32::try_from(handed_over()[round]).unwrap());
        eventually("it answers", || program.command(&["status"]).status.success());
        exchange(&mut client, b"after");
        ask(&player, round + 1);
        adds_up(&program);
    }
}

#[test]
#[ignore = "needs the build with manifest-next, which scripts/test makes"]
fn what_only_a_later_build_knows_ends_that_session_and_no_other() {
    let (backend, games) = (Backend::start(echo), Answering::start("a"));
    let (echo, check) = (backend.address, "health: { check: off }");
    let program = Program::start(&format!(
        "log: {{ sessions: all }}\nlisteners:\n  door: {{ bind: '127.0.0.1:PORT', backends: ['{echo}'], {check} }}\n  \
         headed: {{ bind: '127.0.0.1:{}', backends: ['{echo}'], accept_proxy: [127.0.0.0/8], timeouts: {{ header: 1m }}, {check} }}\n  \
         games: {{ protocol: udp, bind: '127.0.0.1:{}', backends: ['{}'], accept_proxy: [127.0.0.0/8], {check} }}",
        free_port(),
        free_port(),
        games.address
    ));
    assert_eq!(program.upgrade_to(&next()), 0);
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    // That build has other words for a session that waits for its header, and for a flow that speaks for its proxy.
    let mut headed = connect(door(&program, "headed"));
    headed.write_all(b"PROXY TCP4 192.0.2.1 ").unwrap();
    let players: Vec<UdpSocket> = (0..2).map(|_| player(door(&program, "games"))).collect();
    let says = |player: &UdpSocket, header: &[u8], answer: &[u8]| {
        let mut said = [0; 100];
        player.send(&[header, b"?"].concat()).unwrap();
        let length = player.recv(&mut said).unwrap();
        assert_eq!(&said[..length], answer);
    };
    says(&players[0], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"a?");
    says(&players[1], b"", b"a?");
    eventually("it waits", || states(&program) == ["header", "open", "open", "open"]);
    assert_eq!(program.upgrade_to(plain()), 4);
    exchange(&mut client, b"after");
    says(&players[1], b"", b"a?");
    assert_eq!(read_to_end(&mut headed), (Vec::new(), Outcome::Reset));
    eventually("both are told", || program.session_lines().len() == 2);
    for line in program.session_lines() {
        assert_eq!(line["reason"], "handover_failed", "{line}");
    }
    for name in ["headed", "games"] {
        assert_eq!(listener(&program, name)["ended"]["handover_failed"], 1, "{name}");
    }
    let lines = program.json_log();
    let told: Vec<_> = lines.iter().filter(|line| line["sessions"] == 2 && line["level"] == "WARN").collect();
    assert!(told.len() == 1 && told[0].to_string().contains("only a later program knows"), "{told:?}");
    assert_eq!(listener(&program, "games")["begun"], 2, "the other flow did not begin anew");
    adds_up(&program);
}

/// As programs say it of which the manifest could not grow.
#[test]
fn a_program_from_before_is_refused_and_everything_goes_on() {
    let backend = Backend::start(echo);
    let program = Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    let folder = tempfile::tempdir().unwrap();
    for (says, why) in [("ready 2", "too old: it reads handovers of format 2"), ("ready 99 98", "too new")] {
        let old = folder.path().join("old");
        let script = format!("#!/bin/sh\nprintf '{says}' >&0\nread -r _\n");
        shell("printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", &[Path::new(&script), &old]);
        let refused = program.command(&["upgrade", "--binary", old.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1));
        assert!(said.contains(why) && said.contains("everything goes on as before"), "{said}");
        exchange(&mut client, b"still here");
    }
}

/// Its head as it was sent: version 2, one descriptor, a checksum.
#[test]
fn what_a_program_from_before_gives_is_refused_with_its_number() {
    let (mine, theirs) = fd_passing::pair().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evenkeel.yaml");
    std::fs::write(&file, "listeners: { door: { bind: '127.0.0.1:1', backends: ['127.0.0.1:9'] } }").unwrap();
    let child = Command::new(plain())
        .args(["run", "--config"])
        .arg(&file)
        .env("EVENKEEL_HANDOVER", "100")
        .stdin(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut buffer = [0; 64];
    let mut said = String::new();
    eventually("it is ready", || match fd_passing::receive(mine.as_fd(), &mut buffer, false) {
        Ok(Some(arrived)) => {
            said = String::from_utf8_lossy(&buffer[..arrived.length]).into_owned();
            true
        }
        _ => false,
    });
    assert!(said.starts_with("ready ") && said != "ready 2", "a program from before refuses {said:?}");
    let head = b"evenkeel\x02\0\0\0\x01\0\0\0\xd1\x9b\x60\x3c\x11\x4f\x7e\xa2";
    let sealed = memfd::sealed(b"whatever it is").unwrap();
    fd_passing::send(mine.as_fd(), head, &[sealed.as_raw_fd()]).unwrap();
    drop(mine);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("is of format 2, and this program reads 3 and later"), "{said}");
}

fn player(to: SocketAddr) -> UdpSocket {
    let player = UdpSocket::bind("127.0.0.1:0").unwrap();
    player.set_read_timeout(Some(DEADLINE)).unwrap();
    player.connect(to).unwrap();
    player
}

fn ask(player: &UdpSocket, number: usize) {
    let mut answer = [0; 100];
    player.send(format!("{number}").as_bytes()).unwrap();
    let length = player.recv(&mut answer).unwrap();
    assert_eq!(answer[..length], *format!("a{number}").as_bytes());
}

/// More than the narrow backend's kernel takes, and less than ours does for it.
const SENT_BYTES: usize = 40_000;
