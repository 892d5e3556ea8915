//! `evenkeel check`: the file as every command reads it, and what is wrong with it, for people.

use std::path::Path;
use std::process::ExitCode;

use super::ask::ask;
use super::exit_code::BAD_CONFIGURATION;
use super::output::{complain, said, say};
use crate::config::{self, settings::Settings};
use crate::server::{Refused, read_document, read_standard_input};

/// Prints what the file holds, or every mistake; or asks every backend in it.
pub(super) fn check(path: &Path, asks: bool) -> ExitCode {
    match load(path) {
        Ok(settings) if asks => ask(&settings),
        Ok(settings) => {
            let words = say(config::describe(&settings));
            said(words.and_then(|()| say(format_args!("{}: no mistakes", path.display()))))
        }
        Err(code) => code,
    }
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
