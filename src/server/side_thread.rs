//! Side thread (dedicated runtime): health checks, the publisher and the admin doors have a thread each, so that none of
//! them waits for another, nor for what the control thread does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::sys::children;

/// All of them.
#[derive(Debug)]
pub(super) struct SideThreads {
    /// Asks backends. Nothing else runs here: an answered check must be reset within 200 ms, before a program sees it.
    pub(super) health: SideThread,
    /// Makes snapshots, and builds their tables.
    pub(super) publisher: SideThread,
    /// Serves the admin doors, and renders what is asked there.
    pub(super) admin: SideThread,
}

impl SideThreads {
    /// Those of one balancer.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self {
            health: SideThread::start("health", Needs::Sockets)?,
            publisher: SideThread::start("publisher", Needs::Time)?,
            admin: SideThread::start("admin", Needs::Sockets)?,
        })
    }

    /// Asks each for a sign of life.
    pub(super) fn ask_for_signs(&self) -> Vec<Sign> {
        [&self.health, &self.publisher, &self.admin].map(SideThread::ask_for_sign).into()
    }

    /// Ends all and waits for it: for no longer than the turns take that they are in.
    pub(super) fn end(self) {
        self.health.end();
        self.publisher.end();
        self.admin.end();
    }
}

/// A thread with a runtime of its own. When this is dropped, the thread ends and drops what still runs there.
#[derive(Debug)]
pub(super) struct SideThread {
    name: &'static str,
    runtime: Handle,
    end: DropGuard,
    thread: JoinHandle<()>,
}

/// A sign of life that a thread was asked for.
#[derive(Debug)]
pub(super) struct Sign {
    /// The thread's name.
    pub(super) name: &'static str,
    given: Arc<AtomicBool>,
}

impl Sign {
    /// The thread has turned since it was asked.
    pub(super) fn is_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }
}

/// What runs there may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Time alone: such a runtime holds no descriptor.
    Time,
    /// Sockets too: four descriptors.
    Sockets,
}

impl SideThread {
    /// A thread of this name, which has nothing to do yet.
    fn start(name: &'static str, needs: Needs) -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        if needs == Needs::Sockets {
            builder.enable_io();
        }
        let runtime = builder.enable_time().build()?;
        let handle = runtime.handle().clone();
        let end = CancellationToken::new();
        let ended = end.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // They are the control thread's.
            children::hold_signals();
            runtime.block_on(ended.cancelled());
            // A file that is being read where the file system does not answer holds nobody up.
            runtime.shutdown_timeout(LEFT_BEHIND);
        })?;
        Ok(Self { name, runtime: handle, end: end.drop_guard(), thread })
    }

    fn ask_for_sign(&self) -> Sign {
        let given = Arc::<AtomicBool>::default();
        let sign = Sign { name: self.name, given: Arc::clone(&given) };
        self.runtime.spawn(async move { given.store(true, Ordering::Relaxed) });
        sign
    }

    /// Where tasks are to be spawned.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// What is spawned, and which sockets are made, while this is held, belongs there.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    fn end(self) {
        drop(self.end);
        // One that panicked has said so.
        let _ = self.thread.join();
    }
}

/// For what is still being read when a thread ends.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_turn_gives_no_sign() {
        let side = SideThread::start("side", Needs::Time).unwrap();
        let (free, held) = std::sync::mpsc::channel::<()>();
        let (told, holds) = std::sync::mpsc::channel();
        side.runtime().spawn(async move {
            told.send(()).unwrap();
            let _ = held.recv();
        });
        holds.recv().unwrap();
        let sign = side.ask_for_sign();
        assert!(!sign.is_given());
        drop(free);
        while !sign.is_given() {
            thread::yield_now();
        }
        side.end();
    }

    #[test]
    fn what_is_spawned_runs_there_and_ends_with_it() {
        for needs in [Needs::Time, Needs::Sockets] {
            let side = SideThread::start("side", needs).unwrap();
            let (told, heard) = std::sync::mpsc::channel();
            let until_dropped = told.clone();
            side.runtime().spawn(async move {
                told.send(thread::current().name().map(str::to_owned)).unwrap();
                tokio::time::sleep(Duration::from_secs(1_000_000)).await;
                drop(told);
            });
            assert_eq!(heard.recv().unwrap().as_deref(), Some("side"));
            drop(until_dropped);
            side.end();
            assert!(heard.recv().is_err(), "the task is gone");
        }
    }
}
