//! PostgreSQL servers of a test's own that check logins and speak TLS, and replicas of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::ports::free_port;

/// A server; gone with the value.
pub struct Node {
    binaries: PathBuf,
    /// Of the whole cluster: `ca.crt` and `server.crt` of it stand there.
    pub folder: Arc<TempDir>,
    name: String,
    pub port: u16,
    server: Option<Child>,
}

/// Who may come in how. Passwords are `secret`.
const HBA: &str = "local all all trust
host    replication repl    127.0.0.1/32 trust
host    all postgres        127.0.0.1/32 trust
host    all trustuser       127.0.0.1/32 trust
host    all md5user         127.0.0.1/32 md5
host    all plainuser       127.0.0.1/32 password
hostssl all ssluser         127.0.0.1/32 scram-sha-256
host    all ssluser         127.0.0.1/32 reject
host    all refused         127.0.0.1/32 reject
host    all all             127.0.0.1/32 scram-sha-256
";

const ROLES: &str = "create role repl login replication;
create role checker login password 'secret';
create role few login password 'secret' connection limit 1;
create role ssluser login password 'secret';
create role trustuser login;
create role nologin nologin password 'secret';
set password_encryption = 'md5'; create role md5user login password 'secret';
set password_encryption = 'scram-sha-256'; create role plainuser login password 'secret';
create table rows (id bigserial primary key, at timestamptz default clock_timestamp());";

impl Node {
    /// A primary with these lines in its configuration.
    pub fn primary(settings: &str) -> Self {
        let binaries = binaries().expect("PostgreSQL is not installed (apt: postgresql)");
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let node =
            Self { binaries, folder: Arc::new(folder), name: "n1".into(), port: free_port(), server: None };
        node.make_certificates();
        good(
            as_postgres(&node.binaries.join("initdb"))
                .args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"])
                .arg(node.data()),
        );
        fs::write(node.data().join("pg_hba.conf"), HBA).unwrap();
        let mut node = node.configured(settings);
        node.up();
        node.psql(ROLES);
        node
    }

    /// A replica of this one.
    #[allow(dead_code)] // Not every user of this file has replicas.
    pub fn replica(&self, name: &str, settings: &str) -> Self {
        let (binaries, folder) = (self.binaries.clone(), Arc::clone(&self.folder));
        let node = Self { binaries, folder, name: name.into(), port: free_port(), server: None };
        let from = self.port.to_string();
        let mut backup = as_postgres(&self.binaries.join("pg_basebackup"));
        backup.args(["-h", "127.0.0.1", "-p", &from, "-U", "repl", "-X", "stream", "-R", "-c", "fast", "-D"]);
        good(backup.arg(node.data()));
        let mut node = node.configured(settings);
        node.up();
        node
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    fn configured(self, settings: &str) -> Self {
        let (folder, port) = (self.folder.path().display(), self.port);
        let lines = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{folder}'\nfsync = off\n\
             shared_buffers = 16MB\nmax_connections = 40\nwal_keep_size = 64MB\nwal_retrieve_retry_interval = 200ms\n\
             wal_receiver_status_interval = 1s\nwal_log_hints = on\nssl = on\nssl_cert_file = '{folder}/server.crt'\nssl_key_file = '{folder}/server.key'\n\
             log_line_prefix = '%m %u '\n{settings}\n"
        );
        let path = self.data().join("postgresql.conf");
        let before = fs::read_to_string(&path).unwrap();
        let before = before.split("# of the test\n").next().unwrap();
        fs::write(&path, format!("{before}# of the test\n{lines}")).unwrap();
        self
    }

    fn make_certificates(&self) {
        let script = "set -e; cd \"$1\"
            openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj '/CN=a test' -keyout ca.key -out ca.crt
            openssl req -newkey rsa:2048 -nodes -subj /CN=pg.example -keyout server.key -out server.csr
            printf 'subjectAltName=DNS:pg.example,IP:127.0.0.1' > names
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile names -out server.crt
            openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj '/CN=another' -keyout other.key -out other.crt
            if [ $(id -u) = 0 ]; then chown postgres: server.*; fi; chmod 600 server.key";
        good(Command::new("sh").args(["-c", script, "sh"]).arg(self.folder.path()));
    }

    /// Begins; on return it answers.
    pub fn up(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = as_postgres(&self.binaries.join("postgres"));
        command.arg("-D").arg(self.data()).env("LC_ALL", "C");
        self.server = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.try_psql("select 1").status.success() {
            assert!(Instant::now() < deadline, "postgres is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.name))
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn try_psql(&self, sql: &str) -> Output {
        let folder = self.folder.path().display().to_string();
        let mut command = as_postgres(&self.binaries.join("psql"));
        command.args([
            "-qXAt",
            "-h",
            &folder,
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-d",
            "postgres",
        ]);
        command.args(["-c", sql]).output().unwrap()
    }

    /// As an administrator, through its Unix socket.
    pub fn psql(&self, sql: &str) -> String {
        let output = self.try_psql(sql);
        assert!(output.status.success(), "{sql}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// `smart`, `fast` or `immediate`: how long it took.
    pub fn stop(&mut self, mode: &str) -> Duration {
        let began = Instant::now();
        good(
            as_postgres(&self.binaries.join("pg_ctl"))
                .args(["stop", "-t", "60", "-m", mode, "-D"])
                .arg(self.data()),
        );
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
        began.elapsed()
    }

    /// Begins to stop, without waiting for the end.
    #[allow(dead_code)]
    pub fn begin_smart_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Whether it runs, or how it ended.
    #[allow(dead_code)]
    pub fn has_ended(&mut self) -> bool {
        self.server.as_mut().is_none_or(|server| server.try_wait().unwrap().is_some())
    }

    #[allow(dead_code)]
    pub fn promote(&self) {
        good(as_postgres(&self.binaries.join("pg_ctl")).args(["promote", "-w", "-D"]).arg(self.data()));
    }

    /// The postmaster alone: its children notice.
    #[allow(dead_code)]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    fn signal(&self, signal: Signal) {
        if let Some(server) = &self.server {
            // It may have ended.
            let _ = kill_process(Pid::from_child(server), signal);
        }
    }

    /// The server and all its processes stand still, or go on.
    #[allow(dead_code)]
    pub fn freeze(&self, freezes: bool) {
        let signal = if freezes { Signal::STOP } else { Signal::CONT };
        let Some(server) = &self.server else { return };
        let list =
            Command::new("ps").args(["-o", "pid=", "--ppid", &server.id().to_string()]).output().unwrap();
        let children = String::from_utf8_lossy(&list.stdout).into_owned();
        self.signal(signal);
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.signal(Signal::CONT);
            self.freeze(false);
            self.signal(Signal::QUIT);
            if let Some(mut server) = self.server.take() {
                let _ = server.wait();
            }
        }
    }
}

/// Where its programs are, the newest version.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.into_iter().rfind(|folder| folder.join("postgres").is_file())
}

#[track_caller]
fn good(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// PostgreSQL refuses root.
fn as_postgres(program: &Path) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}
