//! `evenkeel follow`: stays connected to the balancer and acts on each change of readiness (failover), for those who move an
//! address or a route: keepalived, BIRD, ExaBGP.
//!
//! Must stay true: the end of the balancer is unready, at once; its restart and its upgrade are nothing; actions come one at a
//! time, and one that failed is tried again until it succeeds or something else is so; the end of this program is unready.

mod actions;
mod judgement;
mod line;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::client::socket_path;
use super::exit_code::{FAILED, NO_BALANCER};
use super::output::{complain, failed};
use crate::systemd::Notify;
use actions::Actions;
use judgement::{Heard, Judgement, State};
use line::Line;

#[derive(Debug, Args)]
pub(super) struct Following {
    /// The process that has taken over from this one
    #[arg(hide = true, exclusive = true)]
    pub(super) pid: Option<u32>,
    /// Ready while this listener has a backend that may be picked [default: while the balancer accepts]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// What to run (by /bin/sh) when clients may be sent to this machine
    #[arg(long, value_name = "CMD", requires = "unready")]
    ready: Option<String>,
    /// What to run when they may not
    #[arg(long, value_name = "CMD", requires = "ready")]
    unready: Option<String>,
    /// A file to write: 0 when clients may be sent to this machine, 1 when they may not
    #[arg(long, value_name = "PATH", required_unless_present_any = ["pid", "ready"])]
    file: Option<PathBuf>,
    /// The socket of the balancer [default: EVENKEEL_SOCKET, then /run/evenkeel/admin.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Until it is told to stop.
pub(super) fn follow(following: Following) -> ExitCode {
    let Following { pid: _, listener, ready, unready, file, socket } = following;
    let Some(socket) = socket_path(socket) else {
        complain("evenkeel: this machine has no usual place for the socket: name it with --socket PATH");
        return ExitCode::from(NO_BALANCER);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format_args!("the balancer cannot be followed: {error}")),
    };
    runtime.block_on(async {
        let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let [Ok(mut terminate), Ok(mut interrupt)] = signals else {
            return failed(&"signals cannot be received");
        };
        let (known, target) = watch::channel(None::<State>);
        let acts = act(Actions { ready, unready, file }, target);
        let listens = async {
            // All arms may be dropped without loss: nobody is listened to afterwards.
            tokio::select! {
                never = listen(&socket, listener.as_deref(), &known) => match never {},
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            known.send_replace(Some(State { is_ready: false, why: STOPPED.to_owned() }));
            drop(known);
        };
        match tokio::join!(listens, acts).1 {
            Ok(()) => ExitCode::SUCCESS,
            Err(()) => ExitCode::from(FAILED),
        }
    })
}

/// Keeps `known` what is known, for ever.
async fn listen(
    socket: &Path,
    listener: Option<&str>,
    known: &watch::Sender<Option<State>>,
) -> std::convert::Infallible {
    let began = Instant::now();
    let now_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut judgement = Judgement::default();
    let mut pause = PAUSE_MIN;
    let mut hear = |heard: Option<Heard<'_>>| {
        judgement.pass(now_ms());
        if let Some(heard) = heard {
            judgement.hear(heard, now_ms());
        }
        known.send_if_modified(|known| {
            let is_new = known.as_ref() != judgement.state();
            if is_new {
                *known = judgement.state().cloned();
            }
            is_new
        });
        // For how long nothing is to be concluded.
        judgement.due_ms().map_or(SILENCE_MAX, |due| Duration::from_millis(due.saturating_sub(now_ms()) + 1))
    };
    loop {
        match Line::open(socket, listener).await {
            Ok(mut line) => {
                let (mut text, mut last) = (String::new(), Instant::now());
                let mut rest = hear(None);
                let why = loop {
                    match timeout(rest.min(SILENCE_MAX), line.next(&mut text)).await {
                        Ok(Ok(heard)) => {
                            last = Instant::now();
                            if matches!(heard, Some(Heard::Ready(_) | Heard::Unready(_))) {
                                pause = PAUSE_MIN;
                            }
                            rest = hear(heard);
                        }
                        Ok(Err(why)) => break why,
                        Err(_) if last.elapsed() >= SILENCE_MAX => {
                            break format!("the balancer said nothing for {} s", SILENCE_MAX.as_secs());
                        }
                        Err(_) => rest = hear(None),
                    }
                };
                hear(Some(Heard::Ended(&why)));
            }
            Err(error) => {
                let why = format!("no balancer answers at {}: {error}", socket.display());
                use std::io::ErrorKind::{ConnectionRefused, NotFound};
                let is_nobody = matches!(error.kind(), ConnectionRefused | NotFound);
                hear(Some(if is_nobody { Heard::Nobody(&why) } else { Heard::NoAnswer(&why) }));
                let rest = hear(None);
                sleep(pause.min(rest)).await;
                pause = (pause * 2).min(PAUSE_MAX);
                continue;
            }
        }
        // What lets nobody follow must not be asked without end; the first time it is asked again at once.
        sleep(pause - PAUSE_MIN).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Does what the last one known asks for. Ends when nobody tells any more; an error: that could not be done.
async fn act(actions: Actions, mut target: watch::Receiver<Option<State>>) -> Result<(), ()> {
    let mut done = None;
    let (mut failures, mut pause) = (0, RETRY_MIN);
    loop {
        // In this order what is seen then is the last word.
        let is_last = target.has_changed().is_err();
        let Some(state) = target.borrow_and_update().clone() else {
            let _ = target.changed().await;
            continue;
        };
        let line = format!("{}: {}", if state.is_ready { "ready" } else { "unready" }, state.why);
        if done == Some(state.is_ready) {
            Notify::service().status(&line);
            if is_last {
                return Ok(());
            }
            let _ = target.changed().await;
            continue;
        }
        // Should it fail, half of it may be done: then nothing is, whatever is so next.
        done = None;
        match actions.apply(&state).await {
            Ok(()) => {
                complain(format_args!("evenkeel follow: {line}"));
                Notify::service().ready(&line);
                (done, failures, pause) = (Some(state.is_ready), 0, RETRY_MIN);
            }
            Err(why) if is_last && failures + 1 >= LAST_TRIES => {
                complain(format_args!("evenkeel follow: {why}; it is given up after {LAST_TRIES} tries"));
                return Err(());
            }
            Err(why) => {
                // Who waits for this program before he starts may be who the command needs.
                Notify::service().ready(&format!("{line}; {why}"));
                let again = if is_last { RETRY_MIN } else { pause };
                let seconds = again.as_secs_f64();
                complain(format_args!("evenkeel follow: {why}; it is tried again in {seconds} s"));
                if is_last {
                    failures += 1;
                    sleep(again).await;
                } else {
                    // Something else may be so before.
                    let _ = timeout(again, target.changed()).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

const STOPPED: &str = "evenkeel follow was told to stop";
/// The balancer says each second that it is alive.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Of what is to be done at the end.
const LAST_TRIES: u32 = 3;
