//! One data thread, turn by turn, with thousands of sessions in its table.

use super::*;
use crate::access::TrustedProxies;
use crate::config::settings::LogSessions;
use crate::limits::Permits;
use crate::pool::Lease;
use crate::reason::Reason;
use crate::session_query::Filter;
use crate::sys::Errno;
use crate::sys::udp_probe::Lack;
use crate::tcp::{Arrival, Terms};
use crate::thread_context::trial::{Trial, quiet};
use crate::thread_context::{ENDS_PER_TURN, LOOKS_PER_TURN};
use crate::worker::{Freeze, Search};

/// A thread whose sessions wait for a PROXY header that never comes: each holds one descriptor.
fn thread(trial: &Trial, sessions: usize) -> EventLoop {
    let lack = || Err(Lack::Untried(Errno::NOSYS));
    let workers = Workers::new(1, 1 << 20, Arc::new(Permits::new(None))).unwrap();
    let plan = Plan {
        worker: 0,
        workers: Arc::new(workers),
        snapshots: Arc::clone(&trial.snapshots),
        epoch: Instant::now(),
        seed: 1,
        pipe_budget_bytes: 0,
        pipes_max: 0,
        flow_hash_key: [0; 16],
        ports: Arc::new(SharedPorts::new((40_000, 40_009), 1)),
        send_cancel: crate::thread_context::SendCancel::new(|_| false),
        offloads: Offloads { merging: lack(), splitting: lack() },
    };
    let mut thread = EventLoop::new(plan, Arc::new(Poller::new().unwrap()));
    let listener = &trial.settings.listeners[0];
    let counters = Arc::clone(&trial.counters);
    let terms = Arc::new(Terms::new(
        listener,
        &trial.live,
        LogSessions::Off,
        (None, TrustedProxies::new(&listener.accept_proxy, &listener.deny)),
        counters,
    ));
    let client = "10.0.0.1:4000".parse().unwrap();
    for _ in 0..sessions {
        assert_eq!(thread.workers.admit(0), Some(0));
        let arrival = Arrival { fd: quiet(), client, local_port: 1, terms: Arc::clone(&terms) };
        thread.sessions.open(arrival, &mut thread.cx);
    }
    assert_eq!(thread.sessions.len(), sessions);
    thread
}

const PEERS: &str = "backends: ['127.0.0.1:2'], accept_proxy: [10.0.0.0/8], timeouts: { header: 1m }";

/// Posts a message and has it read.
fn post(thread: &mut EventLoop, message: Message) {
    thread.workers.mailbox(0).post(message);
    thread.read_mail();
}

#[test]
fn a_cut_takes_as_many_turns_as_it_needs_and_the_thread_does_not_sleep_meanwhile() {
    let trial = Trial::new(PEERS);
    let mut thread = thread(&trial, 2_000);
    post(&mut thread, Message::Cut(Reason::Shutdown));
    assert_eq!(thread.sessions.len(), 2_000, "reading the mail ends nobody");
    let mut turns = 0;
    while !thread.walks.is_empty() {
        assert_eq!(thread.sleep(), Some(Duration::ZERO));
        let before = thread.sessions.len();
        // It is ordered again and again until all have gone.
        post(&mut thread, Message::Cut(Reason::Shutdown));
        thread.turn(&Events::new());
        assert!(before - thread.sessions.len() <= ENDS_PER_TURN);
        turns += 1;
        assert!(turns < 10_000, "{} are left", thread.sessions.len());
        if thread.sessions.is_empty() {
            break;
        }
    }
    assert_eq!((thread.sessions.len(), thread.workers.tcp_sessions()), (0, 0));
    assert!(turns >= 2_000 / ENDS_PER_TURN);
}

#[test]
fn a_short_question_does_not_wait_for_a_long_walk() {
    let trial = Trial::new(PEERS);
    let mut thread = thread(&trial, 2 * LOOKS_PER_TURN);
    let (answers, answer) = mpsc::channel();
    let ask = |filter: Filter, close| {
        let answers = answers.clone();
        let reply = Box::new(move |answer| drop(answers.send((close, answer))));
        Message::Search(Box::new(Search { filter, close, rows_max: 3, reply }))
    };
    post(&mut thread, ask(Filter::default(), Some(Reason::Closed)));
    post(&mut thread, ask(Filter::default(), None));
    let mut turns = 0;
    let (close, listed) = loop {
        turns += 1;
        thread.turn(&Events::new());
        if let Ok(answer) = answer.try_recv() {
            break answer;
        }
        assert!(turns < 100);
    };
    assert_eq!((close, listed.rows.len()), (None, 3));
    assert!(turns >= 4, "{turns}: each had every other turn, and the table is two slices long");
    assert!(thread.sessions.len() > LOOKS_PER_TURN, "the long one has hardly begun");
    while !thread.walks.is_empty() {
        let before = thread.sessions.len();
        thread.turn(&Events::new());
        assert!(before - thread.sessions.len() <= ENDS_PER_TURN);
    }
    let (close, closed) = answer.try_recv().unwrap();
    assert_eq!((close, closed.count), (Some(Reason::Closed), 2 * LOOKS_PER_TURN as u64));
}

/// What a thread says that stands and is told to export.
fn told(thread: &mut EventLoop) -> Option<Box<ThreadExport>> {
    let (orders, their_orders) = mpsc::channel();
    let (said, hear) = mpsc::channel();
    let freeze = Freeze { orders: their_orders, answer: Box::new(move |word| drop(said.send(word))) };
    for order in [FreezeOrder::ReadMail, FreezeOrder::Export, FreezeOrder::GoOn] {
        orders.send(order).unwrap();
    }
    assert!(thread.stand(&freeze));
    let answers: Vec<_> = hear.try_iter().collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
    match answers.into_iter().next_back() {
        Some(FreezeReply::Export(export)) => Some(export),
        _ => None,
    }
}

#[test]
fn what_is_half_done_when_the_thread_stands_still_is_done_before_it_tells_and_holds_nobody_up_for_long() {
    let trial = Trial::new(PEERS);
    let mut thread = thread(&trial, 1_000);
    let (answers, answer) = mpsc::channel();
    let reply = Box::new(move |answer: crate::worker::Answer| answers.send(answer.count).unwrap());
    let search = Search { filter: Filter::default(), close: Some(Reason::Closed), rows_max: 0, reply };
    post(&mut thread, Message::Search(Box::new(search)));
    thread.turn(&Events::new());
    assert!(thread.sessions.len() >= 1_000 - ENDS_PER_TURN && answer.try_recv().is_err());
    assert!(thread.workers.any_walks());
    // Each time some of them end; the thread tells nothing while there are more, and goes on.
    let mut tries = 0;
    let export = loop {
        let before = thread.sessions.len();
        if let Some(export) = told(&mut thread) {
            break export;
        }
        tries += 1;
        assert!(before - thread.sessions.len() <= 8 * ENDS_PER_TURN, "{before}");
        thread.turn(&Events::new());
    };
    assert!(tries >= 2, "{tries}");
    assert_eq!(export.tcp.sessions.len(), 0, "the next process has none to close");
    assert_eq!((answer.try_recv(), thread.sessions.len()), (Ok(1_000), 0));
    thread.turn(&Events::new());
    assert!(!thread.workers.any_walks());
}

#[test]
fn a_sign_of_life_waits_until_doors_that_close_are_closed() {
    use std::net::TcpStream;

    let trial = Trial::new("backends: ['127.0.0.1:2'], max_sessions: 1");
    let mut thread = thread(&trial, 0);
    let listener = &trial.settings.listeners[0];
    let terms = Terms::new(
        listener,
        &trial.live,
        LogSessions::Off,
        (None, TrustedProxies::new(&listener.accept_proxy, &listener.deny)),
        Arc::clone(&trial.counters),
    );
    let fd = crate::sys::tcp::bind_door(Some([127, 0, 0, 1].into()), 0, false).unwrap();
    crate::sys::tcp::listen(&fd, &terms.options, Some(512)).unwrap();
    let address = crate::sys::tcp::local_address(std::os::fd::AsFd::as_fd(&fd)).unwrap();
    let waiting: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let door = crate::worker::Door { id: 5, number: 0, fd, port: address.port(), terms: Arc::new(terms) };
    post(&mut thread, Message::Open(door));
    post(&mut thread, Message::CloseDoor(5));
    let ticket = thread.workers.ping(0);
    thread.read_mail();
    let begun = || trial.counters.shards.of(0).begun.value();
    let mut turns = 0;
    while !thread.workers.has_answered(0, ticket) {
        assert_eq!(thread.sleep(), Some(Duration::ZERO));
        let before = begun();
        thread.turn(&Events::new());
        assert!(begun() - before <= 16, "a turn takes some of them");
        turns += 1;
        assert!(turns < 1_000);
    }
    assert_eq!((begun(), turns > 6), (100, true));
    assert!(TcpStream::connect(address).is_err(), "the door is closed");
    drop(waiting);
}

#[test]
fn a_door_that_leaves_the_file_lets_in_whoever_has_half_a_handshake() {
    use std::io::Write;
    use std::net::TcpStream;
    use std::time::Duration;

    let trial = Trial::new("backends: ['127.0.0.1:2'], max_sessions: 1");
    let mut thread = thread(&trial, 0);
    let listener = &trial.settings.listeners[0];
    let terms = Terms::new(
        listener,
        &trial.live,
        LogSessions::Off,
        (None, TrustedProxies::new(&listener.accept_proxy, &listener.deny)),
        Arc::clone(&trial.counters),
    );
    let terms = Arc::new(terms);
    let fd = crate::sys::tcp::bind_door(Some([127, 0, 0, 1].into()), 0, false).unwrap();
    crate::sys::tcp::listen(&fd, &terms.options, Some(512)).unwrap();
    crate::sys::syn_filter::defer(&fd);
    let address = crate::sys::tcp::local_address(std::os::fd::AsFd::as_fd(&fd)).unwrap();
    let door = crate::worker::Door { id: 5, number: 0, fd, port: address.port(), terms: Arc::clone(&terms) };
    post(&mut thread, Message::Open(door));
    thread.read_mail();
    let mut half = TcpStream::connect(address).unwrap();
    post(&mut thread, Message::LeaveDoor(5));
    thread.read_mail();
    assert!(!thread.doors.is_closing());
    let late = TcpStream::connect_timeout(&address, Duration::from_millis(200));
    assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::TimedOut, "nobody else is let in");
    half.write_all(b"hello").unwrap();
    let begun = || trial.counters.shards.of(0).begun.value();
    let until = |thread: &mut EventLoop, count: u64| {
        let mut turns = 0;
        while begun() < count {
            thread.doors.on_ready(0, &thread.workers, &mut thread.sessions, &mut thread.cx);
            std::thread::sleep(Duration::from_millis(1));
            turns += 1;
            assert!(turns < 10_000);
        }
    };
    until(&mut thread, 1);

    // The file brings it back: it is as it was.
    post(&mut thread, Message::Renew(5, Arc::clone(&terms)));
    thread.read_mail();
    let mut again = TcpStream::connect(address).unwrap();
    again.write_all(b"hello").unwrap();
    until(&mut thread, 2);
    post(&mut thread, Message::LeaveDoor(5));
    post(&mut thread, Message::CloseDoor(5));
    thread.read_mail();
    thread.turn(&Events::new());
    assert!(!thread.doors.is_closing() && TcpStream::connect(address).is_err(), "it is closed");
}

#[test]
fn a_place_that_was_on_its_way_when_its_backend_fell_is_seen() {
    let trial = Trial::new("backends: ['127.0.0.1:2'], on_down: close");
    let lease = Lease::import(Arc::clone(&trial.backends[0]));
    assert!(!lease.fell() && trial.live.closes());
    trial.backends[0].begin_down(true);
    assert!(!lease.fell(), "it was down before");
    trial.backends[0].set_down(false);
    trial.backends[0].set_down(true);
    trial.backends[0].set_down(false);
    assert!(lease.fell());
}
