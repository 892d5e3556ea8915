//! Flow table: finding, admitting, accounting and ending UDP flows.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::key::StoredKey;
use super::slots::{NOBODY, Record, Slots};
use super::sweep::Sweep;
use super::{Ended, Flow, FlowId, FlowKey, FlowRecord, Terms};
use crate::reason::Reason;

/// The flows of one data thread.
#[derive(Debug)]
pub struct Flows {
    hasher: SipHasher13,
    /// Index and half a hash of every live flow.
    index: HashTable<(u32, u32)>,
    slots: Slots,
    sweep: Sweep,
    draining: bool,
    ended_first: u32,
    ended_last: u32,
}

/// What the table says to a datagram of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It belongs to this flow.
    Known(FlowId),
    /// It begins this flow: the caller picks a backend, or ends the flow.
    New(FlowId),
    /// It is dropped: `drained`, `denied`, one of the `limit_…` words.
    Shed(Reason),
}

/// What became of a flow that a backend answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It goes on.
    On,
    /// Every expected reply has come: forward this one, then take the ended.
    Complete,
    /// There is no such flow any more: nothing may be forwarded.
    Nobody,
}

impl Flows {
    /// An empty table. `hash_key` is random and told to nobody; `now_ms` is the clock that later calls go on with.
    pub fn new(hash_key: [u8; 16], now_ms: u64) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&hash_key),
            index: HashTable::new(),
            slots: Slots::new(),
            sweep: Sweep::new(now_ms),
            draining: false,
            ended_first: NOBODY,
            ended_last: NOBODY,
        }
    }

    /// Whose is a datagram with this key? In this order: a known flow, draining, `denied`, the limits; only then a new
    /// flow is made. Counts nothing: [`Self::on_client`] follows.
    pub fn admit(
        &mut self,
        key: &FlowKey,
        now_ms: u64,
        terms: &Arc<Terms>,
        denied: impl FnOnce() -> bool,
    ) -> Admission {
        self.admit_for(key, key.client.ip(), now_ms, terms, denied)
    }

    /// The same for a datagram that its sender hands on for somebody else: a new flow is counted for that source.
    pub fn admit_for(
        &mut self,
        key: &FlowKey,
        source: IpAddr,
        now_ms: u64,
        terms: &Arc<Terms>,
        denied: impl FnOnce() -> bool,
    ) -> Admission {
        let stored = StoredKey::new(key);
        let full_hash = stored.hash(&self.hasher);
        // The low half: two flows that share it are told apart by their keys.
        #[allow(clippy::cast_possible_truncation)]
        let hash = full_hash as u32;
        let slots = &self.slots;
        let is_it = |&(index, half): &(u32, u32)| half == hash && slots.at(index).key == stored;
        if let Some(&(index, _)) = self.index.find(spread(hash), is_it) {
            return Admission::Known(self.id(index));
        }
        if self.draining || terms.draining.is_on() {
            return Admission::Shed(Reason::Drained);
        }
        if denied() {
            return Admission::Shed(Reason::Denied);
        }
        let permit = match terms.limits.take(source, now_ms.saturating_mul(1_000_000)) {
            Ok(permit) => permit,
            Err(reason) => return Admission::Shed(reason),
        };
        let Some(index) = self.slots.take() else {
            terms.limits.give_back(permit);
            return Admission::Shed(Reason::LimitProcess);
        };
        let record = self.slots.at_mut(index);
        *record = Record {
            key: stored,
            hash,
            terms: Some(Arc::clone(terms)),
            permit: Some(permit),
            began_ms: now_ms,
            client_ms: now_ms,
            backend_ms: now_ms,
            lifetime_end_ms: lifetime_end_ms(terms, now_ms, full_hash),
            ..Record::free(record.generation)
        };
        let (deadline_ms, _) = record.deadline();
        self.sweep.link(&mut self.slots, index, deadline_ms);
        self.index.insert_unique(spread(hash), (index, hash), |&(_, half)| spread(half));
        Admission::New(self.id(index))
    }

    /// How many datagrams of the client may still go to the backend the flow has; `None`: any number. The rest waits for a
    /// new pick and [`Self::picked_anew`].
    pub fn requests_left(&self, id: FlowId) -> Option<u32> {
        let record = self.slots.live(id)?;
        let requests = record.terms.as_ref().and_then(|terms| terms.requests)?;
        Some(requests.get().saturating_sub(record.since_pick))
    }

    /// The client sent so much to the backend the flow has.
    pub fn on_client(&mut self, id: FlowId, datagrams: u32, bytes: u64, now_ms: u64) {
        let Some(record) = self.slots.live_mut(id) else { return };
        record.client_ms = record.client_ms.max(now_ms);
        record.to_backend.add(datagrams, bytes);
        record.since_pick = record.since_pick.saturating_add(datagrams);
        if let Some(responses) = record.terms.as_ref().and_then(|terms| terms.responses) {
            record.owed = record.owed.saturating_add(datagrams.saturating_mul(responses.get()));
        }
    }

    /// The flow's backend sent so much.
    pub fn on_backend(&mut self, id: FlowId, datagrams: u32, bytes: u64, now_ms: u64) -> Heard {
        let Some(record) = self.slots.live_mut(id) else { return Heard::Nobody };
        record.backend_ms = record.backend_ms.max(now_ms);
        record.to_client.add(datagrams, bytes);
        if record.owed == 0 {
            return Heard::On;
        }
        record.owed = record.owed.saturating_sub(datagrams);
        if record.owed > 0 {
            return Heard::On;
        }
        self.finish(id.index, Reason::Responses);
        Heard::Complete
    }

    /// The flow has a new pick because of `udp.requests`: its datagrams are counted from 0 again.
    pub fn picked_anew(&mut self, id: FlowId) {
        if let Some(record) = self.slots.live_mut(id) {
            record.since_pick = 0;
        }
    }

    /// The flow has another backend because its own went down. Of what the client sent before, `resent` datagrams go
    /// to the new one as well; nobody will answer the others.
    pub fn rehomed(&mut self, id: FlowId, resent: u32) {
        let Some(record) = self.slots.live_mut(id) else { return };
        record.rehomed = record.rehomed.saturating_add(1);
        record.since_pick = resent;
        if let Some(responses) = record.terms.as_ref().and_then(|terms| terms.responses) {
            record.owed = resent.saturating_mul(responses.get());
        }
    }

    /// Ends a flow. False: it is over already.
    pub fn end(&mut self, id: FlowId, reason: Reason) -> bool {
        let live = self.slots.live(id).is_some();
        if live {
            self.finish(id.index, reason);
        }
        live
    }

    /// Ends every flow.
    pub fn end_all(&mut self, reason: Reason) {
        let live: Vec<FlowId> = self.slots.live_ids().collect();
        for id in live {
            self.finish(id.index, reason);
        }
    }

    /// From now on only known flows are served.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Ends the flows that are too quiet or too old, looking at no more than `most`. True: there may be more, so another
    /// call with the same time is due, after others had their turn.
    pub fn sweep(&mut self, now_ms: u64, most: usize) -> bool {
        for _ in 0..most {
            let Some(index) = self.sweep.next_due(now_ms) else { return false };
            let (deadline_ms, reason) = self.slots.at(index).deadline();
            if deadline_ms <= now_ms {
                self.finish(index, reason);
            } else {
                self.sweep.unlink(&mut self.slots, index);
                self.sweep.link(&mut self.slots, index, deadline_ms);
            }
        }
        true
    }

    /// When [`Self::sweep`] has something to do next; `None` while there is no flow. It may lie in the past.
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.sweep.next_wake_ms()
    }

    /// A flow that is over, in the order of the ends. Its place in the limits and its index are free from here on.
    pub fn take_ended(&mut self) -> Option<Ended> {
        let index = self.ended_first;
        if index == NOBODY {
            return None;
        }
        let id = self.id(index);
        let record = self.slots.at_mut(index);
        let flow = record.flow();
        // What is in this chain has ended, and only then `end` is set.
        let reason = record.end.unwrap_or(Reason::InternalError);
        let held = record.terms.take().zip(record.permit.take());
        self.ended_first = record.link.after;
        if self.ended_first == NOBODY {
            self.ended_last = NOBODY;
        }
        self.slots.give_back(index);
        if let Some((terms, permit)) = held {
            terms.limits.give_back(permit);
        }
        Some(Ended { id, reason, flow })
    }

    /// A live flow as it stands.
    pub fn get(&self, id: FlowId) -> Option<Flow> {
        self.slots.live(id).map(Record::flow)
    }

    /// Everything that is known of a live flow.
    pub fn record(&self, id: FlowId) -> Option<FlowRecord> {
        let record = self.slots.live(id)?;
        let (owed, since_pick) = (record.owed, record.since_pick);
        Some(FlowRecord { flow: record.flow(), owed, since_pick, lifetime_end_ms: record.lifetime_end_ms })
    }

    /// Goes on with a flow of the process before, which is counted for `source`, whatever the limits. `None`: its key is
    /// there already, or the table is full.
    pub fn import(&mut self, record: &FlowRecord, source: IpAddr, terms: &Arc<Terms>) -> Option<FlowId> {
        let flow = &record.flow;
        let stored = StoredKey::new(&flow.key);
        // The low half, as at the admission.
        #[allow(clippy::cast_possible_truncation)]
        let hash = stored.hash(&self.hasher) as u32;
        let slots = &self.slots;
        let is_it = |&(index, half): &(u32, u32)| half == hash && slots.at(index).key == stored;
        if self.index.find(spread(hash), is_it).is_some() {
            return None;
        }
        let index = self.slots.take()?;
        let record = self.slots.at_mut(index);
        *record = Record {
            key: stored,
            hash,
            terms: Some(Arc::clone(terms)),
            permit: Some(terms.limits.import(source)),
            began_ms: flow.began_ms,
            client_ms: flow.client_ms,
            backend_ms: flow.backend_ms,
            to_backend: flow.to_backend,
            to_client: flow.to_client,
            rehomed: flow.rehomed,
            owed: record.owed,
            since_pick: record.since_pick,
            lifetime_end_ms: record.lifetime_end_ms,
            ..Record::free(record.generation)
        };
        let (deadline_ms, _) = record.deadline();
        self.sweep.link(&mut self.slots, index, deadline_ms);
        self.index.insert_unique(spread(hash), (index, hash), |&(_, half)| spread(half));
        Some(self.id(index))
    }

    /// Where to answer a live flow: its client, and the address of ours that the client knows. Cheaper than
    /// [`Self::get`].
    pub fn key(&self, id: FlowId) -> Option<FlowKey> {
        self.slots.live(id).map(|record| record.key.key())
    }

    /// Every live flow. A walk over the table.
    pub fn iter(&self) -> impl Iterator<Item = FlowId> {
        self.slots.live_ids()
    }

    /// Flows that live; those that ended and were not taken yet are not among them.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// No flow lives.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes the table holds, what it keeps for flows to come included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.slots.bytes() + self.index.allocation_size() + self.sweep.bytes()
    }

    fn id(&self, index: u32) -> FlowId {
        FlowId { index, generation: self.slots.at(index).generation }
    }

    /// Takes a live flow out of everything and puts it at the end of the ended ones.
    fn finish(&mut self, index: u32, reason: Reason) {
        self.sweep.unlink(&mut self.slots, index);
        let record = self.slots.at_mut(index);
        record.end = Some(reason);
        record.link.after = NOBODY;
        let hash = record.hash;
        if let Ok(entry) = self.index.find_entry(spread(hash), |&(found, _)| found == index) {
            entry.remove();
        }
        match std::mem::replace(&mut self.ended_last, index) {
            NOBODY => self.ended_first = index,
            last => self.slots.at_mut(last).link.after = index,
        }
    }
}

impl Drop for Flows {
    /// The limits outlive the table: what its flows hold of them goes back.
    fn drop(&mut self) {
        self.end_all(Reason::Shutdown);
        while self.take_ended().is_some() {}
    }
}

/// The index takes a place from the low bits of a hash and a tag from the highest: both from one half.
fn spread(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

/// When a flow that begins now has lived its time: give or take 10 %, by the half of its hash that chooses no place, so
/// that flows that began together do not end together.
fn lifetime_end_ms(terms: &Terms, now_ms: u64, hash: u64) -> u64 {
    let Some(lifetime_ms) = terms.lifetime_ms else { return u64::MAX };
    let tenth = u128::from(lifetime_ms / 10);
    let offset = (tenth * 2 * u128::from(hash >> 32)) >> 32;
    let lifetime_ms = u128::from(lifetime_ms) - tenth + offset;
    now_ms.saturating_add(u64::try_from(lifetime_ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
#[path = "flows_tests.rs"]
mod tests;
