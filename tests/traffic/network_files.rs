//! Files of networks in `allow` and `deny`: read again when they change, swapped in without a reload, and never worse than they
//! were: one that is wrong, half written or gone leaves what was served.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rig::*;

/// Replaces it at once, as whoever is careful does.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn start(list: &Path, backend: &Backend, key: &str) -> Program {
    Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], {key}: {{ file: '{}' }} }} }}",
        backend.address,
        list.display()
    ))
}

fn comes_in(program: &Program) -> bool {
    short_session(program.address()).is_ok_and(|said| said == "in")
}

fn list() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.txt");
    fs::write(&path, "# those that may not\n192.0.2.0/24\n").unwrap();
    (folder, path)
}

fn failure(program: &Program) -> serde_json::Value {
    program.status()["network_files"][0]["failure"].clone()
}

#[test]
fn a_list_that_changes_is_served_and_what_is_there_stays() {
    let backend = Backend::start(|mut stream| {
        use std::io::Write;
        let _ = stream.write_all(b"in");
        echo(stream);
    });
    let (_folder, path) = list();
    let program = start(&path, &backend, "deny");
    let mut living = connect(program.address());
    let mut greeting = [0; 2];
    std::io::Read::read_exact(&mut living, &mut greeting).unwrap();
    let enters = || {
        // The refusal may be there before the connect has returned.
        let stream = std::net::TcpStream::connect(program.address());
        stream.is_ok_and(|mut stream| std::io::Read::read_exact(&mut stream, &mut [0; 2]).is_ok())
    };
    assert!(enters());
    write(&path, "# those that may not\n\n127.0.0.0/8 # us\n");
    eventually("the list keeps us out", || !enters());
    let told = program.say(&["explain", "door", "127.0.0.1"]);
    assert!(told.contains(&format!("127.0.0.0/8 in `deny`, {}:3", path.display())), "{told}");
    exchange(&mut living, b"still there");

    // Wrong, empty and gone: as it was.
    for (text, why) in
        [(Some("127.0.0.0/8\n10.0.0.1/8\n"), "list.txt:2:1"), (Some(""), "is empty"), (None, "No such file")]
    {
        match text {
            Some(text) => write(&path, text),
            None => fs::remove_file(&path).unwrap(),
        }
        eventually("it is refused", || failure(&program).as_str().is_some_and(|told| told.contains(why)));
        assert!(!enters(), "{why}");
        assert!(program.say(&["status"]).contains("is refused since"));
        let refused = program.command(&["reload"]);
        assert_eq!(refused.status.code(), Some(78), "a reload is refused as well");
        assert!(program.command(&["upgrade"]).status.code() == Some(1) && !enters());
    }
    let file = format!("{{file=\"{}\"}}", path.display());
    assert!(program.metric(&format!("evenkeel_network_file_failures_total{file}")) >= 3.0);
    assert_eq!(program.metric(&format!("evenkeel_network_file_entries{file}")), 1.0);
    write(&path, "# nobody\n");
    eventually("everybody comes in", enters);
    assert_eq!(failure(&program), serde_json::Value::Null);
    exchange(&mut living, b"still there");
    assert_eq!(program.say(&["reload"]).trim(), "nothing changed");
    program.upgrade();
    write(&path, "127.0.0.1\n");
    eventually("the next process looks as well", || !enters());
    exchange(&mut living, b"still there");
}

#[test]
fn a_list_of_allow_that_names_nobody_lets_nobody_in() {
    let backend = Backend::start(answer_with("in"));
    let (_folder, path) = list();
    let program = start(&path, &backend, "allow");
    assert!(!comes_in(&program));
    let told = program.say(&["explain", "door", "127.0.0.1"]);
    assert!(told.contains("it is in no network of `allow`"), "{told}");
    write(&path, "127.0.0.1\n");
    eventually("we come in", || comes_in(&program));
    write(&path, "# nobody\n");
    eventually("nobody comes in", || !comes_in(&program));
}
