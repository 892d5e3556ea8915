//! Session limits: those that a new session has to pass, taken together or not at all.

use std::net::IpAddr;
use std::sync::Arc;

use super::{PerSource, Permits, RateLimit, Source, SourceRates};
use crate::reason::Reason;

/// What limits the sessions of one listener.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    process: Option<Arc<Permits>>,
    listener: Arc<Permits>,
    sources: Option<Arc<PerSource>>,
    rate: Option<Arc<RateLimit>>,
    source_rates: Option<Arc<SourceRates>>,
}

/// What one session has taken. To be given back to the limits it is from, once.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    source: Option<Source>,
}

impl SessionLimits {
    /// Of a listener with this many sessions, whose sources are counted in `sources`. `process`: where the sessions of the
    /// process are counted, unless they are elsewhere.
    pub fn new(process: Option<Arc<Permits>>, listener: Option<u32>, sources: Option<PerSource>) -> Self {
        Self::sharing(process, Arc::new(Permits::new(listener)), sources.map(Arc::new))
    }

    /// The same, with sessions counted where others are counted too.
    pub fn sharing(
        process: Option<Arc<Permits>>,
        listener: Arc<Permits>,
        sources: Option<Arc<PerSource>>,
    ) -> Self {
        Self { process, listener, sources, rate: None, source_rates: None }
    }

    /// Where the sessions of the listener are counted, for limits that take over.
    pub fn shared_listener(&self) -> Arc<Permits> {
        Arc::clone(&self.listener)
    }

    /// Where the sessions of each source are counted, for limits that take over.
    pub fn shared_sources(&self) -> Option<Arc<PerSource>> {
        self.sources.clone()
    }

    /// How many may begin, for limits that take over.
    pub fn shared_rate(&self) -> Option<Arc<RateLimit>> {
        self.rate.clone()
    }

    /// How many of each source may begin, for limits that take over.
    pub fn shared_source_rates(&self) -> Option<Arc<SourceRates>> {
        self.source_rates.clone()
    }

    /// With limits of how many may begin in a time.
    #[must_use]
    pub fn with_rates(self, rate: Option<Arc<RateLimit>>, source_rates: Option<Arc<SourceRates>>) -> Self {
        Self { rate, source_rates, ..self }
    }

    /// Takes a place for a session of this source that begins now, or tells which limit is reached.
    pub fn take(&self, source: IpAddr, now_ns: u64) -> Result<Permit, Reason> {
        // From the narrowest to the widest: what is taken for a moment and given back because a wider limit is
        // reached can only turn away sessions that the wider one turns away as well.
        match &self.source_rates {
            Some(rates) => rates.take(source, now_ns, || self.take_permits(source, now_ns)),
            None => self.take_permits(source, now_ns),
        }
    }

    fn take_permits(&self, source: IpAddr, now_ns: u64) -> Result<Permit, Reason> {
        let source = match &self.sources {
            Some(sources) => Some(sources.take(source).ok_or(Reason::LimitSessionsPerSource)?),
            None => None,
        };
        let permit = Permit { source };
        self.take_wider(now_ns).inspect_err(|_| self.give_back_source(&permit))?;
        Ok(permit)
    }

    fn take_wider(&self, now_ns: u64) -> Result<(), Reason> {
        if self.rate.as_ref().is_some_and(|rate| !rate.try_take(now_ns)) {
            return Err(Reason::LimitRate);
        }
        let reached = if !self.listener.try_take() {
            Reason::LimitSessions
        } else if self.process.as_ref().is_some_and(|process| !process.try_take()) {
            self.listener.give_back();
            Reason::LimitProcess
        } else {
            return Ok(());
        };
        if let Some(rate) = &self.rate {
            rate.give_back();
        }
        Err(reached)
    }

    /// Which limit a session of this source would meet that begins now. Takes nothing.
    pub fn foresee(&self, source: IpAddr, now_ns: u64) -> Option<Reason> {
        if self.source_rates.as_ref().is_some_and(|rates| !rates.has_room(source, now_ns)) {
            Some(Reason::LimitRatePerSource)
        } else if self.sources.as_ref().is_some_and(|sources| sources.is_full_for(source)) {
            Some(Reason::LimitSessionsPerSource)
        } else if self.rate.as_ref().is_some_and(|rate| !rate.has_room(now_ns)) {
            Some(Reason::LimitRate)
        } else if self.listener.is_full() {
            Some(Reason::LimitSessions)
        } else {
            self.process.as_ref().is_some_and(|process| process.is_full()).then_some(Reason::LimitProcess)
        }
    }

    /// The place of a session that was there before this process: counted, whatever the limits.
    pub fn import(&self, source: IpAddr) -> Permit {
        if let Some(process) = &self.process {
            process.import();
        }
        self.listener.import();
        Permit { source: self.sources.as_ref().and_then(|sources| sources.import(source)) }
    }

    /// Gives back what a session had.
    // Taken by value: a place cannot be given back twice.
    #[allow(clippy::needless_pass_by_value)]
    pub fn give_back(&self, permit: Permit) {
        if let Some(process) = &self.process {
            process.give_back();
        }
        self.listener.give_back();
        self.give_back_source(&permit);
    }

    /// Sessions of the listener.
    pub fn listener(&self) -> &Permits {
        &self.listener
    }

    /// Sessions of each source, where they are counted.
    pub fn sources(&self) -> Option<&PerSource> {
        self.sources.as_deref()
    }

    fn give_back_source(&self, permit: &Permit) {
        if let (Some(sources), Some(source)) = (&self.sources, permit.source) {
            sources.give_back(source);
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn source(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn the_limit_that_is_reached_is_named_and_nothing_is_kept() {
        let process = Arc::new(Permits::new(Some(4)));
        let sources = || Some(PerSource::new([7; 16], Some(2), 64));
        let first = SessionLimits::new(Some(Arc::clone(&process)), Some(3), sources());
        let second = SessionLimits::new(Some(Arc::clone(&process)), None, sources());
        let mut permits: Vec<Permit> = (0..2).map(|_| first.take(source(1), 0).unwrap()).collect();
        assert_eq!(first.take(source(1), 0).unwrap_err(), Reason::LimitSessionsPerSource);
        permits.push(first.take(source(2), 0).unwrap());
        assert_eq!(first.take(source(2), 0).unwrap_err(), Reason::LimitSessions);
        let other = second.take(source(9), 0).unwrap();
        assert_eq!(second.take(source(8), 0).unwrap_err(), Reason::LimitProcess);
        assert_eq!((process.taken(), first.listener().taken(), second.listener().taken()), (4, 3, 1));
        second.give_back(other);
        permits.into_iter().for_each(|permit| first.give_back(permit));
        assert_eq!((process.taken(), first.listener().taken(), second.listener().taken()), (0, 0, 0));
        assert_eq!(first.sources().unwrap().taken(), 0);
        assert_eq!(second.sources().unwrap().taken(), 0);
    }

    #[test]
    fn what_is_foreseen_is_what_comes() {
        let process = Arc::new(Permits::new(Some(4)));
        let sources = Some(PerSource::new([7; 16], Some(2), 64));
        let rates = Some(Arc::new(SourceRates::new([1; 16], 500_000_000, 64)));
        let limits = SessionLimits::new(Some(process), Some(3), sources)
            .with_rates(Some(Arc::new(RateLimit::new(100_000_000))), rates);
        let mut met = std::collections::BTreeSet::new();
        let mut permits = Vec::new();
        for turn in 0..60_u64 {
            let (source, now_ns) = (source((turn % 5) as u8), turn * 20_000_000);
            let foreseen = limits.foresee(source, now_ns);
            assert_eq!(limits.foresee(source, now_ns), foreseen, "looking takes nothing");
            let taken = limits.take(source, now_ns);
            assert_eq!(taken.as_ref().err().copied(), foreseen, "{turn}");
            met.extend(foreseen.map(Reason::word));
            permits.extend(taken);
            if turn % 10 < 6 && !permits.is_empty() {
                limits.give_back(permits.remove(0));
            }
        }
        assert!(met.len() >= 2, "{met:?}");
        permits.into_iter().for_each(|permit| limits.give_back(permit));
    }

    #[test]
    fn workers_that_take_at_once_never_pass_a_limit_and_never_waste_it() {
        let process = Arc::new(Permits::new(Some(90)));
        let limits = SessionLimits::new(Some(process), Some(64), Some(PerSource::new([3; 16], Some(10), 64)));
        let attempt = |worker: u8| {
            let ask = |turn: u32| limits.take(source((turn % 5) as u8 + worker % 2), 0).ok();
            (0..2_500).filter_map(ask).collect::<Vec<_>>()
        };
        let permits: Vec<Permit> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|worker| scope.spawn(move || attempt(worker))).collect();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        // Six sources of ten each: below the listener's 64.
        assert_eq!((permits.len(), limits.listener().taken()), (60, 60));
        permits.into_iter().for_each(|permit| limits.give_back(permit));
        assert_eq!(limits.sources().unwrap().taken(), 0);
    }
}
