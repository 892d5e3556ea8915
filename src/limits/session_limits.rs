//! The limits a new session has to pass, taken together or not at all.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Places, RateLimit, Source, SourcePlaces, SourceRates};
use crate::reason::Reason;

/// What limits the sessions of one listener.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    process: Option<Arc<Places>>,
    listener: Arc<Places>,
    sources: Option<Arc<SourcePlaces>>,
    rate: Option<Arc<RateLimit>>,
    source_rates: Option<Arc<SourceRates>>,
}

/// What one session has taken. To be given back to the limits it is from, once.
#[derive(Debug)]
#[must_use]
pub struct Place {
    source: Option<Source>,
}

impl SessionLimits {
    /// Of a listener with this many sessions, whose sources are counted in `sources`. `process`: where the sessions of the
    /// process are counted, unless they are elsewhere.
    pub fn new(process: Option<Arc<Places>>, listener: Option<u32>, sources: Option<SourcePlaces>) -> Self {
        Self::sharing(process, Arc::new(Places::new(listener)), sources.map(Arc::new))
    }

    /// The same, with sessions counted where others are counted too.
    pub fn sharing(
        process: Option<Arc<Places>>,
        listener: Arc<Places>,
        sources: Option<Arc<SourcePlaces>>,
    ) -> Self {
        Self { process, listener, sources, rate: None, source_rates: None }
    }

    /// Where the sessions of the listener are counted, for limits that take over.
    pub fn shared_listener(&self) -> Arc<Places> {
        Arc::clone(&self.listener)
    }

    /// Where the sessions of each source are counted, for limits that take over.
    pub fn shared_sources(&self) -> Option<Arc<SourcePlaces>> {
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
    pub fn take(&self, source: IpAddr, now_ns: u64) -> Result<Place, Reason> {
        // From the narrowest to the widest: what is taken for a moment and given back because a wider limit is
        // reached can only turn away sessions that the wider one turns away as well.
        match &self.source_rates {
            Some(rates) => rates.take(source, now_ns, || self.take_places(source, now_ns)),
            None => self.take_places(source, now_ns),
        }
    }

    fn take_places(&self, source: IpAddr, now_ns: u64) -> Result<Place, Reason> {
        let source = match &self.sources {
            Some(sources) => Some(sources.take(source).ok_or(Reason::LimitSessionsPerSource)?),
            None => None,
        };
        let place = Place { source };
        self.take_wider(now_ns).inspect_err(|_| self.give_back_source(&place))?;
        Ok(place)
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

    /// The place of a session that was there before this process: counted, whatever the limits.
    pub fn import(&self, source: IpAddr) -> Place {
        if let Some(process) = &self.process {
            process.import();
        }
        self.listener.import();
        Place { source: self.sources.as_ref().and_then(|sources| sources.import(source)) }
    }

    /// Gives back what a session had.
    // Taken by value: a place cannot be given back twice.
    #[allow(clippy::needless_pass_by_value)]
    pub fn give_back(&self, place: Place) {
        if let Some(process) = &self.process {
            process.give_back();
        }
        self.listener.give_back();
        self.give_back_source(&place);
    }

    /// Sessions of the listener.
    pub fn listener(&self) -> &Places {
        &self.listener
    }

    /// Sessions of each source, where they are counted.
    pub fn sources(&self) -> Option<&SourcePlaces> {
        self.sources.as_deref()
    }

    fn give_back_source(&self, place: &Place) {
        if let (Some(sources), Some(source)) = (&self.sources, place.source) {
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
        let process = Arc::new(Places::new(Some(4)));
        let sources = || Some(SourcePlaces::new([7; 16], Some(2), 64));
        let first = SessionLimits::new(Some(Arc::clone(&process)), Some(3), sources());
        let second = SessionLimits::new(Some(Arc::clone(&process)), None, sources());
        let mut places: Vec<Place> = (0..2).map(|_| first.take(source(1), 0).unwrap()).collect();
        assert_eq!(first.take(source(1), 0).unwrap_err(), Reason::LimitSessionsPerSource);
        places.push(first.take(source(2), 0).unwrap());
        assert_eq!(first.take(source(2), 0).unwrap_err(), Reason::LimitSessions);
        let other = second.take(source(9), 0).unwrap();
        assert_eq!(second.take(source(8), 0).unwrap_err(), Reason::LimitProcess);
        assert_eq!((process.taken(), first.listener().taken(), second.listener().taken()), (4, 3, 1));
        second.give_back(other);
        places.into_iter().for_each(|place| first.give_back(place));
        assert_eq!((process.taken(), first.listener().taken(), second.listener().taken()), (0, 0, 0));
        assert_eq!(first.sources().unwrap().taken(), 0);
        assert_eq!(second.sources().unwrap().taken(), 0);
    }

    #[test]
    fn workers_that_take_at_once_never_pass_a_limit_and_never_waste_it() {
        let process = Arc::new(Places::new(Some(90)));
        let limits =
            SessionLimits::new(Some(process), Some(64), Some(SourcePlaces::new([3; 16], Some(10), 64)));
        let attempt = |worker: u8| {
            let ask = |turn: u32| limits.take(source((turn % 5) as u8 + worker % 2), 0).ok();
            (0..2_500).filter_map(ask).collect::<Vec<_>>()
        };
        let places: Vec<Place> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|worker| scope.spawn(move || attempt(worker))).collect();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        // Six sources of ten each: below the listener's 64.
        assert_eq!((places.len(), limits.listener().taken()), (60, 60));
        places.into_iter().for_each(|place| limits.give_back(place));
        assert_eq!(limits.sources().unwrap().taken(), 0);
    }
}
