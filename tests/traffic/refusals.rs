//! Refusals in the language of the client (`speaks`): what drivers make of them, that they are bounded and counted, and that who
//! is denied hears nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use evenkeel::reason::Reason;

use super::rig::{Backend, Balancer, Outcome, becomes, connect, echo, eventually, read_to_end};

const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0ann\0\0";
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A balancer whose one place is taken: the next is refused as `backends_full`.
fn full(speaks: &str, backend: &Backend, more: &str) -> (Balancer, TcpStream) {
    let balancer = Balancer::start(&format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:80', speaks: {speaks}, {more} pool: p }} }}
pools: {{ p: {{ backends: ['{}'], max_sessions: 1, health: {{ check: off }} }} }}",
        backend.address
    ));
    let first = connect(balancer.address());
    if speaks == "postgres" {
        (&first).write_all(STARTUP).unwrap();
    }
    eventually("the place is taken", || backend.accepted() == 1);
    (balancer, first)
}

fn hears(door: SocketAddr, first: &[u8]) -> (Vec<u8>, Outcome) {
    let mut stream = connect(door);
    stream.write_all(first).unwrap();
    read_to_end(&mut stream)
}

#[test]
fn each_hears_it_in_its_own_words_and_an_ordinary_end() {
    let told = |speaks: &str, first: &[u8]| {
        let backend = Backend::start(echo);
        let (balancer, _first) = full(speaks, &backend, "");
        let heard = hears(balancer.address(), first);
        becomes("it is counted", 1, || balancer.ended(Reason::BackendsFull));
        becomes("and that it was told", 1, || balancer.counters().shards.sum(|shard| shard.told.value()));
        becomes("it is gone", 1, || balancer.active());
        heard
    };
    let text = "every server is full (backends_full)";
    let (redis, end) = told("redis", b"*1\r\n$4\r\nPING\r\n");
    assert_eq!((String::from_utf8(redis).unwrap(), end), (format!("-ERR {text}\r\n"), Outcome::End));
    let (mysql, end) = told("mysql", b"");
    assert_eq!((&mysql[3..9], end), (&[0, 0xff, 0x10, 4, b'e', b'v'][..], Outcome::End));
    let (postgres, end) = told("postgres", &[&SSL_REQUEST[..], STARTUP].concat());
    assert_eq!((&postgres[..2], end), (&b"NE"[..], Outcome::End));
    assert!(String::from_utf8_lossy(&postgres).contains(&format!("C53300\0Mevenkeel: {text}\0")));
    let handshake = |next: u8| [7, 0, 4, 1, b'x', 0, 80, next];
    let (login, end) = told("minecraft", &[&handshake(2)[..], &[3, 0, 1, b'n']].concat());
    assert_eq!(end, Outcome::End);
    assert!(String::from_utf8_lossy(&login).contains(&format!("{{\"text\":\"{text}\"}}")), "{login:?}");
    let (status, _) = told("minecraft", &[&handshake(1)[..], &[1, 0]].concat());
    assert!(String::from_utf8_lossy(&status).contains("\"protocol\":-1"), "{status:?}");
}

#[test]
fn who_is_denied_hears_nothing_and_a_flood_is_bounded() {
    let backend = Backend::start(echo);
    let (balancer, _first) = full("redis", &backend, "deny: [127.0.0.9],");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.9:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let mut denied: TcpStream = match socket.connect(&balancer.address().into()) {
        Ok(()) => socket.into(),
        Err(error) => panic!("{error}"),
    };
    let mut heard = Vec::new();
    assert!(denied.read_to_end(&mut heard).is_err() && heard.is_empty());
    assert_eq!(balancer.ended(Reason::Denied), 1);
    // They hear it and do not go: no more than 256 at a time, and those for two seconds.
    // Those beyond may see their reset before their connect is through.
    let flood: Vec<_> = (0..600).map(|_| TcpStream::connect(balancer.address())).collect();
    becomes("all are refused", 600, || balancer.ended(Reason::BackendsFull));
    let told = balancer.counters().shards.sum(|shard| shard.told.value());
    assert!((256..600).contains(&told), "{told}");
    drop(flood);
    // There is room for the next.
    let (heard, _) = hears(balancer.address(), b"");
    assert!(heard.starts_with(b"-ERR "));
}

/// Each question of a pipelined thousand was answered in one turn of the thread, which served nobody else meanwhile.
#[test]
fn questions_without_end_are_answered_as_often_as_a_client_asks_and_no_more() {
    let backend = Backend::start(echo);
    let (balancer, _first) = full("postgres", &backend, "");
    let (heard, end) = hears(balancer.address(), &SSL_REQUEST.repeat(1_000));
    assert!(heard.len() <= 2 && heard.iter().all(|byte| *byte == b'N'), "{} bytes", heard.len());
    assert_eq!(end, Outcome::Reset);
    becomes("it is refused", 1, || balancer.ended(Reason::BackendsFull));
    let (heard, end) = hears(balancer.address(), &[&SSL_REQUEST[..], &SSL_REQUEST, STARTUP].concat());
    assert_eq!((&heard[..3], end), (&b"NNE"[..], Outcome::End));
}

#[test]
fn silence_and_half_a_question_end_as_well() {
    let backend = Backend::start(echo);
    let balancer = Balancer::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:80', speaks: postgres, limits: {{ sessions: 1 }}, pool: p }} }}\npools: {{ p: {{ backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let _first = connect(balancer.address());
    becomes("it is in", 1, || balancer.active());
    for first in [&b""[..], &STARTUP[..9], b"GET / HTTP/1.1\r\n\r\n"] {
        let (heard, end) = hears(balancer.address(), first);
        assert!(heard.is_empty() && end == Outcome::Reset, "{heard:?} {end:?}");
    }
    let (heard, _) = hears(balancer.address(), STARTUP);
    assert!(String::from_utf8_lossy(&heard).contains("C53300"));
    becomes("each is counted", 4, || balancer.ended(Reason::LimitSessions));
}

#[test]
#[ignore = "needs PostgreSQL, MariaDB and Redis"]
fn real_drivers_read_it() {
    let closed = super::rig::closed_address();
    let balancer = Balancer::start(&format!(
        "listeners:
  pg: {{ bind: '127.0.0.1:80', speaks: postgres, pool: p }}
  my: {{ bind: '127.0.0.1:81', speaks: mysql, pool: p }}
  re: {{ bind: '127.0.0.1:82', speaks: redis, pool: p }}
pools: {{ p: {{ backends: ['{closed}'], connect: {{ attempts: 1 }}, health: {{ check: off }} }} }}"
    ));
    let door = |name: &str| {
        let all = balancer.server().addresses();
        all.iter().find(|(listener, _)| listener == name).unwrap().1.port().to_string()
    };
    let said = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output().unwrap();
        let text = [&output.stdout[..], &output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    let told = "no server could be reached (connect_failed)";
    for mode in ["disable", "prefer"] {
        let target = format!("host=127.0.0.1 port={} user=x dbname=x sslmode={mode}", door("pg"));
        let text = said("psql", &[&target, "-c", "select 1"]);
        assert!(text.contains(&format!("FATAL:  evenkeel: {told}")), "{text}");
    }
    let text = said("mariadb", &["-h", "127.0.0.1", "-P", &door("my"), "-u", "x", "-e", "select 1"]);
    assert!(text.contains("1040") && text.contains(told), "{text}");
    let text = said("redis-cli", &["-p", &door("re"), "ping"]);
    assert!(text.contains(told), "{text}");
}
