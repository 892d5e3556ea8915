//! Routes of a listener, and what its clients speak.

use super::{Cidr, NamePattern, Role};

/// One of the `routes` of a listener: what it asks for, and where it leads. All of what it asks for must fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Clients of these networks; empty: of any.
    pub from: Vec<Cidr>,
    /// Clients who came to one of these ports, first to last; empty: to any.
    pub ports: Vec<(u16, u16)>,
    /// The server name that a ClientHello of TLS says.
    pub sni: Option<NamePattern>,
    /// A protocol that it offers.
    pub alpn: Option<String>,
    /// The database that a PostgreSQL client wants, in the clear.
    pub database: Option<String>,
    /// The user it logs in as, in the clear.
    pub user: Option<String>,
    /// The host that a Minecraft player typed.
    pub host: Option<NamePattern>,
    /// Index into `Settings::pools`.
    pub pool: usize,
    /// Which of its backends.
    pub role: Role,
}

impl Route {
    /// What the client says first decides whether it fits.
    pub fn asks_first(&self) -> bool {
        self.sni.is_some()
            || self.alpn.is_some()
            || self.database.is_some()
            || self.user.is_some()
            || self.host.is_some()
    }
}

/// What the clients of a listener speak: `speaks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
    /// Redis or Valkey.
    Redis,
    /// Minecraft, the Java edition.
    Minecraft,
}
