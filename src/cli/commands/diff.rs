//! `diff` and `check --against-running`: what is served beside the file, and what a reload would do.

use std::process::ExitCode;

use serde_json::Value;

use super::shown::{list, number, text};
use super::whose::Whose;
use crate::cli::client::{Client, NoAnswer, Told};
use crate::cli::exit_code::BAD_CONFIGURATION;
use crate::cli::output::complain;

/// What the file says that is not served. Exit code 0: nothing; 1: something; 2: the file has mistakes.
pub(super) fn diff(whose: Whose) -> Result<(), Told> {
    let client = whose.client()?;
    let answer = asked(&client, MISTAKES)?;
    client.show(&answer, |answer| {
        let files: Vec<&str> = list(answer, "files").iter().filter_map(Value::as_str).collect();
        let lines: Vec<&str> = list(answer, "changes").iter().filter_map(Value::as_str).collect();
        match &lines[..] {
            [] => format!("no difference: {} says what is served", files.join(", ")),
            lines => format!("--- served\n+++ {}\n{}", files.join(", "), lines.join("\n")),
        }
    })?;
    if list(&answer, "changes").is_empty() { Ok(()) } else { Err(Told(ExitCode::from(DIFFERENT))) }
}

/// What a reload would do.
pub(in crate::cli) fn against_running(client: &Client) -> Result<(), Told> {
    let answer = asked(client, BAD_CONFIGURATION)?;
    client.show(&answer, |answer| {
        if list(answer, "changes").is_empty() {
            return "a reload would change nothing".to_owned();
        }
        let mut lines = vec!["a reload would change:".to_owned()];
        lines
            .extend(list(answer, "changes").iter().filter_map(Value::as_str).map(|line| format!("  {line}")));
        lines.push(String::new());
        let effects = list(answer, "effects");
        let ends: u64 = effects
            .iter()
            .filter(|one| text(one, "effect") == "ends")
            .map(|one| number(one, "sessions"))
            .sum();
        let told = effects.iter().map(|one| match number(one, "sessions") {
            0 => format!("  {:8} {}", text(one, "effect"), text(one, "text")),
            sessions => format!("  {:8} {} ({sessions} now)", text(one, "effect"), text(one, "text")),
        });
        lines.push("and by that:".to_owned());
        lines.extend(told);
        lines.push(format!("  {ends} sessions would end; all others stay"));
        lines.join("\n")
    })
}

/// The answer; `mistakes` is the exit code of a file that has some.
fn asked(client: &Client, mistakes: u8) -> Result<Value, Told> {
    client.request("GET", "/diff", &[]).map_err(|NoAnswer { why, code, .. }| {
        if code == BAD_CONFIGURATION {
            if client.is_json() {
                client.complain(&why);
            } else {
                complain(why);
            }
            return Told(ExitCode::from(mistakes));
        }
        client.complain(&why);
        Told(ExitCode::from(code))
    })
}

const DIFFERENT: u8 = 1;
const MISTAKES: u8 = 2;
