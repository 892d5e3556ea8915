//! Walks over the session table, each turn a slice: who is to end with its backend, who is cut, whom an operator looks for.

use super::session::Next;
use super::{Sessions, ThreadContext};
use crate::reason::Reason;
use crate::session_query::SessionRow;
use crate::thread_context::{Slice, Sought, Walk};

impl Sessions {
    /// Permits of the table, for a walk over it.
    pub fn places(&self) -> usize {
        self.slots.capacity()
    }

    /// Goes on with a walk after some backends went down: their sessions end where `on_down` is `close`, each at its own
    /// moment within a second, so that not all clients return at once.
    pub fn close_fallen(&mut self, walk: &mut Walk, slice: &mut Slice, cx: &mut ThreadContext) {
        while let Some(place) = walk.step(slice) {
            let Some(entry) = self.slots.get_mut(place).filter(|entry| entry.session.is_to_close()) else {
                continue;
            };
            entry.session.close_later(cx);
            self.follow(slot_of(place), Next::Wait, cx);
        }
    }

    /// Goes on with ending every session.
    pub fn cut(&mut self, reason: Reason, walk: &mut Walk, slice: &mut Slice, cx: &mut ThreadContext) {
        while let Some(place) = walk.step(slice) {
            if self.slots.contains(place) {
                slice.note_end();
                self.follow(slot_of(place), Next::End(reason), cx);
            }
        }
    }

    /// Goes on with looking: tells the sessions that fit, and ends them if they are to be closed.
    pub fn search(
        &mut self,
        sought: Sought<'_>,
        walk: &mut Walk,
        slice: &mut Slice,
        found: &mut dyn FnMut(&dyn Fn() -> SessionRow),
        cx: &mut ThreadContext,
    ) {
        while let Some(place) = walk.step(slice) {
            let fits = |session: &super::session::Session| {
                session.started_us <= sought.until_us && session.fits(sought.filter)
            };
            let Some(entry) = self.slots.get(place).filter(|entry| fits(&entry.session)) else {
                continue;
            };
            found(&|| entry.session.found(cx.now_us));
            if let Some(reason) = sought.close {
                slice.note_end();
                self.follow(slot_of(place), Next::End(reason), cx);
            }
        }
    }
}

/// The process holds fewer descriptors than 2^32: a place that does not fit cannot be.
fn slot_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "walks_tests.rs"]
pub(super) mod tests;
