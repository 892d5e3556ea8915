//! Bundle of a manifest and its file descriptors, as messages: a head with the manifest in sealed memory, then the descriptors, as many
//! as a message takes, in the order of the list that is part of the manifest.
//!
//! ```text
//!  head = "evenkeel", its format u32, the oldest that may read it u32, descriptors u32, checksum u64
//!  part = its number u32
//! ```
//!
//! Each may have more behind that, of a later build. The first two numbers stand there for ever: what they allow is read,
//! and what they do not is refused by its number.
//!
//! What must stay true: nothing is taken for a bundle unless all of it came, once, in order and unchanged; whatever is
//! refused is refused before any of it was touched. Descriptors that nobody here knows what to do with are closed.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use siphasher::sip::SipHasher13;

use crate::manifest::{Manifest, Misfit, OLDEST_READER, Reader, VERSION, Wire, may_be_read};
use crate::sys::Errno;
use crate::sys::fd_passing::{self, DESCRIPTORS_MAX};
use crate::sys::memfd;

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
    /// Of a build that is too far from this one.
    #[error(transparent)]
    Misfit(#[from] Misfit),
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
        let count = u32::try_from(descriptors.len()).unwrap_or(u32::MAX);
        let mut head = MAGIC.to_vec();
        for number in [VERSION, OLDEST_READER, count] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&checksum(&bytes).to_le_bytes());
        Ok(Self { head, sealed: memfd::sealed(&bytes)?, descriptors })
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
                if !bytes.starts_with(&self.parts.to_le_bytes()) {
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

    /// The bundle, if it is whole. Its sessions may be with backends that are known from before.
    pub(super) fn finish(self, known: &HashSet<u64>) -> Result<Bundle, BundleError> {
        let Head { expected, checksum: promised, sealed } = self.head.ok_or(BundleError::Foreign)?;
        let found = self.descriptors.len();
        if found != expected {
            return Err(BundleError::Count { found, expected });
        }
        let bytes = memfd::read_sealed(sealed, MANIFEST_BYTES_MAX)?;
        if checksum(&bytes) != promised {
            return Err(BundleError::Damaged);
        }
        let (manifest, numbers) = Manifest::decode(&bytes).map_err(|_| BundleError::Damaged)?;
        let count = numbers.len();
        let descriptors: HashMap<i32, OwnedFd> = numbers.into_iter().zip(self.descriptors).collect();
        if count != expected
            || descriptors.len() != expected
            || !holds_together(&manifest, &descriptors, known)
        {
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

    /// The sockets of its streams that are reset when the last who has them closes them, as long as nobody takes them up:
    /// [`is_taken_up`] says that of them.
    pub fn reset_if_dropped(&self) -> Vec<RawFd> {
        if !self.stashed {
            return Vec::new();
        }
        let sockets = self.manifest.session_sockets().filter_map(|number| self.descriptors.get(&number));
        sockets.map(AsRawFd::as_raw_fd).collect()
    }

    /// The descriptor that had this number; each is taken once.
    pub fn descriptor(&mut self, number: i32) -> Option<OwnedFd> {
        self.descriptors.remove(&number)
    }
}

/// Somebody takes these up: their streams end as streams do.
pub fn is_taken_up(sockets: Vec<RawFd>) {
    fd_passing::reset_when_dropped(sockets.into_iter(), false);
}

fn head_of(bytes: &[u8], mut descriptors: Vec<OwnedFd>) -> Result<Head, BundleError> {
    let mut reader = Reader::new(bytes);
    if reader.bytes(MAGIC.len()).map_err(|_| BundleError::Foreign)? != MAGIC {
        return Err(BundleError::Foreign);
    }
    let (format, oldest_reader) = <(u32, u32)>::take(&mut reader).map_err(|_| BundleError::Foreign)?;
    may_be_read(format, oldest_reader)?;
    let (expected, checksum) = <(u32, u64)>::take(&mut reader).map_err(|_| BundleError::Foreign)?;
    // A later build may send more with it; the manifest comes first.
    descriptors.truncate(1);
    let sealed = descriptors.pop().ok_or(BundleError::Foreign)?;
    Ok(Head { expected: usize::try_from(expected).unwrap_or(usize::MAX), checksum, sealed })
}

/// What a record names is there: each descriptor once, since two sessions cannot have one socket.
fn holds_together(manifest: &Manifest, descriptors: &HashMap<i32, OwnedFd>, known: &HashSet<u64>) -> bool {
    let mut named = manifest.descriptors();
    // Sorted, not hashed: nothing moves until this is done.
    named.sort_unstable();
    let is_once = named.windows(2).all(|two| two[0] < two[1]);
    if !is_once || !named.iter().all(|number| descriptors.contains_key(number)) {
        return false;
    }
    let own: HashSet<u64> = manifest.backends().collect();
    let is_backend = |number: &u64| known.contains(number) || own.contains(number);
    let is_listed = |number: u32, length: usize| usize::try_from(number).is_ok_and(|number| number < length);
    manifest.sessions.iter().all(|session| {
        is_listed(session.terms, manifest.terms.len()) && session.lease.as_ref().is_none_or(is_backend)
    }) && manifest
        .flows
        .iter()
        .all(|flow| is_listed(flow.terms, manifest.flow_terms.len()) && is_backend(&flow.lease))
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

/// With it a head begins.
pub(super) const MAGIC: &[u8] = b"evenkeel";
/// A million sessions take 300 MiB; what they hold unsent comes on top.
const MANIFEST_BYTES_MAX: u64 = 4 << 30;

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
