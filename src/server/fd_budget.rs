//! File descriptor budget (RLIMIT_NOFILE): how the open files of a process are shared out, and what sessions never get of
//! them, whatever the file asks for. Pure.

use crate::config::settings::{Protocol, SessionLimit, Settings, Speaks};

/// What the open-file limit is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FdBudget {
    /// TCP sessions at once; who comes beyond is refused.
    pub(super) tcp_sessions: u32,
    /// TCP sessions for which there are descriptors, two each; who comes beyond waits at the door. Not below `tcp_sessions`,
    /// unless the file asks for more than there is.
    pub(super) tcp_sessions_room: u32,
    /// UDP flows at once, one descriptor each.
    pub(super) udp_sessions: u32,
    /// Health checks in flight, one each.
    pub(super) probes: usize,
    /// Pipes for bulk at once, two each.
    pub(super) pipes: u64,
    /// A descriptor of this number or above is one of those that handovers and the questions around them need: other
    /// conversations of an admin door end for it.
    pub(super) last_numbers: u64,
    /// More descriptors are asked for than there are: how many sessions and flows need, and how many there are for them.
    pub(super) short_of: Option<(u64, u64)>,
}

impl FdBudget {
    /// Shares `open_files` out among doors, checks, admin, handovers, pipes, and what is left for sessions and flows.
    pub(super) fn new(open_files: u64, settings: &Settings, workers: usize) -> Self {
        let probes = usize::try_from(open_files / 16).unwrap_or(PROBES_MAX).clamp(PROBES_MIN, PROBES_MAX);
        let doors: usize = settings.listeners.iter().map(|listener| listener.bind.len() * workers).sum();
        // Per worker an epoll set and an eventfd, and a connection that was accepted while another thread took the last place.
        let own = OWN + doors as u64 + workers as u64 * (2 + 2);
        let left = open_files.saturating_sub(own);
        // Where there is little of all, sessions get most of it.
        let asks_names = settings.pools.iter().any(|pool| !pool.sources.is_empty());
        // A list that is asked for, and what tells of changes meanwhile.
        let sources = settings.pools.iter().flat_map(|pool| &pool.sources);
        let over_http = 2 * sources.filter(|source| source.from.is_asked_over_http()).count() as u64;
        let names = if asks_names { NAMES + over_http } else { 0 };
        let is_cancelled = settings.listeners.iter().any(|one| one.speaks == Some(Speaks::Postgres));
        let cancels = if is_cancelled { CANCELS } else { 0 };
        let kept = (probes as u64 + ADMIN + HANDOVER + names + cancels).min(left / 4);
        let pipes = PIPES_MAX.min(left / 32 / 2);
        let room = left - kept - 2 * pipes;
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
        // What both do not fit into is shared likewise.
        let udp_room = files.1.min((room / 2).max(room.saturating_sub(files.0)));
        let tcp_room = files.0.min(room.saturating_sub(udp_room));
        Self {
            tcp_sessions: sessions(files.0, 2),
            tcp_sessions_room: sessions(tcp_room, 2),
            udp_sessions: sessions(udp_room, 1),
            probes,
            pipes,
            last_numbers: open_files.saturating_sub(HANDOVER.min(kept / 2)),
            short_of: (wanted > room).then_some((wanted, room)),
        }
    }
}

/// Checks in flight at most, and at least however few files there are.
const PROBES_MAX: usize = 1_024;
const PROBES_MIN: usize = 8;
/// Standard streams, four runtimes, the log, admin doors, the stash.
const OWN: u64 = 32;
/// Connections of both admin doors, 64 each, 16 watchers and 16 followers.
const ADMIN: u64 = 64 + 64 + 16 + 16;
/// Host names that are asked for at once, two questions each.
const NAMES: u64 = 8 * 2;
/// Requests to cancel: clients that wait for those before them, those whose request is being delivered, and the backends that
/// are told.
const CANCELS: u64 = 64 + 16 + 32;
/// A line to the next process and one to a starting program, what is handed over, D-Bus, the kernel's files that tell what
/// this process uses.
const HANDOVER: u64 = 16;
/// Pipes that are empty and pipes that hold bytes: more than the memory that the kernel lets them have.
const PIPES_MAX: u64 = 2_048;

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
        assert!((60..100).contains(&small.tcp_sessions), "{small:?}");
        assert_eq!(budget(0, "", &["tcp"]).tcp_sessions, 1);
    }

    #[test]
    fn sources_that_are_asked_over_http_have_descriptors_of_their_own() {
        let sessions = |from: &str| {
            let text = format!("listeners: {{ l: {{ bind: 99, backends: [{{ from: {from} }}] }} }}");
            FdBudget::new(20_000, &config::read("budget", text.as_bytes()).unwrap(), 2).tcp_sessions
        };
        assert_eq!(sessions("{ file: /l }"), sessions("{ consul: pg }") + 1, "two, which are one session");
    }

    #[test]
    fn cancels_have_descriptors_of_their_own() {
        let sessions = |keys: &str| {
            let text = format!("listeners: {{ l: {{ bind: 99, backends: [10.0.0.1:99]{keys} }} }}");
            FdBudget::new(20_000, &config::read("budget", text.as_bytes()).unwrap(), 2).tcp_sessions
        };
        assert_eq!(sessions(""), sessions(", speaks: postgres") + (64 + 16 + 32) / 2);
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

    #[test]
    fn sessions_never_get_the_reserve_whatever_the_file_asks() {
        for open_files in [100, 160, 256, 1_024, 4_096, 20_000, 1_048_576] {
            for limits in [
                "",
                "tcp_sessions: 1000000",
                "udp_sessions: 1000000",
                "tcp_sessions: 1000000, udp_sessions: 1000000",
            ] {
                for protocols in [&["tcp"][..], &["udp"], &["tcp", "udp"]] {
                    let budget = budget(open_files, limits, protocols);
                    let uses = |protocol| u64::from(protocols.contains(&protocol));
                    let given =
                        2 * u64::from(budget.tcp_sessions_room.min(budget.tcp_sessions)) * uses("tcp")
                            + u64::from(budget.udp_sessions) * uses("udp")
                            + 2 * budget.pipes;
                    let doors = 2 * protocols.len() as u64;
                    let left = open_files - OWN - doors - 8;
                    let kept = left - given.min(left);
                    let wanted = (budget.probes as u64 + ADMIN + HANDOVER).min(left / 4);
                    // One session or flow there may be at least, where the other protocol leaves none.
                    assert!(
                        kept + 2 >= wanted,
                        "{open_files} {limits} {protocols:?}: {budget:?} keeps {kept}"
                    );
                    assert!(
                        given * 2 >= left,
                        "{open_files} {limits} {protocols:?}: {budget:?} gives {given}"
                    );
                    let is_short = budget.tcp_sessions_room < budget.tcp_sessions;
                    assert!(!is_short || budget.short_of.is_some());
                }
            }
        }
    }
}
