//! `drain`, `ready`, `down` and `weight`: what an operator says of a backend.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::shown::{list, number, text};
use super::{Whose, duration};
use crate::cli::FAILED;
use crate::cli::client::{Client, Told};
use crate::cli::output::complain;

#[derive(Debug, Args)]
pub(crate) struct Marking {
    /// The backend
    #[arg(value_name = "POOL/BACKEND")]
    backend: String,
    /// Return when its last session has gone
    #[arg(long)]
    wait: bool,
    /// Wait so long at most, e.g. 10m; then the exit code is 1
    #[arg(long, value_name = "T", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    whose: Whose,
}

/// Says it, and waits if asked to.
pub(super) fn mark(marking: Marking, mark: &str) -> Result<(), Told> {
    let Marking { backend, wait, timeout, whose } = marking;
    let client = whose.client()?;
    let answer = client.ask("POST", "/mark", &[("backend", &backend), ("mark", mark)])?;
    if wait {
        wait_for(&client, &backend, timeout)?;
    }
    client.show(&answer, |_| match mark {
        "ready" => format!("{backend} gets sessions again, as far as its health allows"),
        _ if wait => format!("{backend} is marked {mark}; its last session has gone"),
        _ => format!(
            "{backend} is marked {mark}: nothing new goes there; `evenkeel ready {backend}` undoes it"
        ),
    })
}

/// Sets a weight.
pub(super) fn weight(whose: Whose, backend: &str, weight: &str) -> Result<(), Told> {
    let client = whose.client()?;
    let answer = client.ask("POST", "/weight", &[("backend", backend), ("weight", weight)])?;
    client.show(&answer, |_| match weight {
        "file" => format!("{backend} has the weight of the file again"),
        _ => format!("{backend} has the weight {weight}, until `evenkeel weight {backend} file` or the file's own changes"),
    })
}

/// Until no session is left there; tells how many are, on standard error.
fn wait_for(client: &Client, backend: &str, timeout: Option<Duration>) -> Result<(), Told> {
    let (began, mut told) = (Instant::now(), None);
    let terminal = std::io::stderr().is_terminal();
    loop {
        let status = client.ask("GET", "/status", &[])?;
        let left = active_of(&status, backend);
        if left == 0 {
            return Ok(());
        }
        if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
            complain(format_args!(
                "evenkeel: {left} sessions are left at {backend} after {} s",
                began.elapsed().as_secs()
            ));
            return Err(Told(ExitCode::from(FAILED)));
        }
        // A terminal sees every change, a log every tenth look.
        if told.is_none_or(|(looks, before)| if terminal { before != left } else { looks % 20 == 0 }) {
            complain(format_args!("{left} sessions left at {backend}"));
        }
        told = Some((told.map_or(1, |(looks, _)| looks + 1), left));
        std::thread::sleep(LOOK_EVERY);
    }
}

fn active_of(status: &Value, backend: &str) -> u64 {
    let Some((pool, name)) = backend.split_once('/') else { return 0 };
    let pool = list(status, "pools").iter().find(|candidate| text(candidate, "name") == pool);
    let of = |key| {
        let backends = pool.map_or(&[][..], |pool| list(pool, key));
        backends
            .iter()
            .filter(|backend| text(backend, "name") == name)
            .map(|backend| number(backend, "active"))
            .sum::<u64>()
    };
    of("backends") + of("leaving")
}

const LOOK_EVERY: Duration = Duration::from_millis(500);
