//! Open listeners: what is served at this moment: the doors, whose they are, and the settings behind them.
//!
//! Must stay true: a door is in the list exactly as long as the data threads have it; its id is never given twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::settings::{Bind, Listener, Protocol, Settings};
use crate::listener::{BoundDoor, Terms, Wanted};

/// What a reload compares with, and changes.
#[derive(Debug)]
pub(super) struct OpenListeners {
    pub(super) settings: Arc<Settings>,
    /// In the order of the file; doors on their way out at the end.
    pub(super) doors: Vec<OpenDoor>,
    /// Of each listener, by its name.
    pub(super) terms: HashMap<String, Terms>,
    /// Of listeners that left the file and still have sessions.
    pub(super) left: HashMap<String, Terms>,
    doors_named: u64,
}

/// A door that the data threads have.
#[derive(Debug, Clone)]
pub(super) struct OpenDoor {
    pub(super) id: u64,
    pub(super) protocol: Protocol,
    /// As the file has it.
    pub(super) bind: Bind,
    /// As the kernel has it.
    pub(super) address: SocketAddr,
    pub(super) listener: String,
    /// It left the file; its flows have some time yet. Which of its departures this is.
    pub(super) leaving: Option<u64>,
}

/// Where the doors of new settings come from.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// Doors that are there, in the order of the file, with the index of the listener that has them from now on.
    pub(super) kept: Vec<(OpenDoor, usize)>,
    /// To be opened: the index of the listener, and where.
    pub(super) missing: Vec<(usize, Bind)>,
    /// Doors that nobody wants any more.
    pub(super) unwanted: Vec<OpenDoor>,
}

impl OpenListeners {
    /// Nothing yet.
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, doors: Vec::new(), terms: HashMap::new(), left: HashMap::new(), doors_named: 0 }
    }

    /// An id that no door has, had or will have.
    pub(super) fn next_id(&mut self) -> u64 {
        self.doors_named += 1;
        self.doors_named
    }

    /// Finds each door of these listeners among those there are: by protocol, address and port, whoever has them.
    pub(super) fn matched(&self, listeners: &[Listener]) -> Matched {
        let mut matched = Matched::default();
        let mut there = self.doors.clone();
        for (at, listener) in listeners.iter().enumerate() {
            for bind in &listener.bind {
                let same = |door: &OpenDoor| door.protocol == listener.protocol && door.bind == *bind;
                match there.iter().position(same) {
                    Some(door) => matched.kept.push((there.remove(door), at)),
                    None => matched.missing.push((at, *bind)),
                }
            }
        }
        // A narrow door under a new wider one of its port stays, as a door of that listener: a connection that is being
        // made there could be lost if it closed, and nobody can tell the two apart.
        for door in there {
            let covers = |listener: &Listener| {
                listener.protocol == Protocol::Tcp
                    && door.protocol == Protocol::Tcp
                    && listener.bind.iter().any(|bind| bind.port == door.bind.port && bind.covers(&door.bind))
            };
            match listeners.iter().position(covers) {
                Some(at) => matched.kept.push((door, at)),
                None => matched.unwanted.push(door),
            }
        }
        matched
    }

    /// The doors to open for `missing`.
    pub(super) fn wanted<'a>(
        &mut self,
        missing: &[(usize, Bind)],
        listeners: &'a [Listener],
    ) -> Vec<Wanted<'a>> {
        let mut wanted = Vec::with_capacity(missing.len());
        for (at, bind) in missing {
            let listener = &listeners[*at];
            let is_beside = |door: &OpenDoor| {
                bind.port != 0 && door.protocol == listener.protocol && door.address.port() == bind.port
            };
            let beside_own = self.doors.iter().any(is_beside);
            wanted.push(Wanted { id: self.next_id(), listener, at: *bind, beside_own });
        }
        wanted
    }

    /// Where each listener accepts, in the order of the file.
    pub(super) fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let there = self.doors.iter().filter(|door| door.leaving.is_none());
        there.map(|door| (door.listener.clone(), door.address)).collect()
    }
}

impl OpenDoor {
    /// A door of this listener that was bound at `bind`.
    pub(super) fn new(bound: &BoundDoor, listener: &Listener, bind: Bind) -> Self {
        Self {
            id: bound.id,
            protocol: listener.protocol,
            bind,
            address: bound.address,
            listener: listener.name.clone(),
            leaving: None,
        }
    }
}
