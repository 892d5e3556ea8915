//! Cursor: whose turn it is, for all workers together.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Whose turn it is. Shared by a picker and its successors, and by all workers.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Cursor {
    /// Turns of `round_robin` given out so far.
    pub(super) turn: AtomicUsize,
    /// Where the next scan that gives equals their turns begins.
    pub(super) scan_from: AtomicU32,
}

impl Cursor {
    /// The next scan begins behind `place`. Two workers that scan at once may pick the same: no count is lost by it.
    pub(super) fn scan_behind(&self, place: usize) {
        // A place is below MEMBERS_MAX.
        #[allow(clippy::cast_possible_truncation)]
        self.scan_from.store(place as u32 + 1, Ordering::Relaxed);
    }
}
