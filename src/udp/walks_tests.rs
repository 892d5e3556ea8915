//! Walks over a table of thousands of flows, slice by slice.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::{BatchSize, Door, Import, Origins, SharedPorts, Terms};
use super::*;
use crate::config::settings::LogSessions;
use crate::flow::Flows;
use crate::limits::SessionLimits;
use crate::manifest;
use crate::pool::Lease;
use crate::session_query::Filter;
use crate::sys::Errno;
use crate::sys::udp;
use crate::sys::udp_batch::Outgoing;
use crate::sys::udp_probe::Lack;
use crate::sys::udp_probe::Offloads;
use crate::thread_context::trial::{Trial, quiet};
use crate::thread_context::{ENDS_PER_TURN, LOOKS_PER_TURN};

/// A table of flows, and what they are made of.
struct Table {
    trial: Trial,
    terms: Arc<Terms>,
    pump: Pump,
    cx: ThreadContext,
    begun: u32,
}

impl Table {
    fn new(on_down: &str) -> Self {
        let trial = Trial::new(&format!(
            "protocol: udp, backends: ['127.0.0.1:2', '127.0.0.1:3'], on_down: {on_down}"
        ));
        let given = manifest::FlowTerms {
            listener: "door".into(),
            pool: "door".into(),
            idle_ms: Some(60_000),
            lifetime_ms: None,
            responses: 0,
            requests: 0,
            log_sessions: "off".into(),
        };
        let limits = Arc::new(SessionLimits::new(None, None, None));
        let counters = Arc::clone(&trial.counters);
        let terms = Terms::of_before(&given, LogSessions::Off, counters, &trial.live, limits);
        let cx = trial.cx();
        let lack = || Err(Lack::Untried(Errno::NOSYS));
        let offloads = Offloads { merging: lack(), splitting: lack() };
        let origins = Origins::new(Arc::new(SharedPorts::new((40_000, 60_000), 1)), 0, 1, false);
        let pump = Pump::new(Flows::new([3; 16], cx.now_ms()), origins, offloads);
        let mut table = Self { trial, terms: Arc::new(terms), pump, cx, begun: 0 };
        table.open(1);
        table
    }

    /// Opens a door of this name.
    fn open(&mut self, id: u64) -> SocketAddr {
        let fd = udp::bind_door(Some([127, 0, 0, 1].into()), 0, false).unwrap();
        let address = crate::sys::tcp::local_address(std::os::fd::AsFd::as_fd(&fd)).unwrap();
        let door = Door {
            id,
            number: 0,
            fd,
            ip: Some(address.ip()),
            port: address.port(),
            is_dual: false,
            terms: Arc::clone(&self.terms),
            lost_seen: 0,
            batch_size: BatchSize::default(),
        };
        self.pump.open(door, &self.cx);
        address
    }

    /// Adds flows that came through a door.
    fn add(&mut self, count: usize, backend: usize, door: u64) {
        for _ in 0..count {
            let lease = Lease::import(Arc::clone(&self.trial.backends[backend]));
            let given = self.given(door, lease.backend().address(1));
            let (terms, fd) = (Arc::clone(&self.terms), quiet());
            self.pump.import(Import { record: given, terms, fd, lease }, &mut self.cx);
        }
    }

    fn given(&mut self, door: u64, backend: SocketAddr) -> manifest::Flow {
        self.begun += 1;
        let client = SocketAddr::from((std::net::Ipv4Addr::from_bits(0x0a00_0000 + self.begun), 9));
        let now_ms = self.cx.now_ms();
        manifest::Flow {
            worker: 0,
            terms: 0,
            door,
            client,
            local: "127.0.0.1:1".parse().unwrap(),
            proxied: None,
            began_ms: now_ms,
            client_ms: now_ms,
            backend_ms: now_ms,
            to_backend: (1, 1),
            to_client: (0, 0),
            owed: 0,
            since_pick: 1,
            rehomed: 0,
            lifetime_end_ms: u64::MAX,
            fd: -1,
            lease: 0,
            backend,
            // Each has a port of its own.
            origin: (client, true),
            on_down: self.trial.settings.pools[0].on_down.word().into(),
            owes_header: false,
            refused: false,
            asked_us: 0,
            answered: false,
            refusals: 0,
            is_exclusive: false,
        }
    }

    fn walk(&self) -> Walk {
        Walk::over(self.pump.places())
    }

    fn ended(&self, reason: Reason) -> u64 {
        self.trial.counters.shards.of(0).ended(reason).value()
    }

    /// How many places a slice looked at, by what is left of its walk, and how many flows ended.
    fn turn(&mut self, act: impl FnOnce(&mut Pump, &mut Slice, &mut ThreadContext)) -> usize {
        let before = self.pump.flows.len();
        act(&mut self.pump, &mut Slice::of_a_turn(), &mut self.cx);
        before - self.pump.flows.len()
    }
}

#[test]
fn after_a_fall_each_flow_of_the_backend_ends_and_no_turn_ends_more_than_its_slice() {
    let mut table = Table::new("close");
    table.add(300, 0, 1);
    table.add(LOOKS_PER_TURN, 1, 1);
    table.add(300, 0, 1);
    table.trial.backends[0].set_down(true);
    let mut walk = table.walk();
    let mut turns = 0;
    while !walk.is_over() {
        let ended = table.turn(|pump, slice, cx| pump.close_fallen(&mut walk, slice, cx));
        assert!(ended <= ENDS_PER_TURN, "{ended}");
        turns += 1;
        // It is up again long before all have been looked at.
        table.trial.backends[0].set_down(false);
    }
    assert!(turns > 600 / ENDS_PER_TURN, "{turns}");
    assert_eq!((table.pump.flows.len(), table.ended(Reason::BackendDown)), (LOOKS_PER_TURN, 600));
    let mut walk = table.walk();
    table.turn(|pump, slice, cx| pump.close_fallen(&mut walk, slice, cx));
    assert!(!walk.is_over(), "one turn does not look at {LOOKS_PER_TURN} and more");
}

#[test]
fn flows_of_a_closed_door_end_in_slices_and_its_number_is_nobodys_until_then() {
    let mut table = Table::new("keep");
    table.add(500, 0, 1);
    table.open(2);
    table.add(100, 0, 2);
    table.pump.close_door(1, &table.cx);
    assert!(table.pump.doors.get(0).is_none() && table.pump.doors.is_closed(0));
    let mut walk = table.walk();
    let ended = table.turn(|pump, slice, cx| pump.leave_doors(&mut walk, slice, cx));
    assert_eq!(ended, ENDS_PER_TURN);
    // A door that opens meanwhile is no home for flows of the one that closed.
    table.open(3);
    assert_eq!(
        table.pump.doors.iter().map(|(number, door)| (number, door.id)).collect::<Vec<_>>(),
        [(1, 2), (2, 3)]
    );
    table.add(50, 0, 3);
    while !walk.is_over() {
        let ended = table.turn(|pump, slice, cx| pump.leave_doors(&mut walk, slice, cx));
        assert!(ended <= ENDS_PER_TURN);
    }
    table.pump.doors_are_left();
    assert_eq!((table.pump.flows.len(), table.ended(Reason::Drained)), (150, 500));
    table.open(4);
    assert_eq!(table.pump.doors.get(0).map(|door| door.id), Some(4));
}

#[test]
fn cutting_and_closing_end_each_flow_once_and_no_turn_more_than_its_slice() {
    let mut table = Table::new("keep");
    table.add(400, 0, 1);
    let (filter, until_us) = (Filter::default(), table.cx.now_us);
    let sought = Sought { filter: &filter, until_us, close: Some(Reason::Closed) };
    let (mut walk, mut told, mut came) = (table.walk(), 0, 0);
    while !walk.is_over() {
        let mut found = |_: &dyn Fn() -> SessionRow| told += 1;
        let ended = table.turn(|pump, slice, cx| pump.search(sought, &mut walk, slice, &mut found, cx));
        assert!(ended <= ENDS_PER_TURN);
        // Who comes meanwhile stays, in whichever place.
        table.cx.now_us += 1_000;
        table.add(1, 0, 1);
        came += 1;
    }
    assert_eq!((told, table.pump.flows.len(), table.ended(Reason::Closed)), (400, came, 400));
    table.add(400, 0, 1);
    let mut walk = table.walk();
    while !walk.is_over() {
        let ended = table.turn(|pump, slice, cx| pump.cut(Reason::Shutdown, &mut walk, slice, cx));
        assert!(ended <= ENDS_PER_TURN);
    }
    assert_eq!((table.pump.flows.len(), table.ended(Reason::Shutdown)), (0, 400 + came as u64));
}

#[test]
fn a_flow_that_is_taken_over_after_its_backend_fell_ends_and_one_before_does_not() {
    let mut table = Table::new("close");
    // Down when the process began: whoever was to end had ended in the process before.
    table.trial.backends[0].begin_down(true);
    table.add(1, 0, 1);
    assert!(table.trial.backends[1].set_down(true));
    table.add(1, 1, 1);
    // Until the process before has let go it may want it back as it was.
    assert_eq!((table.pump.flows.len(), table.ended(Reason::BackendDown)), (2, 0));
    assert!(!table.pump.begin_imported(&mut table.cx));
    assert_eq!((table.pump.flows.len(), table.ended(Reason::BackendDown)), (1, 1));
}

#[test]
fn replies_that_wait_for_a_busy_link_are_told_and_stay() {
    let mut table = Table::new("keep");
    let outgoing = Outgoing { slot: 0, start: 0, length: 1, to: None, from: None, part: None, mark: 0 };
    let (number, _) = table.pump.doors.iter().next().unwrap();
    for _ in 0..3 {
        assert!(table.pump.backlogs.entry(number).or_default().push(b"x", outgoing, 1 << 20));
    }
    for _ in 0..2 {
        let unsent = table.pump.export(0).unsent;
        let told: Vec<_> = unsent.iter().map(|(listener, waiting)| (&*listener.listener, *waiting)).collect();
        assert_eq!(told, [(&*table.trial.counters.listener, 3)]);
    }
}
