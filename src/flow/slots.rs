//! Flow storage (slab): pieces of 1,024 records that never move, and the chain of free ones.

use std::sync::Arc;

use super::key::{GENERATION_MASK, StoredKey};
use super::{Flow, FlowId, Terms, Traffic};
use crate::limits::Permit;
use crate::reason::Reason;

/// Everything that is kept of one flow. 160 bytes; what a look-up reads comes first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Record {
    pub(super) key: StoredKey,
    pub(super) generation: u32,
    /// Replies that are still to come.
    pub(super) owed: u32,
    pub(super) client_ms: u64,
    pub(super) backend_ms: u64,
    pub(super) to_backend: Traffic,
    pub(super) to_client: Traffic,
    /// Nobody's record has none.
    pub(super) terms: Option<Arc<Terms>>,
    /// Datagrams of the client since the last pick.
    pub(super) since_pick: u32,
    pub(super) link: Link,
    pub(super) rehomed: u32,
    /// The low half of the key's hash: a look-up compares it first, and a growing index needs no look at the record.
    pub(super) hash: u32,
    pub(super) began_ms: u64,
    /// `u64::MAX`: its life is not limited.
    pub(super) lifetime_end_ms: u64,
    pub(super) permit: Option<Permit>,
    pub(super) end: Option<Reason>,
}

/// A record's neighbours in the chain it is in: one of the sweep, the ended ones, or the free ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) after: u32,
    pub(super) before: u32,
    pub(super) bucket: u16,
}

/// All records of a table.
#[derive(Debug)]
pub(super) struct Slots {
    pieces: Vec<Box<[Record; PIECE]>>,
    free: u32,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new(), free: NOBODY }
    }

    /// A free record. Allocates when there is none; `None` when no number is left for more.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free == NOBODY {
            self.grow()?;
        }
        let index = self.free;
        self.free = self.at(index).link.after;
        Some(index)
    }

    /// Nobody's again: no number that was handed out names it any more.
    pub(super) fn give_back(&mut self, index: u32) {
        let free = std::mem::replace(&mut self.free, index);
        let record = self.at_mut(index);
        record.generation = (record.generation + 1) & GENERATION_MASK;
        record.link.after = free;
        record.terms = None;
        record.end = None;
    }

    pub(super) fn at(&self, index: u32) -> &Record {
        &self.pieces[index as usize / PIECE][index as usize % PIECE]
    }

    pub(super) fn at_mut(&mut self, index: u32) -> &mut Record {
        &mut self.pieces[index as usize / PIECE][index as usize % PIECE]
    }

    /// The flow of this number, unless it is over.
    pub(super) fn live(&self, id: FlowId) -> Option<&Record> {
        let record = self.pieces.get(id.index as usize / PIECE)?.get(id.index as usize % PIECE)?;
        record.is(id).then_some(record)
    }

    pub(super) fn live_mut(&mut self, id: FlowId) -> Option<&mut Record> {
        let record = self.pieces.get_mut(id.index as usize / PIECE)?.get_mut(id.index as usize % PIECE)?;
        record.is(id).then_some(record)
    }

    /// Every live flow.
    pub(super) fn live_ids(&self) -> impl Iterator<Item = FlowId> {
        let all = (0_u32..).zip(self.pieces.iter().flat_map(|piece| piece.iter()));
        all.filter(|(_, record)| record.terms.is_some() && record.end.is_none())
            .map(|(index, record)| FlowId { index, generation: record.generation })
    }

    /// Bytes that the records take.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.len() * size_of::<[Record; PIECE]>() + self.pieces.capacity() * size_of::<usize>()
    }

    fn grow(&mut self) -> Option<()> {
        let first = u32::try_from(self.pieces.len() * PIECE).ok()?;
        // The number that means nobody is never given.
        let last = first.checked_add(u32::try_from(PIECE).ok()?)?.checked_sub(1)?;
        let chained = |index| {
            let mut record = Record::free(0);
            record.link.after = if index == last { NOBODY } else { index + 1 };
            record
        };
        let piece: Vec<Record> = (first..=last).map(chained).collect();
        self.pieces.push(piece.into_boxed_slice().try_into().ok()?);
        self.free = first;
        Some(())
    }
}

impl Record {
    /// Nobody's, in no chain.
    pub(super) fn free(generation: u32) -> Self {
        Self {
            key: StoredKey::default(),
            generation,
            owed: 0,
            client_ms: 0,
            backend_ms: 0,
            to_backend: Traffic::default(),
            to_client: Traffic::default(),
            terms: None,
            since_pick: 0,
            link: Link { after: NOBODY, before: NOBODY, bucket: 0 },
            rehomed: 0,
            hash: 0,
            began_ms: 0,
            lifetime_end_ms: u64::MAX,
            permit: None,
            end: None,
        }
    }

    fn is(&self, id: FlowId) -> bool {
        self.generation == id.generation && self.end.is_none() && self.terms.is_some()
    }

    /// When it is over if nobody sends anything more.
    pub(super) fn deadline(&self) -> (u64, Reason) {
        let idle_ms = self.terms.as_ref().and_then(|terms| terms.idle_ms).unwrap_or(u64::MAX);
        let quiet_ms = self.client_ms.max(self.backend_ms).saturating_add(idle_ms);
        if self.lifetime_end_ms < quiet_ms {
            (self.lifetime_end_ms, Reason::Lifetime)
        } else {
            (quiet_ms, Reason::Idle)
        }
    }

    pub(super) fn flow(&self) -> Flow {
        Flow {
            key: self.key.key(),
            began_ms: self.began_ms,
            client_ms: self.client_ms,
            backend_ms: self.backend_ms,
            to_backend: self.to_backend,
            to_client: self.to_client,
            rehomed: self.rehomed,
        }
    }
}

/// No record has this number.
pub(super) const NOBODY: u32 = u32::MAX;
/// Records allocated at once: some 150 KiB, so that no datagram waits for more to be written.
const PIECE: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Record>() <= 160, "{}", size_of::<Record>());
    }

    #[test]
    fn a_place_is_reused_under_another_number() {
        let mut slots = Slots::new();
        let taken: Vec<u32> = (0..3_000).map(|_| slots.take().unwrap()).collect();
        assert!((0..).zip(&taken).all(|(number, index)| number == *index));
        let bytes = slots.bytes();
        for index in taken {
            slots.give_back(index);
        }
        let again = slots.take().unwrap();
        assert_eq!((again, slots.at(again).generation, slots.bytes()), (2_999, 1, bytes));
    }
}
