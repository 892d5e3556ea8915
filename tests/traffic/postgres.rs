//! Failovers of real PostgreSQL servers, seen by clients of one pool: promotions, two primaries, a primary that stands still,
//! replicas that lag.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::postgres_client::{Failure, Session};
use super::postgres_cluster::Node;
use super::rig::*;
use crate::ports::free_port;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a writer met: when it began and ended, and at which server (its port), or why not.
#[derive(Debug, Clone)]
struct Write {
    began: Instant,
    ended: Instant,
    result: Result<u16, String>,
}

/// Writers that go on until they are told to stop.
struct Writers {
    stop: Arc<AtomicBool>,
    writes: Arc<Mutex<Vec<Write>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// `stays`: each keeps its connection as long as it lasts, as an application would.
    fn start(door: SocketAddr, count: usize, stays: bool) -> Self {
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let threads = (0..count).map(|_| {
            let (stop, writes) = (Arc::clone(&stop), Arc::clone(&writes));
            std::thread::spawn(move || {
                let mut session = None;
                while !stop.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    let result = write(&mut session, door);
                    let is_lost = matches!(&result, Err(why) if why != "25006");
                    if !stays || is_lost {
                        session = None;
                    }
                    let pause = if result.is_ok() { 10 } else { 30 };
                    writes.lock().unwrap().push(Write { began, ended: Instant::now(), result });
                    std::thread::sleep(Duration::from_millis(pause));
                }
            })
        });
        let threads = threads.collect();
        Self { stop, writes, threads }
    }

    fn so_far(&self) -> Vec<Write> {
        self.writes.lock().unwrap().clone()
    }

    fn stop(self) -> Vec<Write> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut self.writes.lock().unwrap())
    }
}

fn write(session: &mut Option<Session>, door: SocketAddr) -> Result<u16, String> {
    let why = |failure: Failure| match failure {
        Failure::Refused(code) => code,
        Failure::Lost(kind) => kind.to_string(),
    };
    if session.is_none() {
        *session = Some(Session::open(door, "postgres", PATIENCE).map_err(why)?);
    }
    let session = session.as_mut().unwrap();
    let port = session.query("insert into rows default values returning inet_server_port()").map_err(why)?;
    Ok(port.parse().unwrap())
}

/// Of those since then: the first that reached this server.
fn first_at(writes: &[Write], port: u16, since: Instant) -> Option<Instant> {
    let there = |write: &&Write| write.result == Ok(port) && write.ended > since;
    writes.iter().filter(there).map(|write| write.ended).min()
}

fn last_at(writes: &[Write], port: u16) -> Option<Instant> {
    writes.iter().filter(|write| write.result == Ok(port)).map(|write| write.ended).max()
}

fn yaml(nodes: &[&Node], pool: &str) -> String {
    let backends: Vec<String> = nodes
        .iter()
        .enumerate()
        .map(|(at, node)| format!("{{ address: '127.0.0.1:{}', name: pg{} }}", node.port, at + 1))
        .collect();
    format!(
        "workers: 1\nlisteners:\n  write: {{ bind: '127.0.0.1:PORT', pool: pg, role: primary }}\n  \
         read: {{ bind: '127.0.0.1:{}', pool: pg, role: replica }}\npools:\n  pg:\n    backends: [{}]\n    \
         health: {{ check: {{ postgres: {{ user: checker, password: secret }} }}, interval: 500ms, timeout: 1s, fall: 2 }}\n{pool}",
        free_port(),
        backends.join(", ")
    )
}

fn start(nodes: &[&Node], pool: &str) -> (Balancer, SocketAddr, SocketAddr) {
    let balancer = Balancer::start(&yaml(nodes, pool).replace("PORT", "1"));
    let doors = balancer.server().addresses();
    let (write, read) = (doors[0].1, doors[1].1);
    eventually("somebody takes writes", || write_once(write).is_ok());
    (balancer, write, read)
}

fn write_once(door: SocketAddr) -> Result<u16, String> {
    write(&mut None, door)
}

/// Promotes, and tells when the server was seen to take writes first.
fn promoted(node: &Node) -> Instant {
    let address = SocketAddr::from(([127, 0, 0, 1], node.port));
    let mut session = Session::open(address, "postgres", PATIENCE).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| node.promote());
        loop {
            if session.query("select pg_is_in_recovery()").is_ok_and(|said| said == "f") {
                return Instant::now();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    })
}

fn ms(time: Duration) -> u128 {
    time.as_millis()
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_promotion_is_followed_at_once_and_writers_that_stay_meet_no_read_only_server() {
    let mut took = Vec::new();
    let mut old = Node::primary("");
    for round in 0..3 {
        let mut new = old.replica(&format!("r{round}"), "");
        let (balancer, door, _) =
            start(&[&old, &new], "    when_none: wait\n    queue: { sessions: 100, timeout: 20s }\n");
        let writers = Writers::start(door, 3, true);
        eventually("all write", || writers.so_far().len() > 20);
        if round == 1 {
            old.kill();
        } else {
            old.stop("fast");
        }
        std::thread::sleep(Duration::from_millis(700));
        let promotion = promoted(&new);
        eventually("the new one has rows", || first_at(&writers.so_far(), new.port, promotion).is_some());
        std::thread::sleep(Duration::from_millis(500));
        let writes = writers.stop();
        took.push(ms(first_at(&writes, new.port, promotion).unwrap() - promotion));
        let errors: Vec<_> = writes.iter().filter_map(|write| write.result.as_ref().err()).collect();
        assert!(!errors.iter().any(|why| *why == "25006"), "{errors:?}");
        drop(balancer);
        std::mem::swap(&mut old, &mut new);
    }
    eprintln!("promotion to first write: {took:?} ms");
    took.sort_unstable();
    assert!(took[1] <= 400 && took[2] <= 1200, "{took:?} ms");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn of_two_primaries_the_later_one_is_believed_and_the_earlier_one_never_again() {
    let mut old = Node::primary("");
    let mut new = old.replica("r", "");
    let (balancer, door, _) = start(&[&old, &new], "");
    let (stay, come) = (Writers::start(door, 2, true), Writers::start(door, 1, false));
    eventually("all write", || stay.so_far().len() > 20 && come.so_far().len() > 10);
    let promotion = promoted(&new);
    std::thread::sleep(Duration::from_secs(4));
    let writes = [stay.stop(), come.stop()].concat();
    let late = last_at(&writes, old.port).unwrap().saturating_duration_since(promotion);
    let on_old = writes.iter().filter(|one| one.result == Ok(old.port) && one.began > promotion).count();
    let on_new = writes.iter().filter(|one| one.result == Ok(new.port)).count();
    eprintln!(
        "last row on the old one {} ms after the promotion, {on_old} rows; on the new one {on_new}",
        ms(late)
    );
    assert!(late < Duration::from_millis(1000), "{late:?}");
    assert!(on_new > 100, "{on_new}");
    assert!(!writes.iter().any(|write| write.result == Err("25006".into())));

    // The new one goes, and the old one comes back alone.
    old.stop("fast");
    new.stop("fast");
    eventually("nobody is there", || write_once(door).is_err());
    old.up();
    let alone = Instant::now();
    while alone.elapsed() < Duration::from_secs(3) {
        assert!(write_once(door).is_err(), "the earlier one takes writes");
    }
    new.up();
    eventually("the later one is back", || write_once(door) == Ok(new.port));
    drop(balancer);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_primary_that_stands_still_is_left_for_the_next_and_has_no_session_left_when_it_goes_on() {
    let old = Node::primary("");
    let new = old.replica("r", "");
    let (balancer, door, _) = start(&[&old, &new], "");
    let writers = Writers::start(door, 3, true);
    eventually("all write", || writers.so_far().len() > 20);
    old.freeze(true);
    let frozen = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let promotion = promoted(&new);
    eventually("the new one has rows", || first_at(&writers.so_far(), new.port, promotion).is_some());
    std::thread::sleep(Duration::from_secs(6).saturating_sub(frozen.elapsed()));
    old.freeze(false);
    std::thread::sleep(Duration::from_secs(3));
    let writes = writers.stop();
    let after = first_at(&writes, new.port, promotion).unwrap() - promotion;
    let longest = writes.iter().map(|write| write.ended - write.began).max().unwrap();
    eprintln!("first write {} ms after the promotion, longest {} ms", ms(after), ms(longest));
    // The session that hung ends with the role, fall x (interval + timeout) after the freeze or at the promotion.
    assert!(after < Duration::from_millis(1000), "{after:?}");
    assert!(longest < Duration::from_millis(4500), "{longest:?}");
    assert!(!writes.iter().any(|write| write.result == Ok(old.port) && write.began > promotion));
    drop(balancer);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_replica_that_lags_leaves_the_role_and_comes_back_once_and_an_idle_primary_makes_nobody_lag() {
    let primary = Node::primary("");
    let replica = primary.replica("r", "");
    let (balancer, door, read) = start(&[&primary, &replica], "    roles: { max_lag: 2s }\n");
    let serves = || Session::open(read, "postgres", PATIENCE).is_ok();
    eventually("the replica serves", serves);
    // Nobody writes.
    let idle = Instant::now();
    while idle.elapsed() < Duration::from_secs(4) {
        assert!(serves(), "nothing is written, and it lags");
        std::thread::sleep(Duration::from_millis(50));
    }
    let writers = Writers::start(door, 1, true);
    let cut = |value: &str| {
        replica.psql(&format!("alter system set primary_conninfo = '{value}'"));
        replica.psql("select pg_reload_conf()");
    };
    let connected = format!("user=repl host=127.0.0.1 port={}", primary.port);
    for (what, begin, end) in [
        ("replay is paused", "select pg_wal_replay_pause()", "select pg_wal_replay_resume()"),
        ("the receiver is cut off", "host=127.0.0.1 port=1", &*connected),
    ] {
        let change = |what: &str| {
            if what.starts_with("select") {
                replica.psql(what);
            } else {
                cut(what);
            }
        };
        change(begin);
        let began = Instant::now();
        eventually(what, || !serves());
        let took = began.elapsed();
        eprintln!("{what}: out after {} ms", ms(took));
        assert!((1500..5000).contains(&ms(took)), "{what}: {took:?}");
        change(end);
        eventually("it is back", serves);
        let back = Instant::now();
        while back.elapsed() < Duration::from_secs(3) {
            assert!(serves(), "{what}: it comes and goes");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    drop((writers.stop(), balancer));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_password_is_shown_nowhere_and_another_one_is_taken_by_a_reload() {
    let primary = Node::primary("");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "secret\n").unwrap();
    primary.psql("alter role checker password 'hunter2-first'");
    std::fs::write(&path, "hunter2-first\n").unwrap();
    let own = yaml(&[&primary], "")
        .replace("password: secret", &format!("password: {{ file: '{}' }}", path.display()));
    let second = format!(
        "  second:\n    backends: ['127.0.0.1:{}']\n    health: {{ check: {{ postgres: {{ user: few, password: hunter2-inline }} }}, interval: 200ms }}\n",
        primary.port
    );
    primary.psql("alter role few connection limit -1 password 'hunter2-inline'");
    let text = format!("{own}{second}").replace(
        "pools:",
        &format!("  other: {{ bind: '127.0.0.1:{}', pool: second }}\npools:", free_port()),
    );
    let process = Program::start(&format!("log: {{ level: trace }}\n{text}"));
    let door = process.address();
    eventually("it is the primary", || write_once(door) == Ok(primary.port));

    primary.psql("alter role checker password 'hunter2-second'");
    std::fs::write(&path, "hunter2-second\n").unwrap();
    let told = process.say(&["reload"]);
    assert!(told.contains("pool pg has another password"), "{told}");
    primary.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'checker'");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(write_once(door), Ok(primary.port), "with the new password");

    // A file that cannot be read is a mistake, and leaves everything as it is.
    std::fs::remove_file(&path).unwrap();
    let refused = process.command(&["reload"]);
    let refused = format!("{refused:?}");
    assert!(refused.contains("cannot be read"), "{refused}");
    assert_eq!(write_once(door), Ok(primary.port));
    std::fs::write(&path, "hunter2-second\n").unwrap();
    process.upgrade();
    assert_eq!(write_once(door), Ok(primary.port), "the next process");
    primary.psql("alter role checker password 'hunter2-third'");
    primary.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'checker'");
    eventually("it is told", || process.log().contains("the check and the backend do not go together"));
    let shown = format!(
        "{}{}{told}{refused}{}{}",
        process.log(),
        process.status(),
        process.say(&["status"]),
        process.say(&["explain", "write", "192.0.2.7"])
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_earlier_primary_is_believed_again_when_somebody_says_so() {
    let old = Node::primary("");
    let mut new = old.replica("r", "");
    let process = Program::start(&yaml(&[&old, &new], ""));
    let door = process.address();
    eventually("the first one takes writes", || write_once(door) == Ok(old.port));
    promoted(&new);
    eventually("the later one does", || write_once(door) == Ok(new.port));
    new.stop("fast");
    eventually("nobody does", || write_once(door).is_err());
    let alone = Instant::now();
    while alone.elapsed() < Duration::from_secs(2) {
        assert!(write_once(door).is_err());
    }
    let refused = process.command(&["forget", "nowhere"]);
    assert!(!refused.status.success() && format!("{refused:?}").contains("there is no pool"), "{refused:?}");
    process.say(&["forget", "pg"]);
    eventually("the first one again", || write_once(door) == Ok(old.port));
    eventually("it is told", || process.log().contains("earlier primaries may be believed again"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_process_that_begins_after_a_crash_believes_no_earlier_primary() {
    let old = Node::primary("");
    let new = std::cell::RefCell::new(old.replica("r", ""));
    let new_port = new.borrow().port;
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let script = format!("STATE_DIRECTORY={} exec \"$@\"", folder.path().display());
        Program::start_under(&script, &yaml(&[&old, &new.borrow()], ""))
    };
    let process = start();
    eventually("the first one takes writes", || write_once(process.address()) == Ok(old.port));
    let kept = || std::fs::read_to_string(folder.path().join("generations")).unwrap_or_default();
    eventually("that is kept", || kept().contains("\t1\n"));
    promoted(&new.borrow());
    eventually("the later one does", || write_once(process.address()) == Ok(new_port));
    eventually("that is kept, too", || kept().contains("\t2\n"));
    process.signal(rustix::process::Signal::KILL);
    drop(process);
    new.borrow_mut().stop("fast");
    let process = start();
    let alone = Instant::now();
    while alone.elapsed() < Duration::from_secs(3) {
        assert!(write_once(process.address()).is_err(), "the earlier one takes writes");
    }
    let status = process.status();
    assert_eq!(status["pools"][0]["backends"][0]["state"], "stale primary", "{status:#}");
    process.say(&["forget", "pg"]);
    eventually("the first one again", || write_once(process.address()) == Ok(old.port));
    eventually("and that is kept", || kept().contains("\t1\n") && !kept().contains("\t2\n"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn reloads_and_upgrades_amid_a_failover_lead_nobody_to_the_earlier_primary() {
    let old = Node::primary("");
    let new = old.replica("r", "");
    let process = Program::start(&yaml(&[&old, &new], ""));
    let door = process.address();
    eventually("the first one takes writes", || write_once(door) == Ok(old.port));
    let (stay, come) = (Writers::start(door, 2, true), Writers::start(door, 1, false));
    eventually("all write", || stay.so_far().len() > 20);
    let stop = AtomicBool::new(false);
    let promotion = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                process.say(&["reload"]);
                process.upgrade();
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        let promotion = promoted(&new);
        std::thread::sleep(Duration::from_secs(5));
        stop.store(true, Ordering::SeqCst);
        promotion
    });
    let writes = [stay.stop(), come.stop()].concat();
    let late = last_at(&writes, old.port).unwrap().saturating_duration_since(promotion);
    let first = first_at(&writes, new.port, promotion).unwrap() - promotion;
    eprintln!(
        "last row on the old one {} ms after the promotion, first on the new one {} ms",
        ms(late),
        ms(first)
    );
    assert!(late < Duration::from_millis(1500) && first < Duration::from_millis(2500), "{late:?} {first:?}");
    assert!(!writes.iter().any(|write| write.result == Err("25006".into())));
    assert_eq!(process.status()["pools"][0]["backends"][0]["state"], "stale primary");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_file_that_we_ship_serves_a_primary_and_its_replica() {
    let primary = Node::primary("");
    let replica = primary.replica("r", "");
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    primary.psql("create role evenkeel login password 'secret' connection limit 4");
    let shipped =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/postgresql.yaml")).unwrap();
    let read = free_port();
    let mut text = shipped.replace("/etc/evenkeel/pg.password", &password.display().to_string());
    for (ours, here) in [
        ("bind: 5432", "bind: '127.0.0.1:PORT'".to_owned()),
        ("bind: 5433", format!("bind: '127.0.0.1:{read}'")),
        ("10.0.0.11:5432", format!("127.0.0.1:{}", primary.port)),
        ("10.0.0.12:5432", format!("127.0.0.1:{}", replica.port)),
        ("10.0.0.13:5432", closed_address().to_string()),
        ("admin:\n  http: 127.0.0.1:9900\n", String::new()),
    ] {
        assert!(text.contains(ours), "{ours}");
        text = text.replace(ours, &here);
    }
    let process = Program::start(&text);
    let read = SocketAddr::from(([127, 0, 0, 1], read));
    let asked = || {
        let mut session = Session::open(read, "postgres", PATIENCE).ok()?;
        session.query("select pg_is_in_recovery()").ok()
    };
    eventually("reads go to the replica", || asked().as_deref() == Some("t"));
    eventually("writes go to the primary", || write_once(process.address()) == Ok(primary.port));
    let status = process.status();
    assert_eq!(status["pools"][0]["primary"], "pg1", "{status:#}");
}
