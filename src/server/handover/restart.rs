//! Restart (graceful restart under a service manager): whether a stop is half of a restart, whether the program on disk
//! understands what would be left for it, and leaving everything for it.
//!
//! What cannot be found out ends no session: a manager that means a stop drops what was left with it anyway.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::send::HandedOver;
use crate::manifest::Reads;
use crate::server::control::Control;
use crate::systemd::{self, Notify, STASH, StopKind};
use crate::transfer::Stash;

impl Control {
    /// SIGTERM under a service manager: when it is to start again, everything is left for the next process. False: this
    /// process stops as it always did.
    pub(in crate::server) async fn leave_for_next(&self, stash: &Stash, config: &[PathBuf]) -> bool {
        let stop = systemd::stop_kind().await;
        if stop == StopKind::ForGood || !may_be_left(stop, next_kind(config).await) {
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

/// The program that would come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextKind {
    /// It understands what is left for it.
    Able,
    /// It would not, or cannot be run.
    Unable,
    /// It could not be asked.
    Unknown,
}

/// Is everything left for the next process?
fn may_be_left(stop: StopKind, next: NextKind) -> bool {
    match (stop, next) {
        (StopKind::ForGood, _) | (_, NextKind::Unable) => false,
        (StopKind::Restart | StopKind::Unknown, NextKind::Able | NextKind::Unknown) => true,
    }
}

/// Does the program on disk understand what would be left for it? It is asked while everything still goes on here.
async fn next_kind(config: &[PathBuf]) -> NextKind {
    let Ok(program) = std::env::current_exe() else { return NextKind::Unknown };
    // A package that put a newer program there has renamed this one away.
    let program = program.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let said = run(&program, &[OsStr::new("manifest-version")], Stdio::piped).await;
    let reads = match &said {
        Ok((Some(0), words)) => Reads::parse(words),
        Ok(_) => None,
        Err(error) if is_ours(error) => {
            tracing::warn!(target: "evenkeel", program, %error, "the program on disk could not be asked whether it understands what is left for it: it is taken for able");
            return NextKind::Unknown;
        }
        Err(error) => {
            tracing::warn!(target: "evenkeel", program, %error, "the program on disk cannot be run: the sessions end here");
            return NextKind::Unable;
        }
    };
    let Some(reads) = reads else {
        tracing::warn!(target: "evenkeel", program, "the program on disk does not say what handovers it reads, so it is none of evenkeel's or too old: the sessions end here");
        return NextKind::Unable;
    };
    if let Err(error) = reads.may_be_given() {
        tracing::warn!(target: "evenkeel", program, %error, "the program on disk is of another version of the handover: the sessions end here");
        return NextKind::Unable;
    }
    let config: Vec<&OsStr> =
        std::iter::once(OsStr::new("check")).chain(config.iter().map(|path| path.as_os_str())).collect();
    if matches!(run(&program, &config, Stdio::null).await, Ok((code, _)) if code != Some(0)) {
        tracing::warn!(target: "evenkeel", "the file has mistakes: the next process goes on with what is served now; evenkeel check shows them");
    }
    NextKind::Able
}

/// This is no trouble of the program's, but of the machine or of this process: too few descriptors, processes or pages, or no
/// time.
fn is_ours(error: &io::Error) -> bool {
    use crate::sys::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::INTR];
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
        || short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Runs the program; how it ended and the first thing it said. One that takes too long has timed out. Whoever stops this service
/// signals all of its processes, and that one may have just begun: it is run again then.
async fn run(
    program: &str,
    arguments: &[&OsStr],
    output: fn() -> Stdio,
) -> io::Result<(Option<i32>, String)> {
    for _ in 0..STOPPED_MAX {
        let (status, said) = run_once(program, arguments, output()).await?;
        if !status.signal().is_some_and(|signal| STOPS.contains(&signal)) {
            return Ok((status.code(), said));
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

async fn run_once(program: &str, arguments: &[&OsStr], output: Stdio) -> io::Result<(ExitStatus, String)> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn();
    let mut child = child?;
    let deadline = Instant::now() + ANSWER_MAX;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
            _ => {
                // Killed, it ends at once.
                let _ = child.kill();
                let _ = child.wait();
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    };
    let mut said = Vec::new();
    if let Some(output) = child.stdout {
        output.take(SAID_BYTES_MAX).read_to_end(&mut said)?;
    }
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// What ends a service: SIGHUP, SIGINT, SIGTERM.
const STOPS: [i32; 3] = [1, 2, 15];
/// The processes of a service are signalled once, and once more if one of them was missed.
const STOPPED_MAX: u32 = 4;
/// Starting and reading a file takes milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A pipe holds more, so the program never waits for its reader.
const SAID_BYTES_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_asked_ends_no_session() {
        use NextKind::{Able, Unable, Unknown};
        for (stop, left) in [
            (StopKind::Restart, [(Able, true), (Unknown, true), (Unable, false)]),
            (StopKind::Unknown, [(Able, true), (Unknown, true), (Unable, false)]),
            (StopKind::ForGood, [(Able, false), (Unknown, false), (Unable, false)]),
        ] {
            for (next, left) in left {
                assert_eq!(may_be_left(stop, next), left, "{stop:?}, {next:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_program_that_the_stop_of_the_service_hits_is_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let times = folder.path().join("times");
        let script = |signal: &str, at: u32| {
            let times = times.display();
            format!("echo >> {times}; [ $(wc -l < {times}) -gt {at} ] && echo said || kill -{signal} $$")
        };
        let ask = async |script: String| {
            let _ = std::fs::remove_file(&times);
            run("/bin/sh", &[OsStr::new("-c"), OsStr::new(&script)], Stdio::piped).await
        };
        for signal in ["TERM", "HUP", "INT"] {
            let (code, said) = ask(script(signal, 1)).await.unwrap();
            assert_eq!((code, said.trim_end()), (Some(0), "said"), "{signal}");
        }
        let (code, _) = ask(script("SEGV", 1)).await.unwrap();
        assert_eq!(code, None, "a program that breaks says nothing");
        let error = ask(script("TERM", 99)).await.unwrap_err();
        assert!(is_ours(&error), "whoever stops it for ever ends no session: {error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_unable_and_no_descriptor_says_nothing_of_it() {
        let of = |errno: crate::sys::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for errno in [crate::sys::Errno::MFILE, crate::sys::Errno::NFILE, crate::sys::Errno::AGAIN] {
            assert!(is_ours(&of(errno)), "{errno}");
        }
        for errno in [crate::sys::Errno::NOENT, crate::sys::Errno::ACCESS, crate::sys::Errno::NOEXEC] {
            assert!(!is_ours(&of(errno)), "{errno}");
        }
    }

    #[tokio::test]
    async fn a_program_is_asked_and_its_answer_heard() {
        let said = run("/bin/echo", &[OsStr::new("1 1")], Stdio::piped).await.unwrap();
        assert_eq!(said, (Some(0), "1 1\n".to_owned()));
        assert!(!is_ours(&run("/nowhere/evenkeel", &[], Stdio::null).await.unwrap_err()));
    }
}
