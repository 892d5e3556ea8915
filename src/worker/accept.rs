//! Accept loop: the listening sockets of one data thread: taking what waits, refusing what is too much, and what to do
//! when the system cannot give another socket.
//!
//! No accept error ends a door. Out of descriptors or memory, accepting pauses with a growing delay while the sessions
//! there are go on; out of descriptors means that only those are left that sessions never get. Everything else concerns one
//! connection and is counted.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use slab::Slab;

use super::door::Door;
use super::mailbox::Message;
use super::workers::Workers;
use crate::metrics::{AcceptTrouble, ListenerCounters};
use crate::reason::Reason;
use crate::sys::{Errno, syn_filter, tcp as socket};
use crate::tcp::{Arrival, Sessions, Terms};
use crate::thread_context::{ThreadContext, Token};

/// The doors of one thread.
pub(super) struct Doors {
    doors: Slab<Door>,
    /// Doors that close when what waits there was taken; and how many connections may still be.
    closing: VecDeque<(usize, usize)>,
    /// Doors where no handshake begins any more, and those under way may end; by their id.
    leaving: Vec<u64>,
    pause: Option<Pause>,
    /// The pause after the next trouble.
    next_pause_ms: u64,
    warned_ms: Option<u64>,
    unwarned: u64,
}

struct Pause {
    until_ms: u64,
}

impl Doors {
    pub(super) fn new() -> Self {
        Self {
            doors: Slab::new(),
            closing: VecDeque::new(),
            leaving: Vec::new(),
            pause: None,
            next_pause_ms: PAUSE_MIN_MS,
            warned_ms: None,
            unwarned: 0,
        }
    }

    /// Accepts at this door from now on.
    pub(super) fn open(&mut self, door: Door, cx: &ThreadContext) {
        let listener = Arc::clone(&door.terms.listener);
        let key = self.doors.insert(door);
        if self.pause.is_none()
            && let Err(errno) = self.watch(key, cx)
        {
            tracing::error!(target: "evenkeel", %listener, error = %errno, "a door cannot be watched; it stays closed on this thread");
            self.doors.remove(key);
        }
    }

    /// Something waits at a door: takes some of it.
    pub(super) fn on_ready(
        &mut self,
        door: u32,
        workers: &Workers,
        sessions: &mut Sessions,
        cx: &mut ThreadContext,
    ) {
        self.accept(door as usize, ACCEPTS_PER_TURN, workers, sessions, cx);
    }

    /// New sessions of this door are born with other terms.
    pub(super) fn renew(&mut self, id: u64, terms: &Arc<Terms>) {
        for (_, door) in self.doors.iter_mut().filter(|(_, door)| door.id == id) {
            // Accepted sockets inherit their options from the door.
            if let Err(errno) = socket::listen(&door.fd, &terms.options, terms.backlog) {
                let (listener, error) = (&*terms.listener, std::io::Error::from(errno));
                tracing::warn!(target: "evenkeel", listener, %error, "a door does not take its new settings; it goes on with the old ones");
                continue;
            }
            door.terms = Arc::clone(terms);
        }
        if self.leaving.contains(&id) {
            self.leaving.retain(|leaving| *leaving != id);
            self.doors
                .iter()
                .filter(|(_, door)| door.id == id)
                .for_each(|(_, door)| syn_filter::take_off(&door.fd));
        }
    }

    /// Nobody new is let in at this door, but for those who have half of a handshake already: to close it resets them. It closes a
    /// moment later.
    pub(super) fn leave(&mut self, id: u64) {
        self.leaving.push(id);
        for (_, door) in self.doors.iter().filter(|(_, door)| door.id == id) {
            if let Err(errno) = syn_filter::put_on(&door.fd) {
                let (listener, error) = (&*door.terms.listener, std::io::Error::from(errno));
                tracing::debug!(target: "evenkeel", listener, %error, "a door that left the file lets in whoever comes until it closes");
            }
        }
    }

    /// This door is to close: [`Self::go_on_closing`] does it.
    pub(super) fn close_one(&mut self, id: u64) {
        self.leaving.retain(|leaving| *leaving != id);
        // After a change of `workers` a thread may have several sockets of one door.
        self.close_each(|door| door.id == id);
    }

    /// All doors are to close.
    pub(super) fn close(&mut self) {
        self.close_each(|_| true);
    }

    fn close_each(&mut self, is_it: impl Fn(&Door) -> bool) {
        let closing = &mut self.closing;
        let found = self.doors.iter().filter(|(_, door)| is_it(door)).map(|(key, _)| key);
        for key in found {
            if !closing.iter().any(|(there, _)| *there == key) {
                closing.push_back((key, ACCEPTS_AT_CLOSE_MAX));
            }
        }
    }

    /// Some door is still to close.
    pub(super) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Takes some of what waits at doors that close; one where nothing waits any more is closed then. What the kernel has
    /// queued was promised to the client already.
    pub(super) fn go_on_closing(
        &mut self,
        workers: &Workers,
        sessions: &mut Sessions,
        cx: &mut ThreadContext,
    ) {
        let mut left_of_turn = ACCEPTS_PER_TURN;
        while left_of_turn > 0
            && let Some((key, left)) = self.closing.pop_front()
        {
            let most = left.min(left_of_turn);
            let taken = self.accept(key, most, workers, sessions, cx);
            // To find nothing costs a call as well.
            left_of_turn = left_of_turn.saturating_sub(taken.max(1));
            if taken == most && left > most {
                self.closing.push_front((key, left - most));
            } else {
                self.doors.try_remove(key);
            }
        }
        if self.doors.is_empty() {
            self.pause = None;
            workers.note_rests(cx.worker, false);
        }
    }

    /// Its sockets: the door's id, the number, the socket.
    pub(super) fn export(&self) -> impl Iterator<Item = (u64, u32, RawFd)> {
        self.doors.iter().map(|(_, door)| (door.id, door.number, door.fd.as_raw_fd()))
    }

    /// When [`Self::on_time`] is to be called.
    pub(super) fn next_wake_ms(&self) -> Option<u64> {
        self.pause.as_ref().map(|pause| pause.until_ms)
    }

    /// Ends a pause that has lasted long enough.
    pub(super) fn on_time(&mut self, workers: &Workers, cx: &ThreadContext) {
        if self.pause.as_ref().is_none_or(|pause| cx.now_ms() < pause.until_ms) {
            return;
        }
        self.pause = None;
        workers.note_rests(cx.worker, false);
        for (key, door) in &self.doors {
            if let Err(errno) = self.watch(key, cx) {
                let listener = &*door.terms.listener;
                tracing::error!(target: "evenkeel", listener, error = %errno, "a door cannot be watched again; trying later");
                self.pause = Some(Pause { until_ms: cx.now_ms() + PAUSE_MAX_MS });
            }
        }
    }

    /// Takes what waits at a door, no more than `most`. Fewer than these: nothing waits any more, or accepting pauses.
    fn accept(
        &mut self,
        key: usize,
        most: usize,
        workers: &Workers,
        sessions: &mut Sessions,
        cx: &mut ThreadContext,
    ) -> usize {
        for taken in 0..most {
            // A door may be gone when an event of the same batch closed it.
            let Some(door) = self.doors.get(key) else { return taken };
            let accepted =
                if workers.is_out_of_files() { Err(Errno::MFILE) } else { socket::accept(door.fd.as_fd()) };
            match accepted {
                Ok((fd, client)) => {
                    if !(self.leaving.is_empty() && self.closing.is_empty()) {
                        // Inherited, if this was a door that leaves.
                        syn_filter::take_off(&fd);
                    }
                    let terms = Arc::clone(&door.terms);
                    admit(Arrival { fd, client, local_port: door.port, terms }, workers, sessions, cx);
                    if self.rest_if_short(workers, cx) {
                        return taken;
                    }
                    self.next_pause_ms = PAUSE_MIN_MS;
                }
                Err(Errno::AGAIN) => return taken,
                Err(errno) => {
                    let counters = Arc::clone(&door.terms.counters);
                    if self.on_trouble(errno, &counters, workers, cx) {
                        return taken;
                    }
                }
            }
        }
        most
    }

    /// Pauses if a dial found that nothing is left: the clients behind that one wait at the door instead of being taken
    /// and reset one by one.
    pub(super) fn rest_if_short(&mut self, workers: &Workers, cx: &mut ThreadContext) -> bool {
        cx.shortage.take().is_some_and(|(errno, counters)| self.on_trouble(errno, &counters, workers, cx))
    }

    /// Counts what went wrong; true: accepting pauses.
    fn on_trouble(
        &mut self,
        errno: Errno,
        counters: &ListenerCounters,
        workers: &Workers,
        cx: &ThreadContext,
    ) -> bool {
        let kind = kind_of(errno);
        counters.shards.of(cx.worker).trouble(kind).add(1);
        let short = is_shortage(kind);
        if short {
            self.pause(&counters.listener, errno, cx);
            workers.note_rests(cx.worker, true);
        }
        short
    }

    /// Lets the doors rest: a level-triggered door that cannot be served would turn the loop into a spin.
    fn pause(&mut self, listener: &str, errno: Errno, cx: &ThreadContext) {
        if self.pause.is_some() {
            return;
        }
        for door in self.doors.iter().map(|(_, door)| door) {
            // A door that is not in the set needs no forgetting.
            let _ = cx.poller.forget(&door.fd);
        }
        let pause_ms = self.next_pause_ms;
        self.pause = Some(Pause { until_ms: cx.now_ms() + pause_ms });
        self.next_pause_ms = (pause_ms * 2).min(PAUSE_MAX_MS);
        self.unwarned += 1;
        if self.warned_ms.is_none_or(|at_ms| cx.now_ms() >= at_ms + WARNING_EVERY_MS) {
            self.warned_ms = Some(cx.now_ms());
            let times = std::mem::take(&mut self.unwarned);
            let error = std::io::Error::from(errno);
            tracing::warn!(
                target: "evenkeel", listener, %error, times, pause_ms,
                "no resources for another connection: accepting pauses, sessions go on; raise LimitNOFILE= or lower limits.tcp_sessions"
            );
        }
    }

    fn watch(&self, key: usize, cx: &ThreadContext) -> Result<(), Errno> {
        let number = u32::try_from(key).unwrap_or(u32::MAX);
        let Some(door) = self.doors.get(key) else { return Ok(()) };
        match cx.poller.watch_input(&door.fd, Token::Door(number).pack()) {
            // Watched already, since an earlier try that failed at another door.
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }
}

/// Finds a thread for a fresh connection, or refuses it.
fn admit(arrival: Arrival, workers: &Workers, sessions: &mut Sessions, cx: &mut ThreadContext) {
    match workers.admit(cx.worker) {
        None => Sessions::refuse(&arrival, Reason::LimitProcess, cx),
        Some(keeper) if keeper == cx.worker => sessions.open(arrival, cx),
        Some(keeper) => workers.mailbox(keeper).post(Message::Have(arrival)),
    }
}

fn kind_of(errno: Errno) -> AcceptTrouble {
    match errno {
        Errno::MFILE => AcceptTrouble::ProcessFiles,
        Errno::NFILE => AcceptTrouble::SystemFiles,
        Errno::NOBUFS | Errno::NOMEM => AcceptTrouble::Memory,
        // accept(2) passes on what already went wrong with the new connection.
        Errno::CONNABORTED
        | Errno::INTR
        | Errno::PROTO
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NOPROTOOPT
        | Errno::OPNOTSUPP
        | Errno::PERM => AcceptTrouble::Aborted,
        _ => AcceptTrouble::Other,
    }
}

fn is_shortage(kind: AcceptTrouble) -> bool {
    !matches!(kind, AcceptTrouble::Aborted)
}

/// Then other sessions get their turn.
const ACCEPTS_PER_TURN: usize = 16;
/// No accept queue is longer than the largest somaxconn.
const ACCEPTS_AT_CLOSE_MAX: usize = 65_535;
const PAUSE_MIN_MS: u64 = 10;
const PAUSE_MAX_MS: u64 = 1_000;
const WARNING_EVERY_MS: u64 = 10_000;
