//! `evenkeel run`: read, start, serve, stop.

use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::check::tell_refused;
use super::exit_code::{BAD_CONFIGURATION, FAILED};
use super::output::{complain, failed};
use crate::logging::Logging;
use crate::server::{
    Beginning, Document, Drained, Environment, File, Notify, Predecessor, Program, Stashed, keep_stash,
    read_document,
};
use crate::sys::{rlimits, udp_probe};
use crate::systemd::FdStore;
use crate::transfer::Stash;

/// Serves until a signal says stop, or another process has everything.
pub(super) fn run(path: &Path) -> ExitCode {
    // Before anything else opens a file.
    let mut store = FdStore::inherited();
    // What is stashed may be more than a process may open at first.
    rlimits::raise_open_files();
    let runtime = match control_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format_args!("the control thread cannot be started: {error}")),
    };
    runtime.block_on(async {
        let stash = store.stash.take().map(|(one, other)| Arc::new(Stash::kept(one, other)));
        let predecessor = match Predecessor::find(stash.as_ref().and_then(look)) {
            Ok(predecessor) => predecessor,
            Err(error) => return failed(&format_args!("the process before cannot be reached: {error}")),
        };
        let beginning = match predecessor.read(path) {
            Ok(beginning) => beginning,
            Err(refused) => {
                tell_refused(&refused);
                predecessor.refuse(&refused).await;
                return ExitCode::from(BAD_CONFIGURATION);
            }
        };
        let logging = match Logging::start(&beginning.document.settings.log) {
            Ok(logging) => logging,
            Err(error) => return failed(&format_args!("the log cannot be started: {error}")),
        };
        serve(path, (predecessor, beginning), Service { store, stash }, &logging).await
    })
}

/// What the process before left in the stash, or a word about why it is lost.
fn look(stash: &Arc<Stash>) -> Option<Stashed> {
    Stashed::look(stash).unwrap_or_else(|error| {
        complain(format_args!("evenkeel: what the process before left cannot be taken over: {error}"));
        None
    })
}

/// What the service manager keeps for this process and the next.
struct Service {
    /// Listening sockets.
    store: FdStore,
    /// Where everything is left; `None`: the manager has none yet.
    stash: Option<Arc<Stash>>,
}

/// The runtime of the control thread.
pub(super) fn control_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Chance differs from process to process.
pub(super) fn fresh_seed() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

async fn serve(
    path: &Path,
    (predecessor, beginning): (Predecessor, Beginning),
    service: Service,
    logging: &Logging,
) -> ExitCode {
    // Before anything else: a signal that comes while starting must not find its default action.
    let signals = || Ok::<_, std::io::Error>((Stop::new()?, Others::new()?));
    let (mut stop, mut later) = match signals() {
        Ok(signals) => signals,
        Err(error) => return failed(&format_args!("signals cannot be received: {error}")),
    };
    let environment = environment(path, &beginning.document, service.store, logging);
    let begins_anew = matches!(predecessor, Predecessor::Nobody);
    let started = tokio::select! {
        started = predecessor.start(beginning, environment) => started,
        // Dropping what is half started closes it: nothing was accepted yet. What is taken over comes to its place first.
        () = stop.asked(), if begins_anew => return ExitCode::SUCCESS,
    };
    let server = match started {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(target: "evenkeel", "{error}");
            return ExitCode::from(FAILED);
        }
    };
    let stash = keep_stash(service.stash, Notify::service());
    for (listener, address) in runs(&server.addresses()) {
        tracing::info!(target: "evenkeel", listener, address, "accepting");
    }
    if let Some(address) = server.http_address() {
        tracing::info!(target: "evenkeel", %address, "admin.http is ready: / /metrics /status /healthz /readyz");
    }
    loop {
        tokio::select! {
            () = stop.asked() => match stash.as_deref() {
                Some(stash) if server.leave_for_next(stash, path).await => return ExitCode::SUCCESS,
                _ => break,
            },
            () = server.handed_over() => {
                server.depart().await;
                return ExitCode::SUCCESS;
            }
            signal = later.asked() => match signal {
                // What came of it is in the log.
                Later::Reload => drop(server.reload_file().await),
                Later::Upgrade => drop(server.upgrade(None).await),
            },
            () = server.broken() => {
                tracing::error!(target: "evenkeel", "a thread has ended by a fault; stopping, so that the service manager starts anew");
                return ExitCode::from(FAILED);
            }
        }
    }
    let Drained { sessions, cut } = server.stop(stop.asked()).await;
    tracing::info!(target: "evenkeel", sessions, cut, "stopped");
    ExitCode::SUCCESS
}

/// What this process gives its server.
fn environment(path: &Path, document: &Document, store: FdStore, logging: &Logging) -> Environment {
    Environment {
        notify: Notify::service(),
        log_lines_dropped: logging.dropped(),
        seed: fresh_seed(),
        file: file(path, document, logging),
        program: Program {
            binary: std::env::current_exe().unwrap_or_else(|_| "evenkeel".into()),
            arguments: std::env::args_os().skip(1).collect(),
        },
        kept: Arc::new(Mutex::new(store)),
        usual_socket: super::client::usual_socket(),
        offloads: udp_probe::probe(),
    }
}

/// Addresses of one listener whose ports follow each other become one: a range of 1,000 ports is one line.
fn runs(addresses: &[(String, SocketAddr)]) -> Vec<(&str, String)> {
    let follows = |(listener, address): &(String, SocketAddr), (next, then): &(String, SocketAddr)| {
        listener == next && address.ip() == then.ip() && address.port().checked_add(1) == Some(then.port())
    };
    let mut runs = Vec::new();
    for run in addresses.chunk_by(follows) {
        match run {
            [] => {}
            [(listener, only)] => runs.push((listener.as_str(), only.to_string())),
            [(listener, first), .., (_, last)] => {
                runs.push((listener.as_str(), format!("{first}-{}", last.port())));
            }
        }
    }
    runs
}

/// SIGTERM and SIGINT.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Completes at the next one.
    pub(super) async fn asked(&mut self) {
        // recv is cancel-safe: a signal is taken or stays.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a signal other than [`Stop`] asks for.
enum Later {
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    Upgrade,
}

/// SIGHUP and SIGUSR2.
struct Others {
    hang_up: Signal,
    user_2: Signal,
}

impl Others {
    fn new() -> std::io::Result<Self> {
        Ok(Self { hang_up: signal(SignalKind::hangup())?, user_2: signal(SignalKind::user_defined2())? })
    }

    /// Completes at the next one.
    async fn asked(&mut self) -> Later {
        // recv is cancel-safe, as above.
        tokio::select! {
            _ = self.hang_up.recv() => Later::Reload,
            _ = self.user_2.recv() => Later::Upgrade,
        }
    }
}

/// The file that is read again at a reload.
fn file(path: &Path, document: &Document, logging: &Logging) -> File {
    let (path, level) = (path.to_owned(), logging.level());
    File {
        path: path.display().to_string(),
        text: Arc::clone(&document.text),
        read: Arc::new(move || read_document(&path)),
        set_log_level: Arc::new(move |to| level.set(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_follow_each_other_are_one_line() {
        let at = |listener: &str, address: &str| (listener.to_owned(), address.parse().unwrap());
        let addresses = [
            at("a", "127.0.0.1:10"),
            at("a", "127.0.0.1:11"),
            at("a", "127.0.0.1:12"),
            at("a", "127.0.0.1:14"),
            at("a", "127.0.0.2:15"),
            at("b", "127.0.0.2:16"),
            at("b", "[::]:65535"),
            at("b", "[::]:1"),
        ];
        let expected = [
            ("a", "127.0.0.1:10-12"),
            ("a", "127.0.0.1:14"),
            ("a", "127.0.0.2:15"),
            ("b", "127.0.0.2:16"),
            ("b", "[::]:65535"),
            ("b", "[::]:1"),
        ];
        assert_eq!(runs(&addresses), expected.map(|(listener, shown)| (listener, shown.to_owned())));
        assert!(runs(&[]).is_empty());
    }
}
