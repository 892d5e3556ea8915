//! Dialogue of a health check: what is said to a server over one connection, and what its answers mean, without a socket
//! (sans-io protocol state machine).
//!
//! Pure. One file a protocol reads bytes; `line.rs` carries them. Must stay true: whatever comes, in pieces of any size, is
//! answered with a step, and no more than 64 KiB of it is remembered.

use std::fmt;

use super::outcome::{Cause, Outcome};

/// One conversation with one server. It lives as long as its connection.
pub(super) trait Dialogue: Send + fmt::Debug {
    /// A new connection is open.
    fn begin(&mut self) -> Step;

    /// The kept connection is asked anew. Only after [`Step::Done`].
    fn again(&mut self) -> Step;

    /// TLS stands, after [`Step::StartTls`] or [`Step::SendThenTls`].
    fn secured(&mut self) -> Step {
        Step::Bad(Cause::Protocol { excerpt: super::outcome::Excerpt::of(b"TLS where none was asked for") })
    }

    /// This came, some or all of what is said, or the end of one thing and the beginning of the next. Also while nothing is
    /// asked: [`Step::More`] says that it means nothing, [`Step::Gone`] that the connection is of no more use.
    fn heard(&mut self, bytes: &[u8]) -> Step;

    /// What came of [`Step::Work`].
    fn worked(&mut self, _result: Vec<u8>) -> Step {
        Step::More
    }

    /// What is said before the connection is closed, in the state it is in; also where no answer came in time.
    fn farewell(&self) -> &'static [u8];
}

/// What to do next.
pub(super) enum Step {
    /// Listen.
    More,
    /// Say this, then listen.
    Send(Vec<u8>),
    /// Begin TLS, and go on with [`Dialogue::secured`]. Nothing of what came is left over.
    StartTls,
    /// Say this, and begin TLS without waiting for a word.
    SendThenTls(Vec<u8>),
    /// Work this out away from the thread that asks the others, and go on with [`Dialogue::worked`].
    Work(Box<dyn FnOnce() -> Vec<u8> + Send>),
    /// That was the answer. The connection can be asked again.
    Done(Outcome),
    /// That was the answer, or there is none. The connection ends.
    Bad(Cause),
    /// The server ends this connection, which says nothing of the server: where it was a kept one, a new one is asked at
    /// once; where it was new, this is what is wrong.
    Gone(Cause),
}

impl fmt::Debug for Step {
    /// What is said may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::More => f.write_str("More"),
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::StartTls => f.write_str("StartTls"),
            Self::SendThenTls(bytes) => write!(f, "SendThenTls({} bytes)", bytes.len()),
            Self::Work(_) => f.write_str("Work"),
            Self::Done(outcome) => write!(f, "Done({outcome:?})"),
            Self::Bad(cause) => write!(f, "Bad({cause:?})"),
            Self::Gone(cause) => write!(f, "Gone({cause:?})"),
        }
    }
}

/// How much is heard in one talk, and what a dialogue may remember.
pub(super) const HEARD_BYTES_MAX: usize = 64 * 1024;

/// How often something is said in one talk.
pub(super) const SAID_MAX: usize = 64;

/// Carries a dialogue through whatever is said, for the fuzzer.
#[cfg(fuzzing)]
pub(super) fn fuzz<'a>(dialogue: &mut dyn Dialogue, mut pieces: impl Iterator<Item = &'a [u8]>) {
    let mut step = dialogue.begin();
    loop {
        let _ = dialogue.farewell();
        step = match step {
            Step::More | Step::Send(_) => match pieces.next() {
                Some(piece) => dialogue.heard(piece),
                None => return,
            },
            Step::StartTls | Step::SendThenTls(_) => dialogue.secured(),
            Step::Work(_) => dialogue.worked(vec![7; 32]),
            Step::Done(_) => dialogue.again(),
            Step::Bad(_) | Step::Gone(_) => return,
        };
    }
}
