//! Queue of sessions that wait for a backend with room (backpressure): one line for all threads, in order.
//!
//! Whoever gives a place back hands it to the longest waiter, on its own thread; nobody polls. What must stay true:
//!
//! - a place that is free while somebody waits is on its way to a waiter. A waiter joins the line first and then hands on
//!   what is free; a giver gives first and then looks whether somebody waits. One of the two sees the other;
//! - newcomers join the end while anyone waits; only a session that had a place and lost it goes to the front;
//! - a session is not sent back to a backend that failed it and nobody has been served by since: it waits for a full one,
//!   and is passed over meanwhile, so that a dead backend nobody has found out about keeps nobody from the others;
//! - a session is in the line once, and a place comes to a session that left the line at most once: it gives it back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::live::ROLES;
use super::{Lease, LivePool, Refusal};
use crate::balance::Ask;
use crate::config::settings::Role;
use crate::random::spread;

/// A session in the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// The thread that has it.
    pub worker: usize,
    /// Its place in that thread's table.
    pub slot: u32,
    /// Which of the sessions of that place.
    pub generation: u32,
    /// Which backends it waits for.
    pub role: Role,
    /// Who asks.
    pub client: SocketAddr,
    /// When it joined.
    pub now_ns: u64,
    /// Backends that failed it, by their numbers: it waits for another one, until they have served somebody since.
    pub tried: Vec<u64>,
}

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Where to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A newcomer.
    Back,
    /// It had a place, at a backend that failed it.
    Front,
}

/// The line of one pool.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// As many as the line is long; changed under its lock.
    waiting: AtomicU32,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    waiters: BTreeMap<Ticket, Waiter>,
    /// How many joined at each end so far.
    joined: [u64; 2],
    /// How many joined as they had stood in a process before this one.
    adopted: u64,
    handed_on: u64,
}

impl Queue {
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_length(&self, line: &Line) {
        self.waiting.store(u32::try_from(line.waiters.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

impl LivePool {
    /// Joins the line; the place will be delivered. `None`: `most` wait already.
    pub fn wait(&self, waiter: Waiter, end: End, most: u32) -> Option<Ticket> {
        let queue = self.line(waiter.role);
        let others = self.waiting().saturating_sub(queue.waiting()) as usize;
        let ticket = {
            let mut line = queue.line();
            // Of several lines each counts the others as they were a moment ago.
            if line.waiters.len() + others >= most as usize {
                return None;
            }
            let joined = &mut line.joined[end as usize];
            *joined += 1;
            let ticket = Ticket(match end {
                End::Back => MIDDLE + *joined,
                End::Front => MIDDLE - *joined,
            });
            line.waiters.insert(ticket, waiter);
            queue.tell_length(&line);
            ticket
        };
        self.look_for_places();
        Some(ticket)
    }

    /// Joins the line in the place that a process before this one knew: before all that come now, in the order in which
    /// they came then. Whatever the length of the line.
    pub fn wait_since(&self, waiter: Waiter, since_us: u64) -> Ticket {
        let queue = self.line(waiter.role);
        let ticket = {
            let mut line = queue.line();
            line.adopted += 1;
            // Milliseconds of some 30 years, and numbers for more sessions than there can be in one of them.
            let came = ((since_us / 1_000) & SINCE_MASK) << ADOPTED_BITS;
            let ticket = Ticket(MIDDLE / 2 + came + (line.adopted & ADOPTED_MASK));
            line.waiters.insert(ticket, waiter);
            queue.tell_length(&line);
            ticket
        };
        self.look_for_places();
        ticket
    }

    /// Somebody has just joined the line.
    fn look_for_places(&self) {
        // A place may have been given back before anybody knew of this waiter. The giver gave it before it looked: see
        // `Lease::drop`.
        fence(Ordering::SeqCst);
        self.hand_on();
    }

    /// Leaves the line. A place that is on its way already comes all the same.
    pub fn leave(&self, ticket: Ticket, role: Role) {
        let queue = self.line(role);
        let mut line = queue.line();
        line.waiters.remove(&ticket);
        queue.tell_length(&line);
    }

    /// Gives what places are free to those that wait longest. Cheap while nobody waits.
    pub fn hand_on(&self) {
        ROLES.iter().for_each(|role| self.hand_on_to(*role));
    }

    fn hand_on_to(&self, role: Role) {
        let queue = self.line(role);
        if queue.waiting() == 0 {
            return;
        }
        let Some(snapshots) = self.snapshots() else { return };
        let snapshot = snapshots.load();
        let Some(view) = snapshot.pools.get(self.slot.0) else { return };
        let mut line = queue.line();
        let (mut from, mut passed_over) = (Bound::Unbounded, 0);
        loop {
            line.handed_on += 1;
            let random = spread(line.handed_on);
            let Some((&ticket, waiter)) = line.waiters.range((from, Bound::Unbounded)).next() else { break };
            let ask = Ask {
                client: waiter.client,
                random: random ^ waiter.now_ns,
                now_ns: waiter.now_ns,
                tried: &view.failing_places_of(&waiter.tried),
            };
            match Lease::take_place(view, role, &ask) {
                Ok(lease) => {
                    if let Some(waiter) = line.waiters.remove(&ticket) {
                        queue.tell_length(&line);
                        self.deliver(waiter, lease);
                    }
                }
                // All that have room have failed this one; whoever comes behind it may not know them.
                Err(Refusal::AllTried) if passed_over < PASSED_OVER_MAX => {
                    passed_over += 1;
                    from = Bound::Excluded(ticket);
                }
                // What one waiter cannot have, the others cannot have either.
                Err(_) => break,
            }
        }
    }
}

/// Waiters in front that one who gives a place back looks past, under the lock of the line.
const PASSED_OVER_MAX: usize = 64;
/// Tickets of the back are above, those of the front below.
const MIDDLE: u64 = 1 << 63;
const ADOPTED_BITS: u32 = 22;
const ADOPTED_MASK: u64 = (1 << ADOPTED_BITS) - 1;
const SINCE_MASK: u64 = (1 << 40) - 1;
