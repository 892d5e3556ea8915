//! Cuts: a session that is ended by us with bytes in hand is reset on both sides and says what was lost, and one whose
//! sides still send is not idle.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::rig::*;

/// A backend that reads a first byte, and the rest only when it is told to. It tells what it saw.
fn pausing() -> (Backend, mpsc::Sender<()>, mpsc::Receiver<(usize, Outcome)>) {
    let (go_on, told) = mpsc::channel();
    let (tell, seen) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let backend = Backend::start(move |mut stream| {
        let _ = socket2::SockRef::from(&stream).set_recv_buffer_size(200_000);
        let mut first = [0];
        if stream.read_exact(&mut first).is_err() {
            return;
        }
        let _ = told.lock().unwrap().recv_timeout(DEADLINE);
        let _ = stream.set_read_timeout(Some(DEADLINE));
        let (bytes, outcome) = read_to_end(&mut stream);
        let _ = tell.send((bytes.len() + 1, outcome));
    });
    (backend, go_on, seen)
}

fn file(backend: &Backend, keys: &str) -> String {
    format!(
        "workers: 1\nlog: {{ format: json, sessions: failed }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', {keys} backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    )
}

/// What the backend saw of a stream that was cut while it paused, with the only line of the log.
fn cut_by(keys: &str, command: &[&str]) -> (usize, Outcome, serde_json::Value) {
    let (backend, go_on, seen) = pausing();
    let mut program = Program::start(&file(&backend, keys));
    let mut client = connect(program.address());
    // More than all buffers on the way hold: some of it is neither with the backend nor with the client when it ends.
    let sent = std::thread::spawn(move || {
        let sent = client.write_all(&pattern(64 << 20));
        (sent.is_ok(), client)
    });
    if !command.is_empty() {
        eventually("bytes are under way", || {
            program.metric(r#"evenkeel_bytes_total{listener="door",direction="to_backend"}"#) > 0.0
        });
        program.say(command);
    }
    let (whole, client) = sent.join().unwrap();
    assert!(!whole, "all was taken");
    drop(client);
    eventually("the session has ended", || {
        program.metric(r#"evenkeel_sessions_active{listener="door"}"#) == 0.0
    });
    go_on.send(()).unwrap();
    let (bytes, outcome) = seen.recv_timeout(DEADLINE).unwrap();
    let cut = program.metrics().get(r#"evenkeel_cut_bytes_total{listener="door"}"#).copied();
    program.signal(Signal::TERM);
    program.wait();
    let mut lines = program.session_lines();
    assert_eq!(lines.len(), 1, "a cut with bytes in hand is not ordinary: {lines:?}");
    assert_eq!(lines[0]["cut_bytes"].as_f64(), cut);
    (bytes, outcome, lines.remove(0))
}

#[test]
fn a_lifetime_that_cuts_a_stream_does_not_look_like_its_end() {
    let (_, outcome, line) = cut_by("timeouts: { lifetime: 1s },", &[]);
    assert_eq!((outcome, line["reason"].as_str()), (Outcome::Reset, Some("lifetime")), "{line}");
    assert!(line["cut_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{line}");
}

#[test]
fn idle_that_cuts_a_stream_does_not_look_like_its_end() {
    let (_, outcome, line) = cut_by("timeouts: { idle: 1s },", &[]);
    assert_eq!((outcome, line["reason"].as_str()), (Outcome::Reset, Some("idle")), "{line}");
    assert!(line["cut_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{line}");
}

#[test]
fn an_operator_who_cuts_a_stream_is_told_what_was_lost() {
    let (_, outcome, line) = cut_by("", &["close", "--listener", "door"]);
    assert_eq!((outcome, line["reason"].as_str()), (Outcome::Reset, Some("closed")), "{line}");
    assert!(line["cut_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{line}");
}

/// Fills what lies between it and a backend that pauses, and goes on to send a little every tenth of a second, for three
/// times `idle`.
#[test]
fn a_side_that_sends_is_not_idle_however_long_the_other_pauses() {
    let (backend, go_on, seen) = pausing();
    let program = Program::start(&file(&backend, "timeouts: { idle: 1s },"));
    let mut client = connect(program.address());
    let (mut sent, longest) = send_slowly(&mut client, FILLS_QUEUES);
    go_on.send(()).unwrap();
    sent += client.write(b"the end").unwrap_or(0);
    let _ = client.shutdown(Shutdown::Write);
    let (bytes, outcome) = seen.recv_timeout(DEADLINE).unwrap();
    // On a machine that stood still for a second it may have been idle after all.
    let as_it_should = (bytes, outcome) == (sent, Outcome::End);
    assert!(longest > Duration::from_secs(1) || as_it_should, "{bytes} of {sent}: {outcome:?}");
}

/// The same for `half_closed`: the client is done and pauses, and the backend sends on.
#[test]
fn a_half_closed_session_lives_while_the_other_side_sends() {
    let (tell, told) = mpsc::channel();
    let backend = Backend::start(move |mut stream| {
        let _ = read_to_end(&mut stream);
        let _ = tell.send(send_slowly(&mut stream, FILLS_QUEUES));
    });
    let balancer = Balancer::start(&file(&backend, "timeouts: { half_closed: 1s },").replace("PORT", "1"));
    let mut client = connect(balancer.address());
    socket2::SockRef::from(&client).set_recv_buffer_size(200_000).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (sent, longest) = told.recv_timeout(DEADLINE).unwrap();
    let (bytes, outcome) = read_to_end(&mut client);
    let as_it_should = (bytes.len(), outcome) == (sent, Outcome::End);
    assert!(longest > Duration::from_secs(1) || as_it_should, "{} of {sent}: {outcome:?}", bytes.len());
}

/// Sends so much at once, then little by little for three seconds. How much went out, and the longest pause between two
/// writes.
fn send_slowly(stream: &mut std::net::TcpStream, at_once: usize) -> (usize, Duration) {
    let (mut sent, mut longest) = (0, Duration::ZERO);
    let bytes = pattern(at_once);
    if stream.write_all(&bytes).is_ok() {
        sent += bytes.len();
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let last = Instant::now();
        sent += stream.write(&bytes[..4_000]).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(100));
        longest = longest.max(last.elapsed());
    }
    (sent, longest)
}

/// More than the queues between evenkeel and a side that reads nothing take, and less than fits with what it holds itself.
const FILLS_QUEUES: usize = 4_500_000;
