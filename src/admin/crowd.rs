//! The conversations of one door: so many at once, each for so long; a newcomer who finds no room is given that of the
//! longest there, so that silent ones cannot lock others out.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

/// The conversations of a door. Dropping it ends them.
#[derive(Default)]
pub(super) struct Crowd {
    conversations: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

impl Crowd {
    /// Lets one begin.
    pub(super) fn admit(
        &mut self,
        conversation: impl Future<Output = ()> + Send + 'static,
        at_most: Duration,
    ) {
        while self.conversations.try_join_next().is_some() {}
        self.by_age.retain(|conversation| !conversation.is_finished());
        if self.by_age.len() >= CONVERSATIONS_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            oldest.abort();
        }
        let conversation = async move {
            // One that takes too long is dropped where it stands.
            let _ = tokio::time::timeout(at_most, conversation).await;
        };
        self.by_age.push_back(self.conversations.spawn(conversation));
    }

    /// Lets those there are come to their end, for so long.
    pub(super) async fn finish(mut self, at_most: Duration) {
        let all = async { while self.conversations.join_next().await.is_some() {} };
        // The rest is dropped where it stands.
        let _ = tokio::time::timeout(at_most, all).await;
    }
}

const CONVERSATIONS_MAX: usize = 64;
