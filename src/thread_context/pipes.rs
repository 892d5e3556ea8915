//! Pipe pool for splice: the pipes of one data thread, lent to whoever moves bulk at this moment.
//!
//! A direction keeps a pipe only while bytes are in it; an empty one goes back at the end of the step, so a handful
//! serves any number of sessions. The kernel lets an unprivileged user have 64 MiB of pipe pages by default, after which
//! new pipes shrink to 8 KiB: the pool stays below its share, large pipes first, and then lends none. Who gets none copies.

use crate::sys::pipe::Pipe;

/// Empty pipes, and how many more may be made.
#[derive(Debug)]
pub struct PipePool {
    empty: Vec<Pipe>,
    budget_bytes: u64,
    /// Takes that are still answered without asking the kernel, because it refused.
    refused_takes: u32,
}

impl PipePool {
    /// A pool that never holds more than `budget_bytes` of pipe pages.
    pub fn new(budget_bytes: u64) -> Self {
        Self { empty: Vec::new(), budget_bytes, refused_takes: 0 }
    }

    /// An empty pipe, while there are any.
    pub fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.empty.pop() {
            return Some(pipe);
        }
        if self.refused_takes > 0 {
            self.refused_takes -= 1;
            return None;
        }
        let mut asked = false;
        for size in SIZES_BYTES {
            // Large pipes leave a quarter of the budget to smaller ones: the last sessions to come get a little too.
            let wanted = if size == SIZES_BYTES[0] { size as u64 * 4 / 3 } else { size as u64 };
            if wanted > self.budget_bytes {
                continue;
            }
            asked = true;
            if let Ok(pipe) = Pipe::new(size) {
                self.budget_bytes = self.budget_bytes.saturating_sub(pipe.size_bytes() as u64);
                return Some(pipe);
            }
        }
        if asked {
            // Other programs of this user hold the pages: asking costs twelve calls, copying one more.
            self.refused_takes = REFUSED_TAKES;
        }
        None
    }

    /// Takes a pipe back. One that still holds bytes of an ended session is closed: they must not reach anyone else.
    pub fn give_back(&mut self, pipe: Pipe) {
        if pipe.held_bytes() == 0 && self.empty.len() < EMPTY_MAX {
            self.empty.push(pipe);
        } else {
            self.budget_bytes += pipe.size_bytes() as u64;
        }
    }
}

/// From the size that moves bulk best to the smallest that is still better than copying.
const SIZES_BYTES: [usize; 3] = [1 << 20, 256 << 10, 64 << 10];
/// Empty pipes kept open for the next bulk; two descriptors each.
const EMPTY_MAX: usize = 16;
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
}
