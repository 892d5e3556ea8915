//! Connection limits and rate limits: how many sessions there may be, and how many may begin in a time: of the process,
//! of a listener, of one source.
//!
//! Shared by all workers: atomics, and a lock only where a source that has no session yet takes its first. Pure: no
//! clock, no randomness of its own (the hash key is an argument). What must stay true: no limit is ever exceeded,
//! however many threads take at once; what was taken is given back exactly once; nothing here grows.

mod permits;
mod rates;
mod session_limits;
mod sources;

pub use permits::Permits;
pub use rates::{RateLimit, SourceRates};
pub use session_limits::{Permit, SessionLimits};
pub use sources::{PerSource, Source};

/// The defaults of a UDP listener when the process may have this many flows: what the listener may have, and what one
/// source may have of it.
pub fn udp_defaults(process_sessions: u32) -> (u32, u32) {
    let listener = (process_sessions / 4).max(1);
    (listener, (listener / 16).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_gets_a_quarter_and_a_source_a_sixteenth_of_it() {
        assert_eq!(udp_defaults(64_000), (16_000, 1_000));
        assert_eq!(udp_defaults(3), (1, 1));
    }
}
