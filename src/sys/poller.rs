//! Poller (epoll), and the eventfd that wakes a thread sleeping in it.
//!
//! Sockets are watched edge-triggered for everything at once, so that a session costs one registration per socket in
//! its whole life. Doors and datagram sockets are level-triggered: what one turn does not take is offered again in the
//! next, and nobody has to read until there is nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::Errno;

/// What is ready on one watched descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The number given when it was registered.
    pub token: u64,
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer finished sending, or the connection is over: a read will sooner or later tell.
    pub ending: bool,
    /// The connection is in error.
    pub failed: bool,
    /// Urgent data has come: a read stops at its mark, however much is behind it.
    pub urgent: bool,
}

/// One epoll set.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

/// Room for what one wait reports; kept by the waiting thread.
pub struct Events(Vec<epoll::Event>);

impl Poller {
    /// An empty set.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches a socket for everything, edge-triggered. It leaves the set when it is closed.
    pub fn watch_stream(&self, fd: impl AsFd, token: u64) -> Result<(), Errno> {
        let everything =
            EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
        epoll::add(&self.epoll, fd, EventData::new_u64(token), everything)
    }

    /// Watches a listening socket, a datagram socket or an eventfd, level-triggered. Not for room: every datagram that
    /// leaves would wake the thread.
    pub fn watch_input(&self, fd: impl AsFd, token: u64) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN)
    }

    /// Watches such a socket for room to write as well, or not any more.
    pub fn watch_room(&self, fd: impl AsFd, token: u64, is_wanted: bool) -> Result<(), Errno> {
        let room = if is_wanted { EventFlags::OUT } else { EventFlags::empty() };
        epoll::modify(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN | room)
    }

    /// Stops watching.
    pub fn forget(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.epoll, fd)
    }

    /// Sleeps until something is ready or the time is over (`None`: for ever), and puts what is ready into `events`.
    /// An interrupting signal counts as an empty wake-up.
    pub fn wait(&self, timeout: Option<Duration>, events: &mut Events) -> Result<(), Errno> {
        events.0.clear();
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let spare = rustix::buffer::spare_capacity(&mut events.0);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl Events {
    /// Room for a full batch.
    pub fn new() -> Self {
        Self(Vec::with_capacity(EVENTS_MAX))
    }

    /// What was ready.
    pub fn iter(&self) -> impl Iterator<Item = Ready> {
        self.0.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                token: data.u64(),
                readable: flags
                    .intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
                writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
                ending: flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
                failed: flags.contains(EventFlags::ERR),
                urgent: flags.contains(EventFlags::PRI),
            }
        })
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

/// Wakes a sleeping [`Poller`] from another thread.
#[derive(Debug)]
pub struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    /// A waker to be watched with [`Poller::watch_input`].
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Wakes. Many wakes before the other side looks count as one.
    pub fn wake(&self) {
        // The write can fail only with EAGAIN at 2^64-1 unread wakes: awake is what it is then anyway.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    /// Clears the wakes that came so far.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.eventfd, &mut count);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// Events taken per call. More would only delay the first session of the batch.
const EVENTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_ends_the_sleep_and_is_cleared() {
        let poller = Poller::new().unwrap();
        let waker = Waker::new().unwrap();
        poller.watch_input(&waker, 7).unwrap();
        let mut events = Events::new();
        poller.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert_eq!(events.iter().count(), 0);
        waker.wake();
        waker.wake();
        poller.wait(Some(Duration::from_secs(60)), &mut events).unwrap();
        assert_eq!(events.iter().map(|ready| ready.token).collect::<Vec<_>>(), [7]);
        waker.clear();
        poller.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert_eq!(events.iter().count(), 0);
    }
}
