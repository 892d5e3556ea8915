//! Replay of a client's first message (request buffering): everything that it said before the backend said anything, kept so that it can
//! be said again to another backend (`connect.replay_first`).
//!
//! What must stay true: what is kept is the whole of it, or nothing is said again; the memory is lent by the thread, and given
//! back with the backend's first byte or the end of the session. A handover forgets it.

use crate::thread_context::PipePool;

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Replay {
    bytes: Vec<u8>,
    /// It was too long, or there was no memory for it.
    is_forgone: bool,
}

impl Replay {
    /// The client said more.
    pub(super) fn note(&mut self, bytes: &[u8], lender: &mut PipePool) {
        if self.is_forgone {
            return;
        }
        if self.bytes.len() + bytes.len() <= FIRST_MESSAGE_BYTES_MAX && lender.lend_first(bytes.len()) {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.forget(lender);
            self.is_forgone = true;
        }
    }

    /// All of it; `None`: a part of it is lost.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (!self.is_forgone).then_some(&self.bytes)
    }

    /// It was answered, or nobody will need it.
    pub(super) fn forget(&mut self, lender: &mut PipePool) {
        lender.give_first_back(std::mem::take(&mut self.bytes).len());
    }
}

/// What is kept of one session at most. Requests and logins are smaller; an upload is no first message.
const FIRST_MESSAGE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_or_forgone_and_its_memory_comes_back() {
        let mut lender = PipePool::new(0);
        let mut first = Replay::default();
        first.note(b"GET / ", &mut lender);
        first.note(b"HTTP/1.0\r\n", &mut lender);
        assert_eq!(first.whole(), Some(&b"GET / HTTP/1.0\r\n"[..]));
        first.note(&[0; FIRST_MESSAGE_BYTES_MAX - 16], &mut lender);
        assert!(first.whole().is_some());
        first.note(b"x", &mut lender);
        assert_eq!(first.whole(), None);
        first.note(b"y", &mut lender);
        assert_eq!(first.whole(), None, "what is behind a gap is no message");
        // Nothing is kept any more: others may have all of it.
        let mut kept = Vec::new();
        loop {
            let mut one = Replay::default();
            one.note(&[0; FIRST_MESSAGE_BYTES_MAX], &mut lender);
            if one.whole().is_none() {
                break;
            }
            kept.push(one);
        }
        assert_eq!(kept.len(), (8 << 20) / FIRST_MESSAGE_BYTES_MAX);
        kept.iter_mut().for_each(|one| one.forget(&mut lender));
        let mut one = Replay::default();
        one.note(b"again", &mut lender);
        assert!(one.whole().is_some());
    }
}
