//! Lines for people. A reader that has gone (`evenkeel status | head -1`) is no failure; a full disk is one.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use super::FAILED;

/// A line that nobody got.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unheard {
    /// The reader has seen enough.
    #[error("nobody reads any more")]
    Gone,
    /// It is lost.
    #[error("standard output cannot be written: {0}")]
    Lost(io::Error),
}

/// A line on standard output.
pub(super) fn say(line: impl Display) -> Result<(), Unheard> {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Unheard::Gone,
        _ => Unheard::Lost(error),
    })
}

/// The exit code of a command whose last words these were.
pub(super) fn said(outcome: Result<(), Unheard>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Unheard::Gone) => ExitCode::SUCCESS,
        Err(lost) => {
            complain(format_args!("evenkeel: {lost}"));
            ExitCode::from(FAILED)
        }
    }
}

/// A line on standard error. There is nowhere left to say that it is lost.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
