//! Walks over a table of thousands of sessions, slice by slice.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::session::{Phase, Session};
use super::super::{Import, PAIRS_MAX, Place, Precopy, Terms};
use super::*;
use crate::access::TrustedProxies;
use crate::balance::Ask;
use crate::config::settings::Role;
use crate::manifest;
use crate::pool::Lease;
use crate::session_query::Filter;
use crate::sys::Errno;
use crate::sys::poller::Events;
use crate::thread_context::trial::{Trial, quiet};
use crate::thread_context::{ENDS_PER_TURN, LOOKS_PER_TURN, Token};

/// A table of sessions that relay, and what they are made of.
struct Table {
    trial: Trial,
    terms: Arc<Terms>,
    sessions: Sessions,
    cx: ThreadContext,
}

impl Table {
    fn new(on_down: &str) -> Self {
        let trial = Trial::new(&format!(
            "backends: ['127.0.0.1:2', '127.0.0.1:3'], on_down: {on_down}, health: {{ check: off }}"
        ));
        let listener = &trial.settings.listeners[0];
        let log = crate::config::settings::LogSessions::Off;
        let terms = Terms::new(
            listener,
            &trial.live,
            log,
            (None, TrustedProxies::new(&listener.accept_proxy, &listener.deny)),
            Arc::clone(&trial.counters),
        );
        let cx = trial.cx();
        let sessions = Sessions::new(cx.now_ms());
        Self { trial, terms: Arc::new(terms), sessions, cx }
    }

    /// Adds sessions at a backend that was there before the process.
    fn add(&mut self, count: usize, backend: usize) {
        for _ in 0..count {
            let lease = Lease::import(Arc::clone(&self.trial.backends[backend]));
            self.add_one(lease);
        }
    }

    /// Adds a session that is given a backend of the snapshot of this moment.
    fn add_fresh(&mut self) -> u64 {
        let lease = self.pick();
        let number = lease.backend().number;
        self.add_one(lease);
        number
    }

    fn pick(&self) -> Lease {
        let snapshot = self.trial.snapshots.load();
        let ask = Ask { client: "10.0.0.1:1".parse().unwrap(), random: 0, now_ns: 0, tried: &[] };
        Lease::take(&snapshot.pools[0], Role::Any, &ask).unwrap()
    }

    fn add_one(&mut self, lease: Lease) {
        let given = given(self.trial.settings.pools[0].on_down.word(), self.cx.now_us);
        self.trial.counters.shards.of(0).begun.add(1);
        let (client, backend) = (quiet(), Some(quiet()));
        let (terms, lease) = (Arc::clone(&self.terms), Some(lease));
        let import =
            Import { record: given, terms, client, backend, lease, pipes: [None, None], place: None };
        self.sessions.import(vec![import], &mut self.cx);
    }

    fn walk(&self) -> Walk {
        Walk::over(self.sessions.places())
    }

    fn doomed(&self) -> Vec<u64> {
        let sessions = self.sessions.slots.iter().map(|(_, slot)| &slot.session);
        sessions.filter_map(|session: &Session| session.close_later_ms).collect()
    }

    fn ended(&self, reason: Reason) -> u64 {
        self.trial.counters.shards.of(0).ended(reason).value()
    }

    /// One turn of the walk after a fall: how many more are to end.
    fn close_fallen(&mut self, walk: &mut Walk) -> usize {
        let before = self.doomed().len();
        self.sessions.close_fallen(walk, &mut Slice::of_a_turn(), &mut self.cx);
        self.doomed().len() - before
    }
}

/// A session in the middle of its life, as another process would tell of it.
pub(crate) fn given(on_down: &'static str, started_us: u64) -> manifest::Session {
    let side = manifest::Side {
        fd: -1,
        readable: false,
        writable: true,
        ending: false,
        read_out: false,
        finished: false,
        broken: None,
        failed: false,
        urgent: false,
    };
    let way = manifest::HalfDuplex {
        delivered_bytes: 0,
        held: manifest::Held::Nothing,
        mode: "copy".into(),
        lead_bytes: 0,
        full_reads: 0,
    };
    manifest::Session {
        worker: 0,
        terms: 0,
        client: side.clone(),
        client_address: "10.0.0.1:4000".parse().unwrap(),
        proxied: None,
        local_port: 1,
        backend: Some(side),
        lease: None,
        has_permit: false,
        phase: manifest::Phase::Relaying,
        to_backend: way.clone(),
        to_client: way,
        finished_first: None,
        moved_ms: started_us / 1_000,
        lifetime_end_ms: None,
        asked_us: 0,
        started_us,
        connect_us: None,
        queue_us: None,
        close_later_ms: None,
        on_down: on_down.into(),
        attempts: 1,
        tried: Vec::new(),
        error: None,
        ends_for: "".into(),
        precopied: 0,
        met_empty: false,
        owed_since_us: 0,
        name: String::new(),
        promised_tls: false,
    }
}

/// Two ends of a connection that nobody waits for.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for end in [&near, &far] {
        end.set_nonblocking(true).unwrap();
    }
    (near, far)
}

/// More than two slices.
const MANY: usize = 2 * LOOKS_PER_TURN + 404;

#[test]
fn after_a_fall_no_turn_looks_at_more_than_its_slice_and_each_session_ends_at_its_own_moment() {
    let mut table = Table::new("close");
    table.add(MANY, 0);
    table.add(100, 1);
    while table.sessions.is_busy() {
        table.sessions.run_again(&mut table.cx);
    }
    assert!(table.trial.backends[0].set_down(true));
    let mut walk = table.walk();
    let mut turns = 0;
    while !walk.is_over() {
        assert!(table.close_fallen(&mut walk) <= LOOKS_PER_TURN);
        turns += 1;
    }
    assert!(turns >= MANY.div_ceil(LOOKS_PER_TURN), "{turns}");
    let (doomed, now_ms) = (table.doomed(), table.cx.now_ms());
    assert_eq!(doomed.len(), MANY, "those of the other backend stay");
    assert!(doomed.iter().all(|at_ms| (now_ms..now_ms + 1_000).contains(at_ms)));
    let early = doomed.iter().filter(|at_ms| **at_ms < now_ms + 500).count();
    assert!((MANY / 3..MANY * 2 / 3).contains(&early), "{early} of {MANY} in the first half second");

    // Their ends come in slices as well, whatever the clock.
    table.cx.now_us += 2_000_000;
    while table.ended(Reason::BackendDown) < MANY as u64 {
        let before = table.sessions.len();
        table.sessions.on_time(&mut table.cx);
        assert!((1..=ENDS_PER_TURN).contains(&(before - table.sessions.len())));
    }
    assert_eq!((table.sessions.len(), table.sessions.is_busy()), (100, false));
}

#[test]
fn a_backend_that_is_up_again_before_the_walk_ends_keeps_only_who_came_since() {
    let mut table = Table::new("close");
    table.add(MANY, 0);
    let backend = Arc::clone(&table.trial.backends[0]);
    assert!(backend.set_down(true));
    table.trial.publish();
    let mut walk = table.walk();
    assert!(table.close_fallen(&mut walk) <= LOOKS_PER_TURN);
    assert!(!backend.set_down(false));
    table.trial.publish();
    // Two, of which one goes to each backend; they stand where the walk has not been, and it may come by.
    let fresh: Vec<u64> = (0..2).map(|_| table.add_fresh()).collect();
    assert_eq!(fresh.iter().filter(|number| **number == backend.number).count(), 1);
    walk.begin_anew(table.sessions.places());
    while !walk.is_over() {
        assert!(table.close_fallen(&mut walk) <= LOOKS_PER_TURN);
    }
    let first = table.doomed();
    assert_eq!(first.len(), MANY, "all that saw it go down, and nobody else");

    // Down again in the middle of another walk: that goes round once more, and nobody's moment moves.
    let mut walk = table.walk();
    assert_eq!(table.close_fallen(&mut walk), 0);
    assert!(backend.set_down(true));
    walk.begin_anew(table.sessions.places());
    while !walk.is_over() {
        table.close_fallen(&mut walk);
    }
    let second = table.doomed();
    assert_eq!((second.len(), &second[..MANY]), (MANY + 1, &first[..]));
}

#[test]
fn a_pick_of_the_snapshot_before_the_fall_is_no_fresh_one() {
    let mut table = Table::new("close");
    let early: Vec<Lease> = (0..2).map(|_| table.pick()).collect();
    table.trial.backends.iter().for_each(|backend| assert!(backend.set_down(true)));
    // Between the verdict and the snapshot that tells of it.
    table.add_fresh();
    table.trial.publish();
    table.add_fresh();
    let expected = [true, true, true, false];
    early.into_iter().for_each(|lease| table.add_one(lease));
    let mut walk = table.walk();
    table.close_fallen(&mut walk);
    assert_eq!(table.doomed().len(), expected.iter().filter(|to_close| **to_close).count());
    // An operator's word counts even where it is down already.
    table.trial.backends.iter().for_each(|backend| backend.fall());
    walk.begin_anew(table.sessions.places());
    table.close_fallen(&mut walk);
    assert_eq!(table.doomed().len(), 4);
}

#[test]
fn sessions_that_keep_their_backend_are_left_alone() {
    let mut table = Table::new("keep");
    table.add(10, 0);
    assert!(!table.trial.live.closes(), "nobody needs to look at all");
    table.trial.backends[0].set_down(true);
    let mut walk = table.walk();
    assert_eq!(table.close_fallen(&mut walk), 0);
}

#[test]
fn a_dialling_session_ends_with_its_backend_and_one_that_leaves_it_does_not() {
    let mut table = Table::new("close");
    table.add(1, 0);
    table.sessions.slots[0].session.phase = Phase::Dialling { began_us: 0, deadline_ms: u64::MAX };
    table.trial.backends[0].set_down(true);
    let mut walk = table.walk();
    assert_eq!(table.close_fallen(&mut walk), 1);
    table.sessions.slots[0].session.leave_backend();
    let session = &table.sessions.slots[0].session;
    assert_eq!((session.close_later_ms, &session.tried[..]), (None, &[1][..]));
}

#[test]
fn cutting_ends_each_once_and_no_turn_more_than_its_slice() {
    let mut table = Table::new("keep");
    table.add(1_000, 0);
    let mut walk = table.walk();
    let mut turns = 0;
    while !walk.is_over() {
        let before = table.sessions.len();
        table.sessions.cut(Reason::Shutdown, &mut walk, &mut Slice::of_a_turn(), &mut table.cx);
        assert!(before - table.sessions.len() <= ENDS_PER_TURN);
        turns += 1;
    }
    assert!(turns >= 1_000 / ENDS_PER_TURN);
    assert_eq!((table.sessions.len(), table.ended(Reason::Shutdown)), (0, 1_000));
}

#[test]
fn who_comes_while_others_are_closed_stays_even_in_a_place_that_became_free() {
    let mut table = Table::new("keep");
    table.add(1_000, 0);
    let (filter, until_us) = (Filter::default(), table.cx.now_us);
    let sought = Sought { filter: &filter, until_us, close: Some(Reason::Closed) };
    let mut walk = table.walk();
    let mut told = 0;
    while !walk.is_over() {
        let before = table.sessions.len();
        let mut slice = Slice::of_a_turn();
        table.sessions.search(sought, &mut walk, &mut slice, &mut |_| told += 1, &mut table.cx);
        assert!(before - table.sessions.len() <= ENDS_PER_TURN);
        table.cx.now_us += 50;
        table.add(1, 1);
    }
    let came = table.sessions.len();
    assert!(came >= 1_000 / ENDS_PER_TURN);
    assert_eq!((told, table.ended(Reason::Closed)), (1_000, 1_000));
    assert!(table.sessions.slots.iter().all(|(_, slot)| slot.session.started_us > until_us));
}

#[test]
fn a_session_that_is_taken_over_after_its_backend_fell_ends_with_it_and_one_before_does_not() {
    let mut table = Table::new("close");
    // Down when the process began: whoever was to end had been told so by the process before.
    table.trial.backends[0].begin_down(true);
    table.add(1, 0);
    assert_eq!(table.doomed().len(), 0);
    assert!(table.trial.backends[1].set_down(true));
    table.add(1, 1);
    assert_eq!(table.doomed().len(), 1);
}

#[test]
fn sockets_go_ahead_a_message_a_turn_and_each_once_though_the_way_is_full_now_and_then() {
    let mut table = Table::new("keep");
    table.add(700, 0);
    for place in [7, 130] {
        table.sessions.slots[place].session.phase = Phase::Pausing { until_ms: u64::MAX };
    }
    let given = Arc::new(Mutex::new((0, Vec::new())));
    let mut precopy = Precopy::new(Box::new({
        let given = Arc::clone(&given);
        move |first, sockets: &[RawFd]| {
            let (tries, sockets_before) = &mut *given.lock().unwrap();
            *tries += 1;
            if *tries % 2 == 1 {
                return Err(Errno::AGAIN);
            }
            assert_eq!(first as usize * 2, sockets_before.len());
            assert!((1..=2 * PAIRS_MAX).contains(&sockets.len()));
            sockets_before.extend_from_slice(sockets);
            Ok(())
        }
    }));
    let mut walk = table.walk();
    while !walk.is_over() {
        let before = given.lock().unwrap().0;
        table.sessions.precopy(&mut precopy, &mut walk, &mut Slice::of_a_turn());
        assert!(given.lock().unwrap().0 <= before + 1);
    }
    let told = precopy.given();
    assert_eq!(told.len(), 698, "all whose backend is settled");
    assert!(told.windows(2).all(|two| two[0].slot < two[1].slot), "in the order of the table");
    let mut sockets = given.lock().unwrap().1.clone();
    assert_eq!(sockets.len(), 2 * 698);
    sockets.sort_unstable();
    sockets.dedup();
    assert_eq!(sockets.len(), 2 * 698);
}

#[test]
fn a_successor_that_is_gone_ends_the_walk() {
    let mut table = Table::new("keep");
    table.add(300, 0);
    let mut precopy = Precopy::new(Box::new(|first, _: &[RawFd]| match first {
        0 => Ok(()),
        _ => Err(Errno::PIPE),
    }));
    let mut walk = table.walk();
    let mut turns = 0;
    while !walk.is_over() {
        table.sessions.precopy(&mut precopy, &mut walk, &mut Slice::of_a_turn());
        turns += 1;
    }
    assert_eq!((turns, precopy.given().len()), (2, PAIRS_MAX));
}

#[test]
fn sessions_stand_where_their_sockets_are_watched_and_others_beside_them() {
    let mut table = Table::new("keep");
    let mut imports = Vec::new();
    // The second of those that came ahead has ended meanwhile.
    for place in [Some(0), None, Some(2), None] {
        let place = place.map(Place::nth);
        let (client, backend) = (pair(), pair());
        for (side, token) in [&client.0, &backend.0].into_iter().zip(place.iter().flat_map(|at| at.tokens()))
        {
            table.cx.poller.watch_stream(side, token).unwrap();
        }
        let lease = Some(Lease::import(Arc::clone(&table.trial.backends[0])));
        let (terms, record) = (Arc::clone(&table.terms), given("keep", table.cx.now_us));
        let (near, far) = ((client.0.into(), Some(backend.0.into())), (client.1, backend.1));
        let import =
            Import { record, terms, client: near.0, backend: near.1, lease, pipes: [None, None], place };
        imports.push((import, far));
    }
    let (imports, mut ends): (Vec<_>, Vec<_>) = imports.into_iter().unzip();
    table.sessions.import(imports, &mut table.cx);
    assert_eq!(table.sessions.len(), 4);
    assert!(!table.sessions.is_busy(), "nothing was left to do");
    ends.iter_mut().for_each(|(client, _)| client.write_all(b"hello").unwrap());
    let mut events = Events::new();
    let mut answered = [false; 4];
    while answered.contains(&false) {
        table.cx.poller.wait(Some(Duration::from_millis(100)), &mut events).unwrap();
        for ready in events.iter() {
            let Token::Session { slot, generation, side } = Token::unpack(ready.token) else { panic!() };
            table.sessions.on_ready(slot, generation, side, &ready, &mut table.cx);
        }
        for ((_, backend), answered) in ends.iter_mut().zip(&mut answered) {
            let mut came = [0; 8];
            *answered |= backend.read(&mut came).is_ok_and(|count| &came[..count] == b"hello");
        }
    }
}
