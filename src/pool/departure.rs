//! Departure of a backend (connection draining, deregistration): what becomes of the sessions of one that left the list.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::settings::OnRemoved;

/// What becomes of those who have a place at a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Nothing: it is in the list.
    Stays,
    /// It left, and they stay until they end by themselves.
    Keeps,
    /// It left: each flow goes elsewhere with its next datagram, sessions stay.
    Rehomes,
    /// It left, and they end.
    Closes,
}

impl Departure {
    /// Of a backend that leaves a pool of this `on_removed`.
    pub fn by(on_removed: OnRemoved) -> Self {
        match on_removed {
            OnRemoved::Keep => Self::Keeps,
            // Of sessions nobody else could take the other end.
            OnRemoved::Auto | OnRemoved::Rehome => Self::Rehomes,
            OnRemoved::Close => Self::Closes,
        }
    }
}

/// The departure of one backend, which data threads look at: the publisher alone writes.
#[derive(Debug, Default)]
pub(super) struct DepartureCell(AtomicU8);

impl DepartureCell {
    pub(super) fn get(&self) -> Departure {
        match self.0.load(Ordering::Relaxed) {
            0 => Departure::Stays,
            1 => Departure::Keeps,
            2 => Departure::Rehomes,
            _ => Departure::Closes,
        }
    }

    pub(super) fn set(&self, departure: Departure) {
        self.0.store(departure as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_is_got() {
        let cell = DepartureCell::default();
        assert_eq!(cell.get(), Departure::Stays);
        for departure in [Departure::Keeps, Departure::Rehomes, Departure::Closes, Departure::Stays] {
            cell.set(departure);
            assert_eq!(cell.get(), departure);
        }
    }

    #[test]
    fn left_alone_flows_move_and_sessions_stay() {
        assert_eq!(Departure::by(OnRemoved::Auto), Departure::Rehomes);
        assert_eq!(Departure::by(OnRemoved::Keep), Departure::Keeps);
        assert_eq!(Departure::by(OnRemoved::Close), Departure::Closes);
    }
}
