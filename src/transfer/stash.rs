//! Stash of live sockets: a bundle left with the service manager, which keeps both ends of a pair of sockets while no
//! process runs: what was sent into the pair waits in it.
//!
//! A successor looks at everything first and takes it only when it is about to go on with it: one that ends before that
//! leaves all of it to the next.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::bundle::{Arriving, Bundle, BundleError, Messages};
use crate::manifest::Manifest;
use crate::sys::Errno;
use crate::sys::fd_passing;

/// Both ends.
#[derive(Debug)]
pub struct Stash {
    into: OwnedFd,
    out_of: OwnedFd,
}

/// Why a bundle cannot be stashed.
#[derive(Debug, thiserror::Error)]
pub enum StashError {
    /// There is more than the kernel keeps for a user.
    #[error(
        "the kernel keeps no more descriptors on their way than a process may open: {0}; raise LimitNOFILE="
    )]
    TooMany(io::Error),
    /// The system refuses.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Stash {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        let (into, out_of) = fd_passing::pair()?;
        Ok(Self { into, out_of })
    }

    /// Of two ends that the service manager kept.
    pub fn kept(one: OwnedFd, other: OwnedFd) -> Self {
        // What was stashed can be read at one of them.
        let mut stash = Self { into: one, out_of: other };
        if matches!(stash.look(), Ok(None)) {
            std::mem::swap(&mut stash.into, &mut stash.out_of);
        }
        stash
    }

    /// Both ends, for the service manager.
    pub fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.into.as_fd(), self.out_of.as_fd()]
    }

    /// Leaves everything there. On an error nothing is there.
    pub fn leave(&self, manifest: &Manifest) -> Result<(), StashError> {
        self.clear();
        for (bytes, descriptors) in Messages::new(manifest)?.iter() {
            if let Err(errno) = fd_passing::send(self.into.as_fd(), &bytes, &descriptors) {
                self.clear();
                return Err(match errno {
                    Errno::TOOMANYREFS | Errno::AGAIN => StashError::TooMany(errno.into()),
                    other => StashError::System(other.into()),
                });
            }
        }
        // When nobody takes it up, no half of a stream may look like the whole.
        fd_passing::reset_when_dropped(manifest.session_sockets(), true);
        Ok(())
    }

    /// What is there, which stays. `None`: nothing.
    pub fn look(&self) -> Result<Option<Bundle>, BundleError> {
        fd_passing::look_again(self.out_of.as_fd())?;
        let mut arriving = Arriving::default();
        let mut buffer = [0; BYTES_MAX];
        loop {
            match fd_passing::receive(self.out_of.as_fd(), &mut buffer, true) {
                Ok(Some(arrived)) => {
                    let length = arrived.length;
                    arriving.take(&buffer[..length], arrived)?;
                }
                Ok(None) | Err(Errno::AGAIN) if !arriving.has_begun() => return Ok(None),
                Ok(None) | Err(Errno::AGAIN) => {
                    return arriving.finish(&HashSet::new()).map(|bundle| Some(bundle.of_a_stash()));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Nothing is there any more.
    pub fn clear(&self) {
        let mut buffer = [0; BYTES_MAX];
        // A socket in blocking mode is none of ours; ours ends with AGAIN.
        while matches!(
            fd_passing::receive(self.out_of.as_fd(), &mut buffer, false),
            Ok(Some(_)) | Err(Errno::INTR)
        ) {}
    }
}

/// Heads and numbers of parts are shorter, those of later builds too.
const BYTES_MAX: usize = 1_024;
