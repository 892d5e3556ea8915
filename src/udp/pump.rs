//! Pump of one thread: everything of UDP that it has, and the order of its turns. The two walks of a datagram are
//! `inbound` and `replies`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::backlog::Backlog;
use super::connect_from::Origins;
use super::doors::DoorTable;
use super::offloads::GsoFallback;
use super::proxy_header::{self, Proxied};
use super::segments::parts;
use super::upstream::Upstream;
use super::{Door, Terms, close};
use crate::flow::{Flow, FlowId, Flows};
use crate::reason::Reason;
use crate::sys::udp;
use crate::sys::udp_batch::{Batch, Outgoing, Received};
use crate::sys::udp_probe::Offloads;
use crate::thread_context::{ThreadContext, Token};

/// Everything of UDP that one thread has.
pub struct Pump {
    /// By the number in the token.
    pub(super) doors: DoorTable,
    pub(super) flows: Flows,
    /// By [`FlowId::index`].
    pub(super) sides: Vec<Option<Side>>,
    pub(super) origins: Origins,
    /// From clients.
    pub(super) inbound: Batch,
    /// From backends, until they are sent on at the end of the turn.
    pub(super) replies: Batch,
    pub(super) leaving: Vec<Outgoing>,
    /// Of each that leaves, the door and the flow.
    pub(super) leaving_of: Vec<(u32, FlowId)>,
    /// The kernel merges what is received.
    merges: bool,
    /// By the door's number: what it has no room for. Those with nothing are not there.
    pub(super) backlogs: HashMap<u32, Backlog>,
    /// The kernel makes several datagrams of one.
    pub(super) splits: bool,
    pub(super) gso_fallback: GsoFallback,
    /// Of what was imported: what cannot stay.
    pub(super) to_end: Vec<ToEnd>,
    /// Reused: datagrams of one flow that go out together.
    pub(super) run: Vec<Outgoing>,
    /// Counts them.
    pub(super) turn: u64,
    /// When the use of ports was last looked at.
    ports_seen_ms: u64,
    /// When it was last warned of.
    ports_warned_ms: Option<u64>,
}

/// What a flow has besides its entry in the table.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) id: FlowId,
    pub(super) terms: Arc<Terms>,
    pub(super) door: u32,
    /// Who sends, and is answered.
    pub(super) client: SocketAddr,
    /// What a header said of the client behind it.
    pub(super) proxied: Option<Box<Proxied>>,
    pub(super) local: SocketAddr,
    pub(super) upstream: Upstream,
    /// The path to the client does not take several datagrams as one.
    pub(super) takes_no_parts: bool,
}

/// A flow of the process before that cannot stay.
#[derive(Debug)]
pub(super) enum ToEnd {
    /// It has a place in the table, and ends for this.
    InTable(FlowId, Reason),
    /// Its client has another flow already.
    Outside(Box<(Side, Flow)>),
}

impl Pump {
    /// Without doors yet.
    pub fn new(flows: Flows, origins: Origins, offloads: Offloads) -> Self {
        Self {
            doors: DoorTable::default(),
            flows,
            sides: Vec::new(),
            origins,
            inbound: Batch::new(SLOTS),
            replies: Batch::new(SLOTS),
            leaving: Vec::with_capacity(SLOTS),
            leaving_of: Vec::with_capacity(SLOTS),
            merges: offloads.merging.is_ok(),
            backlogs: HashMap::new(),
            splits: offloads.splitting.is_ok(),
            gso_fallback: GsoFallback::default(),
            to_end: Vec::new(),
            run: Vec::with_capacity(SLOTS),
            turn: 0,
            ports_seen_ms: 0,
            ports_warned_ms: None,
        }
    }

    /// Receives at this door from now on.
    pub fn open(&mut self, door: Door, cx: &ThreadContext) {
        let number = self.doors.insert(door);
        let Some(door) = self.doors.get(number) else { return };
        if self.merges {
            // The kernel has shown that it can; if not here, they come one by one. It stays so whatever a reload brings: of what
            // waits merged at a socket that is told otherwise, the kernel does not say where the parts end.
            let _ = udp::merge_received(door.fd.as_fd());
        }
        if let Err(errno) = cx.poller.watch_input(&door.fd, Token::DatagramDoor(number).pack()) {
            let listener = &*door.terms.listener;
            let error = std::io::Error::from(errno);
            tracing::error!(target: "evenkeel", listener, %error, "a door cannot be watched; it stays closed on this thread");
        }
    }

    /// New flows of this door are born with other terms; those there are keep theirs.
    pub fn renew(&mut self, id: u64, terms: &Arc<Terms>) {
        for door in self.doors.iter_mut().filter(|door| door.id == id) {
            if door.terms.receive_buffer != terms.receive_buffer {
                udp::set_receive_buffer(door.fd.as_fd(), terms.receive_buffer);
            }
            if door.terms.send_buffer != terms.send_buffer {
                udp::set_send_buffer(door.fd.as_fd(), terms.send_buffer);
            }
            door.terms = Arc::clone(terms);
        }
    }

    /// Closes this door. Its flows cannot be answered any more and are to end: a walk of [`Self::leave_doors`] is due.
    pub fn close_door(&mut self, id: u64, cx: &ThreadContext) {
        // What waits to be sent leaves through it.
        self.send_replies(cx);
        self.drop_backlogs(id, cx);
        self.doors.close(id);
    }

    /// Takes nothing new. The doors stay: answers of living flows leave through them.
    pub fn drain(&mut self) {
        self.flows.drain();
    }

    /// No flow is left.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// When [`Self::on_time`] is to be called; `None` while no flow lives.
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.flows.next_wake_ms()
    }

    /// Datagrams wait at a door: takes one batch of them. Or it has room again for what waits to leave.
    pub fn on_door_ready(&mut self, number: u32, cx: &mut ThreadContext) {
        self.send_backlog(number, cx);
        let Some(door) = self.doors.get_mut(number) else { return };
        self.inbound.clear();
        // A door is not connected: an error is of one datagram that had left, and of no use.
        let Ok(came) = self.inbound.receive(door.fd.as_fd(), door.batch_size.asks()) else { return };
        door.batch_size.note(came, self.turn, SLOTS);
        let mut current: Option<FlowId> = None;
        for slot in 0..came {
            let told = self.inbound.received()[slot];
            let (length, part, mark) = (told.length, told.part, told.mark);
            let whole = Outgoing { slot, start: 0, length, to: None, from: None, part, mark };
            if proxy_header::may_hide(&self.doors, number, &told) {
                for piece in parts(whole) {
                    current = self.take(number, piece, &told.piece(piece.length), current, cx);
                }
            } else {
                current = self.take(number, whole, &told, current, cx);
            }
        }
        self.send_run(current, cx);
        self.close_ended(cx);
    }

    /// Takes a datagram, or several that came as one, to the flow that it is of; `current` is the flow of those before it. Tells
    /// the flow.
    fn take(
        &mut self,
        door: u32,
        whole: Outgoing,
        told: &Received,
        current: Option<FlowId>,
        cx: &mut ThreadContext,
    ) -> Option<FlowId> {
        let admitted = self.admit(door, whole.slot, whole.start, told, cx);
        let flow = admitted.map(|(id, _)| id);
        if flow != current {
            self.send_run(current, cx);
        }
        if let Some((id, header)) = admitted {
            let (start, length) = (whole.start + header, whole.length - header);
            self.queue(id, Outgoing { start, length, ..whole }, cx);
        }
        flow
    }

    /// A backend has answered, or refused.
    pub fn on_flow_ready(&mut self, packed: u64, cx: &mut ThreadContext) {
        self.hear(FlowId::unpack(packed), cx);
    }

    /// The end of a turn: sends what leaves through the doors.
    pub fn end_turn(&mut self, cx: &mut ThreadContext) {
        self.send_replies(cx);
        self.close_ended(cx);
        self.turn += 1;
    }

    /// Ends the flows whose time has come.
    pub fn on_time(&mut self, cx: &mut ThreadContext) {
        // What is left for the next turn keeps the wake-up in the past: no sleep until it is done.
        self.flows.sweep(cx.now_ms(), ENDS_PER_TURN);
        self.close_ended(cx);
    }

    /// How much of the local ports towards one backend is in use, in thousandths; once a second, otherwise `None`.
    /// Warns before they run out.
    pub fn ports_in_use_permille(&mut self, now_ms: u64) -> Option<u32> {
        if now_ms < self.ports_seen_ms + PORTS_LOOK_MS {
            return None;
        }
        self.ports_seen_ms = now_ms;
        let permille = self.origins.ports.in_use_permille();
        let is_quiet = self.ports_warned_ms.is_none_or(|at_ms| now_ms >= at_ms + PORTS_WARNING_MS);
        if permille >= PORTS_WARNING_PERMILLE && is_quiet {
            self.ports_warned_ms = Some(now_ms);
            tracing::warn!(
                target: "evenkeel",
                percent = permille / 10,
                "local ports towards one backend run out: more backends, more addresses in `connect_from`, or a wider net.ipv4.ip_local_port_range, give room for more flows"
            );
        }
        Some(permille)
    }

    /// What came merged from the client of this flow is sent one by one.
    pub(super) fn goes_apart(&self, id: FlowId) -> bool {
        let side = self.sides.get(id.index as usize).and_then(Option::as_ref);
        !self.splits || side.is_some_and(|side| side.upstream.takes_no_parts)
    }

    /// Closes what the table says is over.
    pub(super) fn close_ended(&mut self, cx: &mut ThreadContext) {
        while let Some(ended) = self.flows.take_ended() {
            let place = ended.id.index as usize;
            // A flow that found no backend has no side, and has said why already.
            let Some(mut side) = self.sides.get_mut(place).and_then(Option::take) else { continue };
            let counts = side.terms.counters.shards.of(cx.worker);
            counts.active.sub(1);
            counts.ended(ended.reason).add(1);
            close::log(&side, &ended, cx);
            side.upstream.note_left(cx);
            side.upstream.close(&mut self.origins);
        }
    }
}

const PORTS_LOOK_MS: u64 = 1_000;
const PORTS_WARNING_MS: u64 = 60_000;
const PORTS_WARNING_PERMILLE: u32 = 800;
/// Flows that one turn ends; then datagrams get theirs.
const ENDS_PER_TURN: usize = 256;
/// Datagrams in one batch; merged ones count as one.
const SLOTS: usize = 32;
