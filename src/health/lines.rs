//! Kept connections of the health checks (connection pool, one a target): a task owns each server's line, asks when it is told
//! to, and notices meanwhile when the server ends the connection.
//!
//! Must stay true: a line whose target left, or was asked otherwise, is ended with the farewell of its protocol; on return from
//! [`Lines::end`] no task runs and no socket is open.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::line::{Line, Opening, Shared};
use super::outcome::{LocalError, Outcome};
use super::target::TargetId;
use crate::random::spread;
use crate::sys::probe::Route;

/// Whose line it is: a target's may be more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Seat {
    /// The target itself.
    Server,
    /// One of those who are asked about it.
    Beside(usize),
}

/// The lines of one checker.
#[derive(Debug)]
pub(super) struct Lines {
    shared: Arc<Shared>,
    seed: u64,
    open: HashMap<(TargetId, Seat), Held>,
    tasks: JoinSet<()>,
    ended: (mpsc::UnboundedSender<TargetId>, mpsc::UnboundedReceiver<TargetId>),
}

#[derive(Debug)]
struct Held {
    /// Which of those that had this name, one after the other.
    incarnation: u64,
    questions: mpsc::Sender<Question>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Question {
    route: Route,
    limit: Duration,
    reply: oneshot::Sender<Outcome>,
}

impl Lines {
    /// None yet. At most so many connections are kept between two checks; others are ended after each.
    pub(super) fn new(kept_max: usize, seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared::new(kept_max)),
            seed,
            open: HashMap::new(),
            tasks: JoinSet::new(),
            // As long as the list of targets at most: who ends a connection is asked before the next one can end.
            ended: mpsc::unbounded_channel(),
        }
    }

    /// Asks once. The line of this target is the one it had, where it is still the same.
    pub(super) fn ask(
        &mut self,
        (target, incarnation): (TargetId, u64),
        seat: Seat,
        opening: Box<dyn Opening>,
        route: Route,
        limit: Duration,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        while self.tasks.try_join_next().is_some() {}
        let is_it = |held: &Held| held.incarnation == incarnation && !held.questions.is_closed();
        if !self.open.get(&(target, seat)).is_some_and(is_it) {
            self.close((target, seat));
            let place = match seat {
                Seat::Server => 0,
                Seat::Beside(at) => at as u64 + 1,
            };
            let seed = self.seed ^ spread(target.0 ^ spread(place));
            let line = Line::new(opening, Arc::clone(&self.shared), seed);
            let (questions, inbox) = mpsc::channel(1);
            let stop = CancellationToken::new();
            self.tasks.spawn(serve(line, inbox, stop.clone(), target, self.ended.0.clone()));
            self.open.insert((target, seat), Held { incarnation, questions, stop });
        }
        let questions = self.open.get(&(target, seat)).map(|held| held.questions.clone());
        async move {
            let (reply, answer) = oneshot::channel();
            let fault = Outcome::Local(LocalError::Other(0));
            let Some(questions) = questions else { return fault };
            if questions.send(Question { route, limit, reply }).await.is_err() {
                return fault;
            }
            answer.await.unwrap_or(fault)
        }
    }

    /// Only those lines stay.
    pub(super) fn retain(&mut self, stays: impl Fn(TargetId, u64) -> bool) {
        let gone = |(at, held): (&(TargetId, Seat), &Held)| (!stays(at.0, held.incarnation)).then_some(*at);
        let gone: Vec<(TargetId, Seat)> = self.open.iter().filter_map(gone).collect();
        gone.into_iter().for_each(|at| self.close(at));
    }

    /// How many connections are kept.
    pub(super) fn kept(&self) -> usize {
        self.shared.kept()
    }

    /// Waits for a kept connection that ended by itself. Cancel safe.
    pub(super) async fn ended(&mut self) -> TargetId {
        match self.ended.1.recv().await {
            Some(target) => target,
            // Never: one end is ours.
            None => std::future::pending().await,
        }
    }

    /// Ends all of them.
    pub(super) async fn end(mut self) {
        self.open.values().for_each(|held| held.stop.cancel());
        while self.tasks.join_next().await.is_some() {}
    }

    fn close(&mut self, at: (TargetId, Seat)) {
        if let Some(held) = self.open.remove(&at) {
            held.stop.cancel();
        }
    }
}

/// The task of one line.
async fn serve(
    mut line: Line,
    mut inbox: mpsc::Receiver<Question>,
    stop: CancellationToken,
    target: TargetId,
    ended: mpsc::UnboundedSender<TargetId>,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            question = inbox.recv() => {
                let Some(Question { route, limit, reply }) = question else { break };
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    outcome = line.ask(&route, limit) => {
                        // Who asked may have gone.
                        let _ = reply.send(outcome);
                    }
                }
            }
            () = line.ended() => {
                let _ = ended.send(target);
            }
        }
    }
    line.end().await;
}
