//! Lines for people. A reader that has gone (`evenkeel demo | head -1`) is no reason to stop, and none to panic.

use std::fmt::Display;
use std::io::{self, Write};

/// A line on standard output.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on standard error.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
