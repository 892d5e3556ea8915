//! Sending side of a handover: prepare, pre-copy, then freeze. A successor builds what it can and gets the sockets that there
//! are while everything goes on here; then the sessions are exported while the data threads stand still, and are gone only when the other process has them in their
//! places.
//!
//! Whatever is waited for while the threads stand (for them, for the publisher, for the successor) has one limit together,
//! [`standstill_max`]; when it is over everything goes on here.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{HandoverError, PREPARED_MAX};
use super::export::Before;
use super::freeze::{FrozenWorkers, Stuck};
use crate::manifest::Manifest;
use crate::process_phase::Phase;
use crate::server::control::Control;
use crate::transfer::{Channel, Ready, Stash};
use crate::worker::ThreadExport;

/// What another process has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// TCP sessions.
    pub sessions: usize,
    /// UDP flows.
    pub flows: usize,
    /// How long the data threads stood until then.
    pub pause: Duration,
}

impl Control {
    /// Gives everything to the successor at the other end of the line, which may prepare itself for it first. On an error
    /// everything goes on as before.
    pub(in crate::server) async fn hand_over(
        &self,
        channel: &Channel,
        can: Ready,
    ) -> Result<HandedOver, HandoverError> {
        let _no_reload = self.no_reload().await?;
        let mut before = if can.prepares { Some(self.prepare(channel, can.precopies).await?) } else { None };
        if let Some(before) = before.as_mut().filter(|_| can.precopies) {
            before.went_ahead(self.precopy(channel).await?);
        }
        let send = |manifest: Arc<Manifest>| async move { Ok(channel.send_bundle(&manifest).await?) };
        self.give(before.as_ref(), send, || Ok(channel.let_go()?)).await
    }

    /// Leaves everything with the service manager. On an error everything goes on as before.
    pub(in crate::server) async fn stash(&self, stash: &Stash) -> Result<HandedOver, HandoverError> {
        let _no_reload = self.no_reload().await?;
        self.give(None, |manifest| async move { Ok(stash.leave(&manifest)?) }, || Ok(())).await
    }

    /// A reload under way comes to its end first, and none begins.
    async fn no_reload(&self) -> Result<MutexGuard<'_, ()>, HandoverError> {
        let no_reload = self.reloading.lock().await;
        let phase = *self.phase.borrow();
        if phase == Phase::Running { Ok(no_reload) } else { Err(HandoverError::NotRunning(phase.word())) }
    }

    /// Has the successor build what it can, while everything goes on.
    async fn prepare(&self, channel: &Channel, precopies: bool) -> Result<Before, HandoverError> {
        let prepare = async {
            let told = self.manifest_to_prepare().await;
            let (manifest, before) = told.ok_or(HandoverError::NotRunning("stopping"))?;
            channel.prepare(&manifest, precopies).await?;
            Ok(before)
        };
        timeout(PREPARED_MAX, prepare).await.map_err(|_| HandoverError::Unprepared)?
    }

    async fn give<F>(
        &self,
        before: Option<&Before>,
        to: impl FnOnce(Arc<Manifest>) -> F,
        let_go: impl FnOnce() -> Result<(), HandoverError>,
    ) -> Result<HandedOver, HandoverError>
    where
        F: Future<Output = Result<(), HandoverError>>,
    {
        // Commands that come now wait in the socket's queue for whoever answers then. A door that does not see it in time only
        // answers one more itself.
        self.gate.close().await;
        let given = self.give_all(before, to, let_go).await;
        if given.is_err() {
            self.gate.open();
        }
        given
    }

    async fn give_all<F>(
        &self,
        before: Option<&Before>,
        to: impl FnOnce(Arc<Manifest>) -> F,
        let_go: impl FnOnce() -> Result<(), HandoverError>,
    ) -> Result<HandedOver, HandoverError>
    where
        F: Future<Output = Result<(), HandoverError>>,
    {
        let Frozen { still, exports, began, limit } = self.freeze().await?;
        let given = async {
            let manifest = self.manifest(exports, before).await;
            let manifest = Arc::new(manifest.ok_or(HandoverError::NotRunning("stopping"))?);
            to(Arc::clone(&manifest)).await?;
            Ok::<_, HandoverError>(manifest)
        };
        let slow = |_| HandoverError::Slow(limit);
        let manifest = timeout_at(began + limit, given).await.map_err(slow)??;
        // Nothing is waited for from here on, so nobody can stop it half way.
        let_go()?;
        // From here on the sockets are another's.
        self.leave_socket_file();
        // First the word, then the deed: threads that end before it have failed.
        self.enter(Phase::HandedOver);
        still.leave();
        Ok(HandedOver {
            sessions: manifest.sessions.len(),
            flows: manifest.flows.len(),
            pause: began.elapsed(),
        })
    }

    /// Has every data thread stand and tell what it has. One that is ending many sessions finishes that before it stands.
    async fn freeze(&self) -> Result<Frozen, HandoverError> {
        let mut tries = 0;
        loop {
            self.wait_for_walks().await;
            let (began, limit) = (Instant::now(), standstill_max(self.workers.sessions()));
            let mut still = FrozenWorkers::begin(&self.workers, began + limit).await?;
            tries += 1;
            match still.exports().await {
                Ok(exports) => return Ok(Frozen { still, exports, began, limit }),
                // Another walk began meanwhile; the threads go on with it.
                Err(Stuck::Unfinished(_)) if tries < FREEZES_MAX => {}
                Err(stuck) => return Err(stuck.into()),
            }
        }
    }

    /// Until no thread goes through its tables any more, or for as long as that is worth waiting for.
    async fn wait_for_walks(&self) {
        let deadline = Instant::now() + WALKS_MAX;
        while self.workers.any_walks() && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Every data thread stands.
struct Frozen {
    still: FrozenWorkers,
    /// What each has.
    exports: Vec<ThreadExport>,
    /// Since when they stand.
    began: Instant,
    /// How long they may.
    limit: Duration,
}

/// How long no session may move: a successor that is prepared needs milliseconds, and some microseconds for each session: less
/// than is added here for it, even where other programs keep the machine busy.
fn standstill_max(sessions: u32) -> Duration {
    STANDSTILL_MAX + STANDSTILL_OF_A_SESSION * sessions
}

const STANDSTILL_MAX: Duration = Duration::from_secs(1);
const STANDSTILL_OF_A_SESSION: Duration = Duration::from_micros(10);
/// Ending a hundred thousand sessions takes seconds, a slice in each turn.
const WALKS_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Each that is in vain costs some milliseconds of every session's time.
const FREEZES_MAX: u32 = 3;
