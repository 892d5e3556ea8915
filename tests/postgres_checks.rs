//! The `postgres` check against real servers: every login, TLS of every kind, what is wrong and how it is called, how long a
//! connection is kept, and that nothing of it is in the server's log.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod ports;
#[path = "servers/postgres_cluster.rs"]
mod postgres_cluster;

use std::collections::HashMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::config::settings::{
    Check, Health, PostgresCheck, Secret, SecretSource, SendProxy, Tls, TlsTerms, Verify,
};
use evenkeel::health::{Cause, Checked, Checker, Haste, Outcome, Target, TargetId};
use evenkeel::liveness::State;
use evenkeel::roles::Claim;
use evenkeel::sys::probe::Route;
use postgres_cluster::Node;
use tokio::sync::mpsc;

fn check(user: &str, password: &str, tls: Tls) -> Check {
    let password = match password {
        "" => Secret::none(),
        text => Secret::new(SecretSource::Here, text.as_bytes()),
    };
    Check::Postgres(PostgresCheck { user: user.into(), password, database: "postgres".into(), tls })
}

fn health(check: Check, interval: u64, keep: Option<Duration>) -> Arc<Health> {
    Arc::new(Health {
        check,
        interval: Duration::from_millis(interval),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 3,
        port: None,
        send_proxy: SendProxy::Off,
        keep,
    })
}

fn target(id: u64, port: u16, health: &Arc<Health>) -> Target {
    Target {
        id: TargetId(id),
        route: Route::to(SocketAddr::from(([127, 0, 0, 1], port))),
        health: Arc::clone(health),
        haste: Haste::default(),
        known: None,
    }
}

/// What each of these is answered first.
fn ask_once(port: u16, checks: &[Check]) -> Vec<Outcome> {
    run(async {
        let targets: Vec<Target> = checks
            .iter()
            .enumerate()
            .map(|(at, check)| target(at as u64, port, &health(check.clone(), 60_000, None)))
            .collect();
        let (sender, mut events) = mpsc::channel(64);
        let checker = Checker::start(targets, 64, 1, sender);
        let mut outcomes = HashMap::new();
        while outcomes.len() < checks.len() {
            let checked = events.recv().await.unwrap();
            outcomes.entry(checked.target.0).or_insert(checked.outcome);
        }
        checker.stop().await;
        (0..checks.len() as u64).map(|at| outcomes.remove(&at).unwrap()).collect()
    })
}

fn run<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(what)
}

fn on() -> Tls {
    Tls::On(Arc::new(TlsTerms::ANYBODY))
}

fn terms(verify: Verify, ca: Option<String>, name: Option<&str>) -> Tls {
    Tls::On(Arc::new(TlsTerms { verify, ca: ca.map(Into::into), name: name.map(Into::into), own: None }))
}

#[test]
#[ignore = "needs PostgreSQL"]
fn every_login_over_every_line() {
    let server = Node::primary("");
    let users = [("checker", "secret"), ("md5user", "secret"), ("plainuser", "secret"), ("trustuser", "")];
    let lines = [Tls::Off, Tls::Try, on()];
    let checks: Vec<Check> = users
        .iter()
        .flat_map(|(user, password)| lines.iter().map(|tls| check(user, password, tls.clone())))
        .collect();
    let system = server.psql("select system_identifier from pg_control_system()");
    for (outcome, asked) in ask_once(server.port, &checks).iter().zip(&checks) {
        let Outcome::Role(said) = outcome else { panic!("{asked:?}: {outcome:?}") };
        let generation = said.generation.as_ref().unwrap();
        assert_eq!((said.claim, generation.number, &*generation.lineage), (Claim::Primary, 1, &*system));
        assert!(said.position.unwrap() > 0x0100_0000, "{said:?}");
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn whom_to_believe() {
    let server = Node::primary("");
    let path = |name: &str| Some(server.folder.path().join(name).display().to_string());
    let cases = [
        (terms(Verify::Full, path("ca.crt"), None), "primary", ""),
        (terms(Verify::Full, path("ca.crt"), Some("pg.example")), "primary", ""),
        (terms(Verify::Full, path("ca.crt"), Some("db.example")), "tls", "not valid for name"),
        (terms(Verify::Ca, path("ca.crt"), Some("db.example")), "primary", ""),
        (terms(Verify::Ca, path("other.crt"), None), "tls", "UnknownIssuer"),
        (terms(Verify::Full, None, None), "tls", "UnknownIssuer"),
        (terms(Verify::Full, path("no.crt"), None), "tls", "No such file"),
        (terms(Verify::Full, path("server.key"), None), "tls", ""),
        (terms(Verify::Off, None, Some("db.example")), "primary", ""),
    ];
    let checks: Vec<Check> = cases.iter().map(|(tls, ..)| check("ssluser", "secret", tls.clone())).collect();
    for (outcome, (tls, word, why)) in ask_once(server.port, &checks).iter().zip(&cases) {
        assert_eq!(outcome.word(), *word, "{tls:?}: {outcome:?}");
        let shown = format!("{outcome:?}");
        assert!(shown.to_lowercase().contains(&why.to_lowercase()), "{tls:?}: {shown}");
    }

    // A file that changes is read anew.
    let other = server.folder.path().join("changing.crt");
    std::fs::copy(path("other.crt").unwrap(), &other).unwrap();
    let changing = check("ssluser", "secret", terms(Verify::Full, path("changing.crt"), None));
    run(async {
        let (sender, mut events) = mpsc::channel(64);
        let checker =
            Checker::start(vec![target(1, server.port, &health(changing, 100, None))], 8, 1, sender);
        assert_eq!(events.recv().await.unwrap().outcome.word(), "tls");
        let text = [std::fs::read(path("ca.crt").unwrap()).unwrap(), b"\n".to_vec()].concat();
        std::fs::write(&other, text).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while events.recv().await.unwrap().outcome.word() != "primary" {
            assert!(Instant::now() < deadline);
        }
        checker.stop().await;
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_is_wrong_has_its_word() {
    let mut server = Node::primary("");
    let nowhere = Check::Postgres(PostgresCheck {
        user: "trustuser".into(),
        password: Secret::none(),
        database: "nowhere".into(),
        tls: Tls::Off,
    });
    let cases = [
        (check("checker", "wrong", Tls::Off), "auth", "password authentication failed"),
        (check("checker", "", Tls::Off), "auth", "the check has none"),
        (check("nobody", "secret", Tls::Try), "auth", "password authentication failed"),
        (check("nologin", "secret", Tls::Off), "auth", "not permitted to log in"),
        (check("ssluser", "secret", Tls::Off), "auth", "`tls: on`"),
        (check("ssluser", "secret", Tls::Try), "primary", ""),
        (check("refused", "secret", Tls::Off), "auth", "pg_hba.conf"),
        (nowhere, "auth", "`database`"),
    ];
    let checks: Vec<Check> = cases.iter().map(|(check, ..)| check.clone()).collect();
    for (outcome, (asked, word, why)) in ask_once(server.port, &checks).iter().zip(&cases) {
        assert_eq!(outcome.word(), *word, "{asked:?}: {outcome:?}");
        assert!(format!("{outcome:?}").contains(why), "{asked:?}: {outcome:?}");
    }

    // Somebody has the only place of this role: it lives all the same.
    let full = check("few", "secret", Tls::Off);
    run(async {
        let kept = Some(Duration::from_secs(3600));
        let (sender, mut events) = mpsc::channel(64);
        let first =
            Checker::start(vec![target(1, server.port, &health(full.clone(), 100, kept))], 8, 1, sender);
        assert_eq!(events.recv().await.unwrap().outcome.word(), "primary");
        let (sender, mut others) = mpsc::channel(64);
        let second = Checker::start(vec![target(1, server.port, &health(full, 100, None))], 8, 1, sender);
        for _ in 0..8 {
            let checked = others.recv().await.unwrap();
            assert!(matches!(checked.outcome, Outcome::Bad(Cause::Full { .. })), "{checked:?}");
            assert_ne!(checked.verdict.state, State::Down);
        }
        first.stop().await;
        second.stop().await;
    });

    server.stop("fast");
    assert_eq!(ask_once(server.port, &[check("trustuser", "", Tls::Try)])[0].word(), "refused");
}

/// Checks that go on until the end of the value.
struct Checks {
    checker: Checker,
    events: mpsc::Receiver<Checked>,
}

impl Checks {
    fn of(server: &Node, user: &str, interval: u64, keep: Option<Duration>) -> Self {
        Self::over(server, user, Tls::Try, interval, keep)
    }

    fn over(server: &Node, user: &str, tls: Tls, interval: u64, keep: Option<Duration>) -> Self {
        let (sender, events) = mpsc::channel(64);
        let password = if user == "trustuser" { "" } else { "secret" };
        let health = health(check(user, password, tls), interval, keep);
        Self { checker: Checker::start(vec![target(1, server.port, &health)], 64, 1, sender), events }
    }

    /// What comes within this time.
    async fn during(&mut self, time: Duration) -> Vec<Outcome> {
        let end = tokio::time::Instant::now() + time;
        let mut all = Vec::new();
        while let Ok(Some(checked)) = tokio::time::timeout_at(end, self.events.recv()).await {
            all.push(checked.outcome);
        }
        all
    }
}

fn words(outcomes: &[Outcome]) -> HashMap<&'static str, usize> {
    let mut words = HashMap::new();
    outcomes.iter().for_each(|outcome| *words.entry(outcome.word()).or_default() += 1);
    words
}

/// Lines of the server's log that are about those who log in here.
fn lines(server: &Node) -> Vec<String> {
    let about = |line: &&str| {
        !["checkpoint", "database system", "starting PostgreSQL", "listening on"]
            .iter()
            .any(|word| line.contains(word))
    };
    server
        .log()
        .lines()
        .filter(about)
        .filter(|line| !line.contains(" postgres "))
        .map(str::to_owned)
        .collect()
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_server_logs_nothing_of_it_but_what_it_logs_of_everybody() {
    let server = Node::primary("log_connections = off\nlog_disconnections = off\nlog_min_messages = warning");
    run(async {
        for keep in [Some(Duration::from_secs(1)), None] {
            let mut checks = Checks::of(&server, "checker", 100, keep);
            let said = checks.during(Duration::from_secs(4)).await;
            assert!(said.len() > 20 && words(&said).len() == 1, "{:?}", words(&said));
            checks.checker.stop().await;
        }
        // Nobody says farewell who is killed: the end of what is kept is an end in order.
        let mut checks = Checks::of(&server, "checker", 100, Some(Duration::from_secs(60)));
        checks.during(Duration::from_millis(500)).await;
        drop(checks.checker);
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    assert_eq!(lines(&server), [""; 0]);
    // A server that hangs, and goes on when nobody waits any more. (One that then finds its handshake of TLS given up says so.)
    run(async {
        let mut checks = Checks::over(&server, "checker", Tls::Off, 100, Some(Duration::from_secs(60)));
        checks.during(Duration::from_millis(500)).await;
        server.freeze(true);
        let said = checks.during(Duration::from_secs(5)).await;
        assert!(words(&said).contains_key("timeout"), "{said:?}");
        server.freeze(false);
        let said = checks.during(Duration::from_secs(3)).await;
        assert!(words(&said).contains_key("primary"), "{said:?}");
        checks.checker.stop().await;
    });
    assert_eq!(lines(&server), [""; 0]);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_kept_connection_writes_four_lines_in_its_life() {
    let server = Node::primary("log_connections = on\nlog_disconnections = on");
    let began = Instant::now();
    run(async {
        let mut checks = Checks::of(&server, "checker", 100, Some(Duration::from_secs(2)));
        let said = checks.during(Duration::from_secs(7)).await;
        assert!(said.len() > 50 && words(&said).len() == 1, "{:?}", words(&said));
        checks.checker.stop().await;
    });
    let lives = began.elapsed().as_secs_f64() / 1.8 + 1.0;
    let lines = lines(&server).len() as f64;
    assert!(lines <= 4.0 * lives, "{lines} lines: {}", server.log());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_kept_connection_that_the_server_ends_costs_no_bad_answer() {
    let server = Node::primary("idle_session_timeout = 300ms");
    run(async {
        // Longer apart than the server bears: each time it ends in between.
        let mut checks = Checks::of(&server, "trustuser", 1000, Some(Duration::from_secs(60)));
        let said = checks.during(Duration::from_secs(5)).await;
        assert!(said.len() >= 5 && words(&said).len() == 1, "{:?}", words(&said));
        checks.checker.stop().await;
        let mut checks = Checks::of(&server, "trustuser", 150, Some(Duration::from_secs(60)));
        for _ in 0..10 {
            let said = checks.during(Duration::from_millis(400)).await;
            assert!(words(&said).keys().all(|word| *word == "primary"), "{said:?}");
            server.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'trustuser'");
        }
        let said = checks.during(Duration::from_millis(500)).await;
        assert!(!said.is_empty() && words(&said).keys().all(|word| *word == "primary"), "{said:?}");
        checks.checker.stop().await;
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_end_is_noticed_between_two_checks_and_a_stop_that_waits_ends_with_what_is_kept() {
    let mut server = Node::primary("");
    run(async {
        let mut checks = Checks::of(&server, "trustuser", 4000, Some(Duration::from_secs(60)));
        let said = checks.during(Duration::from_millis(5500)).await;
        assert_eq!(words(&said).keys().collect::<Vec<_>>(), [&"primary"]);
        // The last of these was a moment ago; by its interval the next one is seconds away.
        let began = Instant::now();
        server.kill();
        let checked = checks.events.recv().await.unwrap();
        assert!(!checked.outcome.is_good(), "{checked:?}");
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        checks.checker.stop().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.up();

        let keep = Duration::from_secs(3);
        let mut checks = Checks::of(&server, "trustuser", 200, Some(keep));
        checks.during(Duration::from_secs(1)).await;
        server.begin_smart_stop();
        let began = Instant::now();
        let mut said = Vec::new();
        while !server.has_ended() {
            assert!(began.elapsed() < keep + Duration::from_secs(2), "it waits for us: {:?}", words(&said));
            said.extend(checks.during(Duration::from_millis(50)).await);
        }
        let word = checks.during(Duration::from_millis(600)).await.last().map(Outcome::word);
        assert_eq!(word, Some("refused"));
        checks.checker.stop().await;
    });
}

/// A server that says this, in pieces, to each who comes, however often; then it listens.
fn says(pieces: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static, pause: Duration) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let pieces = Arc::new(pieces);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, pieces) = (stream.unwrap(), Arc::clone(&pieces));
            std::thread::spawn(move || {
                let mut heard = [0; 1024];
                if stream.read(&mut heard).is_err() {
                    return;
                }
                for piece in (0..).map_while(|at| pieces(at)) {
                    if stream.write_all(&piece).is_err() {
                        return;
                    }
                    std::thread::sleep(pause);
                }
                while stream.read(&mut heard).is_ok_and(|count| count > 0) {}
            });
        }
    });
    port
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

fn login(kind: u32, rest: &[u8]) -> Vec<u8> {
    frame(b'R', &[&kind.to_be_bytes()[..], rest].concat())
}

#[test]
fn servers_that_mean_harm_get_one_bad_answer_each() {
    let once = |bytes: Vec<u8>| move |at: usize| (at == 0).then(|| bytes.clone());
    let endless = |first: Vec<u8>, then: Vec<u8>| {
        move |at: usize| Some(if at == 0 { first.clone() } else { then.repeat(64) })
    };
    let quick = Duration::ZERO;
    let let_in = [login(0, b""), frame(b'Z', b"I")].concat();
    let cases = [
        ("garbage", says(once(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), quick), "protocol"),
        ("4 GiB", says(once(b"R\xff\xff\xff\xff".to_vec()), quick), "protocol"),
        ("parameters without end", says(endless(Vec::new(), frame(b'S', b"a\0b\0")), quick), "protocol"),
        ("rows without end", says(endless(let_in.clone(), frame(b'C', b"SELECT 1\0")), quick), "protocol"),
        (
            "one byte at a time",
            says(|at| Some(vec![login(0, b"")[at % 9]]), Duration::from_millis(400)),
            "timeout",
        ),
        ("silence", says(|_| None, quick), "timeout"),
        (
            "let in without a proof",
            says(
                |at| [login(10, b"SCRAM-SHA-256\0\0"), login(0, b"")].get(at).cloned(),
                Duration::from_millis(100),
            ),
            "protocol",
        ),
        (
            "2^31 rounds of another nonce",
            says(
                |at| {
                    [login(10, b"SCRAM-SHA-256\0\0"), login(11, b"r=x,s=W22Z,i=2147483648")].get(at).cloned()
                },
                Duration::from_millis(100),
            ),
            "protocol",
        ),
        (
            "an error that ends nothing",
            says(once(frame(b'E', b"SFATAL\0C57P03\0Mstarting\0\0")), quick),
            "starting",
        ),
    ];
    for (what, port, word) in cases {
        let began = Instant::now();
        let outcome = ask_once(port, &[check("checker", "secret", Tls::Off)]).remove(0);
        assert_eq!(outcome.word(), word, "{what}: {outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(4), "{what}: {:?}", began.elapsed());
    }
    let port = says(once(b"Sgarbage that is no handshake".to_vec()), quick);
    assert_eq!(ask_once(port, &[check("checker", "secret", Tls::Try)])[0].word(), "protocol");
    let port = says(
        |at| [b"S".to_vec(), b"garbage that is no handshake".to_vec()].get(at).cloned(),
        Duration::from_millis(100),
    );
    assert_eq!(ask_once(port, &[check("checker", "secret", Tls::Try)])[0].word(), "tls");
}

/// A server that asks for SCRAM, with another salt each time, and is silent when the proof comes.
fn asks_for_passwords() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            std::thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn(move || {
                    let mut heard = [0; 512];
                    let _ = stream.read(&mut heard);
                    let _ = stream.write_all(&login(10, b"SCRAM-SHA-256\0\0"));
                    let count = stream.read(&mut heard).unwrap_or(0);
                    let first = String::from_utf8_lossy(&heard[..count]).into_owned();
                    let Some((_, nonce)) = first.split_once("r=") else { return };
                    let challenge = format!("r={nonce}x,s={number:016x},i=4096");
                    let _ = stream.write_all(&login(11, challenge.as_bytes()));
                    while stream.read(&mut heard).is_ok_and(|count| count > 0) {}
                })
                .unwrap();
        }
    });
    port
}

/// A thousand servers ask for a password to be worked out, each with a salt of its own.
#[test]
#[ignore = "takes seconds of both cores"]
fn a_thousand_logins_at_once_make_no_other_check_late() {
    let port = asks_for_passwords();
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    run(async {
        let logins = health(check("checker", "secret", Tls::Off), 60_000, None);
        let mut targets: Vec<Target> = (1..=1000).map(|id| target(id, port, &logins)).collect();
        targets.push(target(0, plain.local_addr().unwrap().port(), &health(Check::Tcp, 100, None)));
        let (sender, mut events) = mpsc::channel(64);
        let checker = Checker::start(targets, 1024, 1, sender);
        let (mut last, mut worst, mut answered) = (Instant::now(), Duration::ZERO, 0);
        while answered < 1000 {
            let checked = events.recv().await.unwrap();
            if checked.target == TargetId(0) {
                worst = worst.max(last.elapsed());
                last = Instant::now();
            } else {
                answered += 1;
            }
        }
        checker.stop().await;
        eprintln!("the longest gap of a check each 100 ms: {worst:?}");
        assert!(worst < Duration::from_millis(500), "{worst:?}");
    });
}

/// Exit code and what was said.
fn ask(text: &str) -> (i32, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let output = command.args(["check", "--ask"]).arg(file.path()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
#[ignore = "needs PostgreSQL"]
fn who_asks_before_anything_is_served_is_told_what_is_wrong() {
    let (primary, foreign) = (Node::primary(""), Node::primary(""));
    let replica = primary.replica("r", "");
    let folder = primary.folder.path().display();
    let file = |login: &str, ports: &[u16]| {
        let backends: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(at, port)| format!("{{ address: '127.0.0.1:{port}', name: pg{} }}", at + 1))
            .collect();
        format!(
            "listeners:\n  w: {{ bind: 1, pool: pg, role: primary }}\n  r: {{ bind: 2, pool: pg, role: replica }}\npools:\n  pg:\n    \
             backends: [{}]\n    health: {{ check: {{ postgres: {{ {login} }} }} }}\n",
            backends.join(", ")
        )
    };
    let ports = [primary.port, replica.port];
    let (code, said) = ask(&file("user: checker, password: secret", &ports));
    assert_eq!(code, 0, "{said}");
    for word in ["pg1", "pg2", "primary", "replica", "timeline 1 of cluster"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let name = format!("user: checker, password: secret, tls: {{ ca: '{folder}/ca.crt', name: db.example }}");
    let cases = [
        (file("user: checker, password: wrong-one", &ports), "password authentication failed"),
        (file(&name, &ports), "not valid for name"),
        (file("user: checker, password: secret, database: shop", &ports), "does not exist"),
        (
            file("user: checker, password: secret", &[primary.port, replica.port, foreign.port]),
            "not of one cluster: pg1, pg2 of",
        ),
        (
            file("user: checker, password: secret", &[primary.port, foreign.port]),
            "pg1 and pg2 say they are the primary",
        ),
        (file("user: checker, password: secret", &[replica.port]), "nobody says it is the primary"),
        (file("user: checker, password: secret", &[primary.port, ports::free_port()]), "connection refused"),
    ];
    for (text, why) in cases {
        let (code, said) = ask(&text);
        let said_in_one = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(code, 1, "{text}{said}");
        assert!(said_in_one.contains(why), "{why}: {said}");
        assert!(!said.contains("wrong-one"), "{said}");
        eprintln!("{said}");
    }
}
