//! How the end of one side becomes the end of the other.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use evenkeel::metrics::Direction;
use evenkeel::reason::Reason;
use socket2::SockRef;

use crate::rig::*;

fn one(backend: &Backend) -> String {
    one_at(&backend.address.to_string())
}

fn one_at(address: &str) -> String {
    format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:1', backends: ['{address}'], health: {{ check: off }} }} }}"
    )
}

/// A backend that hands its connections to the test.
fn handing() -> (Backend, mpsc::Receiver<TcpStream>) {
    let (sender, receiver) = mpsc::channel();
    (Backend::start(move |stream| sender.send(stream).unwrap()), receiver)
}

#[test]
fn a_client_that_finishes_first_still_gets_the_answer() {
    let backend = Backend::start(|mut stream| {
        let (request, outcome) = read_to_end(&mut stream);
        assert_eq!(outcome, Outcome::End);
        stream.write_all(&request).unwrap();
        stream.write_all(b"and more").unwrap();
    });
    let balancer = Balancer::start(&one(&backend));
    let mut client = connect(balancer.address());
    let request = pattern(300_000);
    client.write_all(&request).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (answer, outcome) = read_to_end(&mut client);
    assert_eq!(outcome, Outcome::End);
    assert!(answer == [request.as_slice(), b"and more"].concat());
    balancer.ends(Reason::ClientClosed, 1);
    assert_eq!(balancer.bytes(Direction::ToBackend), 300_000);
    assert_eq!(balancer.bytes(Direction::ToClient), 300_008);
    let of_backend =
        |direction| balancer.backend(0, |b| b.shards.sum(|shard| shard.bytes(direction).value()));
    assert_eq!(of_backend(Direction::ToBackend), 300_000);
    assert_eq!(of_backend(Direction::ToClient), 300_008);
}

#[test]
fn a_backend_that_finishes_first_still_gets_the_rest_of_the_request() {
    let (sender, received) = mpsc::channel();
    let backend = Backend::start(move |mut stream| {
        stream.write_all(b"no questions").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        sender.send(read_to_end(&mut stream)).unwrap();
    });
    let balancer = Balancer::start(&one(&backend));
    let mut client = connect(balancer.address());
    assert_eq!(read_to_end(&mut client), (b"no questions".to_vec(), Outcome::End));
    let rest = pattern(200_000);
    client.write_all(&rest).unwrap();
    drop(client);
    let (got, outcome) = received.recv_timeout(DEADLINE).unwrap();
    assert!(got == rest && outcome == Outcome::End);
    balancer.ends(Reason::BackendClosed, 1);
    assert_eq!(balancer.bytes(Direction::ToBackend), 200_000);
    assert_eq!(balancer.bytes(Direction::ToClient), 12);
}

#[test]
fn a_backends_reset_comes_after_everything_the_balancer_had_received() {
    let (backend, streams) = handing();
    let balancer = Balancer::start(&one(&backend));
    let mut client = connect(balancer.address());
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    let sent = pattern(192 * 1024);
    stream.write_all(&sent).unwrap();
    // What the balancer's kernel has acknowledged, it has received.
    eventually("all is received", || unsent(&stream) == 0);
    reset(stream);
    // The client has read nothing so far.
    eventually("the reset has come through", || balancer.bytes(Direction::ToClient) == sent.len() as u64);
    assert!(read_to_end(&mut client) == (sent, Outcome::Reset));
    balancer.ends(Reason::BackendReset, 1);
}

#[test]
fn a_clients_reset_comes_after_everything_the_balancer_had_received() {
    let (backend, streams) = handing();
    let balancer = Balancer::start(&one(&backend));
    let mut client = connect(balancer.address());
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    let sent = pattern(192 * 1024);
    client.write_all(&sent).unwrap();
    eventually("all is received", || unsent(&client) == 0);
    reset(client);
    eventually("all is passed on", || balancer.bytes(Direction::ToBackend) == sent.len() as u64);
    assert!(read_to_end(&mut stream) == (sent, Outcome::Reset));
    balancer.ends(Reason::ClientReset, 1);
}

/// More than all buffers on the way hold, so the reset comes while bytes are held for a reader that does not read.
#[test]
fn a_reset_behind_a_stalled_client_waits_until_it_has_read_everything() {
    let (backend, streams) = handing();
    let balancer = Balancer::start(&one(&backend));
    let mut client = connect(balancer.address());
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    let sent = pattern(64 << 20);
    stream.set_nonblocking(true).unwrap();
    let mut accepted = 0;
    let mut quiet = 0;
    // Full is what stays full: the buffers on the way grow while they fill.
    while quiet < 40 {
        match stream.write(&sent[accepted..]) {
            Ok(written) => (accepted, quiet) = (accepted + written, 0),
            Err(_) => quiet += 1,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(accepted < sent.len(), "nothing on the way may hold {} bytes", sent.len());
    let unsent = unsent(&stream) as usize;
    reset(stream);
    let (got, outcome) = read_to_end(&mut client);
    assert_eq!(outcome, Outcome::Reset);
    assert!(got.len() >= accepted - unsent, "{} of {accepted}, {unsent} unsent", got.len());
    assert!(got == sent[..got.len()]);
    balancer.ends(Reason::BackendReset, 1);
}

#[test]
fn a_reset_whose_first_sign_is_a_failed_write_is_passed_on_too() {
    for _ in 0..20 {
        let (backend, streams) = handing();
        let balancer = Balancer::start(&one(&backend));
        let mut client = connect(balancer.address());
        let mut stream = streams.recv_timeout(DEADLINE).unwrap();
        stream.write_all(b"last words").unwrap();
        eventually("all is received", || unsent(&stream) == 0);
        // Unread bytes make the close a reset; the client's next bytes meet it at once.
        client.write_all(b"unread").unwrap();
        eventually("the request is there", || balancer.bytes(Direction::ToBackend) == 6);
        drop(stream);
        // A write that already meets the reset takes the error with it: the read after it sees an end.
        let met = client.write_all(b"more").is_err();
        let (got, outcome) = read_to_end(&mut client);
        assert_eq!(got, b"last words");
        assert!(met || outcome == Outcome::Reset);
        balancer.ends(Reason::BackendReset, 1);
    }
}

/// The client sends, finishes and resets while the balancer does not read from it, because the backend stalls: the
/// kernel then reports the end of the stream and not the reset.
#[test]
fn a_reset_behind_an_unread_end_is_not_taken_for_an_end() {
    let (backend, streams) = handing();
    let balancer = Balancer::start(&one(&backend));
    let mut client = connect(balancer.address());
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    let (chunk, mut sent) = (pattern(64 * 1024), 0);
    // Until the balancer holds bytes that the backend does not take.
    let mut held_for = 0;
    while held_for < 40 {
        if held_for == 0 {
            client.write_all(&chunk).unwrap();
            sent += chunk.len();
            eventually("the chunk is received", || unsent(&client) == 0);
        }
        std::thread::sleep(Duration::from_millis(5));
        let all_passed_on = balancer.bytes(Direction::ToBackend) == sent as u64;
        held_for = if all_passed_on { 0 } else { held_for + 1 };
    }
    // These stay in the balancer's kernel, with the end behind them and the reset behind that.
    client.write_all(&chunk).unwrap();
    sent += chunk.len();
    client.shutdown(Shutdown::Write).unwrap();
    eventually("the end is received", || unsent(&client) == 0);
    reset(client);
    let mut got = vec![0; sent];
    stream.read_exact(&mut got).unwrap();
    // The end may be passed on, as it was sent; the reset must follow it without a word from the backend.
    let met = stream.read(&mut [0]).is_err();
    eventually("the reset follows", || met || SockRef::from(&stream).take_error().unwrap().is_some());
    balancer.ends(Reason::ClientReset, 1);
}

/// A backend that answers and resets before the balancer has even noticed that it is connected.
#[test]
fn an_answer_with_an_instant_reset_is_delivered() {
    let backend = Backend::start(|mut stream| {
        stream.write_all(b"too many connections").unwrap();
        reset(stream);
    });
    let balancer = Balancer::start(&one(&backend));
    for _ in 0..300 {
        // The connect itself may already tell of the reset, which then hides the answer.
        let Ok(mut client) = TcpStream::connect(balancer.address()) else { continue };
        assert_eq!(read_to_end(&mut client), (b"too many connections".to_vec(), Outcome::Reset));
    }
    balancer.ends(Reason::BackendReset, 300);
}

#[test]
fn a_stream_that_is_cut_by_a_timeout_with_bytes_undelivered_ends_with_a_reset() {
    let (backend, streams) = handing();
    let yaml = one(&backend).replace("health:", "timeouts: { half_closed: 1s }, health:");
    let balancer = Balancer::start(&yaml);
    let mut client = connect(balancer.address());
    let stream = streams.recv_timeout(DEADLINE).unwrap();
    let writer = std::thread::spawn(move || {
        let mut stream = stream;
        // Ends with an error when the balancer resets.
        let _ = stream.write_all(&pattern(64 << 20));
        stream
    });
    client.shutdown(Shutdown::Write).unwrap();
    balancer.ends(Reason::HalfClosed, 1);
    let (_, outcome) = read_to_end(&mut client);
    assert_eq!(outcome, Outcome::Reset, "a truncated stream must not look complete");
    writer.join().unwrap();
}

/// An urgent byte in the middle makes reads stop short although more is there.
#[test]
fn urgent_bytes_do_not_hang_the_stream() {
    let (backend, streams) = handing();
    let silent = Silent::start();
    let yaml = format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:1', balance: first, connect: {{ timeout: 500ms }}, \
         backends: ['{}', '{}'], health: {{ check: off }} }} }}",
        silent.address, backend.address
    );
    for tail in [100, 500_000] {
        let balancer = Balancer::start(&yaml);
        let mut client = connect(balancer.address());
        // All of it is there before the balancer reads: the first backend does not answer the connect.
        client.write_all(&pattern(tail)).unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        client.write_all(b"after").unwrap();
        let mut stream = streams.recv_timeout(DEADLINE).unwrap();
        let mut got = vec![0; tail + 5];
        stream.read_exact(&mut got).unwrap();
        assert!(got.ends_with(b"after"), "{:?}", &got[tail..]);
    }
}

/// Bytes the peer's kernel has not acknowledged.
fn unsent(stream: &TcpStream) -> u32 {
    use std::os::fd::AsFd;
    evenkeel::sys::tcp::unacknowledged(stream.as_fd())
}
