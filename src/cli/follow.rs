//! `evenkeel follow`: what a process becomes that has handed over where its parent follows a process number (PID 1 of a
//! container, runit, s6, tini, supervisord, a shell): a small supervisor that owns nothing but its child.
//!
//! It passes signals on, and ends as the child does. A child that was followed by another process itself has left that one
//! here: it is what is followed then.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit_code::FAILED;
use super::output::failed;
use crate::server::HANDOVER_VARIABLE;
use crate::sys::children::{self, Child, Ended, Signalled};

/// Until the process of this number, and whoever takes over from it, has ended.
pub(super) fn follow(first: u32) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format_args!("the new process cannot be followed: {error}")),
    };
    runtime.block_on(async {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return failed(&format_args!("signals cannot be received: {error}")),
        };
        // Those that came since this process had handed over come now.
        children::let_signals_in();
        let mut followed = first;
        loop {
            if let Some(code) = look(&mut followed) {
                return code;
            }
            if let Some(signal) = signals.next().await {
                // One that has just ended is found so in the next round.
                children::send_signal(last_of(followed), signal);
            }
        }
    })
}

/// Goes on from those that have ended to those that have taken over from them. `Some`: nobody has from the last.
fn look(followed: &mut u32) -> Option<ExitCode> {
    loop {
        let all = children::all();
        let Some(child) = all.iter().find(|child| child.pid == *followed) else {
            // Whoever follows this process must not wait for ever.
            return Some(ExitCode::from(FAILED));
        };
        if !child.is_over {
            forget_strangers(&all, *followed);
            return None;
        }
        // A program that does not name its successor yet has one all the same, if it has left one.
        let next = child.successor.or_else(|| children::last_with(&all, HANDOVER_VARIABLE));
        let ended = children::take_ended(*followed);
        match (next.filter(|next| next != followed), ended) {
            (Some(next), _) => *followed = next,
            (None, Some(ended)) => return Some(code_of(ended)),
            (None, None) => return Some(ExitCode::from(FAILED)),
        }
    }
}

/// Who is the service now: one that has handed over is still there for a moment, and names who is.
fn last_of(mut followed: u32) -> u32 {
    let all = children::all();
    // No chain is longer than there are children.
    for _ in 0..all.len() {
        let named = all.iter().find(|child| child.pid == followed).and_then(|child| child.successor);
        match named.filter(|next| all.iter().any(|child| child.pid == *next)) {
            Some(next) => followed = next,
            None => break,
        }
    }
    followed
}

/// In a container this process is the parent of whoever lost his own: nobody else forgets those that have ended. But how
/// ended whom somebody has named is still to be asked.
fn forget_strangers(all: &[Child], followed: u32) {
    for child in all.iter().filter(|child| child.is_over && child.pid != followed) {
        if child.successor.is_none() && !all.iter().any(|other| other.successor == Some(child.pid)) {
            children::take_ended(child.pid);
        }
    }
}

/// What this process ends with: as a shell tells it.
fn code_of(ended: Ended) -> ExitCode {
    match ended {
        Ended::Code(code) => ExitCode::from(code),
        Ended::Killed(signal) => ExitCode::from(128_u8.saturating_add(signal)),
    }
}

/// What is passed on, and the end of a child.
struct Signals {
    child: Signal,
    hang_up: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one to pass on; `None`: a child may have ended.
    async fn next(&mut self) -> Option<Signalled> {
        // recv is cancel-safe: a signal is taken or stays.
        tokio::select! {
            _ = self.child.recv() => None,
            _ = self.hang_up.recv() => Some(Signalled::HangUp),
            _ = self.interrupt.recv() => Some(Signalled::Interrupt),
            _ = self.quit.recv() => Some(Signalled::Quit),
            _ = self.terminate.recv() => Some(Signalled::Terminate),
            _ = self.user_1.recv() => Some(Signalled::User1),
            _ = self.user_2.recv() => Some(Signalled::User2),
        }
    }
}
