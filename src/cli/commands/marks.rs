//! `drain`, `ready`, `down`, `weight` and `forget`: what an operator says of a backend, and of what a pool remembers.

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
pub(crate) struct Marking {
    /// The backend; a pool, or POOL/*: all of its backends; the name of a backend alone where it is the only one called so
    #[arg(value_name = "POOL/BACKEND")]
    backend: String,
    /// Return when its last session has gone (ready: when it may be picked)
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
    let all = meant(&client, &backend)?;
    // First all of them, so that none of them gets what another one no longer does; then the waiting.
    let mut answers = Vec::with_capacity(all.len());
    for backend in &all {
        let answer = client.ask("POST", "/mark", &[("backend", backend), ("mark", mark)])?;
        // At once: of a pool some may be marked when the balancer stops answering.
        if !wait {
            show(&client, &answer, (backend, mark, wait))?;
        }
        answers.push(answer);
    }
    let began = Instant::now();
    for (backend, answer) in all.iter().zip(&answers).filter(|_| wait) {
        let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        wait_for(&client, backend, left, mark == "ready")?;
        show(&client, answer, (backend, mark, wait))?;
    }
    Ok(())
}

/// Answer for one backend: what was done to it.
fn show(client: &Client, answer: &Value, (backend, mark, wait): (&str, &str, bool)) -> Result<(), Told> {
    client.show(answer, |_| match mark {
        "ready" if wait => format!("{backend} gets sessions again"),
        "ready" => format!("{backend} gets sessions again, as far as its health allows"),
        _ if wait => format!("{backend} is marked {mark}; its last session has gone"),
        _ => format!(
            "{backend} is marked {mark}: nothing new goes there; `evenkeel ready {backend}` undoes it"
        ),
    })
}

/// The backends that were meant: all of a pool, or one that was named without its pool. What nobody is called is left for the
/// balancer to complain of.
pub(super) fn meant(client: &Client, named: &str) -> Result<Vec<String>, Told> {
    let pool = named.strip_suffix("/*").unwrap_or(named);
    if pool.contains('/') {
        return Ok(vec![named.to_owned()]);
    }
    let status = client.ask("GET", "/status", &[])?;
    let (mut of_pool, mut by_name) = (Vec::new(), Vec::new());
    for one in list(&status, "pools") {
        for backend in list(one, "backends") {
            let whole = format!("{}/{}", text(one, "name"), text(backend, "name"));
            if text(one, "name") == pool {
                of_pool.push(whole);
            } else if text(backend, "name") == named {
                by_name.push(whole);
            }
        }
    }
    match (of_pool.is_empty(), &by_name[..]) {
        (false, _) => Ok(of_pool),
        (true, [one]) => Ok(vec![one.clone()]),
        (true, []) => Ok(vec![named.to_owned()]),
        (true, several) => {
            client.complain(&format!("several backends are called {named}: {}", several.join(", ")));
            Err(Told(ExitCode::from(FAILED)))
        }
    }
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

/// Forgets which generations were ever believed.
pub(super) fn forget(whose: Whose, pool: &str) -> Result<(), Told> {
    let client = whose.client()?;
    let answer = client.ask("POST", "/forget", &[("pool", pool)])?;
    client.show(&answer, |_| {
        format!("{pool} remembers no timeline: whoever says it is the primary may be believed")
    })
}

/// Until no session is left there, or until it may be picked; tells how far that is, on standard error.
fn wait_for(
    client: &Client,
    backend: &str,
    timeout: Option<Duration>,
    until_picked: bool,
) -> Result<(), Told> {
    let (began, mut told) = (Instant::now(), String::new());
    loop {
        let status = client.ask("GET", "/status", &[])?;
        let left = active_of(&status, backend);
        let now = if until_picked { state_of(&status, backend) } else { None };
        let (is_done, progress) = match &now {
            Some((is_picked, state)) => (*is_picked, format!("{backend} is {state}")),
            None if until_picked => {
                client.complain(&format!("{backend} has left the file"));
                return Err(Told(ExitCode::from(FAILED)));
            }
            None => (left == 0, format!("{left} sessions left at {backend}")),
        };
        if is_done {
            return Ok(());
        }
        let waited = began.elapsed();
        if timeout.is_some_and(|timeout| waited >= timeout) {
            client.complain(&format!("after {} s: {progress}", waited.as_secs()));
            return Err(Told(ExitCode::from(FAILED)));
        }
        if !client.is_json() && progress != told {
            complain(&progress);
            told = progress;
        }
        let rest = timeout.map_or(LOOK_EVERY, |timeout| timeout.saturating_sub(waited));
        std::thread::sleep(rest.min(LOOK_EVERY));
    }
}

/// Whether it may be picked, and its state; `None`: it is not in the file.
fn state_of(status: &Value, backend: &str) -> Option<(bool, String)> {
    let (pool, name) = backend.split_once('/')?;
    let pool = list(status, "pools").iter().find(|candidate| text(candidate, "name") == pool)?;
    let backend = list(pool, "backends").iter().find(|backend| text(backend, "name") == name)?;
    let is_picked = backend.get("eligible").and_then(Value::as_bool).unwrap_or(false);
    // One that stands by for a lower tier is as ready as it can be.
    Some((is_picked || text(backend, "state") == "standby", text(backend, "state").to_owned()))
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
