//! Rules of a pool's roles: when a replica lags (hysteresis), and who is believed in a split brain.

/// The settings of a pool that decide here. `None` is `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A replica so far behind leaves, and returns below half of it.
    pub max_lag_ms: Option<u64>,
    /// Likewise.
    pub max_lag_bytes: Option<u64>,
    /// Two primaries, and neither is provably the later.
    pub contested: Contested,
    /// A primary is believed only while more than half of the pool answers.
    pub majority: bool,
    /// Of many that take writes at once.
    pub writers: Writers,
    /// Good answers in a row until a replica that lagged returns.
    pub rise: u8,
}

/// Who of many that take writes is the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// One, until it is none any more: the first of the list then.
    One,
    /// All of them.
    All,
}

/// What holds while more than one says it is the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contested {
    /// Nobody is believed.
    Refuse,
    /// The one believed before.
    Keep,
}
