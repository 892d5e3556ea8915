//! The `redis` check against real servers and real Sentinels: failovers without a lost write, restarts that load, Sentinels that are
//! gone, and what is wrong and how it is called.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod ports;
#[path = "servers/program.rs"]
mod program;
#[path = "servers/redis.rs"]
mod redis;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ports::free_port;
use program::{Balancer, eventually};
use redis::{Client, Node, Set};

/// A pool of these servers, with doors for writing and for reading. `check` is what stands in the check.
fn start(set: &Set, doors: [u16; 2], check: &str) -> Balancer {
    let addresses = |nodes: &[Node]| {
        let addresses: Vec<String> = nodes.iter().map(|node| format!("'127.0.0.1:{}'", node.port)).collect();
        addresses.join(", ")
    };
    let check = check.replace("SENTINELS", &addresses(&set.sentinels));
    Balancer::start(&format!(
        "listeners:\n  write: {{ bind: '127.0.0.1:{}', pool: p, role: primary }}\n  read: {{ bind: '127.0.0.1:{}', pool: p, \
         role: replica }}\npools:\n  p:\n    backends: [{}]\n    health: {{ check: {{ redis: {check} }}, interval: 200ms, \
         timeout: 500ms, fall: 2 }}\n",
        doors[0],
        doors[1],
        addresses(&set.servers)
    ))
}

const WATCHED: &str =
    "{ user: check, password: probe, sentinels: [SENTINELS], name: main, sentinel_password: watch }";

/// The port of who takes writes.
fn primary(balancer: &Balancer) -> Option<u16> {
    balancer.pool()["primary"].as_str()?.rsplit_once(':')?.1.parse().ok()
}

fn role(balancer: &Balancer, at: usize) -> String {
    let backend = balancer.pool()["backends"][at].clone();
    format!("{} {}", backend["state"].as_str().unwrap_or("-"), backend["role"].as_str().unwrap_or("-"))
}

/// Tells writers to end when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Writes keys until told to stop; those that were acknowledged.
fn write(
    port: u16,
    name: &str,
    is_short: bool,
    stop: &AtomicBool,
    acknowledged: &AtomicUsize,
) -> Vec<String> {
    let (mut client, mut written) = (None, Vec::new());
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("{name}:{number}");
        let set = |client: &mut Option<Client>| -> std::io::Result<String> {
            if client.is_none() {
                let mut fresh = Client::connect(port)?;
                fresh.ask(&["AUTH", "secret"])?;
                *client = Some(fresh);
            }
            client.as_mut().unwrap().ask(&["SET", &key, "1"])
        };
        match set(&mut client) {
            Ok(said) if said == "+OK" => {
                written.push(key);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            _ => client = None,
        }
        if is_short {
            client = None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    written
}

#[test]
#[ignore = "needs redis-server"]
fn a_primary_that_stands_still_and_returns_costs_no_acknowledged_write() {
    let set = Set::start(3, 3);
    let doors = [free_port(), free_port()];
    let balancer = start(&set, doors, WATCHED);
    eventually("the first is the primary", || primary(&balancer) == Some(set.servers[0].port));
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let written: Vec<String> = std::thread::scope(|scope| {
        // Whatever fails below, writers end.
        let _stop = Stop(&stop);
        let writer = |at: usize| {
            let (stop, acknowledged) = (&stop, &acknowledged);
            scope.spawn(move || write(doors[0], &format!("w{at}"), at.is_multiple_of(2), stop, acknowledged))
        };
        let writers: Vec<_> = (0..4).map(writer).collect();
        eventually("writers write", || acknowledged.load(Ordering::SeqCst) > 500);
        set.servers[0].signal("-STOP");
        let agree = |at: usize| !set.sentinel(at).contains(&format!("port {} ", set.servers[0].port));
        eventually("two Sentinels agree", || (0..3).filter(|at| agree(*at)).count() >= 2);
        let (agreed, before) = (Instant::now(), acknowledged.load(Ordering::SeqCst));
        eventually("writers write again", || acknowledged.load(Ordering::SeqCst) > before);
        // On a machine that does nothing else it is some 0.2 s.
        assert!(agreed.elapsed() < Duration::from_secs(3), "after {:?}", agreed.elapsed());
        set.servers[0].signal("-CONT");
        // It says that it is the primary until the Sentinels tell it, ten seconds later.
        eventually("the old one says so still", || set.servers[0].is_master());
        eventually("it is called what it is", || role(&balancer, 0).starts_with("stale primary"));
        eventually("it is told", || !set.servers[0].is_master());
        eventually("enough is written", || acknowledged.load(Ordering::SeqCst) > 4_000);
        stop.store(true, Ordering::SeqCst);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert!(written.len() >= 4_000, "{}", written.len());
    let now = set.servers.iter().find(|node| node.is_master()).unwrap();
    let lost = written.iter().filter(|key| now.ask(&["EXISTS", key]) != ":1").count();
    assert_eq!(lost, 0, "of {}", written.len());
    assert_eq!(balancer.said(&["two primaries"]), 0, "the Sentinels tell them apart");
    eventually("the old one reads", || role(&balancer, 0) == "up replica");
    for node in &set.servers {
        assert_eq!(node.ask(&["ACL", "LOG"]), "", "nothing was refused");
    }
}

#[test]
#[ignore = "needs redis-server"]
fn sentinels_out_of_reach_change_nothing_and_their_return_is_told() {
    let mut set = Set::start(2, 3);
    let doors = [free_port(), free_port()];
    let balancer = start(&set, doors, WATCHED);
    let first = Some(set.servers[0].port);
    eventually("the first is the primary", || primary(&balancer) == first);
    set.sentinels[0].down();
    set.sentinels[1].down();
    eventually("too few are left", || balancer.said(&["unconfirmed", "WARN"]) == 1);
    let answers = || balancer.said(&["backend was asked", &set.servers[0].port.to_string()]);
    let before = answers();
    eventually("ten more answers", || answers() >= before + 10);
    assert_eq!((primary(&balancer), balancer.said(&["unconfirmed", "WARN"])), (first, 1));
    assert!(balancer.log().contains("1 of 3 answer"), "{}", balancer.log());
    assert_eq!(Client::connect(doors[0]).unwrap().ask(&["AUTH", "secret"]).unwrap(), "+OK");

    // A server that was never confirmed is nobody, and stays a replica where it was one.
    set.servers[1].ask(&["REPLICAOF", "NO", "ONE"]);
    let before = balancer.said(&["backend was asked", &set.servers[1].port.to_string(), "unconfirmed"]);
    let later = || balancer.said(&["backend was asked", &set.servers[1].port.to_string(), "unconfirmed"]);
    eventually("it says so several times", || later() >= before + 3);
    assert_eq!((primary(&balancer), &*role(&balancer, 1)), (first, "up replica"));
    let fresh = start(&set, [free_port(), free_port()], WATCHED);
    eventually("it asks", || fresh.said(&["unconfirmed", "WARN"]) == 2);
    assert_eq!(primary(&fresh), None);
    set.servers[1].ask(&["REPLICAOF", "127.0.0.1", &set.servers[0].port.to_string()]);

    set.sentinels[0].up();
    eventually("two are enough", || balancer.said(&["confirmed again"]) >= 1 && primary(&balancer) == first);
    eventually("for everybody", || primary(&fresh) == first);
}

#[test]
#[ignore = "needs redis-server"]
fn no_session_reaches_a_server_that_loads_its_data() {
    let mut set = Set::start(1, 0);
    let doors = [free_port(), free_port()];
    let balancer = start(&set, doors, "{ user: check, password: probe }");
    eventually("it is the primary", || primary(&balancer).is_some());
    set.servers[0].ask(&["DEBUG", "POPULATE", "1500000"]);
    assert_eq!(set.servers[0].ask(&["SAVE"]), "+OK");
    set.servers[0].down();
    eventually("it is gone", || primary(&balancer).is_none());
    set.servers[0].up();
    let (mut refused, mut loaded) = (0, 0);
    let mut saw_loading = false;
    while loaded < 20 {
        saw_loading |= set.servers[0].ask(&["GET", "key:1"]).starts_with("-LOADING");
        let said = Client::connect(doors[0]).and_then(|mut client| {
            client.ask(&["AUTH", "secret"])?;
            client.ask(&["GET", "key:1"])
        });
        match said {
            Err(_) => refused += 1,
            Ok(said) => {
                assert_eq!(said, "value:1");
                loaded += 1;
            }
        }
    }
    assert!(saw_loading && refused > 0, "{saw_loading} {refused}");
    assert!(balancer.said(&["backend was asked", "starting"]) > 0 || balancer.log().contains("LOADING"));
}

#[test]
#[ignore = "needs redis-server"]
fn what_is_wrong_has_its_word() {
    let set = Set::start(1, 1);
    let cases = [
        ("{ user: check, password: wrong }", "auth", "WRONGPASS"),
        ("{}", "auth", "NOAUTH"),
        // To what is no TLS it says nothing.
        ("{ user: check, password: probe, tls: on }", "timeout", "no answer"),
        (
            "{ user: check, password: probe, sentinels: [SENTINELS], name: other, sentinel_password: watch }",
            "unconfirmed",
            "No such master",
        ),
        ("{ user: check, password: probe, sentinels: [SENTINELS], name: main }", "unconfirmed", "NOAUTH"),
    ];
    for (check, word, why) in cases {
        let balancer = start(&set, [free_port(), free_port()], check);
        eventually(check, || balancer.said(&[why]) > 0);
        eventually(check, || balancer.said(&["backend was asked", &format!("\"answer\":\"{word}\"")]) > 0);
        assert_eq!(primary(&balancer), None, "{check}");
        assert!(
            !balancer.log().contains("probe") && !balancer.log().contains("wrong\""),
            "{}",
            balancer.log()
        );
    }
}

#[test]
#[ignore = "needs redis-server, openssl"]
fn over_tls_it_matters_who_it_is() {
    let set = Set::start(1, 0);
    let port = free_port().to_string();
    let path = |name: &str| set.folder.path().join(name).display().to_string();
    let made = std::process::Command::new(program::find("openssl", "openssl"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=redis.example",
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:redis.example",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let server = &set.servers[0];
    for (key, value) in [
        ("tls-cert-file", &*path("cert.pem")),
        ("tls-key-file", &path("key.pem")),
        ("tls-ca-cert-file", &path("cert.pem")),
        ("tls-auth-clients", "no"),
        ("tls-port", &port),
    ] {
        assert_eq!(server.ask(&["CONFIG", "SET", key, value]), "+OK", "{key}");
    }
    let ca = path("cert.pem");
    for (tls, word) in [
        ("on".to_owned(), "primary"),
        (format!("{{ ca: '{ca}' }}"), "primary"),
        (format!("{{ ca: '{ca}', name: redis.example }}"), "primary"),
        (format!("{{ ca: '{ca}', name: other.example }}"), "tls"),
        ("{ verify: full }".to_owned(), "tls"),
    ] {
        let balancer = Balancer::start(&format!(
            "listeners: {{ w: {{ bind: '127.0.0.1:{}', pool: p, role: primary }} }}\npools: {{ p: {{ backends: ['127.0.0.1:{port}'], \
             health: {{ check: {{ redis: {{ user: check, password: probe, tls: {tls} }} }}, interval: 200ms, timeout: 2s }} }} }}\n",
            free_port()
        ));
        eventually(&tls, || balancer.said(&["backend was asked", &format!("\"answer\":\"{word}\"")]) > 0);
    }
}

#[test]
#[ignore = "needs redis-server"]
fn sentinels_that_know_a_server_by_a_name_are_understood() {
    let set = Set::start(2, 1);
    let mut client = Client::connect(set.sentinels[0].port).unwrap();
    client.ask(&["AUTH", "watch"]).unwrap();
    let port = set.servers[0].port.to_string();
    client.ask(&["SENTINEL", "CONFIG", "SET", "announce-hostnames", "yes"]).unwrap();
    client.ask(&["SENTINEL", "REMOVE", "main"]).unwrap();
    assert_eq!(client.ask(&["SENTINEL", "MONITOR", "main", "localhost", &port, "1"]).unwrap(), "+OK");
    client.ask(&["SENTINEL", "SET", "main", "auth-pass", "secret"]).unwrap();
    assert!(set.sentinel(0).contains("ip localhost"), "{}", set.sentinel(0));
    let balancer = start(&set, [free_port(), free_port()], WATCHED);
    eventually("it is known by the number of its start", || primary(&balancer) == Some(set.servers[0].port));
}

#[test]
#[ignore = "needs redis-server"]
fn the_example_leads_to_the_primary_of_real_servers() {
    let set = Set::start(3, 3);
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "probe\n").unwrap();
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/redis.yaml")).unwrap();
    let mut yaml = example
        .replace("admin:\n  http: 127.0.0.1:9900\n", "")
        .replace("user: evenkeel", "user: check")
        .replace("/etc/evenkeel/redis.password", password.to_str().unwrap())
        .replace("name: main ", "sentinel_password: watch\n          name: main ");
    let doors = [free_port(), free_port(), free_port()];
    for (bind, door) in ["6379", "6380", "6381"].iter().zip(doors) {
        yaml = yaml.replace(&format!("bind: {bind}"), &format!("bind: 127.0.0.1:{door}"));
    }
    for (at, (server, sentinel)) in set.servers.iter().zip(&set.sentinels).enumerate() {
        let host = format!("10.0.0.2{}", at + 1);
        yaml = yaml.replace(&format!("{host}:6379"), &format!("127.0.0.1:{}", server.port));
        yaml = yaml.replace(&host, &format!("127.0.0.1:{}", sentinel.port));
    }
    let balancer = Balancer::start(&yaml);
    let role = |door: u16| {
        let mut client = Client::connect(door).ok()?;
        client.ask(&["AUTH", "secret"]).ok()?;
        Some(client.ask(&["ROLE"]).ok()?.starts_with("master"))
    };
    eventually("both doors lead to their role", || {
        role(doors[0]) == Some(true) && role(doors[1]) == Some(false)
    });
    assert_eq!(balancer.said(&["two primaries"]), 0);
}
