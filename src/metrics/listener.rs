//! Listener metrics: sessions by the reason of their end, bytes, trouble at the door, unlogged refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use super::{Counter, Direction, Named, PerWorker};
use crate::config::settings::{Role, Word};
use crate::reason::Reason;

/// The counters of one listener, and whose they are.
#[derive(Debug)]
pub struct ListenerCounters {
    /// The listener's name.
    pub listener: Arc<str>,
    /// `tcp` or `udp`.
    pub proto: &'static str,
    /// Where its pool stands in the snapshot; a reload may give it another.
    pool: AtomicUsize,
    /// Which backends of it, as the place of the role; likewise.
    role: AtomicUsize,
    /// All pools that its clients may get to, with the roles, and whether there is none but by routes; likewise. Of a listener
    /// that no reload has looked at yet: nothing. Sessions never look here.
    pools: Mutex<(Vec<(usize, Role)>, bool)>,
    /// One shard a worker.
    pub shards: PerWorker<ListenerShard>,
    /// Which refusals may still have a log line this second.
    pub refusals: Refusals,
}

/// The listeners there are, those that left the file and still have sessions included; and of those whose protocol is another now,
/// what they counted with the one before, since one name is one series. For the control and the admin thread.
#[derive(Debug, Default)]
pub struct Listeners(RwLock<Vec<Arc<ListenerCounters>>>);

impl Listeners {
    /// These.
    pub fn new(all: Vec<Arc<ListenerCounters>>) -> Self {
        Self(RwLock::new(all))
    }

    /// All of them, in the order of the file.
    pub fn all(&self) -> Vec<Arc<ListenerCounters>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one of this name.
    pub fn named(&self, name: &[u8]) -> Option<Arc<ListenerCounters>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|counters| counters.listener.as_bytes() == name).map(Arc::clone)
    }

    /// The one of this name with this protocol.
    pub fn of_protocol(&self, name: &str, proto: &str) -> Option<Arc<ListenerCounters>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|one| *one.listener == *name && one.proto == proto).map(Arc::clone)
    }

    /// These from now on.
    pub fn replace(&self, all: Vec<Arc<ListenerCounters>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

/// One worker's counters of one listener. Begun = sum over ended + active, at every quiet moment.
#[derive(Debug, Default)]
pub struct ListenerShard {
    /// Sessions that began.
    pub begun: Counter,
    /// Sessions there are.
    pub active: Counter,
    ended: PerReason<Counter>,
    bytes: [Counter; 2],
    /// Bytes that had come and that an end of ours threw away.
    pub cut_bytes: Counter,
    trouble: [Counter; AcceptTrouble::ALL.len()],
    datagrams: [Counter; 2],
    dropped: [Counter; Drop::ALL.len()],
    /// Refusals that the client was told in its own language.
    pub told: Counter,
    cancels: [Counter; Cancelled::ALL.len()],
    /// What only a later build might count: sessions that came from the process before.
    #[cfg(feature = "manifest-next")]
    pub taken_over: Counter,
}

/// One for each reason.
#[derive(Debug)]
struct PerReason<T>([T; Reason::ALL.len()]);

impl<T: Default> Default for PerReason<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| T::default()))
    }
}

impl<T> PerReason<T> {
    fn of(&self, reason: Reason) -> &T {
        &self.0[reason as usize]
    }
}

/// Why a datagram was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// The kernel had no room in the door's receive buffer.
    ReceiveBuffer,
    /// It was larger than anything that fits into one.
    Cut,
    /// From somebody who is not the flow's backend.
    Stranger,
    /// The socket towards the backend, or this machine, could not take it.
    ToBackend,
    /// The door, or this machine, could not send it to the client.
    ToClient,
    /// Its flow had no backend: none was eligible, or each was full.
    NoBackend,
    /// No local port was free towards the backend.
    NoSourcePort,
    /// Its source may not use the listener.
    Denied,
    /// Its flow would have been one too many of the listener.
    LimitSessions,
    /// Its flow would have been one too many of the source.
    LimitSessionsPerSource,
    /// Its flow would have been one too many of the listener in that second.
    LimitRate,
    /// Its flow would have been one too many of the source in that second.
    LimitRatePerSource,
    /// Its flow would have been one too many of the process.
    LimitProcess,
    /// It began like a PROXY header of v2, and was none.
    BadProxyHeader,
    /// Nothing new is taken any more.
    Draining,
    /// The door had no room for more answers that wait to leave.
    SendBuffer,
    /// No route of the listener is for its client, and it has no other pool.
    NoRoute,
}

impl Drop {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::ReceiveBuffer,
        Self::Cut,
        Self::Stranger,
        Self::ToBackend,
        Self::ToClient,
        Self::NoBackend,
        Self::NoSourcePort,
        Self::Denied,
        Self::LimitSessions,
        Self::LimitSessionsPerSource,
        Self::LimitRate,
        Self::LimitRatePerSource,
        Self::LimitProcess,
        Self::BadProxyHeader,
        Self::Draining,
        Self::SendBuffer,
        Self::NoRoute,
    ];

    /// Its word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::ReceiveBuffer => "receive_buffer",
            Self::Cut => "cut",
            Self::Stranger => "stranger",
            Self::ToBackend => "to_backend",
            Self::ToClient => "to_client",
            Self::NoBackend => "no_backend",
            Self::NoSourcePort => "no_source_port",
            Self::Denied => "denied",
            Self::LimitSessions => "limit_sessions",
            Self::LimitSessionsPerSource => "limit_sessions_per_source",
            Self::LimitRate => "limit_rate",
            Self::LimitRatePerSource => "limit_rate_per_source",
            Self::LimitProcess => "limit_process",
            Self::BadProxyHeader => "bad_proxy_header",
            Self::Draining => "draining",
            Self::SendBuffer => "send_buffer",
            Self::NoRoute => "no_route",
        }
    }
}

/// What came of a request to cancel at one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It was sent.
    Sent,
    /// The backend could not be reached in time.
    Failed,
    /// Too many were on their way, or for too long.
    Dropped,
}

impl Cancelled {
    /// Each, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Dropped];

    /// Its word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Why a connection that waited at the door could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptTrouble {
    /// This process has no file descriptor left (EMFILE).
    ProcessFiles,
    /// The system has none left (ENFILE).
    SystemFiles,
    /// No memory for the socket (ENOBUFS, ENOMEM).
    Memory,
    /// The client had gone before it was taken (ECONNABORTED and what Linux passes on of a broken connection).
    Aborted,
    /// Anything else.
    Other,
}

impl AcceptTrouble {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::ProcessFiles, Self::SystemFiles, Self::Memory, Self::Aborted, Self::Other];

    /// Its word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::ProcessFiles => "process_files",
            Self::SystemFiles => "system_files",
            Self::Memory => "memory",
            Self::Aborted => "aborted",
            Self::Other => "other",
        }
    }
}

impl ListenerCounters {
    /// All zero.
    pub fn new(listener: &str, proto: &'static str, pool: usize, workers: usize) -> Self {
        Self {
            listener: listener.into(),
            proto,
            pool: AtomicUsize::new(pool),
            role: AtomicUsize::new(0),
            pools: Mutex::default(),
            shards: PerWorker::new(workers),
            refusals: Refusals::default(),
        }
    }

    /// Where its pool stands in the snapshot.
    pub fn pool(&self) -> usize {
        self.pool.load(Ordering::Relaxed)
    }

    /// Its pool stands there now. Only a reload calls this.
    pub fn set_pool(&self, pool: usize) {
        self.pool.store(pool, Ordering::Relaxed);
    }

    /// Which backends of its pool it wants.
    pub fn role(&self) -> Role {
        Role::WORDS.get(self.role.load(Ordering::Relaxed)).map_or(Role::Any, |(_, role)| *role)
    }

    /// It wants those now. Only who makes or reloads a listener calls this.
    pub fn set_role(&self, role: Role) {
        self.role.store(role.index(), Ordering::Relaxed);
    }

    /// The pools that its clients may get to, with the roles that they want there; without routes its own alone.
    pub fn pools(&self) -> Vec<(usize, Role)> {
        let all = self.pools.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        if all.is_empty() { vec![(self.pool(), self.role())] } else { all }
    }

    /// Clients for whom there is no route are refused.
    pub fn needs_route(&self) -> bool {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Its clients may get to those now. Only who makes or reloads a listener calls this.
    pub fn set_pools(&self, pools: Vec<(usize, Role)>, needs_route: bool) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = (pools, needs_route);
    }

    /// Sessions there are.
    pub fn active(&self) -> u64 {
        self.shards.sum(|shard| shard.active.value())
    }

    /// The sessions that ended, by the word of their reason: every one of this program's, and those that only the process
    /// before had, which stay as they are. Together with the living ones they are those that began.
    pub fn ended(&self) -> Vec<(&str, u64)> {
        let own =
            Reason::ALL.map(|reason| (reason.word(), self.shards.sum(|shard| shard.ended(reason).value())));
        own.into_iter().chain(self.shards.kept(ListenerShard::ENDED)).collect()
    }
}

impl ListenerShard {
    /// Under this word and that of its reason the end of sessions travels.
    pub const ENDED: &str = "sessions";

    /// What is counted, by its words; not the living sessions.
    pub fn counters(&self) -> Vec<Named<'_>> {
        let mut all = vec![Named::new("begun", "", &self.begun)];
        #[cfg(feature = "manifest-next")]
        all.push(Named::new("taken_over", "", &self.taken_over));
        all.extend(Reason::ALL.map(|reason| Named::new(Self::ENDED, reason.word(), self.ended(reason))));
        for direction in Direction::ALL {
            all.push(Named::new("bytes", direction.word(), self.bytes(direction)));
            all.push(Named::new("datagrams", direction.word(), self.datagrams(direction)));
        }
        all.extend(
            AcceptTrouble::ALL.map(|kind| Named::new("accept_errors", kind.word(), self.trouble(kind))),
        );
        all.extend(Drop::ALL.map(|why| Named::new("dropped", why.word(), self.dropped(why))));
        all.push(Named::new("cut_bytes", "", &self.cut_bytes));
        all.push(Named::new("told", "", &self.told));
        all.extend(Cancelled::ALL.map(|what| Named::new("cancels", what.word(), self.cancels(what))));
        all
    }

    /// The sessions that ended for this reason.
    pub fn ended(&self, reason: Reason) -> &Counter {
        self.ended.of(reason)
    }

    /// The bytes that were delivered in this direction.
    pub fn bytes(&self, direction: Direction) -> &Counter {
        &self.bytes[direction as usize]
    }

    /// The datagrams that were sent on in this direction.
    pub fn datagrams(&self, direction: Direction) -> &Counter {
        &self.datagrams[direction as usize]
    }

    /// The datagrams that were not.
    pub fn dropped(&self, why: Drop) -> &Counter {
        &self.dropped[why as usize]
    }

    /// The requests to cancel of which this came, each counted once for each backend.
    pub fn cancels(&self, what: Cancelled) -> &Counter {
        &self.cancels[what as usize]
    }

    /// The connections that were not taken.
    pub fn trouble(&self, kind: AcceptTrouble) -> &Counter {
        &self.trouble[kind as usize]
    }
}

/// At most ten lines a second for each reason, over all workers; the rest is counted for one summary
/// line. A refusal costs a flood of clients nothing, so its log line must cost us little.
#[derive(Debug, Default)]
pub struct Refusals {
    gates: PerReason<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    /// The second in the upper half, the lines of that second in the lower.
    second_and_lines: AtomicU64,
    suppressed: AtomicU64,
}

impl Refusals {
    /// May this refusal have its own line? If not it is counted as suppressed.
    pub fn may_log(&self, reason: Reason, now_s: u32) -> bool {
        let gate = self.gates.of(reason);
        let second = u64::from(now_s) << 32;
        let granted = gate.second_and_lines.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            if state & !LOWER_HALF != second {
                return Some(second | 1);
            }
            (state & LOWER_HALF < LINES_PER_SECOND).then_some(state + 1)
        });
        if granted.is_err() {
            gate.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        granted.is_ok()
    }

    /// How many had no line since the last call.
    pub fn take_suppressed(&self, reason: Reason) -> u64 {
        self.gates.of(reason).suppressed.swap(0, Ordering::Relaxed)
    }
}

const LINES_PER_SECOND: u64 = 10;
const LOWER_HALF: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_and_the_rest_is_counted() {
        let refusals = Refusals::default();
        let logged = (0..100).filter(|_| refusals.may_log(Reason::NoBackend, 5)).count();
        assert_eq!(logged, 10);
        assert!(refusals.may_log(Reason::BackendsFull, 5), "each reason has its own");
        assert!(refusals.may_log(Reason::NoBackend, 6), "and each second");
        assert_eq!(refusals.take_suppressed(Reason::NoBackend), 90);
        assert_eq!(refusals.take_suppressed(Reason::NoBackend), 0);
    }
}
