//! Connection limit of an admin door: so many at once, each for so long; a newcomer who finds no room, or only one of the
//! last descriptors, is given that of the longest there, so that silent ones cannot lock others out. Those who watch stay longer and have permits of their
//! own, which `event_stream` counts.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long a conversation may last.
#[derive(Debug, Default)]
pub(super) struct ConnectionLife {
    /// It watches: it may stay while it does.
    pub(super) watches: AtomicBool,
    /// Ends it where it stands.
    pub(super) cut: CancellationToken,
    /// It has one of the last descriptors: others end for it, and it may not watch.
    pub(super) is_crowded: bool,
}

impl ConnectionLife {
    fn is_watcher(&self) -> bool {
        self.watches.load(Ordering::Relaxed)
    }
}

/// The conversations of a door. Dropping it ends them.
#[derive(Default)]
pub(super) struct Connections {
    conversations: JoinSet<()>,
    by_age: VecDeque<(AbortHandle, Arc<ConnectionLife>)>,
}

impl Connections {
    /// Lets one begin.
    pub(super) fn admit(
        &mut self,
        conversation: impl Future<Output = ()> + Send + 'static,
        at_most: Duration,
        life: Arc<ConnectionLife>,
    ) {
        while self.conversations.try_join_next().is_some() {}
        self.by_age.retain(|(conversation, _)| !conversation.is_finished());
        let others = self.by_age.iter().filter(|(_, life)| !life.is_watcher()).count();
        if (others >= CONVERSATIONS_MAX || (life.is_crowded && others > 0))
            && let Some(place) = self.by_age.iter().position(|(_, life)| !life.is_watcher())
            && let Some((oldest, _)) = self.by_age.remove(place)
        {
            oldest.abort();
        }
        let its_life = Arc::clone(&life);
        let conversation = async move {
            let mut conversation = std::pin::pin!(conversation);
            tokio::select! {
                // One that takes too long is dropped where it stands.
                () = async { while tokio::time::timeout(at_most, conversation.as_mut()).await.is_err() && its_life.is_watcher() {} } => {}
                () = its_life.cut.cancelled() => {}
            }
        };
        self.by_age.push_back((self.conversations.spawn(conversation), life));
    }

    /// Lets those there are come to their end, for so long.
    pub(super) async fn finish(mut self, at_most: Duration) {
        let all = async { while self.conversations.join_next().await.is_some() {} };
        // The rest is dropped where it stands.
        let _ = tokio::time::timeout(at_most, all).await;
    }
}

const CONVERSATIONS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LONG: Duration = Duration::from_secs(1_000_000);

    /// A conversation that never ends by itself, and a sign of its life.
    fn endless(connections: &mut Connections, at_most: Duration, life: &Arc<ConnectionLife>) -> Arc<()> {
        let alive = Arc::new(());
        let inside = Arc::clone(&alive);
        let conversation = async move {
            let _inside = inside;
            pending::<()>().await;
        };
        connections.admit(conversation, at_most, Arc::clone(life));
        alive
    }

    fn lives(alive: &Arc<()>) -> bool {
        Arc::strong_count(alive) > 1
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_stays_and_takes_no_place_of_others() {
        let mut connections = Connections::default();
        let (watcher, other) = (Arc::<ConnectionLife>::default(), Arc::<ConnectionLife>::default());
        watcher.watches.store(true, Ordering::Relaxed);
        let watching = endless(&mut connections, Duration::from_secs(30), &watcher);
        let talking = endless(&mut connections, Duration::from_secs(30), &other);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(lives(&watching) && !lives(&talking));
        let all: Vec<_> =
            (0..CONVERSATIONS_MAX + 1).map(|_| endless(&mut connections, LONG, &other)).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(lives(&watching) && !lives(&all[0]) && all[1..].iter().all(lives), "the oldest gave way");
        watcher.watches.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert!(!lives(&watching), "it watches no more");
    }

    #[tokio::test(start_paused = true)]
    async fn where_descriptors_run_out_the_oldest_gives_way() {
        let mut connections = Connections::default();
        let life = Arc::<ConnectionLife>::default();
        let all: Vec<_> = (0..3).map(|_| endless(&mut connections, LONG, &life)).collect();
        let crowded = Arc::new(ConnectionLife { is_crowded: true, ..ConnectionLife::default() });
        let last = endless(&mut connections, LONG, &crowded);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!lives(&all[0]) && all[1..].iter().all(lives) && lives(&last));
        let mut alone = Connections::default();
        assert!(lives(&endless(&mut alone, LONG, &crowded)), "there is nobody to give way");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_cut_ends_where_it_stands() {
        let mut connections = Connections::default();
        let life = Arc::<ConnectionLife>::default();
        life.watches.store(true, Ordering::Relaxed);
        let watching = endless(&mut connections, LONG, &life);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(lives(&watching));
        life.cut.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!lives(&watching));
    }
}
