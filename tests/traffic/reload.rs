//! From one file to the next: sessions live on, doors stay open, what is known of backends stays known.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use evenkeel::backend_state::Mark;
use evenkeel::reason::Reason;
use evenkeel::server::{NoSuch, OrderError, ReloadError, Whom};

use super::ports::free_port;
use super::rig::{
    Backend, Balancer, Switch, answer_with, becomes, closed_address, connect, echo, eventually, exchange,
    names_reached, short_session,
};

fn file(name: &str, port: u16, keys: &str, backends: &[SocketAddr]) -> String {
    let list: Vec<String> = backends.iter().map(|address| format!("'{address}'")).collect();
    format!(
        "workers: 2\nlisteners: {{ {name}: {{ bind: '127.0.0.1:{port}', {keys} backends: [{}] }} }}",
        list.join(", ")
    )
}

fn whom(pool: &str, backend: SocketAddr) -> Whom {
    Whom { pool: pool.into(), backend: backend.to_string() }
}

#[test]
fn sessions_live_on_and_new_ones_get_the_new_file() {
    let (old, new) = (Backend::start(echo), Backend::start(answer_with("new")));
    let port = free_port();
    let balancer = Balancer::start(&file("door", port, "", &[old.address]));
    let mut living = connect(balancer.address());
    exchange(&mut living, b"before");
    let changes = balancer.reload(&file("door", port, "", &[new.address])).unwrap();
    let (old, new) = (old.address, new.address);
    let expected = [format!("pool door backend {new} added"), format!("pool door backend {old} removed")];
    assert_eq!(changes.lines, expected);
    assert_eq!(names_reached(balancer.address(), 10)["new"], 10);
    exchange(&mut living, b"after");
    drop(living);
    becomes("ended", 1, || balancer.ended(Reason::ClientClosed));
    balancer.settles();
}

#[test]
fn a_file_that_says_the_same_changes_nothing() {
    let backend = Backend::start(answer_with("same"));
    let yaml = file("door", free_port(), "", &[backend.address]);
    let balancer = Balancer::start(&yaml);
    assert_eq!(balancer.reload(&yaml).unwrap().to_string(), "nothing changed");
    assert_eq!(short_session(balancer.address()).unwrap(), "same");
}

#[test]
fn nothing_is_refused_while_files_come_and_go() {
    const RELOADS: usize = 50;
    let backends = [Backend::start(answer_with("a")), Backend::start(answer_with("b"))];
    let port = free_port();
    let names = ["one", "two"];
    let yaml = |turn: usize| {
        let keys = ["balance: random,", "timeouts: { idle: 1h }, keepalive: off,", ""][turn % 3];
        file(names[turn % 2], port, keys, &[backends[turn % 2].address, backends[(turn + 1) % 2].address])
    };
    let balancer = Balancer::start(&yaml(0));
    let address = balancer.address();
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let began = std::time::Instant::now();
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    short_session(address).expect("no connection is refused or cut");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for turn in 1..=RELOADS {
            let before = served.load(Ordering::Relaxed);
            balancer.reload(&yaml(turn)).unwrap();
            eventually("sessions go on", || served.load(Ordering::Relaxed) >= before + 100);
        }
        done.store(true, Ordering::Relaxed);
        let rate = served.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        eprintln!("{rate:.0} connects a second");
    });
    assert_eq!(balancer.address(), address);
    eprintln!("{} sessions across {RELOADS} reloads", served.into_inner());
}

#[test]
fn doors_open_and_close_with_the_file() {
    let backend = Backend::start(answer_with("here"));
    let (first, second) = (free_port(), free_port());
    let at = |ports: &[u16]| {
        let binds: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        format!(
            "workers: 2\nlisteners: {{ door: {{ bind: [{}], backends: ['{}'] }} }}",
            binds.join(", "),
            backend.address
        )
    };
    let reach = |port| short_session(SocketAddr::from(([127, 0, 0, 1], port)));
    let balancer = Balancer::start(&at(&[first]));
    assert!(reach(second).is_err());
    balancer.reload(&at(&[first, second])).unwrap();
    assert_eq!((reach(first).unwrap(), reach(second).unwrap()), ("here".into(), "here".into()));
    balancer.reload(&at(&[second])).unwrap();
    eventually("the first door is closed", || reach(first).is_err());
    assert_eq!(reach(second).unwrap(), "here");
    // From one address to all of them, and back: nobody who comes to that address notices.
    for turn in 0..10 {
        let narrow = at(&[second]);
        let wide = narrow.replace(&format!("'127.0.0.1:{second}'"), &second.to_string());
        balancer.reload(if turn % 2 == 0 { &wide } else { &narrow }).unwrap();
        for _ in 0..20 {
            assert_eq!(reach(second).unwrap(), "here");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_and_leaves_everything_as_it_was() {
    let backend = Backend::start(answer_with("steady"));
    let port = free_port();
    let yaml = file("door", port, "", &[backend.address]);
    let balancer = Balancer::start(&yaml);
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = stranger.local_addr().unwrap().port();
    let other = file("other", free_port(), "", &[backend.address]).replace(
        "} }",
        &format!("}}, bad: {{ bind: '127.0.0.1:{taken}', backends: ['{}'] }} }}", backend.address),
    );
    let error = balancer.reload(&other).unwrap_err();
    assert!(matches!(&error, ReloadError::Bind(error) if error.listener == "bad"), "{error}");
    let error = balancer.reload(&yaml.replace("workers: 2", "workers: 3")).unwrap_err();
    assert!(matches!(error, ReloadError::Fixed("workers")), "{error}");
    assert_eq!(short_session(balancer.address()).unwrap(), "steady");
    assert_eq!(balancer.server().addresses().len(), 1);
    // The doors that were bound for nothing are closed again.
    assert_eq!(balancer.reload(&yaml).unwrap().to_string(), "nothing changed");
}

#[test]
fn health_and_counters_of_a_backend_stay_known() {
    let (steady, mut mortal) = (Backend::start(answer_with("steady")), Switch::start(answer_with("mortal")));
    let port = free_port();
    let health = "health: { interval: 200ms, timeout: 200ms, rise: 2, fall: 1 },";
    let balancer = Balancer::start(&file("door", port, health, &[mortal.address, steady.address]));
    names_reached(balancer.address(), 10);
    mortal.off();
    eventually("it is down", || balancer.ups() == [false, true]);
    // In another place of the list, beside a third one, with another algorithm.
    let third = Backend::start(answer_with("third"));
    let keys = format!("{health} balance: least_connections,");
    balancer.reload(&file("door", port, &keys, &[steady.address, third.address, mortal.address])).unwrap();
    assert!(!balancer.ups()[2], "it is still down");
    assert_eq!(balancer.backend(2, |b| b.shards.sum(|shard| shard.sessions.value())), 5);
    mortal.on();
    eventually("it is up again", || balancer.ups() == [true, true, true]);
}

#[test]
fn a_backend_that_was_added_gets_nothing_until_it_answers() {
    let steady = Backend::start(answer_with("steady"));
    let dead = closed_address();
    let port = free_port();
    let health = "health: { interval: 1h, timeout: 1m },";
    let balancer = Balancer::start(&file("door", port, health, &[steady.address]));
    balancer.reload(&file("door", port, health, &[steady.address, dead])).unwrap();
    assert_eq!(names_reached(balancer.address(), 20)["steady"], 20);
    assert_eq!(balancer.retries(), 0, "nobody was sent there");
    // Alone in its pool, it is all there is.
    let fresh = Backend::start(answer_with("fresh"));
    balancer.reload(&file("door", port, "health: { interval: 1h },", &[fresh.address])).unwrap();
    assert_eq!(short_session(balancer.address()).unwrap(), "fresh");
}

#[test]
fn marks_and_weights_set_at_run_time_outlive_a_reload() {
    let [a, b, c] = ["a", "b", "c"].map(|name| Backend::start(answer_with(name)));
    let port = free_port();
    let all = [a.address, b.address, c.address];
    let balancer = Balancer::start(&file("door", port, "", &all));
    let server = balancer.server();
    balancer.wait_for(server.mark(whom("door", a.address), Some(Mark::Drain), "a test")).unwrap();
    balancer.wait_for(server.set_weight(whom("door", b.address), Some(3), "a test")).unwrap();
    let reached = names_reached(balancer.address(), 20);
    assert_eq!((reached.get("a"), reached["b"], reached["c"]), (None, 15, 5));
    balancer.reload(&file("door", port, "balance: random,", &all)).unwrap();
    balancer.reload(&file("door", port, "", &all)).unwrap();
    let reached = names_reached(balancer.address(), 20);
    assert_eq!((reached.get("a"), reached["b"], reached["c"]), (None, 15, 5));
    balancer.wait_for(server.mark(whom("door", a.address), None, "a test")).unwrap();
    balancer.wait_for(server.set_weight(whom("door", b.address), None, "a test")).unwrap();
    let reached = names_reached(balancer.address(), 30);
    assert_eq!((reached["a"], reached["b"], reached["c"]), (10, 10, 10));
    let nobody = Whom { pool: "door".into(), backend: "x".into() };
    let error = balancer.wait_for(server.mark(nobody, None, "a test")).unwrap_err();
    assert_eq!(error, OrderError::NoSuch(NoSuch::Backend("door".into(), "x".into())));
}

#[test]
fn a_backend_marked_down_loses_its_sessions_where_on_down_says_so() {
    let [a, b] = [Backend::start(echo), Backend::start(echo)];
    let balancer = Balancer::start(&file("door", free_port(), "on_down: close,", &[a.address, b.address]));
    let mut clients: Vec<TcpStream> = (0..10).map(|_| connect(balancer.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"x"));
    let server = balancer.server();
    balancer.wait_for(server.mark(whom("door", a.address), Some(Mark::Drain), "a test")).unwrap();
    balancer.wait_for(server.mark(whom("door", a.address), Some(Mark::Down), "a test")).unwrap();
    becomes("sessions cut", 5, || balancer.ended(Reason::BackendDown));
    assert_eq!(balancer.active(), 5);
}

#[test]
fn limits_and_queue_follow_the_file() {
    let backend = Backend::start(echo);
    let port = free_port();
    let yaml = |most: u32| {
        file("door", port, &format!("max_sessions: {most}, queue: {{ timeout: 1h }},"), &[backend.address])
    };
    let balancer = Balancer::start(&yaml(1));
    let mut clients: Vec<TcpStream> = (0..6).map(|_| connect(balancer.address())).collect();
    becomes("sessions in line", 5, || balancer.waiting());
    balancer.reload(&yaml(4)).unwrap();
    becomes("sessions in line", 2, || balancer.waiting());
    balancer.reload(&yaml(100)).unwrap();
    clients.iter_mut().for_each(|client| exchange(client, b"served"));
}

#[test]
fn a_pool_that_left_keeps_its_sessions_and_its_slot_is_used_again() {
    let backend = Backend::start(echo);
    let port = free_port();
    let yaml = |pool: &str| {
        format!(
            "workers: 2\nlisteners: {{ door: {{ bind: '127.0.0.1:{port}', pool: {pool} }} }}\n\
             pools: {{ {pool}: {{ backends: ['{}'] }} }}",
            backend.address
        )
    };
    let balancer = Balancer::start(&yaml("p0"));
    let mut living = connect(balancer.address());
    exchange(&mut living, b"x");
    for turn in 1..=20 {
        balancer.reload(&yaml(&format!("p{turn}"))).unwrap();
        let mut client = connect(balancer.address());
        exchange(&mut client, b"y");
        drop(client);
        becomes("ended", turn, || balancer.ended(Reason::ClientClosed));
    }
    exchange(&mut living, b"z");
    let slots = balancer.server().snapshots().load().pools.len();
    assert!(slots <= 5, "{slots} slots after 20 pools");
}

#[test]
fn flows_live_on_until_their_door_leaves_and_a_door_that_returns_serves_again() {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = backend.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((length, from)) = backend.recv_from(&mut bytes) {
            if backend.send_to(&bytes[..length], from).is_err() || &bytes[..length] == b"end" {
                return;
            }
        }
    });
    let port = free_port();
    let yaml = |name: &str, port: u16, grace: &str| {
        format!(
            "workers: 2\nshutdown: {{ grace: {grace} }}\nlisteners: {{ {name}: {{ bind: '127.0.0.1:{port}', \
             protocol: udp, backends: ['{to}'] }} }}"
        )
    };
    let ask = |client: &UdpSocket, what: &[u8]| {
        client.send(what).unwrap();
        let mut answer = [0; 64];
        client.recv(&mut answer).is_ok_and(|length| &answer[..length] == what)
    };
    let client = || {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        client
    };
    let balancer = Balancer::start(&yaml("door", port, "1h"));
    let living = client();
    eventually("an answer", || ask(&living, b"one"));
    balancer.reload(&yaml("renamed", port, "1h")).unwrap();
    eventually("an answer", || ask(&living, b"two"));
    assert_eq!(balancer.server().workers().sessions(), 1, "it is the same flow");
    // The door leaves: the flow may finish, and nobody new is admitted.
    balancer.reload(&yaml("elsewhere", free_port(), "1h")).unwrap();
    eventually("an answer", || ask(&living, b"three"));
    let late = client();
    assert!(!ask(&late, b"four"));
    balancer.reload(&yaml("door", port, "0s")).unwrap();
    eventually("an answer", || ask(&late, b"five"));
    eventually("an answer", || ask(&living, b"six"));
    assert_eq!(balancer.server().workers().sessions(), 2);
    // The grace of the file that it leaves.
    balancer.reload(&yaml("elsewhere", free_port(), "1h")).unwrap();
    becomes("flows", 0, || balancer.server().workers().sessions());
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"end", to).unwrap();
}

#[test]
fn a_session_in_line_is_served_after_its_listener_left() {
    let backend = Backend::start(echo);
    let port = free_port();
    let keys = "max_sessions: 1, queue: { timeout: 1h },";
    let balancer = Balancer::start(&file("door", port, keys, &[backend.address]));
    let mut first = connect(balancer.address());
    exchange(&mut first, b"x");
    let mut waiting = connect(balancer.address());
    becomes("sessions in line", 1, || balancer.waiting());
    balancer.reload(&file("other", free_port(), "", &[backend.address])).unwrap();
    drop(first);
    waiting.write_all(b"still me").unwrap();
    let mut answer = [0; 8];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still me");
}

#[test]
fn concurrent_reloads_and_marks_leave_one_consistent_picture() {
    let backends: Vec<Backend> = (0..4).map(|_| Backend::start(answer_with("x"))).collect();
    let port = free_port();
    let yaml = |turn: usize| {
        let most = 1 + turn % 4;
        let list: Vec<SocketAddr> = backends[..most].iter().map(|backend| backend.address).collect();
        file("door", port, "health: { interval: 100ms },", &list)
    };
    let balancer = Balancer::start(&yaml(3));
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (balancer, yaml, backends) = (&balancer, &yaml, &backends);
            scope.spawn(move || {
                for turn in 0..30 {
                    balancer.reload(&yaml(turn * 7 + worker)).unwrap();
                    let mark = (turn % 2 == 0).then_some(Mark::Drain);
                    // It may have left the file: then nothing is marked.
                    let _ = balancer.wait_for(balancer.server().mark(
                        whom("door", backends[turn % 4].address),
                        mark,
                        "a test",
                    ));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..300 {
                let snapshot = balancer.server().snapshots().load();
                for pool in &snapshot.pools {
                    assert_eq!(pool.backends.len(), pool.settings.backends.len());
                    assert_eq!(pool.backends.len(), pool.states.len());
                    for (live, settings) in pool.backends.iter().zip(&pool.settings.backends) {
                        assert_eq!(*live.name, *settings.name);
                    }
                }
                std::thread::yield_now();
            }
        });
    });
    for backend in &backends {
        let _ = balancer.wait_for(balancer.server().mark(whom("door", backend.address), None, "a test"));
    }
    balancer.reload(&yaml(3)).unwrap();
    assert_eq!(names_reached(balancer.address(), 8)["x"], 8);
    assert_eq!(balancer.ended(Reason::NoBackend), 0);
}

#[test]
fn limits_of_a_listener_count_the_sessions_that_live() {
    let backend = Backend::start(echo);
    let port = free_port();
    let yaml = |limits: &str| file("door", port, &format!("limits: {{ {limits} }},"), &[backend.address]);
    let balancer = Balancer::start(&yaml("sessions: 2, sessions_per_source: 2"));
    let mut living = connect(balancer.address());
    exchange(&mut living, b"x");
    balancer.reload(&yaml("sessions: 3, sessions_per_source: 1, rate: 100/s")).unwrap();
    assert!(super::rig::is_turned_away(balancer.address()));
    assert_eq!(balancer.ended(Reason::LimitSessionsPerSource), 1);
    balancer.reload(&yaml("sessions: 2, sessions_per_source: off")).unwrap();
    let mut second = connect(balancer.address());
    // The reload has answered when every thread has the new limits.
    exchange(&mut second, b"y");
    assert!(super::rig::is_turned_away(balancer.address()));
    assert_eq!(balancer.ended(Reason::LimitSessions), 1);
    drop((living, second));
    becomes("ended", 2, || balancer.ended(Reason::ClientClosed));
    balancer.settles();
}
