//! Actions of a follower: a command, a file for keepalived's `track_file`, or both.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::judgement::State;
use crate::sys::children;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Actions {
    pub(super) ready: Option<String>,
    pub(super) unready: Option<String>,
    pub(super) file: Option<PathBuf>,
}

impl Actions {
    /// Does it. The file comes first: it takes no time. An error is for people.
    pub(super) async fn apply(&self, state: &State) -> Result<(), String> {
        if let Some(path) = &self.file {
            write(path, state.is_ready).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        match if state.is_ready { &self.ready } else { &self.unready } {
            Some(command) => run(command, state).await,
            None => Ok(()),
        }
    }
}

/// `0`: clients may be sent here, `1`: they may not. In place and without a moment in which it is empty, for whoever reads it just then
/// and may not see another file come into its place.
fn write(path: &Path, is_ready: bool) -> io::Result<()> {
    // Opening a pipe that nobody reads would wait for ever.
    if fs::metadata(path).is_ok_and(|what| !what.is_file()) {
        return Err(io::Error::other("this is no file"));
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    let text: &[u8] = if is_ready { b"0\n" } else { b"1\n" };
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

/// Until it has ended, for so long at most; then it is killed, and whatever it started.
async fn run(command: &str, state: &State) -> Result<(), String> {
    let mut child = start(command, state).map_err(|error| format!("/bin/sh cannot be started: {error}"))?;
    let deadline = Instant::now() + COMMAND_MAX;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("`{command}` failed: {status}")),
            Err(error) => return Err(format!("`{command}`: it is not known how it ended: {error}")),
            Ok(None) if Instant::now() >= deadline => break,
            Ok(None) => sleep(LOOK_EVERY).await,
        }
    }
    children::kill_group(child.id());
    // It is dead: that is no wait.
    let _ = child.wait();
    Err(format!("`{command}` had not ended after {} s, and was killed", COMMAND_MAX.as_secs()))
}

fn start(command: &str, state: &State) -> io::Result<Child> {
    // What it says goes where this program's words go.
    let output = io::stderr().as_fd().try_clone_to_owned()?;
    Command::new("/bin/sh")
        .args(["-c", command])
        .env("EVENKEEL_READY", if state.is_ready { "1" } else { "0" })
        .env("EVENKEEL_WHY", &state.why)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::from(output))
        .process_group(0)
        .spawn()
}

const COMMAND_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_one_thing_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unready");
        for (is_ready, text) in [(true, "0\n"), (false, "1\n"), (false, "1\n"), (true, "0\n")] {
            write(&path, is_ready).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, "something longer\n").unwrap();
        write(&path, false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert!(write(folder.path(), true).is_err(), "a folder");
    }
}
