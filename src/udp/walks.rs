//! Walks over the flow table, each turn a slice: whose backend went down, whose door was closed, who is cut, whom an
//! operator looks for.

use std::sync::Arc;

use super::pump::{Pump, Side};
use crate::flow::FlowId;
use crate::reason::Reason;
use crate::session_query::SessionRow;
use crate::thread_context::{Slice, Sought, ThreadContext, Walk};

impl Pump {
    /// Permits of the table, for a walk over it.
    pub fn places(&self) -> usize {
        self.sides.len()
    }

    /// Goes on with a walk after some backends went down: their flows end where `on_down` is `close`, and
    /// those of backends that left where `on_removed` says so.
    pub fn close_fallen(&mut self, walk: &mut Walk, slice: &mut Slice, cx: &mut ThreadContext) {
        self.end_each(walk, slice, |_, side| side.upstream.ends_for());
        self.close_ended(cx);
    }

    /// Goes on with ending the flows of doors that were closed. After the walk: [`Self::doors_are_left`].
    pub fn leave_doors(&mut self, walk: &mut Walk, slice: &mut Slice, cx: &mut ThreadContext) {
        let is_left = |pump: &Self, side: &Side| pump.doors.is_closed(side.door);
        self.end_each(walk, slice, |pump, side| is_left(pump, side).then_some(Reason::Drained));
        self.close_ended(cx);
    }

    /// No flow names a closed door any more.
    pub fn doors_are_left(&mut self) {
        self.doors.forget_closed();
    }

    /// Goes on with ending every flow.
    pub fn cut(&mut self, reason: Reason, walk: &mut Walk, slice: &mut Slice, cx: &mut ThreadContext) {
        self.end_each(walk, slice, |_, _| Some(reason));
        self.close_ended(cx);
    }

    /// Goes on with looking: tells the flows that fit, and ends them if they are to be closed.
    pub fn search(
        &mut self,
        sought: Sought<'_>,
        walk: &mut Walk,
        slice: &mut Slice,
        found: &mut dyn FnMut(&dyn Fn() -> SessionRow),
        cx: &mut ThreadContext,
    ) {
        while let Some(place) = walk.step(slice) {
            let Some(id) = self.sides[place].as_ref().and_then(|side| self.fits(side, sought, found, cx))
            else {
                continue;
            };
            if let Some(reason) = sought.close {
                slice.note_end();
                self.flows.end(id, reason);
            }
        }
        self.close_ended(cx);
    }

    /// Tells of a flow, if it fits.
    fn fits(
        &self,
        side: &Side,
        sought: Sought<'_>,
        found: &mut dyn FnMut(&dyn Fn() -> SessionRow),
        cx: &ThreadContext,
    ) -> Option<FlowId> {
        let backend = side.upstream.lease().backend();
        let at = (&*backend.pool.name, &*backend.name);
        if !sought.filter.fits(&side.terms.listener, side.origin().ip(), Some(at)) {
            return None;
        }
        if !sought.filter.fits_local(|| Some(side.local)) {
            return None;
        }
        let flow = self.flows.get(side.id).filter(|flow| flow.began_ms <= sought.until_us / 1_000)?;
        found(&|| SessionRow {
            proto: "udp",
            state: "open",
            listener: Arc::clone(&side.terms.listener),
            client: side.origin(),
            local: Some(side.local),
            name: None,
            backend: Some((Arc::clone(&backend.pool.name), Arc::clone(&backend.name))),
            age_ms: cx.now_ms().saturating_sub(flow.began_ms),
            to_backend: flow.to_backend.bytes,
            to_client: flow.to_client.bytes,
        });
        Some(side.id)
    }

    /// Ends flows for what `ends_for` says, if anything; burying them is the caller's.
    fn end_each(
        &mut self,
        walk: &mut Walk,
        slice: &mut Slice,
        ends_for: impl Fn(&Self, &Side) -> Option<Reason>,
    ) {
        while let Some(place) = walk.step(slice) {
            let side = self.sides.get(place).and_then(Option::as_ref);
            if let Some((id, reason)) = side.and_then(|side| Some((side.id, ends_for(self, side)?))) {
                slice.note_end();
                self.flows.end(id, reason);
            }
        }
    }
}

#[cfg(test)]
#[path = "walks_tests.rs"]
mod tests;
