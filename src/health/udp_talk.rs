//! UDP send/expect health check, `check: { udp: { send, expect } }`: one datagram, and a datagram that answers it.

use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::outcome::{Cause, Excerpt, Outcome};
use crate::sys::probe::{self, Fault, Route};

/// Sends `send` to the peer and is content with an answer that has `expect` in it; with an empty `expect`, with any. An ICMP
/// refusal is a bad answer at once. Takes `limit` at most, unless this thread is kept from running. Cancel safe.
pub(super) async fn ask(route: &Route, send: &[u8], expect: &[u8], limit: Duration) -> Outcome {
    let holds =
        |answer: &[u8]| expect.is_empty() || answer.windows(expect.len()).any(|window| window == expect);
    exchange(
        route,
        |_| send.to_vec(),
        |answer, _| if holds(answer) { Some(Outcome::Good) } else { None },
        limit,
    )
    .await
}

/// Sends what `question` makes of our port, and waits for an answer that `judge` decides on. Answers it leaves
/// undecided are passed over; when none is decided in time, the last of them is the wrong answer.
pub(super) async fn exchange(
    route: &Route,
    question: impl Fn(u16) -> Vec<u8>,
    judge: impl Fn(&[u8], u16) -> Option<Outcome>,
    limit: Duration,
) -> Outcome {
    let began = Instant::now();
    let opened = || {
        let socket = UdpSocket::from_std(probe::datagrams(route)?).map_err(|error| Fault::of(&error))?;
        let port = socket.local_addr().map_err(|error| Fault::of(&error))?.port();
        Ok((socket, port))
    };
    let (socket, port) = match opened() {
        Ok(opened) => opened,
        Err(fault) => return Outcome::before_asking(fault),
    };
    if let Err(error) = socket.send(&question(port)).await {
        return Outcome::under_way(Fault::of(&error));
    }
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut wrong = None;
    let listening = async {
        loop {
            match socket.recv(&mut answer).await {
                Ok(length) => match judge(&answer[..length], port) {
                    Some(outcome) => return outcome,
                    None => wrong = Some(Excerpt::of(&answer[..length])),
                },
                Err(error) => return Outcome::under_way(Fault::of(&error)),
            }
        }
    };
    match timeout(limit, listening).await {
        Ok(outcome) => outcome,
        Err(_) => match (wrong, Outcome::silent(began.elapsed(), limit)) {
            (Some(excerpt), Outcome::Bad(_)) => Outcome::Bad(Cause::WrongAnswer { excerpt }),
            (_, silent) => silent,
        },
    }
}

/// The largest datagram.
const ANSWER_BYTES_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// A backend that answers each datagram with what `answer` makes of it.
    async fn backend(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut datagram = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
                let _ = socket.send_to(&answer(&datagram[..length]), from).await;
            }
        });
        address
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn an_answer_is_good_when_it_holds_what_is_expected() {
        let peer = backend(|question| [b"re: ", question].concat()).await;
        assert_eq!(ask(&Route::to(peer), b"status", b"", LONG).await, Outcome::Good);
        assert_eq!(ask(&Route::to(peer), b"\xff\xffstatus", b"re: \xff\xff", LONG).await, Outcome::Good);
        match ask(&Route::to(peer), b"status", b"other", SHORT).await {
            Outcome::Bad(Cause::WrongAnswer { excerpt }) => assert_eq!(excerpt.to_string(), "re: status"),
            // On a machine that stalls.
            Outcome::Local(_) => {}
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_refusal_is_bad_at_once_and_silence_after_the_timeout() {
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(ask(&Route::to(closed), b"x", b"", LONG).await, Outcome::Bad(Cause::Refused));
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let outcome = ask(&Route::to(silent.local_addr().unwrap()), b"x", b"", SHORT).await;
        assert!(matches!(outcome, Outcome::Bad(Cause::Timeout) | Outcome::Local(_)), "{outcome:?}");
    }
}
