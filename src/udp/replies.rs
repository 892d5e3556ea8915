//! Replies, from a backend back to the client: through the door it came in by, from the address it had sent to.

use std::ops::Range;
use std::os::fd::AsFd;

use super::pump::Pump;
use super::segments::{parts, parts_of, parts_of_outgoing};
use crate::flow::FlowId;
use crate::metrics::{Direction, Drop};
use crate::sys::Errno;
use crate::sys::udp_batch::Outgoing;
use crate::thread_context::{ThreadContext, Token};

impl Pump {
    /// Takes what a backend has to say, one turn's worth.
    pub(super) fn hear(&mut self, id: FlowId, cx: &mut ThreadContext) {
        if self.replies.room() < REPLIES_PER_TURN {
            self.send_replies(cx);
        }
        let first = self.replies.received().len();
        let Some(side) = self.sides.get_mut(id.index as usize).and_then(Option::as_mut) else { return };
        if side.id != id {
            return;
        }
        let asks = side.upstream.batch_size.asks();
        let mut outcome = self.replies.receive(side.upstream.fd(), asks);
        // An error of a datagram that had left: once it is taken, answers behind it are had.
        if outcome.is_err() && side.upstream.take_errors(&side.terms.listener, cx) > 0 {
            outcome = self.replies.receive(side.upstream.fd(), asks);
        }
        let Ok(came) = outcome else { return };
        side.upstream.batch_size.note(came, self.turn, REPLIES_PER_TURN);
        let counts = side.terms.counters.shards.of(cx.worker);
        let (mut datagrams, mut bytes) = (0, 0);
        for slot in first..first + came {
            let told = self.replies.received()[slot];
            if told.from != side.upstream.backend {
                counts.dropped(Drop::Stranger).add(parts_of(&told).into());
            } else if told.cut {
                counts.dropped(Drop::Cut).add(1);
            } else if let Some(door) = self.doors.get(side.door) {
                datagrams += parts_of(&told);
                bytes += told.length as u64;
                let whole = door.reply(slot, &told, side.client, side.local.ip());
                if whole.part.is_some() && (!self.splits || side.takes_no_parts) {
                    self.leaving.extend(parts(whole));
                } else {
                    self.leaving.push(whole);
                }
                self.leaving_of.resize(self.leaving.len(), (side.door, id));
            }
        }
        if datagrams > 0 {
            side.upstream.note_answered(cx);
            let backend = side.upstream.lease().backend().shards.of(cx.worker);
            backend.bytes(Direction::ToClient).add(bytes);
            self.flows.on_backend(id, datagrams, bytes, cx.now_ms());
        }
    }

    /// Sends what leaves through the doors, as many with one call as go through the same one.
    pub(super) fn send_replies(&mut self, cx: &ThreadContext) {
        let leaving = std::mem::take(&mut self.leaving);
        let mut first = 0;
        while first < leaving.len() {
            let (door, _) = self.leaving_of[first];
            let same = self.leaving_of[first..].iter().take_while(|(of, _)| *of == door).count();
            self.send_through(door, &leaving, first..first + same, cx);
            first += same;
        }
        self.leaving = leaving;
        self.leaving.clear();
        self.leaving_of.clear();
        self.replies.clear();
    }

    fn send_through(&mut self, door: u32, leaving: &[Outgoing], which: Range<usize>, cx: &ThreadContext) {
        let (number, Range { mut start, end }) = (door, which);
        if self.has_backlog(number) {
            self.hold_back(number, &leaving[start..end], cx);
            return;
        }
        while start < end {
            let Some(door) = self.doors.get(number) else { return };
            let counts = door.terms.counters.shards.of(cx.worker);
            start += match self.replies.send(door.fd.as_fd(), &leaving[start..end]) {
                Ok(sent) => {
                    let sent = sent.max(1);
                    for outgoing in &leaving[start..start + sent] {
                        counts.datagrams(Direction::ToClient).add(parts_of_outgoing(outgoing));
                        counts.bytes(Direction::ToClient).add(outgoing.length as u64);
                    }
                    sent
                }
                Err(errno @ (Errno::INVAL | Errno::IO | Errno::MSGSIZE)) if leaving[start].part.is_some() => {
                    self.reply_in_parts(self.leaving_of[start], leaving[start], errno, cx);
                    1
                }
                Err(Errno::AGAIN) => {
                    self.hold_back(number, &leaving[start..end], cx);
                    return;
                }
                // One client that cannot be reached: this one is lost, the next has its chance.
                Err(_) => {
                    counts.dropped(Drop::ToClient).add(parts_of_outgoing(&leaving[start]));
                    1
                }
            };
        }
    }

    /// Sends the parts of one merged reply as datagrams of their own, after `errno` for the whole. When the first passes
    /// so, it was the merging, and what comes later for this client does not try it again.
    fn reply_in_parts(&mut self, of: (u32, FlowId), whole: Outgoing, errno: Errno, cx: &ThreadContext) {
        let (number, id) = of;
        for part in parts(whole) {
            let Some(door) = self.doors.get(number) else { return };
            let counts = door.terms.counters.shards.of(cx.worker);
            let is_held_up = self.has_backlog(number);
            let sent = if is_held_up {
                Err(Errno::AGAIN)
            } else {
                self.replies.send(door.fd.as_fd(), &[part]).map(drop)
            };
            match sent {
                Ok(()) => {}
                Err(Errno::AGAIN) => {
                    self.hold_back(number, &[part], cx);
                    continue;
                }
                Err(_) => {
                    counts.dropped(Drop::ToClient).add(1);
                    continue;
                }
            }
            counts.datagrams(Direction::ToClient).add(1);
            counts.bytes(Direction::ToClient).add(part.length as u64);
            // Its place may have another flow by now, or none.
            let side =
                self.sides.get_mut(id.index as usize).and_then(Option::as_mut).filter(|side| side.id == id);
            if let Some(side) = side
                && part.start == whole.start
                && !std::mem::replace(&mut side.takes_no_parts, true)
            {
                self.gso_fallback.note(&side.terms.listener, side.client, errno, cx.now_ms());
            }
        }
    }
}

impl Pump {
    /// Something waits at this door: what comes for it waits behind.
    pub(super) fn has_backlog(&self, door: u32) -> bool {
        !self.backlogs.is_empty() && self.backlogs.contains_key(&door)
    }

    /// The door's socket is full: these replies wait until it has room.
    pub(super) fn hold_back(&mut self, number: u32, leaving: &[Outgoing], cx: &ThreadContext) {
        let Some(door) = self.doors.get(number) else { return };
        let counts = door.terms.counters.shards.of(cx.worker);
        if !self.backlogs.contains_key(&number)
            && cx.poller.watch_room(&door.fd, Token::DatagramDoor(number).pack(), true).is_err()
        {
            // Nobody would say when there is room.
            counts.dropped(Drop::SendBuffer).add(leaving.iter().map(parts_of_outgoing).sum());
            return;
        }
        let backlog = self.backlogs.entry(number).or_default();
        for whole in leaving {
            // An empty datagram has no parts, and is one.
            let whole_one = Some(*whole).filter(|whole| parts_of_outgoing(whole) < 2);
            for piece in whole_one.into_iter().chain(parts(*whole).filter(|_| whole_one.is_none())) {
                let bytes = &self.replies.bytes(piece.slot)[piece.start..][..piece.length];
                let one = Outgoing { slot: 0, start: 0, part: None, ..piece };
                if !backlog.push(bytes, one, door.terms.send_buffer) {
                    counts.dropped(Drop::SendBuffer).add(1);
                }
            }
        }
    }

    /// The door's socket may have room: what waits leaves, one turn's worth.
    pub(super) fn send_backlog(&mut self, number: u32, cx: &ThreadContext) {
        if !self.has_backlog(number) {
            return;
        }
        let (Some(door), Some(backlog)) = (self.doors.get(number), self.backlogs.get_mut(&number)) else {
            return;
        };
        let counts = door.terms.counters.shards.of(cx.worker);
        for _ in 0..SENDS_PER_TURN {
            let Some(first) = backlog.first() else { break };
            match self.replies.send_apart(door.fd.as_fd(), &first.bytes, &first.outgoing) {
                Ok(()) => {
                    counts.datagrams(Direction::ToClient).add(1);
                    counts.bytes(Direction::ToClient).add(first.bytes.len() as u64);
                }
                Err(Errno::AGAIN) => return,
                // One client that cannot be reached: this one is lost, the next has its chance.
                Err(_) => counts.dropped(Drop::ToClient).add(1),
            }
            backlog.pop();
        }
        if backlog.len() == 0 {
            self.backlogs.remove(&number);
            // At worst it is told of room that nobody needs.
            let _ = cx.poller.watch_room(&door.fd, Token::DatagramDoor(number).pack(), false);
        }
    }

    /// The doors of this number close: what waits there is lost.
    pub(super) fn drop_backlogs(&mut self, id: u64, cx: &ThreadContext) {
        if self.backlogs.is_empty() {
            return;
        }
        for (number, door) in self.doors.iter().filter(|(_, door)| door.id == id) {
            if let Some(backlog) = self.backlogs.remove(&number) {
                let counts = door.terms.counters.shards.of(cx.worker);
                counts.dropped(Drop::SendBuffer).add(backlog.len() as u64);
            }
        }
    }
}

/// Replies of a door's backlog in one turn: then clients and other flows get theirs.
const SENDS_PER_TURN: usize = 64;
/// Datagrams of one backend in one turn: then other flows get theirs.
const REPLIES_PER_TURN: usize = 8;
