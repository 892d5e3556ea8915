//! The real program as a child: its log, its metrics, what it costs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{DEADLINE, eventually};
use crate::ports::free_port;

/// A child that runs the balancer; killed when dropped.
pub struct Program {
    child: Child,
    folder: TempDir,
    pub port: u16,
    admin: u16,
    /// Processes that took over from it, one after the other.
    successors: Mutex<Vec<u32>>,
    /// When its metrics were asked for last.
    asked: Mutex<Option<Instant>>,
    /// When its status was.
    looked: Mutex<Option<Instant>>,
}

impl Program {
    /// Runs with this file, in which `PORT` stands for the listener's port. Adds `admin` and waits until it accepts.
    pub fn start(yaml: &str) -> Self {
        Self::start_limited(yaml, None)
    }

    /// Another program than the one under test.
    pub fn start_by(binary: &Path, yaml: &str) -> Self {
        Self::start_any(binary, yaml, None, |_| ()).0
    }

    /// Started by another program, which is told how: `sh` with this script, for which "$@" is the balancer.
    pub fn start_under(script: &str, yaml: &str) -> Self {
        let start = |file: &Path| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).arg(tested()).arg("run").arg("--config").arg(file);
            command
        };
        Self::start_with(start, yaml, |_| ()).0
    }

    /// With a hard limit of open files.
    pub fn start_limited(yaml: &str, open_files: Option<u64>) -> Self {
        Self::start_meanwhile(yaml, open_files, |_| ()).0
    }

    /// Does something as soon as the listener's port answers, which is before the balancer accepts.
    pub fn start_and<T>(yaml: &str, early: impl FnMut(SocketAddr) -> T) -> (Self, T) {
        let (program, done) = Self::start_meanwhile(yaml, None, early);
        (program, done)
    }

    /// Only until the listener's port answers, which is before the balancer accepts.
    pub fn spawn_listening(yaml: &str) -> Self {
        for _ in 0..20 {
            let mut program = Self::spawn(|file| command_of(tested(), file, None), yaml);
            let mut ended = false;
            eventually("the door is bound", || {
                ended = program.child.try_wait().unwrap().is_some();
                ended || is_listening(program.port)
            });
            if !ended {
                return program;
            }
        }
        panic!("the balancer did not start");
    }

    fn start_meanwhile<T>(
        yaml: &str,
        open_files: Option<u64>,
        early: impl FnMut(SocketAddr) -> T,
    ) -> (Self, T) {
        Self::start_any(tested(), yaml, open_files, early)
    }

    fn start_any<T>(
        binary: &Path,
        yaml: &str,
        open_files: Option<u64>,
        early: impl FnMut(SocketAddr) -> T,
    ) -> (Self, T) {
        Self::start_with(|file| command_of(binary, file, open_files), yaml, early)
    }

    fn start_with<T>(
        command: impl Fn(&Path) -> Command,
        yaml: &str,
        mut early: impl FnMut(SocketAddr) -> T,
    ) -> (Self, T) {
        // A free port may be taken by someone else before the child binds it: then the next ones are tried.
        for _ in 0..20 {
            let mut program = Self::spawn(&command, yaml);
            let mut done = None;
            let deadline = Instant::now() + DEADLINE;
            while Instant::now() < deadline {
                if let Some(status) = program.child.try_wait().unwrap() {
                    assert_eq!(status.code(), Some(1), "{}", program.log());
                    assert!(program.log().contains("in use"), "{}", program.log());
                    break;
                }
                if done.is_none() && is_listening(program.port) {
                    done = Some(early(program.address()));
                }
                if program.log().contains("admin.http is ready")
                    && let Some(done) = done
                {
                    return (program, done);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("the balancer did not start");
    }

    fn spawn(command: impl Fn(&Path) -> Command, yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, admin) = (free_port(), free_port());
        let yaml = yaml.replace("PORT", &port.to_string());
        let file = folder.path().join("evenkeel.yaml");
        let socket = folder.path().join("admin.sock");
        let doors = format!("admin: {{ http: '127.0.0.1:{admin}', socket: '{}' }}", socket.display());
        fs::write(&file, format!("{yaml}\n{doors}\n")).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let child = command(&file).stderr(log).spawn().unwrap();
        Self {
            child,
            folder,
            port,
            admin,
            successors: Mutex::default(),
            asked: Mutex::default(),
            looked: Mutex::default(),
        }
    }

    /// Where the commands reach it.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Runs a command against it.
    pub fn command(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_evenkeel"))
            .args(args)
            .env("EVENKEEL_SOCKET", self.socket())
            .output()
            .unwrap()
    }

    /// A command that must succeed: what it prints.
    #[track_caller]
    pub fn say(&self, args: &[&str]) -> String {
        let output = self.command(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The picture of everything, as it is now: a text serves all who ask at the socket within a tenth of a second, so one
    /// that this test has been given is let grow old first.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let said = fresh(&self.looked, Duration::from_millis(100), || self.say(&["status", "--json"]));
        serde_json::from_str(&said).unwrap()
    }

    /// The port of its HTTP door.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.admin))
    }

    /// The file it was started with.
    pub fn file(&self) -> String {
        fs::read_to_string(self.folder.path().join("evenkeel.yaml")).unwrap()
    }

    /// Edits it, as an editor does: at once.
    pub fn write_file(&self, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder.path().join("evenkeel.yaml")).unwrap();
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.admin))
    }

    pub fn pid(&self) -> u32 {
        self.successors.lock().unwrap().last().copied().unwrap_or_else(|| self.child.id())
    }

    /// Hands over to a new process, which must succeed; how many sessions it has then.
    #[track_caller]
    pub fn upgrade(&self) -> u64 {
        self.upgrade_by(&["upgrade", "--json"])
    }

    /// Likewise, to a process of this program.
    #[track_caller]
    pub fn upgrade_to(&self, binary: &Path) -> u64 {
        self.upgrade_by(&["upgrade", "--json", "--binary", binary.to_str().unwrap()])
    }

    #[track_caller]
    fn upgrade_by(&self, command: &[&str]) -> u64 {
        let answer: serde_json::Value = serde_json::from_str(&self.say(command)).unwrap();
        self.successors.lock().unwrap().push(u32::try_from(answer["pid"].as_u64().unwrap()).unwrap());
        answer["sessions"].as_u64().unwrap()
    }

    /// A process that took over without being asked here.
    pub fn succeeded_by(&self, pid: u32) {
        self.successors.lock().unwrap().push(pid);
    }

    /// All of its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The lines of its log, which must all be JSON.
    pub fn json_log(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in this log line: {line}"))
        };
        self.log().lines().map(parse).collect()
    }

    /// Its lines about sessions.
    pub fn session_lines(&self) -> Vec<serde_json::Value> {
        self.json_log().into_iter().filter(|line| line["target"] == "session").collect()
    }

    /// The process that was started here, whoever serves now.
    pub fn started(&self) -> u32 {
        self.child.id()
    }

    /// To the process that was started here.
    pub fn signal_started(&self, signal: Signal) {
        kill_process(pid_of(self.child.id()), signal).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(pid_of(self.pid()), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the balancer ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Everything on its metrics page, as it is now: a text serves all who ask within a second, so one that this test has
    /// been given is let grow old first.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        fresh(&self.asked, Duration::from_secs(1), || scraped(self.admin()))
    }

    /// One sample; missing ones are an error.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        *metrics.get(name).unwrap_or_else(|| panic!("no {name} in {metrics:#?}"))
    }

    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Its data threads.
    pub fn data_threads(&self) -> Vec<Thread> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let folders = tasks.map(|task| task.unwrap().path());
        let is_data = |folder: &PathBuf| {
            fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.starts_with("data-"))
        };
        folders.filter(is_data).map(|folder| Thread { folder }).collect()
    }

    /// Memory of its own, in KiB: what no file backs.
    pub fn private_kib(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("--- the balancer's log, its end ---\n{}", &log[log.len().saturating_sub(4_000)..]);
        }
        for successor in self.successors.lock().unwrap().iter() {
            // Those that were followed have ended.
            let _ = kill_process(pid_of(*successor), Signal::KILL);
        }
        // Whoever started it may be another program; what is below goes with it.
        for below in below(self.child.id()) {
            let _ = kill_process(pid_of(below), Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes below one.
fn below(pid: u32) -> Vec<u32> {
    let parent_of = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent_of(pid)?)))
        .collect();
    let mut found = vec![pid];
    let mut looked = 0;
    while looked < found.len() {
        let above = found[looked];
        found.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(child, _)| *child));
        looked += 1;
    }
    found.split_off(1)
}

fn command_of(binary: &Path, file: &Path, open_files: Option<u64>) -> Command {
    let mut command = match open_files {
        Some(limit) => {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command.arg("run").arg("--config").arg(file);
    command
}

fn tested() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_evenkeel"))
}

fn pid_of(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// One thread of a child.
pub struct Thread {
    folder: PathBuf,
}

impl Thread {
    /// CPU time so far, in milliseconds.
    pub fn cpu_ms(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join("schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1_000_000
    }

    /// How often it went to sleep so far.
    pub fn sleeps(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join("status")).unwrap();
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Asks when the answer of the last time is older than this.
#[track_caller]
fn fresh<T>(last: &Mutex<Option<Instant>>, age: Duration, ask: impl FnOnce() -> T) -> T {
    let before = *last.lock().unwrap();
    if let Some(before) = before {
        std::thread::sleep(age.saturating_sub(before.elapsed()));
    }
    let answer = ask();
    *last.lock().unwrap() = Some(Instant::now());
    answer
}

fn is_listening(port: u16) -> bool {
    let listens = |table: &str| {
        let text = fs::read_to_string(table).unwrap_or_default();
        text.lines().any(|line| line.contains(&format!(":{port:04X} ")) && line.contains(" 0A "))
    };
    listens("/proc/net/tcp") || listens("/proc/net/tcp6")
}

/// The samples of a metrics page.
pub fn scraped(address: SocketAddr) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let mut samples = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("evenkeel_") || line.starts_with("process_")) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse() else { continue };
        assert!(samples.insert(name.to_owned(), value).is_none(), "`{name}` stands twice");
    }
    samples
}

/// Runs one test of this program again in a network of its own, where `inside` is set, and fails unless it ran there and
/// passed. `module`: the `module_path!()` of the test, so that its file may be renamed.
#[track_caller]
pub fn in_a_network_of_its_own(module: &str, test: &str, inside: &str) {
    let name = module.split_once("::").map_or_else(|| test.to_owned(), |(_, rest)| format!("{rest}::{test}"));
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args([&*name, "--exact", "--nocapture", "--ignored"])
        .env(inside, "1")
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{name} did not run in there: {said}");
}
