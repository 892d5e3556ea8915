//! The command line as people meet it: exit codes, help, output that nobody reads or that finds no room, Ctrl-C.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn evenkeel(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(args).env_remove("EVENKEEL_SOCKET").env("XDG_RUNTIME_DIR", "/nonexistent");
    command
}

/// Exit code and what was said on standard error.
#[track_caller]
fn outcome(args: &[&str]) -> (i32, String) {
    let output = evenkeel(args).output().unwrap();
    (output.status.code().expect("no signal"), String::from_utf8(output.stderr).unwrap())
}

fn good_file() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.yaml");
    std::fs::write(&path, "listeners: { redis: { bind: 6379, backends: [10.0.0.1:6379] } }\n").unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn exit_codes_tell_the_kind_of_trouble() {
    let (folder, good) = good_file();
    assert_eq!(outcome(&["check", &good]).0, 0);
    for wrong in [
        &["serve"][..],
        &["check", "--fast"],
        &[],
        &["drain"],
        &["explain", "a"],
        &["drain", "p/b", "--timeout", "1m"],
    ] {
        assert_eq!(outcome(wrong).0, 64, "{wrong:?}");
    }
    let bad = folder.path().join("bad.yaml").display().to_string();
    std::fs::write(&bad, "listeners: { a: { bind: 80 } }\n").unwrap();
    assert_eq!(outcome(&["check", &bad]).0, 78);
    assert_eq!(outcome(&["run", "--config", &bad]).0, 78);
    for nothing in ["/nonexistent/x.yaml", &folder.path().display().to_string(), "/dev/null"] {
        let (code, said) = outcome(&["check", nothing]);
        assert_eq!(code, 78, "{nothing}: {said}");
        assert!(said.contains(nothing), "{said}");
    }
    let (code, said) = outcome(&["check", "/dev/zero"]);
    assert!(code == 78 && said.lines().all(|line| line.len() < 400), "{said}");
    let (code, said) = outcome(&["status", "--socket", "/nonexistent/admin.sock"]);
    assert_eq!(code, 69);
    assert!(said.contains("/nonexistent/admin.sock") && said.contains("--socket PATH"), "{said}");
}

/// What people type out of habit does what they mean.
#[test]
fn command_lines_of_other_balancers_are_understood() {
    let (_folder, good) = good_file();
    for habit in [
        &["-c", "-f", &good][..],
        &["-t", "-c", &good],
        &["check", "-f", &good],
        &["check", "--config", &good],
    ] {
        let output = evenkeel(habit).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("no mistakes"), "{habit:?}: {output:?}");
    }
    let bad = "listeners: { a: { bind: 80 } }\n";
    for (text, code) in [(std::fs::read_to_string(&good).unwrap(), 0), (bad.to_owned(), 78)] {
        let mut check = evenkeel(&["check", "-"]);
        let mut check =
            check.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut check.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let said =
            String::from_utf8_lossy(if code == 0 { &output.stdout } else { &output.stderr }).into_owned();
        assert!(said.contains(if code == 0 { "no mistakes" } else { "--> standard input:1:" }), "{said}");
    }
    let said = String::from_utf8(evenkeel(&["-vv"]).output().unwrap().stdout).unwrap();
    assert!(said.starts_with("evenkeel "), "{said}");
    assert_eq!(outcome(&["-s", "stop"]).0, 64);
    let said = String::from_utf8(evenkeel(&["keys", "maxconn"]).output().unwrap().stdout).unwrap();
    assert!(said.starts_with("`maxconn` of HAProxy is `max_sessions`"), "{said}");
}

#[test]
fn keys_tells_where_a_key_stands_and_what_it_may_be() {
    let said = |args: &[&str]| String::from_utf8(evenkeel(args).output().unwrap().stdout).unwrap();
    let interval = said(&["keys", "health.interval"]);
    for part in [
        "pools.NAME.health.interval\n",
        "100ms to 1h",
        "default    2s",
        "tcp udp",
        "defaults.pool.health.interval",
    ] {
        assert!(interval.contains(part), "{part}: {interval}");
    }
    let all = said(&["keys"]);
    for part in ["the file\nKEY", "\nlisteners.NAME.timeouts\nKEY", "\nhalf_closed "] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(all.lines().all(|line| line.chars().count() <= 100), "{all}");
    let rows: serde_json::Value = serde_json::from_str(&said(&["keys", "max_ejected", "--json"])).unwrap();
    let row = &rows[0];
    assert_eq!((&row["path"], &row["default"]), (&"pools.NAME.passive.max_ejected".into(), &"50%".into()));
    let every: serde_json::Value = serde_json::from_str(&said(&["keys", "--json"])).unwrap();
    assert!(every.as_array().unwrap().len() > 90, "{every}");
    let (code, told) = outcome(&["keys", "wieght"]);
    assert!(code == 1 && told.contains("did you mean `weight`?"), "{code} {told}");
    let (code, told) = outcome(&["keys", "\x1b[31m"]);
    assert!(code == 1 && !told.contains('\x1b'), "{code} {told}");
    assert_eq!(outcome(&["keys", "a", "b"]).0, 64);
}

#[test]
fn help_fits_the_screen_and_every_command_shows_an_example() {
    let help = |args: &[&str]| String::from_utf8(evenkeel(args).output().unwrap().stdout).unwrap();
    let top = help(&["--help"]);
    let commands: Vec<&str> = top
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() >= 18, "{commands:?}");
    for command in commands {
        let text = help(&[command, "--help"]);
        assert!(text.contains("Example"), "{command}:\n{text}");
        for line in text.lines().chain(top.lines()) {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (_folder, good) = good_file();
    for args in
        [&["check", &good][..], &["schema"], &["keys"], &["man"], &["completions", "bash"], &["--help"]]
    {
        let mut child = evenkeel(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn what_finds_no_room_is_a_failure_that_says_so() {
    let (_folder, good) = good_file();
    let helps = [&["--help"][..], &["help"], &["run", "--help"], &["--version"]];
    let all = [&["check", &good][..], &["schema"], &["keys"], &["keys", "idle", "--json"], &["man"]];
    for args in all.into_iter().chain(helps) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = evenkeel(args).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("standard output cannot be written: No space left"), "{said}");
    }
}

#[test]
fn a_demo_that_stays_ends_with_its_reader() {
    let mut demo = evenkeel(&["demo", "--stay"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(demo.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("three echo backends"), "{first}");
    assert_eq!(ends(&mut demo), Some(0), "nobody would see it serve on");
}

#[test]
fn ctrl_c_ends_the_demo_wherever_it_is() {
    let mut demo = evenkeel(&["demo"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    kill_process(Pid::from_raw(i32::try_from(demo.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    assert_eq!(ends(&mut demo), Some(0));
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(!rest.iter().any(|line| line.contains("AFTER")), "it went on to its end: {rest:?}");
}

/// The exit code, once it has ended.
fn ends(child: &mut std::process::Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn several_files_and_variables_are_checked_as_they_would_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(at("conf.d")).unwrap();
    std::fs::write(
        at("main.yaml"),
        "listeners: { a: { bind: '${DOOR_PORT:-80}', pool: p } }\nworkers: ${COUNT_KEY:-2}\n",
    )
    .unwrap();
    std::fs::write(at("conf.d/b.yaml"), "pools: { p: { backends: ['10.0.0.1:1'] } }\n").unwrap();
    std::fs::write(at("conf.d/b.yaml~"), "").unwrap();
    let check = |args: &[&str], port: Option<&str>| {
        let mut command = evenkeel(args);
        command.env_remove("DOOR_PORT").env("COUNT_KEY", "3");
        port.map(|port| command.env("DOOR_PORT", port));
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, said, told) = check(&["check", &at("main.yaml")], None);
    assert_eq!(code, Some(0), "{told}");
    for expected in [
        "DOOR_PORT  80 (not set: the default)",
        "not shown",
        "main.yaml:1:",
        "b.yaml~: not read",
        "conf.d/b.yaml: no mistakes",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let (_, said, _) = check(&["check", &at("conf.d"), &at("main.yaml")], Some("5432"));
    assert!(said.contains("5432") && !said.contains("not set"), "{said}");
    // Alone it lacks its pool, since whoever names several says all.
    let (code, _, told) = check(&["check", &at("main.yaml"), &at("main.yaml")], None);
    assert!(code == Some(78) && told.contains("are the same file"), "{told}");
    let (code, _, told) = check(&["check", &at("main.yaml"), &at("nothing.yaml")], None);
    assert!(code == Some(78) && told.contains("nothing.yaml"), "{told}");
    let (code, _, told) = check(&["-c", "-f", &at("main.yaml"), "-f", &at("conf.d")], Some("x"));
    assert!(code == Some(78) && told.contains("`${DOOR_PORT}` is `x` in the environment"), "{told}");
    let (code, _, told) = check(&["run", "-f", &at("main.yaml"), "-f", &at("conf.d")], Some("x"));
    assert!(code == Some(78) && told.contains("main.yaml:1:25"), "{told}");
}

#[test]
fn an_import_that_nothing_came_of_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (theirs, ours) = (path("haproxy.cfg"), path("evenkeel.yaml"));
    std::fs::write(&theirs, "frontend web\n  mode http\n  bind :80\n").unwrap();
    let import = ["import", &theirs, "--from", "haproxy", "--output", &ours];
    for _ in 0..2 {
        let (code, said) = outcome(&import);
        assert!(code == 1 && said.contains("evenkeel.yaml was not written"), "{said}");
        assert!(!std::path::Path::new(&ours).exists());
    }
    std::fs::write(&theirs, "listen web\n  mode tcp\n  bind :80\n  server a 10.0.0.1:80\n").unwrap();
    let (code, said) = outcome(&import);
    assert_eq!(code, 0, "{said}");
    let (code, said) = outcome(&import);
    assert!(code == 1 && said.contains("is there already; nothing was written"), "{said}");
}
