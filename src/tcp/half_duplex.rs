//! Half-duplex relay (copy or splice): one direction of a session, from one socket to the other, bytes in order, none
//! held without need (backpressure is the socket's own).
//!
//! It copies through the thread's one buffer until reads keep filling it, and then splices through a pipe; back when the
//! stream goes quiet. Splicing costs a third of copying for bulk and more than copying for small messages. What the
//! receiver does not take at once is kept here, and nothing more is read until it has gone: a reader that stalls costs
//! one buffer or one pipe, not more.
//!
//! A step moves its share and no more. A direction that says little has its share as soon as a socket is ready; one that
//! could go on for ever waits for its slice, in line with the others that could (`sessions`).

use std::os::fd::AsRawFd;

use super::ThreadContext;
use super::replay::Replay;
use super::side::Side;
use crate::manifest;
use crate::sys::pipe::Pipe;
use crate::sys::{Errno, tcp as socket};

/// One direction and its unsent bytes.
#[derive(Debug, Default)]
pub(super) struct HalfDuplex {
    /// Delivered to the receiver's kernel.
    pub(super) delivered_bytes: u64,
    held: Held,
    mode: Mode,
    /// Of what is held, so many bytes are ours and not the sender's.
    lead_bytes: u16,
    /// Reads in a row that got as much as they asked for.
    full_reads: u8,
    /// What was delivered when the sender last had nothing more.
    quiet_at_bytes: u64,
    /// It is in the line of those whose pipe may be stalled.
    pub(super) in_line: bool,
    /// What may have to be said again.
    first: Option<Box<Replay>>,
}

/// What was read and not yet written.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Bytes {
        bytes: Box<[u8]>,
        /// Before this all is written.
        from: usize,
        /// So much of the thread's memory for stalled pipes is in use for it.
        lent: usize,
    },
    Piped(Pipe),
}

impl Held {
    /// These bytes, of no lent memory.
    fn of(bytes: Box<[u8]>) -> Self {
        if bytes.is_empty() { Self::Nothing } else { Self::Bytes { bytes, from: 0, lent: 0 } }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Copy,
    Splice,
    /// The kernel refused to splice these sockets.
    CopyOnly,
}

impl Mode {
    /// Its word for the next process.
    fn word(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::CopyOnly => "copy_only",
        }
    }

    /// The one of this word; of any other, the one that always works.
    fn named(word: &str) -> Self {
        [Self::Copy, Self::Splice].into_iter().find(|one| one.word() == word).unwrap_or(Self::CopyOnly)
    }
}

/// How much a step may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// One read of so many bytes, at once, for a direction that says little. Bulk waits for a slice.
    Little(usize),
    /// A slice of so many bytes each way, which bulk gets in its turn.
    Slice(usize),
}

/// How a turn of a way ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing can move until a socket is ready again.
    Waiting,
    /// The turn's share of work is used up; there is more.
    Unfinished,
}

impl HalfDuplex {
    /// Puts bytes of our own in front of everything. Only before the first turn. They are not counted as delivered.
    pub(super) fn lead_with(&mut self, header: Vec<u8>) {
        // A PROXY header has at most 4 KiB.
        self.lead_bytes = u16::try_from(header.len()).unwrap_or(u16::MAX);
        let mut bytes = header;
        // What was said to a backend that heard nothing of it.
        if let Held::Bytes { bytes: said, .. } = &self.held {
            bytes.extend_from_slice(said);
        }
        self.held = Held::of(bytes.into());
    }

    /// Begins anew towards another receiver. What the sender said and the one before was not given, or all of it where that was
    /// kept, goes to the new one; bytes of ours went with the receiver they were for.
    pub(super) fn begin_again(&mut self) {
        let first = self.first.take();
        let kept = first.as_deref().and_then(Replay::whole);
        let held = match (kept, &self.held) {
            (Some(kept), _) => kept.into(),
            (None, Held::Bytes { bytes, from, .. }) => {
                bytes[*from..].get(self.lead_bytes.into()..).unwrap_or(&[]).into()
            }
            (None, Held::Nothing | Held::Piped(_)) => Box::default(),
        };
        *self = Self { held: Held::of(held), first, ..Self::default() };
    }

    /// Keeps from now on what the sender says, so that it can be said again. Before the first turn. What it said while nothing was
    /// kept (the process before, or the file, had it so) waits to be written, and is kept as well.
    pub(super) fn keep_first(&mut self, cx: &mut ThreadContext) {
        if self.first.is_some() {
            return;
        }
        let mut first = Box::<Replay>::default();
        if let Held::Bytes { bytes, from, .. } = &self.held {
            first.note(bytes[*from..].get(self.lead_bytes.into()..).unwrap_or(&[]), &mut cx.pipes);
        }
        self.first = Some(first);
    }

    /// Another receiver would get everything that the sender has said so far. `Err`: it was to be kept, and a part is lost.
    pub(super) fn can_begin_again(&self) -> Result<bool, ()> {
        match &self.first {
            _ if self.delivered_bytes == 0 => Ok(true),
            None => Ok(false),
            Some(first) => first.whole().map(|_| true).ok_or(()),
        }
    }

    /// Nobody will need what was kept.
    pub(super) fn forget_first(&mut self, cx: &mut ThreadContext) {
        if let Some(mut first) = self.first.take() {
            first.forget(&mut cx.pipes);
        }
    }

    /// Moves what can be moved, at most its share. Adds what was delivered to `delivered_bytes`.
    pub(super) fn step(
        &mut self,
        from: &mut Side,
        to: &mut Side,
        share: Share,
        cx: &mut ThreadContext,
    ) -> Turn {
        let most = match share {
            Share::Little(_) if self.is_bulk() => {
                return if self.can_move(from, to) { Turn::Unfinished } else { Turn::Waiting };
            }
            Share::Little(bytes) | Share::Slice(bytes) => bytes,
        };
        let (start, read_max) = (self.delivered_bytes, most.min(cx.scratch.len()));
        for _ in 0..OPERATIONS_PER_STEP {
            let moved = usize::try_from(self.delivered_bytes - start).unwrap_or(usize::MAX);
            if moved >= most {
                return Turn::Unfinished;
            }
            if !self.is_empty() {
                if !to.writable || to.broken.is_some() {
                    return Turn::Waiting;
                }
                self.flush(to, cx);
                continue;
            }
            if from.read_out || !from.readable {
                self.slow_down();
                return Turn::Waiting;
            }
            // Nobody is left to read for: the sender keeps its bytes until the session has decided how to end.
            if to.broken.is_some() {
                return Turn::Waiting;
            }
            // A slice whose rest would be a small read takes a whole one.
            self.refill(from, to, (most - moved).max(read_max), cx);
        }
        Turn::Unfinished
    }

    /// It could go on for long: what came last filled every read.
    fn is_bulk(&self) -> bool {
        self.mode == Mode::Splice || self.full_reads > 0
    }

    /// There is something to read or to write, as far as is known.
    fn can_move(&self, from: &Side, to: &Side) -> bool {
        if self.is_empty() { from.readable && !from.read_out && to.broken.is_none() } else { to.writable }
    }

    /// As the next process is told.
    pub(super) fn export(&self) -> manifest::HalfDuplex {
        let held = match &self.held {
            Held::Nothing => manifest::Held::Nothing,
            Held::Bytes { bytes, from, .. } => {
                manifest::Held::Bytes(manifest::Bytes(bytes[*from..].to_vec()))
            }
            Held::Piped(pipe) => {
                let (read_end, write_end) = pipe.ends();
                manifest::Held::Piped {
                    read_end: read_end.as_raw_fd(),
                    write_end: write_end.as_raw_fd(),
                    held_bytes: pipe.held_bytes() as u64,
                    size_bytes: pipe.size_bytes() as u64,
                }
            }
        };
        manifest::HalfDuplex {
            delivered_bytes: self.delivered_bytes,
            held,
            mode: self.mode.word().into(),
            lead_bytes: self.lead_bytes,
            full_reads: self.full_reads,
        }
    }

    /// As the process before told. `pipe` is the one that holds something.
    pub(super) fn import(record: manifest::HalfDuplex, pipe: Option<Pipe>) -> Self {
        let held = match (record.held, pipe) {
            (_, Some(pipe)) => Held::Piped(pipe),
            (manifest::Held::Bytes(bytes), None) if !bytes.0.is_empty() => {
                Held::Bytes { bytes: bytes.0.into(), from: 0, lent: 0 }
            }
            _ => Held::Nothing,
        };
        Self {
            delivered_bytes: record.delivered_bytes,
            held,
            mode: Mode::named(record.mode.as_str()),
            lead_bytes: record.lead_bytes,
            full_reads: record.full_reads,
            quiet_at_bytes: record.delivered_bytes,
            in_line: false,
            first: None,
        }
    }

    /// Everything that was read has been written.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.held, Held::Nothing)
    }

    /// What was read of the sender and not yet written.
    pub(super) fn held_bytes(&self) -> u64 {
        match &self.held {
            Held::Nothing => 0,
            Held::Bytes { bytes, from, .. } => {
                ((bytes.len() - from) as u64).saturating_sub(self.lead_bytes.into())
            }
            Held::Piped(pipe) => pipe.held_bytes() as u64,
        }
    }

    /// The receiver is gone, or the session is over: what was not written is dropped.
    pub(super) fn drop_held(&mut self, cx: &mut ThreadContext) {
        match std::mem::take(&mut self.held) {
            Held::Nothing => {}
            Held::Bytes { lent, .. } => cx.pipes.give_memory_back(lent),
            Held::Piped(pipe) => cx.pipes.give_back(pipe),
        }
    }

    /// It keeps a pipe, since there are bytes in it.
    pub(super) fn keeps_pipe(&self) -> bool {
        matches!(self.held, Held::Piped(_))
    }

    /// Reads what is in its pipe back into memory, if there is any to be lent, so that the pipe is free for others. Tells
    /// whether it was. Goes on by copying.
    pub(super) fn read_back(&mut self, cx: &mut ThreadContext) -> Result<bool, Errno> {
        let Held::Piped(pipe) = &mut self.held else { return Ok(true) };
        let lent = pipe.held_bytes();
        if !cx.pipes.lend_memory(lent) {
            return Ok(false);
        }
        let bytes = pipe.read().inspect_err(|_| cx.pipes.give_memory_back(lent))?;
        self.drop_held(cx);
        self.held = Held::Bytes { bytes: bytes.into(), from: 0, lent };
        if self.mode == Mode::Splice {
            (self.mode, self.full_reads) = (Mode::Copy, 0);
        }
        Ok(true)
    }

    /// Reads once, by the manner of the moment and at most so many bytes, and passes it on as far as the receiver takes
    /// it.
    fn refill(&mut self, from: &mut Side, to: &mut Side, bytes_max: usize, cx: &mut ThreadContext) {
        if self.mode == Mode::Splice
            && !from.urgent
            && let Some(pipe) = cx.pipes.take()
        {
            self.splice(pipe, from, to, bytes_max, cx);
        } else {
            self.copy(from, to, bytes_max, cx);
        }
    }

    fn splice(
        &mut self,
        mut pipe: Pipe,
        from: &mut Side,
        to: &mut Side,
        bytes_max: usize,
        cx: &mut ThreadContext,
    ) {
        match pipe.fill(from.fd(), bytes_max) {
            Ok(0) => from.read_ended(),
            Ok(_) => {
                self.held = Held::Piped(pipe);
                if to.writable {
                    self.flush(to, cx);
                }
                return;
            }
            Err(Errno::AGAIN) => from.nothing_yet(),
            Err(Errno::INTR) => {}
            Err(Errno::INVAL | Errno::NOSYS) => self.mode = Mode::CopyOnly,
            // The pipe got no pages: copying needs none.
            Err(errno) if is_shortage(errno) => (self.mode, self.full_reads) = (Mode::Copy, 0),
            Err(errno) => from.read_failed(errno),
        }
        cx.pipes.give_back(pipe);
    }

    fn copy(&mut self, from: &mut Side, to: &mut Side, bytes_max: usize, cx: &mut ThreadContext) {
        let asked = bytes_max.min(cx.scratch.len());
        let length = match socket::receive(from.fd(), &mut cx.scratch[..asked]) {
            Ok(0) => {
                from.read_ended();
                return;
            }
            Ok(length) => length,
            Err(Errno::AGAIN) => {
                from.nothing_yet();
                return;
            }
            // Another try comes; the bytes are where they were.
            Err(errno) if is_shortage(errno) => return,
            Err(errno) => {
                from.read_failed(errno);
                return;
            }
        };
        if length == asked {
            self.full_reads = self.full_reads.saturating_add(1);
            if self.mode == Mode::Copy && self.full_reads >= FULL_READS_TO_SPLICE {
                self.mode = Mode::Splice;
            }
        } else {
            self.full_reads = 0;
            // A short read emptied the queue; only an announced end is still to be read, or what is behind an urgent mark.
            from.readable = from.ending || from.urgent;
        }
        let bytes = &cx.scratch[..length];
        if let Some(first) = &mut self.first {
            first.note(bytes, &mut cx.pipes);
        }
        let written = if to.writable { write(bytes, to) } else { 0 };
        self.delivered_bytes += written as u64;
        // A receiver that is gone and was never given anything: another may be.
        if written < length && (to.broken.is_none() || self.delivered_bytes == 0) {
            self.held = Held::Bytes { bytes: bytes[written..].into(), from: 0, lent: 0 };
        }
    }

    /// Writes what is held as far as the receiver takes it.
    fn flush(&mut self, to: &mut Side, cx: &mut ThreadContext) {
        match &mut self.held {
            Held::Nothing => {}
            Held::Bytes { bytes, from, .. } => {
                let written = write(&bytes[*from..], to);
                *from += written;
                let ours = u16::try_from(written).unwrap_or(u16::MAX).min(self.lead_bytes);
                self.lead_bytes -= ours;
                self.delivered_bytes += written as u64 - u64::from(ours);
                if *from == bytes.len() {
                    self.drop_held(cx);
                }
            }
            Held::Piped(pipe) => match pipe.drain(to.fd()) {
                Ok(written) => {
                    self.delivered_bytes += written as u64;
                    if pipe.held_bytes() == 0 {
                        self.drop_held(cx);
                    }
                }
                Err(Errno::AGAIN) => to.writable = false,
                Err(Errno::INTR) => {}
                Err(errno) if is_shortage(errno) => {}
                // This socket takes no splices: what is in the pipe goes the other way.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    if let Ok(bytes) = pipe.read() {
                        self.drop_held(cx);
                        self.held = Held::Bytes { bytes: bytes.into(), from: 0, lent: 0 };
                        self.mode = Mode::CopyOnly;
                    } else {
                        to.write_failed(Errno::INVAL);
                    }
                }
                Err(errno) => to.write_failed(errno),
            },
        }
        // A receiver that is gone and was never given anything: another may be.
        let is_for_another = self.delivered_bytes == 0 && matches!(self.held, Held::Bytes { .. });
        if to.broken.is_some() && !is_for_another {
            self.drop_held(cx);
        }
    }

    /// The sender has nothing more for now. A stream that gave little since it last had nothing goes back to copying: one
    /// slice tells nothing, since the one before it may have taken all there was.
    fn slow_down(&mut self) {
        let gave = self.delivered_bytes - self.quiet_at_bytes;
        if gave == 0 {
            return;
        }
        self.quiet_at_bytes = self.delivered_bytes;
        if self.mode == Mode::Splice && gave < BYTES_WORTH_SPLICING {
            self.mode = Mode::Copy;
            self.full_reads = 0;
        }
    }
}

/// The kernel has no memory for it at this moment: that says nothing about the peer.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::NOMEM | Errno::NOBUFS)
}

/// Writes, and notes what the socket said.
fn write(bytes: &[u8], to: &mut Side) -> usize {
    match socket::send(to.fd(), bytes) {
        Ok(written) => {
            // A part was taken: the queue is full, and the kernel will tell when it is not.
            to.writable = written == bytes.len();
            written
        }
        Err(Errno::AGAIN) => {
            to.writable = false;
            0
        }
        Err(errno) if is_shortage(errno) => 0,
        Err(errno) => {
            to.write_failed(errno);
            0
        }
    }
}

/// A step is at most so many system calls on sockets, however little each moves.
const OPERATIONS_PER_STEP: usize = 16;
const FULL_READS_TO_SPLICE: u8 = 2;
const BYTES_WORTH_SPLICING: u64 = 16 * 1024;

#[cfg(test)]
#[path = "half_duplex_tests.rs"]
mod tests;
