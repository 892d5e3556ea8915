//! PROXY headers between the real HAProxy, evenkeel and the real nginx, in both directions and both versions: the address
//! of the client arrives at the end. Where a program is not installed the test says so and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, unreachable_pub)]

mod ports;
#[path = "servers/postgres.rs"]
mod postgres;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ports::free_port;
use postgres::Postgres;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A child that is killed when dropped; what it says goes to `NAME.log` in its folder.
struct Guard(Child);

impl Guard {
    fn spawn(command: &mut Command, folder: &Path, name: &str) -> Self {
        let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The programs of one chain and the folder of their files.
struct Chain {
    folder: TempDir,
    running: Vec<Guard>,
}

impl Chain {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), running: Vec::new() }
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    fn start(&mut self, name: &str, program: &Path, arguments: &[&str], configuration: &str, port: u16) {
        let file = self.folder.path().join(format!("{name}.conf"));
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).arg(&file);
        self.running.push(Guard::spawn(&mut command, self.folder.path(), name));
        eventually(&format!("{name} listens"), || {
            let status = self.running.last_mut().unwrap().0.try_wait().unwrap();
            assert!(status.is_none(), "{name} ended: {}", self.log(name));
            is_listening(port)
        });
    }

    fn haproxy(&mut self, name: &str, port: u16, sections: &str) {
        let configuration = format!(
            "global\n  log stdout format raw local0\ndefaults\n  log global\n  mode tcp\n  timeout connect 30s\n  \
             timeout client 60s\n  timeout server 60s\n{sections}"
        );
        self.start(name, &find("haproxy").unwrap(), &["-db", "-f"], &configuration, port);
    }

    /// One process in the foreground, its files in the folder.
    fn nginx(&mut self, name: &str, port: u16, sections: &str) {
        let folder = self.folder.path().display().to_string();
        let module = if sections.starts_with("stream") {
            format!("load_module {NGINX_STREAM};\n")
        } else {
            String::new()
        };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {folder}/{name}-{kind};\n"))
            .concat();
        let configuration = format!(
            "{module}daemon off;\nmaster_process off;\npid {folder}/{name}.pid;\nerror_log {folder}/{name}.error;\n\
             events {{ }}\n{}",
            sections.replace("TEMPORARY", &temporary)
        );
        self.start(name, &find("nginx").unwrap(), &["-e", "/dev/stderr", "-c"], &configuration, port);
    }

    fn evenkeel(&mut self, port: u16, yaml: &str) {
        let program = Path::new(env!("CARGO_BIN_EXE_evenkeel"));
        let yaml = format!("log: {{ format: json, sessions: all }}\n{yaml}");
        self.start("evenkeel", program, &["run", "--config"], &yaml, port);
        eventually("evenkeel accepts", || self.log("evenkeel").contains("\"accepting\""));
    }

    /// Its lines about sessions.
    fn session_lines(&self) -> Vec<serde_json::Value> {
        let log = self.log("evenkeel");
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parsed = whole.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        parsed.filter(|line| line["target"] == "session").collect()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in fs::read_dir(self.folder.path()).unwrap().flatten() {
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    eprintln!("--- {} ---\n{text}", entry.file_name().display());
                }
            }
        }
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Without connecting: whoever takes PROXY headers would count it.
fn is_listening(port: u16) -> bool {
    let listens = |table: &str| {
        let text = fs::read_to_string(table).unwrap_or_default();
        text.lines().any(|line| line.contains(&format!(":{port:04X} ")) && line.contains(" 0A "))
    };
    listens("/proc/net/tcp") || listens("/proc/net/tcp6")
}

/// Servers stand in folders that a user's PATH may lack.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Fails where something is missing.
#[track_caller]
fn needs(programs: &[&str]) {
    let mut missing: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    if programs.contains(&"nginx") && !Path::new(NGINX_STREAM).is_file() {
        missing.push("the stream module of nginx");
    }
    assert!(
        missing.is_empty(),
        "{missing:?} not installed (apt: haproxy nginx libnginx-mod-stream redis-tools redis-server postgresql)"
    );
}

/// A client at an address of its own, so that no hop can be taken for it.
fn connect_from(source: &str, port: u16) -> TcpStream {
    let source: IpAddr = source.parse().unwrap();
    let socket = Socket::new(Domain::for_address((source, 0).into()), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    let host: IpAddr = if source.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().unwrap() };
    socket.connect(&SocketAddr::new(host, port).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The body of an answer to GET.
fn get(mut stream: TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, body)| body.to_owned())
}

/// An nginx that answers with the addresses it was told of.
fn telling_nginx(port: u16) -> String {
    format!(
        "http {{\n  access_log off;\nTEMPORARY  server {{\n    listen 127.0.0.1:{port} proxy_protocol;\n    location / {{\n      \
         return 200 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port\";\n    }}\n  }}\n}}\n"
    )
}

/// An HAProxy that does the same.
fn telling_haproxy(port: u16) -> String {
    format!(
        "frontend tell\n  mode http\n  bind 127.0.0.1:{port} accept-proxy\n  \
         http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"\n"
    )
}

fn told(client: SocketAddr, port: u16) -> String {
    let local = if client.is_ipv4() { "127.0.0.1" } else { "::1" };
    format!("{} {} {local} {port}", client.ip(), client.port())
}

#[test]
#[ignore = "needs haproxy, nginx"]
fn from_haproxy_through_evenkeel_to_nginx() {
    needs(&["haproxy", "nginx"]);
    for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        for version in ["v1", "v2"] {
            for source in ["127.0.0.9", "::1"] {
                let mut chain = Chain::new();
                let (front, middle, end) = (free_port(), free_port(), free_port());
                chain.nginx("nginx", end, &telling_nginx(end));
                chain.evenkeel(
                    middle,
                    &format!(
                        "listeners: {{ door: {{ bind: '127.0.0.1:{middle}', accept_proxy: 127.0.0.1, send_proxy: {version}, \
                         backends: ['127.0.0.1:{end}'], health: {{ check: off }} }} }}"
                    ),
                );
                chain.haproxy(
                    "haproxy",
                    front,
                    &format!("listen front\n  bind 127.0.0.1:{front}\n  bind [::1]:{front}\n  unique-id-format %[uuid]\n  server s 127.0.0.1:{middle} {send}\n"),
                );
                let stream = connect_from(source, front);
                let client = stream.local_addr().unwrap();
                assert_eq!(get(stream), told(client, front), "{send} {version}");
                eventually("the session's line", || chain.session_lines().len() == 1);
                let line = &chain.session_lines()[0];
                assert_eq!(line["client"], client.to_string());
                assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
            }
        }
    }
}

#[test]
#[ignore = "needs haproxy, nginx"]
fn from_nginx_through_evenkeel_to_haproxy() {
    needs(&["haproxy", "nginx"]);
    for version in ["v1", "v2"] {
        let mut chain = Chain::new();
        let (front, middle, end) = (free_port(), free_port(), free_port());
        chain.haproxy("haproxy", end, &telling_haproxy(end));
        chain.evenkeel(
            middle,
            &format!(
                "listeners: {{ door: {{ bind: '127.0.0.1:{middle}', accept_proxy: [127.0.0.0/8], send_proxy: {version}, \
                 backends: ['127.0.0.1:{end}'], health: {{ check: off }} }} }}"
            ),
        );
        chain.nginx(
            "nginx",
            front,
            &format!(
                "stream {{\n  server {{\n    listen 127.0.0.1:{front};\n    listen [::1]:{front};\n    proxy_pass 127.0.0.1:{middle};\n    proxy_protocol on;\n  }}\n}}\n"
            ),
        );
        for source in ["127.0.0.9", "127.0.0.10", "::1"] {
            let stream = connect_from(source, front);
            let client = stream.local_addr().unwrap();
            assert_eq!(get(stream), told(client, front), "{version}");
        }
    }
}

#[test]
#[ignore = "needs haproxy, nginx"]
fn plain_clients_are_told_of_to_both() {
    needs(&["haproxy", "nginx"]);
    for version in ["v1", "v2"] {
        let mut chain = Chain::new();
        let (door, haproxy, nginx) = (free_port(), free_port(), free_port());
        chain.haproxy("haproxy", haproxy, &telling_haproxy(haproxy));
        chain.nginx("nginx", nginx, &telling_nginx(nginx));
        // Up by talking checks, which both take with LOCAL or UNKNOWN in front.
        chain.evenkeel(
            door,
            &format!(
                "listeners: {{ door: {{ bind: {door}, send_proxy: {version}, backends: ['127.0.0.1:{haproxy}', '127.0.0.1:{nginx}'], \
                 health: {{ check: {{ tcp: {{ send: 'GET / HTTP/1.0\\r\\n\\r\\n', expect: '200 OK' }} }}, interval: 200ms, timeout: 30s, fall: 1 }} }} }}"
            ),
        );
        for source in ["127.0.0.9", "127.0.0.10", "127.0.0.11", "127.0.0.12"] {
            let stream = connect_from(source, door);
            let client = stream.local_addr().unwrap();
            assert_eq!(get(stream), told(client, door), "{version}");
        }
        eventually("all lines", || chain.session_lines().len() == 4);
        let used: std::collections::BTreeSet<String> =
            chain.session_lines().iter().map(|line| line["backend"].to_string()).collect();
        assert_eq!(used.len(), 2, "both were up: {}", chain.log("evenkeel"));
        assert!(!chain.log("evenkeel").contains("is down"), "{}", chain.log("evenkeel"));
    }
}

#[test]
#[ignore = "needs haproxy, redis-server, redis-cli"]
fn redis_cli_over_three_proxies() {
    needs(&["haproxy", "redis-server", "redis-cli"]);
    let mut chain = Chain::new();
    let (front, middle, end, redis) = (free_port(), free_port(), free_port(), free_port());
    let folder = chain.folder.path().to_owned();
    let mut command = Command::new(find("redis-server").unwrap());
    command.args([
        "--port",
        &redis.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
    ]);
    chain.running.push(Guard::spawn(command.arg(&folder), &folder, "redis"));
    eventually("redis listens", || is_listening(redis));
    chain.haproxy(
        "last",
        end,
        &format!(
            "listen last\n  bind 127.0.0.1:{end} accept-proxy\n  log-format client=%ci:%cp=\n  server s 127.0.0.1:{redis}\n"
        ),
    );
    chain.evenkeel(
        middle,
        &format!(
            "listeners: {{ door: {{ bind: '127.0.0.1:{middle}', accept_proxy: 127.0.0.1, send_proxy: v2, \
             backends: ['127.0.0.1:{end}'] }} }}"
        ),
    );
    chain.haproxy(
        "first",
        front,
        &format!(
            "listen first\n  bind 127.0.0.1:{front}\n  log-format client=%ci:%cp=\n  \
             server s 127.0.0.1:{middle} send-proxy-v2 proxy-v2-options crc32c\n"
        ),
    );
    let port = front.to_string();
    let redis_cli = |words: &[&str]| {
        let mut command = Command::new(find("redis-cli").unwrap());
        let output = command.args(["-h", "127.0.0.1", "-p", &port]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let large = "x".repeat(100_000);
    assert_eq!(redis_cli(&["SET", "key", &large]), "OK");
    assert_eq!(redis_cli(&["GET", "key"]), large);
    let clients = |name: &str| -> Vec<String> {
        let log = chain.log(name);
        let mut found: Vec<String> = log
            .split("client=")
            .skip(1)
            .filter_map(|rest| rest.split_once('='))
            .map(|(client, _)| client.to_owned())
            .collect();
        found.sort();
        found
    };
    eventually("both proxies have told", || clients("first").len() == 2 && clients("last").len() == 2);
    assert_eq!(clients("last"), clients("first"));
    eventually("evenkeel has told", || chain.session_lines().len() == 2);
    let mut seen: Vec<String> =
        chain.session_lines().iter().map(|line| line["client"].as_str().unwrap().to_owned()).collect();
    seen.sort();
    assert_eq!(seen, clients("first"));
}

#[test]
#[ignore = "needs haproxy, nginx, psql"]
fn psql_over_haproxy_evenkeel_and_nginx() {
    needs(&["haproxy", "nginx", "psql"]);
    let binaries = Postgres::find().expect("PostgreSQL is not installed (apt: postgresql)");
    let postgres = Postgres::start(&binaries);
    let mut chain = Chain::new();
    let (front, middle, end) = (free_port(), free_port(), free_port());
    let log = chain.folder.path().join("told");
    chain.nginx(
        "last",
        end,
        &format!(
            "stream {{\n  log_format told 'client=$proxy_protocol_addr:$proxy_protocol_port=';\n  \
             access_log {} told;\n  server {{ listen 127.0.0.1:{end} proxy_protocol; proxy_pass 127.0.0.1:{}; }}\n}}\n",
            log.display(),
            postgres.port
        ),
    );
    chain.evenkeel(
        middle,
        &format!(
            "listeners: {{ door: {{ bind: '127.0.0.1:{middle}', accept_proxy: 127.0.0.1, send_proxy: v1, \
             backends: ['127.0.0.1:{end}'] }} }}"
        ),
    );
    chain.haproxy(
        "first",
        front,
        &format!(
            "listen first\n  bind 127.0.0.1:{front}\n  log-format client=%ci:%cp=\n  \
             server s 127.0.0.1:{middle} send-proxy-v2\n"
        ),
    );
    let mut psql = Command::new("timeout");
    psql.args(["60", "psql", "-h", "127.0.0.1", "-p", &front.to_string(), "-U", "postgres", "-Atc"]);
    let output =
        psql.arg("SELECT count(*) FROM generate_series(1, 100000)").arg("postgres").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "100000", "{output:?}");
    let client =
        |text: &str| text.split("client=").nth(1)?.split_once('=').map(|(client, _)| client.to_owned());
    eventually("HAProxy has told", || client(&chain.log("first")).is_some());
    eventually("nginx has told", || fs::read_to_string(&log).is_ok_and(|text| client(&text).is_some()));
    let seen = client(&chain.log("first"));
    assert_eq!(client(&fs::read_to_string(&log).unwrap()), seen);
    eventually("evenkeel has told", || !chain.session_lines().is_empty());
    assert_eq!(chain.session_lines()[0]["client"].as_str(), seen.as_deref());
}

/// Where Debian keeps it.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
