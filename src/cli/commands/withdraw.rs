//! `withdraw` and `announce`: whether clients may be sent to this machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::shown::{list, number, text};
use super::whose::{Whose, duration};
use crate::cli::client::{Client, Told};
use crate::cli::exit_code::FAILED;
use crate::cli::output::complain;

#[derive(Debug, Args)]
pub(crate) struct Withdrawing {
    /// Return when no session has begun for 5 s: whoever moves an address or a route has done so
    #[arg(long)]
    wait: bool,
    /// Wait so long at most, e.g. 10m; then the exit code is 1
    #[arg(long, value_name = "T", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    whose: Whose,
}

/// Nobody is to be sent here.
pub(super) fn withdraw(withdrawing: Withdrawing) -> Result<(), Told> {
    let Withdrawing { wait, timeout, whose } = withdrawing;
    let client = whose.client()?;
    let answer = client.ask("POST", "/withdraw", &[])?;
    if wait {
        wait_until_quiet(&client, timeout)?;
    }
    client.show(&answer, |answer| {
        let done = if wait {
            "withdrawn, and no session has begun for 5 s; `evenkeel announce` takes it back"
        } else {
            "withdrawn: /readyz says 503, everything else stays as it is; `evenkeel announce` takes it back"
        };
        with_reason(done, answer)
    })
}

/// People may be sent here again.
pub(super) fn announce(whose: Whose) -> Result<(), Told> {
    let client = whose.client()?;
    let answer = client.ask("POST", "/announce", &[])?;
    client.show(&answer, |answer| with_reason("announced: /readyz says what is so again", answer))
}

fn with_reason(done: &str, answer: &Value) -> String {
    match text(answer, "not_kept") {
        "" => done.to_owned(),
        why => format!("{done}\n{why}"),
    }
}

/// Until nobody comes any more; tells on standard error who still does.
fn wait_until_quiet(client: &Client, timeout: Option<Duration>) -> Result<(), Told> {
    let began = Instant::now();
    let (mut seen, mut quiet_since, mut told_at) = (begun(client)?, Instant::now(), None::<Instant>);
    loop {
        std::thread::sleep(LOOK_EVERY);
        let now = begun(client)?;
        let (came, waited) = (now.saturating_sub(seen), began.elapsed());
        if came > 0 {
            (seen, quiet_since) = (now, Instant::now());
        }
        if quiet_since.elapsed() >= QUIET {
            return Ok(());
        }
        let progress =
            || format!("sessions still begin here, the last one {} s ago", quiet_since.elapsed().as_secs());
        if timeout.is_some_and(|timeout| waited >= timeout) {
            client.complain(&format!("after {} s: {}", waited.as_secs(), progress()));
            return Err(Told(ExitCode::from(FAILED)));
        }
        if came > 0 && !client.is_json() && told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            complain(progress());
            told_at = Some(Instant::now());
        }
    }
}

/// Sessions that ever began here, those that were refused too: they were sent here all the same.
fn begun(client: &Client) -> Result<u64, Told> {
    let status = client.ask("GET", "/status", &[])?;
    Ok(list(&status, "listeners").iter().map(|listener| number(listener, "begun")).sum())
}

const LOOK_EVERY: Duration = Duration::from_millis(250);
const TELL_EVERY: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(5);
