//! Rates over a handover: what sources and listeners owe goes along, so that nobody gets a second's worth for each restart.
//!
//! They are told while everything goes on: what begins between that and the handover itself is not counted by the next process.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::{RateLimit, SessionLimits, SourceRates};
use crate::manifest::{Rates, RatesOfSources};

/// What the rates of the process before owe, by the name of the listener.
#[derive(Debug, Default)]
pub(super) struct RatesBefore {
    by_listener: HashMap<String, Rates>,
    now_ns: u64,
}

/// What these limits are owed; `None`: nothing.
pub(super) fn told(limits: &SessionLimits, now_ns: u64) -> Option<Rates> {
    let whole = limits.shared_rate().filter(|rate| rate.full_ns() > now_ns);
    let whole = whole.map(|rate| (rate.interval_ns(), rate.full_ns()));
    let of_sources = limits.shared_source_rates().map(|rates| {
        let (high, low) = halves(rates.hash_key());
        let owing = rates.owing(now_ns, OWING_MAX);
        RatesOfSources { interval_ns: rates.interval_ns(), key: (high, low), owing }
    });
    let of_sources = of_sources.filter(|rates| !rates.owing.is_empty());
    (whole.is_some() || of_sources.is_some()).then_some(Rates { whole, of_sources })
}

impl RatesBefore {
    /// These, as they were told.
    pub(super) fn new(told: impl Iterator<Item = (String, Rates)>, now_ns: u64) -> Self {
        Self { by_listener: told.collect(), now_ns }
    }

    /// The rate of a listener, if it had the same one; what it owes is taken over once.
    pub(super) fn take_whole(&mut self, listener: &str, interval_ns: u64) -> Option<Arc<RateLimit>> {
        let whole = &mut self.by_listener.get_mut(listener)?.whole;
        let (_, full_ns) = whole.take().filter(|(interval, _)| *interval == interval_ns)?;
        Some(Arc::new(RateLimit::going_on(interval_ns, full_ns, self.now_ns)))
    }

    /// The rates of its sources, likewise, in a table for so many.
    pub(super) fn take_of_sources(
        &mut self,
        listener: &str,
        interval_ns: u64,
        sources: usize,
    ) -> Option<Arc<SourceRates>> {
        let of_sources = &mut self.by_listener.get_mut(listener)?.of_sources;
        let before = of_sources.take().filter(|before| before.interval_ns == interval_ns)?;
        let rates = SourceRates::new(whole_key(before.key), interval_ns, sources);
        rates.go_on(&before.owing, self.now_ns);
        Some(Arc::new(rates))
    }
}

fn halves(key: [u8; 16]) -> (u64, u64) {
    let whole = u128::from_le_bytes(key);
    // Each half by itself.
    #[allow(clippy::cast_possible_truncation)]
    ((whole >> 64) as u64, whole as u64)
}

fn whole_key((high, low): (u64, u64)) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

/// Sources of one listener that are told of, those that owe most: 320 KiB.
const OWING_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_whole() {
        let key = std::array::from_fn(|at| u8::try_from(at).unwrap() * 17);
        assert_eq!(whole_key(halves(key)), key);
    }

    #[test]
    fn what_is_owed_is_taken_over_once_and_only_by_the_same_rate() {
        let key = [9; 16];
        let rates = || Rates {
            whole: Some((1_000_000_000, 6_000_000_000)),
            of_sources: Some(RatesOfSources {
                interval_ns: 500_000_000,
                key: halves(key),
                owing: vec![(1, 6_000_000_000)],
            }),
        };
        let names = ["door", "other"].map(|name| (name.to_owned(), rates()));
        let mut before = RatesBefore::new(names.into_iter(), 5_000_000_000);
        assert!(before.take_whole("none", 1_000_000_000).is_none());
        assert!(before.take_whole("other", 7).is_none() && before.take_of_sources("other", 7, 64).is_none());
        let whole = before.take_whole("door", 1_000_000_000).unwrap();
        assert!(!whole.try_take(5_000_000_000) && whole.try_take(6_000_000_000));
        let sources = before.take_of_sources("door", 500_000_000, 64).unwrap();
        assert_eq!((sources.hash_key(), sources.owing(5_000_000_000, 9).len()), (key, 1));
        assert!(before.take_whole("door", 1_000_000_000).is_none(), "once");
    }
}
