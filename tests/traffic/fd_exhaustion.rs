//! Too many of them: out of file descriptors the sessions there are go on, and nobody is lost who can wait; silent
//! clients of the admin door lock nobody out.

use std::io::{Read, Write};
use std::time::Duration;

use crate::rig::*;

/// Both parities of what is left at the end: the last descriptor is missing for the accept, or for the dial.
#[test]
fn out_of_descriptors_sessions_go_on_accepting_pauses_and_recovers() {
    for open_files in [160, 161] {
        exhaust(open_files);
    }
}

fn exhaust(open_files: u64) {
    let backend = Backend::start(echo);
    let yaml = format!(
        "workers: 1\nlog: {{ format: json, sessions: off }}\nlimits: {{ tcp_sessions: 5000 }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    );
    let program = Program::start_limited(&yaml, Some(open_files));
    let mut served = Vec::new();
    // Each session takes two descriptors, so at most half of them are served.
    let waiting: Vec<_> = (0..open_files).map(|_| connect(program.address())).collect();
    eventually("accepting pauses", || program.log().contains("accepting pauses"));
    let [thread] = &program.data_threads()[..] else { panic!("one data thread") };
    let cpu_ms = thread.cpu_ms();
    std::thread::sleep(Duration::from_secs(1));
    let spent_ms = thread.cpu_ms() - cpu_ms;
    assert!(spent_ms < 100, "{spent_ms} ms of CPU in a second without descriptors");
    for mut client in waiting {
        // Those that were reset are few: one at a pause.
        let asked = client.write_all(b"?").is_ok();
        client.set_nonblocking(true).unwrap();
        served.push((client, asked));
    }
    std::thread::sleep(Duration::from_millis(500));
    for (client, is_served) in &mut served {
        *is_served &= matches!(client.read(&mut [0; 1]), Ok(1));
    }
    let living = served.iter().filter(|(_, is_served)| *is_served).count();
    assert!(living >= 40, "{living} of {open_files}");
    for (client, _) in served.iter_mut().filter(|(_, is_served)| *is_served) {
        client.set_nonblocking(false).unwrap();
        exchange(client, b"still here");
    }
    drop(served);
    eventually("a new client is served", || {
        let mut client = connect(program.address());
        client.set_nonblocking(true).unwrap();
        is_answered(&mut client)
    });
    eventually("the metrics are there again", || {
        let name = r#"evenkeel_accept_errors_total{listener="door",kind="process_files"}"#;
        program.metric(name) >= 2.0
    });
    let warnings = program.log().matches("accepting pauses").count();
    assert!(warnings <= 1 + 6, "{warnings} warnings although they are limited to one in 10 s");
}

/// What a process that sessions have filled still does for those who look after it.
#[test]
fn full_of_sessions_it_answers_its_operators_and_hands_over() {
    let backend = Backend::start(echo);
    let yaml = format!(
        "workers: 2\nlog: {{ format: json, sessions: off }}\nlimits: {{ tcp_sessions: 5000 }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ interval: 200ms }} }} }}",
        backend.address
    );
    let program = Program::start_limited(&yaml, Some(200));
    assert!(asked(&program, "/readyz").contains("200 OK"));
    let mut clients: Vec<_> = (0..150).map(|_| connect(program.address())).collect();
    eventually("accepting pauses", || program.log().contains("accepting pauses"));
    for client in &mut clients {
        client.set_nonblocking(true).unwrap();
        assert!(client.write_all(b"?").is_ok(), "nobody is reset: who is not served waits");
    }
    let mut served = Vec::new();
    eventually("as many are served as there is room for", || {
        let (here, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut clients)
            .into_iter()
            .partition(|mut client: &std::net::TcpStream| matches!(client.read(&mut [0; 1]), Ok(1)));
        served.extend(here);
        clients = waiting;
        served.len() >= 45
    });
    // A crowd of admin clients takes nothing of what a handover needs.
    let _crowd: Vec<_> = (0..40).map(|_| connect(program.admin())).collect();
    assert!(asked(&program, "/healthz").contains("alive"));
    assert!(asked(&program, "/readyz").contains("503"), "{}", asked(&program, "/readyz"));
    assert_eq!(program.metric("evenkeel_accepting_rests"), 1.0);
    assert!(program.metric("evenkeel_limit_in_use_ratio{limit=\"tcp_sessions\"}") > 0.9);
    assert_eq!(program.status()["accepting_rests"], true);
    let checks = |program: &Program| program.status()["pools"][0]["backends"][0]["checks"].clone();
    let good = checks(&program)["good"].as_u64().unwrap();
    eventually("checks go on", || checks(&program)["good"].as_u64().unwrap() > good + 5);
    assert_eq!(checks(&program)["local"], 0);
    let sessions = program.upgrade();
    assert!(sessions >= served.len() as u64, "{sessions} of {}", served.len());
    for client in &mut served {
        client.set_nonblocking(false).unwrap();
        exchange(client, b"still here");
    }
    assert!(asked(&program, "/healthz").contains("alive"), "the next one is as full, and answers");
    drop((served, clients));
    eventually("it accepts again", || asked(&program, "/readyz").contains("200 OK"));
}

/// What the HTTP door says.
fn asked(program: &Program, path: &str) -> String {
    let mut client = connect(program.admin());
    let mut answer = String::new();
    let asked = client.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
    let _ = asked.and_then(|()| client.read_to_string(&mut answer));
    answer
}

/// Sends a byte and waits a little for its echo.
fn is_answered(client: &mut std::net::TcpStream) -> bool {
    if client.write_all(b"?").is_err() {
        return false;
    }
    for _ in 0..20 {
        match client.read(&mut [0; 1]) {
            Ok(length) => return length == 1,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return false,
        }
    }
    false
}

#[test]
fn silent_clients_of_the_admin_door_lock_no_scraper_out() {
    let backend = Backend::start(echo);
    let program = Program::start(&format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.extend((0..20).map(|_| connect(program.admin())));
        // A scraper who was turned away would have an empty page.
        assert!(program.metric("evenkeel_sessions_active{listener=\"door\"}") == 0.0);
    }
    // 64 of them at most are held.
    assert!(program.open_files() < 64 + 40, "{} files are open", program.open_files());
}
