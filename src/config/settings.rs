//! What the program uses: checked, complete values, defaults filled in.
//!
//! Everything here is plain data. No `Option` stands for "take the default": `None` means the user wrote (or the
//! default is) `off`. Only `check.rs` makes these from a file; tests may write them by hand.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

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

/// The `admin` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address of the read-only HTTP door.
    pub http: Option<SocketAddr>,
}

/// The `shutdown` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
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
    /// Index into `Settings::pools`.
    pub pool: usize,
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
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
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

/// The `timeouts` of a listener; `None` is `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a whole PROXY header may take; nothing for udp.
    pub header: Duration,
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

/// One entry of `pools`, or the pool keys of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its key in the file; an inline pool has its listener's name.
    pub name: String,
    /// How a backend is chosen.
    pub balance: Balance,
    /// At least one.
    pub backends: Vec<Backend>,
    /// How a backend is dialled.
    pub connect: Connect,
    /// From which address of ours.
    pub connect_from: ConnectFrom,
    /// The PROXY header in front of what clients send.
    pub send_proxy: SendProxy,
    /// Sessions of the whole pool at once; `None` is `off`. Never 0.
    pub max_sessions: Option<u32>,
    /// A source returns to its backend; `None` is `off`.
    pub sticky: Option<Sticky>,
    /// How backends are asked for their health.
    pub health: Health,
    /// Real traffic counts too; `None` is `off`.
    pub passive: Option<Passive>,
    /// How long the weight of a backend that came back grows; `None` is `off`.
    pub slow_start: Option<Duration>,
    /// What happens to the flows of a backend that goes down.
    pub on_down: OnDown,
    /// What happens when no backend is eligible.
    pub when_none: WhenNone,
    /// Sessions wait when every eligible backend is full; `None` is `off`.
    pub queue: Option<Queue>,
}

/// The `sticky` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sticky {
    /// How long a source is remembered after its last session began.
    pub lasts: Duration,
    /// How many sources are remembered; the least recently used goes first. At least 1.
    pub entries: u32,
}

/// The `passive` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passive {
    /// Failures in a row until a backend is ejected. At least 1.
    pub failures: u32,
    /// How long the first ejection lasts.
    pub eject: Duration,
    /// How much of the pool may be ejected at once, rounded down; 0 to 100.
    pub max_ejected_percent: u8,
}

/// The `queue` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How many sessions may wait. At least 1.
    pub sessions: u32,
    /// How long each may wait.
    pub timeout: Duration,
}

/// The `balance` of a pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Balance {
    /// Smooth weighted turns.
    RoundRobin,
    /// Fewest sessions over weight.
    LeastConnections,
    /// Weighted chance.
    Random,
    /// The less loaded of two drawn by chance.
    TwoChoices,
    /// Peak-EWMA of connect and first-answer time, two choices.
    LeastLatency,
    /// The first in the list that is not full.
    First,
    /// The same client to the same backend.
    SourceHash(SourceHash),
}

/// The settings of `source_hash`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SourceHash {
    /// What of the client is hashed.
    pub key: HashKey,
    /// A backend above this many times its fair share of sessions is passed over; at least 1.0.
    pub bounded_load: Option<f64>,
    /// Leading bits of an IPv4 address that count, 0 to 32.
    pub mask_v4: u8,
    /// Leading bits of an IPv6 address that count, 0 to 128.
    pub mask_v6: u8,
}

/// What of the client is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKey {
    /// Its address.
    SourceIp,
    /// Its address and port.
    SourceIpPort,
}

/// One entry of `backends`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Default: the address as written. Unique in its pool.
    pub name: String,
    /// Where it answers.
    pub ip: IpAddr,
    /// `None`: the port the client came to.
    pub port: Option<u16>,
    /// 0 to 256; 0 drains.
    pub weight: u16,
    /// A higher tier serves only while no lower one has an eligible backend.
    pub tier: u8,
    /// Sessions at once; `None` is `off`. Never 0.
    pub max_sessions: Option<u32>,
}

/// The `send_proxy` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendProxy {
    /// None.
    Off,
    /// A line of text; never in a pool that a udp listener uses.
    V1,
    /// The binary form; of a flow, in front of its first datagram.
    V2,
}

/// The `connect_from` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectFrom {
    /// The one the kernel chooses.
    Any,
    /// These in turn; at least one.
    Addresses(Vec<IpAddr>),
    /// The client's own address and port.
    Client,
}

/// The `connect` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect {
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Attempts per session, 1 to 16, each at another backend while there is one.
    pub attempts: u8,
}

/// The `health` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Between two checks of a backend.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Good answers until up, 1 to 255.
    pub rise: u8,
    /// Bad answers until down, 1 to 255.
    pub fall: u8,
    /// Ask this port; `None` is `same`.
    pub port: Option<u16>,
    /// In front of checks that talk: the pool's own, since one door takes headers from everyone or from nobody. For a
    /// check of another port it is `Off`.
    pub send_proxy: SendProxy,
}

/// The `check` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Nobody is asked; every backend counts as up.
    Off,
    /// A TCP handshake the server's program never sees.
    Tcp,
    /// A TCP conversation: send bytes, expect bytes in the answer. At least one of the two is not empty.
    TcpTalk {
        /// Sent after the connect.
        send: Vec<u8>,
        /// Must appear in the first 64 KiB answered.
        expect: Vec<u8>,
    },
    /// A datagram, and one that answers it.
    Udp {
        /// The question.
        send: Vec<u8>,
        /// Must appear in the answer; empty: any answer.
        expect: Vec<u8>,
    },
    /// A DNS question over UDP; any answer to it but a server failure or a refusal is good.
    Dns {
        /// Fully qualified.
        name: String,
        /// The number of the record type asked for.
        record_type: u16,
    },
}

/// The `on_down` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    /// They stay.
    Keep,
    /// They end.
    Close,
    /// The next datagram goes to another backend.
    Rehome,
}

/// What happens when no backend is eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenNone {
    /// The client is closed with a reset.
    Reject,
    /// Every backend no operator took out is tried.
    TryAll,
}
