//! `sticky`: a source returns to its backend, whatever the algorithm says.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

use super::rig::{Backend, Balancer, DEADLINE, Switch, answer_with, eventually};

fn yaml(workers: usize, keys: &str, backends: &str) -> String {
    format!(
        "workers: {workers}\nlisteners: {{ door: {{ bind: '127.0.0.1:1', {keys} backends: [{backends}] }} }}"
    )
}

/// The answer that a client at this address of ours gets.
fn asked_from(source: Ipv4Addr, to: SocketAddr) -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into()).unwrap();
    socket.connect_timeout(&to.into(), DEADLINE).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"x").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn source(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 7, number)
}

#[test]
fn each_source_stays_where_it_was_first_sent() {
    let backends: Vec<_> = ["a", "b", "c"].map(|name| Backend::start(answer_with(name))).into();
    let list: Vec<String> = backends.iter().map(|backend| format!("'{}'", backend.address)).collect();
    // Four workers share one table.
    let balancer = Balancer::start(&yaml(4, "sticky: { for: 1h },", &list.join(", ")));
    let first: Vec<String> = (1..=12).map(|number| asked_from(source(number), balancer.address())).collect();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "new sources are balanced: {first:?}");
    for _ in 0..5 {
        for (number, first) in (1..=12).zip(&first) {
            assert_eq!(asked_from(source(number), balancer.address()), *first);
        }
    }
}

#[test]
fn nobody_stays_on_the_backup_after_the_primary_is_back() {
    let mut primary = Switch::start(answer_with("primary"));
    let backup = Backend::start(answer_with("backup"));
    let list = format!("'{}', {{ address: '{}', tier: 1 }}", primary.address, backup.address);
    let keys = "sticky: { for: 1h }, health: { interval: 200ms, timeout: 200ms, rise: 1, fall: 1 },";
    let balancer = Balancer::start(&yaml(1, keys, &list));
    assert_eq!(asked_from(source(1), balancer.address()), "primary");
    primary.off();
    eventually("the backup serves", || balancer.ups() == [false, true]);
    assert_eq!(asked_from(source(1), balancer.address()), "backup");
    assert_eq!(asked_from(source(1), balancer.address()), "backup");
    primary.on();
    eventually("the primary is back", || balancer.ups() == [true, true]);
    assert_eq!(asked_from(source(1), balancer.address()), "primary");
}

#[test]
fn a_full_backend_is_left_for_this_session_only() {
    let small = Backend::start(|mut stream: TcpStream| {
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|read| read > 0) {
            if stream.write_all(b"small").is_err() {
                return;
            }
        }
    });
    let other = Backend::start(answer_with("other"));
    let list = format!("{{ address: '{}', max_sessions: 1 }}, '{}'", small.address, other.address);
    let balancer = Balancer::start(&yaml(1, "sticky: { for: 1h }, balance: first,", &list));
    let mut held = TcpStream::connect(balancer.address()).unwrap();
    held.set_read_timeout(Some(DEADLINE)).unwrap();
    held.write_all(b"x").unwrap();
    let mut answer = [0; 5];
    held.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"small");
    assert_eq!(asked_from(Ipv4Addr::LOCALHOST, balancer.address()), "other", "its own is full");
    drop(held);
    eventually("there is room again", || balancer.backend(0, |backend| backend.load.active()) == 0);
    let mut again = TcpStream::connect(balancer.address()).unwrap();
    again.set_read_timeout(Some(DEADLINE)).unwrap();
    again.write_all(b"x").unwrap();
    again.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"small");
}

#[test]
fn the_table_is_bounded_and_the_least_recently_used_goes() {
    let backends: Vec<_> = ["a", "b"].map(|name| Backend::start(answer_with(name))).into();
    let list: Vec<String> = backends.iter().map(|backend| format!("'{}'", backend.address)).collect();
    let balancer = Balancer::start(&yaml(1, "sticky: { for: 1h, entries: 10 },", &list.join(", ")));
    for number in 1..=200 {
        asked_from(source(number), balancer.address());
        let remembered = balancer.server().snapshots().load().pools[0].live.remembered();
        assert_eq!(remembered, usize::from(number).min(10));
    }
}

#[test]
fn sources_are_remembered_across_a_reload() {
    let backends: Vec<_> = ["a", "b", "c"].map(|name| Backend::start(answer_with(name))).into();
    let list: Vec<String> = backends.iter().map(|backend| format!("'{}'", backend.address)).collect();
    let file =
        |keys: &str, list: &[String]| yaml(2, &format!("sticky: {{ for: 1h }}, {keys}"), &list.join(", "));
    let balancer = Balancer::start(&file("", &list));
    let first: Vec<String> = (1..=9).map(|number| asked_from(source(number), balancer.address())).collect();
    let mut turned = list.clone();
    turned.reverse();
    balancer.reload(&file("balance: random,", &turned)).unwrap();
    for (number, first) in (1..=9).zip(&first) {
        assert_eq!(asked_from(source(number), balancer.address()), *first);
    }
}
