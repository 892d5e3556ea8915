//! Where backends are found (service discovery), as the program uses it.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Cidr, ConsulSource, DockerSource, HttpSource, KubernetesSource};

/// An entry of `backends` that finds backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What people and metrics call it: a host name as it is written, or the kind and what is asked for. Once in its pool.
    pub text: String,
    /// What is asked.
    pub from: SourceKind,
    /// Of each that is found, where the source does not say it.
    pub weight: u16,
    /// Of each that is found, where the source does not say it.
    pub tier: u8,
    /// Of each that is found, where the source does not say it; `None` is `off`.
    pub max_sessions: Option<u32>,
    /// What the source says and is not listened to.
    pub ignore: Vec<Ignored>,
}

impl Source {
    /// What it finds has no port by what the file says: the one the client came to is dialled.
    pub fn finds_no_port(&self) -> bool {
        match &self.from {
            SourceKind::Name(name) => name.port.is_none(),
            SourceKind::Services(ServiceName { port: Some(_), .. }) => false,
            _ => self.ignore.contains(&Ignored::Port),
        }
    }
}

/// What is asked for backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// The addresses of a host name.
    Name(HostName),
    /// A file.
    File(ListFile),
    /// The services of a name (SRV).
    Services(ServiceName),
    /// A URL.
    Http(HttpSource),
    /// A service of Consul.
    Consul(ConsulSource),
    /// Containers of Docker or Podman.
    Docker(DockerSource),
    /// A service of Kubernetes.
    Kubernetes(KubernetesSource),
}

impl SourceKind {
    /// A server is asked over HTTP, which takes descriptors of its own.
    pub fn is_asked_over_http(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Consul(_) | Self::Docker(_) | Self::Kubernetes(_))
    }
}

/// A name whose services are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    /// It; with a final dot it is never extended.
    pub name: String,
    /// Instead of the port that each service says.
    pub port: Option<u16>,
}

/// A host name that is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    /// It; with a final dot it is never extended.
    pub host: String,
    /// The port of what is found; `None`: the one the client came to.
    pub port: Option<u16>,
    /// Which of its addresses are backends.
    pub addresses: Addresses,
    /// Of which kind.
    pub family: Family,
    /// The name of the backend where it is one.
    pub name: Option<String>,
}

/// A file that lists backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFile {
    /// Where it is.
    pub path: String,
    /// How often it is looked at.
    pub every: Duration,
}

/// One of the words of `ignore`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Its share of what is new.
    Weight,
    /// Its tier.
    Tier,
    /// Its sessions at once.
    MaxSessions,
    /// Its port: what is found is dialled at the one the client came to.
    Port,
}

/// The `addresses` of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Each is a backend, named by address and port.
    All,
    /// The name is the backend, and one of them is where it is.
    One,
}

/// The `family` of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Both are asked for.
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// The `discovery` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// What it means that there is nobody.
    pub on_empty: OnEmpty,
    /// How long the last answer of a source that fails serves; `None` is `off`: for ever.
    pub keep_for: Option<Duration>,
    /// An answer that takes away more than so many of a hundred is confirmed for longer.
    pub max_removed_percent: u8,
    /// Found ones, at most.
    pub max_backends: u32,
    /// Found addresses lie in one of these; none: any that can be a backend.
    pub networks: Vec<Cidr>,
    /// What is found outlives a crash, where there is a folder for that.
    pub remembers: bool,
}

/// The `on_empty` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEmpty {
    /// Those that were found before stay.
    Keep,
    /// They leave.
    Empty,
}

/// The `dns` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Whom to ask; `None`: whom resolv.conf names.
    pub servers: Option<Vec<SocketAddr>>,
    /// The hosts file; `None` is `off`.
    pub hosts: Option<String>,
    /// The domains of short names; `None`: those of resolv.conf.
    pub search: Option<Vec<String>>,
    /// For one question to one server.
    pub timeout: Duration,
    /// Rounds over all servers.
    pub attempts: u8,
    /// A name is asked for again no sooner.
    pub refresh_min: Duration,
    /// And no later.
    pub refresh_max: Duration,
}
