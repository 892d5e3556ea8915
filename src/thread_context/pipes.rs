//! Pipe pool for splice: the pipes of one data thread, lent to whoever moves bulk at this moment.
//!
//! A direction keeps a pipe only while bytes are in it; an empty one goes back at the end of the step, so a handful
//! serves any number of sessions. The kernel lets an unprivileged user have 64 MiB of pipe pages by default, after which
//! new pipes shrink to 8 KiB: the pool stays below its share, large pipes first, and then lends none. Who gets none copies.
//!
//! A receiver that stalls keeps the pipe that is to go to it. So that a few of them do not keep all there are, what is in
//! such a pipe is read back into memory when pipes are short (`tcp/stalled.rs`), for which the pool has a budget, too.

use crate::sys::pipe::Pipe;

/// Empty pipes, and how many more may be made.
#[derive(Debug)]
pub struct PipePool {
    empty: Vec<Pipe>,
    /// What may still be made. Below zero while pipes of the process before, which were many, are in use.
    budget_bytes: i64,
    /// Likewise, for the two descriptors of each.
    pipes_left: i64,
    /// Takes that are still answered without asking the kernel, because it refused.
    refused_takes: u32,
    /// Somebody asked in vain since this was last looked at.
    short: bool,
    /// What stalled pipes may still be read back into.
    memory_bytes: usize,
    /// What may still be kept of first messages.
    first_bytes: usize,
}

impl PipePool {
    /// A pool that never holds more than `budget_bytes` of pipe pages.
    pub fn new(budget_bytes: u64) -> Self {
        let memory_bytes = usize::try_from(budget_bytes / MEMORY_PART).unwrap_or(usize::MAX);
        let budget_bytes = i64::try_from(budget_bytes).unwrap_or(i64::MAX);
        let (pipes_left, first_bytes) = (i64::MAX, FIRST_BYTES_MAX);
        Self {
            empty: Vec::new(),
            budget_bytes,
            pipes_left,
            refused_takes: 0,
            short: false,
            memory_bytes,
            first_bytes,
        }
    }

    /// The same, with no more than so many pipes at once: two descriptors each.
    #[must_use]
    pub fn with_pipes_max(self, pipes: u64) -> Self {
        Self { pipes_left: i64::try_from(pipes).unwrap_or(i64::MAX), ..self }
    }

    /// Counts a pipe that another process made and that came here with what is in it.
    pub fn import(&mut self, pipe: &Pipe) {
        self.budget_bytes -= in_budget(pipe);
        self.pipes_left -= 1;
    }

    /// Has anyone asked in vain since the last time?
    pub fn was_short(&mut self) -> bool {
        std::mem::take(&mut self.short)
    }

    /// Lends memory for what is in a stalled pipe. To be given back when it has gone.
    pub fn lend_memory(&mut self, bytes: usize) -> bool {
        let left = self.memory_bytes.checked_sub(bytes);
        self.memory_bytes = left.unwrap_or(self.memory_bytes);
        left.is_some()
    }

    /// Takes memory back.
    pub fn give_memory_back(&mut self, bytes: usize) {
        self.memory_bytes += bytes;
    }

    /// Lends memory for the first message of a client, which may have to be said again. To be given back when it was answered.
    pub fn lend_first(&mut self, bytes: usize) -> bool {
        let left = self.first_bytes.checked_sub(bytes);
        self.first_bytes = left.unwrap_or(self.first_bytes);
        left.is_some()
    }

    /// Takes that memory back.
    pub fn give_first_back(&mut self, bytes: usize) {
        self.first_bytes += bytes;
    }

    /// An empty pipe, while there are any.
    pub fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.empty.pop() {
            return Some(pipe);
        }
        if self.refused_takes > 0 {
            self.refused_takes -= 1;
            self.short = true;
            return None;
        }
        let mut asked = false;
        for size in SIZES_BYTES {
            // Large pipes leave a quarter of the budget to smaller ones: the last sessions to come get a little too.
            let wanted = if size == SIZES_BYTES[0] { size * 4 / 3 } else { size };
            let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
            if wanted > self.budget_bytes || self.pipes_left <= 0 {
                continue;
            }
            asked = true;
            if let Ok(pipe) = Pipe::new(size) {
                self.budget_bytes -= in_budget(&pipe);
                self.pipes_left -= 1;
                return Some(pipe);
            }
        }
        if asked {
            // Other programs of this user hold the pages: asking costs twelve calls, copying one more.
            self.refused_takes = REFUSED_TAKES;
        }
        self.short = true;
        None
    }

    /// Takes a pipe back. One that still holds bytes of an ended session is closed: they must not reach anyone else.
    pub fn give_back(&mut self, pipe: Pipe) {
        if pipe.held_bytes() == 0 && self.empty.len() < EMPTY_MAX {
            self.empty.push(pipe);
        } else {
            self.budget_bytes += in_budget(&pipe);
            self.pipes_left += 1;
        }
    }
}

fn in_budget(pipe: &Pipe) -> i64 {
    i64::try_from(pipe.size_bytes()).unwrap_or(i64::MAX)
}

/// From the size that moves bulk best to the smallest that is still better than copying.
const SIZES_BYTES: [usize; 3] = [1 << 20, 256 << 10, 64 << 10];
/// Empty pipes kept open for the next bulk; two descriptors each.
const EMPTY_MAX: usize = 16;
/// What one thread keeps of first messages (`connect.replay_first`): 512 of the longest.
const FIRST_BYTES_MAX: usize = 8 << 20;
/// What is read back may be so small a part of the pipes' budget: 16 MiB of the usual 48.
const MEMORY_PART: u64 = 3;
/// 64 MiB copied until the kernel is asked again.
const REFUSED_TAKES: u32 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_never_passed_and_comes_back() {
        let budget = 3 << 20;
        let mut pool = PipePool::new(budget);
        let mut taken = Vec::new();
        while let Some(pipe) = pool.take() {
            taken.push(pipe);
            assert!(taken.len() < 1_000);
        }
        let total: usize = taken.iter().map(Pipe::size_bytes).sum();
        assert!(total as u64 <= budget && total as u64 > budget - (256 << 10), "{total}");
        assert!(taken.first().unwrap().size_bytes() > taken.last().unwrap().size_bytes());
        let count = taken.len();
        for pipe in taken {
            pool.give_back(pipe);
        }
        assert!((0..count).all(|_| pool.take().is_some()));
    }

    #[test]
    fn pipes_of_the_process_before_are_in_the_budget_and_go_back_to_it() {
        let mut pool = PipePool::new(1 << 20);
        let foreign: Vec<Pipe> = (0..3).map(|_| Pipe::new(1 << 20).unwrap()).collect();
        foreign.iter().for_each(|pipe| pool.import(pipe));
        assert!(pool.take().is_none() && pool.was_short() && !pool.was_short());
        // Closed with what was in them.
        foreign.into_iter().for_each(|pipe| {
            let (end, mut pipe) = (std::io::pipe().unwrap(), pipe);
            std::io::Write::write_all(&mut &end.1, b"x").unwrap();
            pipe.fill(std::os::fd::AsFd::as_fd(&end.0), 1).unwrap();
            pool.give_back(pipe);
        });
        assert_eq!(pool.budget_bytes, 1 << 20);
        assert!(pool.take().is_some());
    }

    #[test]
    fn there_are_no_more_pipes_than_descriptors_for_them() {
        let mut pool = PipePool::new(1 << 30).with_pipes_max(2);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none() && pool.was_short());
        pool.give_back(first);
        let again = pool.take().unwrap();
        assert!(pool.take().is_none(), "an empty one that is kept is one of them");
        drop((second, again));
    }
}
