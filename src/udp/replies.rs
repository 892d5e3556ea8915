//! From a backend back to the client: through the door it came in by, from the address it had sent to.

use std::os::fd::AsFd;

use super::parts::{parts, parts_of, parts_of_outgoing};
use super::pump::Pump;
use crate::flow::{FlowId, Heard};
use crate::metrics::{Direction, Drop};
use crate::sys::Errno;
use crate::sys::udp_batch::Outgoing;
use crate::workbench::Workbench;

impl Pump {
    /// Takes what a backend has to say, one turn's worth.
    pub(super) fn hear(&mut self, id: FlowId, bench: &mut Workbench) {
        if self.replies.room() < REPLIES_PER_TURN {
            self.send_replies(bench);
        }
        let first = self.replies.received().len();
        let Some(side) = self.sides.get_mut(id.index as usize).and_then(Option::as_mut) else { return };
        if side.id != id {
            return;
        }
        let came = match self.replies.receive(side.upstream.fd(), REPLIES_PER_TURN) {
            Ok(came) => came,
            Err(Errno::AGAIN) => return,
            Err(errno) => {
                if errno == Errno::CONNREFUSED {
                    side.upstream.note_refused(bench);
                }
                // The error is taken; datagrams may stand behind it.
                self.again.push_back(id);
                return;
            }
        };
        let counts = side.terms.counters.shards.of(bench.worker);
        let (mut datagrams, mut bytes) = (0, 0);
        for slot in first..first + came {
            let told = self.replies.received()[slot];
            if told.from != side.upstream.backend {
                counts.dropped(Drop::Stranger).add(parts_of(&told).into());
            } else if told.cut {
                counts.dropped(Drop::Cut).add(1);
            } else if let Some(door) = self.doors.get(side.door as usize) {
                datagrams += parts_of(&told);
                bytes += told.length as u64;
                self.leaving.push((side.door, door.reply(slot, &told, side.client, side.local.ip())));
            }
        }
        if datagrams > 0 {
            side.upstream.note_answered(bench);
            let backend = side.upstream.lease().backend().shards.of(bench.worker);
            backend.bytes(Direction::ToClient).add(bytes);
            if self.flows.on_backend(id, datagrams, bytes, bench.now_ms()) != Heard::On {
                return;
            }
        }
        if came == REPLIES_PER_TURN {
            self.again.push_back(id);
        }
    }

    /// Sends what leaves through the doors, as many with one call as go through the same one.
    pub(super) fn send_replies(&mut self, bench: &Workbench) {
        let leaving = std::mem::take(&mut self.leaving);
        let mut rest = &leaving[..];
        while let Some(&(number, _)) = rest.first() {
            let same = rest.iter().take_while(|(door, _)| *door == number).count();
            let run: Vec<Outgoing> = rest[..same].iter().map(|(_, outgoing)| *outgoing).collect();
            self.send_through(number, &run, bench);
            rest = &rest[same..];
        }
        self.leaving = leaving;
        self.leaving.clear();
        self.replies.clear();
    }

    fn send_through(&mut self, number: u32, run: &[Outgoing], bench: &Workbench) {
        let Some(door) = self.doors.get(number as usize) else { return };
        let counts = door.terms.counters.shards.of(bench.worker);
        let mut rest = run;
        while let Some(&first) = rest.first() {
            let dealt_with = match self.replies.send(door.fd.as_fd(), rest) {
                Ok(sent) => {
                    let sent = sent.max(1);
                    for outgoing in &rest[..sent] {
                        counts.datagrams(Direction::ToClient).add(parts_of_outgoing(outgoing));
                        counts.bytes(Direction::ToClient).add(outgoing.length as u64);
                    }
                    sent
                }
                Err(Errno::INVAL | Errno::IO | Errno::MSGSIZE) if first.part.is_some() => {
                    for part in parts(first) {
                        if self.replies.send(door.fd.as_fd(), &[part]) == Ok(1) {
                            counts.datagrams(Direction::ToClient).add(1);
                            counts.bytes(Direction::ToClient).add(part.length as u64);
                        } else {
                            counts.dropped(Drop::ToClient).add(1);
                        }
                    }
                    1
                }
                // One client that cannot be reached, or no room at the door: this one is lost, the next has its chance.
                Err(_) => {
                    counts.dropped(Drop::ToClient).add(parts_of_outgoing(&first));
                    1
                }
            };
            rest = &rest[dealt_with..];
        }
    }
}

/// Datagrams of one backend in one turn: then other flows get theirs.
const REPLIES_PER_TURN: usize = 8;
