//! Backends by name: what names become, what no answer can do, and what goes on when a list becomes a name.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use evenkeel::reason::Reason;

use crate::names::{Names, Says};
use crate::ports::free_port;
use crate::resolvers::Resolvers;
use crate::rig::*;

/// Backends at one port of several loopback addresses, each of which says its own last number.
fn row<const N: usize>(names: [&'static str; N], hosts: [u8; N]) -> ([Backend; N], u16) {
    let first = Backend::start_at(&format!("127.0.0.{}:0", hosts[0]), answer_with(names[0]));
    let port = first.address.port();
    let mut first = Some(first);
    let backends = std::array::from_fn(|at| match first.take() {
        Some(first) => first,
        None => Backend::start_at(&format!("127.0.0.{}:{port}", hosts[at]), answer_with(names[at])),
    });
    (backends, port)
}

fn file(names: &Names, door: u16, keys: &str, backends: &str) -> String {
    format!(
        "workers: 2\ndns: {{ servers: '{}', hosts: off, search: [], timeout: 300ms, refresh: {{ min: 100ms }} }}\n\
         listeners: {{ door: {{ bind: '127.0.0.1:{door}', {keys} backends: [{backends}] }} }}",
        names.address
    )
}

fn found(balancer: &Balancer) -> Vec<String> {
    let snapshot = balancer.server().snapshots().load();
    snapshot.pools[0].backends.iter().map(|backend| backend.name.to_string()).collect()
}

fn generation(balancer: &Balancer) -> u64 {
    balancer.server().snapshots().load().generation
}

fn state(balancer: &Balancer) -> (&'static str, Option<String>) {
    let pool = balancer.server().discovery().pool("door").unwrap();
    (pool.sources[0].state, pool.sources[0].why.clone())
}

#[test]
fn each_address_of_a_name_is_a_backend_and_a_move_cuts_nobody() {
    let names = Names::start();
    let (_backends, port) = row(["a", "b"], [11, 12]);
    names.has("db.test", &["127.0.0.11"]);
    let yaml = file(&names, free_port(), "", &format!("'db.test:{port}'"));
    let balancer = Balancer::start(&yaml);
    assert_eq!(found(&balancer), [format!("127.0.0.11:{port}")], "found before the door opens");
    assert_eq!(names_reached(balancer.address(), 10)["a"], 10);
    names.has("db.test", &["127.0.0.12"]);
    let moved = Instant::now();
    becomes("backends", vec![format!("127.0.0.12:{port}")], || found(&balancer));
    assert!(moved.elapsed() < Duration::from_secs(6), "{:?}", moved.elapsed());
    assert!(moved.elapsed() > Duration::from_secs(3), "a removal is confirmed: {:?}", moved.elapsed());
    assert_eq!(names_reached(balancer.address(), 10)["b"], 10);
    balancer.settles();
}

#[test]
fn localhost_needs_nobody() {
    let backend = Backend::start(answer_with("here"));
    let yaml = format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:{}', backends: [{{ address: 'localhost:{}', family: v4 }}] }} }}",
        free_port(),
        backend.address.port()
    );
    let balancer = Balancer::start(&yaml);
    assert_eq!(short_session(balancer.address()).unwrap(), "here");
    assert_eq!(balancer.reload(&yaml).unwrap().to_string(), "nothing changed");
}

#[test]
fn whatever_a_server_does_that_is_no_answer_changes_nothing() {
    let names = Names::start();
    let (_backends, port) = row(["a", "b"], [11, 12]);
    names.has("db.test", &["127.0.0.11", "127.0.0.12"]);
    let balancer = Balancer::start(&file(&names, free_port(), "", &format!("'db.test:{port}'")));
    becomes("state", "ok", || state(&balancer).0);
    let before = (found(&balancer), generation(&balancer));
    let evil: IpAddr = "127.0.0.66".parse().unwrap();
    let all = [
        Says::Code(2),
        Says::Code(5),
        Says::Code(1),
        Says::Code(3),
        Says::Nothing,
        Says::Silence,
        Says::Garbage,
        Says::NoTcp,
        Says::OtherNumber(evil),
        Says::OtherName(evil),
    ];
    for says in all {
        let is_nobody = matches!(says, Says::Code(3) | Says::Nothing);
        names.set("db.test", says.clone());
        let expected = if is_nobody { "nobody" } else { "failing" };
        becomes(&format!("state after {says:?}"), expected, || state(&balancer).0);
        assert_eq!((found(&balancer), generation(&balancer)), before, "{says:?}: {:?}", state(&balancer));
        assert!(state(&balancer).1.is_some());
        assert_eq!(names_reached(balancer.address(), 4).len(), 2);
        names.has("db.test", &["127.0.0.12", "127.0.0.11"]);
        balancer.refresh();
        becomes("state", "ok", || state(&balancer).0);
    }
    assert_eq!((found(&balancer), generation(&balancer)), before);
}

#[test]
fn another_order_makes_no_snapshot_and_a_part_takes_nobody_away() {
    let names = Names::start();
    let all: Vec<IpAddr> = (1..=10).map(|at| IpAddr::from([127, 0, 0, at])).collect();
    names.set("db.test", Says::Shuffled(all.clone()));
    let keys = "health: { check: off },";
    let balancer = Balancer::start(&file(&names, free_port(), keys, "'db.test:1'"));
    becomes("backends", 10, || found(&balancer).len());
    let before = (found(&balancer), generation(&balancer));
    let asked = names.asked();
    eventually("a hundred answers", || {
        balancer.refresh();
        names.asked() > asked + 100 || names.asked() > asked + 8
    });
    assert_eq!((found(&balancer), generation(&balancer)), before);
    names.set("db.test", Says::Rotating(all, 3));
    let asked = names.asked();
    eventually("ten more rounds", || names.asked() > asked + 20);
    assert_eq!((found(&balancer), generation(&balancer)), before);
}

#[test]
fn what_does_not_fit_into_a_datagram_comes_by_tcp_and_is_bounded() {
    let names = Names::start();
    let many: Vec<IpAddr> = (0..200).map(|at| IpAddr::from([127, 1, 1, at])).collect();
    names.set("many.test", Says::ByTcp(many));
    let huge: Vec<IpAddr> =
        (0..3_000_u16).map(|at| IpAddr::from([127, 2, at.to_be_bytes()[0], at.to_be_bytes()[1]])).collect();
    names.set("huge.test", Says::ByTcp(huge));
    let keys = "health: { check: off }, discovery: { max_backends: 1000 },";
    let door = free_port();
    let balancer = Balancer::start(&file(&names, door, keys, "'many.test:1'"));
    becomes("backends", 200, || found(&balancer).len());
    balancer.reload(&file(&names, door, keys, "'huge.test:1'")).unwrap();
    becomes("backends", 1_000, || found(&balancer).len());
    assert!(balancer.server().discovery().pool("door").unwrap().is_full);
}

#[test]
fn a_start_waits_for_no_server_and_what_is_found_later_serves_at_once() {
    let names = Names::start();
    let ([_a, fixed], port) = row(["a", "fixed"], [11, 12]);
    names.set("db.test", Says::Silence);
    let backends = format!("'{}', 'db.test:{port}'", fixed.address);
    let began = Instant::now();
    let balancer = Balancer::start(&file(&names, free_port(), "", &backends));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(names_reached(balancer.address(), 4)["fixed"], 4);
    assert_eq!(state(&balancer).0, "failing");
    names.has("db.test", &["127.0.0.11"]);
    let answers = Instant::now();
    becomes("backends", 2, || found(&balancer).len());
    becomes("up", vec![true, true], || balancer.ups());
    assert!(answers.elapsed() < Duration::from_secs(10), "{:?}", answers.elapsed());
    assert_eq!(names_reached(balancer.address(), 4)["a"], 2);
}

#[test]
fn a_pool_that_has_found_nobody_yet_refuses_and_then_serves() {
    let names = Names::start();
    let (_backends, port) = row(["a", "b"], [11, 12]);
    for keys in ["balance: source_hash,", "sticky: {},", "balance: first,", "balance: least_latency,"] {
        names.set("db.test", Says::Code(2));
        let balancer = Balancer::start(&file(&names, free_port(), keys, &format!("'db.test:{port}'")));
        assert!(is_turned_away(balancer.address()), "{keys}");
        assert_eq!(state(&balancer).0, "failing");
        names.has("db.test", &["127.0.0.11", "127.0.0.12"]);
        becomes("up", vec![true, true], || balancer.ups());
        assert!(!names_reached(balancer.address(), 4).is_empty(), "{keys}");
    }
}

#[test]
fn a_list_that_becomes_a_name_is_the_same_backends() {
    let names = Names::start();
    let first = Backend::start_at("127.0.0.11:0", echo);
    let port = first.address.port();
    let other = Backend::start_at(&format!("127.0.0.12:{port}"), echo);
    names.has("db.test", &["127.0.0.12", "127.0.0.11"]);
    let door = free_port();
    let list = format!("'{}', '{}'", first.address, other.address);
    let balancer = Balancer::start(&file(&names, door, "", &list));
    let mut living: Vec<TcpStream> = (0..4).map(|_| connect(balancer.address())).collect();
    living.iter_mut().for_each(|client| exchange(client, b"x"));
    let numbers = || {
        let snapshot = balancer.server().snapshots().load();
        let numbers = snapshot.pools[0].backends.iter().map(|one| (one.name.to_string(), one.number));
        numbers.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = numbers();
    balancer.reload(&file(&names, door, "", &format!("'db.test:{port}'"))).unwrap();
    becomes("backends", before.clone(), numbers);
    assert_eq!(balancer.ups(), [true, true]);
    living.iter_mut().for_each(|client| exchange(client, b"y"));
    assert_eq!(balancer.backend(0, |one| one.load.active()), 2, "its sessions count");
    balancer.reload(&file(&names, door, "", &list)).unwrap();
    assert_eq!(numbers(), before);
    assert_eq!(balancer.ended(Reason::Removed), 0);
}

#[test]
fn nobody_is_sent_where_no_backend_can_be() {
    let names = Names::start();
    let (_backends, port) = row(["a"], [11]);
    let door = free_port();
    names.has("db.test", &["169.254.169.254", "0.0.0.0", "224.0.0.1", "10.0.0.1", "127.0.0.11"]);
    names.has("loop.test", &["127.0.0.1"]);
    let keys = "discovery: { networks: [127.0.0.0/8] },";
    let yaml = file(&names, door, keys, &format!("'db.test:{port}', 'loop.test:{door}'"));
    let balancer = Balancer::start(&yaml);
    becomes("backends", vec![format!("127.0.0.11:{port}")], || found(&balancer));
    let pool = balancer.server().discovery().pool("door").unwrap();
    assert_eq!(pool.changes.refused, 5);
    assert_eq!(names_reached(balancer.address(), 4)["a"], 4);
}

#[test]
fn a_name_that_is_one_backend_keeps_its_name_when_it_moves() {
    let names = Names::start();
    let (backends, port) = row(["a", "b"], [11, 12]);
    let [first, second]: [SocketAddr; 2] = backends.each_ref().map(|backend| backend.address);
    names.has("rds.test", &[&first.ip().to_string()]);
    let entry = format!("{{ address: 'rds.test:{port}', addresses: one, name: db }}");
    let balancer = Balancer::start(&file(&names, free_port(), "", &entry));
    assert_eq!(found(&balancer), ["db"]);
    assert_eq!(names_reached(balancer.address(), 2)["a"], 2);
    let sessions = || balancer.backend(0, |one| one.shards.sum(|shard| shard.sessions.value()));
    assert_eq!(sessions(), 2);
    names.has("rds.test", &[&second.ip().to_string()]);
    becomes("its place", second.ip(), || balancer.backend(0, |one| one.place().0));
    assert_eq!(found(&balancer), ["db"]);
    assert_eq!(names_reached(balancer.address(), 2)["b"], 2);
    assert_eq!(sessions(), 4, "what is counted goes on");
}

#[test]
#[ignore = "needs knot, unbound and dnsmasq"]
fn real_servers_answer_alike_and_a_record_that_moves_cuts_nobody() {
    let (_backends, port) = row(["a", "b"], [11, 12]);
    let both: String = (1..=200).map(|at| format!("many A 127.0.2.{at}\n")).collect();
    let zone = format!("db A 127.0.0.11\nalias CNAME db\n{both}");
    let mut resolvers = Resolvers::start([free_port(), free_port(), free_port()], &zone);
    let yaml = |server: SocketAddr, door: u16, backends: &str| {
        format!(
            "workers: 2\ndns: {{ servers: '{server}', hosts: off, search: [], timeout: 500ms }}\n\
             listeners: {{ door: {{ bind: '127.0.0.1:{door}', health: {{ check: off }}, backends: [{backends}] }} }}"
        )
    };
    let door = free_port();
    let db = format!("'db.example.test:{port}'");
    let balancer = Balancer::start(&yaml(resolvers.addresses[0], door, &db));
    for server in resolvers.addresses {
        for (name, count) in [("db", 1), ("alias", 1), ("many", 200)] {
            balancer.reload(&yaml(server, door, &format!("'{name}.example.test:{port}'"))).unwrap();
            becomes(&format!("{name} by {server}"), count, || found(&balancer).len());
        }
        balancer.reload(&yaml(server, door, "'nobody.example.test:1'")).unwrap();
        becomes("a name that is not there", "nobody", || state(&balancer).0);
    }
    // Through a cache, with a time of one second.
    balancer.reload(&yaml(resolvers.addresses[1], door, &db)).unwrap();
    becomes("backends", vec![format!("127.0.0.11:{port}")], || found(&balancer));
    let living: Vec<TcpStream> = (0..4).map(|_| connect(balancer.address())).collect();
    resolvers.change(2, "db A 127.0.0.12\n");
    let moved = Instant::now();
    while found(&balancer) != [format!("127.0.0.12:{port}")] {
        short_session(balancer.address()).expect("no connection is refused while it moves");
        assert!(moved.elapsed() < Duration::from_secs(20), "{:?}", found(&balancer));
    }
    eprintln!("a record that moved serves alone after {:?}", moved.elapsed());
    assert_eq!(names_reached(balancer.address(), 10)["b"], 10);
    drop(living);
    // And when all of them die.
    (0..3).for_each(|which| resolvers.kill(which));
    becomes("state", "failing", || state(&balancer).0);
    assert_eq!(names_reached(balancer.address(), 10)["b"], 10);
}
