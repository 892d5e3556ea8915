//! Whom this process follows: nobody, or the process that started it to hand everything over.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::FAILED;
use super::check::read_document;
use super::output::{complain, said, say};
use crate::config::{self, settings::Settings};
use crate::manifest::Reads;
use crate::server::{Document, HANDOVER_VARIABLE, HandedOver, Inherited, Notify, Refused, Server};
use crate::sys::fd_passing;
use crate::systemd::{self, FdStore, STASH};
use crate::transfer::{Bundle, Channel, Stash, count_of};

/// Where everything comes from.
pub(super) enum Before {
    /// Nowhere.
    Nobody,
    /// The process at the other end of a line.
    Process(Channel),
    /// A process that has gone and left it with the service manager.
    Stashed(Box<Bundle>, Arc<Stash>),
}

/// What is taken over.
pub(super) struct Taken {
    /// What was served.
    pub(super) served: Document,
    /// Everything live.
    pub(super) inherited: Inherited,
    /// Waits to hear that it is served.
    pub(super) giver: Option<Arc<Channel>>,
}

/// What a process that has gone left with the service manager.
pub(super) struct Stashed {
    bundle: Box<Bundle>,
    stash: Arc<Stash>,
}

/// What the service manager keeps for this process and the next.
pub(super) struct Service {
    /// Listening sockets.
    pub(super) store: FdStore,
    /// Where everything is left; `None`: the manager has none yet.
    pub(super) stash: Option<Arc<Stash>>,
}

impl Stashed {
    /// What is in the stash, which stays there until it is gone on with.
    pub(super) fn look(stash: Stash) -> (Option<Arc<Stash>>, Option<Self>) {
        let stash = Arc::new(stash);
        let stashed = match stash.look() {
            Ok(Some(bundle)) => Some(Self { bundle: Box::new(bundle), stash: Arc::clone(&stash) }),
            Ok(None) => None,
            Err(error) => {
                complain(format_args!(
                    "evenkeel: what the process before left cannot be taken over: {error}"
                ));
                stash.clear();
                None
            }
        };
        (Some(stash), stashed)
    }
}

/// The stash, which the service manager keeps from now on; `None`: there is no manager.
pub(super) fn keep_park(known: Option<Arc<Stash>>, notify: Notify) -> Option<Arc<Stash>> {
    if known.is_some() || !notify.is_heard() {
        return known;
    }
    // That of a process before belongs to nobody any more.
    notify.forget(STASH);
    let stash = Stash::new().ok()?;
    notify.keep(STASH, &stash.ends(), false);
    Some(Arc::new(stash))
}

/// SIGTERM under a service manager: when it is to start again, everything is left for the next process. False: this
/// process stops as it always did.
pub(super) async fn leave_for_next(server: &Server, stash: &Stash, config: &Path) -> bool {
    if !systemd::is_restart().await || !next_is_able(config).await {
        return false;
    }
    match server.stash(stash).await {
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

/// Starts the program with the standard input of this process, and tells its number, or why it could not be started.
pub(super) fn launch(program: &Path, arguments: &[OsString]) -> ExitCode {
    let start = || {
        // The standard output of this process is read by the one that asked.
        let output = std::io::stderr().as_fd().try_clone_to_owned()?;
        Command::new(program).args(arguments).stdout(Stdio::from(output)).spawn()
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

/// What this process begins with.
pub(super) struct Beginning {
    /// The file, or what was served before where the file is refused.
    pub(super) document: Document,
    /// Why the file is not served.
    pub(super) refused: Option<Refused>,
}

impl Before {
    /// Whom the surroundings name.
    pub(super) fn find(stashed: Option<Stashed>) -> std::io::Result<Self> {
        if let Ok(descriptors) = std::env::var(HANDOVER_VARIABLE) {
            fd_passing::make_room(descriptors.parse().unwrap_or(0));
            return Ok(Self::Process(fd_passing::take_standard_input().and_then(Channel::new)?));
        }
        Ok(stashed.map_or(Self::Nobody, |Stashed { bundle, stash }| Self::Stashed(bundle, stash)))
    }

    /// Reads the file. A process before that is still there hears why it cannot be served, and goes on; one that has gone
    /// left what it had served.
    pub(super) async fn read(&self, path: &Path) -> Option<Beginning> {
        let refused = match read_document(path) {
            Ok(document) => return Some(Beginning { document, refused: None }),
            Err(refused) => refused,
        };
        if let Self::Stashed(bundle, _) = self
            && let Some(document) = carried(bundle)
        {
            return Some(Beginning { document, refused: Some(refused) });
        }
        match &refused {
            Refused::Unreadable(why) => complain(format_args!("evenkeel: {why}")),
            other => complain(other),
        }
        if let Self::Process(channel) = self {
            // It notices anyhow when this process ends.
            let _ = channel.say_refused(&format!("the configuration is refused: {refused}")).await;
        }
        None
    }

    /// Takes everything, and with it the settings it was served with, as far as this process can take those over. `None`:
    /// there is nobody; an error is told.
    pub(super) async fn take(self, document: &Document) -> Result<Option<Taken>, String> {
        let mut giver = None;
        let (carried, inherited) = match self {
            Self::Nobody => return Ok(None),
            Self::Process(channel) => {
                let bundle = async {
                    channel.say_ready().await?;
                    channel.receive_bundle().await
                };
                let bundle = bundle.await.map_err(|error| format!("nothing is taken over: {error}"))?;
                let count = count_of(&bundle.manifest);
                let carried = carried(&bundle);
                let channel = Arc::new(channel);
                let heard = Arc::clone(&channel);
                giver = Some(Arc::clone(&channel));
                let go = async move { channel.await_go(&count).await.map_err(|error| error.to_string()) };
                (carried, Inherited::new(bundle, go, async move { heard.await_main().await }))
            }
            Self::Stashed(bundle, stash) => {
                let carried = carried(&bundle);
                let go = async move {
                    stash.clear();
                    Ok(())
                };
                (carried, Inherited::new(*bundle, go, std::future::ready(())))
            }
        };
        let mut served = carried.unwrap_or_else(|| document.clone());
        begin_anew(&mut served.settings, &document.settings);
        Ok(Some(Taken { served, inherited, giver }))
    }
}

/// What was served before. `None`: this program does not understand it; then the file has to do.
fn carried(bundle: &Bundle) -> Option<Document> {
    let manifest = &bundle.manifest;
    let settings = config::read(&manifest.head.config_path, manifest.head.config.as_bytes()).ok()?;
    Some(Document { settings, text: manifest.head.config.as_str().into() })
}

/// What a reload cannot change comes from the new file at once.
fn begin_anew(before: &mut Settings, new: &Settings) {
    before.workers = new.workers;
    before.log.format = new.log.format;
}

/// Starting and reading a file takes milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A pipe holds more, so the program never waits for its reader.
const SAID_BYTES_MAX: u64 = 4_096;
