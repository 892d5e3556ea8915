//! Backend (upstream server, endpoint): who it is, and the live numbers that outlast every snapshot.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::LivePool;
use super::departure::{Departure, DepartureCell};
use crate::balance::load::Load;
use crate::config::settings::{self, Role};
use crate::metrics::{BackendShard, CheckCounts, PerWorker};
use crate::roles::Lag;

/// Identity is pool + name: a new weight, tier or limit changes nothing of what is here.
#[derive(Debug)]
pub struct Backend {
    /// No other backend of this process has, had or will have it.
    pub number: u64,
    /// The pool it belongs to.
    pub pool: Arc<LivePool>,
    /// Its name, unique in the pool.
    pub name: Arc<str>,
    ip: IpAddr,
    port: Option<u16>,
    /// What the algorithms see of it.
    pub load: Arc<Load>,
    /// What is counted of it.
    pub shards: Arc<PerWorker<BackendShard>>,
    /// The health verdict, for those that have a place here already; snapshots are for those that look for one.
    down: AtomicBool,
    /// How often it went down since this process knows it. A snapshot tells the same, and each lease remembers which of them
    /// it was taken from: so a session knows whether its backend went down since, even if it is up again.
    falls: AtomicU32,
    /// How often it lost each role since this process knows it, told in the same way.
    losses: [AtomicU32; Role::COUNT],
    /// How far it is behind the primary, in milliseconds and bytes; the largest number: nobody knows.
    lag: [AtomicU64; 2],
    /// Failures of real traffic since its last success.
    failures_in_a_row: AtomicU32,
    /// Sessions in a row that it ended without a byte.
    empty_in_a_row: AtomicU32,
    /// When real traffic last failed here, in milliseconds of the shared clock; 0: never.
    failed_ms: AtomicU64,
    /// What becomes of those who have a place here, when it left the list.
    departure: DepartureCell,
    /// How often it was asked for its health, and ejected.
    pub checks: Arc<CheckCounts>,
}

impl Backend {
    /// A backend without sessions.
    pub fn new(number: u64, pool: &Arc<LivePool>, settings: &settings::Backend, workers: usize) -> Self {
        Self {
            number,
            pool: Arc::clone(pool),
            name: settings.name.as_str().into(),
            ip: settings.ip,
            port: settings.port,
            load: Arc::new(Load::new(settings.max_sessions)),
            shards: Arc::new(PerWorker::new(workers)),
            down: AtomicBool::new(false),
            falls: AtomicU32::new(0),
            losses: [const { AtomicU32::new(0) }; Role::COUNT],
            lag: [const { AtomicU64::new(u64::MAX) }; 2],
            failures_in_a_row: AtomicU32::new(0),
            empty_in_a_row: AtomicU32::new(0),
            failed_ms: AtomicU64::new(0),
            departure: DepartureCell::default(),
            checks: Arc::default(),
        }
    }

    /// The same backend at another address: what is counted goes on, everything else begins anew.
    pub fn moved(&self, number: u64, settings: &settings::Backend) -> Self {
        Self {
            shards: Arc::clone(&self.shards),
            checks: Arc::clone(&self.checks),
            ..Self::new(number, &self.pool, settings, 0)
        }
    }

    /// It answers where these settings say.
    pub fn is_at(&self, settings: &settings::Backend) -> bool {
        (self.ip, self.port) == (settings.ip, settings.port)
    }

    /// Its checks, or an operator, say that it is down.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notes the verdict; true: it went down with it. Only the publisher calls this, before it makes the snapshot that
    /// tells the same.
    pub fn set_down(&self, down: bool) -> bool {
        let fell = down && !self.is_down();
        if fell {
            self.fall();
        }
        self.down.store(down, Ordering::Relaxed);
        fell
    }

    /// It goes down, even if it is down already and has sessions all the same. Only the publisher calls this.
    pub fn fall(&self) {
        self.falls.fetch_add(1, Ordering::Relaxed);
        self.down.store(true, Ordering::Relaxed);
    }

    /// Begins with the verdict that it had: nobody who has a place here saw it go down.
    pub fn begin_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// How often it went down.
    pub fn falls(&self) -> u32 {
        self.falls.load(Ordering::Relaxed)
    }

    /// What becomes of those who have a place here.
    pub fn departure(&self) -> Departure {
        self.departure.get()
    }

    /// It leaves the list, or is back in it. Only the publisher calls this.
    pub fn depart(&self, departure: Departure) {
        self.departure.set(departure);
    }

    /// It serves this role no more: those who have a place for it leave. Only the publisher calls this, before it makes the
    /// snapshot that tells the same.
    pub fn lose(&self, role: Role) {
        self.losses[role.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it lost each role.
    pub fn losses(&self) -> [u32; Role::COUNT] {
        self.losses.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// So far it is behind the primary. Only the publisher calls this, after each answer: a snapshot is for what changes picks.
    pub fn note_lag(&self, lag: Option<Lag>) {
        let (ms, bytes) = lag.map_or((u64::MAX, u64::MAX), |lag| (lag.ms, lag.bytes));
        self.lag[0].store(ms, Ordering::Relaxed);
        self.lag[1].store(bytes, Ordering::Relaxed);
    }

    /// How far it is behind the primary; `None`: nobody knows, or it is the primary.
    pub fn lag(&self) -> Option<Lag> {
        let [ms, bytes] = self.lag.each_ref().map(|part| part.load(Ordering::Relaxed));
        (ms != u64::MAX).then_some(Lag { bytes, ms })
    }

    /// Where a client that came to `client_port` is sent.
    pub fn address(&self, client_port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(client_port))
    }

    /// Its address as people read it; without a port of its own, that is the port a client came to.
    pub fn shown_address(&self) -> String {
        match (self.ip, self.port) {
            (ip, Some(port)) => SocketAddr::new(ip, port).to_string(),
            (IpAddr::V6(ip), None) => format!("[{ip}]"),
            (ip, None) => ip.to_string(),
        }
    }

    /// Real traffic failed here, by no fault of this machine. Tells the publisher when that was once too often.
    pub fn note_failure(&self, now_ms: u64) {
        self.failed_ms.store(now_ms.max(1), Ordering::Relaxed);
        let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.pool.failed(in_a_row);
    }

    /// It ended a session without a byte, where an answer was to be expected. Tells the publisher when that was once too often.
    pub fn note_empty(&self, now_ms: u64) {
        self.failed_ms.store(now_ms.max(1), Ordering::Relaxed);
        let in_a_row = self.empty_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.pool.ended_empty(in_a_row);
    }

    /// It gave a session its first byte. Costs a read of a line that is seldom written.
    pub fn note_answer(&self) {
        if self.empty_in_a_row.load(Ordering::Relaxed) != 0 {
            self.empty_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Sessions in a row that it ended without a byte.
    pub fn empty_in_a_row(&self) -> u32 {
        self.empty_in_a_row.load(Ordering::Relaxed)
    }

    /// Real traffic succeeded. Costs a read of a line that is seldom written.
    pub fn note_success(&self) {
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Failures of real traffic since its last success.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row.load(Ordering::Relaxed)
    }

    /// They were acted on: counting begins anew. Only the publisher calls this.
    pub fn forget_failures(&self) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.empty_in_a_row.store(0, Ordering::Relaxed);
    }

    /// Begins with the failures, and the sessions without a byte, that the process before had seen.
    pub fn adopt_failures(&self, in_a_row: u32, empty_in_a_row: u32, failed_ms: u64) {
        self.failures_in_a_row.store(in_a_row, Ordering::Relaxed);
        self.empty_in_a_row.store(empty_in_a_row, Ordering::Relaxed);
        self.failed_ms.store(failed_ms, Ordering::Relaxed);
    }

    /// Where it is: its address, and its port if it has one of its own.
    pub fn place(&self) -> (IpAddr, Option<u16>) {
        (self.ip, self.port)
    }

    /// When real traffic last failed here, in milliseconds of the shared clock.
    pub fn failed_ms(&self) -> Option<u64> {
        Some(self.failed_ms.load(Ordering::Relaxed)).filter(|at_ms| *at_ms != 0)
    }
}
