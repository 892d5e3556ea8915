//! File descriptor budget (RLIMIT_NOFILE): how the open files of a process are shared out. Pure.

use crate::config::settings::{Protocol, SessionLimit, Settings};

/// What the open-file limit is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FdBudget {
    /// TCP sessions at once, two descriptors each.
    pub(super) tcp_sessions: u32,
    /// UDP flows at once, one descriptor each.
    pub(super) udp_sessions: u32,
    /// Health checks in flight, one each.
    pub(super) probes: usize,
    /// More descriptors are asked for than there are: how many sessions and flows need, and how many there are for them.
    pub(super) short_of: Option<(u64, u64)>,
}

impl FdBudget {
    /// Shares `open_files` out among doors, checks, pipes, and what is left for sessions and flows.
    pub(super) fn new(open_files: u64, settings: &Settings, workers: usize) -> Self {
        let probes = usize::try_from(open_files / 16).unwrap_or(PROBES_MAX).clamp(PROBES_MIN, PROBES_MAX);
        let doors: usize = settings.listeners.iter().map(|listener| listener.bind.len() * workers).sum();
        // Per worker an epoll set, an eventfd and up to 16 empty pipes; pipes that hold bytes come out of the reserve.
        let reserve = RESERVE + doors as u64 + probes as u64 + workers as u64 * (2 + 2 * 16);
        let room = open_files.saturating_sub(reserve);
        let uses = |protocol| settings.listeners.iter().any(|listener| listener.protocol == protocol);
        let (tcp, udp) = (settings.limits.tcp_sessions, settings.limits.udp_sessions);
        // Each protocol may have what the other leaves; where both want what there is, each gets half.
        let asked = |limit, each: u64, used: bool| match limit {
            _ if !used => Some(0),
            SessionLimit::Count(count) => Some(u64::from(count) * each),
            SessionLimit::Auto => None,
        };
        let asked = (asked(tcp, 2, uses(Protocol::Tcp)), asked(udp, 1, uses(Protocol::Udp)));
        let files = match asked {
            (Some(tcp), Some(udp)) => (tcp, udp),
            (Some(tcp), None) => (tcp, room.saturating_sub(tcp)),
            (None, Some(udp)) => (room.saturating_sub(udp), udp),
            (None, None) => (room / 2, room / 2),
        };
        let sessions = |files: u64, each| u32::try_from(files / each).unwrap_or(u32::MAX).max(1);
        let wanted = files.0 + files.1;
        Self {
            tcp_sessions: sessions(files.0, 2),
            udp_sessions: sessions(files.1, 1),
            probes,
            short_of: (wanted > room).then_some((wanted, room)),
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
    use crate::config;

    fn budget(open_files: u64, limits: &str, protocols: &[&str]) -> FdBudget {
        let listeners: String = protocols
            .iter()
            .map(|protocol| {
                format!("  {protocol}: {{ bind: 99, protocol: {protocol}, backends: [10.0.0.1:99] }}\n")
            })
            .collect();
        let text = format!("limits: {{ {limits} }}\nlisteners:\n{listeners}");
        FdBudget::new(open_files, &config::read("budget", text.as_bytes()).unwrap(), 2)
    }

    #[test]
    fn auto_leaves_room_for_everything_else() {
        let tcp = budget(20_000, "", &["tcp"]);
        assert_eq!(tcp.probes, 1_024);
        assert!((9_000..9_400).contains(&tcp.tcp_sessions), "{tcp:?}");
        let udp = budget(20_000, "", &["udp"]);
        assert!((18_000..18_800).contains(&udp.udp_sessions), "{udp:?}");
        let both = budget(20_000, "", &["tcp", "udp"]);
        assert!((4_500..4_700).contains(&both.tcp_sessions) && (9_000..9_400).contains(&both.udp_sessions));
        let small = budget(256, "", &["tcp"]);
        assert!(small.tcp_sessions >= 1, "{small:?}");
    }

    #[test]
    fn a_count_is_kept_the_other_gets_the_rest_and_a_shortage_is_told() {
        let mixed = budget(20_000, "tcp_sessions: 1000", &["tcp", "udp"]);
        assert_eq!((mixed.tcp_sessions, mixed.short_of), (1_000, None));
        assert!((16_000..17_000).contains(&mixed.udp_sessions), "{mixed:?}");
        let short = budget(1_024, "tcp_sessions: 5000", &["tcp"]);
        assert_eq!(short.tcp_sessions, 5_000);
        assert!(short.short_of.is_some_and(|(wanted, room)| wanted == 10_000 && room < 1_024));
    }
}
