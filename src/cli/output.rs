//! Lines for people. A reader that has gone (`evenkeel status | head -1`) is no failure; a full disk is one.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use super::exit_code::FAILED;

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
    heard(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// What came of writing to standard output.
pub(super) fn heard(written: io::Result<()>) -> Result<(), Unheard> {
    written.map_err(|error| match error.kind() {
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

/// Colours where they are seen and wanted: on a terminal, unless NO_COLOR says no.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    is_on: bool,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// A heading.
    Head,
    /// Well.
    Good,
    /// To be looked at.
    Doubtful,
    /// Not well.
    Bad,
}

impl Paint {
    /// For standard output.
    pub(super) fn for_output() -> Self {
        Self { is_on: colours_are_wanted() && io::stdout().is_terminal() }
    }

    /// For standard error.
    pub(super) fn for_errors() -> Self {
        Self { is_on: colours_are_wanted() && io::stderr().is_terminal() }
    }

    /// The text in that colour.
    pub(super) fn paint(self, mood: Mood, text: String) -> String {
        let code = match mood {
            Mood::Head => 1,
            Mood::Good => 32,
            Mood::Doubtful => 33,
            Mood::Bad => 31,
        };
        if self.is_on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
    }
}

/// Whether NO_COLOR allows colours.
pub(super) fn colours_are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A line on standard error. There is nowhere left to say that it is lost.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What went wrong before or after serving, on standard error.
pub(super) fn failed(error: &dyn Display) -> ExitCode {
    complain(format_args!("evenkeel: {error}"));
    ExitCode::from(FAILED)
}
