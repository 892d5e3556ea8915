//! Sources that are asked over HTTP (service discovery), as the program uses them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::TlsTerms;

/// An HTTP server, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpServer {
    /// Where it is.
    pub at: HttpAt,
    /// Over TLS, believing whom these say.
    pub tls: Option<Arc<TlsTerms>>,
}

/// Where an HTTP server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAt {
    /// At an address.
    Ip(IpAddr, u16),
    /// At the addresses of a name, looked up as those of backends are.
    Name(String, u16),
    /// At a Unix socket.
    Socket(String),
}

impl HttpServer {
    /// What the server is told that it is called.
    pub fn authority(&self) -> String {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let (host, port) = match &self.at {
            HttpAt::Ip(IpAddr::V6(ip), port) => (format!("[{ip}]"), *port),
            HttpAt::Ip(ip, port) => (ip.to_string(), *port),
            HttpAt::Name(name, port) => (name.trim_end_matches('.').to_owned(), *port),
            HttpAt::Socket(_) => return "localhost".to_owned(),
        };
        if port == usual { host } else { format!("{host}:{port}") }
    }
}

/// A URL that names backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSource {
    /// Who is asked.
    pub server: HttpServer,
    /// For what: path and query.
    pub path: String,
    /// How often.
    pub every: Duration,
    /// Where the token stands that it wants.
    pub token_file: Option<Box<str>>,
}

/// A service of Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulSource {
    /// The agent.
    pub server: HttpServer,
    /// The name of the service.
    pub service: String,
    /// Only instances with this tag.
    pub tag: Option<String>,
    /// Of another data center.
    pub datacenter: Option<String>,
    /// Any server may answer, not the leader alone.
    pub stale: bool,
    /// An expression of Consul's.
    pub filter: Option<String>,
    /// Where the token stands.
    pub token_file: Option<Box<str>>,
}

/// Containers of Docker or Podman.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSource {
    /// The daemon's socket.
    pub server: HttpServer,
    /// Containers that have it: `KEY` or `KEY=VALUE`.
    pub label: String,
    /// Where they listen; without one, a label of theirs says it.
    pub port: Option<u16>,
    /// In which of their networks; without one, in the only one.
    pub network: Option<String>,
}

/// A service of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSource {
    /// Its namespace; without one, that of the pod or of the kubeconfig.
    pub namespace: Option<String>,
    /// Its name.
    pub service: String,
    /// Which port of it.
    pub port: Option<KubernetesPort>,
    /// Who is asked, and as whom; without one, as a pod does it.
    pub kubeconfig: Option<Box<str>>,
}

/// A port of a service of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KubernetesPort {
    /// The one of this name.
    Name(String),
    /// This one of the pods.
    Number(u16),
}
