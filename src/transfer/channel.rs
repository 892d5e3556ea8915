//! Channel (Unix socket pair) between a process and the successor that it started.
//!
//! ```text
//!  successor: ready VERSION       the file is read and right
//!  old:       the bundle          its data threads stand still from here on
//!  successor: have N              everything came and is understood; nothing of it was touched
//!  old:       go                  from here on it is the successor's
//!  old:       main                the service manager knows: before this it would not listen to the successor
//!  successor: serving             the file as it is now is served, or refused
//! ```
//!
//! A line that closes before `go` means: take everything back. After `go` the old process leaves.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::bundle::{Arriving, Bundle, BundleError, Messages};
use crate::manifest::{Manifest, VERSION};
use crate::sys::fd_passing::{self, Arrived};

/// One end of the line.
#[derive(Debug)]
pub struct Channel {
    /// It keeps messages whole, which the type does not say.
    end: UnixStream,
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
    /// The successor speaks another version.
    #[error("it speaks version {0} of the manifest, and this program version {VERSION}")]
    Version(String),
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

    /// The old process waits for a successor that has read its file.
    pub async fn await_ready(&self) -> Result<(), ChannelError> {
        match self.word().await?.split_once(' ') {
            Some(("ready", version)) if version == VERSION.to_string() => Ok(()),
            Some(("ready", version)) => Err(ChannelError::Version(version.to_owned())),
            Some(("refused", why)) => Err(ChannelError::Refused(why.to_owned())),
            _ => Err(ChannelError::Confused),
        }
    }

    /// The old process gives everything and waits until all of it has come.
    pub async fn send_bundle(&self, manifest: &Manifest) -> Result<(), ChannelError> {
        for (bytes, descriptors) in Messages::new(manifest)?.iter() {
            self.send(&bytes, &descriptors).await?;
        }
        match self.word().await?.split_once(' ') {
            Some(("have", count)) if count == count_of(manifest) => Ok(()),
            Some(("refused", why)) => Err(ChannelError::Refused(why.to_owned())),
            _ => Err(ChannelError::Confused),
        }
    }

    /// The old process lets go: the successor may touch everything now.
    pub async fn let_go(&self) -> Result<(), ChannelError> {
        Ok(self.send(b"go", &[]).await?)
    }

    /// The service manager was told who the service is now.
    pub async fn say_main(&self) -> Result<(), ChannelError> {
        Ok(self.send(b"main", &[]).await?)
    }

    /// The successor has read its file.
    pub async fn say_ready(&self) -> Result<(), ChannelError> {
        Ok(self.send(format!("ready {VERSION}").as_bytes(), &[]).await?)
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

    /// The successor takes what comes.
    pub async fn receive_bundle(&self) -> Result<Bundle, ChannelError> {
        let mut arriving = Arriving::default();
        loop {
            let (bytes, arrived) = self.receive().await?;
            if arriving.take(&bytes, arrived)? {
                return Ok(arriving.finish()?);
            }
        }
    }

    /// The successor has everything, and waits until it may touch it.
    pub async fn await_go(&self, count: &str) -> Result<(), ChannelError> {
        self.send(format!("have {count}").as_bytes(), &[]).await?;
        if self.word().await? == "go" { Ok(()) } else { Err(ChannelError::Confused) }
    }

    /// The successor waits until the service manager listens to it. An old process that has ended has told it, or cannot
    /// any more.
    pub async fn await_main(&self) {
        // Whatever else it says, or that it is gone: there is nothing more to wait for.
        let _ = self.word().await;
    }

    /// The successor serves what it will serve.
    pub async fn say_serving(&self) {
        // An old process that does not wait for it has gone.
        let _ = self.send(b"serving", &[]).await;
    }

    /// The old process waits for that, to tell whoever asked for a successor.
    pub async fn await_serving(&self) {
        // One that ends meanwhile is the service manager's to start again.
        let _ = self.word().await;
    }

    async fn word(&self) -> Result<String, ChannelError> {
        let (bytes, _) = self.receive().await?;
        String::from_utf8(bytes).map_err(|_| ChannelError::Confused)
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

const WORDS_MAX: usize = 4_096;
