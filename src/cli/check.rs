//! `evenkeel check`: the file as every command reads it, and what is wrong with it, for people.

use std::path::Path;
use std::process::ExitCode;

use super::ask::ask;
use super::exit_code::BAD_CONFIGURATION;
use super::output::{complain, said, say};
use super::resolve;
use crate::config::{self, settings::Settings};
use crate::discovery;
use crate::server::{Refused, read_document, read_standard_input};

/// Prints what the file holds, or every mistake; looks the names in it up, or asks every backend.
pub(super) fn check(path: &Path, resolves: bool, asks: bool) -> ExitCode {
    let settings = match load(path) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let mut words = Ok(());
    if !asks {
        words = say(config::describe(&settings));
        words = words.and_then(|()| say(format_args!("{}: no mistakes", path.display())));
    }
    // Whoever is found is asked as well.
    let looks = resolves || asks && settings.pools.iter().any(|pool| !pool.sources.is_empty());
    if words.is_err() || !looks {
        return if asks { ask(&settings) } else { said(words) };
    }
    let looked = match resolve::look_up(&settings) {
        Ok(looked) => looked,
        Err(code) => return code,
    };
    let code = resolve::show(&looked, resolves, asks);
    if !asks {
        return code;
    }
    let all = ask(&discovery::with_resolved(&settings, &looked));
    if code == ExitCode::SUCCESS { all } else { code }
}

/// Reads the settings, or tells on standard error why there are none.
pub(super) fn load(path: &Path) -> Result<Settings, ExitCode> {
    let read = if path == Path::new("-") { read_standard_input() } else { read_document(path) };
    let document = read.inspect(|document| {
        document.warnings.iter().for_each(|warning| complain(format_args!("evenkeel: {warning}")));
    });
    document.map(|document| document.settings).map_err(|refused| {
        tell_refused(&refused);
        // A file that is not there or not readable is a configuration to mend, like a wrong one.
        ExitCode::from(BAD_CONFIGURATION)
    })
}

/// Why a file is not served, on standard error.
pub(super) fn tell_refused(refused: &Refused) {
    match refused {
        Refused::Unreadable(why) => complain(format_args!("evenkeel: {why}")),
        other => complain(other),
    }
}
