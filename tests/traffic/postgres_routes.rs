//! `speaks: postgres` in front of real servers: cancels that arrive, routes by the name in TLS, by database and by user; and what
//! becomes of clients that were promised TLS which nobody takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use evenkeel::metrics::Cancelled;
use evenkeel::reason::Reason;

use super::postgres_cluster::Node;
use super::rig::{Backend, Balancer, DEADLINE, Outcome, Silent, becomes, connect, echo, read_to_end};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

fn startup(user: &str, database: &str) -> Vec<u8> {
    let body = format!("user\0{user}\0database\0{database}\0\0");
    let length = u32::try_from(8 + body.len()).unwrap().to_be_bytes();
    [&length[..], &[0, 3, 0, 0], body.as_bytes()].concat()
}

/// One message of a server: its kind and what is in it.
fn message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

/// Logs in without a password; the key by which it is cancelled.
fn session(door: SocketAddr) -> (TcpStream, Vec<u8>) {
    let mut stream = connect(door);
    stream.write_all(&startup("trustuser", "postgres")).unwrap();
    let mut key = Vec::new();
    loop {
        match message(&mut stream) {
            (b'K', body) => key = body,
            (b'Z', _) => return (stream, key),
            (b'E', body) => panic!("{}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}

fn cancel(door: SocketAddr, key: &[u8]) {
    let mut stream = connect(door);
    let length = u32::try_from(8 + key.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &[4, 210, 22, 46], key].concat()).unwrap();
    // The server closes when it has acted.
    assert_eq!(read_to_end(&mut stream), (Vec::new(), Outcome::End));
}

fn psql(parameters: &str, sql: &str) -> Output {
    let mut command = Command::new("psql");
    command.args(["-qXAt", &format!("connect_timeout=20 {parameters}"), "-c", sql]);
    command.env("LC_ALL", "C").stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn yaml(keys: &str, pools: &[(&str, &[u16])]) -> String {
    let pools: Vec<String> = pools
        .iter()
        .map(|(name, ports)| {
            let backends: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
            format!(
                "{name}: {{ balance: least_connections, backends: [{}], health: {{ check: off }} }}",
                backends.join(", ")
            )
        })
        .collect();
    format!(
        "workers: 2\nlisteners: {{ pg: {{ bind: '127.0.0.1:80', speaks: postgres, {keys} }} }}\npools: {{ {} }}",
        pools.join(", ")
    )
}

#[test]
#[ignore = "needs PostgreSQL"]
fn cancels_reach_whoever_has_the_session() {
    let nodes = [(); 3].map(|()| Node::primary(""));
    let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    let balancer = Balancer::start(&yaml("pool: all", &[("all", &ports)]));
    let door = balancer.address();
    // Some that take the places of the picks.
    let idle: Vec<_> = (0..4).map(|_| session(door)).collect();
    for round in 0..100 {
        let (mut stream, key) = session(door);
        let sql = b"select pg_sleep(60)\0";
        let length = u32::try_from(4 + sql.len()).unwrap().to_be_bytes();
        stream.write_all(&[&b"Q"[..], &length, sql].concat()).unwrap();
        let is_running = |node: &Node| {
            node.psql("select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'") != "0"
        };
        if round == 0 {
            super::rig::eventually("it runs", || nodes.iter().any(is_running));
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
        // One that comes before the query does nothing, and the next one does.
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut head = [0; 1];
        let told = (0..20).find_map(|_| {
            cancel(door, &key);
            stream.read_exact(&mut head).ok()
        });
        assert!(told.is_some(), "round {round}: nobody cancelled it");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut rest = [0; 600];
        let length = stream.read(&mut rest).unwrap();
        let text = [&head[..], &rest[..length]].concat();
        // The description of the row may come in front.
        assert!(String::from_utf8_lossy(&text).contains("57014"), "{}", String::from_utf8_lossy(&text));
    }
    let sent = || balancer.counters().shards.sum(|shard| shard.cancels(Cancelled::Sent).value());
    becomes("each was told to all three", balancer.ended(Reason::Cancel) * 3, sent);
    drop(idle);
    // And the interrupt of psql, whose session is in TLS while its cancel is not.
    for mode in ["disable", "require"] {
        let mut command = Command::new("psql");
        let parameters =
            format!("host=127.0.0.1 port={} user=trustuser dbname=postgres sslmode={mode}", door.port());
        command.args(["-qXAt", &parameters, "-c", "select pg_sleep(60)"]);
        let child = command.env("LC_ALL", "C").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        super::rig::eventually("it runs", || {
            nodes.iter().any(|node| node.psql("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'") == "1")
        });
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            said(&output).contains("canceling statement due to user request"),
            "{mode}: {}",
            said(&output)
        );
    }
    // Servers that are gone or silent hold up neither the client nor the others.
    drop(balancer);
    let silent = super::rig::Silent::start();
    let gone = super::rig::closed_address();
    let balancer =
        Balancer::start(&yaml("pool: all", &[("all", &[nodes[0].port, silent.address.port(), gone.port()])]));
    let began = std::time::Instant::now();
    cancel(balancer.address(), &[0, 0, 0, 1, 0, 0, 0, 1]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    becomes("it was told of one", 1, || {
        balancer.counters().shards.sum(|shard| shard.cancels(Cancelled::Sent).value()).min(1)
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn sessions_go_by_the_name_in_tls_and_by_database_and_user() {
    let (a, b, mut plain) = (Node::primary(""), Node::primary(""), Node::primary(""));
    b.psql("create database billing");
    plain.psql("alter system set ssl = off");
    plain.stop("fast");
    plain.up();
    let routes = "routes: [{ sni: a.db.test, pool: a }, { sni: '*.mixed.test', pool: mixed }, { sni: none.test, pool: none }, { database: billing, pool: b }, { user: trustuser, pool: a }]";
    let balancer = Balancer::start(&yaml(
        routes,
        &[("a", &[a.port]), ("b", &[b.port]), ("mixed", &[plain.port, a.port]), ("none", &[plain.port])],
    ));
    let door = balancer.address().port();
    let shows = |parameters: &str| {
        said(&psql(&format!("hostaddr=127.0.0.1 port={door} user=trustuser {parameters}"), "show port"))
    };
    let (port_a, port_b) = (a.port.to_string(), b.port.to_string());
    assert_eq!(shows("host=a.db.test dbname=postgres sslmode=require"), port_a);
    // In the clear the name is not said; the database is.
    assert_eq!(shows("host=a.db.test dbname=billing sslmode=disable"), port_b);
    assert_eq!(shows("host=a.db.test dbname=postgres sslmode=disable"), port_a);
    // A backend without TLS is left for another; its clients notice nothing.
    for _ in 0..4 {
        assert_eq!(shows("host=x.mixed.test dbname=postgres sslmode=require"), port_a);
    }
    // Nobody there takes it.
    let refused = shows("host=none.test dbname=postgres sslmode=require");
    assert!(!refused.contains(&plain.port.to_string()) || refused.contains("error"), "{refused}");
    becomes("and that is why", 1, || balancer.ended(Reason::TlsRefused));
    let unknown = shows("host=unknown.test dbname=postgres sslmode=require");
    assert!(unknown.contains("closed") || unknown.contains("reset") || unknown.contains("SSL"), "{unknown}");
    becomes("no route", 1, || balancer.ended(Reason::NoRoute));
    drop(balancer);
    // With routes by what is said in the clear alone, clients are told to speak so.
    let balancer = Balancer::start(&yaml(
        "routes: [{ database: billing, pool: b }], pool: a",
        &[("a", &[a.port]), ("b", &[b.port])],
    ));
    let door = balancer.address().port();
    let shows = |parameters: &str| {
        said(&psql(&format!("host=127.0.0.1 port={door} user=trustuser {parameters}"), "show port"))
    };
    assert_eq!(shows("dbname=billing sslmode=prefer"), port_b);
    assert_eq!(shows("dbname=postgres sslmode=prefer"), port_a);
    assert!(shows("dbname=billing sslmode=require").contains("does not support SSL"));
    drop(balancer);
    // And without such routes the server answers for itself.
    let balancer = Balancer::start(&yaml("pool: a", &[("a", &[a.port])]));
    let in_tls = format!(
        "host=127.0.0.1 port={} user=trustuser dbname=postgres sslmode=require",
        balancer.address().port()
    );
    assert_eq!(said(&psql(&in_tls, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")), "t");
}

#[test]
fn questions_are_answered_and_nonsense_is_refused() {
    let backend = Backend::start(echo);
    let port = backend.address.port();
    let balancer =
        Balancer::start(&yaml("routes: [{ sni: a.b, pool: a }, { user: ann, pool: a }]", &[("a", &[port])]));
    let ask = |stream: &mut TcpStream, question: &[u8]| {
        stream.write_all(question).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        char::from(answer[0])
    };
    let mut client = connect(balancer.address());
    assert_eq!(ask(&mut client, &GSS_REQUEST), 'N');
    let hello = startup("ann", "x");
    client.write_all(&hello).unwrap();
    let mut back = vec![0; hello.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, hello);
    // In the clear after TLS was promised.
    let mut client = connect(balancer.address());
    assert_eq!(ask(&mut client, &SSL_REQUEST), 'S');
    client.write_all(&hello).unwrap();
    assert!(matches!(read_to_end(&mut client).1, Outcome::Reset));
    let mut client = connect(balancer.address());
    assert_eq!(ask(&mut client, &GSS_REQUEST), 'N');
    assert_eq!(ask(&mut client, &GSS_REQUEST), 'N');
    client.write_all(&GSS_REQUEST).unwrap();
    assert!(matches!(read_to_end(&mut client).1, Outcome::Reset));
    let mut client = connect(balancer.address());
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(matches!(read_to_end(&mut client).1, Outcome::Reset));
    becomes("three were broken", 3, || balancer.ended(Reason::BadFirstMessage));
    // A thousand cancels at once, none of which anybody answers: bounded, counted, and the next session is served.
    let cancels: Vec<_> = (0..1_000)
        .map(|_| {
            let mut stream = connect(balancer.address());
            stream.write_all(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
            stream
        })
        .collect();
    let count = |what| balancer.counters().shards.sum(|shard| shard.cancels(what).value());
    becomes("each is counted", 1_000, || Cancelled::ALL.map(count).iter().sum::<u64>());
    drop(cancels);
    let mut client = connect(balancer.address());
    client.write_all(&hello).unwrap();
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, hello);
}

/// So many cancels at the same moment; how long it took until each client was let go.
fn cancel_at_once(door: SocketAddr, count: u8) -> Duration {
    let began = Instant::now();
    let clients: Vec<_> = (0..count)
        .map(|key| {
            let mut client = connect(door);
            client.write_all(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, key]).unwrap();
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::End));
    }
    began.elapsed()
}

#[test]
fn cancels_are_not_held_up_by_backends_that_are_down() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let up = Backend::start(move |mut stream| {
        // Checks say nothing.
        if stream.read_exact(&mut [0; 16]).is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let silent = [Silent::start(), Silent::start()];
    let balancer = Balancer::start(&format!(
        "listeners: {{ pg: {{ bind: '127.0.0.1:80', speaks: postgres, backends: ['{}', '{}', '{}'],
           health: {{ interval: 200ms, timeout: 200ms, fall: 1 }} }} }}",
        silent[0].address, silent[1].address, up.address
    ));
    becomes("two are down", true, || {
        (0..2).all(|index| balancer.backend(index, |backend| backend.is_down()))
    });
    cancel_at_once(balancer.address(), 60);
    becomes("the one that is up has all", 60, || told.load(Ordering::SeqCst));
    let count = |what| balancer.counters().shards.sum(|shard| shard.cancels(what).value());
    becomes("each is counted three times", 180, || Cancelled::ALL.map(count).iter().sum::<u64>());
    assert_eq!(count(Cancelled::Sent), 60);
}

#[test]
fn cancels_behind_silent_backends_wait_for_a_second() {
    let silent = Silent::start();
    let balancer = Balancer::start(&yaml("pool: a", &[("a", &[silent.address.port()])]));
    // 16 are tried for three seconds each.
    let took = cancel_at_once(balancer.address(), 100);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let count = |what| balancer.counters().shards.sum(|shard| shard.cancels(what).value());
    becomes("each is counted", 100, || Cancelled::ALL.map(count).iter().sum::<u64>());
    assert_eq!((count(Cancelled::Failed), count(Cancelled::Dropped)), (16, 84));
}

/// A server that is asked for TLS says nothing until it is let; what comes then comes back.
#[test]
fn a_backend_that_is_being_asked_for_tls_outlives_the_process() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let is_let = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_let);
    let backend = Backend::start(move |mut stream| {
        let mut question = [0; 8];
        stream.read_exact(&mut question).unwrap();
        assert_eq!(question, SSL_REQUEST);
        super::rig::eventually("it is let", || answers.load(Ordering::SeqCst));
        stream.write_all(b"S").unwrap();
        echo(stream);
    });
    let program = super::rig::Program::start(&format!(
        "listeners: {{ pg: {{ bind: '127.0.0.1:PORT', speaks: postgres, timeouts: {{ first: 60s }}, routes: [{{ sni: '*', pool: a }}] }} }}
pools: {{ a: {{ connect: {{ timeout: 60s }}, backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let hello = super::routes::rustls_hello("a.db.test");
    let begin = || {
        let mut client = connect(program.address());
        client.write_all(&SSL_REQUEST).unwrap();
        let mut yes = [0];
        client.read_exact(&mut yes).unwrap();
        assert_eq!(yes, *b"S");
        client
    };
    let (mut asked, mut promised) = (begin(), begin());
    asked.write_all(&hello).unwrap();
    super::rig::eventually("it is asked", || backend.accepted() == 1);
    // One whose backend is being asked, and one that was promised TLS and has not begun it.
    assert_eq!(program.upgrade(), 2);
    promised.write_all(&hello).unwrap();
    is_let.store(true, Ordering::SeqCst);
    for client in [&mut asked, &mut promised] {
        let mut back = vec![0; hello.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, hello);
    }
}

/// Since version 17 libpq asks for TLS before it cancels, and says the cancel in the clear after a no.
#[test]
fn a_cancel_after_a_no_to_tls_reaches_everybody_and_a_startup_its_backend() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let cancels = Arc::new(AtomicUsize::new(0));
    let backends = [(); 2].map(|()| {
        let cancels = Arc::clone(&cancels);
        Backend::start(move |mut stream| {
            let mut head = [0; 8];
            while stream.read_exact(&mut head).is_ok() {
                if head == SSL_REQUEST {
                    stream.write_all(b"N").unwrap();
                } else if head[4..] == [4, 210, 22, 46] {
                    cancels.fetch_add(1, Ordering::SeqCst);
                    return;
                } else {
                    stream.write_all(&head).unwrap();
                    return echo(stream);
                }
            }
        })
    });
    let ports = [backends[0].address.port(), backends[1].address.port()];
    let balancer = Balancer::start(&yaml("pool: a", &[("a", &ports)]));
    let ask = || {
        let mut client = connect(balancer.address());
        client.write_all(&SSL_REQUEST).unwrap();
        let mut no = [0];
        client.read_exact(&mut no).unwrap();
        assert_eq!(no, *b"N");
        client
    };
    let mut client = ask();
    client.write_all(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
    assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::End));
    becomes("both were told", 2, || cancels.load(Ordering::SeqCst));
    let mut client = ask();
    let hello = startup("ann", "x");
    client.write_all(&hello).unwrap();
    let mut back = vec![0; hello.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, hello);
    drop(client);
    becomes("all are gone", 0, || balancer.active());
    // Who asks and says nothing more is not waited for, and neither is who asks nobody.
    let closed = super::rig::closed_address().port();
    let balancer = Balancer::start(&yaml("pool: a", &[("a", &[closed])]));
    let mut client = connect(balancer.address());
    client.write_all(&[&SSL_REQUEST[..], &hello].concat()).unwrap();
    let (heard, end) = read_to_end(&mut client);
    assert!(heard.starts_with(b"NE") && end == Outcome::End, "{heard:?} {end:?}");
}
