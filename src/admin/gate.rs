//! Gate of the admin doors: while another process may take over, nobody new is let in, and whoever closed the gate knows
//! that it is closed.
//!
//! Must stay true: when [`Gate::close`] has returned in time, every connection of later is still in its socket's queue, for
//! whoever accepts there then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Gate for all doors of a process.
#[derive(Debug)]
pub struct Gate {
    is_open: watch::Sender<bool>,
    /// Doors that let somebody in as far as they know.
    open_doors: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { is_open: watch::channel(true).0, open_doors: watch::channel(0).0 }
    }
}

impl Gate {
    /// Closes it and waits until every door has seen that. False: one has not; it computes something long.
    pub async fn close(&self) -> bool {
        self.is_open.send_replace(false);
        let mut open_doors = self.open_doors.subscribe();
        // The sender is ours.
        timeout(CLOSE_MAX, open_doors.wait_for(|open| *open == 0)).await.is_ok()
    }

    /// Opens it again.
    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Whether it is open, for who is inside already.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.is_open.subscribe()
    }

    /// For one door.
    pub(super) fn keeper(self: &Arc<Self>) -> GateKeeper {
        GateKeeper { gate: Arc::clone(self), is_open: self.is_open.subscribe(), is_counted: false }
    }
}

/// Keeper: what one door knows of the gate. When this is dropped, the door has closed.
#[derive(Debug)]
pub(super) struct GateKeeper {
    gate: Arc<Gate>,
    is_open: watch::Receiver<bool>,
    is_counted: bool,
}

impl GateKeeper {
    /// May somebody be let in until [`Self::changed`] completes?
    pub(super) fn is_open(&mut self) -> bool {
        // Counted before the look: whoever closes the gate between the two finds this door open, and waits for it.
        self.count(true);
        let is_open = *self.is_open.borrow_and_update();
        self.count(is_open);
        is_open
    }

    /// Completes when the gate was opened or closed since the last look. May be dropped without loss.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as the gate, which this holds.
        let _ = self.is_open.changed().await;
    }

    fn count(&mut self, is_open: bool) {
        if std::mem::replace(&mut self.is_counted, is_open) != is_open {
            self.gate.open_doors.send_modify(|doors| if is_open { *doors += 1 } else { *doors -= 1 });
        }
    }
}

impl Drop for GateKeeper {
    fn drop(&mut self) {
        self.count(false);
    }
}

/// A text of 10,000 backends takes a tenth of a second.
const CLOSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_closed_when_every_door_has_seen_it() {
        let gate = Arc::<Gate>::default();
        assert!(gate.close().await, "there is no door");
        gate.open();
        let (mut one, mut other) = (gate.keeper(), gate.keeper());
        assert!(one.is_open() && other.is_open());
        assert!(!gate.close().await, "none has looked");
        one.changed().await;
        assert!(!one.is_open());
        assert!(!gate.close().await, "one has not looked");
        drop(other);
        assert!(gate.close().await, "a door that is gone is closed");
        gate.open();
        one.changed().await;
        assert!(one.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_that_looks_later_lets_the_one_who_waits_go_on() {
        let gate = Arc::<Gate>::default();
        let mut door = gate.keeper();
        assert!(door.is_open());
        let looks_later = async {
            door.changed().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(!door.is_open());
        };
        let (is_closed, ()) = tokio::join!(gate.close(), looks_later);
        assert!(is_closed);
    }
}
