//! Channel (Unix socket pair) between a process and the successor that it started.
//!
//! ```text
//!  successor: ready NEWEST OLDEST the file is read and right; which formats of a manifest it reads; behind that the words
//!             [prepare]           `prepare`, if it takes first what it can build while the old process still serves, and
//!             [precopy]           `precopy`, if it takes sockets before the freeze as well
//!  old:       prepare, a bundle   to such a one: configuration, doors, pools
//!  successor: prepared            the pools are built, the threads spawned, the doors ready
//!             [sockets ...]       `prepare precopy`: the sockets of sessions, while they go on here
//!             [copied]            those were all
//!  successor: [watched]           all of them are watched
//!  old:       the bundle          its data threads stand still from here on; after `prepare` it holds the sessions, and of
//!                                 what came first what is otherwise by now
//!  successor: have N              everything came, is understood and in its place; nothing of it was touched
//!  old:       go                  from here on it is the successor's
//!  old:       main                the service manager knows: before this it would not listen to the successor
//!  successor: serving             the file as it is now is served, or refused
//! ```
//!
//! A line that closes before `go` means: take everything back. After `go` the old process leaves.
//!
//! The two may be of different builds. So these messages stay as they are: a later build may put words behind them, and
//! messages between them, and whoever does not know those passes over them. What one side must answer a message that the
//! other may not know, it must be able to do without: a successor that does not say `prepare` gets everything at once, and so
//! does one that says it to a process that does not know it.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::bundle::{Arriving, Bundle, BundleError, MAGIC, Messages};
use super::precopy::{self, Sockets, sockets_message};
use crate::manifest::{Manifest, Misfit, Reads};
use crate::sys::Errno;
use crate::sys::fd_passing::{self, Arrived};

/// One end of the line.
#[derive(Debug)]
pub struct Channel {
    /// It keeps messages whole, which the type does not say.
    end: UnixStream,
}

/// What a successor can do before anything stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// It builds.
    pub prepares: bool,
    /// It takes sockets.
    pub precopies: bool,
}

/// What a process gives first.
#[derive(Debug)]
pub enum First {
    /// What can be built while it still serves; the sessions follow when that is done.
    Prepare {
        /// All but sessions.
        bundle: Bundle,
        /// Sockets of sessions come before the rest.
        precopies: bool,
    },
    /// Everything: it stands still already.
    All(Bundle),
}

/// Why there is no handover.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other end closed.
    #[error("it ended before it had taken over")]
    Closed,
    /// The successor says why it cannot.
    #[error("it says: {0}")]
    Refused(String),
    /// The successor is of a build that is too far from this one.
    #[error("{0}; to change programs all the same, stop this one: its sessions end then")]
    Misfit(#[from] Misfit),
    /// What came is no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Something else than what was to come.
    #[error("it said something else than what was to come")]
    Confused,
    /// The system refuses.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Channel {
    /// Two ends: one to keep, one for the successor.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (mine, theirs) = fd_passing::pair()?;
        Ok((Self::new(mine)?, theirs))
    }

    /// Of an end that was inherited.
    pub fn new(end: OwnedFd) -> io::Result<Self> {
        Ok(Self { end: UnixStream::from_std(net::UnixStream::from(end))? })
    }

    /// The old process waits for a successor that has read its file, and understands what it would get.
    pub async fn await_ready(&self) -> Result<Ready, ChannelError> {
        let words = self.hear("ready").await?;
        Reads::parse(&words).ok_or(ChannelError::Confused)?.may_be_given()?;
        let can = |what: &str| words.split_whitespace().skip(2).any(|word| word == what);
        Ok(Ready { prepares: can(PREPARE), precopies: can(PREPARE) && can(PRECOPY) })
    }

    /// The old process gives what can be built before anything stands still, and waits until it is. Sockets may follow then.
    pub async fn prepare(&self, manifest: &Manifest, precopies: bool) -> Result<(), ChannelError> {
        let word = if precopies { format!("{PREPARE} {PRECOPY}") } else { PREPARE.to_owned() };
        self.send(word.as_bytes(), &[]).await?;
        for (bytes, descriptors) in Messages::new(manifest)?.iter() {
            self.send(&bytes, &descriptors).await?;
        }
        self.hear("prepared").await.map(drop)
    }

    /// A way for a data thread of the old process to give sockets of its sessions. It never waits, and ends with the
    /// successor.
    pub fn giver(
        &self,
        worker: u32,
    ) -> io::Result<impl Fn(u32, &[RawFd]) -> Result<(), Errno> + Send + use<>> {
        let end = self.end.as_fd().try_clone_to_owned()?;
        Ok(move |first, sockets: &[RawFd]| {
            fd_passing::send(end.as_fd(), &sockets_message(worker, first), sockets)
        })
    }

    /// The old process has given all sockets that go ahead, and waits until they are watched.
    pub async fn all_sockets_sent(&self) -> Result<(), ChannelError> {
        self.send(COPIED, &[]).await?;
        self.hear("watched").await.map(drop)
    }

    /// The old process gives everything and waits until all of it has come.
    pub async fn send_bundle(&self, manifest: &Manifest) -> Result<(), ChannelError> {
        for (bytes, descriptors) in Messages::new(manifest)?.iter() {
            self.send(&bytes, &descriptors).await?;
        }
        let words = self.hear("have").await?;
        let is_all = words.split_whitespace().next() == Some(&count_of(manifest));
        if is_all { Ok(()) } else { Err(ChannelError::Confused) }
    }

    /// The old process lets go: the successor may touch everything now. At once, or not at all: nobody may stop waiting for
    /// it when it may have been said already.
    pub fn let_go(&self) -> Result<(), ChannelError> {
        // The successor has read everything else, so there is room.
        fd_passing::send(self.end.as_fd(), b"go", &[]).map_err(|errno| ChannelError::System(errno.into()))
    }

    /// The service manager was told who the service is now.
    pub async fn say_main(&self) -> Result<(), ChannelError> {
        Ok(self.send(b"main", &[]).await?)
    }

    /// The successor has read its file.
    pub async fn say_ready(&self) -> Result<(), ChannelError> {
        Ok(self.send(format!("ready {} {PREPARE} {PRECOPY}", Reads::OWN).as_bytes(), &[]).await?)
    }

    /// The successor cannot take over.
    pub async fn say_refused(&self, why: &str) -> Result<(), ChannelError> {
        let (mut words, mut end) = (format!("refused {why}"), WORDS_MAX);
        if words.len() > end {
            while !words.is_char_boundary(end) {
                end -= 1;
            }
            words.truncate(end);
        }
        Ok(self.send(words.as_bytes(), &[]).await?)
    }

    /// The successor takes what comes first.
    pub async fn receive_first(&self) -> Result<First, ChannelError> {
        let (bundle, words) = self.receive_bundle(&HashSet::new()).await?;
        let said = |wanted: &str| words.iter().any(|word| word == wanted);
        Ok(match said(PREPARE) {
            true => First::Prepare { bundle, precopies: said(PRECOPY) },
            false => First::All(bundle),
        })
    }

    /// The successor has built what came first.
    pub async fn say_prepared(&self) -> Result<(), ChannelError> {
        Ok(self.send(b"prepared", &[]).await?)
    }

    /// The successor takes the sockets that come ahead of the rest, by the thread that had them.
    pub async fn receive_sockets<E: Into<io::Error>>(
        &self,
        mut take: impl FnMut(u32, u32, Sockets) -> Result<(), E>,
    ) -> Result<(), ChannelError> {
        let mut passed_over = 0;
        loop {
            let (bytes, arrived) = self.receive().await?;
            if arrived.cut {
                return Err(BundleError::NoRoom.into());
            }
            if let Some(part) = precopy::part(&bytes, arrived.descriptors) {
                for (number, sockets) in (part.first..).zip(part.sockets) {
                    take(part.worker, number, sockets).map_err(|error| ChannelError::System(error.into()))?;
                }
            } else if bytes.split(|byte| *byte == b' ').next() == Some(COPIED) {
                return Ok(self.send(b"watched", &[]).await?);
            } else if passed_over < PASSED_OVER_MAX && !bytes.starts_with(MAGIC) {
                passed_over += 1;
            } else {
                return Err(ChannelError::Confused);
            }
        }
    }

    /// The successor takes the rest, whose sessions may be with these backends.
    pub async fn receive_rest(&self, backends: &HashSet<u64>) -> Result<Bundle, ChannelError> {
        Ok(self.receive_bundle(backends).await?.0)
    }

    /// A bundle, and the words in front of it if they begin with the one to prepare.
    async fn receive_bundle(&self, backends: &HashSet<u64>) -> Result<(Bundle, Vec<String>), ChannelError> {
        let mut arriving = Arriving::default();
        let (mut passed_over, mut words) = (0, Vec::new());
        loop {
            let (bytes, arrived) = self.receive().await?;
            let is_word = !bytes.starts_with(MAGIC) && arrived.descriptors.is_empty() && !arrived.cut;
            if is_word && !arriving.has_begun() && passed_over < PASSED_OVER_MAX {
                passed_over += 1;
                let said = String::from_utf8_lossy(&bytes);
                if said.split(' ').next() == Some(PREPARE) {
                    words.extend(said.split(' ').map(str::to_owned));
                }
            } else if arriving.take(&bytes, arrived)? {
                return Ok((arriving.finish(backends)?, words));
            }
        }
    }

    /// The successor has everything in its place, and waits until it may touch it.
    pub async fn await_go(&self, count: &str) -> Result<(), ChannelError> {
        self.send(format!("have {count}").as_bytes(), &[]).await?;
        self.hear("go").await.map(drop)
    }

    /// The successor waits until the service manager listens to it. An old process that has ended has told it, or cannot
    /// any more.
    pub async fn await_main(&self) {
        // That it is gone, or confused: there is nothing more to wait for.
        let _ = self.hear("main").await;
    }

    /// The successor serves what it will serve.
    pub async fn say_serving(&self) {
        // An old process that does not wait for it has gone.
        let _ = self.send(b"serving", &[]).await;
    }

    /// The old process waits for that, to tell whoever asked for a successor.
    pub async fn await_serving(&self) {
        // One that ends meanwhile is the service manager's to start again.
        let _ = self.hear("serving").await;
    }

    /// Waits for this message, and tells the words behind it. A refusal is an error at any time; what a later build says in
    /// between is passed over.
    async fn hear(&self, wanted: &str) -> Result<String, ChannelError> {
        for _ in 0..=PASSED_OVER_MAX {
            let (bytes, _) = self.receive().await?;
            // A text that is none is no message that is waited for.
            let said = String::from_utf8_lossy(&bytes);
            let (message, words) = said.split_once(' ').unwrap_or((&said, ""));
            match message {
                "refused" => return Err(ChannelError::Refused(words.to_owned())),
                _ if message == wanted => return Ok(words.to_owned()),
                _ => {}
            }
        }
        Err(ChannelError::Confused)
    }

    async fn send(&self, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
        loop {
            self.end.writable().await?;
            let send = || Ok(fd_passing::send(self.end.as_fd(), bytes, descriptors)?);
            match self.end.try_io(Interest::WRITABLE, send) {
                Err(error) if is_passing(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn receive(&self) -> Result<(Vec<u8>, Arrived), ChannelError> {
        let mut buffer = vec![0; WORDS_MAX];
        loop {
            self.end.readable().await?;
            let receive = || Ok(fd_passing::receive(self.end.as_fd(), &mut buffer, false)?);
            match self.end.try_io(Interest::READABLE, receive) {
                Ok(Some(arrived)) => {
                    buffer.truncate(arrived.length);
                    return Ok((buffer, arrived));
                }
                Ok(None) => return Err(ChannelError::Closed),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ChannelError::Closed);
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Sessions and flows: told back, so that both sides mean the same.
pub fn count_of(manifest: &Manifest) -> String {
    format!("{}+{}", manifest.sessions.len(), manifest.flows.len())
}

/// What a successor says of itself, and is told.
const PREPARE: &str = "prepare";
const PRECOPY: &str = "precopy";
/// No more sockets come ahead.
const COPIED: &[u8] = b"copied";
const WORDS_MAX: usize = 4_096;
/// Messages of a later build that may come where another one is waited for.
const PASSED_OVER_MAX: usize = 16;

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
