//! Real DNS servers of a test's own: Knot with one zone that a test changes, Unbound and dnsmasq in front of it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The three of them, which end with this value.
pub struct Resolvers {
    home: tempfile::TempDir,
    children: Vec<Child>,
    /// Of Knot, Unbound and dnsmasq.
    pub addresses: [SocketAddr; 3],
}

impl Resolvers {
    /// Starts them at these ports; the zone is `example.test`, with these lines in it.
    pub fn start(ports: [u16; 3], records: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let shown = home.path().display().to_string();
        let addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut resolvers = Self { children: Vec::new(), addresses, home };
        resolvers.write_zone(1, records);
        let [knot, unbound, _] = ports;
        let text = format!(
            "server:\n  listen: 127.0.0.1@{knot}\n  rundir: {shown}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             control:\n  listen: {shown}/knot.sock\ndatabase:\n  storage: {shown}\n\
             zone:\n  - domain: example.test\n    file: {shown}/zone\n"
        );
        resolvers.write("knot.conf", &text);
        let text = format!(
            "server:\n  interface: 127.0.0.1@{unbound}\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  directory: \"{shown}\"\n  \
             pidfile: \"\"\n  use-syslog: no\n  access-control: 127.0.0.0/8 allow\n  do-not-query-localhost: no\n  domain-insecure: \"example.test\"\n  \
             local-zone: \"test.\" nodefault\n  module-config: \"iterator\"\n  num-threads: 1\nforward-zone:\n  name: \".\"\n  forward-addr: 127.0.0.1@{knot}\n"
        );
        resolvers.write("unbound.conf", &text);
        resolvers.run(0);
        resolvers.run(1);
        resolvers.run(2);
        resolvers
    }

    /// Another zone from now on, with a later number.
    pub fn change(&self, serial: u32, records: &str) {
        self.write_zone(serial, records);
        let socket = self.home.path().join("knot.sock");
        let mut knotc = Command::new(program("knotc", "knot"));
        let done = knotc.arg("-s").arg(socket).args(["zone-reload", "example.test"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// The server of this number ends without a word.
    pub fn kill(&mut self, which: usize) {
        let child = &mut self.children[which];
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn run(&mut self, which: usize) {
        let home = self.home.path();
        let mut command = match which {
            0 => {
                let mut command = Command::new(program("knotd", "knot"));
                command.arg("-c").arg(home.join("knot.conf"));
                command
            }
            1 => {
                let mut command = Command::new(program("unbound", "unbound"));
                command.arg("-c").arg(home.join("unbound.conf"));
                command
            }
            _ => {
                let mut command = Command::new(program("dnsmasq", "dnsmasq-base"));
                let (port, up) = (self.addresses[2].port(), self.addresses[0].port());
                command.args(["-k", "-C", "/dev/null", "--listen-address=127.0.0.1", "--bind-interfaces"]);
                command.args(["--no-resolv", "--no-hosts", "--user=root", "--pid-file="]);
                command.args([format!("--port={port}"), format!("--server=127.0.0.1#{up}")]);
                command
            }
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.children.push(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(self.addresses[which]).is_err() {
            assert!(Instant::now() < deadline, "server {which} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn write_zone(&self, serial: u32, records: &str) {
        let start = format!(
            "$ORIGIN example.test.\n$TTL 1\n@ SOA ns hostmaster {serial} 3600 600 86400 1\n@ NS ns\nns A 127.0.0.53\n"
        );
        self.write("zone", &(start + records));
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.home.path().join(name), text).unwrap();
    }
}

impl Drop for Resolvers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn program(name: &str, package: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin"];
    let found = folders.map(|folder| Path::new(folder).join(name)).into_iter().find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed (apt: {package})"))
}
