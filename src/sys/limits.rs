//! What the system lets this process have: open files, pipe pages, CPUs.

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

/// CPUs this process may use; at least 1.
pub fn cpus() -> u16 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cpus).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_hard_one_afterwards() {
        let limit = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
        assert_eq!(raise_open_files(), limit);
        assert!(cpus() >= 1);
    }
}
