//! Tokens of the poller (epoll user data): the numbers under which sockets are watched: what became ready, found again
//! without a look-up.

/// What a watched descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The thread's mailbox.
    Mailbox,
    /// A door, by its number.
    Door(u32),
    /// A door of datagrams, by its number.
    DatagramDoor(u32),
    /// The socket of a flow towards its backend; its 61 bits name the flow.
    Flow(u64),
    /// One side of a session. The generation tells a session from its successors in the same slot: events of one that
    /// ended earlier in the same batch match nobody.
    Session {
        /// Where it stands in the table.
        slot: u32,
        /// Which of the slot's sessions.
        generation: u32,
        /// Which of its sides: 0 the client, 1 the backend.
        side: usize,
    },
}

impl Token {
    /// As the number for the kernel: a session's is 0 (1 bit), generation (30), side (1), slot (32).
    pub fn pack(self) -> u64 {
        match self {
            Self::Mailbox => u64::MAX,
            Self::Door(number) => NO_SESSION | u64::from(number),
            Self::DatagramDoor(number) => NO_SESSION | DATAGRAM_DOOR | u64::from(number),
            Self::Flow(id) => NO_SESSION | FLOW | id & (FLOW - 1),
            Self::Session { slot, generation, side } => {
                u64::from(generation & GENERATION_MASK) << 33 | (side as u64) << 32 | u64::from(slot)
            }
        }
    }

    /// Back from the number.
    // Each part is masked or shifted to its width first.
    #[allow(clippy::cast_possible_truncation)]
    pub fn unpack(packed: u64) -> Self {
        let low = (packed & u64::from(u32::MAX)) as u32;
        if packed == u64::MAX {
            Self::Mailbox
        } else if packed & NO_SESSION != 0 {
            match packed & (DATAGRAM_DOOR | FLOW) {
                0 => Self::Door(low),
                DATAGRAM_DOOR => Self::DatagramDoor(low),
                _ => Self::Flow(packed & (FLOW - 1)),
            }
        } else {
            let generation = (packed >> 33) as u32 & GENERATION_MASK;
            Self::Session { slot: low, generation, side: usize::from(packed >> 32 & 1 == 1) }
        }
    }
}

/// Generations wrap here: an event would have to sleep through a billion sessions of its slot to be taken for another's.
pub const GENERATION_MASK: u32 = (1 << 30) - 1;
const NO_SESSION: u64 = 1 << 63;
const DATAGRAM_DOOR: u64 = 1 << 62;
const FLOW: u64 = 1 << 61;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_comes_back() {
        let mut tokens = vec![Token::Mailbox, Token::Door(0), Token::Door(u32::MAX)];
        tokens.extend([
            Token::DatagramDoor(0),
            Token::DatagramDoor(u32::MAX),
            Token::Flow(0),
            Token::Flow((1 << 61) - 1),
        ]);
        for slot in [0, 1, u32::MAX] {
            for generation in [0, 1, GENERATION_MASK] {
                tokens.extend([0, 1].map(|side| Token::Session { slot, generation, side }));
            }
        }
        for token in tokens {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
