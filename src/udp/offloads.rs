//! GSO fallback: several datagrams that the kernel takes as one (UDP_SEGMENT): where it does not, they are sent one by
//! one, and that is logged.

use std::net::SocketAddr;

use crate::sys::Errno;
use crate::sys::udp_probe::Offloads;

/// One line for each thing this kernel does not do.
pub fn tell_lacks(offloads: &Offloads) {
    if let Err(error) = offloads.merging {
        tracing::info!(
            target: "evenkeel",
            %error,
            "UDP_GRO is left out: this kernel does not merge datagrams, so each is received by itself; bursts cost more CPU, nothing is lost"
        );
    }
    if let Err(error) = offloads.splitting {
        tracing::info!(
            target: "evenkeel",
            %error,
            "UDP_SEGMENT is left out: this kernel does not send several datagrams as one, so each is sent by itself; bursts cost more CPU, nothing is lost"
        );
    }
}

/// Sends that failed because of UDP_SEGMENT on one thread, and what was told of them.
#[derive(Debug, Default)]
pub(super) struct GsoFallback {
    told_ms: Option<u64>,
    untold: u64,
}

impl GsoFallback {
    /// A send of parts failed, and the first of them passed by itself. The first time this is told at once, later once
    /// an hour with how often it was.
    pub(super) fn note(&mut self, listener: &str, to: SocketAddr, errno: Errno, now_ms: u64) {
        self.untold += 1;
        if self.told_ms.is_some_and(|at_ms| now_ms < at_ms + TOLD_EVERY_MS) {
            return;
        }
        self.told_ms = Some(now_ms);
        let times = std::mem::take(&mut self.untold);
        let error = std::io::Error::from(errno);
        tracing::info!(
            target: "evenkeel",
            listener,
            %to,
            %error,
            times,
            "a path does not take several datagrams as one (UDP_SEGMENT): a flow that meets this sends each by itself; bursts cost more CPU, nothing is lost"
        );
    }
}

const TOLD_EVERY_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_others_are_counted() {
        let mut gso_fallback = GsoFallback::default();
        let mut note = |now_ms| {
            gso_fallback.note("games", "192.0.2.1:53".parse().unwrap(), Errno::IO, now_ms);
            (gso_fallback.told_ms, gso_fallback.untold)
        };
        assert_eq!(note(5), (Some(5), 0));
        assert_eq!(note(6), (Some(5), 1));
        assert_eq!(note(TOLD_EVERY_MS), (Some(5), 2));
        assert_eq!(note(TOLD_EVERY_MS + 5), (Some(TOLD_EVERY_MS + 5), 0));
    }
}
