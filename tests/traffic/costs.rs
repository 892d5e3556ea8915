//! What sessions cost in memory.

use crate::rig::*;

fn program(backend: &Backend) -> Program {
    Program::start(&format!(
        "workers: 2\nlog: {{ sessions: off }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', timeouts: {{ idle: 1h }}, backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ))
}

#[test]
fn an_idle_session_costs_at_most_two_kib() {
    const SESSIONS: usize = 4_000;
    // One backend thread for all of them: it only keeps what it accepts.
    let backend = Keeper::start();
    let program = Program::start(&format!(
        "workers: 2\nlog: {{ sessions: off }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', timeouts: {{ idle: 1h }}, backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    // What a first session brings into memory is not the sessions' own.
    let mut clients = vec![connect(program.address())];
    let active = r#"evenkeel_sessions_active{listener="door"}"#;
    eventually("one session", || program.metric(active) == 1.0);
    let before_kib = program.private_kib();
    clients.extend((1..SESSIONS).map(|_| connect(program.address())));
    eventually("all sessions", || program.metric(active) == SESSIONS as f64 && backend.kept() == SESSIONS);
    let grown_bytes = (program.private_kib() - before_kib) * 1024;
    let each = grown_bytes / SESSIONS as u64;
    eprintln!("{each} bytes for each idle session");
    assert!(each <= 2_048, "{each} bytes for each idle session");
}

#[test]
fn memory_does_not_grow_with_the_sessions_that_were() {
    let backend = Backend::start(answer_with("word"));
    let program = program(&backend);
    let address = program.address();
    let run = |sessions: usize| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    for _ in 0..sessions / 4 {
                        assert_eq!(short_session(address).unwrap(), "word");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        program.private_kib()
    };
    let after_few = run(4_000);
    let after_many = run(16_000);
    assert!(
        after_many <= after_few + 256,
        "{after_few} KiB after 4,000 sessions, {after_many} KiB after 20,000"
    );
}
