//! Stalled pipes: those of receivers that take nothing are emptied into memory when others ask for pipes in vain.
//!
//! A direction of a session stands in the line from when it keeps a pipe. Each turn looks at the first few; one that moved
//! nothing for a second is stalled. What must stay true: the line holds each direction once, no more than
//! [`LINE_MAX`] of them, and a turn looks at no more than [`LOOKS`].

use std::collections::VecDeque;

use super::ThreadContext;
use super::half_duplex::HalfDuplex;
use super::session::Session;
use super::side::{BACKEND, CLIENT};
use crate::sys::Errno;

/// Those that keep pipes, about in the order in which they were last seen to move.
#[derive(Debug, Default)]
pub(super) struct Stalled(VecDeque<Kept>);

/// A direction of a session that keeps a pipe.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) slot: u32,
    pub(super) generation: u32,
    /// The side it goes to.
    side: usize,
    delivered_bytes: u64,
    /// When it had delivered so much and no more.
    since_ms: u64,
}

impl Stalled {
    /// Notes directions that keep a pipe, after a step.
    pub(super) fn note(&mut self, slot: u32, generation: u32, session: &mut Session, now_ms: u64) {
        for side in [CLIENT, BACKEND] {
            let way = way_to(session, side);
            if way.keeps_pipe() && !way.in_line && self.0.len() < LINE_MAX {
                way.in_line = true;
                let delivered_bytes = way.delivered_bytes;
                self.0.push_back(Kept { slot, generation, side, delivered_bytes, since_ms: now_ms });
            }
        }
    }
}

impl Stalled {
    /// None at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next to be looked at, if it has had the time to move.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<Kept> {
        let is_due = self.0.front().is_some_and(|kept| now_ms >= kept.since_ms + STALLED_MS);
        if is_due { self.0.pop_front() } else { None }
    }

    /// Looks at one. Where pipes are short and it is stalled it gives its own up. An error means that what is in its pipe can
    /// be neither written nor read.
    pub(super) fn look(
        &mut self,
        kept: &Kept,
        session: &mut Session,
        short: bool,
        cx: &mut ThreadContext,
    ) -> Result<(), Errno> {
        let way = way_to(session, kept.side);
        let moved = way.delivered_bytes != kept.delivered_bytes;
        way.in_line = way.keeps_pipe() && !(short && !moved && way.read_back(cx)?);
        if way.in_line {
            let since_ms = if moved { cx.now_ms() } else { kept.since_ms };
            self.0.push_back(Kept { delivered_bytes: way.delivered_bytes, since_ms, ..*kept });
        }
        Ok(())
    }
}

fn way_to(session: &mut Session, side: usize) -> &mut HalfDuplex {
    if side == CLIENT { &mut session.relay.to_client } else { &mut session.relay.to_backend }
}

/// A receiver that took nothing for so long is stalled.
const STALLED_MS: u64 = 1_000;
/// A turn looks at so many: more than begin to keep a pipe in a turn of slices.
pub(super) const LOOKS: usize = 8;
/// More than there are pipes in any budget; those beyond are noted when there is room.
const LINE_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use super::*;
    use crate::access::TrustedProxies;
    use crate::pool::Lease;
    use crate::tcp::session::Next;
    use crate::tcp::walks::tests::given;
    use crate::tcp::{Import, Sessions, Terms};
    use crate::thread_context::PipePool;
    use crate::thread_context::trial::Trial;

    /// Three sessions that splice from their backends to their clients, and the far ends of both.
    struct Trio {
        sessions: Sessions,
        cx: ThreadContext,
        ends: Vec<(TcpStream, TcpStream)>,
        bytes: Vec<u8>,
        sent: Vec<usize>,
        came: Vec<usize>,
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (near, far)
    }

    impl Trio {
        /// With pipes of so many bytes in all.
        fn new(pipes_bytes: u64) -> Self {
            let trial = Trial::new("backends: ['127.0.0.1:2'], health: { check: off }");
            let (listener, log) = (&trial.settings.listeners[0], crate::config::settings::LogSessions::Off);
            let terms = Arc::new(Terms::new(
                listener,
                &trial.live,
                log,
                (None, TrustedProxies::new(&listener.accept_proxy, &listener.deny)),
                Arc::clone(&trial.counters),
            ));
            let mut cx = trial.cx();
            cx.pipes = PipePool::new(pipes_bytes);
            let (mut sessions, mut ends) = (Sessions::new(cx.now_ms()), Vec::new());
            for _ in 0..3 {
                let (client, backend) = (pair(), pair());
                ends.push((client.1, backend.1));
                let mut record = given("keep", cx.now_us);
                record.to_client.mode = "splice".into();
                let lease = Some(Lease::import(Arc::clone(&trial.backends[0])));
                let (client, backend) = (client.0.into(), Some(backend.0.into()));
                let (terms, pipes) = (Arc::clone(&terms), [None, None]);
                let import = Import { record, terms, client, backend, lease, pipes, place: None };
                sessions.import(vec![import], &mut cx);
            }
            let bytes = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
            Self { sessions, cx, ends, bytes, sent: vec![0; 3], came: vec![0; 3] }
        }

        /// A tenth of a second in which the backends of the first so many send what they can.
        fn turn(&mut self, senders: usize) {
            for (number, (_, backend)) in self.ends.iter_mut().enumerate().take(senders) {
                let at = self.sent[number] % self.bytes.len();
                self.sent[number] += backend.write(&self.bytes[at..]).unwrap_or(0);
            }
            let mut places = Vec::new();
            for (key, slot) in &mut self.sessions.slots {
                slot.session.client.writable = true;
                slot.session.backend.as_mut().unwrap().readable = true;
                places.push(u32::try_from(key).unwrap());
            }
            for slot in places {
                self.sessions.follow(slot, Next::Again, &mut self.cx);
            }
            for _ in 0..8 {
                self.sessions.run_again(&mut self.cx);
            }
            self.cx.now_us += 100_000;
        }

        /// The clients read what has come.
        fn read(&mut self) {
            let mut piece = vec![0; 1 << 20];
            for (number, (client, _)) in self.ends.iter_mut().enumerate() {
                let length = client.read(&mut piece).unwrap_or(0);
                let wanted = (self.came[number]..).map(|at| self.bytes[at % self.bytes.len()]);
                assert!(piece[..length].iter().copied().eq(wanted.take(length)), "{number}: another order");
                self.came[number] += length;
            }
        }

        /// How many of the first two keep a pipe.
        fn kept(&self) -> usize {
            let first = self.sessions.slots.iter().filter(|(key, _)| *key < 2);
            first.filter(|(_, slot)| slot.session.relay.to_client.keeps_pipe()).count()
        }
    }

    #[test]
    fn readers_that_stall_do_not_keep_all_pipes_and_lose_nothing() {
        // Two large pipes; memory for what is in one of them.
        let mut trio = Trio::new(3 << 20);
        // Everything up to the first two clients is full, and they read nothing.
        let mut turns = 0;
        while trio.kept() < 2 {
            trio.turn(2);
            turns += 1;
            assert!(turns < 1_000, "{} pipes are kept", trio.kept());
        }
        (0..20).for_each(|_| trio.turn(2));
        assert_eq!(trio.kept(), 2, "nobody asked for a pipe in vain");
        // Others have the rest of them when the third asks.
        let others: Vec<_> = std::iter::from_fn(|| trio.cx.pipes.take()).collect();
        let mut turns = 0;
        while trio.kept() == 2 {
            trio.turn(3);
            turns += 1;
            // Some 30 are enough where the kernel moves nothing more meanwhile.
            assert!(turns < 1_000, "memory is there for one of them");
        }
        others.into_iter().for_each(|pipe| trio.cx.pipes.give_back(pipe));
        // Everything arrives, in order.
        for _ in 0..20_000 {
            trio.read();
            if trio.came == trio.sent {
                break;
            }
            trio.turn(0);
        }
        assert!(trio.came == trio.sent && trio.sent.iter().all(|sent| *sent > 0), "{:?}", trio.sent);
        assert_eq!(trio.kept(), 0);
    }
}
