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
        self.0.pop_front_if(|kept| now_ms >= kept.since_ms + STALLED_MS)
    }

    /// Looks at one. Where pipes are short and it is stalled it gives its own up. An error means that what is in its pipe can
    /// be neither written nor read.
    pub(super) fn look(
        &mut self,
        kept: Kept,
        session: &mut Session,
        short: bool,
        cx: &mut ThreadContext,
    ) -> Result<(), Errno> {
        let way = way_to(session, kept.side);
        let moved = way.delivered_bytes != kept.delivered_bytes;
        way.in_line = way.keeps_pipe() && !(short && !moved && way.read_back(cx)?);
        if way.in_line {
            let since_ms = if moved { cx.now_ms() } else { kept.since_ms };
            self.0.push_back(Kept { delivered_bytes: way.delivered_bytes, since_ms, ..kept });
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
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use super::*;
    use crate::pool::Lease;
    use crate::tcp::session::Next;
    use crate::tcp::walks::tests::given;
    use crate::tcp::{Import, Sessions, Terms};
    use crate::thread_context::PipePool;
    use crate::thread_context::trial::Trial;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// Fills what lies between a sender and a receiver.
    fn fill(stream: &mut TcpStream, bytes: &[u8]) -> usize {
        stream.set_nonblocking(true).unwrap();
        std::io::Write::write(stream, bytes).unwrap_or(0)
    }

    #[test]
    fn readers_that_stall_do_not_keep_all_pipes_and_lose_nothing() {
        let trial = Trial::new("backends: ['127.0.0.1:2'], health: { check: off }");
        let log = crate::config::settings::LogSessions::Off;
        let terms =
            Terms::new(&trial.settings.listeners[0], &trial.live, log, None, Arc::clone(&trial.counters));
        let terms = Arc::new(terms);
        let mut cx = trial.cx();
        // Two large pipes; memory for what is in one of them.
        cx.pipes = PipePool::new(3 << 20);
        let mut sessions = Sessions::new(cx.now_ms());
        let mut ends = Vec::new();
        for _ in 0..3 {
            let (client, backend) = (pair(), pair());
            ends.push((client.1, backend.1));
            let mut record = given("keep", cx.now_us);
            record.to_client.mode = "splice".into();
            let lease = Some(Lease::import(Arc::clone(&trial.backends[0])));
            sessions.import(
                Import {
                    record,
                    terms: Arc::clone(&terms),
                    client: client.0.into(),
                    backend: Some(backend.0.into()),
                    lease,
                    pipes: [None, None],
                },
                &mut cx,
            );
        }
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut sent = vec![0; 3];
        let mut turn = |sessions: &mut Sessions,
                        cx: &mut ThreadContext,
                        ends: &mut [(TcpStream, TcpStream)],
                        which: usize| {
            for (number, (_, backend)) in
                ends.iter_mut().enumerate().filter(|(number, _)| which & 1 << number != 0)
            {
                let at = sent[number] % bytes.len();
                sent[number] += fill(backend, &bytes[at..]);
            }
            for (_, slot) in &mut sessions.slots {
                let session = &mut slot.session;
                session.client.writable = true;
                session.backend.as_mut().unwrap().readable = true;
            }
            let places: Vec<(u32, u32)> = sessions
                .slots
                .iter()
                .map(|(key, slot)| (u32::try_from(key).unwrap(), slot.generation))
                .collect();
            for (slot, _) in places {
                sessions.follow(slot, Next::Again, cx);
            }
            for _ in 0..8 {
                sessions.run_again(cx);
            }
            cx.now_us += 100_000;
            sent.clone()
        };
        let kept = |sessions: &Sessions| {
            sessions.slots.iter().filter(|(_, slot)| slot.session.relay.to_client.keeps_pipe()).count()
        };
        // The first two fill everything up to their clients, which read nothing.
        let mut turns = 0;
        while kept(&sessions) < 2 {
            turn(&mut sessions, &mut cx, &mut ends, 0b011);
            turns += 1;
            assert!(turns < 1_000, "{} pipes are kept", kept(&sessions));
        }
        for _ in 0..20 {
            turn(&mut sessions, &mut cx, &mut ends, 0b011);
        }
        assert_eq!(kept(&sessions), 2, "nobody asked for a pipe in vain");
        // Others have the rest of them when the third asks.
        let others: Vec<_> = std::iter::from_fn(|| cx.pipes.take()).collect();
        let mut sent = Vec::new();
        for _ in 0..30 {
            sent = turn(&mut sessions, &mut cx, &mut ends, 0b111);
        }
        let stalled =
            sessions.slots.iter().filter(|(key, slot)| *key < 2 && slot.session.relay.to_client.keeps_pipe());
        assert!(stalled.count() < 2, "memory is there for one of them");
        others.into_iter().for_each(|pipe| cx.pipes.give_back(pipe));
        // Everything arrives, in order.
        for (number, (client, _)) in ends.iter_mut().enumerate() {
            client.set_nonblocking(true).unwrap();
            assert!(sent[number] > 0);
        }
        let mut came = vec![0; 3];
        for _ in 0..20_000 {
            for (number, (client, _)) in ends.iter_mut().enumerate() {
                let mut piece = vec![0; 1 << 20];
                let length = client.read(&mut piece).unwrap_or(0);
                let first = came[number];
                assert!(
                    piece[..length].iter().zip(first..).all(|(byte, at)| *byte == bytes[at % bytes.len()]),
                    "{number}"
                );
                came[number] += length;
            }
            if came == sent {
                break;
            }
            turn(&mut sessions, &mut cx, &mut ends, 0);
        }
        assert_eq!(came, sent);
        assert_eq!(kept(&sessions), 0);
    }
}
