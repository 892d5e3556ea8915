//! Connection to an HTTP server: by the addresses of a name, one after the other, or a Unix socket, and through TLS where that is said.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::error::AskError;
use crate::config::settings::{Dns, HttpAt, HttpServer};
use crate::discovery::files::Files;
use crate::discovery::ledger::Heard;
use crate::discovery::resolver::{Ids, Resolver};
use crate::tls::Trust;

/// A connection, whatever it goes through.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// What all need that ask: how names are looked up, and whom TLS believes.
#[derive(Debug, Clone)]
pub(in crate::discovery) struct Asker {
    dns: Arc<Dns>,
    ids: Arc<Ids>,
    trust: Arc<Trust>,
}

/// A connection that stands.
pub(super) struct Reached {
    pub(super) io: Box<dyn Io>,
    /// Whoever is there is on this host.
    pub(super) is_local: bool,
}

impl Asker {
    /// One that looks names up as these settings say.
    pub(in crate::discovery) fn new(dns: &Dns) -> Self {
        Self { dns: Arc::new(dns.clone()), ids: Arc::default(), trust: Arc::default() }
    }

    /// The same that looks names up in another way.
    pub(in crate::discovery) fn by(&self, dns: &Dns) -> Self {
        Self { dns: Arc::new(dns.clone()), ..self.clone() }
    }

    /// Connects, within [`CONNECT_MAX`].
    pub(super) async fn reach(&self, server: &HttpServer) -> Result<Reached, AskError> {
        let silent = AskError::Silent { what: "connection", within_s: CONNECT_MAX.as_secs() };
        timeout(CONNECT_MAX, self.reach_at_leisure(server)).await.unwrap_or(Err(silent))
    }

    async fn reach_at_leisure(&self, server: &HttpServer) -> Result<Reached, AskError> {
        let (ips, port) = match &server.at {
            HttpAt::Socket(path) => {
                let connected = UnixStream::connect(path).await;
                let io = connected.map_err(|source| AskError::Connect { at: path.clone(), source })?;
                return Ok(Reached { io: Box::new(io), is_local: true });
            }
            HttpAt::Ip(ip, port) => (vec![*ip], *port),
            HttpAt::Name(name, port) => (self.look(name).await?, *port),
        };
        let mut last = AskError::Lookup("its name has no address".to_owned());
        for ip in ips {
            let at = SocketAddr::new(ip, port);
            let socket = match timeout(ONE_MAX, TcpStream::connect(at)).await {
                Ok(Ok(socket)) => socket,
                Ok(Err(source)) => {
                    last = AskError::Connect { at: at.to_string(), source };
                    continue;
                }
                Err(_) => {
                    last = AskError::Silent { what: "connection", within_s: ONE_MAX.as_secs() };
                    continue;
                }
            };
            let is_local = ip.to_canonical().is_loopback();
            let Some(terms) = &server.tls else { return Ok(Reached { io: Box::new(socket), is_local }) };
            match self.trust.handshake(terms, ip, socket).await {
                Ok(stream) => return Ok(Reached { io: Box::new(stream), is_local }),
                Err(why) => last = AskError::Tls { at: at.to_string(), why },
            }
        }
        Err(last)
    }

    /// The addresses of a name, IPv4 first.
    async fn look(&self, name: &str) -> Result<Vec<IpAddr>, AskError> {
        let files = Files::new(&self.dns);
        let resolver = Resolver::by(&self.dns, Some(&files), &self.ids);
        let looked = resolver.look(name.to_ascii_lowercase(), [true, true]).await;
        let (mut ips, mut whys) = (Vec::new(), Vec::new());
        for heard in looked.heard.into_iter().flatten() {
            match heard {
                Heard::Members(members, _) => ips.extend(members),
                Heard::Nobody(why, _) | Heard::Failure(why) => whys.push(why),
            }
        }
        if !ips.is_empty() {
            return Ok(ips);
        }
        // Both questions have mostly one answer.
        whys.dedup();
        Err(AskError::Lookup(format!("{name}: {}", whys.join("; "))))
    }
}

/// For everything until a question can be asked.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// For one address of several.
const ONE_MAX: Duration = Duration::from_secs(5);
