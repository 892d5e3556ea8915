//! Messages of a pre-copy: the sockets of sessions that go ahead of a freeze, two for each.
//!
//! ```text
//!  sockets = "sockets ", the thread u32, the number of the first u32       with the client's and the backend's socket of each
//! ```
//!
//! Each thread numbers its own from 0 and leaves none out. There may be more behind that, of a later build.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use crate::manifest::{Reader, Wire};

/// The two sockets of a session.
#[derive(Debug)]
pub struct Sockets {
    /// The client's.
    pub client: OwnedFd,
    /// The backend's.
    pub backend: OwnedFd,
}

/// Sockets that came ahead, by the thread that had them and its numbers.
#[derive(Debug)]
pub struct Ahead<T>(HashMap<u32, Vec<Option<T>>>);

/// One message that has come.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) worker: u32,
    pub(super) first: u32,
    pub(super) sockets: Vec<Sockets>,
}

/// What goes with the sockets of a thread's sessions from this number on.
pub(super) fn sockets_message(worker: u32, first: u32) -> Vec<u8> {
    [WORD, &worker.to_le_bytes(), &first.to_le_bytes()].concat()
}

/// One that has come. `None`: it is none.
pub(super) fn part(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Option<Part> {
    let mut numbers = Reader::new(bytes.strip_prefix(WORD)?);
    let (worker, first) = <(u32, u32)>::take(&mut numbers).ok()?;
    let mut descriptors = descriptors.into_iter();
    let mut sockets = Vec::with_capacity(descriptors.len() / 2);
    while let Some(client) = descriptors.next() {
        sockets.push(Sockets { client, backend: descriptors.next()? });
    }
    Some(Part { worker, first, sockets })
}

impl<T> Default for Ahead<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Ahead<T> {
    /// The number that a thread's next has.
    pub fn next_of(&self, worker: u32) -> u32 {
        self.0.get(&worker).map_or(0, |of| u32::try_from(of.len()).unwrap_or(u32::MAX))
    }

    /// One more of this thread.
    pub fn push(&mut self, worker: u32, one: T) {
        self.0.entry(worker).or_default().push(Some(one));
    }

    /// The one of this thread that has this number, counted from 1; once.
    pub fn take(&mut self, worker: u32, number: u32) -> Option<T> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.0.get_mut(&worker)?.get_mut(at)?.take()
    }

    /// Each of these (thread, number) is there, and none is named twice.
    pub fn has_all(&self, mut named: Vec<(u32, u32)>) -> bool {
        named.sort_unstable();
        named.windows(2).all(|two| two[0] < two[1])
            && named.iter().all(|(worker, number)| *number <= self.next_of(*worker))
    }
}

/// With it such a message begins.
const WORD: &[u8] = b"sockets ";

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect()
    }

    #[test]
    fn a_message_comes_back_and_others_are_none() {
        let bytes = sockets_message(3, 252);
        let came = part(&[&bytes[..], b"later"].concat(), descriptors(4)).unwrap();
        assert_eq!((came.worker, came.first, came.sockets.len()), (3, 252, 2));
        assert!(part(&bytes, descriptors(3)).is_none(), "one of two is missing");
        assert!(part(&bytes[..bytes.len() - 1], descriptors(2)).is_none());
        assert!(part(b"copied", Vec::new()).is_none());
    }

    #[test]
    fn each_is_taken_once_and_by_its_own_number_alone() {
        let mut ahead = Ahead::default();
        ahead.push(0, "first");
        ahead.push(0, "second");
        ahead.push(2, "other");
        assert_eq!((ahead.next_of(0), ahead.next_of(1)), (2, 0));
        assert!(ahead.has_all(vec![(0, 2), (2, 1)]));
        assert!(!ahead.has_all(vec![(0, 3)]), "it did not come");
        assert!(!ahead.has_all(vec![(1, 1)]), "nobody came of that thread");
        assert!(!ahead.has_all(vec![(0, 2), (0, 2)]), "twice");
        assert_eq!(ahead.take(0, 2), Some("second"));
        assert_eq!((ahead.take(0, 2), ahead.take(0, 0), ahead.take(0, 9)), (None, None, None));
    }
}
