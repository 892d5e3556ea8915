//! Checks that log in, as the program uses them.

use std::net::SocketAddr;

use super::{Secret, Tls};

/// The `postgres` of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresCheck {
    /// As whom.
    pub user: String,
    /// With what.
    pub password: Secret,
    /// In which database. Never `template1`.
    pub database: String,
    /// Over what.
    pub tls: Tls,
}

/// The `redis` of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisCheck {
    /// As whom; empty: the default user.
    pub user: String,
    /// With what; none: nobody logs in.
    pub password: Secret,
    /// Over what, to the Sentinels, too. Never `Try`: there is nothing to ask for it.
    pub tls: Tls,
    /// Who says which server is the primary; `None`: its own word is enough.
    pub sentinels: Option<Sentinels>,
}

/// The Sentinels of a `redis` check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinels {
    /// All of them: more than half must agree. At least one.
    pub addresses: Vec<SocketAddr>,
    /// What they call the set.
    pub name: String,
    /// What they want to be told first; none: nothing.
    pub password: Secret,
}

/// The `mysql` of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlCheck {
    /// As whom.
    pub user: String,
    /// With what.
    pub password: Secret,
    /// Over what.
    pub tls: Tls,
    /// Galera nodes that give their data to another.
    pub donors: Donors,
}

/// The `donors` of a `mysql` check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Donors {
    /// They serve.
    In,
    /// They do not: some ways to give block them.
    Out,
}

/// The `mongodb` of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongodbCheck {
    /// Over what. Never `Try`: there is nothing to ask for it.
    pub tls: Tls,
}
