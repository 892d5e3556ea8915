//! `add`, `remove`, `set` and `reset`: backends changed beside the file.

use std::process::ExitCode;

use serde_json::Value;

use super::marks::meant;
use super::shown::{list, text};
use super::whose::Whose;
use crate::cli::client::{Client, Told};
use crate::cli::exit_code::WRONG_COMMAND_LINE;
use crate::cli::output::complain;

/// More backends of a pool. `words`: addresses, and keys with their values.
pub(super) fn add(whose: Whose, pool: &str, words: &[String]) -> Result<(), Told> {
    let (keys, addresses): (Vec<_>, Vec<_>) =
        words.iter().map(String::as_str).partition(|word| word.contains('='));
    if addresses.is_empty() {
        return Err(misused("an address is missing: evenkeel add POOL ADDRESS:PORT"));
    }
    let (addresses, keys) = (addresses.join(" "), keys.join(" "));
    let mut query = vec![("pool", pool), ("addresses", &*addresses)];
    query.extend((!keys.is_empty()).then_some(("keys", &*keys)));
    tell(&whose.client()?, "/add", &query)
}

/// One backend fewer.
pub(super) fn remove(whose: Whose, backend: &str) -> Result<(), Told> {
    let client = whose.client()?;
    let backend = the_one(&client, backend)?;
    tell(&client, "/remove", &[("backend", &backend)])
}

/// Other values of a backend.
pub(super) fn set(whose: Whose, backend: &str, keys: &[String]) -> Result<(), Told> {
    if let Some(word) = keys.iter().find(|word| !word.contains('=')) {
        return Err(misused(&format!(
            "`{word}` is no KEY=VALUE: evenkeel set POOL/BACKEND max_sessions=100"
        )));
    }
    let client = whose.client()?;
    let backend = the_one(&client, backend)?;
    tell(&client, "/set", &[("backend", &backend), ("keys", &keys.join(" "))])
}

/// What the file says of a backend, or of a whole pool.
pub(super) fn reset(whose: Whose, whom: &str) -> Result<(), Told> {
    let whom = whom.strip_suffix("/*").unwrap_or(whom);
    tell(&whose.client()?, "/reset", &[("whom", whom)])
}

fn tell(client: &Client, path: &str, query: &[(&str, &str)]) -> Result<(), Told> {
    let answer = client.ask("POST", path, query)?;
    client.show(&answer, |answer| {
        let lines: Vec<&str> = list(answer, "changes").iter().filter_map(Value::as_str).collect();
        if lines.is_empty() { "nothing changed".to_owned() } else { lines.join("\n") }
    })?;
    let not_kept = text(&answer, "not_kept");
    if !not_kept.is_empty() && !client.is_json() {
        complain(format_args!("evenkeel: done; a stop of the program ends it: {not_kept}"));
    }
    Ok(())
}

/// The backend that was meant; one, not several.
fn the_one(client: &Client, named: &str) -> Result<String, Told> {
    match &meant(client, named)?[..] {
        [one] => Ok(one.clone()),
        several => Err(misused(&format!(
            "`{named}` is {} backends; name one of them: {}",
            several.len(),
            several.first().map_or("POOL/BACKEND", String::as_str)
        ))),
    }
}

fn misused(why: &str) -> Told {
    complain(format_args!("evenkeel: {why}"));
    Told(ExitCode::from(WRONG_COMMAND_LINE))
}
