//! Checks that log in, as the program uses them.

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
