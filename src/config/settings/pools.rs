//! Pools and their backends, as the program uses them.

use std::net::IpAddr;
use std::time::Duration;

use super::{Discovery, MongodbCheck, MysqlCheck, PostgresCheck, RedisCheck, Secret, Source, Word};

/// One entry of `pools`, or the pool keys of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its key in the file; an inline pool has its listener's name.
    pub name: String,
    /// How a backend is chosen.
    pub balance: Balance,
    /// Those of the file, and those that its sources have found behind them. At least one, or a source.
    pub backends: Vec<Backend>,
    /// What finds backends.
    pub sources: Vec<Source>,
    /// How what is found is taken.
    pub discovery: Discovery,
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
    /// What happens to the sessions and flows of a backend that leaves the list.
    pub on_removed: OnRemoved,
    /// Those that are still there then end; `None` is `off`.
    pub removed_grace: Option<Duration>,
    /// What happens when no backend is eligible.
    pub when_none: WhenNone,
    /// What players read who are refused; `None`: why.
    pub refusal_text: Option<String>,
    /// Sessions wait when every eligible backend is full; `None` is `off`.
    pub queue: Option<Queue>,
    /// What is believed of roles, where the check tells them.
    pub roles: Roles,
}

/// The `roles` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Two primaries, and neither is provably the later.
    pub contested: Contested,
    /// A primary is believed only while more than half of the pool answers.
    pub majority: bool,
    /// Of many that take writes at once.
    pub writers: Writers,
    /// What happens to a session whose backend lost the role of its listener.
    pub leave: Leave,
    /// A replica so far behind the primary leaves, and returns below half of it; `None` is `off`.
    pub max_lag: Option<Duration>,
    /// The same in bytes of the stream of changes; `None` is `off`.
    pub max_lag_bytes: Option<u32>,
}

impl Roles {
    /// As it is where nothing is written.
    pub const DEFAULT: Self = Self {
        contested: Contested::Refuse,
        majority: false,
        writers: Writers::One,
        leave: Leave::Close,
        max_lag: None,
        max_lag_bytes: None,
    };
}

/// The `contested` of `roles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contested {
    /// Nobody is believed.
    Refuse,
    /// The one that was believed before.
    Keep,
}

/// The `writers` of `roles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// One, until it is none any more.
    One,
    /// All of them.
    All,
}

/// The `leave` of `roles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// A reset, at once.
    Close,
    /// It stays.
    Keep,
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passive {
    /// Failures in a row until a backend is ejected. At least 1.
    pub failures: u32,
    /// Sessions in a row that it ended without a byte until a backend is ejected, at least 1; `None` is `off`.
    pub empty: Option<u32>,
    /// It owes answers for so long, and gives none; `None` is `off`.
    pub silent: Option<Duration>,
    /// It answers so many times more slowly than the median of its pool, at least 1; `None` is `off`.
    pub slow: Option<f64>,
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
    /// Fewest owed answers for its speed.
    LeastBusy,
    /// Weighted chance.
    Random,
    /// The less loaded of two drawn by chance.
    TwoChoices,
    /// Peak-EWMA of what answers take, two choices.
    LeastLatency,
    /// The first in the list that is not full.
    First,
    /// The same client to the same backend.
    SourceHash(SourceHash),
}

impl Balance {
    /// Its word in the file.
    pub fn word(&self) -> &'static str {
        Word::word(*self)
    }
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
    /// Why its source wants nothing new there; what is there stays.
    pub drains: Option<String>,
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

impl SendProxy {
    /// Its word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Off, Self::V1, Self::V2].into_iter().find(|one| one.word() == word)
    }
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
    /// What the client said first is said again to another backend where one ended without a byte.
    pub replay_first: bool,
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
    /// How long one connection of a check that logs in serves; `None` is `off`.
    pub keep: Option<Duration>,
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
    /// A TCP conversation whose answer tells the role: what is found first in the first 64 KiB.
    TcpRoles {
        /// Sent after the connect.
        send: Vec<u8>,
        /// A primary says this. Not empty.
        primary: Vec<u8>,
        /// A replica says this. Not empty.
        replica: Vec<u8>,
    },
    /// What Patroni says of a PostgreSQL server.
    Patroni,
    /// What PostgreSQL itself says.
    Postgres(PostgresCheck),
    /// What a MySQL or MariaDB server says of itself.
    Mysql(MysqlCheck),
    /// What a member of a MongoDB replica set says of itself.
    Mongodb(MongodbCheck),
    /// What a Redis or Valkey server says of itself, and its Sentinels of it.
    Redis(RedisCheck),
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

impl Check {
    /// Its answer is a role.
    pub fn tells_roles(&self) -> bool {
        matches!(
            self,
            Self::TcpRoles { .. }
                | Self::Patroni
                | Self::Postgres(_)
                | Self::Redis(_)
                | Self::Mysql(_)
                | Self::Mongodb(_)
        )
    }

    /// The passwords in it.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let [one, other] = match self {
            Self::Postgres(check) => [Some(&check.password), None],
            Self::Mysql(check) => [Some(&check.password), None],
            Self::Redis(check) => {
                [Some(&check.password), check.sentinels.as_ref().map(|sentinels| &sentinels.password)]
            }
            _ => [None, None],
        };
        one.into_iter().chain(other)
    }

    /// Takes the passwords of another one, where the two are the same but for them.
    pub fn take_secrets(&mut self, other: &Self) {
        let mut taken = self.clone();
        match (&mut taken, other) {
            (Self::Postgres(check), Self::Postgres(other)) => check.password.clone_from(&other.password),
            (Self::Mysql(check), Self::Mysql(other)) => check.password.clone_from(&other.password),
            (Self::Redis(check), Self::Redis(other)) => {
                check.password.clone_from(&other.password);
                if let (Some(own), Some(others)) = (&mut check.sentinels, &other.sentinels) {
                    own.password.clone_from(&others.password);
                }
            }
            _ => {}
        }
        if taken == *other {
            *self = taken;
        }
    }

    /// It asks the same as another one, whatever the passwords.
    pub fn asks_as(&self, other: &Self) -> bool {
        let mut before = other.clone();
        before.take_secrets(self);
        *self == before
    }

    /// What it tells of how far each is are bytes; of others, it is a count of transactions or a time.
    pub fn tells_bytes(&self) -> bool {
        matches!(self, Self::Patroni | Self::Postgres(_) | Self::Redis(_))
    }

    /// It tells how far each is in the stream of changes.
    pub fn tells_positions(&self) -> bool {
        matches!(self, Self::Patroni | Self::Postgres(_) | Self::Redis(_) | Self::Mysql(_) | Self::Mongodb(_))
    }
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

impl OnDown {
    /// Its word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Close => "close",
            Self::Rehome => "rehome",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Keep, Self::Close, Self::Rehome].into_iter().find(|one| one.word() == word)
    }
}

/// The `on_removed` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRemoved {
    /// Sessions stay, and the next datagram of a flow goes to another backend.
    Auto,
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
    /// The client waits in the line of the pool until one is.
    Wait,
}
