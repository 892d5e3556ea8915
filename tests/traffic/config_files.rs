//! A configuration of several files: a folder beside the file is read at a reload, one that is half written changes nothing, and
//! whoever takes over reads the same files.

use std::fs;
use std::path::PathBuf;

use crate::ports::free_port;
use crate::rig::*;

fn folder_of(program: &Program) -> PathBuf {
    program.socket().parent().unwrap().join("conf.d")
}

fn listener(name: &str, port: u16, backend: &Backend) -> String {
    format!(
        "listeners: {{ {name}: {{ bind: '127.0.0.1:{port}', pool: {name} }} }}\npools: {{ {name}: {{ backends: ['{}'] }} }}\n",
        backend.address
    )
}

fn files(program: &Program) -> Vec<String> {
    let status = program.status();
    let names = status["config"]["files"].as_array().unwrap().iter();
    names.map(|name| name.as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_folder_beside_the_file_comes_and_goes_with_reloads() {
    let (first, second) = (Backend::start(answer_with("first")), Backend::start(answer_with("second")));
    let program = Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'] }} }}",
        first.address
    ));
    assert_eq!(files(&program), ["evenkeel.yaml"]);
    let (folder, port) = (folder_of(&program), free_port());
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("more.yaml"), listener("more", port, &second)).unwrap();
    fs::write(folder.join("more.yaml.new"), "nonsense: [").unwrap();
    let said = program.say(&["reload"]);
    assert!(said.contains("listener more added") && said.contains("pool more added"), "{said}");
    let more = ([127, 0, 0, 1], port).into();
    eventually("the new listener serves", || short_session(more).is_ok_and(|said| said == "second"));
    assert_eq!(files(&program), ["evenkeel.yaml", "more.yaml"]);
    assert!(program.say(&["status"]).contains("conf.d/more.yaml"));
    assert!(program.log().contains("conf.d/more.yaml"), "the reload's line names the files");

    // Half written: told with its own place, and what was served goes on.
    for half in ["", "listeners: { more: { bi"] {
        fs::write(folder.join("zhalf.yaml"), half).unwrap();
        let refused = program.command(&["reload"]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(78), "{told}");
        assert!(told.contains("conf.d/zhalf.yaml"), "{told}");
        assert_eq!(short_session(more).unwrap(), "second");
    }
    let line =
        |line: &serde_json::Value| line["file"].as_str().is_some_and(|file| file.ends_with("zhalf.yaml"));
    assert!(program.json_log().iter().any(line), "{}", program.log());
    fs::remove_file(folder.join("zhalf.yaml")).unwrap();

    // The next process finds the same.
    program.upgrade();
    assert_eq!(short_session(more).unwrap(), "second");
    assert_eq!(files(&program), ["evenkeel.yaml", "more.yaml"]);
    assert_eq!(program.say(&["reload"]).trim(), "nothing changed");
    fs::remove_file(folder.join("more.yaml")).unwrap();
    assert!(program.say(&["reload"]).contains("listener more removed"));
    assert_eq!(files(&program), ["evenkeel.yaml"]);
}

#[test]
fn a_variable_of_the_environment_is_served_over_a_reload_and_an_upgrade() {
    let backend = Backend::start(answer_with("named"));
    // The rig lets the child have what this process has: PATH is always set, and no address.
    let yaml = format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: [{{ address: '{}', name: 'x${{EVENKEEL_UNSET:-named}}' }}] }} }}",
        backend.address
    );
    let program = Program::start(&yaml);
    let name = || program.status()["pools"][0]["backends"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(name(), "xnamed");
    assert_eq!(program.say(&["reload"]).trim(), "nothing changed");
    program.upgrade();
    assert_eq!((name(), short_session(program.address()).unwrap()), ("xnamed".into(), "named".into()));
    assert_eq!(program.say(&["reload"]).trim(), "nothing changed");
    program.write_file(&program.file().replace(":-named", ""));
    let refused = program.command(&["reload"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(78) && told.contains("`${EVENKEEL_UNSET}` is not set"), "{told}");
    assert_eq!(short_session(program.address()).unwrap(), "named");
}
