//! Frozen workers: all data threads standing still, so that what is exported of their sessions stays exact until
//! somebody goes on with them; or so that what is imported is not touched until it may be.

use std::sync::mpsc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use crate::worker::{Freeze, FreezeOrder, FreezeReply, Message, ThreadExport, Workers};

/// All data threads. When this is dropped they go on, or leave: however this process comes to that.
pub(in crate::server) struct FrozenWorkers {
    threads: Vec<Thread>,
    /// What they do when this is dropped.
    at_drop: FreezeOrder,
    /// Until then each answers what it is told.
    until: Instant,
}

struct Thread {
    orders: mpsc::Sender<FreezeOrder>,
    reply: UnboundedReceiver<FreezeReply>,
}

/// Why the data threads do not do what they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// One did not answer in time.
    #[error("data thread {0} does not stand still in time: it may be overloaded")]
    Silent(usize),
    /// One is in the middle of something that takes longer than anybody should stand.
    #[error("data thread {0} is ending many sessions at once: try again when it has")]
    Unfinished(usize),
}

impl FrozenWorkers {
    /// Begins when every thread stands and has read its mail: no session is on its way between two of them. They go on when
    /// this is dropped.
    pub(in crate::server) async fn begin(workers: &Workers, until: Instant) -> Result<Self, Stuck> {
        let mut all = Self::order_to_stand(workers, FreezeOrder::GoOn, until);
        all.stand().await?;
        // Connections that one passed to another before it stood are sessions of that one afterwards. Reading makes no
        // new ones: only accepting does.
        all.read_mail(until).await?;
        Ok(all)
    }

    /// The same for threads that have nobody yet, and are to take what another process may want back: they leave, and touch
    /// nothing, unless they are told to go on.
    pub(in crate::server) async fn begin_empty(workers: &Workers, until: Instant) -> Result<Self, Stuck> {
        let mut all = Self::order_to_stand(workers, FreezeOrder::Leave, until);
        all.stand().await?;
        Ok(all)
    }

    fn order_to_stand(workers: &Workers, at_drop: FreezeOrder, until: Instant) -> Self {
        let thread = |worker| {
            let (orders, their_orders) = mpsc::channel();
            let (answers, reply) = unbounded_channel();
            let answer = Box::new(move |word| drop(answers.send(word)));
            workers.mailbox(worker).post(Message::Freeze(Freeze { orders: their_orders, answer }));
            Thread { orders, reply }
        };
        Self { threads: (0..workers.count()).map(thread).collect(), at_drop, until }
    }

    async fn stand(&mut self) -> Result<(), Stuck> {
        self.hear(|reply| matches!(reply, FreezeReply::Frozen).then_some(())).await.map(drop)
    }

    /// Each does what was posted to it, until then at the latest.
    pub(in crate::server) async fn read_mail(&mut self, until: Instant) -> Result<(), Stuck> {
        self.until = until;
        self.order(FreezeOrder::ReadMail);
        self.hear(|reply| matches!(reply, FreezeReply::MailRead).then_some(())).await.map(drop)
    }

    /// What each thread has.
    pub(in crate::server) async fn exports(&mut self) -> Result<Vec<ThreadExport>, Stuck> {
        self.order(FreezeOrder::Export);
        let told = self.hear(|reply| match reply {
            FreezeReply::Export(export) => Some(Some(*export)),
            FreezeReply::Unfinished => Some(None),
            FreezeReply::Frozen | FreezeReply::MailRead => None,
        });
        let told = told.await?.into_iter().enumerate();
        told.map(|(worker, export)| export.ok_or(Stuck::Unfinished(worker))).collect()
    }

    /// They leave: another process has everything.
    pub(in crate::server) fn leave(mut self) {
        self.at_drop = FreezeOrder::Leave;
    }

    /// They go on: everything is this process's.
    pub(in crate::server) fn go_on(mut self) {
        self.at_drop = FreezeOrder::GoOn;
    }

    fn order(&self, order: FreezeOrder) {
        for thread in &self.threads {
            // A thread that has ended is found out by its silence.
            let _ = thread.orders.send(order);
        }
    }

    async fn hear<T>(&mut self, take: impl Fn(FreezeReply) -> Option<T>) -> Result<Vec<T>, Stuck> {
        let mut heard = Vec::with_capacity(self.threads.len());
        for (worker, thread) in self.threads.iter_mut().enumerate() {
            let reply = timeout_at(self.until, thread.reply.recv()).await.ok().flatten();
            heard.push(reply.and_then(&take).ok_or(Stuck::Silent(worker))?);
        }
        Ok(heard)
    }
}

impl Drop for FrozenWorkers {
    fn drop(&mut self) {
        self.order(self.at_drop);
    }
}
