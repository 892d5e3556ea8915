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
        let mut told = match (&lines[..], list(answer, "at_run_time")) {
            ([], []) => vec![format!("no difference: {} says what is served", files.join(", "))],
            ([], _) => Vec::new(),
            (lines, _) => vec![format!("--- served\n+++ {}\n{}", files.join(", "), lines.join("\n"))],
        };
        told.extend(at_run_time(answer));
        told.join("\n")
    })?;
    let is_same = ["changes", "at_run_time"].iter().all(|key| list(&answer, key).is_empty());
    if is_same { Ok(()) } else { Err(Told(ExitCode::from(DIFFERENT))) }
}

/// What commands made other than in the file, and how that ends.
fn at_run_time(answer: &Value) -> Vec<String> {
    let changes: Vec<&str> = list(answer, "at_run_time").iter().filter_map(Value::as_str).collect();
    if changes.is_empty() {
        return Vec::new();
    }
    let head = "changed at run time; a reload keeps it, evenkeel reset POOL takes it back:".to_owned();
    std::iter::once(head).chain(changes.iter().map(|line| (*line).to_owned())).collect()
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
