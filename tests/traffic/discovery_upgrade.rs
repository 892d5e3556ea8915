//! Backends by name, and a process that takes over while nobody answers for the name any more; and what an operator sees.

use crate::names::{Names, Says};
use crate::rig::*;

fn yaml(names: &Names, port: u16) -> String {
    format!(
        "log: {{ sessions: all }}\ndns: {{ servers: '{}', hosts: off, search: [], timeout: 300ms }}\n\
         listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['db.test:{port}'] }} }}",
        names.address
    )
}

#[test]
fn what_was_found_serves_on_after_an_upgrade_while_nobody_answers() {
    let names = Names::start();
    let backend = Backend::start(echo);
    names.has("db.test", &["127.0.0.1"]);
    let program = Program::start(&yaml(&names, backend.address.port()));
    let mut client = connect(program.address());
    exchange(&mut client, b"before");
    names.set("db.test", Says::Silence);
    assert_eq!(program.upgrade(), 1);
    exchange(&mut client, b"after");
    exchange(&mut connect(program.address()), b"new ones too");
    let status = program.status();
    let pool = &status["pools"][0];
    assert_eq!(pool["backends"][0]["name"], backend.address.to_string(), "{pool}");
    assert_eq!(pool["leaving"].as_array().unwrap().len(), 0, "{pool}");
    assert_eq!(pool["sources"][0]["found"], 1);
    eventually("it fails", || program.status()["pools"][0]["sources"][0]["state"] == "failing");
    assert_eq!(program.upgrade(), 1);
    exchange(&mut client, b"and again");
}

#[test]
fn an_operator_sees_how_a_source_stands() {
    let names = Names::start();
    let backend = Backend::start(echo);
    names.has("db.test", &["127.0.0.1"]);
    let port = backend.address.port();
    let program = Program::start(&yaml(&names, port));
    let source = format!("db.test:{port}");
    let shown = program.say(&["sources"]);
    assert!(
        shown.contains(&source) && shown.contains("ok") && shown.contains(&format!("  127.0.0.1:{port}")),
        "{shown}"
    );
    assert!(program.say(&["status"]).contains("SOURCE"));
    let metric = |name: &str| program.metric(&format!("{name}{{pool=\"door\",source=\"{source}\"}}"));
    assert!((metric("evenkeel_discovery_source_up") - 1.0).abs() < f64::EPSILON);
    assert!((metric("evenkeel_discovery_found") - 1.0).abs() < f64::EPSILON);
    names.set("db.test", Says::Code(2));
    program.say(&["refresh"]);
    eventually("it fails", || {
        program.say(&["sources", "door"]).contains("SERVFAIL; the 1 found before stay")
    });
    assert!(!program.command(&["sources", "nowhere"]).status.success());
    let asked = program.say(&["explain", "door", "192.0.2.7", "10.0.0.99:1"]);
    let why = format!("is no backend of the file, and not among the 1 that {source} names");
    assert!(asked.contains(&why), "{asked}");
    let lines = program.json_log();
    let line = lines.iter().find(|line| line["target"] == "discovery" && line["level"] == "WARN");
    assert_eq!(line.unwrap()["message"], "source fails; what it had found stays");
}
