//! Errors of MySQL and MariaDB: what each means for a check.
//!
//! Pure. One number, one meaning.

use crate::health::outcome::{Cause, Excerpt};

/// What an error is worth.
pub(super) fn cause(number: u16, text: &str) -> Cause {
    let say = |advice: &str| {
        let stop = if advice.is_empty() { "" } else { "; " };
        Excerpt::text(&format!("{text} ({number}){stop}{advice}"))
    };
    match number {
        // Too many connections: of the server, of an account, of an account in an hour.
        1040 | 1203 | 1226 => Cause::Full { excerpt: say("") },
        // Shutdown, not yet in its cluster, offline_mode.
        1053 | 1047 | 3032 => Cause::Unready { excerpt: say("") },
        1129 => Cause::Auth {
            excerpt: say("it blocks this host for its failed logins: FLUSH HOSTS, and look for what failed"),
        },
        3159 => Cause::Tls { excerpt: say("write `tls: on`") },
        1045 | 1044 | 1130 | 1698 | 1820 | 1862 | 3118 | 3955 => {
            Cause::Auth { excerpt: say("look at `user`, `password` and the account's host") }
        }
        1142 | 1143 | 1227 => Cause::Auth { excerpt: say("in a group it needs two grants: docs/mysql.md") },
        _ => Cause::WrongAnswer { excerpt: say("") },
    }
}
