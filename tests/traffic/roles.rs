//! One pool, many roles: what clients of each door get while servers change what they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use evenkeel::reason::Reason;

use super::rig::*;
use crate::ports::free_port;

const PRIMARY: u8 = 0;
const REPLICA: u8 = 1;
const NOTHING: u8 = 2;

/// Servers at addresses of their own: a service that says its name and echoes, and a door that tells the role.
struct Cluster {
    ports: [u16; 2],
    services: Vec<Option<Backend>>,
    says: Vec<Arc<AtomicU8>>,
    doors: Vec<Backend>,
}

impl Cluster {
    fn new(network: u8, roles: &[u8]) -> Self {
        let ports = [free_port(), free_port()];
        let mut cluster = Self { ports, services: Vec::new(), says: Vec::new(), doors: Vec::new() };
        for (at, role) in roles.iter().enumerate() {
            let says = Arc::new(AtomicU8::new(*role));
            let told = Arc::clone(&says);
            let host = format!("127.0.{network}.{}", at + 1);
            let door = Backend::start_at(&format!("{host}:{}", ports[1]), move |mut stream| {
                let word = ["primary", "replica", "loading"][told.load(Ordering::SeqCst) as usize];
                let _ = stream.write_all(word.as_bytes());
            });
            cluster.doors.push(door);
            cluster.says.push(says);
            cluster.services.push(None);
            cluster.start(network, at);
        }
        cluster
    }

    fn start(&mut self, network: u8, at: usize) {
        let name = u8::try_from(at).unwrap() + b'a';
        self.services[at] = Some(Backend::start_at(
            &format!("127.0.{network}.{}:{}", at + 1, self.ports[0]),
            move |mut stream| {
                if stream.write_all(&[name]).is_ok() {
                    echo(stream);
                }
            },
        ));
    }

    fn stop(&mut self, at: usize) {
        self.services[at] = None;
    }

    fn says(&self, at: usize, role: u8) {
        self.says[at].store(role, Ordering::SeqCst);
    }

    /// Doors for `primary`, `replica`, `prefer_replica` and `any`, in this order.
    fn yaml(&self, network: u8, health: &str, pool: &str) -> String {
        let backends: Vec<String> = (0..self.says.len())
            .map(|at| {
                let name = char::from(u8::try_from(at).unwrap() + b'a');
                format!("{{ address: '127.0.{network}.{}:{}', name: {name} }}", at + 1, self.ports[0])
            })
            .collect();
        let listeners: String = ["primary", "replica", "prefer_replica", "any"]
            .iter()
            .map(|role| {
                // The first one's is chosen by whoever runs the file.
                let port = if *role == "primary" { "PORT".to_owned() } else { free_port().to_string() };
                format!("  {role}: {{ bind: '127.0.0.1:{port}', pool: p, role: {role} }}\n")
            })
            .collect();
        format!(
            "workers: 2\nlisteners:\n{listeners}pools:\n  p:\n    backends: [{}]\n    \
             health: {{ check: {{ tcp: {{ expect: {{ primary: primary, replica: replica }} }} }}, port: {}, {health} }}\n{pool}",
            backends.join(", "),
            self.ports[1]
        )
    }
}

const QUICK: &str = "interval: 200ms, timeout: 200ms, fall: 2";

fn start(yaml: &str) -> Balancer {
    Balancer::start(&yaml.replace("PORT", "1"))
}

fn door(balancer: &Balancer, at: usize) -> SocketAddr {
    let addresses = balancer.server().addresses();
    addresses[at].1
}

/// Who serves a new session; `-`: nobody.
fn who(door: SocketAddr) -> char {
    let mut name = [0];
    let stream = TcpStream::connect_timeout(&door, DEADLINE);
    let answer = stream.and_then(|mut stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.read_exact(&mut name)
    });
    answer.map_or('-', |()| char::from(name[0]))
}

/// A session at a door, and who serves it.
fn session(door: SocketAddr) -> (char, TcpStream) {
    let mut stream = connect(door);
    let mut name = [0];
    stream.read_exact(&mut name).unwrap();
    (char::from(name[0]), stream)
}

fn lives(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

#[test]
fn each_door_leads_to_its_role_and_sessions_leave_with_the_role() {
    let cluster = Cluster::new(3, &[PRIMARY, REPLICA, REPLICA]);
    let balancer = start(&cluster.yaml(3, QUICK, ""));
    let [write, read, prefer, any] = [0, 1, 2, 3].map(|at| door(&balancer, at));
    eventually("all have told", || who(write) == 'a' && [who(read), who(read)].contains(&'c'));
    for _ in 0..12 {
        assert_eq!(who(write), 'a');
        assert!("bc".contains(who(read)) && "bc".contains(who(prefer)) && "abc".contains(who(any)));
    }
    let (_, mut writer) = session(write);
    let mut readers: Vec<(char, TcpStream)> = (0..4).map(|_| session(read)).collect();

    // A planned switch: the old one says so first, and the new one a little later.
    cluster.says(0, REPLICA);
    eventually("nobody takes writes", || who(write) == '-');
    // A moment later, in the next turn of its thread.
    eventually("its session is over", || !lives(&mut writer));
    assert_eq!(balancer.ended(Reason::RoleChanged), 1);
    cluster.says(1, PRIMARY);
    eventually("the new one does", || who(write) == 'b');
    for (who, stream) in &mut readers {
        assert!(lives(stream), "{who} keeps what it has");
    }
    for _ in 0..12 {
        assert!("ac".contains(who(read)));
    }

    // Nobody else reads: those who only prefer a replica get the primary.
    cluster.says(0, NOTHING);
    cluster.says(2, NOTHING);
    eventually("no replica is left", || who(read) == '-');
    assert_eq!((who(prefer), who(write)), ('b', 'b'));
}

#[test]
fn while_two_say_that_they_are_the_primary_nobody_writes_and_one_that_yields_decides() {
    let cluster = Cluster::new(4, &[PRIMARY, REPLICA]);
    let balancer = start(&cluster.yaml(4, QUICK, ""));
    let write = door(&balancer, 0);
    eventually("a is the primary", || who(write) == 'a');
    let (_, mut writer) = session(write);
    cluster.says(1, PRIMARY);
    eventually("both say so", || who(write) == '-');
    assert!(!lives(&mut writer));
    cluster.says(0, REPLICA);
    eventually("b is the primary", || who(write) == 'b');

    let keep = start(&cluster.yaml(4, QUICK, "    roles: { contested: keep, leave: keep }\n"));
    let write = door(&keep, 0);
    eventually("b is the primary", || who(write) == 'b');
    let (_, mut writer) = session(write);
    cluster.says(0, PRIMARY);
    let checks = |backend: &evenkeel::pool::Backend| backend.checks.good.value();
    let before = keep.backend(0, checks);
    eventually("five more answers", || keep.backend(0, checks) >= before + 5);
    assert_eq!((who(write), lives(&mut writer)), ('b', true), "the one believed before");
    cluster.says(0, REPLICA);
    cluster.says(1, REPLICA);
    eventually("nobody is", || who(write) == '-');
    assert!(lives(&mut writer), "`leave: keep`");
}

#[test]
fn who_was_never_asked_gets_no_session_of_a_role() {
    let cluster = Cluster::new(5, &[NOTHING, REPLICA]);
    let balancer = start(&cluster.yaml(5, QUICK, ""));
    let [write, read] = [0, 1].map(|at| door(&balancer, at));
    eventually("b is a replica", || who(read) == 'b');
    for _ in 0..6 {
        assert_eq!((who(write), who(read)), ('-', 'b'));
    }
    cluster.says(0, PRIMARY);
    eventually("a has told", || who(write) == 'a');
}

#[test]
fn failures_of_real_traffic_do_not_eject_the_primary() {
    let mut cluster = Cluster::new(6, &[PRIMARY, REPLICA]);
    let yaml = cluster.yaml(6, QUICK, "    passive: { failures: 2, eject: 1h, max_ejected: 100% }\n");
    let balancer = start(&yaml);
    let [write, read] = [0, 1].map(|at| door(&balancer, at));
    eventually("both have told", || who(write) == 'a' && who(read) == 'b');
    cluster.stop(0);
    let failures =
        |backend: &evenkeel::pool::Backend| backend.shards.sum(|shard| shard.connect_failures.value());
    eventually("six sessions meet that", || {
        assert_eq!((who(write), who(read)), ('-', 'b'));
        balancer.backend(0, failures) >= 6
    });
    assert_eq!(balancer.ejected(), [false, false]);
    cluster.start(6, 0);
    assert_eq!(who(write), 'a', "at once");
}

#[test]
fn while_nobody_is_the_primary_new_sessions_wait_in_line_and_all_are_served() {
    let mut cluster = Cluster::new(9, &[PRIMARY, REPLICA]);
    let pool = "    when_none: wait\n    queue: { sessions: 100, timeout: 1m }\n    connect: { timeout: 1s, attempts: 16 }\n";
    let balancer = start(&cluster.yaml(9, QUICK, pool));
    let [write, read] = [0, 1].map(|at| door(&balancer, at));
    eventually("both have told", || who(write) == 'a' && who(read) == 'b');
    // As after a kill: the service is gone first, and the door a little later.
    cluster.stop(0);
    let clients: Vec<_> = (0..40)
        .map(|at| {
            std::thread::sleep(Duration::from_millis(10));
            if at == 20 {
                cluster.says(0, NOTHING);
            }
            std::thread::spawn(move || who(write))
        })
        .collect();
    becomes("sessions in line", 40, || balancer.waiting());
    assert_eq!(who(read), 'b', "nobody waits for a replica");
    cluster.says(1, PRIMARY);
    let served: Vec<char> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(served, ['b'; 40]);
    assert_eq!((balancer.waiting(), balancer.ended(Reason::NoBackend)), (0, 0), "{:?}", balancer.reasons());
}

#[test]
fn the_next_process_knows_the_primary_without_asking() {
    let cluster = Cluster::new(7, &[PRIMARY, REPLICA]);
    let health = "interval: 1h, timeout: 200ms, fall: 5";
    let process = Program::start(&cluster.yaml(7, health, ""));
    let write = process.address();
    eventually("a is the primary", || who(write) == 'a');
    let (_, mut writer) = session(write);
    // From now on nobody tells anything.
    cluster.says(0, NOTHING);
    cluster.says(1, NOTHING);
    process.upgrade();
    for _ in 0..6 {
        assert_eq!(who(write), 'a');
    }
    assert!(lives(&mut writer));
    let status = process.status();
    assert_eq!(status["pools"][0]["primary"], "a", "{status:#}");
    let backends = &status["pools"][0]["backends"];
    assert_eq!((&backends[0]["role"], &backends[1]["role"]), (&"primary".into(), &"replica".into()));
}

#[test]
fn people_are_told_who_is_what_and_why() {
    let cluster = Cluster::new(8, &[PRIMARY, REPLICA]);
    let process = Program::start(&cluster.yaml(8, QUICK, ""));
    let write = process.address();
    eventually("a is the primary", || who(write) == 'a');
    let shown = process.say(&["status"]);
    assert!(shown.contains("ROLE") && shown.contains("a is the primary for"), "{shown}");
    let explained = process.say(&["explain", "primary", "192.0.2.7"]);
    assert!(explained.contains("would get a") && explained.contains("a replica"), "{explained}");
    assert_eq!(process.metric("evenkeel_pool_primaries{pool=\"p\"}"), 1.0);
    let role = "evenkeel_backend_role{pool=\"p\",backend=\"b\",role=\"replica\"}";
    assert_eq!(process.metric(role), 1.0);
    cluster.says(1, PRIMARY);
    let began = Instant::now();
    eventually("nobody is the primary", || who(write) == '-');
    assert!(began.elapsed() < Duration::from_secs(20));
    let shown = process.say(&["status"]);
    assert!(shown.contains("contested") && shown.contains("nobody is the primary"), "{shown}");
    let line = process.json_log().into_iter().find(|line| line["message"] == "two primaries");
    let line = line.unwrap_or_else(|| panic!("{}", process.log()));
    assert_eq!((&line["level"], &line["pool"]), (&"ERROR".into(), &"p".into()), "{line}");
}
