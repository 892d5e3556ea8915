//! Event loop (reactor) of a data thread: wait, serve what is ready, read the mail, give turns, look after deadlines.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::accept::Doors;
use super::freeze::{self, Freeze, FreezeOrder, FreezeReply, ThreadExport, ThreadImport};
use super::walks::Walks;
use super::{Message, Workers};
use crate::flow::Flows;
use crate::pool::SnapshotCell;
use crate::random::Random;
use crate::sys::Errno;
use crate::sys::poller::{Events, Poller, Ready};
use crate::sys::udp_probe::Offloads;
use crate::tcp::Sessions;
use crate::thread_context::{PipePool, SCRATCH_BYTES, SendCancel, ThreadContext, Token};
use crate::udp::{Origins, Pump, SharedPorts};

/// What a data thread needs to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its number.
    pub worker: usize,
    /// All threads.
    pub workers: Arc<Workers>,
    /// The pools.
    pub snapshots: Arc<SnapshotCell>,
    /// The zero of the clock that all threads share.
    pub epoch: Instant,
    /// Differs from thread to thread.
    pub seed: u64,
    /// Its share of the pipe pages.
    pub pipe_budget_bytes: u64,
    /// Its share of the descriptors for pipes, two each.
    pub pipes_max: u64,
    /// Permits flows in tables where nobody outside can foresee them.
    pub flow_hash_key: [u8; 16],
    /// Local ports towards backends; one for all threads.
    pub ports: Arc<SharedPorts>,
    /// What the kernel does with several datagrams at once.
    pub offloads: Offloads,
    /// Where requests to cancel go.
    pub send_cancel: SendCancel,
}

/// Starts a data thread. It ends after [`Message::Leave`], when its last session has gone; its error is one of starting.
/// `alive` is dropped when it ends, however it does.
pub fn spawn(plan: Plan, alive: impl Send + 'static) -> Result<JoinHandle<()>, std::io::Error> {
    let poller = Arc::clone(plan.workers.poller(plan.worker));
    poller.watch_input(plan.workers.mailbox(plan.worker).waker(), Token::Mailbox.pack())?;
    thread::Builder::new().name(format!("data-{}", plan.worker)).spawn(move || {
        let _alive = alive;
        EventLoop::new(plan, poller).run();
    })
}

struct EventLoop {
    workers: Arc<Workers>,
    epoch: Instant,
    cx: ThreadContext,
    doors: Doors,
    sessions: Sessions,
    pump: Pump,
    mail: Vec<Message>,
    /// One at a time goes on, a little in each turn.
    walks: Walks,
    /// Signs of life that were asked for; they are given when doors that were to close are closed.
    pings: u32,
    /// To stand still at the end of this turn.
    freeze: Option<Freeze>,
    /// Some of what was imported has not begun yet.
    begins: bool,
    leaving: bool,
}

impl EventLoop {
    fn new(plan: Plan, poller: Arc<Poller>) -> Self {
        let now_us = micros_since(plan.epoch);
        Self {
            workers: Arc::clone(&plan.workers),
            epoch: plan.epoch,
            cx: ThreadContext {
                worker: plan.worker,
                poller,
                scratch: vec![0; SCRATCH_BYTES].into(),
                pipes: PipePool::new(plan.pipe_budget_bytes).with_pipes_max(plan.pipes_max),
                snapshots: Arc::clone(&plan.snapshots),
                now_us,
                random: Random::new(plan.seed),
                shortage: None,
                give_permit_back: {
                    let (workers, worker) = (Arc::clone(&plan.workers), plan.worker);
                    Box::new(move || workers.give_back(worker, 1))
                },
                send_cancel: plan.send_cancel,
            },
            doors: Doors::new(),
            sessions: Sessions::new(now_us / 1_000),
            pump: Pump::new(
                Flows::new(plan.flow_hash_key, now_us / 1_000),
                Origins::new(Arc::clone(&plan.ports), plan.worker, plan.seed, plan.offloads.merging.is_ok()),
                plan.offloads,
            ),
            mail: Vec::new(),
            walks: Walks::default(),
            pings: 0,
            freeze: None,
            begins: false,
            leaving: false,
        }
    }

    fn run(mut self) {
        let mut events = Events::new();
        while !(self.leaving && self.sessions.is_empty() && self.pump.is_empty()) {
            if let Err(errno) = self.cx.poller.wait(self.sleep(), &mut events) {
                // epoll_wait fails only for a set that is no set: nothing could be served any more.
                assert!(errno == Errno::INTR, "waiting for events failed: {errno}");
            }
            self.turn(&events);
            // What waits at doors that close would be lost with this process.
            if !self.doors.is_closing()
                && let Some(freeze) = self.freeze.take()
                && !self.stand(&freeze)
            {
                return;
            }
        }
    }

    /// Serves what is ready, and gives everything else that is due its share.
    fn turn(&mut self, events: &Events) {
        // One look at the clock serves the whole batch.
        self.cx.now_us = micros_since(self.epoch);
        if self.begins {
            // Before anybody who comes now: they came first.
            self.begins = self.sessions.begin_imported(&mut self.cx) | self.pump.begin_imported(&mut self.cx);
        }
        for event in events.iter() {
            self.serve(&event);
        }
        // Datagrams do not wait for bulk.
        self.pump.end_turn(&mut self.cx);
        self.sessions.run_again(&mut self.cx);
        self.sessions.on_time(&mut self.cx);
        self.pump.on_time(&mut self.cx);
        if let Some(permille) = self.pump.ports_in_use_permille(self.cx.now_ms()) {
            self.workers.note_source_ports(self.cx.worker, permille);
        }
        self.walks.go_on(&mut self.sessions, &mut self.pump, &mut self.cx);
        self.workers.note_walks(self.cx.worker, !self.walks.is_empty());
        if self.doors.is_closing() {
            self.doors.go_on_closing(&self.workers, &mut self.sessions, &mut self.cx);
        }
        self.answer_pings();
        self.doors.rest_if_short(&self.workers, &mut self.cx);
        self.doors.on_time(&self.workers, &self.cx);
    }

    /// Whoever asked may have had doors closed before, and wants to know that they are.
    fn answer_pings(&mut self) {
        if !self.doors.is_closing() {
            (0..std::mem::take(&mut self.pings)).for_each(|_| self.workers.beat(self.cx.worker));
        }
    }

    /// Stands still until told otherwise. False: everything is another process's now.
    fn stand(&mut self, freeze: &Freeze) -> bool {
        // Whoever does not listen any more has gone, which the next order shows.
        let say = |said| (freeze.answer)(said);
        say(FreezeReply::Frozen);
        loop {
            match freeze.orders.recv() {
                Ok(FreezeOrder::ReadMail) => {
                    self.cx.now_us = micros_since(self.epoch);
                    self.read_mail();
                    // What is left of it for the doors leaves now: nothing may wait in a thread that stands.
                    self.pump.end_turn(&mut self.cx);
                    while self.doors.is_closing() {
                        self.doors.go_on_closing(&self.workers, &mut self.sessions, &mut self.cx);
                    }
                    self.answer_pings();
                    say(FreezeReply::MailRead);
                }
                Ok(FreezeOrder::Export) => {
                    // Who was to end ends here, as whoever ordered it was promised, and who ends with a backend takes
                    // his moment along: the next process does not know of it.
                    if !self.walks.finish(&mut self.sessions, &mut self.pump, &mut self.cx) {
                        say(FreezeReply::Unfinished);
                        continue;
                    }
                    let worker = u32::try_from(self.cx.worker).unwrap_or(u32::MAX);
                    let (tcp, udp) = (self.sessions.export(worker), self.pump.export(worker));
                    say(FreezeReply::Export(Box::new(ThreadExport { doors: self.export_doors(), tcp, udp })));
                }
                Ok(FreezeOrder::Leave) => return false,
                Ok(FreezeOrder::GoOn) | Err(mpsc::RecvError) => return true,
            }
        }
    }

    fn export_doors(&self) -> freeze::Doors {
        let tcp = self.doors.export().map(|(id, number, fd)| (id, number, fd, 0));
        tcp.chain(self.pump.export_doors()).collect()
    }

    /// Takes what another process had into the tables. It begins when this thread goes on: until then it may still be the
    /// other's.
    fn import(&mut self, import: ThreadImport) {
        #[cfg(feature = "manifest-next")]
        assert!(std::env::var_os("EVENKEEL_NEXT_FAILS").is_none_or(|how| how != "thread"), "asked to fail");
        let ThreadImport { sessions, flows, lost } = import;
        lost.into_iter().for_each(|lost| self.pump.import_lost(lost));
        self.sessions.import(sessions, &mut self.cx);
        flows.into_iter().for_each(|flow| self.pump.import(flow, &mut self.cx));
        self.begins = true;
    }

    /// How long nothing is due; `None`: until something is ready.
    fn sleep(&self) -> Option<Duration> {
        if self.begins || self.sessions.is_busy() || !self.walks.is_empty() || self.doors.is_closing() {
            return Some(Duration::ZERO);
        }
        let wake_ms = [self.sessions.next_wake_ms(), self.pump.next_wake_ms(), self.doors.next_wake_ms()]
            .into_iter()
            .flatten()
            .min()?;
        // The clock of the last turn is a little old, so this sleeps a little too long, never too short.
        Some(Duration::from_millis(wake_ms.saturating_sub(micros_since(self.epoch) / 1_000)))
    }

    fn serve(&mut self, event: &Ready) {
        match Token::unpack(event.token) {
            Token::Session { slot, generation, side } => {
                self.sessions.on_ready(slot, generation, side, event, &mut self.cx);
            }
            Token::Door(door) => self.doors.on_ready(door, &self.workers, &mut self.sessions, &mut self.cx),
            Token::DatagramDoor(door) => self.pump.on_door_ready(door, &mut self.cx),
            Token::Flow(flow) => self.pump.on_flow_ready(flow, &mut self.cx),
            Token::Mailbox => self.read_mail(),
        }
    }

    fn read_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.workers.mailbox(self.cx.worker).take(&mut mail);
        for message in mail.drain(..) {
            match message {
                Message::Open(door) => self.doors.open(door, &self.cx),
                Message::OpenDatagrams(door) => self.pump.open(door, &self.cx),
                Message::Renew(id, terms) => self.doors.renew(id, &terms),
                Message::RenewDatagrams(id, terms) => self.pump.renew(id, &terms),
                Message::LeaveDoor(id) => self.doors.leave(id),
                Message::CloseDoor(id) => self.doors.close_one(id),
                Message::CloseDatagrams(id) => {
                    self.pump.close_door(id, &self.cx);
                    self.walks.leave_doors(&self.sessions, &self.pump);
                }
                Message::Granted { waiter, lease } => {
                    self.sessions.on_granted(&waiter, lease, &mut self.cx);
                }
                Message::Verdicts => self.walks.close_fallen(&self.sessions, &self.pump),
                Message::Have(arrival) => self.sessions.open(arrival, &mut self.cx),
                Message::CloseDoors => {
                    self.doors.close();
                    self.pump.drain();
                }
                Message::Cut(reason) => self.walks.cut(reason, &self.sessions, &self.pump),
                Message::Search(search) => {
                    self.walks.search(*search, &self.sessions, &self.pump, &self.cx);
                }
                Message::TellDoors(freeze::DoorsAsked(reply)) => reply(self.export_doors()),
                Message::Precopy(asked) => self.walks.precopy(asked, &self.sessions, &self.pump),
                Message::Freeze(freeze) => self.freeze = Some(freeze),
                Message::Import(import) => self.import(*import),
                Message::Cancelled { counters, what, backends } => {
                    counters.shards.of(self.cx.worker).cancels(what).add(backends);
                }
                Message::Ping => self.pings += 1,
                Message::Leave => self.leaving = true,
            }
        }
        self.mail = mail;
    }
}

fn micros_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "event_loop_tests.rs"]
mod tests;
