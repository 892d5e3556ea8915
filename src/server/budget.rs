//! How the open files of a process are shared out. Pure.

use crate::config::settings::SessionLimit;

/// What the open-file limit is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// TCP sessions at once, two descriptors each.
    pub(super) tcp_sessions: u32,
    /// Health checks in flight, one each.
    pub(super) probes: usize,
    /// More sessions are asked for than descriptors allow: how many those would allow.
    pub(super) short_of: Option<u32>,
}

impl Budget {
    /// Shares `open_files` out among `sockets` doors, checks, pipes, and what is left for sessions.
    pub(super) fn new(open_files: u64, sockets: usize, workers: usize, limit: SessionLimit) -> Self {
        let probes = usize::try_from(open_files / 16).unwrap_or(PROBES_MAX).clamp(PROBES_MIN, PROBES_MAX);
        // Per worker an epoll set, an eventfd and up to 16 empty pipes; pipes that hold bytes come out of the reserve.
        let reserve = RESERVE + sockets as u64 + probes as u64 + workers as u64 * (2 + 2 * 16);
        let room = u32::try_from(open_files.saturating_sub(reserve) / 2).unwrap_or(u32::MAX).max(1);
        match limit {
            SessionLimit::Auto => Self { tcp_sessions: room, probes, short_of: None },
            SessionLimit::Count(count) => {
                Self { tcp_sessions: count, probes, short_of: (count > room).then_some(room) }
            }
        }
    }
}

/// Checks in flight at most, and at least however few files there are.
const PROBES_MAX: usize = 1_024;
const PROBES_MIN: usize = 8;
/// Standard streams, the control thread's runtime, its HTTP connections (64), and 64 pipes that hold bytes.
const RESERVE: u64 = 16 + 64 + 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_leaves_room_for_everything_else() {
        let budget = Budget::new(20_000, 4, 2, SessionLimit::Auto);
        assert_eq!(budget.probes, 1_024);
        assert!((9_000..9_400).contains(&budget.tcp_sessions), "{budget:?}");
        let small = Budget::new(256, 1, 1, SessionLimit::Auto);
        assert!(small.tcp_sessions >= 1, "{small:?}");
    }

    #[test]
    fn a_count_is_kept_and_its_shortage_told() {
        let budget = Budget::new(1_024, 4, 2, SessionLimit::Count(5_000));
        assert_eq!(budget.tcp_sessions, 5_000);
        assert!(budget.short_of.is_some_and(|room| room < 512));
        assert_eq!(Budget::new(20_000, 4, 2, SessionLimit::Count(5_000)).short_of, None);
    }
}
