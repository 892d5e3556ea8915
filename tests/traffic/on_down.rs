//! Sessions and flows of a backend that goes down and comes back while they are looked through, and what everybody else sees
//! while thousands end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use evenkeel::backend_state::Mark;
use evenkeel::metrics::ListenerCounters;
use evenkeel::reason::Reason;
use evenkeel::server::Whom;
use evenkeel::session_query::Filter;
use evenkeel::worker::{Message, Search};

use crate::datagrams::{Answering, ask};
use crate::rig::*;

/// Says of the first pool's backend that it is down, or that it is not.
fn mark(balancer: &Balancer, backend: SocketAddr, mark: Option<Mark>) {
    let whom = Whom { pool: "door".into(), backend: backend.to_string() };
    balancer.wait_for(balancer.server().mark(whom, mark, "a test")).unwrap();
}

fn flap(balancer: &Balancer, backend: SocketAddr) {
    mark(balancer, backend, Some(Mark::Down));
    mark(balancer, backend, None);
}

fn living(balancer: &Balancer, count: usize) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..count).map(|_| connect(balancer.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"x"));
    clients
}

#[test]
fn a_backend_that_flaps_loses_who_was_there_and_keeps_who_came_since() {
    let [a, b] = [Backend::start(echo), Backend::start(echo)];
    let balancer = Balancer::start(&format!(
        "workers: 2\nlisteners: {{ door: {{ bind: 1, backends: ['{}', '{}'], on_down: close }} }}",
        a.address, b.address
    ));
    // By turns, so each backend has half of every group.
    let _first = living(&balancer, 200);
    flap(&balancer, a.address);
    let _second = living(&balancer, 100);
    flap(&balancer, a.address);
    flap(&balancer, a.address);
    let mut third = living(&balancer, 50);
    let active = |index| balancer.backend(index, |backend| backend.load.active());
    becomes("sessions of `a`", 25, || active(0));
    assert_eq!((balancer.ended(Reason::BackendDown), active(1)), (150, 175));
    // Whoever were to end with the falls of `a` would have by the time the last of `b` has.
    mark(&balancer, b.address, Some(Mark::Down));
    becomes("sessions of `b`", 0, || active(1));
    assert_eq!((balancer.ended(Reason::BackendDown), balancer.active()), (325, 25));
    let is_alive =
        |client: &mut TcpStream| client.write_all(b"y").is_ok() && matches!(client.read(&mut [0]), Ok(1));
    assert_eq!(third.iter_mut().filter_map(|client| is_alive(client).then_some(())).count(), 25);
    drop(third);
    balancer.settles();
}

fn flows(backends: [&Answering; 2], on_down: &str) -> Balancer {
    let [a, b] = backends.map(|backend| backend.address);
    Balancer::start(&format!(
        "workers: 2\nlisteners: {{ door: {{ bind: 53, protocol: udp, backends: ['{a}', '{b}'], on_down: {on_down} }} }}"
    ))
}

fn client_of(balancer: &Balancer) -> UdpSocket {
    crate::datagrams::client(balancer, "127.0.0.1")
}

fn asked(clients: &[UdpSocket]) -> Vec<bool> {
    // Is it `a` that answers? The backends themselves are well all the time, so no answer is ever lost.
    clients.iter().map(|client| ask(client, b"") == b"a").collect()
}

fn count(answers: &[bool]) -> usize {
    answers.iter().filter(|is_a| **is_a).count()
}

#[test]
fn flows_of_a_backend_that_flaps_move_with_their_next_datagram_and_only_while_it_is_down() {
    let [a, b] = ["a", "b"].map(Answering::start);
    let balancer = flows([&a, &b], "rehome");
    let clients: Vec<UdpSocket> = (0..60).map(|_| client_of(&balancer)).collect();
    let first = asked(&clients);
    let at_a = count(&first);
    assert!((1..60).contains(&at_a));
    flap(&balancer, a.address);
    assert_eq!(asked(&clients), first, "up again before anybody sent: all stay");
    mark(&balancer, a.address, Some(Mark::Down));
    assert_eq!(count(&asked(&clients)), 0);
    mark(&balancer, a.address, None);
    assert_eq!(count(&asked(&clients)), 0, "nobody moves back");
    let view = Arc::clone(&balancer.server().snapshots().load().pools[0]);
    assert_eq!(view.live.shards.sum(|shard| shard.rehomed.value()), at_a as u64);
    assert_eq!((balancer.begun(), balancer.active()), (60, 60), "moving is no end");
}

#[test]
fn flows_that_end_with_their_backend_end_even_if_it_is_up_again_at_once() {
    let [a, b] = ["a", "b"].map(Answering::start);
    let balancer = flows([&a, &b], "close");
    let clients: Vec<UdpSocket> = (0..60).map(|_| client_of(&balancer)).collect();
    let at_a = count(&asked(&clients)) as u64;
    flap(&balancer, a.address);
    becomes("flows ended", at_a, || balancer.ended(Reason::BackendDown));
    assert_eq!(balancer.active(), 60 - at_a);
    // Their next datagrams begin flows anew, at either backend, and those stay.
    asked(&clients);
    assert_eq!((balancer.begun(), balancer.active()), (60 + at_a, 60));
    assert_eq!(balancer.ended(Reason::BackendDown), at_a);
}

/// Round trips of `calm` that came back while `ended` was between nothing and `many`, in the best of a few tries: `begin` makes
/// so many and has them ended. `calm` asks on a thread of its own: whoever has them ended may hear of it when all is over.
fn round_trips_while_many_end(
    calm: &mut TcpStream,
    counters: impl Fn() -> Arc<ListenerCounters>,
    reason: Reason,
    many: u64,
    mut begin: impl FnMut(),
) -> usize {
    let mut best = 0;
    for _ in 0..10 {
        let counters = counters();
        let ended = || counters.shards.sum(|shard| shard.ended(reason).value());
        let before = ended();
        let since = Instant::now();
        let ask = || {
            let mut between = 0;
            loop {
                let began = ended() - before;
                exchange(calm, b"calm");
                let now = ended() - before;
                between += usize::from(began > 0 && now < many);
                if now >= many {
                    return between;
                }
                assert!(since.elapsed() < DEADLINE, "{now} of {many} have ended");
            }
        };
        let between = std::thread::scope(|scope| {
            let asking = scope.spawn(ask);
            begin();
            asking.join().unwrap()
        });
        assert_eq!(ended() - before, many);
        best = best.max(between);
        if best >= ENOUGH {
            break;
        }
    }
    best
}

/// In one turn not even one could come back; a busy machine may give the threads no more.
const ENOUGH: usize = 3;

#[test]
fn others_go_on_while_thousands_of_sessions_are_closed() {
    let backend = Backend::start(echo);
    let balancer = Balancer::start(&format!(
        "workers: 1\nlisteners:\n  door: {{ bind: 1, backends: ['{0}'] }}\n  \
         many: {{ bind: 2, backends: ['{0}'], accept_proxy: [127.0.0.1], timeouts: {{ header: 1m }} }}",
        backend.address
    ));
    let mut calm = connect(balancer.address());
    let many = balancer.server().addresses()[1].1;
    let counters = || balancer.server().counters("many").unwrap();
    let mut kept = Vec::new();
    let between = round_trips_while_many_end(&mut calm, counters, Reason::Closed, 1_500, || {
        // They wait for their headers: no backend is bothered.
        kept = (0..1_500).map(|_| connect(many)).collect();
        becomes("sessions", 1_500, || counters().active());
        let filter = Filter { listener: Some("many".into()), ..Filter::default() };
        let search = Search { filter, close: Some(Reason::Closed), rows_max: 0, reply: Box::new(|_| {}) };
        balancer.server().workers().mailbox(0).post(Message::Search(Box::new(search)));
    });
    assert!(between >= ENOUGH, "{between} round trips came back meanwhile");
}

#[test]
fn others_go_on_while_the_flows_of_a_closed_listener_end() {
    let (backend, answering) = (Backend::start(echo), Answering::start("a"));
    let port = crate::ports::free_port();
    let with = |many: &str| {
        format!(
            "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners:\n  door: {{ bind: 1, backends: ['{}'] }}\n{many}",
            backend.address
        )
    };
    let many = format!(
        "  many: {{ bind: '127.0.0.1:{port}', protocol: udp, backends: ['{}'], limits: {{ sessions_per_source: off }} }}\n",
        answering.address
    );
    let balancer = Balancer::start(&with(&many));
    let mut calm = connect(balancer.address());
    let counters = || {
        balancer.reload(&with(&many)).unwrap();
        balancer.server().counters("many").unwrap()
    };
    let between = round_trips_while_many_end(&mut calm, counters, Reason::Drained, 2_000, || {
        // All at once: a port that is given back would be the next one's, and two flows one.
        let clients: Vec<UdpSocket> = (0..2_000)
            .map(|_| {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.connect(("127.0.0.1", port)).unwrap();
                client.set_read_timeout(Some(DEADLINE)).unwrap();
                assert_eq!(ask(&client, b""), b"a");
                client
            })
            .collect();
        balancer.reload(&with("")).unwrap();
        drop(clients);
    });
    assert!(between >= ENOUGH, "{between} round trips came back meanwhile");
    // The port is free, and whoever comes back there is served anew.
    balancer.reload(&with(&many)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(ask(&client, b""), b"a");
}
