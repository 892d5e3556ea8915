//! Refusals of a flow (ICMP errors): when they say that its backend is gone. Pure.
//!
//! One error moves nothing, for anyone can send one. What must stay true: an error counts only for a datagram that nobody has
//! answered yet, each datagram counts once, and an answer takes everything back. The backend's own host is believed the second
//! time. Other hosts, firewalls on the way and liars, are never believed by themselves: only the silence after them is.

/// What a flow has met since its backend answered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Refusals {
    /// Times something was sent.
    unanswered: u32,
    /// How often when the last refusal was counted.
    counted_at: u32,
    /// Refusals of the backend's own host.
    count: u32,
    /// Somebody said that the backend is gone.
    is_doubted: bool,
    /// Since when what was sent after that is not answered.
    silent_ms: Option<u64>,
}

/// Who sent an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// The backend's own address.
    Backend,
    /// Another one.
    Other,
}

impl Refusals {
    /// Those that the process before had counted.
    pub(super) fn import(count: u32) -> Self {
        Self { count, is_doubted: count > 0, ..Self::default() }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Something was sent to the backend.
    pub(super) fn sent(&mut self, now_ms: u64) {
        self.unanswered = self.unanswered.saturating_add(1);
        if self.is_doubted && self.silent_ms.is_none() {
            self.silent_ms = Some(now_ms);
        }
    }

    /// An error came. True: it is a refusal that counts.
    pub(super) fn note(&mut self, sender: Sender) -> bool {
        if self.unanswered == self.counted_at {
            return false;
        }
        self.is_doubted = true;
        let counts = sender == Sender::Backend;
        if counts {
            self.counted_at = self.unanswered;
            self.count = self.count.saturating_add(1);
        }
        counts
    }

    /// The backend is there, or was a moment ago.
    pub(super) fn is_doubted(&self) -> bool {
        self.is_doubted
    }

    /// The backend was refused twice in a row.
    pub(super) fn are_enough(&self) -> bool {
        self.count >= REFUSALS_ENOUGH
    }

    /// After an error the backend has said nothing for so long, although it was sent something.
    pub(super) fn is_silent(&self, now_ms: u64) -> bool {
        self.silent_ms.is_some_and(|since_ms| now_ms >= since_ms + SILENCE_MS)
    }
}

/// See [`Refusals::are_enough`].
const REFUSALS_ENOUGH: u32 = 2;
/// What a backend that lives answers in, and what players and resolvers wait for at most.
const SILENCE_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_refusal_of_another_datagram_is_enough() {
        let mut refusals = Refusals::default();
        assert!(!refusals.note(Sender::Backend), "nothing was sent");
        refusals.sent(5);
        assert!(refusals.note(Sender::Backend));
        assert!((0..1_000).all(|_| !refusals.note(Sender::Backend)), "one datagram, one refusal");
        assert!(!refusals.are_enough());
        refusals.sent(6);
        assert!(refusals.note(Sender::Backend) && refusals.are_enough());
    }

    #[test]
    fn others_are_believed_by_the_silence_after_them() {
        let mut refusals = Refusals::default();
        refusals.sent(5);
        assert!((0..1_000).all(|_| !refusals.note(Sender::Other)));
        assert!(!refusals.is_silent(100_000), "nothing was sent since");
        refusals.sent(10);
        refusals.note(Sender::Other);
        refusals.sent(500);
        assert!(!refusals.is_silent(1_009) && refusals.is_silent(1_010));
        assert!(!refusals.are_enough());
    }

    #[test]
    fn what_the_process_before_counted_goes_on() {
        let mut refusals = Refusals::import(1);
        assert!(!refusals.note(Sender::Backend));
        refusals.sent(7);
        assert!(refusals.note(Sender::Backend) && refusals.are_enough());
        assert_eq!(refusals.count(), 2);
    }
}
