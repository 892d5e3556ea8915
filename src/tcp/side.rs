//! Side of a session: one socket, and what is known of it without asking the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::manifest;
use crate::sys::Errno;
use crate::sys::poller::Ready;

/// The client's side of a session.
pub(super) const CLIENT: usize = 0;
/// The backend's side.
pub(super) const BACKEND: usize = 1;

/// One socket of a session. The flags follow edge-triggered readiness: true until the kernel says EAGAIN.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) fd: OwnedFd,
    /// A read may give something.
    pub(super) readable: bool,
    /// A write may find room.
    pub(super) writable: bool,
    /// The kernel announced the end of this stream: reads go on until it comes, even after a short one.
    pub(super) ending: bool,
    /// Everything it will ever send has been read.
    pub(super) read_out: bool,
    /// We told it that no more will come.
    pub(super) finished: bool,
    /// Its connection is gone; what it had sent may still be readable.
    pub(super) broken: Option<Errno>,
    /// The kernel reported an error, which a read may never tell: behind an end that was received before it.
    failed: bool,
    /// The peer sent urgent data: reads stop short at its mark, and splices for good.
    pub(super) urgent: bool,
}

impl Side {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            readable: false,
            writable: false,
            ending: false,
            read_out: false,
            finished: false,
            broken: None,
            failed: false,
            urgent: false,
        }
    }

    /// As the next process is told.
    pub(super) fn export(&self) -> manifest::Side {
        manifest::Side {
            fd: self.fd.as_raw_fd(),
            readable: self.readable,
            writable: self.writable,
            ending: self.ending,
            read_out: self.read_out,
            finished: self.finished,
            broken: self.broken.map(Errno::raw_os_error),
            failed: self.failed,
            urgent: self.urgent,
        }
    }

    /// As the process before told, with its socket.
    pub(super) fn import(record: &manifest::Side, fd: OwnedFd) -> Self {
        Self {
            fd,
            readable: record.readable,
            writable: record.writable,
            ending: record.ending,
            read_out: record.read_out,
            finished: record.finished,
            broken: record.broken.map(Errno::from_raw_os_error),
            failed: record.failed,
            urgent: record.urgent,
        }
    }

    /// Takes over what the kernel reported.
    pub(super) fn note(&mut self, ready: &Ready) {
        self.readable |= ready.readable;
        self.writable |= ready.writable;
        self.ending |= ready.ending;
        self.failed |= ready.failed;
        self.urgent |= ready.urgent;
        self.learn_error();
    }

    /// Nothing was reported of it that was not dealt with.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.readable && !self.ending && !self.urgent && !self.is_gone()
    }

    /// A read found the end of the stream.
    pub(super) fn read_ended(&mut self) {
        self.read_out = true;
        self.learn_error();
    }

    /// Nothing can reach it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.failed || self.broken.is_some()
    }

    /// All was read and the connection is in error: no read will find the error any more, so it is asked for.
    fn learn_error(&mut self) {
        if self.failed && self.read_out && self.broken.is_none() {
            let errno = crate::sys::tcp::take_error(self.fd());
            self.broken = Some(errno.unwrap_or(Errno::CONNRESET));
        }
    }

    /// A read found nothing. Of a connection that is gone nothing more will come.
    pub(super) fn nothing_yet(&mut self) {
        self.readable = false;
        self.read_out |= self.broken.is_some();
    }

    /// A write found the connection gone. The kernel has forgotten the error now, and what was received before it is
    /// still to be read.
    pub(super) fn write_failed(&mut self, errno: Errno) {
        self.broken.get_or_insert(errno);
        self.readable = true;
        self.ending = true;
    }

    /// A read found the connection gone: after everything that had been received.
    pub(super) fn read_failed(&mut self, errno: Errno) {
        self.broken.get_or_insert(errno);
        self.read_out = true;
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
