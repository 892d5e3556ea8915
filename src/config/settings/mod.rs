//! Settings: what the program uses: checked, complete values, defaults filled in.
//!
//! Everything here is plain data. No `Option` stands for "take the default": `None` means the user wrote (or the
//! default is) `off`. Only `check.rs` makes these from a file; tests may write them by hand.

mod asked;
mod checks;
mod discovery;
mod name_pattern;
mod networks;
mod pools;
mod routes;
mod secret;
mod tls;
mod words;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

pub use asked::*;
pub use checks::*;
pub use discovery::*;
pub use name_pattern::*;
pub use networks::*;
pub use pools::*;
pub use routes::*;
pub use secret::*;
pub use tls::*;
pub use words::*;

/// A whole configuration. Pools come in the order of the file, inline pools where their listener stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Data threads.
    pub workers: Workers,
    /// Balancers that share it send a client to the same backend.
    pub hash_seed: String,
    /// What is logged and how.
    pub log: Log,
    /// Where operators and scrapers ask.
    pub admin: Admin,
    /// How sessions end after a stop.
    pub shutdown: Shutdown,
    /// Limits of the whole process.
    pub limits: Limits,
    /// How names are asked for.
    pub dns: Dns,
    /// The doors, in the order of the file.
    pub listeners: Vec<Listener>,
    /// The pools, named and inline alike.
    pub pools: Vec<Pool>,
}

/// How many data threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// As many as the CPUs this process may use.
    Auto,
    /// This many.
    Count(NonZeroU16),
}

/// The `log` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least serious level that is written.
    pub level: Level,
    /// Text or JSON lines.
    pub format: LogFormat,
    /// Which ended sessions get a line.
    pub sessions: LogSessions,
}

/// Log levels, most serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Act now.
    Error,
    /// Degraded.
    Warn,
    /// The life of the process, and session lines.
    Info,
    /// Detail.
    Debug,
    /// Per read.
    Trace,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which ended sessions are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSessions {
    /// Every one.
    All,
    /// Those that did not end in an ordinary way.
    Failed,
    /// None.
    Off,
}

impl LogSessions {
    /// Its word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failed => "failed",
            Self::Off => "off",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::All, Self::Failed, Self::Off].into_iter().find(|one| one.word() == word)
    }
}

/// The `admin` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The socket of the commands.
    pub socket: AdminSocket,
    /// Address of the read-only HTTP door.
    pub http: Option<SocketAddr>,
    /// Address of the door that tells readiness and nothing else.
    pub ready: Option<SocketAddr>,
    /// Names by which `http` may be asked, in lower case.
    pub hosts: Vec<String>,
}

/// The `admin.socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminSocket {
    /// Where the program usually has it.
    Auto,
    /// None.
    Off,
    /// There.
    Path(String),
}

/// The `shutdown` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// How long everything goes on after a stop, while `/readyz` says that it will not.
    pub delay: Duration,
    /// How long sessions may finish after a stop, before they are cut.
    pub grace: Duration,
}

/// The `limits` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// TCP sessions at once.
    pub tcp_sessions: SessionLimit,
    /// UDP flows at once.
    pub udp_sessions: SessionLimit,
}

/// A limit that may follow the open-file budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionLimit {
    /// What the open-file limit allows.
    Auto,
    /// This many.
    Count(u32),
}

/// One entry of `listeners`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its key in the file.
    pub name: String,
    /// Every address and port to bind, ranges written out. At least one.
    pub bind: Vec<Bind>,
    /// What comes through its doors.
    pub protocol: Protocol,
    /// Index into `Settings::pools`; where a route is needed, the pool of the first.
    pub pool: usize,
    /// Which clients go to which pool, the first that fits.
    pub routes: Vec<Route>,
    /// Clients for whom there is no route are refused.
    pub needs_route: bool,
    /// What its clients speak.
    pub speaks: Option<Speaks>,
    /// Which of its backends it wants.
    pub role: Role,
    /// When a session is ended for being too quiet or too old.
    pub timeouts: Timeouts,
    /// TCP keepalive probes, both sides; nothing for udp.
    pub keepalive: Option<Keepalive>,
    /// Who may come in; empty: everyone who is not denied.
    pub allow: Vec<Cidr>,
    /// Who may not. The longest match of both lists decides; a tie is deny.
    pub deny: Vec<Cidr>,
    /// How many sessions there may be, and how many may begin.
    pub limits: ListenerLimits,
    /// Connections that may wait to be accepted; `None` is `auto`: what the kernel allows. Nothing for udp.
    pub backlog: Option<u32>,
    /// Bind addresses that this host does not have yet.
    pub freebind: bool,
    /// Which ended sessions are logged; `None` is `inherit`: as `log.sessions` says.
    pub log_sessions: Option<LogSessions>,
    /// What concerns flows alone; nothing for tcp.
    pub udp: Udp,
    /// Whose connections begin with a PROXY header, and whose datagrams may.
    pub accept_proxy: Vec<Cidr>,
    /// Files of networks in these lists.
    pub files: NetworkFiles,
}

impl Listener {
    /// The pools that its clients may get to, with the roles that they want there: that of the listener first, each once.
    pub fn pools(&self) -> Vec<(usize, Role)> {
        let own = (!self.needs_route).then_some((self.pool, self.role));
        let mut all = Vec::new();
        for one in own.into_iter().chain(self.routes.iter().map(|route| (route.pool, route.role))) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    /// Some client of it may get to this pool.
    pub fn leads_to(&self, pool: usize) -> bool {
        (!self.needs_route && self.pool == pool) || self.routes.iter().any(|route| route.pool == pool)
    }
}

/// The `role` of a listener: which backends of a replicated pool it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It does not care.
    Any,
    /// The one that takes writes.
    Primary,
    /// Those that follow it.
    Replica,
    /// Those; while there is none, the primary.
    PreferReplica,
}

impl Role {
    /// Its place where there is one thing for each role.
    pub fn index(self) -> usize {
        self as usize
    }

    /// How many there are.
    pub const COUNT: usize = Self::WORDS.len();
}

/// The `protocol` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Flows: a client's address and port at one local address and port.
    Udp,
}

impl Protocol {
    /// Its word in the file, in logs and in metrics.
    pub fn word(self) -> &'static str {
        Word::word(self)
    }
}

/// The `limits` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Sessions at once; `Auto`, for udp, is a quarter of the process's.
    pub sessions: ShareLimit,
    /// Sessions of one source at once; `Auto`, for udp, is a sixteenth of the listener's.
    pub sessions_per_source: ShareLimit,
    /// Sessions that may begin in a time.
    pub rate: Option<Rate>,
    /// Sessions of one source that may begin in a time.
    pub rate_per_source: Option<Rate>,
}

/// So many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; never 0.
    pub count: u32,
    /// In which time: a second or a minute.
    pub per: Duration,
}

impl Rate {
    /// The time between two of them.
    pub fn interval(self) -> Duration {
        self.per / self.count.max(1)
    }
}

/// A limit that may be a share of a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareLimit {
    /// The usual share.
    Auto,
    /// Only the larger one.
    Off,
    /// This many.
    Count(u32),
}

/// The `udp` of a listener; `None` is `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    /// Replies to each datagram of the client; the flow ends when all have come.
    pub responses: Option<u32>,
    /// A new pick after so many datagrams of the client.
    pub requests: Option<u32>,
    /// Bytes of datagrams that may wait at a door.
    pub receive_buffer: u32,
    /// Bytes of answers that may wait to leave by a door.
    pub send_buffer: u32,
}

/// One address and port to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bind {
    /// `None`: every address, IPv4 and IPv6.
    pub ip: Option<IpAddr>,
    /// Never 0 in a file that passed the check; 0 (any free port) in settings that tests write.
    pub port: u16,
}

/// A network. No bit behind its prefix is set; IPv4 is never written as IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    /// Its first address.
    pub ip: IpAddr,
    /// How many leading bits all its addresses share: 0 to 32, for IPv6 to 128.
    pub bits: u8,
}

impl Cidr {
    /// Is this address in it? IPv4 that is written as IPv6 is IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => (own.to_bits() ^ ip.to_bits()).leading_zeros() >= bits,
            (IpAddr::V6(own), IpAddr::V6(ip)) => (own.to_bits() ^ ip.to_bits()).leading_zeros() >= bits,
            _ => false,
        }
    }
}

impl Bind {
    /// Whoever comes to `other` comes to this one too, ports aside.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.ip, other.ip) {
            (None, _) => true,
            (Some(wide), Some(narrow)) => wide.is_unspecified() && wide.is_ipv4() == narrow.is_ipv4(),
            (Some(_), None) => false,
        }
    }
}

/// The `timeouts` of a listener; `None` is `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a whole PROXY header may take; nothing for udp.
    pub header: Duration,
    /// How long a whole first message may take, where a route asks for it; nothing for udp.
    pub first: Duration,
    /// Neither side sent anything.
    pub idle: Option<Duration>,
    /// One side is done, the other is silent.
    pub half_closed: Option<Duration>,
    /// Longest life of a session.
    pub lifetime: Option<Duration>,
    /// TCP_USER_TIMEOUT on both sides.
    pub unacknowledged: Option<Duration>,
}

/// TCP keepalive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe. Whole seconds, 1s to 32767s.
    pub idle: Duration,
    /// Between probes. Whole seconds, 1s to 32767s.
    pub interval: Duration,
    /// Unanswered probes until the peer is given up, 1 to 127.
    pub count: u8,
}
