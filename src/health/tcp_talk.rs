//! TCP send/expect health check, `check: { tcp: { send, expect } }`: say something to the backend's program, and listen
//! for the right answer.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::outcome::{Cause, Excerpt, Outcome};
use crate::sys::probe::{self, Fault, Route};

/// Connects to the peer, sends `send`, and is content when `expect` shows up in the first 64 KiB of the answer; with an
/// empty `expect`, when all is sent. Takes `limit` at most for the whole talk, unless this thread is kept from running;
/// then an answer that has come meanwhile still counts. Cancel safe.
pub(super) async fn ask(route: &Route, send: &[u8], expect: &[u8], limit: Duration) -> Outcome {
    let began = Instant::now();
    let socket = match probe::dial(route) {
        Ok(socket) => socket,
        Err(fault) => return Outcome::before_asking(fault),
    };
    let socket = match TcpStream::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return lost(&error),
    };
    let mut talk = Talk { socket, expect, heard: Vec::new(), is_listening: false };
    match timeout(limit, talk.hold(send)).await {
        Ok(Ok(outcome) | Err(outcome)) => outcome,
        Err(_) => talk.last_look(began.elapsed(), limit),
    }
}

struct Talk<'a> {
    socket: TcpStream,
    expect: &'a [u8],
    heard: Vec<u8>,
    /// Connected, and all is sent.
    is_listening: bool,
}

impl Talk<'_> {
    /// The whole talk. `Err` is only the short way out for what failed.
    async fn hold(&mut self, send: &[u8]) -> Result<Outcome, Outcome> {
        self.socket.writable().await.map_err(|error| lost(&error))?;
        probe::connected(&self.socket).map_err(Outcome::under_way)?;
        let mut sent = 0;
        while sent < send.len() {
            match self.socket.try_write(&send[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.socket.writable().await.map_err(|error| lost(&error))?;
                }
                Err(error) => return Err(Outcome::under_way(Fault::of(&error))),
            }
        }
        if self.expect.is_empty() {
            return Ok(Outcome::Good);
        }
        self.is_listening = true;
        loop {
            self.socket.readable().await.map_err(|error| lost(&error))?;
            if let Some(outcome) = self.hear() {
                return Ok(outcome);
            }
        }
    }

    /// After the time is over: the answer may be there, with this thread too late to see it.
    fn last_look(&mut self, took: Duration, limit: Duration) -> Outcome {
        if self.is_listening
            && let Some(outcome) = self.hear()
        {
            return outcome;
        }
        match Outcome::silent(took, limit) {
            Outcome::Bad(_) if !self.heard.is_empty() => wrong(&self.heard),
            silent => silent,
        }
    }

    /// Takes in what is there. `None`: undecided so far, and nothing more is there. Only with something to expect.
    fn hear(&mut self) -> Option<Outcome> {
        loop {
            let before = self.heard.len();
            if self.heard.capacity() == before {
                self.heard.reserve_exact(before.max(FIRST_READ_BYTES).min(ANSWER_BYTES_MAX - before));
            }
            match self.socket.try_read_buf(&mut self.heard) {
                Ok(0) if before == 0 => return Some(Outcome::Bad(Cause::Closed)),
                Ok(0) => return Some(wrong(&self.heard)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Outcome::under_way(Fault::of(&error))),
            }
            self.heard.truncate(ANSWER_BYTES_MAX);
            // What was heard before holds no match, but may hold the start of one.
            let unsearched = before.saturating_sub(self.expect.len() - 1);
            if self.heard[unsearched..].windows(self.expect.len()).any(|window| window == self.expect) {
                return Some(Outcome::Good);
            }
            if self.heard.len() == ANSWER_BYTES_MAX {
                return Some(wrong(&self.heard));
            }
        }
    }
}

fn wrong(heard: &[u8]) -> Outcome {
    Outcome::Bad(Cause::WrongAnswer { excerpt: Excerpt::of(heard) })
}

/// The runtime lost sight of the socket: ours, not the backend's.
fn lost(error: &Error) -> Outcome {
    Outcome::before_asking(Fault::of(error))
}

/// How much of an answer is searched.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Most answers are a line; the buffer doubles from here.
const FIRST_READ_BYTES: usize = 1024;
