//! `evenkeel check`, and reading the file for every command.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use super::output::{complain, said, say};
use super::{BAD_CONFIGURATION, FAILED};
use crate::config::{self, settings::Settings};
use crate::server::{Document, Refused};

/// Prints what the file holds, or every mistake.
pub(super) fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok(settings) => {
            let words = say(config::describe(&settings));
            said(words.and_then(|()| say(format_args!("{}: no mistakes", path.display()))))
        }
        Err(code) => code,
    }
}

/// Reads the settings, or tells on standard error why there are none.
pub(super) fn load(path: &Path) -> Result<Settings, ExitCode> {
    read_document(path).map(|document| document.settings).map_err(|refused| {
        match &refused {
            Refused::Unreadable(why) => complain(format_args!("evenkeel: {why}")),
            other => complain(other),
        }
        // A file that is not there or not readable is a configuration to mend, like a wrong one.
        ExitCode::from(BAD_CONFIGURATION)
    })
}

/// Reads and checks the file.
pub(super) fn read_document(path: &Path) -> Result<Document, Refused> {
    let text = read(path).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "; name another file (`check PATH`, `run --config PATH`), or begin with conf/minimal.yaml"
            }
            _ => "",
        };
        Refused::Unreadable(format!("cannot read {}: {error}{advice}", path.display()))
    })?;
    let settings = config::read(&path.display().to_string(), &text)?;
    // A file that could be read is text.
    Ok(Document { settings, text: String::from_utf8_lossy(&text).into() })
}

/// What went wrong before or after serving, on standard error.
pub(super) fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    complain(format_args!("evenkeel: {error}"));
    ExitCode::from(FAILED)
}

/// Reads no more than is needed to see that a file is too large: it may be a device.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(READ_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Above the 1 MiB that the check allows.
const READ_BYTES_MAX: u64 = (1 << 20) + 1;
