//! TCP send/expect health check, `check: { tcp: { send, expect } }`: say something to the backend's program, and listen
//! for the right answer, or for one of two that tell its role.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::outcome::{Cause, Excerpt, Outcome};
use crate::roles::{Answer, Claim};
use crate::sys::probe::{self, Fault, Route};

/// Connects to the peer, sends `send`, and is content when `expect` shows up in the first 64 KiB of the answer; with an
/// empty `expect`, when all is sent. Takes `limit` at most for the whole talk, unless this thread is kept from running;
/// then an answer that has come meanwhile still counts. Cancel safe.
pub(super) async fn ask(route: &Route, send: &[u8], expect: Expect<'_>, limit: Duration) -> Outcome {
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

/// What is listened for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect<'a> {
    /// This; empty: nothing, and all is well when all is sent.
    Text(&'a [u8]),
    /// What this makes of all that was heard.
    Judged(fn(&[u8]) -> Option<Outcome>),
    /// Whichever comes first. Neither is empty.
    Roles { primary: &'a [u8], replica: &'a [u8] },
}

impl Expect<'_> {
    fn longest(self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            // Nothing of it is searched already.
            Self::Judged(_) => usize::MAX,
            Self::Roles { primary, replica } => primary.len().max(replica.len()),
        }
    }

    /// What comes of an answer that goes on so; `None`: nothing yet.
    fn judge(self, heard: &[u8]) -> Option<Outcome> {
        // Where it ends: what is whole first was said first.
        let end =
            |text: &[u8]| heard.windows(text.len()).position(|part| part == text).map(|at| at + text.len());
        match self {
            Self::Text(text) => end(text).map(|_| Outcome::Good),
            Self::Judged(judge) => judge(heard),
            Self::Roles { primary, replica } => {
                let claim = match (end(primary), end(replica)) {
                    (None, None) => return None,
                    (Some(_), None) => Claim::Primary,
                    (None, Some(_)) => Claim::Replica,
                    // Of two that end together the longer says more.
                    (Some(one), Some(other)) if one == other && primary.len() > replica.len() => {
                        Claim::Primary
                    }
                    (Some(one), Some(other)) if one < other => Claim::Primary,
                    (Some(_), Some(_)) => Claim::Replica,
                };
                Some(Outcome::Role(Answer { claim, generation: None, position: None }))
            }
        }
    }
}

struct Talk<'a> {
    socket: TcpStream,
    expect: Expect<'a>,
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
        if matches!(self.expect, Expect::Text(b"")) {
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
            let unsearched = before.saturating_sub(self.expect.longest() - 1);
            if let Some(outcome) = self.expect.judge(&self.heard[unsearched..]) {
                return Some(outcome);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_texts_the_one_that_is_whole_first_tells_the_role() {
        let judge = |primary: &str, replica: &str, heard: &str| {
            let expect = Expect::Roles { primary: primary.as_bytes(), replica: replica.as_bytes() };
            expect.judge(heard.as_bytes()).map(|outcome| outcome.word())
        };
        assert_eq!(judge("master", "slave", "*3 master"), Some("primary"));
        assert_eq!(judge("master", "slave", "*5 slave of the master"), Some("replica"));
        assert_eq!(judge("master", "slave", "-LOADING mast"), None);
        assert_eq!(judge("ready primary", "primary", "a ready primary"), Some("primary"));
        assert_eq!(judge("primary", "no primary", "no primary"), Some("replica"));
        assert_eq!(judge("f", "t", "t"), Some("replica"));
    }
}
