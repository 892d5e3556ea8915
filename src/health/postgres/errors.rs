//! What PostgreSQL's errors mean (SQLSTATE): of the server, of our configuration, or of one connection.
//!
//! Pure.

use super::super::outcome::{Cause, Excerpt};
use super::messages::ServerError;

/// It ends this connection and says nothing of the server: an administrator's command, a timeout of idle sessions, the crash of
/// another session, a pooler that restarts.
pub(super) fn says_nothing(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "57P05")
}

/// What is wrong. `is_secured`: it was said over TLS.
pub(super) fn cause(error: &ServerError, is_secured: bool) -> Cause {
    let said = |advice: &str| Excerpt::text(&format!("{} ({}){advice}", error.text, error.code));
    match error.code.as_str() {
        // Starting, stopping, or a replica that takes no sessions.
        "57P03" => Cause::Unready { excerpt: said("") },
        "53300" => Cause::Full { excerpt: said("") },
        // PgBouncer says everything by this code.
        "08P01" if error.text.contains("no more connections allowed") => Cause::Full { excerpt: said("") },
        "08P01" if MISTAKEN.iter().any(|words| error.text.contains(words)) => Cause::Auth {
            excerpt: said(
                "; look at `user`, `password` and `database` of the check, and at PgBouncer's files",
            ),
        },
        "08P01" => Cause::WrongAnswer { excerpt: said("") },
        "28P01" => Cause::Auth { excerpt: said("; look at `user` and `password` of the check") },
        "28000" if !is_secured && error.text.contains("no encryption") => {
            Cause::Auth { excerpt: said("; it may let TLS in: `tls: on`, or a line in its pg_hba.conf") }
        }
        "28000" => Cause::Auth { excerpt: said("; look at its pg_hba.conf, and at the role") },
        "3D000" | "42704" => Cause::Auth { excerpt: said("; look at `database` of the check") },
        "42501" => Cause::Auth { excerpt: said("; the role lacks a right") },
        _ => Cause::WrongAnswer { excerpt: said("") },
    }
}

/// What PgBouncer says of a login that it does not know.
const MISTAKEN: [&str; 3] = ["authentication failed", "no such user", "no such database"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let word = |code: &str, text: &str, is_secured: bool| {
            let error = ServerError { code: code.into(), text: text.into(), is_fatal: true };
            (cause(&error, is_secured).word(), cause(&error, is_secured).to_string())
        };
        let cases = [
            ("57P03", "the database system is starting up", "starting"),
            ("53300", "too many connections for role \"evenkeel\"", "full"),
            ("08P01", "no more connections allowed (max_client_conn)", "full"),
            ("08P01", "SASL authentication failed", "auth"),
            ("08P01", "no such database: shop", "auth"),
            ("08P01", "server login failed: wrong password type", "wrong_answer"),
            ("28P01", "password authentication failed for user \"evenkeel\"", "auth"),
            ("28000", "no pg_hba.conf entry for host", "auth"),
            ("3D000", "database \"x\" does not exist", "auth"),
            ("XX000", "internal error", "wrong_answer"),
        ];
        for (code, text, expected) in cases {
            let (word, shown) = word(code, text, false);
            assert_eq!(word, expected, "{shown}");
            assert!(shown.contains(text) && shown.contains(code), "{shown}");
        }
        let text = "no pg_hba.conf entry for host \"10.0.0.1\", user \"x\", database \"y\", no encryption";
        assert!(word("28000", text, false).1.contains("`tls: on`"));
        assert!(!word("28000", text, true).1.contains("`tls: on`"));
        assert!(["57P01", "57P02", "57P05"].iter().all(|code| says_nothing(code)) && !says_nothing("57P03"));
    }
}
