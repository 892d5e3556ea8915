//! `evenkeel launch`: starts a program and ends at once, so that the program belongs to the service
//! manager, or to the process that follows the service.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::exit_code::FAILED;
use super::output::{said, say};
use crate::sys::children;

/// Starts the program with the standard input of this process, and tells its number, or why it could not be started.
pub(super) fn launch(program: &Path, arguments: &[OsString]) -> ExitCode {
    // The thread that started this process leaves them to another one, and what a process holds its children hold.
    children::let_signals_in();
    let start = || {
        // The standard output of this process is read by the one that asked.
        let output = std::io::stderr().as_fd().try_clone_to_owned()?;
        // A terminal tells whoever runs in front of it, and that one passes it on: twice is another order than once.
        Command::new(program).args(arguments).stdout(Stdio::from(output)).process_group(0).spawn()
    };
    match start() {
        Ok(started) => said(say(started.id())),
        Err(error) => {
            // Whether anybody hears it changes nothing of the failure.
            let _ = say(error);
            ExitCode::from(FAILED)
        }
    }
}
