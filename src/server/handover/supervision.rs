//! Supervision: who looks after this process, and what has to happen so that whoever does finds the service alive when
//! another process is the service.
//!
//! A service manager is told a number. Every other parent (the kernel, where this is PID 1 of a container; runit, s6, tini,
//! supervisord; a shell) follows the process that it started: that one has to stay, as a supervisor of its own that owns
//! nothing but its child, and everyone who takes over later is left to it.

use std::io;

use crate::sys::children;
use crate::systemd::Notify;

/// Who looks after this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supervision {
    /// A service manager, which is told.
    Manager,
    /// A process that was the service once, and follows whoever is now.
    Follower(u32),
    /// Somebody who follows this process: it stays.
    Parent,
}

/// The process that has everything now, where no manager was told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successor {
    /// Its number.
    pub pid: u32,
    /// Whoever started this process follows this one, so it stays, and follows the other.
    pub is_followed: bool,
}

impl Supervision {
    /// As this process finds it.
    pub(super) fn find(notify: Notify) -> Self {
        let follower = std::env::var(FOLLOWER_VARIABLE).ok().and_then(|number| number.parse().ok());
        Self::of(children::own_pid(), children::parent(), follower, notify.is_heard())
    }

    fn of(own: u32, parent: u32, follower: Option<u32>, is_heard: bool) -> Self {
        match follower {
            // Where the kernel itself follows this process no manager can be told of another.
            _ if own == 1 => Self::Parent,
            _ if is_heard => Self::Manager,
            Some(follower) if follower == parent => Self::Follower(follower),
            _ => Self::Parent,
        }
    }

    /// Makes sure that the process that is about to be started finds its place. The number of the process that will follow
    /// it, if one will.
    pub(super) fn prepare(self) -> io::Result<Option<u32>> {
        match self {
            Self::Manager => Ok(None),
            Self::Follower(follower) => Ok(Some(follower)),
            Self::Parent => {
                if !children::proc_is_ours() {
                    return Err(io::Error::other(NO_PROC));
                }
                children::take_orphans()?;
                Ok(Some(children::own_pid()))
            }
        }
    }
}

/// Whoever follows this process may end before it: it does not stay behind then, in the way of the one that is started anew.
pub fn end_with_follower(notify: Notify) {
    if let Supervision::Follower(follower) = Supervision::find(notify) {
        let set = children::end_with_parent();
        if let Err(error) = set {
            tracing::warn!(target: "evenkeel", %error, follower, "this process would outlive the one that passes signals on to it");
        }
    }
}

/// The number of the process that follows the one that is started.
pub(super) const FOLLOWER_VARIABLE: &str = "EVENKEEL_FOLLOWER";
const NO_PROC: &str = "whoever started this process follows it, so it would have to stay and follow the new one, and cannot: /proc is not there, or is that of another PID namespace (mount one: `unshare --mount-proc`)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_and_every_other_parent_keeps_the_process_it_started() {
        assert_eq!(Supervision::of(100, 1, None, true), Supervision::Manager);
        assert_eq!(Supervision::of(1, 0, None, false), Supervision::Parent, "a container");
        assert_eq!(Supervision::of(1, 0, None, true), Supervision::Parent, "one whose engine listens");
        assert_eq!(Supervision::of(7, 1, None, false), Supervision::Parent, "tini, runit");
        assert_eq!(Supervision::of(9, 7, Some(7), false), Supervision::Follower(7));
        assert_eq!(Supervision::of(9, 1, Some(7), false), Supervision::Parent, "its follower has gone");
    }
}
