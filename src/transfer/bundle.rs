//! Bundle of a manifest and its file descriptors, as messages: a head with the manifest in sealed memory, then the
//! descriptors, as many as a message takes, in the order of the manifest.
//!
//! What must stay true: nothing is taken for a bundle unless all of it came, once, in order and unchanged; whatever is
//! refused is refused before any of it was touched.

use std::collections::HashMap;
use std::hash::Hasher;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use siphasher::sip::SipHasher13;

use crate::manifest::{Manifest, Reader, VERSION, Wire};
use crate::sys::Errno;
use crate::sys::fd_passing::{self, DESCRIPTORS_MAX};

/// A manifest with its descriptors, which are taken out by the numbers they had.
#[derive(Debug)]
pub struct Bundle {
    /// What was told.
    pub manifest: Manifest,
    descriptors: HashMap<i32, OwnedFd>,
    stashed: bool,
}

/// Why what came is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Somebody else's message.
    #[error("a message that is none of evenkeel's")]
    Foreign,
    /// Of another version of the program.
    #[error("it speaks version {0} of the manifest, and this program version {VERSION}")]
    Version(u32),
    /// Not all of it is there, or more than all.
    #[error("{found} of {expected} descriptors came")]
    Count {
        /// How many came.
        found: usize,
        /// How many were announced.
        expected: usize,
    },
    /// This process may not open so many.
    #[error("more sockets are live than this process may open: raise LimitNOFILE=")]
    NoRoom,
    /// The manifest is damaged.
    #[error("the manifest is damaged")]
    Damaged,
    /// The system refuses.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<Errno> for BundleError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// A bundle as the messages to send.
#[derive(Debug)]
pub(super) struct Messages {
    head: Vec<u8>,
    sealed: OwnedFd,
    descriptors: Vec<RawFd>,
}

impl Messages {
    /// Of a manifest.
    pub(super) fn new(manifest: &Manifest) -> io::Result<Self> {
        let bytes = manifest.encode();
        let descriptors = manifest.descriptors();
        let mut head = MAGIC.to_vec();
        VERSION.put(&mut head);
        u32::try_from(descriptors.len()).unwrap_or(u32::MAX).put(&mut head);
        checksum(&bytes).put(&mut head);
        Ok(Self { head, sealed: fd_passing::sealed(&bytes)?, descriptors })
    }

    /// Each message: its bytes and its descriptors.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Vec<u8>, Vec<RawFd>)> {
        let head = (self.head.clone(), vec![self.sealed.as_raw_fd()]);
        let parts = (0_u32..).zip(self.descriptors.chunks(DESCRIPTORS_MAX));
        std::iter::once(head)
            .chain(parts.map(|(number, part)| (number.to_le_bytes().to_vec(), part.to_vec())))
    }
}

/// Messages that have come, until they are a bundle.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    head: Option<Head>,
    descriptors: Vec<OwnedFd>,
    parts: u32,
}

#[derive(Debug)]
struct Head {
    expected: usize,
    checksum: u64,
    sealed: OwnedFd,
}

impl Arriving {
    /// Takes the next message. True: that was the last.
    pub(super) fn take(&mut self, bytes: &[u8], arrived: fd_passing::Arrived) -> Result<bool, BundleError> {
        if arrived.cut {
            return Err(BundleError::NoRoom);
        }
        match &self.head {
            None => self.head = Some(head_of(bytes, arrived.descriptors)?),
            Some(head) => {
                if bytes != self.parts.to_le_bytes() {
                    return Err(BundleError::Foreign);
                }
                self.parts += 1;
                self.descriptors.extend(arrived.descriptors);
                if self.descriptors.len() > head.expected {
                    let (found, expected) = (self.descriptors.len(), head.expected);
                    return Err(BundleError::Count { found, expected });
                }
            }
        }
        Ok(self.head.as_ref().is_some_and(|head| head.expected == self.descriptors.len()))
    }

    /// Something has come.
    pub(super) fn has_begun(&self) -> bool {
        self.head.is_some()
    }

    /// The bundle, if it is whole.
    pub(super) fn finish(self) -> Result<Bundle, BundleError> {
        let Head { expected, checksum: promised, sealed } = self.head.ok_or(BundleError::Foreign)?;
        let found = self.descriptors.len();
        if found != expected {
            return Err(BundleError::Count { found, expected });
        }
        let bytes = fd_passing::read_sealed(sealed, MANIFEST_BYTES_MAX)?;
        if checksum(&bytes) != promised {
            return Err(BundleError::Damaged);
        }
        let manifest = Manifest::decode(&bytes).map_err(|_| BundleError::Damaged)?;
        let numbers = manifest.descriptors();
        let descriptors: HashMap<i32, OwnedFd> = numbers.iter().copied().zip(self.descriptors).collect();
        // Each number once: two sessions cannot have one socket.
        if numbers.len() != expected || descriptors.len() != expected || !holds_together(&manifest) {
            return Err(BundleError::Damaged);
        }
        Ok(Bundle { manifest, descriptors, stashed: false })
    }
}

impl Bundle {
    /// It was left with the service manager, and its streams are reset if nobody takes it up.
    pub(super) fn of_a_stash(mut self) -> Self {
        self.stashed = true;
        self
    }

    /// Somebody takes it up: its streams end as streams do.
    pub fn is_taken_up(&self) {
        if self.stashed {
            let sockets = self.manifest.session_sockets().filter_map(|number| self.descriptors.get(&number));
            fd_passing::reset_when_dropped(sockets.map(AsRawFd::as_raw_fd), false);
        }
    }

    /// The descriptor that had this number; each is taken once.
    pub fn descriptor(&mut self, number: i32) -> Option<OwnedFd> {
        self.descriptors.remove(&number)
    }
}

fn head_of(bytes: &[u8], mut descriptors: Vec<OwnedFd>) -> Result<Head, BundleError> {
    let mut reader = Reader::new(bytes);
    if reader.bytes(MAGIC.len()).map_err(|_| BundleError::Foreign)? != MAGIC {
        return Err(BundleError::Foreign);
    }
    let version = u32::take(&mut reader).map_err(|_| BundleError::Foreign)?;
    if version != VERSION {
        return Err(BundleError::Version(version));
    }
    let (expected, checksum) = <(u32, u64)>::take(&mut reader).map_err(|_| BundleError::Foreign)?;
    match (descriptors.pop(), descriptors.is_empty() && reader.is_empty()) {
        (Some(sealed), true) => {
            Ok(Head { expected: usize::try_from(expected).unwrap_or(usize::MAX), checksum, sealed })
        }
        _ => Err(BundleError::Foreign),
    }
}

/// What a record names is in the manifest.
fn holds_together(manifest: &Manifest) -> bool {
    let backends: std::collections::HashSet<u64> =
        manifest.pools.iter().flat_map(|pool| &pool.backends).map(|backend| backend.number).collect();
    let is_listed = |number: u32, length: usize| usize::try_from(number).is_ok_and(|number| number < length);
    manifest.sessions.iter().all(|session| {
        is_listed(session.terms, manifest.terms.len())
            && session.lease.is_none_or(|lease| backends.contains(&lease))
    }) && manifest
        .flows
        .iter()
        .all(|flow| is_listed(flow.terms, manifest.flow_terms.len()) && backends.contains(&flow.lease))
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

const MAGIC: &[u8] = b"evenkeel";
/// A million sessions take 300 MiB; what they hold unsent comes on top.
const MANIFEST_BYTES_MAX: u64 = 4 << 30;

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
