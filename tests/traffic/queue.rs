//! `queue`: sessions that wait for a place, in one line over all workers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel::metrics::Direction;
use evenkeel::reason::Reason;

use super::rig::{
    Backend, Balancer, Outcome, Program, Switch, becomes, closed_address, connect, echo, eventually,
    exchange, is_turned_away, read_to_end, reset,
};

fn yaml(workers: usize, keys: &str, backends: &str) -> String {
    format!(
        "workers: {workers}\nlisteners: {{ door: {{ bind: '127.0.0.1:1', {keys} backends: [{backends}] }} }}"
    )
}

fn one(backend: SocketAddr) -> String {
    format!("{{ address: '{backend}', max_sessions: 1 }}")
}

/// A backend that notes the first byte of each of its sessions, and echoes.
fn noting() -> (Backend, Arc<Mutex<Vec<u8>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&noted);
    let backend = Backend::start(move |mut stream| {
        let mut first = [0];
        if stream.read_exact(&mut first).is_ok() {
            notes.lock().unwrap().push(first[0]);
            let _ = stream.write_all(&first);
            echo(stream);
        }
    });
    (backend, noted)
}

#[test]
fn a_place_goes_to_the_longest_waiter_over_all_workers() {
    let (backend, noted) = noting();
    let balancer = Balancer::start(&yaml(4, "queue: { timeout: 1h },", &one(backend.address)));
    let mut clients = Vec::new();
    for number in 0..40_u8 {
        let mut client = connect(balancer.address());
        client.write_all(&[number]).unwrap();
        if number == 0 {
            let mut answer = [0];
            client.read_exact(&mut answer).unwrap();
        }
        becomes("sessions in line", number.into(), || balancer.waiting());
        clients.push(client);
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        let mut answer = [0];
        if number > 0 {
            client.read_exact(&mut answer).unwrap();
            assert_eq!(usize::from(answer[0]), number);
        }
        assert_eq!(balancer.backend(0, |backend| backend.load.active()), 1);
        drop(client);
    }
    balancer.ends(Reason::ClientClosed, 40);
    assert_eq!(*noted.lock().unwrap(), (0..40).collect::<Vec<u8>>());
}

#[test]
fn the_line_has_an_end_and_patience_too() {
    let backend = Backend::start(echo);
    let balancer =
        Balancer::start(&yaml(2, "queue: { sessions: 2, timeout: 300ms },", &one(backend.address)));
    let mut first = connect(balancer.address());
    exchange(&mut first, b"x");
    let mut waiting: Vec<TcpStream> = (0..2).map(|_| connect(balancer.address())).collect();
    // On a slow machine they may have given up before the third comes; then the third waits, and gives up too.
    let third = is_turned_away(balancer.address());
    assert!(third);
    for client in &mut waiting {
        assert_eq!(read_to_end(client), (Vec::new(), Outcome::Reset));
    }
    becomes("sessions that found no place", 3, || {
        balancer.ended(Reason::QueueTimeout) + balancer.ended(Reason::QueueFull)
    });
    assert!(balancer.ended(Reason::QueueTimeout) >= 2, "{:?}", balancer.reasons());
    exchange(&mut first, b"still served");
    drop(first);
    becomes("the first has ended", 1, || balancer.ended(Reason::ClientClosed));
    balancer.settles();
}

#[test]
fn who_only_finished_sending_is_served_and_who_reset_has_left() {
    let backend = Backend::start(echo);
    let balancer = Balancer::start(&yaml(1, "queue: { timeout: 1h },", &one(backend.address)));
    let mut first = connect(balancer.address());
    exchange(&mut first, b"x");
    let gone = connect(balancer.address());
    becomes("sessions in line", 1, || balancer.waiting());
    let mut patient = connect(balancer.address());
    patient.write_all(b"finished").unwrap();
    patient.shutdown(Shutdown::Write).unwrap();
    becomes("sessions in line", 2, || balancer.waiting());
    reset(gone);
    becomes("sessions in line", 1, || balancer.waiting());
    becomes("left by reset", 1, || balancer.ended(Reason::ClientReset));
    drop(first);
    assert_eq!(read_to_end(&mut patient), (b"finished".to_vec(), Outcome::End));
    becomes("served", 2, || balancer.ended(Reason::ClientClosed));
    balancer.settles();
}

#[test]
fn ten_thousand_waiters_that_hang_up_at_once_leave_the_line_empty() {
    // The balancer is a process of its own: the descriptors of one would not hold both ends. Each that waits may need a second
    // one, which is kept for it.
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1 << 20);
    let waiters = (usize::try_from(open_files).unwrap() / 2).saturating_sub(1_500).min(10_000);
    let backend = Backend::start(echo);
    let program = Program::start(&format!(
        "workers: 4\nlimits: {{ tcp_sessions: 20000 }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', \
         queue: {{ sessions: 20000, timeout: 1h }}, backends: [{}] }} }}",
        one(backend.address)
    ));
    let in_line = || program.metric("evenkeel_queue_length{pool=\"door\"}");
    let left = || program.metric("evenkeel_sessions_total{listener=\"door\",reason=\"client_reset\"}");
    let mut first = connect(program.address());
    exchange(&mut first, b"x");
    let clients: Vec<TcpStream> = (0..waiters).map(|_| connect(program.address())).collect();
    becomes("sessions in line", waiters as f64, in_line);
    clients.into_iter().for_each(reset);
    becomes("sessions in line", 0.0, in_line);
    exchange(&mut first, b"y");
    let mut next = connect(program.address());
    becomes("sessions in line", 1.0, in_line);
    drop(first);
    exchange(&mut next, b"z");
    drop(next);
    becomes("left by reset", waiters as f64, left);
    let active = || program.metric("evenkeel_sessions_active{listener=\"door\"}");
    becomes("active sessions", 0.0, active);
}

#[test]
fn a_backend_that_comes_up_serves_all_who_wait_at_once() {
    let full = Backend::start(echo);
    let mut fresh = Switch::start(echo);
    fresh.off();
    let keys = "queue: { timeout: 1h }, health: { interval: 200ms, timeout: 200ms, rise: 1, fall: 1 },";
    let list = format!("{}, '{}'", one(full.address), fresh.address);
    let balancer = Balancer::start(&yaml(2, keys, &list));
    eventually("one of two is up", || balancer.ups() == [true, false]);
    let mut first = connect(balancer.address());
    exchange(&mut first, b"x");
    let mut waiters: Vec<TcpStream> = (0..50).map(|_| connect(balancer.address())).collect();
    becomes("sessions in line", 50, || balancer.waiting());
    fresh.on();
    waiters.iter_mut().for_each(|client| exchange(client, b"at last"));
    assert_eq!(balancer.waiting(), 0);
    assert_eq!(balancer.backend(1, |backend| backend.load.active()), 50);
}

#[test]
fn max_sessions_of_the_pool_holds_over_its_backends_and_workers() {
    let backends = [Backend::start(echo), Backend::start(echo)];
    let list = backends.each_ref().map(|backend| format!("'{}'", backend.address)).join(", ");
    let balancer = Balancer::start(&yaml(4, "max_sessions: 7,", &list));
    let mut clients: Vec<TcpStream> = (0..7).map(|_| connect(balancer.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"x"));
    for _ in 0..10 {
        assert!(is_turned_away(balancer.address()));
    }
    assert_eq!(balancer.ended(Reason::BackendsFull), 10);
    drop(clients);
    becomes("ended", 7, || balancer.ended(Reason::ClientClosed));
    let mut next = connect(balancer.address());
    exchange(&mut next, b"x");
    drop(next);
    becomes("ended", 8, || balancer.ended(Reason::ClientClosed));
    balancer.settles();
}

#[test]
fn crowds_on_four_workers_are_all_served_and_the_limit_holds() {
    const CLIENTS: usize = 400;
    let backend = Backend::start(echo);
    let list = format!("{{ address: '{}', max_sessions: 5 }}", backend.address);
    let balancer =
        Balancer::start(&yaml(4, "queue: { sessions: 10000, timeout: 1h }, max_sessions: 5,", &list));
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while served.load(Ordering::Relaxed) < CLIENTS {
                let taken = balancer.backend(0, |backend| backend.load.active());
                assert!(taken <= 5, "{taken} places of 5 are taken");
                std::thread::yield_now();
            }
        });
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..CLIENTS / 8 {
                    let mut client = connect(balancer.address());
                    exchange(&mut client, b"me too");
                    drop(client);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), CLIENTS);
    balancer.ends(Reason::ClientClosed, CLIENTS as u64);
    assert_eq!(balancer.bytes(Direction::ToClient), 6 * CLIENTS as u64);
}

/// With one backend full and one dead but not found out, a session asked the dead one again and again and ended as
/// `connect_failed`, with an hour of patience left.
#[test]
fn a_session_that_a_dead_backend_failed_waits_for_the_full_one() {
    let (backend, noted) = noting();
    let keys = "balance: first, queue: { timeout: 1h }, health: { check: off }, passive: off,";
    let list = format!("{}, '{}'", one(backend.address), closed_address());
    let balancer = Balancer::start(&yaml(1, keys, &list));
    let mut held = connect(balancer.address());
    let mut answer = [0];
    held.write_all(&[1]).unwrap();
    held.read_exact(&mut answer).unwrap();
    let mut waiters: Vec<TcpStream> = (2..5)
        .map(|number| {
            let mut waiter = connect(balancer.address());
            waiter.write_all(&[number]).unwrap();
            becomes("sessions in line", u32::from(number) - 1, || balancer.waiting());
            waiter
        })
        .collect();
    drop(held);
    for _ in 0..3 {
        let served = waiters.pop().unwrap();
        // The one that lost its place last stands in front: see `End::Front`.
        let mut served = served;
        served.read_exact(&mut answer).unwrap();
    }
    balancer.ends(Reason::ClientClosed, 4);
    let mut noted = noted.lock().unwrap().clone();
    noted.sort_unstable();
    assert_eq!(noted, [1, 2, 3, 4]);
}

#[test]
fn who_waits_for_a_full_backend_keeps_nobody_from_one_that_is_back() {
    let backend = Backend::start(echo);
    let mut other = Switch::start(echo);
    let keys = "balance: first, queue: { timeout: 1h }, health: { check: off }, passive: off,";
    let list = format!("{}, {}", one(backend.address), one(other.address));
    let balancer = Balancer::start(&yaml(1, keys, &list));
    other.off();
    let mut held = connect(balancer.address());
    exchange(&mut held, b"h");
    let mut unlucky = connect(balancer.address());
    becomes("sessions in line", 1, || balancer.waiting());
    other.on();
    let mut newcomer = connect(balancer.address());
    exchange(&mut newcomer, b"n");
    assert_eq!(balancer.waiting(), 1, "the other is not asked again before it has served somebody");
    drop(newcomer);
    // Now it has.
    exchange(&mut unlucky, b"u");
    exchange(&mut held, b"h");
}

/// A session that got its place and ended in the same step was said to have waited twice as long as it had.
#[test]
fn waiting_is_counted_once() {
    let backend = Backend::start(echo);
    let file = |from: &str| {
        format!(
            "log: {{ sessions: all, format: json }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', connect: {{ attempts: 1 }}, \
             connect_from: [{from}], queue: {{ timeout: 1h }}, health: {{ check: off }}, backends: [{}] }} }}",
            one(backend.address)
        )
    };
    let program = Program::start(&file("127.0.0.1"));
    let mut held = connect(program.address());
    exchange(&mut held, b"h");
    let began = Instant::now();
    let mut waiter = connect(program.address());
    eventually("one waits", || program.metric("evenkeel_queue_length{pool=\"door\"}") == 1.0);
    // An address that is not here: whoever gets a place cannot use it.
    let text = program.file().replace("connect_from: [127.0.0.1]", "connect_from: [192.0.2.77]");
    program.write_file(&text);
    program.say(&["reload"]);
    // Long enough that twice of it cannot be taken for once.
    while began.elapsed() < Duration::from_millis(600) {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(held);
    assert_ne!(waiter.read(&mut [0]).map_err(|error| error.kind()), Ok(1));
    let at_most = began.elapsed().as_secs_f64() * 1_000.0;
    let mut waited = None;
    eventually("its line is there", || {
        let lines = program.session_lines();
        waited =
            lines.iter().find(|line| line["reason"] == "no_source_port").map(|line| line["queue_ms"].clone());
        waited.is_some()
    });
    let waited = waited.unwrap().as_f64().unwrap();
    assert!(waited > 300.0 && waited <= at_most, "{waited} of {at_most} ms");
}

#[test]
fn a_session_whose_backend_failed_it_waits_in_front_of_newcomers() {
    // Both backends have one place, which is taken; the first accepts nobody any more.
    let (backend, noted) = noting();
    let mut dying = Switch::start(echo);
    let keys = "balance: first, queue: { timeout: 1h }, health: { check: off }, passive: { failures: 1, eject: 1h },";
    let list = format!("{}, {}", one(dying.address), one(backend.address));
    let balancer = Balancer::start(&yaml(1, keys, &list));
    let mut held = connect(balancer.address());
    exchange(&mut held, b"h");
    let mut second = connect(balancer.address());
    let mut answer = [0];
    second.write_all(&[1]).unwrap();
    second.read_exact(&mut answer).unwrap();
    let mut unlucky = connect(balancer.address());
    unlucky.write_all(&[2]).unwrap();
    becomes("sessions in line", 1, || balancer.waiting());
    dying.off();
    drop(held);
    eventually("its place was of no use", || balancer.ejected() == [true, false]);
    let mut newcomer = connect(balancer.address());
    newcomer.write_all(&[3]).unwrap();
    becomes("sessions in line", 2, || balancer.waiting());
    drop(second);
    unlucky.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [2]);
    drop(unlucky);
    newcomer.read_exact(&mut answer).unwrap();
    drop(newcomer);
    assert_eq!(*noted.lock().unwrap(), [1, 2, 3]);
}
