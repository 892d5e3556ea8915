//! What a pick would answer, without being one: nobody's turn is used up.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::{Algorithm, Ask, Cursor, Pick, Picker};

/// What would come of a pick at this moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Foresight {
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
    /// What [`Picker::pick`] would answer. Takes nobody's turn.
    pub fn foresee(&self, ask: &Ask<'_>) -> Foresight {
        // Whose turn it is, on a copy.
        let cursor = Cursor {
            turn: AtomicUsize::new(self.cursor.turn.load(Ordering::Relaxed)),
            scan_from: AtomicU32::new(self.cursor.scan_from.load(Ordering::Relaxed)),
        };
        let by_chance = matches!(
            self.algorithm,
            Algorithm::Random(_) | Algorithm::TwoChoices(_) | Algorithm::LeastLatency(_)
        );
        match self.pick_at(&cursor, ask) {
            Pick::Member(_) if by_chance => self.odds(&cursor, ask),
            Pick::Member(index) => Foresight::Member(index),
            Pick::Full | Pick::Tried => Foresight::Full,
            Pick::NoneEligible => Foresight::NoneEligible,
        }
    }

    fn odds(&self, cursor: &Cursor, ask: &Ask<'_>) -> Foresight {
        let mut drawn: Vec<(u32, u32)> = self.eligible.iter().map(|index| (*index, 0)).collect();
        let mut random = ask.random;
        for _ in 0..TRIES {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let ask = Ask { random: random ^ random >> 29, ..*ask };
            if let Pick::Member(index) = self.pick_at(cursor, &ask)
                && let Some((_, count)) = drawn.iter_mut().find(|(member, _)| *member == index)
            {
                *count += 1;
            }
        }
        drawn.retain(|(_, count)| *count > 0);
        drawn.iter_mut().for_each(|(_, count)| *count = (*count * 1_000 + TRIES / 2) / TRIES);
        Foresight::Odds(drawn)
    }
}

/// Enough that a share is off by a percent or two at most.
const TRIES: u32 = 4_000;
