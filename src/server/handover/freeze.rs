//! Frozen workers: all data threads standing still, so that what is exported of their sessions stays exact until
//! somebody goes on with them.

use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::worker::{Freeze, FreezeOrder, FreezeReply, Message, ThreadExport, Workers};

/// All data threads. When this is dropped they go on.
pub(in crate::server) struct FrozenWorkers(Vec<Thread>);

struct Thread {
    orders: mpsc::Sender<FreezeOrder>,
    reply: UnboundedReceiver<FreezeReply>,
}

/// A data thread did not do what it was told in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("data thread {0} does not stand still: it may be overloaded")]
pub struct Stuck(pub usize);

impl FrozenWorkers {
    /// Begins when every thread stands and has read its mail: no session is on its way between two of them.
    pub(in crate::server) async fn begin(workers: &Workers) -> Result<Self, Stuck> {
        let mut threads = Vec::with_capacity(workers.count());
        for worker in 0..workers.count() {
            let (orders, their_orders) = mpsc::channel();
            let (answers, reply) = unbounded_channel();
            let answer = Box::new(move |word| drop(answers.send(word)));
            workers.mailbox(worker).post(Message::Freeze(Freeze { orders: their_orders, answer }));
            threads.push(Thread { orders, reply });
        }
        let mut all = Self(threads);
        all.hear(|reply| matches!(reply, FreezeReply::Frozen).then_some(())).await?;
        // Connections that one passed to another before it stood are sessions of that one afterwards. Reading makes no
        // new ones: only accepting does.
        all.order(FreezeOrder::ReadMail);
        all.hear(|reply| matches!(reply, FreezeReply::MailRead).then_some(())).await?;
        Ok(all)
    }

    /// What each thread has.
    pub(in crate::server) async fn exports(&mut self) -> Result<Vec<ThreadExport>, Stuck> {
        self.order(FreezeOrder::Export);
        self.hear(|reply| if let FreezeReply::Export(export) = reply { Some(*export) } else { None }).await
    }

    /// They leave: another process has everything.
    pub(in crate::server) fn leave(&self) {
        self.order(FreezeOrder::Leave);
    }

    fn order(&self, order: FreezeOrder) {
        for thread in &self.0 {
            // A thread that has ended is found out by its silence.
            let _ = thread.orders.send(order);
        }
    }

    async fn hear<T>(&mut self, take: impl Fn(FreezeReply) -> Option<T>) -> Result<Vec<T>, Stuck> {
        let mut heard = Vec::with_capacity(self.0.len());
        for (worker, thread) in self.0.iter_mut().enumerate() {
            let reply = timeout(WORD_MAX, thread.reply.recv()).await.ok().flatten();
            heard.push(reply.and_then(&take).ok_or(Stuck(worker))?);
        }
        Ok(heard)
    }
}

/// A turn of a loop takes milliseconds.
const WORD_MAX: Duration = Duration::from_secs(5);
