//! Processes: another one by its pidfd, the clock that goes on from one to the next, and the descriptors that this one was
//! born with.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What the service manager gave to this process: so many descriptors, from 3 on. To be called once, before anything else
/// is opened.
#[allow(unsafe_code)]
pub fn inherited(count: u32) -> Vec<OwnedFd> {
    let is_open = |number: &RawFd| {
        // SAFETY: it is not -1, and used for this one call, which finds out whether it is open: nobody in this process has it
        // yet, so nobody can close it meanwhile.
        let borrowed = unsafe { BorrowedFd::borrow_raw(*number) };
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).is_ok()
    };
    let numbers = (0..count.min(INHERITED_MAX)).filter_map(|number| RawFd::try_from(number + 3).ok());
    // SAFETY: they are open, and the manager passed them for this process to own; nobody here has taken them before.
    numbers.filter(is_open).map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()
}

/// Makes the table of descriptors large enough for so many, or as large as it may be. Once there are several threads each
/// doubling of the table waits for all of them, some 10 ms: while nobody waits for this process, and it has one thread, it is
/// free.
pub fn make_room(descriptors: u32) {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let highest = u64::from(descriptors).min(most.saturating_sub(1));
    if let Ok(highest) = RawFd::try_from(highest) {
        // Closed at once: the table stays as large as it is.
        drop(rustix::io::fcntl_dupfd_cloexec(io::stderr(), highest));
    }
}

/// What was given to this process as its standard input, which is `/dev/null` from now on.
pub fn take_standard_input() -> io::Result<OwnedFd> {
    let given = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(given)
}

/// Another process: held, so that its number cannot come to mean a third one.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    descriptor: OwnedFd,
}

impl Process {
    /// The process of this number, while it is there.
    pub fn named(pid: u32) -> io::Result<Self> {
        let named = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { pid, descriptor: pidfd_open(named, PidfdFlags::empty())? })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it, and waits for that where it is a child of this process. One that has ended stays so.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
        if let Some(named) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // That of another parent is his.
            let _ = rustix::process::waitpid(Some(named), rustix::process::WaitOptions::empty());
        }
    }
}

/// The clock of the machine that goes on from process to process, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, rest) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + rest.unwrap_or(0)
}

/// More than the manager is ever asked to keep.
const INHERITED_MAX: u32 = 4_096;
