//! Export and import of sessions, from process to process: as they stand between two steps, and gone on with from
//! there.
//!
//! What must stay true: exporting changes nothing, so that a process whose successor fails carries on as if nothing had
//! happened; importing touches no socket but to watch it, and the first step comes when the kernel says how it stands.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::half_duplex::HalfDuplex;
use super::proxy_header::Proxied;
use super::relay::Relay;
use super::session::{Next, Phase, Session};
use super::sessions::{Sessions, Slot, ToBegin};
use super::side::{BACKEND, CLIENT, Side};
use super::{Terms, ThreadContext, Token, dial};
use crate::config::settings::OnDown;
use crate::manifest;
use crate::pool::Lease;
use crate::reason::Reason;
use crate::sys::Errno;
use crate::sys::pipe::Pipe;
use crate::thread_context::{ENDS_PER_TURN, GENERATION_MASK, LOOKS_PER_TURN};

/// What a thread tells of its sessions.
#[derive(Debug, Default)]
pub struct Export {
    /// By their place in the list.
    pub terms: Vec<manifest::Terms>,
    /// In the order of the table.
    pub sessions: Vec<manifest::Session>,
}

/// A session of the process before, with everything that its record only names.
#[derive(Debug)]
pub struct Import {
    /// What was told.
    pub record: manifest::Session,
    /// What it was born with.
    pub terms: Arc<Terms>,
    /// The client's socket.
    pub client: OwnedFd,
    /// The backend's socket, where there is one.
    pub backend: Option<OwnedFd>,
    /// Its place at the backend.
    pub lease: Option<Lease>,
    /// Pipes with bytes to the backend, and to the client.
    pub pipes: [Option<Pipe>; 2],
}

impl Sessions {
    /// Tells everything of every session. Changes nothing.
    pub fn export(&self, worker: u32) -> Export {
        let mut export = Export::default();
        let mut numbers: HashMap<*const Terms, u32> = HashMap::new();
        for (_, slot) in &self.slots {
            let terms = &slot.session.terms;
            let number = *numbers.entry(Arc::as_ptr(terms)).or_insert_with(|| {
                export.terms.push(terms.export());
                u32::try_from(export.terms.len() - 1).unwrap_or(u32::MAX)
            });
            export.sessions.push(slot.session.export(worker, number));
        }
        export
    }

    /// Takes a session of the process before into the table. Its place among the sessions of the process is taken already.
    /// Nothing of it is touched before [`Self::begin_imported`].
    pub fn import(&mut self, adopted: Import, cx: &mut ThreadContext) {
        adopted.terms.counters.shards.of(cx.worker).active.add(1);
        #[cfg(feature = "manifest-next")]
        adopted.terms.counters.shards.of(cx.worker).taken_over.add(1);
        let (phase, is_foreign) = (adopted.record.phase.clone(), adopted.record.is_foreign());
        let ways = [&adopted.record.to_backend, &adopted.record.to_client].into_iter().zip(&adopted.pipes);
        let lacks = ways.fold(false, |lacks, (way, pipe)| {
            pipe.iter().for_each(|pipe| cx.pipes.import(pipe));
            lacks || (matches!(way.held, manifest::Held::Piped { .. }) && pipe.is_none())
        });
        let session = Session::import(adopted);
        self.next_generation = (self.next_generation + 1) & GENERATION_MASK;
        let generation = self.next_generation;
        let key = self.slots.insert(Slot { generation, queued: false, session });
        let slot = u32::try_from(key).unwrap_or(u32::MAX);
        let session = &mut self.slots[key].session;
        // Its backend went down before it was here to be looked at.
        if session.is_to_close() {
            session.close_later(cx);
        }
        let backend_token = dial::backend_token(slot, generation);
        // Not all of it is understood here, or what was in a pipe did not come along, so that bytes of it could get lost: its
        // peers are to see a reset, and until then nothing happens to it.
        if is_foreign || lacks {
            session.deadline_moved = false;
            self.to_begin.push_back((slot, generation, ToBegin::Ends));
            return;
        }
        let watched = session.watch(Token::Session { slot, generation, side: CLIENT }, backend_token, cx);
        let next = match (watched, phase) {
            (Err(errno), _) => {
                session.error = Some(errno);
                self.to_begin.push_back((slot, generation, ToBegin::Ends));
                Next::Wait
            }
            (Ok(()), manifest::Phase::Queued(since_us, until_ms)) => {
                self.to_begin.push_back((slot, generation, ToBegin::Rejoins(since_us, until_ms)));
                Next::Wait
            }
            // What can move moves in the next turn: what the kernel reported to the process before it does not repeat.
            (Ok(()), manifest::Phase::Relaying) => Next::Again,
            (Ok(()), _) => Next::Wait,
        };
        self.follow(slot, next, cx);
    }

    /// What was imported is this process's from now on: some of those that wait for a place join their line again, in the
    /// order in which they stood, and some that cannot stay end; true: there are more.
    pub fn begin_imported(&mut self, cx: &mut ThreadContext) -> bool {
        let mut ends = 0;
        for _ in 0..LOOKS_PER_TURN {
            if ends == ENDS_PER_TURN {
                break;
            }
            let Some((slot, generation, what)) = self.to_begin.pop_front() else { return false };
            // It may have gone since, and another may stand there.
            let Some(entry) = self.slots.get_mut(slot as usize).filter(|e| e.generation == generation) else {
                continue;
            };
            let token = dial::backend_token(slot, generation);
            let next = match what {
                ToBegin::Rejoins(since_us, until_ms) => {
                    dial::rejoin(&mut entry.session, token, (since_us, until_ms), cx)
                }
                ToBegin::Ends => Next::End(Reason::HandoverFailed),
            };
            ends += usize::from(matches!(next, Next::End(_)));
            self.follow(slot, next, cx);
        }
        !self.to_begin.is_empty()
    }
}

impl Terms {
    fn export(&self) -> manifest::Terms {
        manifest::Terms {
            listener: self.listener.to_string(),
            pool: self.live.name.to_string(),
            idle_ms: self.idle_ms,
            half_closed_ms: self.half_closed_ms,
            log_sessions: self.log_sessions.word().into(),
        }
    }
}

impl Session {
    fn export(&self, worker: u32, terms: u32) -> manifest::Session {
        let relay = &self.relay;
        manifest::Session {
            worker,
            terms,
            client: self.client.export(),
            client_address: self.client_address,
            proxied: self.proxied.as_ref().map(|proxied| proxied.export()),
            local_port: self.local_port,
            backend: self.backend.as_ref().map(Side::export),
            lease: self.lease.as_ref().map(|lease| lease.backend().number),
            has_permit: self.permit.is_some(),
            phase: match self.phase {
                // In such a state as a later build might have.
                #[cfg(feature = "manifest-next")]
                Phase::AwaitingHeader { .. } => manifest::Phase::Foreign(200),
                #[cfg(not(feature = "manifest-next"))]
                Phase::AwaitingHeader { deadline_ms } => manifest::Phase::AwaitingHeader(deadline_ms),
                Phase::Dialling { began_us, deadline_ms } => manifest::Phase::Dialling(began_us, deadline_ms),
                Phase::Queued { since_us, until_ms, .. } => manifest::Phase::Queued(since_us, until_ms),
                Phase::Pausing { until_ms } => manifest::Phase::Pausing(until_ms),
                Phase::Relaying => manifest::Phase::Relaying,
                Phase::Lingering { reason, until_ms, .. } => {
                    manifest::Phase::Lingering(reason.word().into(), until_ms)
                }
            },
            to_backend: relay.to_backend.export(),
            to_client: relay.to_client.export(),
            finished_first: relay.finished_first.map(|side| u8::from(side == BACKEND)),
            moved_ms: relay.moved_ms,
            lifetime_end_ms: relay.lifetime_end_ms,
            asked_us: relay.asked_us,
            started_us: self.started_us,
            connect_us: self.connect_us,
            queue_us: self.queue_us,
            close_later_ms: self.close_later_ms,
            on_down: self.on_down.word().into(),
            attempts: self.attempts,
            tried: self.tried.clone(),
            error: self.error.map(Errno::raw_os_error),
            ends_for: self.ends_for.map_or("", Reason::word).into(),
            #[cfg(feature = "manifest-next")]
            next: self.started_us,
        }
    }

    fn import(adopted: Import) -> Self {
        let Import { record, terms, client, backend, lease, pipes: [to_backend, to_client] } = adopted;
        let phase = match record.phase {
            manifest::Phase::AwaitingHeader(deadline_ms) => Phase::AwaitingHeader { deadline_ms },
            manifest::Phase::Dialling(began_us, deadline_ms) => Phase::Dialling { began_us, deadline_ms },
            // It joins the line again when it stands in the table.
            manifest::Phase::Queued(_, until_ms) | manifest::Phase::Pausing(until_ms) => {
                Phase::Pausing { until_ms }
            }
            manifest::Phase::Relaying => Phase::Relaying,
            manifest::Phase::Lingering(reason, until_ms) => {
                let reason = Reason::named(reason.as_str()).unwrap_or(Reason::HandoverFailed);
                Phase::Lingering { reason, look_ms: 0, until_ms }
            }
            // It ends before anything happens to it.
            manifest::Phase::Foreign(_) => Phase::Pausing { until_ms: 0 },
        };
        let on_down = OnDown::named(record.on_down.as_str()).unwrap_or(OnDown::Keep);
        if let Some(lease) = lease.as_ref().filter(|_| on_down == OnDown::Close) {
            lease.backend().pool.note_closes();
        }
        let permit = terms.admission.as_ref().filter(|_| record.has_permit);
        Self {
            permit: permit.and_then(|admission| admission.import(record.client_address.ip())),
            terms,
            client: Side::import(&record.client, client),
            client_address: record.client_address,
            proxied: record.proxied.map(|proxied| Box::new(Proxied::import(proxied))),
            local_port: record.local_port,
            backend: record.backend.zip(backend).map(|(record, fd)| Side::import(&record, fd)),
            lease,
            phase,
            relay: Relay {
                to_backend: HalfDuplex::import(record.to_backend, to_backend),
                to_client: HalfDuplex::import(record.to_client, to_client),
                finished_first: record.finished_first.map(|side| if side == 0 { CLIENT } else { BACKEND }),
                moved_ms: record.moved_ms,
                lifetime_end_ms: record.lifetime_end_ms,
                asked_us: record.asked_us,
            },
            started_us: record.started_us,
            connect_us: record.connect_us,
            queue_us: record.queue_us,
            close_later_ms: record.close_later_ms,
            ends_for: Reason::named(record.ends_for.as_str()),
            on_down,
            attempts: record.attempts,
            tried: record.tried,
            error: record.error.map(Errno::from_raw_os_error),
            deadline_moved: true,
        }
    }

    fn watch(&self, client: Token, backend: Token, cx: &ThreadContext) -> Result<(), Errno> {
        cx.poller.watch_stream(&self.client.fd, client.pack())?;
        if let Some(side) = &self.backend {
            cx.poller.watch_stream(&side.fd, backend.pack())?;
        }
        Ok(())
    }
}
