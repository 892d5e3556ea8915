//! Notifications to systemd (sd_notify): ready, stopping, how long it will take, what a person reads in `systemctl
//! status`.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use sd_notify::NotifyState;

/// The line to the service manager; silent where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Notify {
    enabled: bool,
}

impl Notify {
    /// To the manager that started this process, if one did.
    pub fn service() -> Self {
        Self { enabled: true }
    }

    /// To nobody: for a balancer inside another program.
    pub fn nobody() -> Self {
        Self { enabled: false }
    }

    /// Accepting.
    pub fn ready(self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Reading the file again; [`Self::ready`] ends that.
    pub fn reloading(self) {
        // Without the time a manager that waits for the reload would not know which one is over.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now]);
        }
    }

    /// Draining; it may take so much longer.
    pub fn stopping(self, status: &str, at_most: Duration) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(status), extend(at_most)]);
    }

    /// Still draining.
    pub fn still_stopping(self, status: &str, at_most: Duration) {
        self.send(&[NotifyState::Status(status), extend(at_most)]);
    }

    /// This process is the service from now on.
    pub fn main_pid(self, pid: u32) {
        self.send(&[NotifyState::MainPid(pid)]);
    }

    /// Keep these for the process that comes after this one. `watched`: only as long as they are not in error.
    pub fn keep(self, name: &str, descriptors: &[BorrowedFd<'_>], watched: bool) {
        if !self.is_heard() {
            return;
        }
        let mut states = vec![NotifyState::FdStore, NotifyState::FdName(name)];
        if !watched {
            states.push(NotifyState::Custom("FDPOLL=0"));
        }
        if let Err(error) = sd_notify::notify_with_fds(&states, descriptors) {
            tracing::debug!(target: "evenkeel", %error, name, "the service manager could not be given a socket");
        }
    }

    /// Keep nothing of this name any more.
    pub fn forget(self, name: &str) {
        self.send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }

    /// There is a service manager that listens.
    pub fn is_heard(self) -> bool {
        self.enabled && std::env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// One line for people.
    pub fn status(self, status: &str) {
        self.send(&[NotifyState::Status(status)]);
    }

    /// Alive.
    pub fn watchdog(self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// How often the manager wants to hear that.
    pub fn watchdog_interval(self) -> Option<Duration> {
        if self.enabled { sd_notify::watchdog_enabled() } else { None }
    }

    fn send(self, states: &[NotifyState<'_>]) {
        if self.enabled
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::debug!(target: "evenkeel", %error, "the service manager could not be told");
        }
    }
}

/// What is asked for, and a little more: the manager kills what is late.
fn extend(at_most: Duration) -> NotifyState<'static> {
    let us = (at_most + Duration::from_secs(10)).as_micros();
    NotifyState::ExtendTimeoutUsec(u32::try_from(us).unwrap_or(u32::MAX))
}
