//! Backends changed beside the file: what is served then, how long it lasts, and that nothing else is touched.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::rig::*;

/// Serves `a`; the others come by commands.
fn file(backend: &Backend, more: &str) -> String {
    format!(
        "{more}listeners: {{ door: {{ bind: '127.0.0.1:PORT', pool: p }} }}\n\
         pools: {{ p: {{ balance: first, backends: [{{ address: '{}', name: a }}], health: {{ check: off }} }} }}\n",
        backend.address
    )
}

/// Who answers a new session.
fn answer(program: &Program) -> Vec<u8> {
    said(&mut connect(program.address()))
}

/// What the backend of a session says.
fn said(client: &mut TcpStream) -> Vec<u8> {
    client.write_all(b"?").unwrap();
    let mut letter = vec![0];
    client.read_exact(&mut letter).unwrap();
    letter
}

/// One that says a letter for whatever it hears, and goes on.
fn lettered(letter: u8) -> Backend {
    Backend::start(move |stream| {
        let mut stream = stream;
        let mut heard = [0; 64];
        while stream.read(&mut heard).is_ok_and(|count| count > 0) {
            if stream.write_all(&[letter]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn backends_come_change_and_go_beside_the_file_and_no_session_notices() {
    let (a, b) = (lettered(b'a'), lettered(b'b'));
    let program = Program::start(&file(&a, ""));
    let mut old = connect(program.address());
    assert_eq!(said(&mut old), b"a");
    let b_at = b.address.to_string();
    let told = program.say(&["add", "p", &b_at, "name=b", "tier=1"]);
    assert!(told.contains("pool p backend b added"), "{told}");
    program.say(&["drain", "p/a"]);
    assert_eq!(answer(&program), b"b");
    assert_eq!(said(&mut old), b"a", "it stays where it is");
    program.say(&["ready", "p/a"]);
    assert_eq!(answer(&program), b"a");
    assert_eq!(program.say(&["remove", "p/a"]), "pool p backend a removed\n");
    assert_eq!(answer(&program), b"b");
    assert_eq!(said(&mut old), b"a", "on_removed: keep");
    let status = program.say(&["status"]);
    for line in
        ["+ p/b  added with name: b, tier: 1, by ", "- p/a  removed, by ", "evenkeel reset p takes it back"]
    {
        assert!(status.contains(line), "{status}");
    }
    let why = program.say(&["explain", "door", "192.0.2.1"]);
    assert!(
        why.contains("removed at run time by") && why.contains("`evenkeel reset p/a` brings it back"),
        "{why}"
    );
    assert_eq!(program.metric("evenkeel_run_time_changes"), 2.0);
    let diff = program.command(&["diff"]);
    assert_eq!(diff.status.code(), Some(1));
    let text = String::from_utf8(diff.stdout).unwrap();
    assert!(
        text.starts_with("changed at run time; a reload keeps it") && text.contains("\n- p/a  removed"),
        "{text}"
    );
    program.say(&["reset", "p"]);
    assert_eq!(answer(&program), b"a");
    assert_eq!(said(&mut old), b"a", "the backend that came back has its session again");
    assert!(program.say(&["diff"]).starts_with("no difference"), "all is as in the file");
}

#[test]
fn what_the_file_says_meanwhile_waits_for_its_reload_and_has_the_last_word_then() {
    let (a, b) = (lettered(b'a'), lettered(b'b'));
    let program = Program::start(&file(&a, ""));
    let b_at = b.address.to_string();
    // A typo, which nobody has reloaded.
    let right = program.file();
    program.write_file(&right.replace("balance", "blance"));
    program.say(&["add", "p", &b_at, "name=b"]);
    program.say(&["set", "p/a", "max_sessions=7"]);
    let pool = program.status()["pools"][0].clone();
    assert_eq!(pool["backends"][0]["max_sessions"], 7, "{pool:#}");
    assert_eq!(pool["at_run_time"][1]["keys"]["max_sessions"], "7", "{pool:#}");
    let refused = program.command(&["reload"]);
    assert_eq!(refused.status.code(), Some(78));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("1 mistake; the file was not used"), "{text}");
    // Something else of the file: the changes stay.
    program.write_file(&right.replace("balance: first", "balance: round_robin"));
    program.say(&["reload"]);
    let pool = program.status()["pools"][0].clone();
    assert_eq!(
        (pool["balance"].as_str(), pool["backends"].as_array().unwrap().len()),
        (Some("round_robin"), 2)
    );
    // The file has it, under the same name or another: then it is the file's.
    let more = format!("name: a }}, {{ address: '{b_at}', name: other }}");
    program.write_file(&right.replace("name: a }", &more));
    let told = program.say(&["check", "--against-running"]);
    assert!(told.contains("a change at run time ends: p/b: the file has its address now"), "{told}");
    program.say(&["reload"]);
    eventually("it is logged", || program.log().contains("p/b: the file has its address now"));
    let pool = program.status()["pools"][0].clone();
    assert_eq!(pool["backends"][1]["name"], "other");
    assert_eq!(pool["at_run_time"].as_array().unwrap().len(), 1, "{pool:#}");
    program.write_file(&right.replace("name: a }", "name: a, max_sessions: 9 }"));
    program.say(&["reload"]);
    let pool = program.status()["pools"][0].clone();
    assert_eq!(
        (&pool["backends"][0]["max_sessions"], &pool["at_run_time"]),
        (&9.into(), &serde_json::json!([]))
    );
}

#[test]
fn what_the_file_would_refuse_is_refused_and_changes_nothing() {
    let a = lettered(b'a');
    let program = Program::start(&file(&a, ""));
    let at = a.address.to_string();
    let cases: [(&[&str], i32, &str); 9] = [
        (&["add", "p", "10.0.0.300:1"], 64, "`10.0.0.300` is not an IP address"),
        (&["add", "p", "10.0.0.3:1", "wieght=2"], 64, "`weight`"),
        (&["add", "p", "10.0.0.3:1", "weight="], 64, "`weight=` is no KEY=VALUE"),
        (&["add", "p", &at], 64, "is there already, as p/a"),
        (&["add", "nobody", "10.0.0.3:1"], 1, "there is no pool `nobody`"),
        (&["add", "p", "weight=2"], 64, "an address is missing"),
        (&["set", "p/a", "weight"], 64, "`weight` is no KEY=VALUE"),
        (&["remove", "p/a"], 64, "it is the last of pool `p`"),
        (&["reset", "p/b"], 1, "neither the file nor a command has a backend `b`"),
    ];
    let before = program.status()["pools"][0]["backends"].clone();
    for (command, code, expected) in cases {
        let output = program.command(command);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {told}");
        assert!(told.contains(expected), "{command:?}: {told}");
    }
    let pool = program.status()["pools"][0].clone();
    assert_eq!(
        (pool["backends"].as_array().unwrap().len(), &pool["at_run_time"]),
        (1, &serde_json::json!([]))
    );
    assert_eq!(before[0]["name"], pool["backends"][0]["name"]);
    assert!(
        !program.say(&["add", "p", "10.0.0.3:1", "--json"]).contains("\"not_kept\":null"),
        "there is no folder"
    );
}

#[test]
fn changes_outlive_upgrades_stops_and_crashes() {
    let (a, b) = (lettered(b'a'), lettered(b'b'));
    let folder = tempfile::tempdir().unwrap();
    let script = format!("STATE_DIRECTORY='{}' exec \"$@\"", folder.path().display());
    let program = Program::start_under(&script, &file(&a, "shutdown: { grace: 1s }\n"));
    let mut old = connect(program.address());
    assert_eq!(said(&mut old), b"a");
    program.say(&["add", "p", &b.address.to_string(), "name=b"]);
    program.say(&["remove", "p/a"]);
    assert_eq!(program.upgrade(), 1);
    assert_eq!(answer(&program), b"b", "the next process knows");
    assert_eq!(said(&mut old), b"a");
    assert!(program.say(&["status"]).contains("- p/a  removed, by "));
    assert!(program.command(&["diff"]).status.code() == Some(1));
    program.say(&["reload"]);
    assert_eq!(answer(&program), b"b", "and goes on with it");
    program.signal(Signal::KILL);
    drop(program);
    let again = Program::start_under(&script, &file(&a, ""));
    assert_eq!(answer(&again), b"b", "and the one after a crash");
    again.say(&["reset", "p"]);
    assert_eq!(answer(&again), b"a");
    assert!(!folder.path().join("run-time.json").exists());
}

#[test]
fn what_was_kept_and_does_not_go_with_the_file_stops_no_start() {
    let (a, b) = (lettered(b'a'), lettered(b'b'));
    let folder = tempfile::tempdir().unwrap();
    let script = format!("STATE_DIRECTORY='{}' exec \"$@\"", folder.path().display());
    let at = b.address;
    let kept = format!(
        r#"{{"evenkeel_run_time":1,"changes":[{{"pool":"p","backend":"b","by":"x","since_s":1,"added":{{"address":"{at}","keys":[["wait","9"]]}}}}]}}"#
    );
    std::fs::write(folder.path().join("run-time.json"), kept).unwrap();
    let program = Program::start_under(&script, &file(&a, ""));
    assert_eq!(answer(&program), b"a");
    assert!(program.log().contains("what was changed at run time does not go together with the file"));
}
