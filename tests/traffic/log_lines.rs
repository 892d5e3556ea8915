//! The session lines of the real program under load: every one parses, and they add up to the counters.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::rig::*;

#[test]
fn lines_add_up_to_the_counters_by_reason_and_bytes() {
    const SESSIONS: usize = 2_000;
    let backend = Backend::start(|mut stream| {
        let mut kind = [0];
        if stream.read_exact(&mut kind).is_err() {
            return;
        }
        let _ = stream.write_all(&pattern(usize::from(kind[0]) * 100));
        if kind[0] % 5 == 0 {
            reset(stream);
        }
    });
    let mut program = Program::start(&format!(
        "workers: 2\nlog: {{ format: json, sessions: all }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', connect: {{ attempts: 2 }}, backends: ['{}', '{}'], health: {{ check: off }} }} }}",
        backend.address,
        closed_address()
    ));
    let address = program.address();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                for round in 0..SESSIONS / 4 {
                    let mut client = connect(address);
                    let kind = u8::try_from((round * 7 + thread) % 251).unwrap();
                    let _ = client.write_all(&[kind]);
                    match round % 3 {
                        0 => reset(client),
                        1 => drop(client),
                        _ => {
                            let _ = client.read_to_end(&mut Vec::new());
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    eventually("all have ended", || {
        let ended = total(&program.metrics(), "evenkeel_sessions_total");
        let aborted = program.metric(r#"evenkeel_accept_errors_total{listener="door",kind="aborted"}"#);
        ended + aborted == SESSIONS as f64
    });
    let metrics = program.metrics();
    assert_eq!(metrics["evenkeel_log_lines_dropped_total"], 0.0);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    let lines = program.session_lines();
    let mut by_reason: BTreeMap<String, f64> = BTreeMap::new();
    let (mut to_backend, mut to_client, mut attempts) = (0.0, 0.0, 0.0);
    for line in &lines {
        *by_reason.entry(line["reason"].as_str().unwrap().to_owned()).or_default() += 1.0;
        to_backend += line["to_backend"].as_f64().unwrap();
        to_client += line["to_client"].as_f64().unwrap();
        attempts += line["attempts"].as_f64().unwrap();
        for field in ["listener", "proto", "client", "pool", "backend"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
        assert!(line["ms"].as_f64().unwrap() >= 0.0);
    }
    assert!(by_reason.len() >= 3, "mixed endings: {by_reason:?}");
    for (reason, count) in &by_reason {
        let name = format!(r#"evenkeel_sessions_total{{listener="door",reason="{reason}"}}"#);
        assert_eq!(metrics[&name], *count, "{reason}");
    }
    assert_eq!(by_reason.values().sum::<f64>(), total(&metrics, "evenkeel_sessions_total"));
    assert_eq!(metrics[r#"evenkeel_bytes_total{listener="door",direction="to_backend"}"#], to_backend);
    assert_eq!(metrics[r#"evenkeel_bytes_total{listener="door",direction="to_client"}"#], to_client);
    // First attempts and retries are all attempts there were.
    assert_eq!(total(&metrics, "evenkeel_retries_total") + lines.len() as f64, attempts);
}

#[test]
fn a_flood_of_refusals_has_few_lines_that_still_add_up() {
    const CLIENTS: usize = 3_000;
    let mut program = Program::start(&format!(
        "workers: 2\nlog: {{ format: json, sessions: failed }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', backends: [{{ address: '{}', weight: 0 }}, {{ address: '127.0.0.2:9', weight: 0 }}], health: {{ check: off }} }} }}",
        closed_address()
    ));
    let began = std::time::Instant::now();
    for _ in 0..CLIENTS {
        if let Ok(mut client) = TcpStream::connect(program.address()) {
            let _ = client.read(&mut [0]);
        }
    }
    let name = r#"evenkeel_sessions_total{listener="door",reason="no_backend"}"#;
    let aborted = r#"evenkeel_accept_errors_total{listener="door",kind="aborted"}"#;
    eventually("all are refused", || program.metric(name) + program.metric(aborted) == CLIENTS as f64);
    let refused = program.metric(name);
    let seconds = began.elapsed().as_secs() + 2;
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    let lines = program.session_lines();
    let (summaries, single): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["sessions"].is_number());
    assert!(single.len() as u64 <= 10 * seconds, "{} lines in {seconds} s", single.len());
    assert!(!summaries.is_empty());
    let summed: f64 = summaries.iter().map(|line| line["sessions"].as_f64().unwrap()).sum();
    assert_eq!(single.len() as f64 + summed, refused);
    assert!(lines.iter().all(|line| line["reason"] == "no_backend" && line["listener"] == "door"));
}

fn total(metrics: &BTreeMap<String, f64>, name: &str) -> f64 {
    metrics.iter().filter(|(key, _)| key.starts_with(&format!("{name}{{"))).map(|(_, value)| value).sum()
}
