//! The thread that talks to the balancer, so that a slow one never holds up the keys.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc;

use super::reading::Reading;
use super::view::Whom;
use crate::cli::client::Client;

/// Something to do.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) whom: Whom,
    /// `drain` or `ready`.
    pub(super) mark: &'static str,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Heard {
    Reading(Box<Reading>),
    /// Nobody answers, for this reason.
    Nothing(String),
    /// What came of an order.
    Done(String),
}

/// Asks at once, then in this interval, and after each order. It ends when nobody gives orders any more, or listens.
pub(super) fn begin(
    client: Client,
    interval: Duration,
) -> io::Result<(SyncSender<Order>, mpsc::Receiver<Heard>)> {
    let (orders, ordered) = sync_channel(ORDERS_WAITING_MAX);
    let (sender, heard) = mpsc::channel(HEARD_WAITING_MAX);
    std::thread::Builder::new()
        .name("asking".into())
        .spawn(move || ask(&client, interval, &ordered, &sender))?;
    Ok((orders, heard))
}

fn ask(client: &Client, interval: Duration, orders: &Receiver<Order>, sender: &mpsc::Sender<Heard>) {
    let mut wait = interval;
    loop {
        let done = match orders.recv_timeout(wait) {
            Ok(order) => Some(carried_out(client, &order)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let reading = match client.request("GET", "/status", &[]) {
            Ok(status) => Heard::Reading(Box::new(Reading::of(&status))),
            Err(no_answer) => Heard::Nothing(no_answer.why),
        };
        // One that is gone is looked for more often than one that is there.
        wait = if matches!(reading, Heard::Nothing(_)) { interval.min(RETRY) } else { interval };
        for heard in done.into_iter().chain([reading]) {
            if sender.blocking_send(heard).is_err() {
                return;
            }
        }
    }
}

fn carried_out(client: &Client, order: &Order) -> Heard {
    let Order { whom, mark } = order;
    let name = format!("{}/{}", whom.pool, whom.backend);
    Heard::Done(match client.request("POST", "/mark", &[("backend", &name), ("mark", mark)]) {
        Ok(_) if *mark == "ready" => format!("{name} is ready, as far as its health allows"),
        Ok(_) => format!("{name} is drained: nothing new goes there; r takes it back"),
        Err(no_answer) => format!("{name} is not marked {mark}: {}", no_answer.why),
    })
}

const RETRY: Duration = Duration::from_secs(1);
const ORDERS_WAITING_MAX: usize = 4;
const HEARD_WAITING_MAX: usize = 4;
