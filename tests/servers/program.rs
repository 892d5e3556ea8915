//! The real program in front of servers of a test, and programs of others: ended with the value.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A child that is killed when dropped.
pub struct Guard(pub Child);

impl Guard {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    #[allow(dead_code)] // Not every user of this file sends signals.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where a program is; without it the test fails.
#[track_caller]
pub fn find(program: &str, package: &str) -> std::path::PathBuf {
    let folders = ["/usr/bin", "/usr/sbin"];
    let found = folders.map(|folder| Path::new(folder).join(program)).into_iter().find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed (apt: {package})"))
}

/// The balancer with this file; `SOCKET` in it is where its commands go.
pub struct Balancer {
    child: Guard,
    pub folder: TempDir,
}

impl Balancer {
    pub fn start(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let yaml = format!(
            "log: {{ format: json, level: debug }}\nadmin: {{ http: off, socket: '{}' }}\n{yaml}",
            socket.display()
        );
        let file = folder.path().join("evenkeel.yaml");
        fs::write(&file, yaml).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&file, mode).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let child = Guard::spawn(command.arg("run").arg("--config").arg(&file).stderr(log));
        let balancer = Self { child, folder };
        eventually("the balancer accepts", || balancer.log().contains("\"accepting\""));
        balancer
    }

    /// Ends it as a service manager would.
    #[allow(dead_code)] // Most users of this file just drop it.
    pub fn stop(mut self) {
        self.child.signal("-TERM");
        eventually("it ends", || self.child.0.try_wait().unwrap().is_some());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// How many lines hold all of this.
    #[allow(dead_code)] // Not every user of this file looks at its log.
    pub fn said(&self, parts: &[&str]) -> usize {
        self.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    /// The pool `p` in `/status`.
    pub fn pool(&self) -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let output =
            command.args(["status", "--json", "--socket"]).arg(self.folder.path().join("admin.sock"));
        let output = output.output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["pools"][0].clone()
    }
}
