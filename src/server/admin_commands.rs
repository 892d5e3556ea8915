//! Admin commands, carried out: each in a task of its own, so that a reload holds up no question.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::control::Control;
use super::error::{Refused, ReloadError};
use super::handover::{Succeeded, UpgradeError};
use super::orders::OrderError;
use crate::admin::requests::{self, Kind, Request};
use crate::publisher::Whom;
use crate::reason::Reason;
use crate::session_query::Filter;
use crate::worker::{self, Message};

impl Control {
    /// Carries out what is asked until nobody can ask any more.
    pub(super) async fn obey(self: Arc<Self>, mut inbox: mpsc::Receiver<Request>) {
        while let Some(request) = inbox.recv().await {
            let control = Arc::clone(&self);
            self.tasks.spawn(async move { control.carry_out(request).await });
        }
    }

    async fn carry_out(self: Arc<Self>, request: Request) {
        // Whoever asked may have gone.
        match request {
            Request::Reload { reply } => {
                let outcome = self.reload_file().await;
                let _ =
                    reply.send(outcome.map(|changes| changes.lines).map_err(|refused| not_served(&refused)));
            }
            Request::Preview { reply } => {
                let _ = reply.send(self.preview().await.map_err(|refused| not_served(&refused)));
            }
            Request::Upgrade { binary, reply } => {
                let outcome = self.upgrade(binary.as_deref()).await;
                let upgraded = outcome.map(|Succeeded { pid, handed_over }| requests::Upgraded {
                    pid,
                    sessions: handed_over.sessions + handed_over.flows,
                    pause_ms: handed_over.pause.as_secs_f64() * 1_000.0,
                });
                let refused = |error: UpgradeError| requests::Refused {
                    text: format!("not handed over, everything goes on as before: {error}"),
                    kind: Kind::NotNow,
                };
                let _ = reply.send(upgraded.map_err(refused));
            }
            Request::Mark { pool, backend, mark, by, reply } => {
                let outcome = self.mark(Whom { pool, backend }, mark, &by).await;
                let _ = reply.send(outcome.map_err(refused));
            }
            Request::Weight { pool, backend, weight, by, reply } => {
                let outcome = self.set_weight(Whom { pool, backend }, weight, &by).await;
                let _ = reply.send(outcome.map_err(refused));
            }
            Request::Forget { pool, by, reply } => {
                let _ = reply.send(self.forget(pool, &by).await.map_err(refused));
            }
            Request::Refresh { pool, reply } => {
                let _ = reply.send(self.refresh(pool).await);
            }
            Request::Withdraw { is_withdrawn, by, reply } => {
                let withdrawal = Arc::clone(&self.withdrawal);
                // It may wait for a disk.
                let done = tokio::task::spawn_blocking(move || withdrawal.set(&by, is_withdrawn)).await;
                let _ = reply.send(done.unwrap_or_else(|error| Err(error.to_string())));
                self.texts.note_change();
            }
            Request::ChangeAtRunTime { command, reply } => {
                let _ = reply.send(self.change_at_run_time(command).await);
            }
            Request::LogLevel { level, reply } => {
                (self.file.set_log_level)(level);
                let _ = reply.send(());
            }
            Request::Search { filter, close, rows_max, reply } => {
                let found = self.search(&filter, close.then_some(CLOSED), rows_max).await;
                let _ = reply.send(found);
            }
        }
    }

    /// Asks every data thread; each looks a little in each of its turns.
    pub(super) async fn search(
        &self,
        filter: &Filter,
        close: Option<Reason>,
        rows_max: usize,
    ) -> requests::Search {
        let mut answers = Vec::new();
        for worker in 0..self.workers.count() {
            let (sender, answer) = oneshot::channel();
            let search = worker::Search {
                filter: filter.clone(),
                close,
                rows_max,
                reply: Box::new(move |answer| drop(sender.send(answer))),
            };
            self.workers.mailbox(worker).post(Message::Search(Box::new(search)));
            answers.push(answer);
        }
        let mut all = requests::Search::default();
        for answer in answers {
            // A thread that ended has no sessions.
            let worker::Answer { rows, count } = answer.await.unwrap_or_default();
            all.count += count;
            all.rows.extend(rows);
        }
        all.rows.sort_by_key(|found| std::cmp::Reverse(found.age_ms));
        all.rows.truncate(rows_max);
        all
    }
}

/// Why a file is not served.
fn not_served(refused: &Refused) -> requests::Refused {
    let kind = match refused {
        Refused::Serve(ReloadError::Fixed(_)) | Refused::Unreadable(_) | Refused::Mistakes(_) => {
            Kind::BadFile
        }
        Refused::Serve(_) => Kind::NotNow,
    };
    requests::Refused { text: refused.to_string(), kind }
}

// By value: it is what `map_err` gives.
#[allow(clippy::needless_pass_by_value)]
fn refused(error: OrderError) -> requests::Refused {
    let kind = if error == OrderError::Stopping { Kind::NotNow } else { Kind::NoSuch };
    requests::Refused { text: error.to_string(), kind }
}

/// Why sessions end that an operator closes.
#[cfg(not(feature = "manifest-next"))]
const CLOSED: Reason = Reason::Closed;
#[cfg(feature = "manifest-next")]
const CLOSED: Reason = Reason::Next;
