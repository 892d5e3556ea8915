//! Route table: which route a client takes: the first that fits by its network, the port it came to, and what its first
//! message says.
//!
//! Pure. The message is wanted only when a route that could be taken asks for it: who is decided by network or port alone
//! waits for nothing.

use std::net::IpAddr;

use super::hello::ClientHello;
use super::opening::Opening;
use crate::access::Access;
use crate::config::settings::{NamePattern, Route};

/// The routes of a listener, in the order of the file.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Row>,
    /// Some route asks for what TLS says.
    reads_tls: bool,
    /// Some route asks for what a PostgreSQL client says in the clear.
    reads_startup: bool,
}

#[derive(Debug)]
struct Row {
    from: Option<Access>,
    ports: Vec<(u16, u16)>,
    sni: Option<NamePattern>,
    alpn: Option<String>,
    database: Option<String>,
    user: Option<String>,
    host: Option<NamePattern>,
}

/// What is known of a client.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who it is.
    pub client: IpAddr,
    /// The port it came to.
    pub port: u16,
    /// What it said first.
    pub first: First<'a>,
}

/// What a client said first.
#[derive(Debug, Clone, Copy)]
pub enum First<'a> {
    /// Nothing that anybody has looked at.
    Unread,
    /// This.
    Is(&'a Opening),
}

/// Where a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// By the route of this number.
    Route(usize),
    /// No route is for it.
    None,
    /// What it says first decides.
    AsksFirst,
}

impl Table {
    /// Of these routes.
    pub fn new(routes: &[Route]) -> Self {
        let rows: Vec<Row> = routes.iter().map(Row::new).collect();
        let reads_tls = rows.iter().any(|row| row.sni.is_some() || row.alpn.is_some());
        let reads_startup = rows.iter().any(|row| row.database.is_some() || row.user.is_some());
        Self { rows, reads_tls, reads_startup }
    }

    /// Some route asks for what TLS says: PostgreSQL clients are told that they may begin with it.
    pub fn reads_tls(&self) -> bool {
        self.reads_tls
    }

    /// Some route asks for what a PostgreSQL client says in the clear, and none for what TLS says: it is told to go without.
    pub fn reads_only_startup(&self) -> bool {
        self.reads_startup && !self.reads_tls
    }

    /// The first route that fits.
    pub fn choose(&self, facts: &Facts<'_>) -> Choice {
        for (number, row) in self.rows.iter().enumerate() {
            if !row.admits(facts.client, facts.port) {
                continue;
            }
            match facts.first {
                First::Unread if row.asks_first() => return Choice::AsksFirst,
                First::Is(opening) if !row.fits(opening) => {}
                _ => return Choice::Route(number),
            }
        }
        Choice::None
    }
}

impl Row {
    fn new(route: &Route) -> Self {
        Self {
            from: (!route.from.is_empty()).then(|| Access::new(&route.from, &[])),
            ports: route.ports.clone(),
            sni: route.sni.clone(),
            alpn: route.alpn.clone(),
            database: route.database.clone(),
            user: route.user.clone(),
            host: route.host.clone(),
        }
    }

    fn admits(&self, client: IpAddr, port: u16) -> bool {
        self.from.as_ref().is_none_or(|from| from.allows(client))
            && (self.ports.is_empty()
                || self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
    }

    fn asks_first(&self) -> bool {
        self.sni.is_some()
            || self.alpn.is_some()
            || self.database.is_some()
            || self.user.is_some()
            || self.host.is_some()
    }

    fn fits(&self, opening: &Opening) -> bool {
        let hello = match opening {
            Opening::Tls(hello) => Some(hello),
            _ => None,
        };
        let (user, database) = match opening {
            Opening::PostgresStartup { user, database } => (Some(user), Some(database)),
            _ => (None, None),
        };
        let host = match opening {
            Opening::Minecraft { host, .. } => Some(host),
            _ => None,
        };
        let sni = hello.and_then(|hello: &ClientHello| hello.sni.as_deref());
        let is = |wanted: &Option<String>, said: Option<&String>| wanted.is_none() || wanted.as_ref() == said;
        self.sni.as_ref().is_none_or(|wanted| sni.is_some_and(|sni| wanted.fits(sni)))
            && self.alpn.as_ref().is_none_or(|wanted| hello.is_some_and(|hello| hello.offers(wanted)))
            && is(&self.database, database)
            && is(&self.user, user)
            && self.host.as_ref().is_none_or(|wanted| host.is_some_and(|host| wanted.fits(host)))
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
