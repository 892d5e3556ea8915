//! `evenkeel check --resolve`: the host names of a file, looked up once, as a table for people.

use std::process::ExitCode;

use super::exit_code::FAILED;
use super::output::{complain, said, say};
use crate::config::explained;
use crate::config::settings::Settings;
use crate::discovery::{Resolved, resolve_once};

/// Looks them up.
pub(super) fn look_up(settings: &Settings) -> Result<Vec<Resolved>, ExitCode> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Ok(runtime.block_on(resolve_once(settings))),
        Err(error) => {
            complain(format_args!("evenkeel: no name can be looked up: {error}"));
            Err(ExitCode::from(FAILED))
        }
    }
}

/// Prints what was found: all of it, or only what was not. Exit code 1: a name has no address.
pub(super) fn show(looked: &[Resolved], all: bool, is_first: bool) -> ExitCode {
    let mut rows = vec![["POOL", "SOURCE", "STATE", "FOUND", "WHY"].map(str::to_owned)];
    for one in looked.iter().filter(|one| all || one.backends.is_empty()) {
        let (state, why) = &one.state;
        for at in 0..one.backends.len().max(1) {
            let first = |text: &str| if at == 0 { text.to_owned() } else { String::new() };
            let found = one.backends.get(at).map_or(String::new(), |(address, _)| address.clone());
            let why = first(why.as_deref().unwrap_or(""));
            rows.push([first(&one.pool), first(&one.source), first(state), found, why]);
        }
    }
    let is_well = looked.iter().all(|one| !one.backends.is_empty());
    if rows.len() == 1 {
        return ExitCode::SUCCESS;
    }
    let before = if is_first { "" } else { "\n" };
    let code = said(say(format_args!("{before}{}", explained(&rows, |_, _, cell| cell).trim_end())));
    if is_well { code } else { ExitCode::from(FAILED) }
}
