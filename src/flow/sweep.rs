//! Timer wheel of flows: when to look at which: 4,096 ticks whose chains run through the records.
//!
//! A datagram writes its time into the record and touches nothing here. A flow whose tick comes is asked for its
//! deadline then: it is over, or it moves to the tick of that deadline. So an active flow costs one move per idle
//! timeout. Unlike [`crate::timer_wheel`] there is one level, and no tick moves more than its own flows at once: a
//! million idle flows of 60 s are looked at a thousand at a time. Deadlines beyond the wheel (262 s) are parked on it.

use super::slots::{NOBODY, Slots};

/// The chains of one table.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The first tick that is not done yet.
    next_tick: u64,
    heads: Box<[u32]>,
    /// One bit a chain: does it have a flow?
    filled: [u64; TICKS / 64],
}

impl Sweep {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            next_tick: now_ms / TICK_MS,
            heads: vec![NOBODY; TICKS].into_boxed_slice(),
            filled: [0; TICKS / 64],
        }
    }

    /// Puts a record that is in no chain where its deadline is.
    pub(super) fn link(&mut self, slots: &mut Slots, index: u32, deadline_ms: u64) {
        let ahead = deadline_ms.div_ceil(TICK_MS).saturating_sub(self.next_tick).min(MASK);
        // The mask keeps it below 4,096.
        #[allow(clippy::cast_possible_truncation)]
        let bucket = (self.next_tick.wrapping_add(ahead) & MASK) as u16;
        let place = usize::from(bucket);
        let after = std::mem::replace(&mut self.heads[place], index);
        self.filled[place / 64] |= 1 << (place % 64);
        if after != NOBODY {
            slots.at_mut(after).link.before = index;
        }
        let link = &mut slots.at_mut(index).link;
        (link.after, link.before, link.bucket) = (after, NOBODY, bucket);
    }

    /// Takes a record out of its chain.
    pub(super) fn unlink(&mut self, slots: &mut Slots, index: u32) {
        let link = slots.at(index).link;
        if link.after != NOBODY {
            slots.at_mut(link.after).link.before = link.before;
        }
        if link.before != NOBODY {
            slots.at_mut(link.before).link.after = link.after;
            return;
        }
        let place = usize::from(link.bucket);
        self.heads[place] = link.after;
        if link.after == NOBODY {
            self.filled[place / 64] &= !(1 << (place % 64));
        }
    }

    /// A flow to be looked at by `now_ms`: to be unlinked by the caller, and linked again if it is not over. `None`:
    /// all that were due have been looked at.
    pub(super) fn next_due(&mut self, now_ms: u64) -> Option<u32> {
        let now_tick = now_ms / TICK_MS;
        let behind = now_tick.checked_sub(self.next_tick)?;
        if behind >= 2 * TICKS as u64 {
            // The clock jumped: one whole turn meets every flow there is, so whole turns before it are left out.
            self.next_tick += (behind / TICKS as u64 - 1) * TICKS as u64;
        }
        while self.next_tick <= now_tick {
            let ahead = (now_tick - self.next_tick + 1).min(TICKS as u64);
            match self.first_filled(ahead) {
                Some(passed) => {
                    self.next_tick += passed;
                    return Some(self.heads[self.place(0)]);
                }
                None => self.next_tick += ahead,
            }
        }
        None
    }

    /// When there may be something to look at next; `None`: no flow at all.
    pub(super) fn next_wake_ms(&self) -> Option<u64> {
        let passed = self.first_filled(TICKS as u64)?;
        Some(self.next_tick.saturating_add(passed).saturating_mul(TICK_MS))
    }

    /// Bytes of the chains' heads.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.heads)
    }

    /// How far the first chain with a flow is, among so many ticks.
    fn first_filled(&self, ticks: u64) -> Option<u64> {
        let mut passed = 0;
        while passed < ticks {
            let place = self.place(passed);
            let bits = self.filled[place / 64] >> (place % 64);
            if bits != 0 {
                passed += u64::from(bits.trailing_zeros());
                return (passed < ticks).then_some(passed);
            }
            passed += 64 - (place as u64 % 64);
        }
        None
    }

    fn place(&self, ahead: u64) -> usize {
        // The mask keeps it below 4,096.
        #[allow(clippy::cast_possible_truncation)]
        let place = (self.next_tick.wrapping_add(ahead) & MASK) as usize;
        place
    }
}

/// How exact a deadline is.
pub(super) const TICK_MS: u64 = 64;
/// 262 s of them.
const TICKS: usize = 4_096;
const MASK: u64 = TICKS as u64 - 1;
