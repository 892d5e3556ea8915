//! Pre-copy (as in live migration): the sockets of sessions go to the successor, and are watched there, while everything still
//! goes on here. What is left for the freeze is what each session has come to.
//!
//! Sessions that begin, and those whose sockets could not be given, come along in the freeze, as all did before.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::HandoverError;
use crate::manifest;
use crate::server::control::Control;
use crate::sys::Errno;
use crate::tcp::{Place, Precopied};
use crate::transfer::{Ahead, Channel, ChannelError, Sockets};
use crate::worker::{Message, PrecopyAsked, Workers};

/// Whose sockets the successor has, by thread and in the order of its table.
pub(super) type GoneAhead = Vec<Vec<Precopied>>;

/// Sockets of a session that is yet to come.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) sockets: Sockets,
    /// The thread that watches them, and where the session is to stand there.
    pub(super) worker: usize,
    pub(super) place: Place,
}

impl Control {
    /// Has every data thread give the sockets of its sessions, and waits until the successor watches them.
    pub(super) async fn precopy(&self, channel: &Channel) -> Result<GoneAhead, HandoverError> {
        let limit = PRECOPY_MAX + PRECOPY_OF_A_SESSION * self.workers.sessions();
        let copied = async {
            let mut asked = Vec::with_capacity(self.workers.count());
            for worker in 0..self.workers.count() {
                let (reply, given) = oneshot::channel();
                // Who asked may have gone.
                let reply = Box::new(move |given| drop(reply.send(given)));
                let give = channel.giver(u32::try_from(worker).unwrap_or(u32::MAX));
                let give = Box::new(give.map_err(ChannelError::from)?);
                self.workers.mailbox(worker).post(Message::Precopy(PrecopyAsked { give, reply }));
                asked.push(given);
            }
            let mut gone = Vec::with_capacity(asked.len());
            for given in asked {
                gone.push(given.await.map_err(|_| HandoverError::NotRunning("stopping"))?);
            }
            channel.all_sockets_sent().await?;
            Ok::<_, HandoverError>(gone)
        };
        timeout(limit, copied).await.map_err(|_| HandoverError::Uncopied(limit))?
    }
}

/// Says of each exported session of a thread whether its sockets are there already. Both are in the order of the table.
pub(super) fn mark(sessions: &mut [manifest::Session], places: &[Precopied], gone: &[Precopied]) {
    let mut ahead = (1_u32..).zip(gone).peekable();
    for (session, place) in sessions.iter_mut().zip(places) {
        while ahead.next_if(|(_, gone)| gone.slot < place.slot).is_some() {}
        if let Some((number, _)) = ahead.next_if(|(_, gone)| *gone == place) {
            session.precopied = number;
        }
    }
}

/// Takes what is sent ahead, and watches it, each for the thread that is to have the session.
pub(super) async fn receive(channel: &Channel, workers: &Workers) -> Result<Ahead<Watched>, String> {
    let mut ahead = Ahead::default();
    let mut places = vec![0_u32; workers.count()];
    let watch = |worker_before: u32, number: u32, sockets: Sockets| {
        // None may be left out: by its number a session finds them.
        if number != ahead.next_of(worker_before) {
            return Err(Errno::INVAL);
        }
        let worker = usize::try_from(worker_before).unwrap_or(0) % workers.count();
        let place = Place::nth(places[worker]);
        places[worker] += 1;
        let (poller, tokens) = (workers.poller(worker), place.tokens());
        poller.watch_stream(&sockets.client, tokens[0])?;
        poller.watch_stream(&sockets.backend, tokens[1])?;
        ahead.push(worker_before, Watched { sockets, worker, place });
        Ok::<_, Errno>(())
    };
    channel.receive_sockets(watch).await.map_err(|error| error.to_string())?;
    Ok(ahead)
}

/// A successor that watches sockets takes some microseconds for each.
const PRECOPY_MAX: Duration = Duration::from_secs(5);
const PRECOPY_OF_A_SESSION: Duration = Duration::from_micros(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(slot: u32, generation: u32) -> Precopied {
        Precopied { slot, generation }
    }

    #[test]
    fn who_ended_or_began_meanwhile_is_not_taken_for_another() {
        let gone = [at(0, 5), at(1, 6), at(2, 7), at(4, 8), at(9, 9)];
        // The second ended, and another stands there; the third ended; one began between the fourth and the fifth.
        let places = [at(0, 5), at(1, 10), at(4, 8), at(6, 11), at(9, 9), at(12, 12)];
        let mut sessions = vec![crate::tcp::given_session("keep", 0); places.len()];
        mark(&mut sessions, &places, &gone);
        let marks: Vec<u32> = sessions.iter().map(|session| session.precopied).collect();
        assert_eq!(marks, [1, 0, 4, 0, 5, 0]);
        let mut sessions = vec![crate::tcp::given_session("keep", 0); places.len()];
        mark(&mut sessions, &places, &[]);
        assert!(sessions.iter().all(|session| session.precopied == 0));
    }
}
