//! Restart (graceful restart under a service manager): whether a stop is half of a restart, whether the program on disk
//! understands what would be left for it, and leaving everything for it.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::send::HandedOver;
use crate::manifest::Reads;
use crate::server::control::Control;
use crate::systemd::{self, Notify, STASH};
use crate::transfer::Stash;

impl Control {
    /// SIGTERM under a service manager: when it is to start again, everything is left for the next process. False: this
    /// process stops as it always did.
    pub(in crate::server) async fn leave_for_next(&self, stash: &Stash, config: &Path) -> bool {
        if !systemd::is_restart().await || !next_is_able(config).await {
            return false;
        }
        match self.stash(stash).await {
            Ok(HandedOver { sessions, flows, pause }) => {
                let pause_ms = (pause.as_secs_f64() * 10_000.0).round() / 10.0;
                tracing::info!(target: "evenkeel", sessions, flows, pause_ms, "left everything for the next process");
                true
            }
            Err(error) => {
                tracing::error!(target: "evenkeel", %error, "nothing can be left for the next process: stopping as usual");
                false
            }
        }
    }
}

/// The stash, which the service manager keeps from now on; `None`: there is no manager.
pub fn keep_stash(known: Option<Arc<Stash>>, notify: Notify) -> Option<Arc<Stash>> {
    if known.is_some() || !notify.is_heard() {
        return known;
    }
    // That of a process before belongs to nobody any more.
    notify.forget(STASH);
    let stash = Stash::new().ok()?;
    notify.keep(STASH, &stash.ends(), false);
    Some(Arc::new(stash))
}

/// Does the program on disk understand what would be left for it? It is asked while everything still goes on here.
async fn next_is_able(config: &Path) -> bool {
    let Ok(program) = std::env::current_exe() else { return false };
    // A package that put a newer program there has renamed this one away.
    let program = program.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let said = run(&program, &[OsStr::new("manifest-version")], Stdio::piped()).await;
    let reads = match &said {
        Some((Some(0), words)) => Reads::parse(words),
        Some(_) => None,
        None => {
            tracing::warn!(target: "evenkeel", program, "the program on disk does not answer: the sessions end here");
            return false;
        }
    };
    let Some(reads) = reads else {
        tracing::warn!(target: "evenkeel", program, "the program on disk does not say what handovers it reads, so it is none of evenkeel's or too old: the sessions end here");
        return false;
    };
    if let Err(error) = reads.may_be_given() {
        tracing::warn!(target: "evenkeel", program, %error, "the program on disk is of another version of the handover: the sessions end here");
        return false;
    }
    let config = [OsStr::new("check"), config.as_os_str()];
    if !matches!(run(&program, &config, Stdio::null()).await, Some((Some(0), _))) {
        tracing::warn!(target: "evenkeel", "the file has mistakes: the next process goes on with what is served now; evenkeel check shows them");
    }
    true
}

/// Runs the program; how it ended and the first thing it said. `None`: it cannot be run, or takes too long.
async fn run(program: &str, arguments: &[&OsStr], output: Stdio) -> Option<(Option<i32>, String)> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.ok()?;
    let deadline = Instant::now() + ANSWER_MAX;
    let code = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.code(),
            Ok(None) if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
            _ => {
                // Killed, it ends at once.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let mut said = Vec::new();
    if let Some(output) = child.stdout {
        output.take(SAID_BYTES_MAX).read_to_end(&mut said).ok()?;
    }
    Some((code, String::from_utf8_lossy(&said).into_owned()))
}

/// Starting and reading a file takes milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A pipe holds more, so the program never waits for its reader.
const SAID_BYTES_MAX: u64 = 4_096;
