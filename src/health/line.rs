//! Connection of a health check that talks: it carries a dialogue over a socket, keeps it between two checks where it may, and
//! ends it as the server wants it ended.
//!
//! One limit counts for a whole talk, from the connect to the answer, but for what this program works out meanwhile: that is our
//! time, not the server's.

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;

use super::dialogue::{Dialogue, HEARD_BYTES_MAX, SAID_MAX, Step};
use super::outcome::{Cause, Excerpt, LocalError, Outcome};
use crate::config::settings::TlsTerms;
use crate::random::Random;
use crate::sys::probe::{self, Fault, Route};
use crate::tls::Trust;

/// What all lines share.
#[derive(Debug)]
pub(super) struct Shared {
    trust: Trust,
    /// One at a time: a thousand passwords that are worked out at once would leave no core to those who serve.
    works: Semaphore,
    /// How many connections may be kept.
    kept: Arc<Semaphore>,
    kept_max: usize,
}

impl Shared {
    /// At most so many connections are kept.
    pub(super) fn new(kept_max: usize) -> Self {
        let kept = Arc::new(Semaphore::new(kept_max));
        Self { trust: Trust::default(), works: Semaphore::new(1), kept, kept_max }
    }

    /// How many are.
    pub(super) fn kept(&self) -> usize {
        self.kept_max.saturating_sub(self.kept.available_permits())
    }
}

/// How a line is opened.
pub(super) trait Opening: Send + Sync {
    /// What is to be said over a new connection; `None`: a fault of our own.
    fn dialogue(&self) -> Option<Box<dyn Dialogue>>;
    /// What stands in front of it.
    fn header(&self) -> Vec<u8>;
    /// With whom, where the dialogue wants TLS.
    fn terms(&self) -> Arc<TlsTerms>;
    /// How long one connection serves; `None`: each time a new one.
    fn keep(&self) -> Option<Duration>;
}

/// One server's. It has a connection while one is kept or in use.
pub(super) struct Line {
    opening: Box<dyn Opening>,
    shared: Arc<Shared>,
    random: Random,
    open: Option<Connection>,
}

struct Connection {
    wire: Wire,
    dialogue: Box<dyn Dialogue>,
    peer: IpAddr,
    /// When a new one takes its place.
    until: Option<Instant>,
    kept: Option<OwnedSemaphorePermit>,
    /// Bytes since it was asked.
    heard: usize,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake has it, or had it.
    Lost,
}

/// How a talk ends.
enum Ended {
    /// The connection is as good as before.
    Well(Outcome),
    /// It is of no more use.
    Badly(Outcome),
    /// It was ended by the server.
    Gone(Outcome),
}

/// When the time is over, and how much of it was ours.
struct Clock {
    began: Instant,
    limit: Duration,
    worked: Duration,
}

impl Clock {
    async fn within<T>(&self, what: impl Future<Output = T>) -> Result<T, Ended> {
        let deadline = self.began + self.limit + self.worked;
        timeout_at(deadline, what).await.map_err(|_| {
            Ended::Badly(Outcome::silent(self.began.elapsed().saturating_sub(self.worked), self.limit))
        })
    }
}

impl Line {
    /// Nothing is opened before it is asked.
    pub(super) fn new(opening: Box<dyn Opening>, shared: Arc<Shared>, seed: u64) -> Self {
        Self { opening, shared, random: Random::new(seed), open: None }
    }

    /// Asks once, for at most `limit`. When dropped half-way, [`Line::end`] must follow.
    pub(super) async fn ask(&mut self, route: &Route, limit: Duration) -> Outcome {
        let mut clock = Clock { began: Instant::now(), limit, worked: Duration::ZERO };
        let is_kept = |open: &Connection| open.until.is_some_and(|until| clock.began < until);
        if self.open.as_ref().is_some_and(is_kept) {
            match self.talk(&mut clock, Dialogue::again).await {
                Ended::Well(outcome) => return outcome,
                Ended::Badly(outcome) => {
                    self.end().await;
                    return outcome;
                }
                Ended::Gone(_) => {}
            }
        }
        self.end().await;
        match connect(&*self.opening, route, &clock).await {
            Ok(connection) => self.open = Some(connection),
            Err(Ended::Well(outcome) | Ended::Badly(outcome) | Ended::Gone(outcome)) => return outcome,
        }
        match self.talk(&mut clock, Dialogue::begin).await {
            Ended::Well(outcome) => {
                self.keep();
                if self.open.as_ref().is_some_and(|open| open.until.is_none()) {
                    self.end().await;
                }
                outcome
            }
            Ended::Badly(outcome) | Ended::Gone(outcome) => {
                self.end().await;
                outcome
            }
        }
    }

    /// Waits until the kept connection is of no more use; for ever where there is none. Cancel safe.
    pub(super) async fn ended(&mut self) {
        while let Some(open) = &mut self.open {
            let mut bytes = [0; READ_BYTES];
            match open.wire.hear(&mut bytes).await {
                Ok(count) if count > 0 && open.heard + count <= HEARD_BYTES_MAX => {
                    open.heard += count;
                    if matches!(open.dialogue.heard(&bytes[..count]), Step::More) {
                        continue;
                    }
                }
                _ => {}
            }
            return self.end().await;
        }
        std::future::pending::<()>().await;
    }

    /// Says farewell and closes, if there is a connection.
    pub(super) async fn end(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let words = open.dialogue.farewell();
        // Who does not take a few bytes at once is gone.
        let _ = timeout(FAREWELL, open.wire.close(words)).await;
    }

    /// May this connection serve the next check, too?
    fn keep(&mut self) {
        let (Some(open), Some(keep)) = (&mut self.open, self.opening.keep()) else { return };
        let Ok(permit) = Arc::clone(&self.shared.kept).try_acquire_owned() else { return };
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let keep = Duration::from_millis(self.random.jitter(keep_ms, 10));
        (open.kept, open.until) = (Some(permit), Some(Instant::now() + keep));
    }

    /// Carries the dialogue to its next answer.
    async fn talk(&mut self, clock: &mut Clock, begin: fn(&mut (dyn Dialogue + 'static)) -> Step) -> Ended {
        let Some(open) = &mut self.open else { return Ended::Badly(Outcome::Local(LocalError::Other(0))) };
        open.heard = 0;
        let step = begin(&mut *open.dialogue);
        match open.go_on(step, clock, &self.shared, &*self.opening).await {
            Ok(ended) | Err(ended) => ended,
        }
    }
}

impl Connection {
    /// `Err` is only the short way out.
    async fn go_on(
        &mut self,
        mut step: Step,
        clock: &mut Clock,
        shared: &Shared,
        opening: &dyn Opening,
    ) -> Result<Ended, Ended> {
        let protocol =
            |said: &[u8]| Ended::Badly(Outcome::Bad(Cause::Protocol { excerpt: Excerpt::of(said) }));
        let mut said = 0;
        loop {
            step = match step {
                Step::More => {
                    let mut bytes = [0; READ_BYTES];
                    let count = match clock.within(self.wire.hear(&mut bytes)).await? {
                        Ok(0) => return Ok(Ended::Gone(Outcome::Bad(Cause::Closed))),
                        Ok(count) => count,
                        Err(error) => return Ok(Ended::Gone(failed(&error))),
                    };
                    self.heard += count;
                    if self.heard > HEARD_BYTES_MAX {
                        return Ok(protocol(b"it says more than 64 KiB"));
                    }
                    self.dialogue.heard(&bytes[..count])
                }
                Step::Send(bytes) => {
                    said += 1;
                    if said > SAID_MAX {
                        return Ok(protocol(b"it asks for more than 64 messages"));
                    }
                    match clock.within(self.wire.say(&bytes)).await? {
                        Ok(()) => Step::More,
                        Err(error) => return Ok(Ended::Gone(failed(&error))),
                    }
                }
                Step::SendThenTls(bytes) => match clock.within(self.wire.say(&bytes)).await? {
                    Ok(()) => Step::StartTls,
                    Err(error) => return Ok(Ended::Gone(failed(&error))),
                },
                Step::StartTls => {
                    let Wire::Plain(socket) = std::mem::replace(&mut self.wire, Wire::Lost) else {
                        return Ok(protocol(b"TLS within TLS"));
                    };
                    let terms = opening.terms();
                    match clock.within(shared.trust.handshake(&terms, self.peer, socket)).await? {
                        Ok(stream) => self.wire = Wire::Tls(Box::new(stream)),
                        Err(error) => {
                            let excerpt = Excerpt::text(&error);
                            return Ok(Ended::Badly(Outcome::Bad(Cause::Tls { excerpt })));
                        }
                    }
                    self.dialogue.secured()
                }
                Step::Work(work) => {
                    let began = Instant::now();
                    let Ok(Some(result)) = timeout(WORK_MAX, worked(shared, work)).await else {
                        return Ok(Ended::Badly(Outcome::Local(LocalError::Late)));
                    };
                    clock.worked += began.elapsed();
                    self.dialogue.worked(result)
                }
                Step::Done(outcome) => return Ok(Ended::Well(outcome)),
                Step::Bad(cause) => return Ok(Ended::Badly(Outcome::Bad(cause))),
                Step::Gone(cause) => return Ok(Ended::Gone(Outcome::Bad(cause))),
            };
        }
    }
}

async fn connect(opening: &dyn Opening, route: &Route, clock: &Clock) -> Result<Connection, Ended> {
    let lost = |error: &Error| Ended::Badly(Outcome::before_asking(Fault::of(error)));
    let failed = |fault| Ended::Badly(Outcome::under_way(fault));
    let socket = probe::dial(route).map_err(|fault| Ended::Badly(Outcome::before_asking(fault)))?;
    let socket = TcpStream::from_std(socket).map_err(|error| lost(&error))?;
    clock.within(socket.writable()).await?.map_err(|error| lost(&error))?;
    probe::connected(&socket).map_err(failed)?;
    // What is said is said in pieces that wait for an answer each.
    let _ = socket.set_nodelay(true);
    let mut wire = Wire::Plain(socket);
    let header = opening.header();
    if !header.is_empty() {
        clock.within(wire.say(&header)).await?.map_err(|error| failed(Fault::of(&error)))?;
    }
    let dialogue = opening.dialogue();
    let dialogue = dialogue.ok_or(Ended::Badly(Outcome::Local(LocalError::Other(0))))?;
    Ok(Connection { wire, dialogue, peer: route.to.ip(), until: None, kept: None, heard: 0 })
}

/// `None`: it failed, which is a fault of our own.
async fn worked(shared: &Shared, work: Box<dyn FnOnce() -> Vec<u8> + Send>) -> Option<Vec<u8>> {
    let _turn = shared.works.acquire().await.ok()?;
    tokio::task::spawn_blocking(work).await.ok()
}

impl Wire {
    /// Cancel safe.
    async fn hear(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        match self {
            Self::Plain(socket) => socket.read(bytes).await,
            Self::Tls(stream) => stream.read(bytes).await,
            Self::Lost => Ok(0),
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Takes in what is there first: a socket that is closed with bytes unread says so with a reset.
    async fn close(&mut self, words: &[u8]) -> Result<(), Error> {
        self.say(words).await?;
        match self {
            Self::Plain(socket) => {
                let _ = socket.try_read(&mut [0; READ_BYTES]);
                socket.shutdown().await
            }
            Self::Tls(stream) => {
                let _ = stream.get_ref().0.try_read(&mut [0; READ_BYTES]);
                stream.shutdown().await
            }
            Self::Lost => Ok(()),
        }
    }
}

/// A connection that ended in the middle: TLS says so with an error of its own.
fn failed(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::UnexpectedEof => Outcome::Bad(Cause::Closed),
        ErrorKind::InvalidData => Outcome::Bad(Cause::Tls { excerpt: Excerpt::text(&error.to_string()) }),
        _ => Outcome::under_way(Fault::of(error)),
    }
}

/// Answers are a few hundred bytes.
const READ_BYTES: usize = 2048;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long a password may take to be worked out, with others before it.
const WORK_MAX: Duration = Duration::from_secs(30);
