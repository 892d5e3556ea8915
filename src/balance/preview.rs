//! Preview of a pick: what it would answer, without being one: nobody's turn is used up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::ask::{Ask, Pick};
use super::cursor::Cursor;
use super::{Algorithm, Picker};
use crate::config::settings::HashKey;
use crate::random::Random;

/// What would come of a pick at this moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Preview {
    /// This member.
    Member(u32),
    /// Chance decides: how often each that may be picked was drawn in some thousand tries, in thousandths, by index.
    Odds(Vec<(u32, u32)>),
    /// Each eligible member is full.
    Full,
    /// None is eligible.
    NoneEligible,
}

impl Picker {
    /// What [`Picker::pick`] would answer. Takes nobody's turn. A client whose port is 0 may come from any.
    pub fn preview(&self, ask: &Ask<'_>) -> Preview {
        // Whose turn it is, on a copy.
        let cursor = Cursor {
            turn: AtomicUsize::new(self.cursor.turn.load(Ordering::Relaxed)),
            scan_from: AtomicU32::new(self.cursor.scan_from.load(Ordering::Relaxed)),
        };
        let by_chance = match &self.algorithm {
            Algorithm::Random(_) | Algorithm::TwoChoices(_) | Algorithm::LeastLatency(_) => true,
            Algorithm::SourceHash(affinity) => is_any_port(ask.client, affinity.key()),
            Algorithm::RoundRobin(_)
            | Algorithm::LeastConnections
            | Algorithm::LeastBusy
            | Algorithm::First => false,
        };
        match self.pick_at(&cursor, ask) {
            Pick::Member(_) if by_chance => self.odds(&cursor, ask),
            Pick::Member(index) => Preview::Member(index),
            Pick::Full | Pick::Tried => Preview::Full,
            Pick::NoneEligible => Preview::NoneEligible,
        }
    }

    fn odds(&self, cursor: &Cursor, ask: &Ask<'_>) -> Preview {
        let mut drawn: Vec<(u32, u32)> = self.eligible.iter().map(|index| (*index, 0)).collect();
        let mut bits = Random::new(ask.random);
        // Where most members are full a pick looks at each: a large pool gets fewer tries, so that nobody waits for it.
        let tries =
            u32::try_from(LOOKS_MAX / self.eligible.len().max(1)).unwrap_or(TRIES).clamp(TRIES_MIN, TRIES);
        for _ in 0..tries {
            let ask = Ask { client: with_a_port(ask.client, &mut bits), random: bits.bits(), ..*ask };
            if let Pick::Member(index) = self.pick_at(cursor, &ask)
                && let Ok(place) = drawn.binary_search_by_key(&index, |(member, _)| *member)
            {
                drawn[place].1 += 1;
            }
        }
        drawn.retain(|(_, count)| *count > 0);
        drawn.iter_mut().for_each(|(_, count)| *count = (*count * 1_000 + tries / 2) / tries);
        Preview::Odds(drawn)
    }
}

/// Its port decides, and nobody said which that is.
fn is_any_port(client: SocketAddr, key: HashKey) -> bool {
    key == HashKey::SourceIpPort && client.port() == 0
}

/// The client; where no port was said, with one of those that systems give to clients.
fn with_a_port(client: SocketAddr, bits: &mut Random) -> SocketAddr {
    let port = match client.port() {
        0 => 1_024 + u16::try_from(bits.below(64_512)).unwrap_or(0),
        port => port,
    };
    SocketAddr::new(client.ip(), port)
}

/// Enough that a share is off by a percent or two at most.
const TRIES: u32 = 4_000;
const TRIES_MIN: u32 = 500;
/// Some 30 ms for the largest pool.
const LOOKS_MAX: usize = 1 << 24;
