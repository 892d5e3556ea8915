//! Freeze of a data thread: it stands between two turns, and its sessions are exported to another process, or imported
//! from one.
//!
//! It stands until it is told to go on or to leave, or until whoever ordered it is gone: then it goes on. What must stay
//! true: nothing moves while it stands, so what was told stays exact. What is imported takes its place in the tables while
//! the thread stands, and nothing of it is touched before the thread goes on: until then it may still be another process's.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::mpsc;

use crate::{tcp, udp};

/// What a thread is told while it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezeOrder {
    /// Read the mail that has come, as usual.
    ReadMail,
    /// Tell everything.
    Export,
    /// Go on as if nothing had happened.
    GoOn,
    /// Another process has everything: leave without a word to anyone.
    Leave,
}

/// What it answers. It begins with [`FreezeReply::Frozen`] by itself.
#[derive(Debug)]
pub enum FreezeReply {
    /// It stands.
    Frozen,
    /// The mail was read.
    MailRead,
    /// Everything.
    Export(Box<ThreadExport>),
    /// It cannot tell yet: so much is half done that to finish it would take longer than anybody should stand.
    Unfinished,
}

/// Everything that a thread has.
#[derive(Debug)]
pub struct ThreadExport {
    /// Its doors.
    pub doors: Doors,
    /// Its sessions.
    pub tcp: tcp::Export,
    /// Its flows.
    pub udp: udp::Export,
}

/// Who wants to know what doors a thread has.
pub struct DoorsAsked(pub Box<dyn FnOnce(Doors) + Send>);

impl fmt::Debug for DoorsAsked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("DoorsAsked")
    }
}

/// What is to be given ahead of a freeze, and who wants to know what was.
pub struct PrecopyAsked {
    /// The way to the successor.
    pub give: tcp::Give,
    /// Takes what was given. Called by the data thread: posts and returns.
    pub reply: Box<dyn FnOnce(Vec<tcp::Precopied>) + Send>,
}

impl fmt::Debug for PrecopyAsked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PrecopyAsked")
    }
}

/// The line between a thread that stands and whoever told it to.
pub struct Freeze {
    /// Where it hears.
    pub orders: mpsc::Receiver<FreezeOrder>,
    /// Takes what it says. Called by the data thread: posts and returns.
    pub answer: Box<dyn Fn(FreezeReply) + Send>,
}

impl fmt::Debug for Freeze {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Still")
    }
}

/// What a thread takes over from another process, after its doors were opened: flows find theirs.
#[derive(Debug, Default)]
pub struct ThreadImport {
    /// Its sessions.
    pub sessions: Vec<tcp::Import>,
    /// Its flows.
    pub flows: Vec<udp::Import>,
    /// Of doors of datagrams: the door's id, the number among its sockets, and how many datagrams the kernel has lost there
    /// by now.
    pub lost: Vec<(u64, u32, u32)>,
}

/// Sockets of doors: the door's id, the number among its sockets, the socket, and how many datagrams the kernel had lost
/// there.
pub type Doors = Vec<(u64, u32, RawFd, u32)>;
