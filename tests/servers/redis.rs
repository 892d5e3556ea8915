//! Redis servers and Sentinels of a test's own, in a folder that is gone with the value.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::ports::free_port;
use super::program::{Guard, eventually, find};

/// A connection to one.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(port: u16) -> std::io::Result<Self> {
        let timeout = Duration::from_secs(2);
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// One command and its reply, as it looks, without the ends of lines.
    pub fn ask(&mut self, words: &[&str]) -> std::io::Result<String> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(command, "${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(command.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        match line.split_at(1) {
            ("$", length) if length != "-1" => {
                let mut bytes = vec![0; length.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned())
            }
            ("*", count) => {
                let replies: std::io::Result<Vec<String>> =
                    (0..count.parse().unwrap()).map(|_| self.reply()).collect();
                Ok(replies?.join(" "))
            }
            _ => Ok(line.to_owned()),
        }
    }
}

/// One server or Sentinel; `None` while it is stopped.
pub struct Node {
    pub port: u16,
    file: std::path::PathBuf,
    is_sentinel: bool,
    server: Option<Guard>,
}

impl Node {
    pub fn up(&mut self) {
        let mut command = Command::new(find("redis-server", "redis-server"));
        command.arg(&self.file);
        if self.is_sentinel {
            command.arg("--sentinel");
        }
        self.server = Some(Guard::spawn(&mut command));
        eventually("it accepts", || Client::connect(self.port).is_ok());
    }

    pub fn down(&mut self) {
        self.server = None;
    }

    pub fn signal(&self, signal: &str) {
        self.server.as_ref().unwrap().signal(signal);
    }

    /// As the default user.
    pub fn ask(&self, words: &[&str]) -> String {
        let mut client = Client::connect(self.port).unwrap();
        if !self.is_sentinel {
            client.ask(&["AUTH", "secret"]).unwrap();
        }
        client.ask(words).unwrap()
    }

    pub fn is_master(&self) -> bool {
        self.ask(&["ROLE"]).starts_with("master")
    }
}

/// A primary, its replicas, and those who watch them. Password `secret`; `check` with `probe` may only ask.
pub struct Set {
    pub folder: TempDir,
    pub servers: Vec<Node>,
    pub sentinels: Vec<Node>,
}

impl Set {
    /// The first server is the primary. Sentinels call the set `main` and want `watch` as a password.
    pub fn start(servers: usize, sentinels: usize) -> Self {
        let mut set =
            Self { folder: tempfile::tempdir().unwrap(), servers: Vec::new(), sentinels: Vec::new() };
        for at in 0..servers {
            let primary = set.servers.first().map(|first| first.port);
            let follow = primary.map_or(String::new(), |port| format!("replicaof 127.0.0.1 {port}\n"));
            let node = set.node(
                &format!("r{at}"),
                &format!(
                    "save \"\"\nappendonly no\nrequirepass secret\nmasterauth secret\nrepl-ping-replica-period 1\n\
                     repl-diskless-sync-delay 0\nenable-debug-command yes\ndbfilename r{at}.rdb\n{follow}\
                     user check on >probe resetchannels -@all +ping +role +info\n"
                ),
                false,
            );
            set.servers.push(node);
        }
        let follows = |node: &Node| node.ask(&["ROLE"]).contains("connected");
        eventually("the replicas follow", || set.servers[1..].iter().all(follows));
        let primary = set.servers[0].port;
        for at in 0..sentinels {
            let node = set.node(
                &format!("s{at}"),
                &format!(
                    "requirepass watch\nsentinel sentinel-pass watch\nsentinel resolve-hostnames yes\n\
                     sentinel monitor main 127.0.0.1 {primary} {}\nsentinel auth-pass main secret\n\
                     sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 6000\n",
                    sentinels / 2 + 1
                ),
                true,
            );
            set.sentinels.push(node);
        }
        eventually("the Sentinels know of each other", || {
            let others = format!("num-other-sentinels {}", sentinels.saturating_sub(1));
            let replicas = format!("num-slaves {}", servers - 1);
            let knows = |at: usize| {
                let said = set.sentinel(at);
                said.contains(&others) && said.contains(&replicas)
            };
            (0..sentinels).all(knows)
        });
        set
    }

    fn node(&self, name: &str, lines: &str, is_sentinel: bool) -> Node {
        let (port, folder) = (free_port(), self.folder.path().display());
        let file = self.folder.path().join(format!("{name}.conf"));
        let text = format!("port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/{name}.log\n{lines}");
        fs::write(&file, text).unwrap();
        let mut node = Node { port, file, is_sentinel, server: None };
        node.up();
        node
    }

    /// What a Sentinel says of the set.
    pub fn sentinel(&self, at: usize) -> String {
        let mut client = Client::connect(self.sentinels[at].port).unwrap();
        client.ask(&["AUTH", "watch"]).unwrap();
        client.ask(&["SENTINEL", "MASTER", "main"]).unwrap()
    }
}
