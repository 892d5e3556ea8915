//! Kept listeners (socket activation store): listening sockets that the service manager keeps, so that after a crash
//! connects wait for the next process instead of being refused.

use std::collections::HashMap;

use super::open_listeners::OpenDoor;
use crate::config::settings::Protocol;
use crate::listener::BoundDoor;
use crate::systemd::{DOORS_KEPT_MAX, Notify, door_name};

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct KeptListeners {
    /// The names of a door's sockets, by its id.
    names: HashMap<u64, Vec<String>>,
    sockets: usize,
    /// That there are too many was told.
    told: bool,
}

impl KeptListeners {
    /// Has the sockets of a new door kept.
    pub(super) fn keep(&mut self, notify: Notify, door: &OpenDoor, bound: &BoundDoor) {
        // A port that the kernel chose is another one next time.
        if !notify.is_heard() || door.bind.port == 0 {
            return;
        }
        let sockets: Vec<_> = bound.sockets().collect();
        if self.sockets + sockets.len() > DOORS_KEPT_MAX {
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!(
                    target: "evenkeel", most = DOORS_KEPT_MAX,
                    "more listening sockets than the service manager can keep: after a crash the doors beyond are closed until the restart; fewer ports, or fewer workers, keep all of them"
                );
            }
            return;
        }
        let udp = door.protocol == Protocol::Udp;
        let name = |worker| door_name(udp, door.bind.ip, door.bind.port, worker);
        let names: Vec<String> = (0..sockets.len()).map(name).collect();
        for (name, socket) in names.iter().zip(sockets) {
            notify.keep(name, &[socket], true);
        }
        self.sockets += names.len();
        self.names.insert(door.id, names);
    }

    /// A door closed: nobody is to find it open again.
    pub(super) fn keep_no_more(&mut self, notify: Notify, id: u64) {
        for name in self.names.remove(&id).unwrap_or_default() {
            self.sockets -= 1;
            notify.forget(&name);
        }
    }

    /// Sockets of the process before that nobody wants are kept no longer.
    pub(super) fn forget_strangers<'a>(&self, notify: Notify, names: impl Iterator<Item = &'a str>) {
        for name in names {
            if !self.names.values().flatten().any(|kept| kept == name) {
                notify.forget(name);
            }
        }
    }
}
