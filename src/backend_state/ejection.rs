//! Outlier ejection (passive health): how long a backend that fails real traffic is left alone: doubled each time in a
//! row, forgiven after a quiet time.

use super::EjectedFor;

/// The ejections of one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ejection {
    pub(super) out: Option<Out>,
    /// Ejections that count as in a row.
    pub(super) in_a_row: u32,
    /// When the last one ended.
    pub(super) ended_ms: u64,
    /// Since when it has been quiet, while that still matters.
    pub(super) quiet_since_ms: Option<u64>,
    /// What the last one was for.
    pub(super) cause: EjectedFor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) began_ms: u64,
    pub(super) until_ms: u64,
}

impl Ejection {
    /// Since when it lasts, while it does.
    pub(super) fn since_ms(&self) -> Option<u64> {
        self.out.map(|out| out.began_ms)
    }

    /// Until when it lasts, while it does.
    pub(super) fn until_ms(&self) -> Option<u64> {
        self.out.map(|out| out.until_ms)
    }

    /// It is out, and was already when something began at `at_ms`.
    pub(super) fn began_before(&self, at_ms: u64) -> bool {
        self.out.is_some_and(|out| out.began_ms < at_ms)
    }

    /// Begins one; tells how long it lasts. `None`: one lasts already.
    pub(super) fn begin(&mut self, cause: EjectedFor, first_ms: u64, now_ms: u64) -> Option<u64> {
        if self.out.is_some() {
            return None;
        }
        let most_ms = first_ms.max(MOST_MS);
        let for_ms = first_ms.saturating_mul(1 << self.in_a_row.min(DOUBLINGS_MAX)).min(most_ms);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.cause = cause;
        self.out = Some(Out { began_ms: now_ms, until_ms: now_ms.saturating_add(for_ms) });
        self.quiet_since_ms = None;
        Some(for_ms)
    }

    /// Ends it.
    pub(super) fn end(&mut self, now_ms: u64) {
        self.out = None;
        self.ended_ms = now_ms;
        self.quiet_since_ms = Some(now_ms);
    }

    /// Forgets earlier ejections when none lasts and nothing has failed for `quiet_ms`.
    pub(super) fn forgive(&mut self, quiet_ms: u64, failed_ms: Option<u64>, now_ms: u64) {
        if self.out.is_some() || self.in_a_row == 0 {
            return;
        }
        let since_ms = failed_ms.unwrap_or(0).max(self.ended_ms);
        if now_ms >= since_ms.saturating_add(quiet_ms) {
            self.in_a_row = 0;
            self.quiet_since_ms = None;
        } else {
            self.quiet_since_ms = Some(since_ms);
        }
    }

    /// When something is due: its end, or the end of the quiet time. `quiet_ms` is the length of a first one.
    pub(super) fn next_wake_ms(&self, quiet_ms: Option<u64>) -> Option<u64> {
        match self.out {
            Some(out) => Some(out.until_ms),
            None => self
                .quiet_since_ms
                .zip(quiet_ms)
                .map(|(since_ms, quiet_ms)| since_ms.saturating_add(quiet_ms)),
        }
    }
}

/// However often in a row.
const MOST_MS: u64 = 300_000;
/// 2^24 of the shortest ejection is longer than the longest.
const DOUBLINGS_MAX: u32 = 24;
