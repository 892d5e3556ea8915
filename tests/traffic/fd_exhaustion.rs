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
