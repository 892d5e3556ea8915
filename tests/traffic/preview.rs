//! What a reload would do, told before it is done: `diff` and `check --against-running`.

use crate::rig::*;

fn file(backends: &[&Backend], keys: &str) -> String {
    let list: Vec<String> = backends.iter().map(|one| format!("{{ address: '{}' }}", one.address)).collect();
    format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', pool: p }} }}\n\
         pools: {{ p: {{ balance: source_hash, {keys} health: {{ check: off }}, backends: [{}] }} }}",
        list.join(", ")
    )
}

/// The file of the program with another list of pools.
fn with_pools(program: &Program, other: &str) -> String {
    let now = program.file();
    let pools = |text: &str| text.lines().find(|line| line.starts_with("pools:")).unwrap().to_owned();
    now.replace(&pools(&now), &pools(other))
}

fn ran(program: &Program, args: &[&str]) -> (Option<i32>, String) {
    let output = program.command(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_reload_is_told_before_it_is_done() {
    let backends: Vec<Backend> = (0..4).map(|_| Backend::start(echo)).collect();
    let all: Vec<&Backend> = backends.iter().collect();
    let program = Program::start(&file(&all, ""));
    let (code, said) = ran(&program, &["diff"]);
    assert!(code == Some(0) && said.contains("no difference"), "{said}");
    assert_eq!(program.say(&["check", "--against-running"]).trim(), "a reload would change nothing");

    let mut living = connect(program.address());
    exchange(&mut living, b"here");
    let status = program.status();
    let used =
        status["pools"][0]["backends"].as_array().unwrap().iter().position(|one| one["active"] == 1).unwrap();
    let rest: Vec<&Backend> =
        all.iter().enumerate().filter(|(at, _)| *at != used).map(|(_, one)| *one).collect();
    program.write_file(&with_pools(&program, &file(&rest, "on_removed: close, ")));
    let (code, said) = ran(&program, &["diff"]);
    let gone = all[used].address;
    assert_eq!(code, Some(1), "{said}");
    for expected in ["--- served", "~ pool p", "    + on_removed: close", &format!("    - backends.{gone}")] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let said = program.say(&["check", "--against-running"]);
    assert!(said.contains(&format!("backend p/{gone} leaves; its sessions end (1 now)")), "{said}");
    assert!(said.contains("1 sessions would end; all others stay"), "{said}");
    let percent: f64 = said.split("pool p: ").nth(1).unwrap().split(" %").next().unwrap().parse().unwrap();
    assert!((20.0..30.0).contains(&percent), "a quarter has another backend: {said}");
    // Told, and not done.
    exchange(&mut living, b"still");
    program.say(&["reload"]);
    eventually("its sessions end", || {
        use std::io::{Read, Write};
        living.write_all(b"x").is_err() || matches!(living.read(&mut [0; 8]), Ok(0) | Err(_))
    });
    assert_eq!(ran(&program, &["diff"]).0, Some(0));

    program.write_file(&program.file().replace("source_hash", "source_hsh"));
    let (code, said) = ran(&program, &["diff"]);
    assert!(code == Some(2) && said.contains("did you mean `source_hash`?"), "{said}");
    assert_eq!(ran(&program, &["check", "--against-running"]).0, Some(78));
    program.write_file(&format!("workers: 63\n{}", program.file().replace("source_hsh", "source_hash")));
    let said = program.say(&["check", "--against-running"]);
    assert!(said.contains("refused  `workers` cannot change while the program runs"), "{said}");
    assert_eq!(ran(&program, &["diff"]).0, Some(1));
    let nobody = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["check", "--against-running", "--socket", "/nonexistent/admin.sock"])
        .status()
        .unwrap();
    assert_eq!(nobody.code(), Some(69));
}
