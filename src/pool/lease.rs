//! Lease of a backend: taking one, and giving it back: the permit in its session count is held exactly as long as the
//! [`Lease`] lives.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::{Backend, Departure, PoolView};
use crate::balance::{Ask, Pick};
use crate::config::settings::Role;
use crate::sticky::Source;

/// A place at a backend and in its pool. Dropping it gives the place back, to the longest waiter if somebody waits.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
    /// How often the backend had gone down by the snapshot that it was picked from.
    falls: u32,
    /// How often it had lost each role by it.
    losses: [u32; Role::COUNT],
    /// Since when an answer is owed to the session, in microseconds of the shared clock; 0: none is.
    owed_since_us: u64,
    /// The second in which an answer was last measured, and the longest one of that second: one for each session and second is
    /// enough, and the slower ones behind it.
    measured: (u32, u32),
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// None is eligible.
    NoBackend,
    /// Each eligible one is full, the pool is, or others wait already.
    Full,
    /// Those that are not full were all tried by this session.
    AllTried,
}

impl Lease {
    /// Picks and takes a place, in one step as far as anyone else can see: `max_sessions` is never exceeded, and those
    /// that wait come first.
    pub fn take(view: &PoolView, role: Role, ask: &Ask<'_>) -> Result<Self, Refusal> {
        if view.live.line(role).waiting() > 0 {
            let none = view.eligible(role).is_empty();
            return Err(if none { Refusal::NoBackend } else { Refusal::Full });
        }
        let taken = Self::take_place(view, role, ask);
        if taken.is_err() && view.settings.max_sessions.is_some() {
            // The pool's place was held for a moment: somebody may have seen it taken and joined the line.
            view.live.hand_on();
        }
        taken
    }

    /// The same without regard to those that wait.
    pub(super) fn take_place(view: &PoolView, role: Role, ask: &Ask<'_>) -> Result<Self, Refusal> {
        let permits = &view.live.permits;
        if !permits.try_take() {
            let none = view.eligible(role).is_empty();
            return Err(if none { Refusal::NoBackend } else { Refusal::Full });
        }
        let taken = match view.settings.sticky {
            Some(sticky) => Self::take_sticky(view, role, ask, &sticky),
            None => Self::take_backend(view, role, ask),
        };
        if taken.is_err() {
            permits.give_back();
        }
        taken
    }

    /// At the backend that this source had last, if that can take it.
    fn take_sticky(
        view: &PoolView,
        role: Role,
        ask: &Ask<'_>,
        sticky: &crate::config::settings::Sticky,
    ) -> Result<Self, Refusal> {
        let (source, now_ms) = (Source::from(ask.client.ip()), ask.now_ns / 1_000_000);
        let index = view.live.recall(source, role, sticky, now_ms, |name| view.eligible_index(name, role));
        if let Some(index) = index
            && let Some(backend) = view.backends.get(index as usize)
            && !ask.tried.contains(&index)
        {
            if backend.load.try_take() {
                view.live.remember(source, role, &backend.name, sticky, now_ms);
                return Ok(Self::at(view, backend, index));
            }
            // Only full: this session goes elsewhere, and the source comes back when there is room.
            return Self::take_backend(view, role, ask);
        }
        let taken = Self::take_backend(view, role, ask)?;
        view.live.remember(source, role, &taken.backend.name, sticky, now_ms);
        Ok(taken)
    }

    fn take_backend(view: &PoolView, role: Role, ask: &Ask<'_>) -> Result<Self, Refusal> {
        let Some(picker) = view.picker_for(role) else { return Err(Refusal::NoBackend) };
        // A pick that lost the last place to another worker asks again; the loser of as many races as there are
        // backends has seen each of them full.
        for _ in 0..=view.backends.len() {
            match picker.pick(ask) {
                Pick::Member(index) => {
                    let Some(backend) = view.backends.get(index as usize) else {
                        return Err(Refusal::NoBackend);
                    };
                    if backend.load.try_take() {
                        return Ok(Self::at(view, backend, index));
                    }
                }
                Pick::Full => return Err(Refusal::Full),
                Pick::Tried => return Err(Refusal::AllTried),
                Pick::NoneEligible => return Err(Refusal::NoBackend),
            }
        }
        Err(Refusal::Full)
    }

    /// The place that was taken at the backend of this index.
    fn at(view: &PoolView, backend: &Arc<Backend>, index: u32) -> Self {
        // Each backend of the view has its number there.
        let falls = view.falls.get(index as usize).copied().unwrap_or(0);
        let losses = view.losses.get(index as usize).copied().unwrap_or_default();
        let (backend, owed_since_us, measured) = (Arc::clone(backend), 0, (0, 0));
        Self { backend, falls, losses, owed_since_us, measured }
    }

    /// The place of a session that was there before this process: held, whatever the limits.
    pub fn import(backend: Arc<Backend>) -> Self {
        backend.pool.permits.import();
        backend.load.import();
        // A process begins to count when it begins.
        Self { backend, falls: 0, losses: [0; Role::COUNT], owed_since_us: 0, measured: (0, 0) }
    }

    /// The client spoke: an answer is owed since then, unless one was before.
    pub fn ask(&mut self, since_us: u64) {
        if self.owed_since_us == 0 && since_us != 0 {
            self.owed_since_us = since_us;
            self.backend.load.ask(since_us);
        }
    }

    /// The backend spoke: nothing is owed any more.
    pub fn answer(&mut self, now_us: u64) {
        if self.owed_since_us == 0 {
            return;
        }
        let since_us = std::mem::take(&mut self.owed_since_us);
        self.backend.load.settle(since_us);
        let took_us = now_us.saturating_sub(since_us);
        let second = u32::try_from(now_us / 1_000_000).unwrap_or(u32::MAX);
        let took = u32::try_from(took_us).unwrap_or(u32::MAX);
        if second != self.measured.0 || took > self.measured.1 {
            self.measured = (second, took);
            self.backend.load.note_answered(now_us);
            self.backend.load.observe_answer(now_us.saturating_mul(1_000), took_us.saturating_mul(1_000));
        }
    }

    /// Nobody waits for the answer any more, if one was owed: so long it was waited for in vain.
    pub fn give_up(&mut self, now_us: u64) {
        if self.owed_since_us != 0 {
            let since_us = std::mem::take(&mut self.owed_since_us);
            self.backend.load.settle(since_us);
            let waited_us = now_us.saturating_sub(since_us);
            self.backend.load.observe_wait(now_us.saturating_mul(1_000), waited_us.saturating_mul(1_000));
        }
    }

    /// Since when an answer is owed; 0: none is.
    pub fn owed_since_us(&self) -> u64 {
        self.owed_since_us
    }

    /// The backend went down since the place was taken. It may be up again.
    pub fn fell(&self) -> bool {
        self.backend.falls() != self.falls
    }

    /// The backend left the list, and those who have a place there end.
    pub fn is_withdrawn(&self) -> bool {
        self.backend.departure() == Departure::Closes
    }

    /// The backend lost this role since the place was taken. It may have it again.
    pub fn lost(&self, role: Role) -> bool {
        self.backend.losses()[role.index()] != self.losses[role.index()]
    }

    /// Where the place is.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.owed_since_us != 0 {
            self.backend.load.settle(self.owed_since_us);
        }
        self.backend.load.give_back();
        self.backend.pool.permits.give_back();
        // Given first, looked for waiters then; a waiter joins first and looks for places then. One of the two sees the
        // other: see `LivePool::wait`.
        fence(Ordering::SeqCst);
        self.backend.pool.hand_on();
    }
}
