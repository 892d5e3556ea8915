//! MariaDB servers of a test's own: replication or Galera, in a folder that is gone with the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::ports::free_port;
use super::program::{Guard, eventually, find};

/// One server; `None` while it is stopped. Accounts: `check` (`secret`, no privilege), `app` (`app`, writes to `app.t`).
pub struct Node {
    pub port: u16,
    folder: PathBuf,
    options: Vec<String>,
    server: Option<Guard>,
}

impl Node {
    pub fn up(&mut self, more: &[&str]) {
        let mut command = as_mysql(&find("mariadbd", "mariadb-server"));
        command.arg("--no-defaults").arg(format!("--datadir={}", self.folder.display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--port={}", self.port)).arg("--bind-address=127.0.0.1");
        command.args([
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=0",
            "--log-warnings=2",
        ]);
        command.args(&self.options).args(more);
        let log = fs::OpenOptions::new().append(true).create(true).open(self.log()).unwrap();
        self.server = Some(Guard::spawn(command.stderr(log)));
        self.wait_for("select 1", "1");
    }

    /// As a service manager stops it: a node of a cluster takes its leave.
    pub fn down(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.signal("-TERM");
        eventually("it ends", || server.0.try_wait().unwrap().is_some());
    }

    pub fn signal(&self, signal: &str) {
        self.server.as_ref().unwrap().signal(signal);
    }

    pub fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    fn socket(&self) -> PathBuf {
        self.folder.with_extension("sock")
    }

    /// As root, over the socket.
    pub fn sql(&self, text: &str) -> String {
        let output = self.try_sql(text);
        assert!(output.status.success(), "{text}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    pub fn try_sql(&self, text: &str) -> Output {
        let mut command = Command::new(find("mariadb", "mariadb-client"));
        command.arg("--no-defaults").arg("-S").arg(self.socket());
        command.args(["-u", "root", "--connect-timeout=5", "-NBe", text]).output().unwrap()
    }

    #[track_caller]
    pub fn wait_for(&self, question: &str, answer: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.try_sql(question);
            if output.status.success() && String::from_utf8_lossy(&output.stdout).trim_end() == answer {
                return;
            }
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(Instant::now() < deadline, "{question} was never {answer}: {output:?}\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Servers of one kind.
pub struct Set {
    _folder: TempDir,
    pub nodes: Vec<Node>,
}

impl Set {
    /// The first is the primary, and the others read and follow.
    pub fn replication(count: usize) -> Self {
        let mut set = Self::new(count, |at, _| {
            let own = at + 1;
            let mut options: Vec<String> = ["--log-bin=b", "--gtid-strict-mode=ON", "--log-slave-updates=ON"]
                .map(str::to_owned)
                .to_vec();
            options.push(format!("--server-id={own}"));
            options
        });
        for node in &mut set.nodes {
            node.up(&[]);
        }
        set.nodes[0].sql(ACCOUNTS);
        set.nodes[0]
            .sql("create user repl@'%' identified by 'repl'; grant replication slave on *.* to repl@'%'");
        let primary = set.nodes[0].port;
        for node in &set.nodes[1..] {
            node.sql(&format!(
                "set global read_only = 1; change master to master_host = '127.0.0.1', master_port = {primary}, master_user = 'repl', \
                 master_password = 'repl', master_use_gtid = slave_pos, master_connect_retry = 1, master_heartbeat_period = 1; start slave"
            ));
            node.wait_for("select count(*) from mysql.user where user = 'check'", "1");
        }
        set
    }

    /// Nodes of one cluster, all synced.
    pub fn galera(count: usize) -> Self {
        let libraries = ["/usr/lib/galera/libgalera_smm.so", "/usr/lib/libgalera_smm.so"];
        let library = libraries.into_iter().find(|path| Path::new(path).is_file());
        let library = library.expect("Galera is not installed (apt: galera-4)");
        find("rsync", "rsync");
        let mut set = Self::new(count, |at, groups| {
            let all: Vec<String> = groups.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            let (own, ist, sst) = (groups[at], free_port(), free_port());
            vec![
                format!("--server-id={}", at + 1),
                "--binlog-format=ROW".into(),
                "--innodb-autoinc-lock-mode=2".into(),
                "--wsrep-on=ON".into(),
                format!("--wsrep-provider={library}"),
                "--wsrep-cluster-name=test".into(),
                format!("--wsrep-cluster-address=gcomm://{}", all.join(",")),
                format!("--wsrep-node-name=n{at}"),
                format!("--wsrep-node-address=127.0.0.1:{own}"),
                "--wsrep-sst-method=rsync".into(),
                format!("--wsrep-sst-receive-address=127.0.0.1:{sst}"),
                format!(
                    "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{own};ist.recv_addr=127.0.0.1:{ist};\
                     evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.5S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT5S;\
                     evs.install_timeout=PT5S;gcache.size=32M"
                ),
            ]
        });
        set.nodes[0].up(&["--wsrep-new-cluster"]);
        set.nodes[0].wait_for(READY, "ON");
        set.nodes[0].sql(ACCOUNTS);
        for at in 1..count {
            set.nodes[at].up(&[]);
            set.nodes[at].wait_for(READY, "ON");
        }
        set
    }

    fn new(count: usize, options: impl Fn(usize, &[u16]) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(folder.path(), mode).unwrap();
        let groups: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let first = folder.path().join("n0");
        let output = as_mysql(&find("mariadb-install-db", "mariadb-server"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", first.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let node = |at: usize| {
            let folder = folder.path().join(format!("n{at}"));
            if at > 0 {
                let copied = Command::new("cp").arg("-a").arg(&first).arg(&folder).status().unwrap();
                assert!(copied.success());
            }
            Node { port: free_port(), folder, options: options(at, &groups), server: None }
        };
        let nodes = (0..count).map(node).collect();
        Self { _folder: folder, nodes }
    }
}

/// MariaDB refuses root.
fn as_mysql(program: &Path) -> Command {
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=mysql", "--regid=mysql", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.stdin(Stdio::null());
    command
}

const ACCOUNTS: &str = "create user `check`@'%' identified by 'secret'; create user app@'%' identified by 'app'; create database app; \
     grant all on app.* to app@'%'; create table app.t (i int auto_increment primary key, a text)";
const READY: &str =
    "select variable_value from information_schema.global_status where variable_name = 'wsrep_ready'";
