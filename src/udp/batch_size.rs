//! Batch size of receives, adaptive: how many datagrams the next look at a socket asks for. One is had cheapest by
//! asking for one; a queue, by asking for many. Asking for two where there is one costs a vain look inside the kernel,
//! so a single full look proves nothing: the socket must be full again in the very next turn.

/// Of one socket.
#[derive(Debug, Clone, Copy)]
pub struct BatchSize {
    asks: usize,
    /// The turn in which as many came as were asked for.
    full_turn: u64,
}

impl BatchSize {
    /// How many to ask for.
    pub(super) fn asks(&self) -> usize {
        self.asks
    }

    /// So many came in this turn. It never asks for more than `most`.
    pub(super) fn note(&mut self, came: usize, turn: u64, most: usize) {
        if came < self.asks {
            self.asks = came.max(1);
            return;
        }
        if turn == self.full_turn + 1 {
            self.asks = most.min(self.asks * 2);
        }
        self.full_turn = turn;
    }
}

impl Default for BatchSize {
    fn default() -> Self {
        // Far from any turn.
        Self { asks: 1, full_turn: u64::MAX / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_asked_for_more_and_a_single_datagram_for_one() {
        let mut batch_size = BatchSize::default();
        let mut after = |came, turn| {
            batch_size.note(came, turn, 8);
            batch_size.asks()
        };
        // One now and then.
        assert_eq!([after(1, 0), after(1, 2), after(1, 4)], [1, 1, 1]);
        // A queue.
        assert_eq!([after(1, 5), after(2, 6), after(4, 7), after(8, 8)], [2, 4, 8, 8]);
        // It ends.
        assert_eq!([after(3, 9), after(0, 10)], [3, 1]);
    }
}
