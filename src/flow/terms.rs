//! Terms of a flow: what it is born with.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits::SessionLimits;

/// The settings of a listener that concern its flows. A flow keeps those it was born with.
#[derive(Debug)]
pub struct Terms {
    /// Ends when neither side sent anything for so long.
    pub idle_ms: Option<u64>,
    /// Ends when it is so old, give or take 10 %.
    pub lifetime_ms: Option<u64>,
    /// Replies expected to each datagram of the client.
    pub responses: Option<NonZeroU32>,
    /// Datagrams of the client until a new pick.
    pub requests: Option<NonZeroU32>,
    /// What the flows of the listener are counted against.
    pub limits: Arc<SessionLimits>,
    /// The listener takes nothing new.
    pub draining: Draining,
}

impl Terms {
    /// The terms of a listener that left: its flows go on, and none begins.
    pub fn last(&self) -> Self {
        let last = Self { limits: Arc::clone(&self.limits), draining: Draining::default(), ..*self };
        last.draining.begin();
        last
    }
}

/// A switch that only goes one way.
#[derive(Debug, Default)]
pub struct Draining(AtomicBool);

impl Draining {
    /// From now on nothing new.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Has it begun?
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
