//! `evenkeel follow`: what is done when clients may be sent to this machine and when they may not, and that a restart and an
//! upgrade are nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::rig::*;

/// A follower, ended when dropped.
struct Follower {
    child: Child,
    folder: tempfile::TempDir,
}

impl Follower {
    /// Of the balancer at this socket, with these commands, in which `DIR` stands for its folder.
    fn start(socket: &Path, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let dir = folder.path().display().to_string();
        let arguments = arguments.iter().map(|argument| argument.replace("DIR", &dir));
        let child = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
            .args(["follow", "--socket"])
            .arg(socket)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// One that writes each change down, with what is known of it.
    fn of_changes(socket: &Path, more: &[&str]) -> Self {
        let write = "echo $EVENKEEL_READY $EVENKEEL_WHY >>DIR/changes";
        let file = ["--ready", write, "--unready", write, "--file", "DIR/file"];
        Self::start(socket, &[&file, more].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn changes(&self) -> Vec<String> {
        self.read("changes").lines().map(str::to_owned).collect()
    }

    /// The last of so many changes begins so.
    fn becomes(&self, count: usize, begin: &str) {
        eventually(&format!("change {count} is {begin}: {}", self.read("log")), || {
            let changes = self.changes();
            changes.len() == count && changes[count - 1].starts_with(begin)
        });
        eventually("the file says it", || {
            self.read("file") == if begin.starts_with('1') { "0\n" } else { "1\n" }
        });
    }

    fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(backend: &Backend, more: &str) -> String {
    format!(
        "{more}listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: ['{}'], health: {{ interval: 200ms }} }} }}",
        backend.address
    )
}

#[test]
fn each_change_is_acted_on_and_a_crash_at_once() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&file(&backend, "shutdown: { delay: 1h }\n"));
    let follower = Follower::of_changes(&program.socket(), &[]);
    follower.becomes(1, "1 accepting");
    program.say(&["withdraw"]);
    follower.becomes(2, "0 withdrawn by ");
    program.say(&["announce"]);
    follower.becomes(3, "1 accepting");
    let status = program.status();
    assert_eq!(status["limits"]["followers"]["used"], 1);
    // Its end is told by nobody but the kernel.
    let began = Instant::now();
    program.signal(Signal::KILL);
    follower.becomes(4, "0 no balancer answers at ");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let _ = program.wait();
}

#[test]
fn a_stop_is_told_before_the_doors_close() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&file(&backend, "shutdown: { delay: 1h }\n"));
    let mut follower = Follower::of_changes(&program.socket(), &[]);
    follower.becomes(1, "1 ");
    program.signal(Signal::TERM);
    follower.becomes(2, "0 leaving");
    exchange(&mut connect(program.address()), b"still served");
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    // Another one at the same place, of which the file is another's: nothing is done twice.
    assert_eq!(follower.stop(), Some(0));
    assert_eq!(follower.changes().len(), 2);
}

#[test]
fn upgrades_are_nothing() {
    let backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let mut follower = Follower::of_changes(&program.socket(), &[]);
    follower.becomes(1, "1 ");
    for _ in 0..5 {
        program.upgrade();
        eventually("it follows the next one", || program.status()["limits"]["followers"]["used"] == 1);
    }
    assert_eq!(follower.changes().len(), 1, "{:?}", follower.changes());
    program.say(&["withdraw"]);
    follower.becomes(2, "0 withdrawn");
    program.upgrade();
    program.say(&["announce"]);
    follower.becomes(3, "1 ");
    // The end of the follower itself is unready: nobody would tell of what comes then.
    assert_eq!(follower.stop(), Some(0));
    follower.becomes(4, "0 evenkeel follow was told to stop");
}

#[test]
fn a_process_that_hangs_is_unready_and_ready_when_it_goes_on() {
    let backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let follower = Follower::of_changes(&program.socket(), &[]);
    follower.becomes(1, "1 ");
    program.signal(Signal::STOP);
    follower.becomes(2, "0 the balancer said nothing for 5 s");
    program.signal(Signal::CONT);
    follower.becomes(3, "1 ");
}

#[test]
fn a_listener_without_a_backend_is_unready() {
    let mut backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let follower = Follower::of_changes(&program.socket(), &["--listener", "door"]);
    follower.becomes(1, "1 accepting");
    let whole = Follower::of_changes(&program.socket(), &[]);
    whole.becomes(1, "1 accepting");
    let unknown = Follower::of_changes(&program.socket(), &["--listener", "dor"]);
    unknown.becomes(1, "0 no listener has that name");
    backend.stop();
    follower.becomes(2, "0 no eligible backend");
    assert_eq!(whole.changes().len(), 1, "the balancer accepts");
}

#[test]
fn what_failed_is_tried_again_and_what_hangs_is_killed() {
    let backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let ready = "echo try >>DIR/tries; test $(wc -l <DIR/tries) -ge 3 && echo 1 >>DIR/changes";
    let unready = "echo 0 >>DIR/changes; sleep 1000 & echo $! >DIR/pid; wait";
    let follower = Follower::start(&program.socket(), &["--ready", ready, "--unready", unready]);
    eventually("the third try succeeds", || follower.changes() == ["1"]);
    let log = follower.read("log");
    assert_eq!(log.matches("exit status: 1; it is tried again").count(), 2, "{log}");
    program.say(&["withdraw"]);
    eventually("it hangs", || !follower.read("pid").is_empty());
    eventually("it is killed, and tried again", || follower.changes().len() >= 3);
    let log = follower.read("log");
    assert!(log.contains("had not ended after 5 s, and was killed"), "{log}");
}

#[test]
fn what_failed_halfway_is_undone() {
    let backend = Backend::start(echo);
    let mut program = Program::start(&file(&backend, ""));
    // The file comes first: it says what the command could not do.
    let mut follower =
        Follower::start(&program.socket(), &["--file", "DIR/file", "--ready", "exit 1", "--unready", "true"]);
    eventually("it is half ready", || {
        follower.read("file") == "0\n" && follower.read("log").contains("tried again")
    });
    program.say(&["withdraw"]);
    eventually("the file says unready", || follower.read("file") == "1\n");
    program.say(&["announce"]);
    eventually("it is half ready again", || follower.read("file") == "0\n");
    program.signal(Signal::KILL);
    eventually("the machine is dead", || follower.read("file") == "1\n");
    let _ = program.wait();
    assert_eq!(follower.stop(), Some(0));
    assert_eq!(follower.read("file"), "1\n");
}

#[test]
fn an_unready_that_failed_halfway_is_undone() {
    let backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let follower = Follower::start(
        &program.socket(),
        &["--file", "DIR/file", "--ready", "echo x >>DIR/changes", "--unready", "exit 1"],
    );
    eventually("it is ready", || follower.read("file") == "0\n");
    program.say(&["withdraw"]);
    eventually("it is half unready", || follower.read("file") == "1\n");
    program.say(&["announce"]);
    eventually("the file says ready", || follower.read("file") == "0\n");
    eventually("the command, too", || follower.changes().len() == 2);
}

#[test]
fn no_more_than_sixteen_follow_and_a_wrong_command_line_says_so() {
    let backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let all: Vec<_> = (0..16).map(|_| Follower::of_changes(&program.socket(), &[])).collect();
    all.iter().for_each(|follower| follower.becomes(1, "1 "));
    let one_more = Follower::of_changes(&program.socket(), &[]);
    one_more.becomes(1, "0 the balancer does not let anybody follow it: 16 follow already");
    assert!(program.metric("evenkeel_followers_refused_total") >= 1.0);
    drop(all);
    one_more.becomes(2, "1 accepting");
    for (arguments, why) in [
        (&["follow"][..], "--ready CMD --unready CMD"),
        (&["follow", "--ready", "true"], "--unready"),
        (&["follow", "4711", "--file", "x"], "cannot be used with"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_evenkeel")).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(64) && text.contains(why), "{arguments:?}: {text}");
    }
}

#[test]
fn whoever_asks_once_is_answered_by_the_exit_code() {
    let backend = Backend::start(echo);
    let program = Program::start(&file(&backend, ""));
    let asked = |more: &[&str]| {
        let output = program.command(&[&["status", "--ready"], more].concat());
        let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(asked(&[]), (Some(0), "ready: accepting".into(), String::new()));
    let (code, text, _) = asked(&["--listener", "door", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &told["ready"], &told["why"]),
        (Some(0), &true.into(), &"accepting, 1 eligible".into())
    );
    assert_eq!(asked(&["--listener", "dor"]).0, Some(1));
    program.say(&["withdraw"]);
    let (code, _, why) = asked(&[]);
    assert!(code == Some(1) && why.starts_with("evenkeel: withdrawn by "), "{why}");
    program.signal(Signal::KILL);
    eventually("nobody answers", || asked(&[]).0 == Some(69));
}
