//! `sessions` and `close`: the same filters, to look and to end.

use clap::Args;

use super::shown::{bytes, list, number, text};
use super::whose::Whose;
use crate::cli::client::Told;
use crate::config::table;
use crate::durations::age;

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Of this listener
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// At this backend
    #[arg(long, value_name = "POOL/BACKEND")]
    backend: Option<String>,
    /// Of this client
    #[arg(long, value_name = "IP")]
    client: Option<String>,
    /// That came in at this address of this machine
    #[arg(long, value_name = "IP")]
    local: Option<String>,
}

impl Which {
    fn query(&self) -> Vec<(&str, &str)> {
        let all = [
            ("listener", &self.listener),
            ("backend", &self.backend),
            ("client", &self.client),
            ("local", &self.local),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))).collect()
    }
}

/// Tells them.
pub(super) fn sessions(whose: Whose, which: &Which, limit: u32) -> Result<(), Told> {
    let client = whose.client()?;
    let limit = limit.to_string();
    let mut query = which.query();
    query.push(("limit", &limit));
    let answer = client.ask("GET", "/sessions", &query)?;
    client.show(&answer, |answer| {
        let (count, sessions) = (number(answer, "count"), list(answer, "sessions"));
        let mut rows =
            vec![["PROTO", "CLIENT", "LISTENER", "BACKEND", "STATE", "AGE", "IN", "OUT"].map(str::to_owned)];
        rows.extend(sessions.iter().map(|session| {
            let backend = match (text(session, "pool"), text(session, "backend")) {
                ("", _) => String::new(),
                (pool, name) => format!("{pool}/{name}"),
            };
            [
                text(session, "proto").to_owned(),
                text(session, "client").to_owned(),
                text(session, "listener").to_owned(),
                backend,
                text(session, "state").to_owned(),
                age(number(session, "age_s")),
                bytes(number(session, "to_backend")),
                bytes(number(session, "to_client")),
            ]
        }));
        let shown = sessions.len() as u64;
        let rest = if count > shown {
            format!("\n{shown} of {count} sessions; --limit shows more\n")
        } else {
            format!("\n{count} sessions\n")
        };
        table(&rows) + &rest
    })
}

/// Ends them.
pub(super) fn close(whose: Whose, which: &Which, all: bool) -> Result<(), Told> {
    let client = whose.client()?;
    let mut query = which.query();
    if all {
        query.push(("all", "1"));
    }
    let answer = client.ask("POST", "/close", &query)?;
    client.show(&answer, |answer| format!("{} sessions closed", number(answer, "closed")))
}
