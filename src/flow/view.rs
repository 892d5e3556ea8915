//! Flow records for others: what the table says of a flow.

use super::{FlowId, FlowKey};
use crate::reason::Reason;

/// Datagrams and their bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Whole datagrams.
    pub datagrams: u64,
    /// Their payload.
    pub bytes: u64,
}

/// A flow as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Its client, and where that came in.
    pub key: FlowKey,
    /// When it was admitted.
    pub began_ms: u64,
    /// When the client sent last.
    pub client_ms: u64,
    /// When the backend sent last; `began_ms` until it does.
    pub backend_ms: u64,
    /// What the client sent.
    pub to_backend: Traffic,
    /// What the backend sent.
    pub to_client: Traffic,
    /// How often its backend went down and it got another one.
    pub rehomed: u32,
}

/// What the table knows of a flow besides, for the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRecord {
    /// As it stands.
    pub flow: Flow,
    /// Replies that are still to come.
    pub owed: u32,
    /// Datagrams of the client since the last pick.
    pub since_pick: u32,
    /// When its life is over; `u64::MAX`: never.
    pub lifetime_end_ms: u64,
}

/// A flow that is over: the caller closes its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which; it names nobody any more.
    pub id: FlowId,
    /// Why.
    pub reason: Reason,
    /// How it stood at its end.
    pub flow: Flow,
}

impl Traffic {
    pub(super) fn add(&mut self, datagrams: u32, bytes: u64) {
        self.datagrams += u64::from(datagrams);
        self.bytes += bytes;
    }
}
