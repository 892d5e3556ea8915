//! A PostgreSQL of a test's own: a fresh cluster in a folder of its own, gone with the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running server that trusts everyone on loopback.
pub struct Postgres {
    binaries: PathBuf,
    folder: TempDir,
    pub port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Where its programs are, the newest version.
    pub fn find() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
        folders.sort();
        folders
            .into_iter()
            .rfind(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
    }

    pub fn start(binaries: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(folder.path(), mode).unwrap();
        let port = crate::ports::free_port();
        let mut postgres = Self { binaries: binaries.to_owned(), folder, port, server: None };
        let data = postgres.folder.path().join("data");
        let output = as_postgres(&postgres.binaries.join("initdb"))
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        postgres.up();
        postgres
    }

    pub fn up(&mut self) {
        let mut command = as_postgres(&self.binaries.join("postgres"));
        command.arg("-D").arg(self.folder.path().join("data"));
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.path().display()));
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        self.server = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let ready = self.binaries.join("pg_isready");
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_ready = || {
            let mut command = Command::new(&ready);
            let command = command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
            command.stdout(Stdio::null()).status().unwrap().success()
        };
        while !is_ready() {
            assert!(Instant::now() < deadline, "postgres is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `immediate`: every session on it is cut.
    #[allow(dead_code)] // Not every user of this file stops it.
    pub fn down(&mut self) {
        let output = self.stop();
        assert!(output.status.success(), "{output:?}");
    }

    fn stop(&mut self) -> std::process::Output {
        let data = self.folder.path().join("data");
        // Its children end with it only when it is asked.
        let output = as_postgres(&self.binaries.join("pg_ctl"))
            .args(["stop", "-m", "immediate", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        output
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.stop();
        }
    }
}

/// PostgreSQL refuses root.
fn as_postgres(program: &Path) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}
