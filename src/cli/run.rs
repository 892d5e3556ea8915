//! `evenkeel run`: read, start, serve, stop.

use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::check::tell_refused;
use super::exit_code::{BAD_CONFIGURATION, FAILED};
use super::output::{complain, failed};
use crate::config::settings::AdminSocket;
use crate::logging::Logging;
use crate::server::{
    Beginning, Document, Drained, Environment, File, Notify, Predecessor, Program, Server, Stashed,
    Successor, end_with_follower, keep_stash, read_changed,
};
use crate::sys::children::{self, Signalled};
use crate::sys::{rlimits, udp_probe};
use crate::systemd::FdStore;
use crate::transfer::Stash;

/// Serves until a signal says stop, or another process has everything.
pub(super) fn run(paths: &[PathBuf]) -> ExitCode {
    // Before anything else opens a file.
    let mut store = FdStore::inherited();
    // What is stashed may be more than a process may open at first.
    rlimits::raise_open_files();
    let runtime = match control_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format_args!("the control thread cannot be started: {error}")),
    };
    let end = runtime.block_on(async {
        let stash = store.stash.take().map(|(one, other)| Arc::new(Stash::kept(one, other)));
        let predecessor = match Predecessor::find(stash.as_ref().and_then(look)) {
            Ok(predecessor) => predecessor,
            Err(error) => {
                return failed(&format_args!("the process before cannot be reached: {error}")).into();
            }
        };
        let beginning = match predecessor.read(paths, in_the_state_folder(RUN_TIME).as_deref()) {
            Ok(beginning) => beginning,
            Err(refused) => {
                tell_refused(&refused);
                predecessor.refuse(&refused).await;
                return ExitCode::from(BAD_CONFIGURATION).into();
            }
        };
        // Signals are for this thread alone: then none is lost when the process becomes another program.
        children::hold_signals();
        let logging = Logging::start(&beginning.document.settings.log);
        children::let_signals_in();
        let logging = match logging {
            Ok(logging) => logging,
            Err(error) => return failed(&format_args!("the log cannot be started: {error}")).into(),
        };
        serve(paths, (predecessor, beginning), Service { store, stash }, &logging).await
    });
    // A file on a disk that does not answer holds up no end.
    runtime.shutdown_timeout(LAST_LOOK);
    match end {
        End::Code(code) => code,
        End::Follows(pid) => become_follower(pid),
    }
}

/// How the service of this process ended.
enum End {
    /// With this exit code.
    Code(ExitCode),
    /// Another process is the service, and whoever started this one follows this one.
    Follows(u32),
}

impl From<ExitCode> for End {
    fn from(code: ExitCode) -> Self {
        Self::Code(code)
    }
}

/// This process becomes another program under the same number: all of its memory, threads and descriptors go.
fn become_follower(pid: u32) -> ExitCode {
    let error = children::become_program(Command::new("/proc/self/exe").args(["follow", &pid.to_string()]));
    // With more memory than it needs it can do the same.
    complain(format_args!("evenkeel: this process follows the new one as it is: {error}"));
    super::follow::follow(pid)
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
    tokio::runtime::Builder::new_current_thread().on_thread_start(children::hold_signals).enable_all().build()
}

/// Chance differs from process to process.
pub(super) fn fresh_seed() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

async fn serve(
    paths: &[PathBuf],
    (predecessor, beginning): (Predecessor, Beginning),
    service: Service,
    logging: &Logging,
) -> End {
    // Before anything else: a signal that comes while starting must not find its default action.
    let signals = || Ok::<_, std::io::Error>((Stop::new()?, Others::new()?));
    let (mut stop, mut later) = match signals() {
        Ok(signals) => signals,
        Err(error) => return failed(&format_args!("signals cannot be received: {error}")).into(),
    };
    let environment = environment(paths, &beginning.document, service.store, logging);
    let begins_anew = matches!(predecessor, Predecessor::Nobody);
    let started = tokio::select! {
        started = predecessor.start(beginning, environment) => started,
        // Dropping what is half started closes it: nothing was accepted yet. What is taken over comes to its place first.
        () = stop.asked(), if begins_anew => return ExitCode::SUCCESS.into(),
    };
    let server = match started {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(target: "evenkeel", "{error}");
            return ExitCode::from(FAILED).into();
        }
    };
    end_with_follower(Notify::service());
    let stash = keep_stash(service.stash, Notify::service());
    for (listener, address) in runs(&server.addresses()) {
        tracing::info!(target: "evenkeel", listener, address, "accepting");
    }
    if let Some(address) = server.http_address() {
        tracing::info!(target: "evenkeel", %address, "admin.http is ready: / /metrics /status /healthz /readyz");
    }
    loop {
        tokio::select! {
            biased;
            () = server.handed_over() => return depart(server, &mut stop, &mut later).await,
            () = stop.asked() => match stash.as_deref() {
                Some(stash) if server.leave_for_next(stash, paths).await => return ExitCode::SUCCESS.into(),
                _ => break,
            },
            signal = later.asked() => match signal {
                // What came of it is in the log.
                Later::Reload => drop(server.reload_file().await),
                Later::Upgrade => drop(server.upgrade(None).await),
            },
            () = server.broken() => {
                tracing::error!(target: "evenkeel", "a thread has ended by a fault; stopping, so that the service manager starts anew");
                return ExitCode::from(FAILED).into();
            }
        }
    }
    let successor = server.successor();
    let Drained { sessions, cut } = server.stop(stop.asked()).await;
    if let Some(successor) = successor.get() {
        // It took over at the last moment: the stop is meant for that one.
        children::send_signal(successor.pid, Signalled::Terminate);
        return end_after(Some(successor));
    }
    tracing::info!(target: "evenkeel", sessions, cut, "stopped");
    ExitCode::SUCCESS.into()
}

/// Another process is the service, and signals that come meanwhile are for that one.
async fn depart(server: Server, stop: &mut Stop, later: &mut Others) -> End {
    let successor = server.successor();
    let departure = server.depart();
    tokio::pin!(departure);
    let mut is_over = false;
    loop {
        let signal = tokio::select! {
            biased;
            () = stop.asked() => Signalled::Terminate,
            signal = later.asked() => match signal {
                Later::Reload => Signalled::HangUp,
                Later::Upgrade => Signalled::User2,
            },
            () = &mut departure, if !is_over => {
                is_over = true;
                // Those that come from here on wait for the program that this process becomes.
                children::hold_signals();
                continue;
            }
            // What came before that is heard of at once.
            () = sleep(LAST_SIGNALS), if is_over => break,
        };
        if let Some(successor) = successor.get() {
            children::send_signal(successor.pid, signal);
        }
    }
    end_after(successor.get())
}

fn end_after(successor: Option<&Successor>) -> End {
    match successor {
        Some(Successor { pid, is_followed: true }) => {
            tracing::info!(target: "evenkeel", pid, "this process stays for whoever started it: it passes signals on to the new one, and ends as that does");
            End::Follows(*pid)
        }
        _ => ExitCode::SUCCESS.into(),
    }
}

/// What this process gives its server.
fn environment(paths: &[PathBuf], document: &Document, store: FdStore, logging: &Logging) -> Environment {
    if document.settings.admin.socket == AdminSocket::Auto {
        super::client::make_usual_place();
    }
    Environment {
        notify: Notify::service(),
        log_lines_dropped: logging.dropped(),
        seed: fresh_seed(),
        file: file(paths, document, logging),
        program: Program {
            binary: std::env::current_exe().unwrap_or_else(|_| "evenkeel".into()),
            arguments: std::env::args_os().skip(1).collect(),
        },
        kept: Arc::new(Mutex::new(store)),
        usual_socket: super::client::usual_socket(),
        generations: in_the_state_folder("generations"),
        found: in_the_state_folder("found.json"),
        run_time: in_the_state_folder(RUN_TIME),
        offloads: udp_probe::probe(),
    }
}

/// In systemd's StateDirectory=; the first of several.
fn in_the_state_folder(file: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("STATE_DIRECTORY")?;
    let folder = std::env::split_paths(&folders).next().filter(|folder| folder.is_absolute())?;
    Some(folder.join(file))
}

/// What was changed at run time.
const RUN_TIME: &str = "run-time.json";
/// How long what looks at files may take when everything else has ended.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// A signal that has come is told to the program by way of a pipe.
const LAST_SIGNALS: Duration = Duration::from_millis(2);

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
fn file(paths: &[PathBuf], document: &Document, logging: &Logging) -> File {
    let (paths, level) = (paths.to_owned(), logging.level());
    File {
        names: Arc::clone(&document.files),
        text: Arc::clone(&document.text),
        base: Arc::clone(&document.base),
        changes: Arc::clone(&document.changes),
        read: Arc::new(move |changes| read_changed(&paths, changes)),
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
