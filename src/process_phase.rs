//! Process phase: where the process is in its life, and which way it may go. Pure.

/// An operator's word that nobody shall be sent to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// Who said so.
    pub by: String,
    /// When, in seconds since 1970.
    pub since_s: u64,
}

/// The phases of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Doors are bound, the first round of checks is under way.
    Starting,
    /// Accepting.
    Running,
    /// Asked to stop: everything goes on until those who send clients here have heard of it.
    Leaving,
    /// Asked to stop: nothing new, living sessions may finish.
    Draining,
    /// Another process has everything.
    HandedOver,
    /// The last session has gone.
    Stopped,
}

impl Phase {
    /// May the process go from here to there?
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Starting, Self::Running | Self::Draining)
                | (Self::Running, Self::Leaving | Self::Draining | Self::HandedOver)
                | (Self::Leaving, Self::Draining)
                | (Self::Draining, Self::Stopped)
        )
    }

    /// Its word in logs and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::HandedOver => "handed_over",
            Self::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_never_goes_back_and_never_skips_the_drain() {
        use Phase::{Draining, HandedOver, Leaving, Running, Starting, Stopped};
        let order = [Starting, Running, Leaving, Draining, Stopped];
        assert!(order.iter().all(|to| !HandedOver.may_become(*to)), "it is another's life then");
        for (i, from) in order.iter().enumerate() {
            for (k, to) in order.iter().chain([&HandedOver]).enumerate() {
                let shortcut =
                    matches!((from, to), (Starting, Draining) | (Running, Draining) | (Running, HandedOver));
                let legal = shortcut || (k == i + 1 && *to != HandedOver);
                assert_eq!(from.may_become(*to), legal, "{from:?} -> {to:?}");
            }
        }
    }
}
