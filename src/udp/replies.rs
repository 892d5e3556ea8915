//! Replies, from a backend back to the client: through the door it came in by, from the address it had sent to.

use std::ops::Range;
use std::os::fd::AsFd;

use super::pump::Pump;
use super::segments::{parts, parts_of, parts_of_outgoing};
use crate::flow::FlowId;
use crate::metrics::{Direction, Drop};
use crate::sys::Errno;
use crate::sys::udp_batch::Outgoing;
use crate::thread_context::ThreadContext;

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
        let came = match self.replies.receive(side.upstream.fd(), asks) {
            Ok(came) => came,
            // The error is taken; for datagrams behind it the socket is reported again.
            Err(errno) => {
                if errno == Errno::CONNREFUSED {
                    side.upstream.note_refused(cx);
                }
                return;
            }
        };
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
        let Range { mut start, end } = which;
        while start < end {
            let Some(door) = self.doors.get(door) else { return };
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
                // One client that cannot be reached, or no room at the door: this one is lost, the next has its chance.
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
        let (door, id) = of;
        let Some(door) = self.doors.get(door) else { return };
        let counts = door.terms.counters.shards.of(cx.worker);
        for part in parts(whole) {
            if self.replies.send(door.fd.as_fd(), &[part]) != Ok(1) {
                counts.dropped(Drop::ToClient).add(1);
                continue;
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

/// Datagrams of one backend in one turn: then other flows get theirs.
const REPLIES_PER_TURN: usize = 8;
