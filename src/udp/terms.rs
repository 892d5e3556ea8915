//! What a flow is born with.

use std::sync::Arc;

use crate::config::settings::LogSessions;
use crate::flow;
use crate::metrics::ListenerCounters;
use crate::pool::PoolSlot;
use crate::reason::Reason;

/// Shared by all flows of one listener.
#[derive(Debug)]
pub struct Terms {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Where its pool stands in the snapshot.
    pub pool: PoolSlot,
    /// What the table needs to know.
    pub flow: Arc<flow::Terms>,
    /// Which ends have a line in the log.
    pub log_sessions: LogSessions,
    /// Where it is counted.
    pub counters: Arc<ListenerCounters>,
}

impl Terms {
    /// Does an end for this reason have a line?
    pub(super) fn logs(&self, reason: Reason) -> bool {
        match self.log_sessions {
            LogSessions::All => true,
            LogSessions::Failed => !reason.is_ordinary(),
            LogSessions::Off => false,
        }
    }
}
