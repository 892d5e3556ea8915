//! A new process takes over: what a client, a backend, an operator and a scraper see of it. Nothing, that is.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::datagrams::Answering;
use super::ports::free_port;
use super::rig::{
    Backend, DEADLINE, Outcome, Program, Silent, becomes, connect, echo, eventually, exchange,
    is_turned_away, pattern, read_to_end, sum_of,
};

fn yaml(keys: &str, backends: &str) -> String {
    format!(
        "log: {{ sessions: all }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', {keys} backends: [{backends}], health: {{ check: off }} }} }}"
    )
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn state_of(program: &Program) -> Vec<String> {
    let answer: Value = serde_json::from_str(&program.say(&["sessions", "--json"])).unwrap();
    let mut states: Vec<String> = answer["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["state"].as_str().unwrap().to_owned())
        .collect();
    states.sort();
    states
}

#[test]
fn sessions_go_on_and_are_told_once_with_everything_before() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml("", &backend.address.to_string()));
    let mut clients: Vec<TcpStream> = (0..20).map(|_| connect(program.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    for round in 1..=3 {
        assert_eq!(program.upgrade(), 20);
        clients.iter_mut().for_each(|client| exchange(client, format!("{round} after").as_bytes()));
    }
    assert_eq!((backend.accepted(), program.status()["listeners"][0]["active"].as_u64()), (20, Some(20)));
    drop(clients);
    eventually("the sessions end", || program.session_lines().len() == 20);
    for line in program.session_lines() {
        assert_eq!(
            (&line["reason"], &line["to_backend"], &line["to_client"]),
            (&"client_closed".into(), &27.into(), &27.into())
        );
        assert!(line["connect_ms"].is_number() && line["attempts"] == 1, "{line}");
    }
    let begun = program.metric(r#"evenkeel_sessions_total{listener="door",reason="client_closed"}"#);
    assert!((begun - 20.0).abs() < f64::EPSILON, "{begun}");
    let bytes = program.metric(r#"evenkeel_bytes_total{listener="door",direction="to_backend"}"#);
    assert!((bytes - 540.0).abs() < f64::EPSILON, "{bytes}");
}

#[test]
fn sigusr2_does_the_same() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&yaml("", &backend.address.to_string()));
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    program.signal(Signal::USR2);
    let handed_over = || {
        let lines = program.json_log();
        let line = lines.into_iter().find(|line| line["message"] == "handed over to the new process");
        line.map(|line| u32::try_from(line["pid"].as_u64().unwrap()).unwrap())
    };
    eventually("it is handed over", || handed_over().is_some());
    program.succeeded_by(handed_over().unwrap());
    exchange(&mut client, b"after");
    eventually("it answers", || program.command(&["status"]).status.success());
    assert_eq!(program.upgrade(), 1);
    exchange(&mut client, b"and again");
    drop(client);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0), "the first process ends as the last does");
}

#[test]
fn what_was_read_and_not_written_travels_and_so_does_an_end() {
    const BYTES: usize = 24 << 20;
    let bytes = pattern(BYTES);
    let wanted = sum_of(&mut &bytes[..]);
    let sent = bytes.clone();
    // One backend sends much at once and finishes; the client finished before, and reads nothing until much later.
    let backend = Backend::start(move |mut stream| {
        let mut asked = Vec::new();
        let _ = stream.read_to_end(&mut asked);
        let _ = stream.write_all(&sent);
    });
    let program = Program::start(&yaml("", &backend.address.to_string()));
    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(program.address())).collect();
    for client in &mut clients {
        client.write_all(b"all of it, please").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    let to_client = || program.status()["listeners"][0]["to_client"].as_u64().unwrap();
    let mut before = 0;
    eventually("everything between is full", || {
        let now = to_client();
        let stalls = now > 0 && now == before;
        before = now;
        std::thread::sleep(Duration::from_millis(50));
        stalls
    });
    for _ in 0..3 {
        assert_eq!(program.upgrade(), 3);
    }
    for client in &mut clients {
        assert_eq!(sum_of(client), wanted);
    }
    eventually("the sessions end", || program.session_lines().len() == 3);
    for line in program.session_lines() {
        assert_eq!((&line["reason"], &line["to_client"]), (&"client_closed".into(), &BYTES.into()), "{line}");
    }
}

#[test]
fn sessions_without_a_backend_yet_go_on_too() {
    let (silent, backend) = (Silent::start(), Backend::start(echo));
    let program = Program::start(&format!(
        "listeners:\n  door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], connect: {{ timeout: 50s }}, health: {{ check: off }} }}\n  \
         headed: {{ bind: '127.0.0.1:{}', backends: ['{}'], accept_proxy: [127.0.0.0/8], timeouts: {{ header: 50s }}, health: {{ check: off }} }}\n  \
         lined: {{ bind: '127.0.0.1:{}', pool: narrow }}\npools: {{ narrow: {{ backends: [{{ address: '{}', max_sessions: 1 }}], \
         queue: {{ timeout: 50s }}, health: {{ check: off }} }} }}",
        silent.address,
        free_port(),
        backend.address,
        free_port(),
        backend.address
    ));
    let door = |name: &str| -> SocketAddr {
        let status = program.status();
        let all = status["listeners"].as_array().unwrap();
        let listener = all.iter().find(|listener| listener["name"] == name).unwrap();
        listener["addresses"][0].as_str().unwrap().parse().unwrap()
    };
    let mut dialling = connect(program.address());
    dialling.write_all(b"hello?").unwrap();
    let mut headed = connect(door("headed"));
    headed.write_all(b"PROXY TCP4 192.0.2.1 ").unwrap();
    let mut first = connect(door("lined"));
    exchange(&mut first, b"first");
    let mut waiting: Vec<TcpStream> = Vec::new();
    for number in 0..3_u8 {
        let mut client = connect(door("lined"));
        client.write_all(&[number]).unwrap();
        waiting.push(client);
        eventually("it is in line", || {
            state_of(&program).iter().filter(|state| *state == "queued").count() == waiting.len()
        });
    }
    let states = ["connecting", "header", "open", "queued", "queued", "queued"];
    eventually("each is where it is to be", || state_of(&program) == states);
    for _ in 0..2 {
        assert_eq!(program.upgrade(), 6);
        assert_eq!(state_of(&program), states);
    }
    let mut served = silent.wake();
    let mut said = [0; 6];
    served.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello?");
    headed.write_all(b"198.51.100.1 50000 443\r\n").unwrap();
    exchange(&mut headed, b"through");
    drop(first);
    // In the order in which they came.
    for (number, client) in (0..).zip(&mut waiting) {
        let mut back = [9];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [number]);
        client.shutdown(Shutdown::Both).unwrap();
    }
}

/// Who failed it before the upgrade is not picked again after it, though he would be the first now.
#[test]
fn a_session_knows_after_an_upgrade_who_failed_it_before() {
    let (refuses, silent, last) = (free_port(), Silent::start(), Backend::start(echo));
    let program = Program::start(&yaml(
        "balance: first, connect: { timeout: 8s },",
        &format!("'127.0.0.1:{refuses}', '{}', '{}'", silent.address, last.address),
    ));
    let mut client = connect(program.address());
    client.write_all(b"hello").unwrap();
    let attempts = |program: &Program| program.status()["pools"][0]["retries"].as_u64();
    eventually("it was refused, and dials the second", || {
        state_of(&program) == ["connecting"] && attempts(&program) == Some(1)
    });
    assert_eq!(program.upgrade(), 1);
    let back = Backend::start_at(&format!("127.0.0.1:{refuses}"), echo);
    assert_eq!(state_of(&program), ["connecting"], "the second is not given up yet");
    let mut came = [0; 5];
    client.read_exact(&mut came).unwrap();
    assert_eq!((&came, last.accepted(), back.accepted()), (b"hello", 1, 0));
    // Whoever comes now has no reason to pass him over.
    exchange(&mut connect(program.address()), b"first of all");
    assert_eq!(back.accepted(), 1);
}

#[test]
fn flows_keep_their_sockets_and_their_counts() {
    let backend = Answering::start("a");
    let program = Program::start(&format!(
        "log: {{ sessions: all }}\nlisteners:\n  door: {{ bind: '127.0.0.1:PORT', backends: ['127.0.0.1:9'], health: {{ check: off }} }}\n  \
         games: {{ protocol: udp, bind: '127.0.0.1:{}', udp: {{ responses: 3 }}, backends: ['{}'], health: {{ check: off }} }}",
        free_port(),
        backend.address
    ));
    let door: SocketAddr =
        program.status()["listeners"][1]["addresses"][0].as_str().unwrap().parse().unwrap();
    let clients: Vec<UdpSocket> = (0..30)
        .map(|_| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            client.connect(door).unwrap();
            client
        })
        .collect();
    let ask = |client: &UdpSocket, number: usize| {
        let mut answer = [0; 100];
        client.send(format!("{number}").as_bytes()).unwrap();
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(answer[..length], *format!("a{number}").as_bytes());
    };
    clients.iter().for_each(|client| ask(client, 1));
    assert_eq!(program.upgrade(), 30);
    // What comes between two processes waits in the sockets.
    clients.iter().for_each(|client| ask(client, 2));
    assert_eq!(program.upgrade(), 30);
    clients.iter().for_each(|client| ask(client, 3));
    let begun = program.status()["listeners"][1]["begun"].as_u64();
    assert_eq!(begun, Some(30), "no flow began anew");
    assert_eq!(program.status()["listeners"][1]["active"].as_u64(), Some(30));
    program.say(&["close", "--listener", "games"]);
    eventually("the flows end", || program.session_lines().len() == 30);
    for line in program.session_lines() {
        let counts = (&line["reason"], &line["datagrams_to_backend"], &line["datagrams_to_client"]);
        assert_eq!(counts, (&"closed".into(), &3.into(), &3.into()), "{line}");
    }
}

#[test]
fn what_is_known_of_backends_and_sources_is_known_on() {
    let backends: Vec<Backend> = (0..4).map(|_| Backend::start(echo)).collect();
    let named: Vec<String> = (0..)
        .zip(&backends)
        .map(|(number, backend)| format!("{{ name: b{number}, address: '{}' }}", backend.address))
        .collect();
    let program = Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', pool: p, limits: {{ sessions: 3 }} }} }}\n\
         pools: {{ p: {{ sticky: {{}}, health: {{ interval: 100ms, fall: 1 }}, backends: [{}, {{ name: dead, address: '127.0.0.1:9' }}] }} }}",
        named.join(", ")
    ));
    program.say(&["drain", "p/b0"]);
    program.say(&["down", "p/b1"]);
    program.say(&["weight", "p/b2", "7"]);
    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(program.address())).collect();
    clients.iter_mut().for_each(|client| exchange(client, b"before"));
    assert!(is_turned_away(program.address()), "three is the limit");
    let picture = || {
        let status = program.status();
        let of = |backend: &Value| {
            let take = |key: &str| backend[key].clone();
            (take("name"), take("state"), take("cause"), take("weight"), take("active"))
        };
        let backends = status["pools"][0]["backends"].as_array().unwrap().iter().map(of).collect::<Vec<_>>();
        (backends, status["listeners"][0]["begun"].clone())
    };
    eventually("the dead one is down", || {
        program.status()["pools"][0]["backends"][4]["state"].as_str() == Some("down")
    });
    let (before, lines) = (picture(), program.log().matches("backend is").count());
    assert_eq!(program.upgrade(), 3);
    assert_eq!(picture(), before);
    assert!(is_turned_away(program.address()), "they count on");
    drop(clients.pop());
    eventually("a place is free", || {
        // Until then each is reset, at its connect or later.
        let served = |mut client: TcpStream| client.write_all(b"x").and_then(|()| client.read(&mut [0]));
        TcpStream::connect_timeout(&program.address(), DEADLINE)
            .and_then(served)
            .is_ok_and(|length| length == 1)
    });
    assert_eq!(program.log().matches("backend is").count(), lines, "nobody was found anew");
    // The source is where it was.
    let reached: Vec<usize> = backends.iter().map(Backend::accepted).collect();
    assert_eq!(reached.iter().filter(|count| **count > 0).count(), 1, "{reached:?}");
}

#[test]
fn a_program_that_does_not_take_over_changes_nothing() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml("", &backend.address.to_string()));
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    let (pid, file) = (program.pid(), program.file());
    for (binary, why) in [
        ("/bin/false", "it ended before it had taken over"),
        ("/nowhere/evenkeel", "No such file"),
        (env!("CARGO_MANIFEST_DIR"), "ermission denied"),
    ] {
        let refused = program.command(&["upgrade", "--binary", binary]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused).contains("everything goes on as before"), "{}", text(&refused));
        assert!(text(&refused).contains(why), "{binary}: {}", text(&refused));
        exchange(&mut client, b"still here");
    }
    program.write_file("listenres: {}");
    let refused = program.command(&["upgrade"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("did you mean `listeners`?"), "{}", text(&refused));
    exchange(&mut client, b"still here");
    assert_eq!(program.status()["pid"].as_u64().map_or(pid, |pid| u32::try_from(pid).unwrap()), pid);
    program.write_file(&file);
    assert_eq!(program.upgrade(), 1);
    exchange(&mut client, b"and now there");
}

#[test]
fn a_new_file_is_served_afterwards() {
    let (old, new) = (Backend::start(echo), Backend::start(echo));
    let program = Program::start(&yaml("", &old.address.to_string()));
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    program.write_file(&program.file().replace(&old.address.to_string(), &new.address.to_string()));
    assert_eq!(program.upgrade(), 1);
    exchange(&mut client, b"at the backend that left");
    exchange(&mut connect(program.address()), b"at the new one");
    assert_eq!((old.accepted(), new.accepted()), (1, 1));
    // Its doors change, too.
    let port = free_port();
    let moved = program.file().replace(&format!("127.0.0.1:{}", program.port), &format!("127.0.0.1:{port}"));
    program.write_file(&format!("shutdown: {{ grace: 1s }}\n{}", moved.replace("door:", "other:")));
    let before = program.upgrade();
    assert!(before >= 1, "{before}");
    exchange(&mut client, b"for the grace");
    exchange(&mut connect(SocketAddr::from(([127, 0, 0, 1], port))), b"at the new door");
    assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset));
    eventually("it is told", || program.session_lines().iter().any(|line| line["reason"] == "drained"));
}

#[test]
fn it_finds_its_time_among_reloads_other_upgrades_and_a_stop() {
    let backend = Backend::start(echo);
    let program = Program::start(&yaml("", &backend.address.to_string()));
    let mut clients: Vec<TcpStream> = (0..5).map(|_| connect(program.address())).collect();
    for round in 0..4 {
        let socket = program.socket();
        let outcomes: Vec<Output> = std::thread::scope(|scope| {
            let commands = ["upgrade", "reload", "upgrade", "reload"];
            let running = commands.map(|command| scope.spawn(|| run(&socket, &[command, "--json"])));
            running.map(|command| command.join().unwrap()).into()
        });
        for output in &outcomes {
            if let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout)
                && let Some(pid) = answer["pid"].as_u64()
            {
                program.succeeded_by(u32::try_from(pid).unwrap());
            }
        }
        assert!(outcomes.iter().any(|output| output.status.success()), "{outcomes:?}");
        clients.iter_mut().for_each(|client| exchange(client, format!("{round}").as_bytes()));
    }
    // Who is the process now is found out by asking it.
    assert_eq!(program.upgrade(), 5);
    program.signal(Signal::TERM);
    eventually("it drains", || program.log().contains("stopping: no new sessions"));
    let refused = program.command(&["upgrade"]);
    assert!(!refused.status.success() && text(&refused).contains("draining"), "{}", text(&refused));
    clients.iter_mut().for_each(|client| exchange(client, b"to the end"));
}

fn run(socket: &std::path::Path, command: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(command)
        .env("EVENKEEL_SOCKET", socket)
        .output()
        .unwrap()
}

#[test]
fn at_the_limit_of_open_files_it_succeeds_or_changes_nothing() {
    let backend = Backend::start(echo);
    let yaml = format!("limits: {{ tcp_sessions: 5000 }}\n{}", yaml("", &backend.address.to_string()));
    let program = Program::start_limited(&yaml, Some(200));
    let mut clients = Vec::new();
    // As many as there is room for.
    let admitted = || {
        let mut client = TcpStream::connect(program.address())?;
        client.set_read_timeout(Some(Duration::from_secs(2)))?;
        client.write_all(b"x")?;
        client.read_exact(&mut [0])?;
        client.set_read_timeout(Some(DEADLINE))?;
        std::io::Result::Ok(client)
    };
    while let Ok(client) = admitted() {
        clients.push(client);
    }
    assert!(clients.len() > 20, "{}", clients.len());
    // Room for a command and a line, and not for much more.
    let stay = clients.len() - 5;
    clients.truncate(stay);
    eventually("they have ended", || {
        program.session_lines().iter().filter(|line| line["reason"] == "client_closed").count() >= 5
    });
    let output = program.command(&["upgrade", "--json"]);
    if let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout)
        && let Some(pid) = answer["pid"].as_u64()
    {
        program.succeeded_by(u32::try_from(pid).unwrap());
    }
    clients.iter_mut().for_each(|client| exchange(client, b"on"));
    drop(clients);
    eventually("there is room again", || program.command(&["status"]).status.success());
    program.upgrade();
}

#[test]
fn many_tables_do_not_outlast_the_standstill() {
    let backend = Backend::start(echo);
    // Each of these has a table that takes some 2 ms to fill, together more than the second that a handover may take.
    let pools: String = (0..700)
        .map(|at| {
            format!(
                "  p{at}: {{ balance: source_hash, health: {{ check: off }}, backends: [{{ address: '{}', name: a{at} }}, {{ address: '{}', name: b{at} }}] }}\n",
                backend.address, backend.address
            )
        })
        .collect();
    let program = Program::start(&format!(
        "workers: 1\npools:\n{pools}listeners: {{ door: {{ bind: '127.0.0.1:PORT', pool: p0 }} }}"
    ));
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    assert_eq!(program.upgrade(), 1);
    exchange(&mut client, b"after");
}

/// One session a minute, of the listener or of each source: is the second one refused by the process after the next? `None`: it
/// came too late to tell.
fn is_refused_after_two_upgrades(limits: &str, reason: &str) -> Option<bool> {
    let backend = Backend::start(echo);
    let program = Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }}, limits: {{ {limits} }} }} }}",
        backend.address
    ));
    let began = Instant::now();
    let mut first = connect(program.address());
    exchange(&mut first, b"hello");
    assert_eq!((program.upgrade(), program.upgrade()), (1, 1));
    let is_turned_away = is_turned_away(program.address());
    if began.elapsed() > Duration::from_secs(50) {
        return None;
    }
    let refused = format!("evenkeel_sessions_total{{listener=\"door\",reason=\"{reason}\"}}");
    becomes("it is counted", if is_turned_away { 1.0 } else { 0.0 }, || program.metric(&refused));
    exchange(&mut first, b"still there");
    Some(is_turned_away)
}

#[test]
fn nobody_gets_more_of_a_rate_for_an_upgrade() {
    for (limits, reason) in [("rate: 1/m", "limit_rate"), ("rate_per_source: 1/m", "limit_rate_per_source")] {
        let told = (0..5).find_map(|_| is_refused_after_two_upgrades(limits, reason));
        assert_eq!(told, Some(true), "{limits}");
    }
}
