//! The proxies that are compared, each as its file in `tests/bench/peers` configures it: one thread on a core of its own,
//! session logging off, and otherwise what a user would have.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::backends::Backend;
use super::ports::free_port;
use super::{BASELINE_FLAG, DOOR_VARIABLE};

/// One of those that are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// This program, or another build of it.
    Evenkeel(String),
    /// With these lines in `global` and `defaults`.
    Haproxy(&'static str, &'static str, &'static str),
    Nginx,
    Envoy,
    /// `tokio::io::copy_bidirectional`, in a process of its own.
    Tokio,
    /// No proxy at all.
    Direct,
}

/// What a row needs of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    /// What stands behind it.
    pub(crate) to: Backend,
    /// Datagrams, beside connections.
    pub(crate) udp: bool,
    /// Every session has a line in a log.
    pub(crate) logged: bool,
    /// How many backends; all of them are the same program at other addresses of the loopback network.
    pub(crate) backends: usize,
}

impl Peer {
    /// Evenkeel first; those that are not installed are left out.
    pub(crate) fn found() -> (Vec<Self>, Vec<&'static str>) {
        let mut peers = vec![Self::Evenkeel(env!("CARGO_BIN_EXE_evenkeel").to_owned())];
        if let Ok(other) = std::env::var("EVENKEEL_BENCH_OTHER") {
            peers.push(Self::Evenkeel(other));
        }
        let mut missing = Vec::new();
        if is_there("haproxy") {
            peers.push(Self::Haproxy("haproxy", "", ""));
            peers.push(Self::Haproxy("haproxy, splice", "  maxpipes 1000", "  option splice-auto"));
            let large = "  maxpipes 1000\n  tune.pipesize 1048576";
            peers.push(Self::Haproxy("haproxy, splice, 1M pipes", large, "  option splice-auto"));
        } else {
            missing.push("haproxy");
        }
        if is_there("nginx") && Path::new(STREAM_MODULE).exists() {
            peers.push(Self::Nginx);
        } else {
            missing.push("nginx with its stream module");
        }
        if is_there("envoy") {
            peers.push(Self::Envoy);
        } else {
            missing.push("envoy");
        }
        peers.extend([Self::Tokio, Self::Direct]);
        (peers, missing)
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Evenkeel(program) if program == env!("CARGO_BIN_EXE_evenkeel") => "evenkeel",
            Self::Evenkeel(_) => "evenkeel, other build",
            Self::Haproxy(name, ..) => name,
            Self::Nginx => "nginx stream",
            Self::Envoy => "envoy",
            Self::Tokio => "tokio copy_bidirectional",
            Self::Direct => "no proxy",
        }
    }

    /// Can it do that at all?
    pub(crate) fn does(&self, setup: &Setup) -> bool {
        match self {
            Self::Evenkeel(_) | Self::Nginx | Self::Envoy => true,
            Self::Haproxy(name, ..) => !setup.udp && (!setup.logged || *name == "haproxy"),
            Self::Tokio => !setup.udp && !setup.logged && setup.backends == 1,
            Self::Direct => !setup.logged && setup.backends == 1,
        }
    }

    /// Its version, for the report.
    pub(crate) fn version(&self) -> Option<String> {
        let (program, flag) = match self {
            Self::Evenkeel(program) => (program.as_str(), "--version"),
            Self::Haproxy("haproxy", ..) => ("haproxy", "-v"),
            Self::Nginx => ("nginx", "-v"),
            Self::Envoy => ("envoy", "--version"),
            _ => return None,
        };
        let output = Command::new(program).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        // Envoy names its commit before its version.
        let is_version =
            |word: &&str| word.split('.').count() > 2 && word.contains(|c: char| c.is_ascii_digit());
        let version = text.split(|c: char| c.is_whitespace() || c == '/').find(is_version)?;
        Some(version.to_owned())
    }

    /// Starts it in front of a backend that answers at every address of the loopback network.
    pub(crate) fn start(&self, backend: SocketAddr, setup: &Setup) -> Proxy {
        let door = free_address();
        let addresses: Vec<SocketAddr> = (0..setup.backends)
            .map(|number| {
                let [high, low] = u16::try_from(number).unwrap_or(0).to_be_bytes();
                SocketAddr::from(([127, high, low, if number == 0 { 1 } else { 2 }], backend.port()))
            })
            .collect();
        let text = match self {
            Self::Direct => return Proxy { child: None, door: backend, at_first_kib: 0, files: Vec::new() },
            Self::Tokio => return Proxy::tokio(backend, door),
            Self::Evenkeel(_) => evenkeel(door, &addresses, setup),
            Self::Haproxy(_, global, defaults) => haproxy(door, &addresses, global, defaults, setup),
            Self::Nginx => nginx(door, &addresses, setup),
            Self::Envoy => envoy(door, &addresses, setup),
        };
        // Envoy goes by the end of the name.
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
        std::fs::write(file.path(), text).expect("writing the configuration");
        let mut command = match self {
            Self::Evenkeel(program) => pinned(program, &["run", "--config"]),
            Self::Haproxy(..) => pinned("haproxy", &["-db", "-f"]),
            Self::Envoy => {
                pinned("envoy", &["--concurrency", "1", "--use-dynamic-base-id", "-l", "off", "-c"])
            }
            _ => pinned("nginx", &["-c"]),
        };
        // Readable for the user that all of them run as.
        let _ = std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let child = command.arg(file.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Proxy::ready(child.expect("starting a proxy"), door, setup.udp, vec![file])
    }
}

fn evenkeel(door: SocketAddr, backends: &[SocketAddr], setup: &Setup) -> String {
    let datagrams = format!(
        "  datagrams: {{ bind: '{door}', protocol: udp, pool: backends, limits: {{ sessions: off, sessions_per_source: off }} }}"
    );
    include_str!("../peers/evenkeel.yaml")
        .replace("{door}", &door.to_string())
        .replace("{sessions}", if setup.logged { "all" } else { "'off'" })
        .replace("{limits}", if setup.udp { "udp_sessions" } else { "tcp_sessions" })
        .replace("{datagrams}", if setup.udp { &datagrams } else { "" })
        .replace("{servers}", &lines(backends, |address, _| format!("      - '{address}'")))
}

fn haproxy(door: SocketAddr, backends: &[SocketAddr], global: &str, defaults: &str, setup: &Setup) -> String {
    let (log, logged) = if setup.logged {
        ("\n  log stderr format raw local0", "\n  log global\n  option tcplog")
    } else {
        ("", "")
    };
    include_str!("../peers/haproxy.cfg")
        .replace("{global}", &format!("{global}{log}"))
        .replace("{defaults}", &format!("{defaults}{logged}"))
        .replace("{door}", &door.to_string())
        .replace("{servers}", &lines(backends, |address, number| format!("  server s{number} {address}")))
}

fn nginx(door: SocketAddr, backends: &[SocketAddr], setup: &Setup) -> String {
    let pid = std::env::temp_dir().join(format!("evenkeel-bench-nginx-{}.pid", door.port()));
    let datagrams = format!("  server {{ listen {door} udp; proxy_pass backends; }}");
    let log = "  log_format sessions '$remote_addr $upstream_addr $status $bytes_sent $session_time';\n  access_log /dev/stderr sessions;";
    include_str!("../peers/nginx.conf")
        .replace("{pid}", &pid.display().to_string())
        .replace("{log}", if setup.logged { log } else { "  access_log off;" })
        .replace("{door}", &door.to_string())
        .replace("{datagrams}", if setup.udp { &datagrams } else { "" })
        .replace("{servers}", &lines(backends, |address, _| format!("    server {address};")))
}

fn envoy(door: SocketAddr, backends: &[SocketAddr], setup: &Setup) -> String {
    let socket = |address: &SocketAddr, protocol: &str| {
        format!("{{ {protocol}address: {}, port_value: {} }}", address.ip(), address.port())
    };
    let log = "          access_log: [{ name: log, typed_config: { '@type': type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog } }]";
    let datagrams = format!(
        "  - address: {{ socket_address: {} }}\n    listener_filters: [{{ name: udp, typed_config: {{ '@type': {UDP_PROXY}.UdpProxyConfig, stat_prefix: udp, \
         matcher: {{ on_no_match: {{ action: {{ name: route, typed_config: {{ '@type': {UDP_PROXY}.Route, cluster: backends }} }} }} }} }} }}]",
        socket(&door, "protocol: UDP, ")
    );
    include_str!("../peers/envoy.yaml")
        .replace("{door_ip}", &door.ip().to_string())
        .replace("{door_port}", &door.port().to_string())
        .replace("{log}", if setup.logged { log } else { "" })
        .replace("{datagrams}", if setup.udp { &datagrams } else { "" })
        .replace(
            "{servers}",
            &lines(backends, |address, _| {
                format!("        - endpoint: {{ address: {{ socket_address: {} }} }}", socket(address, ""))
            }),
        )
}

fn lines(addresses: &[SocketAddr], line: impl Fn(&SocketAddr, usize) -> String) -> String {
    let mut text = String::new();
    for (number, address) in addresses.iter().enumerate() {
        let _ = writeln!(text, "{}", line(address, number));
    }
    text
}

/// A proxy that serves, on the second core where there is one.
pub(crate) struct Proxy {
    child: Option<Child>,
    pub(crate) door: SocketAddr,
    /// Memory of its own before it had a connection.
    pub(crate) at_first_kib: u64,
    #[allow(dead_code)] // They go with it.
    files: Vec<tempfile::NamedTempFile>,
}

impl Proxy {
    fn tokio(backend: SocketAddr, door: SocketAddr) -> Self {
        let me = std::env::current_exe().expect("this program");
        let child = pinned(me.to_str().expect("a path in UTF-8"), &[])
            .env(BASELINE_FLAG, backend.to_string())
            .env(DOOR_VARIABLE, door.to_string())
            .spawn()
            .expect("starting the baseline");
        Self::ready(child, door, false, Vec::new())
    }

    fn ready(child: Child, door: SocketAddr, udp: bool, files: Vec<tempfile::NamedTempFile>) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !listens(door) || (udp && !hears_datagrams(door)) {
            assert!(Instant::now() < deadline, "{child:?} does not listen at {door}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut proxy = Self { child: Some(child), door, at_first_kib: 0, files };
        proxy.at_first_kib = proxy.private_kib();
        proxy
    }

    /// User and system time of all its threads and of its children, in the kernel's nanoseconds where it counts so finely.
    pub(crate) fn cpu(&self) -> Duration {
        let ran = self.processes().into_iter().flat_map(|pid| {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            tasks.map(|task| {
                let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
            })
        });
        Duration::from_nanos(ran.sum())
    }

    /// Memory of its own, in KiB: what no file backs.
    pub(crate) fn private_kib(&self) -> u64 {
        let of = |pid: u32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with("Anonymous:")).map(str::to_owned);
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
        };
        self.processes().into_iter().map(of).sum()
    }

    fn processes(&self) -> Vec<u32> {
        let Some(child) = &self.child else { return Vec::new() };
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()));
        let children = children.unwrap_or_default();
        std::iter::once(child.id())
            .chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()))
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Is a socket for datagrams bound there? Asking by binding one would be in the way of the proxy.
fn hears_datagrams(door: SocketAddr) -> bool {
    sockets_at("/proc/net/udp", door).next().is_some()
}

/// Is somebody listening there? Asking by a connect would be taken for a client, which a proxy may take to its backend much
/// later, and a bind be in the way.
pub(crate) fn listens(place: SocketAddr) -> bool {
    sockets_at("/proc/net/tcp", place).any(|state| state == "0A")
}

/// The states of the sockets that the kernel lists with this port of their own.
fn sockets_at(list: &str, place: SocketAddr) -> impl Iterator<Item = String> {
    let (sockets, port) =
        (std::fs::read_to_string(list).unwrap_or_default(), format!(":{:04X}", place.port()));
    let states = sockets.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next()?.ends_with(&port);
        words.nth(1).filter(|_| is_it).map(str::to_owned)
    });
    states.collect::<Vec<_>>().into_iter()
}

/// On the second core, as a user without rights where this one has them.
fn pinned(program: &str, arguments: &[&str]) -> Command {
    let mut words: Vec<&str> = Vec::new();
    if has_two_cores() {
        words.extend(["taskset", "-c", "1"]);
    }
    if as_nobody() {
        words.extend(NOBODY);
    }
    words.push(program);
    words.extend(arguments);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

pub(crate) fn has_two_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
        && Command::new("taskset").arg("--version").output().is_ok()
}

/// All proxies run as `nobody` where this user may say so and `nobody` may run them all: the same rights for each.
pub(crate) fn as_nobody() -> bool {
    static MAY: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *MAY.get_or_init(|| {
        let me = std::env::current_exe().expect("this program");
        [Path::new(env!("CARGO_BIN_EXE_evenkeel")), &me].into_iter().all(|program| {
            let mut command = Command::new(NOBODY[0]);
            command.args(&NOBODY[1..]).args(["test", "-x"]).arg(program);
            command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        })
    })
}

pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

pub(crate) fn is_there(program: &str) -> bool {
    Command::new(program).arg("-v").output().is_ok()
}

const UDP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3";
/// Where Debian puts it.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
/// They end with this program, however it ends.
const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig=KILL"];
