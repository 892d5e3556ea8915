//! The limits a new session has to pass, taken together or not at all.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Places, Source, SourcePlaces};
use crate::reason::Reason;

/// What limits the sessions of one listener.
#[derive(Debug)]
pub struct SessionLimits {
    process: Arc<Places>,
    listener: Places,
    sources: Option<SourcePlaces>,
}

/// What one session has taken. To be given back to the limits it is from, once.
#[derive(Debug)]
#[must_use]
pub struct Place {
    source: Option<Source>,
}

impl SessionLimits {
    /// Of a listener with this many sessions, whose sources are counted in `sources`, in a process with such places.
    pub fn new(process: Arc<Places>, listener: Option<u32>, sources: Option<SourcePlaces>) -> Self {
        Self { process, listener: Places::new(listener), sources }
    }

    /// Takes a place for a session of this source, or tells which limit is reached.
    pub fn take(&self, source: IpAddr) -> Result<Place, Reason> {
        // From the narrowest to the widest: what is taken for a moment and given back because a wider limit is
        // reached can only turn away sessions that the wider one turns away as well.
        let source = match &self.sources {
            Some(sources) => Some(sources.take(source).ok_or(Reason::LimitSessionsPerSource)?),
            None => None,
        };
        let place = Place { source };
        if !self.listener.try_take() {
            self.give_back_source(&place);
            return Err(Reason::LimitSessions);
        }
        if !self.process.try_take() {
            self.listener.give_back();
            self.give_back_source(&place);
            return Err(Reason::LimitProcess);
        }
        Ok(place)
    }

    /// Gives back what a session had.
    // Taken by value: a place cannot be given back twice.
    #[allow(clippy::needless_pass_by_value)]
    pub fn give_back(&self, place: Place) {
        self.process.give_back();
        self.listener.give_back();
        self.give_back_source(&place);
    }

    /// Sessions of the whole process.
    pub fn process(&self) -> &Places {
        &self.process
    }

    /// Sessions of the listener.
    pub fn listener(&self) -> &Places {
        &self.listener
    }

    /// Sessions of each source, where they are counted.
    pub fn sources(&self) -> Option<&SourcePlaces> {
        self.sources.as_ref()
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
        let first = SessionLimits::new(Arc::clone(&process), Some(3), sources());
        let second = SessionLimits::new(Arc::clone(&process), None, sources());
        let mut places: Vec<Place> = (0..2).map(|_| first.take(source(1)).unwrap()).collect();
        assert_eq!(first.take(source(1)).unwrap_err(), Reason::LimitSessionsPerSource);
        places.push(first.take(source(2)).unwrap());
        assert_eq!(first.take(source(2)).unwrap_err(), Reason::LimitSessions);
        let other = second.take(source(9)).unwrap();
        assert_eq!(second.take(source(8)).unwrap_err(), Reason::LimitProcess);
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
        let limits = SessionLimits::new(process, Some(64), Some(SourcePlaces::new([3; 16], Some(10), 64)));
        let attempt = |worker: u8| {
            let ask = |turn: u32| limits.take(source((turn % 5) as u8 + worker % 2)).ok();
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
