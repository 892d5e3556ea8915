//! Hot upgrade: a successor that this process starts itself, on SIGUSR2 and `evenkeel upgrade`.
//!
//! The new program gets one end of a line as its standard input. Until it says that it has everything, nothing here
//! changes but that the data threads stand still for the time it takes; whatever goes wrong, they go on.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use super::error::HandoverError;
use super::send::HandedOver;
use super::supervision::{FOLLOWER_VARIABLE, Successor, Supervision};
use crate::server::control::Control;
use crate::sys::children;
use crate::sys::process::Process;
use crate::transfer::Channel;

/// Why there is no successor; everything goes on here.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// It cannot be started.
    #[error("{}: {source}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody would look after it.
    #[error("{0}")]
    Unfollowed(io::Error),
    /// It was started, and failed.
    #[error(transparent)]
    Handover(#[from] HandoverError),
}

/// A successor has everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Succeeded {
    /// Its process.
    pub pid: u32,
    /// What it has.
    pub handed_over: HandedOver,
}

impl Control {
    /// Starts the program and gives it everything. On an error everything goes on here, and nothing of it is left.
    pub(in crate::server) async fn upgrade(&self, binary: Option<&Path>) -> Result<Succeeded, UpgradeError> {
        let binary = binary.unwrap_or(&self.program.binary);
        tracing::info!(target: "evenkeel", binary = %binary.display(), "handing over: starting the new process");
        let outcome = self.try_upgrade(binary).await;
        match &outcome {
            Ok(Succeeded { pid, handed_over: HandedOver { sessions, flows, pause } }) => {
                let pause_ms = (pause.as_secs_f64() * 10_000.0).round() / 10.0;
                tracing::info!(target: "evenkeel", pid, sessions, flows, pause_ms, "handed over to the new process");
            }
            Err(error) => {
                tracing::error!(target: "evenkeel", %error, "not handed over; everything goes on in this process");
            }
        }
        outcome
    }

    async fn try_upgrade(&self, binary: &Path) -> Result<Succeeded, UpgradeError> {
        let failed = |source| UpgradeError::Start { path: binary.to_owned(), source };
        let supervision = Supervision::find(self.notify);
        let follower = supervision.prepare().map_err(UpgradeError::Unfollowed)?;
        let (channel, theirs) = Channel::pair().map_err(failed)?;
        let launched = {
            let (binary, arguments) = (binary.to_owned(), self.program.arguments.clone());
            // Two sockets each, and pipes of some.
            let descriptors = u64::from(self.workers.sessions()) * 3 + DESCRIPTORS_BESIDES;
            let launch = tokio::task::spawn_blocking(move || {
                launch(&binary, &arguments, theirs, descriptors, follower)
            });
            let launched = timeout(READY_MAX, launch).await.map_err(|_| HandoverError::Silent)?;
            launched.map_err(io::Error::other).and_then(|launched| launched).map_err(failed)?
        };
        let pid = launched.pid();
        let child = Started(Some(launched));
        let can = match timeout(READY_MAX, channel.await_ready()).await {
            Err(_) => return Err(HandoverError::Silent.into()),
            Ok(ready) => ready.map_err(HandoverError::from)?,
        };
        let handed_over = self.hand_over(&channel, can).await?;
        child.lives_on();
        match supervision {
            Supervision::Manager => self.notify.main_pid(pid),
            Supervision::Follower(_) => {
                // Whoever does not find it there finds the new process by its environment.
                let _ = children::name_successor(pid);
                let _ = self.successor.set(Successor { pid, is_followed: false });
            }
            Supervision::Parent => drop(self.successor.set(Successor { pid, is_followed: true })),
        }
        // A successor that does not hear it goes on without.
        let _ = channel.say_main().await;
        // Whoever asked for it finds the new file served.
        let _ = timeout(SERVING_MAX, channel.await_serving()).await;
        Ok(Succeeded { pid, handed_over })
    }
}

/// Starts the program by way of a process that ends at once, so that it is a child of the service manager, or of the process
/// that follows the service, and not of this one: a manager looks after its own children alone, and would kill another's at
/// the next restart.
fn launch(
    binary: &Path,
    arguments: &[OsString],
    channel: OwnedFd,
    descriptors: u64,
    follower: Option<u32>,
) -> io::Result<Process> {
    let mut launcher = Command::new("/proc/self/exe");
    launcher
        .arg("launch")
        .arg(binary)
        .args(arguments)
        .env(HANDOVER_VARIABLE, descriptors.to_string())
        // They were meant for this process.
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .env_remove("WATCHDOG_PID")
        .env_remove(FOLLOWER_VARIABLE)
        .envs(follower.map(|follower| (FOLLOWER_VARIABLE, follower.to_string())))
        .stdin(Stdio::from(channel))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let said = launcher.spawn()?.wait_with_output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    match said.trim().parse() {
        Ok(pid) => Process::named(pid),
        Err(_) => Err(io::Error::other(said.trim().to_owned())),
    }
}

/// A process that ends with this, unless it is to live on.
struct Started(Option<Process>);

impl Started {
    fn lives_on(mut self) {
        self.0 = None;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            process.kill();
        }
    }
}

/// Doors and what a process has anyhow.
const DESCRIPTORS_BESIDES: u64 = 500;
/// Tells a program that its standard input is the line to the process before it, and about how many descriptors will come.
pub const HANDOVER_VARIABLE: &str = "EVENKEEL_HANDOVER";
/// Reading a file and starting takes less than a second.
const READY_MAX: Duration = Duration::from_secs(10);
/// Reading a file again takes milliseconds, and nothing depends on it here.
const SERVING_MAX: Duration = Duration::from_secs(5);
