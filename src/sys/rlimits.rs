//! Resource limits: what the system lets this process have: open files, pipe pages, CPUs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the open-file limit to its hard limit and tells what it is now.
pub fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: maximum, maximum };
    if current != maximum && setrlimit(Resource::Nofile, wanted).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

/// Bytes that the pipes of an unprivileged user may hold before the kernel refuses larger ones; `None` where it cannot
/// be told. A privileged process may have more, but one budget for both keeps memory the same.
pub fn pipe_budget_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").ok()?;
    let pages: u64 = text.trim().parse().ok()?;
    // 0 means no limit.
    (pages > 0).then(|| pages * rustix::param::page_size() as u64)
}

/// Connections that the kernel queues at a door at most; `None` where it cannot be told.
pub fn backlog_max() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

/// CPUs this process may use; at least 1.
pub fn cpus() -> u16 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cpus).unwrap_or(u16::MAX)
}

/// What this process uses; `None` where /proc does not tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu_seconds: Option<f64>,
    /// Memory in RAM.
    pub resident_bytes: Option<u64>,
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// How many may be open.
    pub open_files_max: Option<u64>,
    /// When it started, in seconds since 1970.
    pub started_s: Option<f64>,
}

/// Reads what this process uses.
pub fn usage() -> Usage {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name may hold spaces and parentheses: the fields are counted from the last one. Field 3 comes first.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let boot_s = std::fs::read_to_string("/proc/stat").ok().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok())
    });
    Usage {
        cpu_seconds: number(14).zip(number(15)).map(|(user, system)| (user + system) as f64 / ticks),
        resident_bytes: number(24).map(|pages| pages * rustix::param::page_size() as u64),
        open_files: std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
        open_files_max: getrlimit(Resource::Nofile).current,
        started_s: number(22).zip(boot_s).map(|(since_boot, boot_s)| boot_s + since_boot as f64 / ticks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_that_of_a_living_process() {
        let usage = usage();
        assert!(usage.resident_bytes.unwrap() > 100_000);
        assert!(usage.open_files.unwrap() >= 3);
        assert!(usage.cpu_seconds.unwrap() < 100_000.0);
        assert!(usage.started_s.unwrap() > 1.6e9);
    }

    #[test]
    fn the_soft_limit_is_the_hard_one_afterwards() {
        let limit = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
        assert_eq!(raise_open_files(), limit);
        assert!(cpus() >= 1);
    }
}
