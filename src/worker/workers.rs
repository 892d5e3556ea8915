//! Workers: what the data threads know of each other: how many sessions each holds, and where to post to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::{Mailbox, Message};
use crate::limits::Permits;
use crate::sys::Errno;
use crate::sys::poller::Poller;

/// All data threads of one process.
#[derive(Debug)]
pub struct Workers {
    members: Box<[Member]>,
    /// Sessions of all threads, those on their way to a thread included.
    tcp_sessions: AtomicU32,
    tcp_sessions_max: AtomicU32,
    /// For so many there are descriptors.
    tcp_sessions_room: AtomicU32,
    /// Flows of all threads.
    udp_permits: Arc<Permits>,
}

/// On cache lines of its own: each is written by its thread all the time and read by the others at each accept.
#[derive(Debug)]
#[repr(align(128))]
struct Member {
    sessions: AtomicU32,
    /// Pings posted, and pings answered: in order, so the n-th answer is that to the n-th ping.
    pings: AtomicU64,
    beats: AtomicU64,
    /// How much of its local ports towards one backend is in use.
    ports_permille: AtomicU32,
    /// It lets its doors rest: there is nothing to serve another connection with.
    rests: AtomicBool,
    /// It is on its way through its tables.
    walks: AtomicBool,
    mailbox: Mailbox,
    /// What the thread waits for.
    poller: Arc<Poller>,
}

impl Workers {
    /// Threads that are yet to be spawned.
    pub fn new(workers: usize, tcp_sessions_max: u32, udp_permits: Arc<Permits>) -> Result<Self, Errno> {
        let member = |_| {
            Ok(Member {
                sessions: AtomicU32::new(0),
                pings: AtomicU64::new(0),
                beats: AtomicU64::new(0),
                ports_permille: AtomicU32::new(0),
                rests: AtomicBool::new(false),
                walks: AtomicBool::new(false),
                mailbox: Mailbox::new()?,
                poller: Arc::new(Poller::new()?),
            })
        };
        Ok(Self {
            members: (0..workers).map(member).collect::<Result<_, Errno>>()?,
            tcp_sessions: AtomicU32::new(0),
            tcp_sessions_max: AtomicU32::new(tcp_sessions_max),
            tcp_sessions_room: AtomicU32::new(u32::MAX),
            udp_permits,
        })
    }

    /// How many threads.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Where to post to a thread.
    pub fn mailbox(&self, worker: usize) -> &Mailbox {
        &self.members[worker].mailbox
    }

    /// What a thread waits for: others watch sockets there for it before it begins.
    pub fn poller(&self, worker: usize) -> &Arc<Poller> {
        &self.members[worker].poller
    }

    /// TCP sessions and UDP flows of the whole process.
    pub fn sessions(&self) -> u32 {
        self.tcp_sessions().saturating_add(self.udp_permits.taken())
    }

    /// Flows of the whole process.
    pub fn udp_permits(&self) -> &Permits {
        &self.udp_permits
    }

    /// The same, to be held.
    pub fn shared_udp_permits(&self) -> Arc<Permits> {
        Arc::clone(&self.udp_permits)
    }

    /// How much of the local ports towards one backend is in use, in thousandths, on the thread that uses most.
    pub fn source_ports_permille(&self) -> u32 {
        self.members.iter().map(|member| member.ports_permille.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    pub(super) fn note_source_ports(&self, worker: usize, permille: u32) {
        self.members[worker].ports_permille.store(permille, Ordering::Relaxed);
    }

    /// Some thread goes through its tables for those whom something concerns, a slice in each turn.
    pub fn any_walks(&self) -> bool {
        self.members.iter().any(|member| member.walks.load(Ordering::Relaxed))
    }

    pub(super) fn note_walks(&self, worker: usize, walks: bool) {
        self.members[worker].walks.store(walks, Ordering::Relaxed);
    }

    /// TCP sessions of the whole process.
    pub fn tcp_sessions(&self) -> u32 {
        self.tcp_sessions.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn tcp_sessions_max(&self) -> u32 {
        self.tcp_sessions_max.load(Ordering::Relaxed)
    }

    /// Changes how many there may be; those above a lowered limit stay.
    pub fn set_tcp_sessions_max(&self, most: u32) {
        self.tcp_sessions_max.store(most, Ordering::Relaxed);
    }

    /// Says for how many there are descriptors; none by itself.
    pub fn set_tcp_sessions_room(&self, room: u32) {
        self.tcp_sessions_room.store(room, Ordering::Relaxed);
    }

    /// How many can be served: as many as there may be, or as there are descriptors for.
    pub fn tcp_sessions_served(&self) -> u32 {
        self.tcp_sessions_max().min(self.tcp_sessions_room.load(Ordering::Relaxed))
    }

    /// Another session would take descriptors that are kept for everything else. False where it would be refused anyway.
    pub fn is_out_of_files(&self) -> bool {
        let now = self.tcp_sessions();
        now >= self.tcp_sessions_room.load(Ordering::Relaxed) && now < self.tcp_sessions_max()
    }

    /// Connections wait at the doors of some thread, since there is nothing to serve them with.
    pub fn accepting_rests(&self) -> bool {
        self.is_out_of_files() || self.members.iter().any(|member| member.rests.load(Ordering::Relaxed))
    }

    pub(super) fn note_rests(&self, worker: usize, rests: bool) {
        self.members[worker].rests.store(rests, Ordering::Relaxed);
    }

    /// Sessions of one thread.
    pub fn sessions_of(&self, worker: usize) -> u32 {
        self.members[worker].sessions.load(Ordering::Relaxed)
    }

    /// Asks a thread for a sign of life; [`Self::has_answered`] takes the ticket. The answer also shows that everything
    /// this asker posted before was done (doors are closed; walks over the tables may still go on): tickets are numbered before they are posted, so a later ping of somebody else
    /// may be read first, and the n-th answer comes when n pings were read, whoever asked.
    pub fn ping(&self, worker: usize) -> u64 {
        let ticket = self.members[worker].pings.fetch_add(1, Ordering::AcqRel) + 1;
        self.members[worker].mailbox.post(Message::Ping);
        ticket
    }

    /// Has the thread given the sign of this ticket?
    pub fn has_answered(&self, worker: usize, ticket: u64) -> bool {
        self.members[worker].beats.load(Ordering::Acquire) >= ticket
    }

    pub(super) fn beat(&self, worker: usize) {
        self.members[worker].beats.fetch_add(1, Ordering::Release);
    }

    /// Takes a place for a session at the thread that is to have it: `worker` itself, or the least loaded one when that
    /// holds clearly fewer. `None`: the process is at its limit. Exact: the places of all threads add up to the total.
    pub(super) fn admit(&self, worker: usize) -> Option<usize> {
        let max = self.tcp_sessions_max();
        self.tcp_sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < max).then_some(now + 1))
            .ok()?;
        for _ in 0..RACES_MAX {
            let (keeper, held) = self.keeper(worker);
            let sessions = &self.members[keeper].sessions;
            // Threads that pass connections on at the same moment must not all choose the same least loaded one.
            if sessions.compare_exchange(held, held + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(keeper);
            }
        }
        self.members[worker].sessions.fetch_add(1, Ordering::Relaxed);
        Some(worker)
    }

    /// Counts a TCP session that was there before this process, whatever the limit.
    pub fn import(&self, worker: usize) {
        self.tcp_sessions.fetch_add(1, Ordering::Relaxed);
        self.members[worker].sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread that is to have the next session, and how many it holds.
    fn keeper(&self, worker: usize) -> (usize, u32) {
        let mine = self.sessions_of(worker);
        let all = (0..self.members.len()).map(|other| (other, self.sessions_of(other)));
        let (least, fewest) = all.min_by_key(|(_, held)| *held).unwrap_or((worker, mine));
        let gap = CLEARLY_MORE + mine / 16;
        if mine >= fewest.saturating_add(gap) { (least, fewest) } else { (worker, mine) }
    }

    /// Gives places of this thread back.
    pub(super) fn give_back(&self, worker: usize, count: u32) {
        self.members[worker].sessions.fetch_sub(count, Ordering::Relaxed);
        self.tcp_sessions.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Passing a connection on costs two wake-ups, so small differences stay: they even out by themselves.
const CLEARLY_MORE: u32 = 3;
/// Lost races after which a thread keeps what it accepted.
const RACES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_sessions_at_one_door_spread_over_four_threads() {
        let workers = Workers::new(4, 1_000, Arc::new(Permits::new(None))).unwrap();
        for _ in 0..40 {
            assert!(workers.admit(0).is_some());
        }
        let held: Vec<u32> = (0..4).map(|worker| workers.sessions_of(worker)).collect();
        assert_eq!(held.iter().sum::<u32>(), 40);
        assert!(held.iter().all(|&n| n <= 14), "{held:?}");
    }

    #[test]
    fn threads_that_pass_on_at_once_do_not_overload_the_least_loaded() {
        for _ in 0..300 {
            let workers = Workers::new(4, 1_000, Arc::new(Permits::new(None))).unwrap();
            let barrier = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        barrier.wait();
                        // All connections come to one door, whichever thread looks.
                        for _ in 0..10 {
                            assert!(workers.admit(0).is_some());
                        }
                    });
                }
            });
            let held: Vec<u32> = (0..4).map(|worker| workers.sessions_of(worker)).collect();
            assert_eq!(held.iter().sum::<u32>(), 40);
            assert!(held.iter().all(|&n| n <= 13), "{held:?}");
        }
    }

    #[test]
    fn an_answer_belongs_to_its_own_ping() {
        let workers = Workers::new(2, 10, Arc::new(Permits::new(None))).unwrap();
        let (first, second) = (workers.ping(0), workers.ping(0));
        workers.beat(0);
        assert!(workers.has_answered(0, first) && !workers.has_answered(0, second));
        workers.beat(0);
        assert!(workers.has_answered(0, second));
        let other = workers.ping(1);
        assert!(!workers.has_answered(1, other), "each thread has its own");
    }

    #[test]
    fn the_limit_is_exact_under_contention() {
        let workers = Workers::new(4, 1_000, Arc::new(Permits::new(None))).unwrap();
        let admitted: usize = std::thread::scope(|scope| {
            let workers = &workers;
            let threads: Vec<_> = (0..4)
                .map(|worker| {
                    scope.spawn(move || (0..1_000).filter(|_| workers.admit(worker).is_some()).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((admitted, workers.tcp_sessions()), (1_000, 1_000));
        let held = workers.sessions_of(0);
        workers.give_back(0, held);
        assert_eq!(workers.tcp_sessions(), 1_000 - held);
    }
}
