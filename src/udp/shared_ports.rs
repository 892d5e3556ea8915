//! Shares of the ephemeral port range: what the threads share of the local ports towards backends: whose share of the
//! range is which, and what a thread has beyond its own.
//!
//! The kernel would let two sockets have one pair of local and remote address and port, and give one of them the answers of
//! both. What must stay true: no two flows have the same pair, whatever their threads. Within its share a thread sees to that
//! alone; here stand the pairs that are in no share of their thread's, each from before any other thread could take it until
//! its flow ends:
//!
//! - flows that have their client's own address and port: a client that comes to two doors has one port;
//! - strays: flows of the process before whose port is of another thread's share now, because the range or the number of
//!   threads was another then.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One for all threads.
#[derive(Debug)]
pub struct SharedPorts {
    range: (u16, u16),
    workers: usize,
    /// Local, backend.
    clients: Mutex<Pairs>,
    strays: Mutex<Pairs>,
    /// How many: the lock is taken only where there are some.
    strays_count: AtomicUsize,
}

/// Pairs of local and remote address and port, and how many pairs each local one is in.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pairs: HashSet<(SocketAddr, SocketAddr)>,
    local_counts: HashMap<SocketAddr, u32>,
}

impl Pairs {
    pub(super) fn contains(&self, local: SocketAddr, backend: SocketAddr) -> bool {
        self.pairs.contains(&(local, backend))
    }

    /// Some pair has this address and port of ours.
    pub(super) fn has_local(&self, local: SocketAddr) -> bool {
        self.local_counts.contains_key(&local)
    }

    fn insert(&mut self, local: SocketAddr, backend: SocketAddr) -> bool {
        let is_new = self.pairs.insert((local, backend));
        if is_new {
            *self.local_counts.entry(local).or_default() += 1;
        }
        is_new
    }

    fn remove(&mut self, local: SocketAddr, backend: SocketAddr) -> bool {
        let was_there = self.pairs.remove(&(local, backend));
        if was_there && let Some(count) = self.local_counts.get_mut(&local) {
            *count -= 1;
            if *count == 0 {
                self.local_counts.remove(&local);
            }
        }
        was_there
    }
}

/// The ports of one thread: every n-th of the range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    first: u16,
    /// How many ports this thread has between one of our addresses and one backend.
    pub(super) count: u32,
    /// Between two ports of this thread.
    step: u16,
}

impl SharedPorts {
    /// The range, first to last, for so many threads.
    pub fn new(range: (u16, u16), workers: usize) -> Self {
        Self {
            range,
            workers,
            clients: Mutex::default(),
            strays: Mutex::default(),
            strays_count: AtomicUsize::new(0),
        }
    }

    /// The share of the `worker`-th thread: every `workers`-th port, from the `worker`-th on.
    pub(super) fn share_of(&self, worker: usize) -> Share {
        let step = u16::try_from(self.workers.max(1)).unwrap_or(u16::MAX);
        let first = self.range.0.saturating_add(u16::try_from(worker).unwrap_or(u16::MAX));
        let count = if first > self.range.1 { 0 } else { u32::from((self.range.1 - first) / step) + 1 };
        Share { first, count, step }
    }

    /// Notes what a flow of the process before is connected from, before any thread serves. It goes on with the
    /// `worker`-th.
    pub fn note(&self, (from, is_client): (SocketAddr, bool), backend: SocketAddr, worker: usize) {
        if is_client {
            self.take_client(from, backend);
        } else if self.share_of(worker).place_of(from.port()).is_none()
            && lock(&self.strays).insert(from, backend)
        {
            self.strays_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the pair for a flow from its client's own address. False: another one has it.
    pub(super) fn take_client(&self, client: SocketAddr, backend: SocketAddr) -> bool {
        lock(&self.clients).insert(client, backend)
    }

    /// Flows to other backends have this client's address and port, too.
    pub(super) fn shares_client(&self, client: SocketAddr) -> bool {
        lock(&self.clients).local_counts.get(&client).is_some_and(|count| *count > 1)
    }

    pub(super) fn give_back_client(&self, client: SocketAddr, backend: SocketAddr) {
        lock(&self.clients).remove(client, backend);
    }

    /// The strays, where there are any. What is seen is held until the guard is dropped.
    pub(super) fn strays(&self) -> Option<MutexGuard<'_, Pairs>> {
        // Those of the process before are noted before any thread serves; later they only become fewer.
        (self.strays_count.load(Ordering::Relaxed) > 0).then(|| lock(&self.strays))
    }

    pub(super) fn give_back_stray(&self, from: SocketAddr, backend: SocketAddr) {
        if lock(&self.strays).remove(from, backend) {
            self.strays_count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Share {
    /// Which of this thread's ports it is.
    pub(super) fn place_of(self, port: u16) -> Option<u32> {
        let ahead = port.checked_sub(self.first)?;
        let place = u32::from(ahead / self.step);
        (ahead.is_multiple_of(self.step) && place < self.count).then_some(place)
    }

    /// The port at a place below `count`.
    pub(super) fn port_at(self, place: u32) -> u16 {
        // Within the range.
        u16::try_from(place).map_or(self.first, |place| self.first + place * self.step)
    }
}

fn lock(pairs: &Mutex<Pairs>) -> MutexGuard<'_, Pairs> {
    pairs.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_of_another_share_is_a_stray_until_its_flow_ends() {
        let (shared, backend) = (SharedPorts::new((1_000, 1_009), 3), address("10.0.0.1:53"));
        // The first thread has 1000, 1003, 1006, 1009.
        shared.note((address("10.0.0.9:1003"), false), backend, 0);
        assert!(shared.strays().is_none(), "its own");
        let strays = ["10.0.0.9:1004", "10.0.0.9:7"].map(address);
        for from in [strays[0], strays[1], strays[0]] {
            shared.note((from, false), backend, 0);
        }
        assert_eq!(shared.strays().unwrap().pairs, strays.map(|from| (from, backend)).into());
        assert!(shared.strays().unwrap().has_local(strays[0]));
        for from in [strays[0], strays[0], strays[1]] {
            shared.give_back_stray(from, backend);
        }
        assert!(shared.strays().is_none());
    }

    #[test]
    fn a_client_of_the_process_before_has_its_pair() {
        let (shared, backend) = (SharedPorts::new((1_000, 1_009), 1), address("10.0.0.1:53"));
        let client = address("192.0.2.7:4000");
        shared.note((client, true), backend, 0);
        assert!(!shared.take_client(client, backend));
        shared.give_back_client(client, backend);
        assert!(shared.take_client(client, backend));
    }
}
