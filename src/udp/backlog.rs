//! Send backlog of a door: replies that its socket had no room for, until it has. They leave in the order in which they came.
//!
//! The kernel's own buffer is the first place to wait, and enough where it may be as large as the file wants it. What waits
//! here is copied, so nothing of a batch is held up; it is bounded by `udp.send_buffer`, and what is beyond that is dropped
//! and counted.

use std::collections::VecDeque;

use crate::sys::udp_batch::Outgoing;

/// What waits at one door.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// A reply that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) bytes: Box<[u8]>,
    /// To whom, from where, with which mark. Its slot means nothing.
    pub(super) outgoing: Outgoing,
}

impl Backlog {
    /// False: no room within `bytes_max`.
    pub(super) fn push(&mut self, bytes: &[u8], outgoing: Outgoing, bytes_max: usize) -> bool {
        let length = bytes.len() + WAITING_BYTES;
        if self.bytes + length > bytes_max {
            return false;
        }
        self.bytes += length;
        self.waiting.push_back(Waiting { bytes: bytes.into(), outgoing });
        true
    }

    /// The one that came first.
    pub(super) fn first(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the first away.
    pub(super) fn pop(&mut self) {
        if let Some(first) = self.waiting.pop_front() {
            self.bytes -= first.bytes.len() + WAITING_BYTES;
        }
    }
}

/// What is kept of a reply besides its bytes, and what keeping it costs: an empty one is not free.
const WAITING_BYTES: usize = size_of::<Waiting>() + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_leaves_in_order() {
        let one = Outgoing { slot: 0, start: 0, length: 100, to: None, from: None, part: None, mark: 0 };
        let mut backlog = Backlog::default();
        let bytes_max = 3 * (100 + WAITING_BYTES);
        let taken = [1, 2, 3, 4].map(|byte| backlog.push(&[byte; 100], one, bytes_max));
        assert_eq!(taken, [true, true, true, false]);
        backlog.pop();
        assert!(backlog.push(&[5; 100], one, bytes_max));
        let order: Vec<u8> = backlog.waiting.iter().map(|waiting| waiting.bytes[0]).collect();
        assert_eq!(order, [2, 3, 5]);
        (0..4).for_each(|_| backlog.pop());
        assert_eq!((backlog.bytes, backlog.waiting.len()), (0, 0));
        let empty = (0..).take_while(|_| backlog.push(&[], one, bytes_max)).count();
        assert!(empty <= bytes_max / WAITING_BYTES, "{empty}");
    }
}
