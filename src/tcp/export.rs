//! Export and import of sessions, from process to process: as they stand between two steps, and gone on with from
//! there.
//!
//! What must stay true: exporting changes nothing, so that a process whose successor fails carries on as if nothing had
//! happened; importing touches no socket but to watch it, and the first step comes when the kernel says how it stands.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::first_message::FirstMessage;
use super::half_duplex::HalfDuplex;
use super::precopy::Precopied;
use super::proxy_header::Proxied;
use super::relay::Relay;
use super::session::{Next, Phase, Session};
use super::sessions::{Sessions, Slot, ToBegin};
use super::side::{BACKEND, CLIENT, Side};
use super::{Terms, ThreadContext, Token, dial};
use crate::config::settings::{OnDown, Word as _};
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
    /// Where each of them stands.
    pub places: Vec<Precopied>,
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
    /// Its place, where its sockets came before it did and are watched already.
    pub place: Option<Place>,
}

/// A place in the table that sockets are watched for before their session stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// The n-th of an empty table.
    pub fn nth(n: u32) -> Self {
        Self(n)
    }

    /// What its sockets are watched by: the client's, the backend's.
    pub fn tokens(self) -> [u64; 2] {
        let (slot, generation) = (self.0, self.generation());
        [CLIENT, BACKEND].map(|side| Token::Session { slot, generation, side }.pack())
    }

    /// Nobody stood there before, so any will do.
    fn generation(self) -> u32 {
        FIRST_GENERATION
    }
}

/// Of those with a place.
const FIRST_GENERATION: u32 = 1;

/// What is to be known of an imported session until it is settled in the table.
struct Imported {
    phase: manifest::Phase,
    /// It cannot go on here.
    incomplete: bool,
    /// Its sockets are watched already.
    watched: bool,
}

impl Sessions {
    /// Tells everything of every session. Changes nothing.
    pub fn export(&self, worker: u32) -> Export {
        let mut export = Export::default();
        let mut numbers: HashMap<*const Terms, u32> = HashMap::new();
        for (key, slot) in &self.slots {
            let terms = &slot.session.terms;
            let number = *numbers.entry(Arc::as_ptr(terms)).or_insert_with(|| {
                export.terms.push(terms.export());
                u32::try_from(export.terms.len() - 1).unwrap_or(u32::MAX)
            });
            export.sessions.push(slot.session.export(worker, number));
            let slot_number = u32::try_from(key).unwrap_or(u32::MAX);
            export.places.push(Precopied { slot: slot_number, generation: slot.generation });
        }
        export
    }

    /// Takes sessions of the process before into the table. Their places among the sessions of the process are taken already.
    /// Nothing of them is touched before [`Self::begin_imported`].
    pub fn import(&mut self, all: Vec<Import>, cx: &mut ThreadContext) {
        let mut imported = Vec::with_capacity(all.len());
        let (placed, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.place.is_some());
        if !placed.is_empty() {
            // Whoever has a place came before everybody else: the table of a process that begins is empty.
            debug_assert!(self.slots.is_empty());
            let mut slots = Vec::with_capacity(placed.len());
            for one in placed {
                let Some(place) = one.place else { continue };
                let (generation, key) = (place.generation(), place.0 as usize);
                let (session, is) = Session::arrive(one, cx);
                slots.push((key, Slot { generation, queued: false, session }));
                imported.push((key, is));
            }
            self.slots = slots.into_iter().collect();
            self.next_generation = FIRST_GENERATION;
        }
        for one in others {
            let (session, is) = Session::arrive(one, cx);
            self.next_generation = (self.next_generation + 1) & GENERATION_MASK;
            let generation = self.next_generation;
            let key = self.slots.insert(Slot { generation, queued: false, session });
            imported.push((key, is));
        }
        for (key, is) in imported {
            self.settle(key, is, cx);
        }
    }

    /// It stands in the table now.
    fn settle(&mut self, key: usize, is: Imported, cx: &mut ThreadContext) {
        let slot = u32::try_from(key).unwrap_or(u32::MAX);
        let Slot { generation, session, .. } = &mut self.slots[key];
        let generation = *generation;
        // Its backend went down before it was here to be looked at.
        if session.is_to_close() {
            session.close_later(cx);
        }
        // Not all of it is understood here, or what was in a pipe did not come along, so that bytes of it could get lost: its
        // peers are to see a reset, and until then nothing happens to it.
        if is.incomplete {
            session.deadline_moved = false;
            if is.watched {
                session.forget(cx);
            }
            self.to_begin.push_back((slot, generation, ToBegin::Ends));
            return;
        }
        let backend_token = dial::backend_token(slot, generation);
        let client_token = Token::Session { slot, generation, side: CLIENT };
        let watched = if is.watched { Ok(()) } else { session.watch(client_token, backend_token, cx) };
        let next = match (watched, is.phase) {
            (Err(errno), _) => {
                session.error = Some(errno);
                self.to_begin.push_back((slot, generation, ToBegin::Ends));
                Next::Wait
            }
            (Ok(()), manifest::Phase::Queued(since_us, until_ms)) => {
                self.to_begin.push_back((slot, generation, ToBegin::Rejoins(since_us, until_ms)));
                Next::Wait
            }
            // What can move moves in the next turn. Where nothing was left to do, what has come since is reported with all
            // that the kernel tells of a socket that is watched anew.
            (Ok(()), manifest::Phase::Relaying) if !session.is_at_rest() => Next::Again,
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
            role: self.role.word().into(),
        }
    }
}

impl Session {
    fn export(&self, worker: u32, terms: u32) -> manifest::Session {
        let relay = &self.relay;
        let asks_backend = matches!(self.phase, Phase::AskingTls { .. })
            && self.first.as_ref().is_some_and(|first| first.asks_backend);
        manifest::Session {
            worker,
            terms,
            client: self.client.export(),
            client_address: self.client_address,
            proxied: self.proxied.as_ref().map(|proxied| proxied.export()),
            local_port: self.local_port,
            backend: self.backend.as_ref().filter(|_| !asks_backend).map(Side::export),
            lease: self.lease.as_ref().filter(|_| !asks_backend).map(|lease| lease.backend().number),
            has_permit: self.permit.is_some(),
            phase: match self.phase {
                // In such a state as a later build might have.
                #[cfg(feature = "manifest-next")]
                Phase::AwaitingHeader { .. } => manifest::Phase::Foreign(200),
                #[cfg(not(feature = "manifest-next"))]
                Phase::AwaitingHeader { deadline_ms } => manifest::Phase::AwaitingHeader(deadline_ms),
                Phase::AwaitingFirst { deadline_ms } => manifest::Phase::AwaitingFirst(deadline_ms),
                Phase::Dialling { began_us, deadline_ms } => manifest::Phase::Dialling(began_us, deadline_ms),
                // Its question is still in its socket: another process lets the backend answer.
                Phase::AskingTls { .. } if asks_backend => manifest::Phase::Pausing(relay.moved_ms),
                Phase::AskingTls { began_us, deadline_ms } => {
                    manifest::Phase::AskingTls(began_us, deadline_ms)
                }
                Phase::Queued { since_us, until_ms, .. } => manifest::Phase::Queued(since_us, until_ms),
                Phase::Pausing { until_ms } => manifest::Phase::Pausing(until_ms),
                Phase::Relaying => manifest::Phase::Relaying,
                // Nothing more is said to it than was.
                Phase::Refusing { reason, until_ms, .. } | Phase::Lingering { reason, until_ms, .. } => {
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
            met_empty: self.met_empty,
            owed_since_us: self.lease.as_ref().map_or(0, Lease::owed_since_us),
            error: self.error.map(Errno::raw_os_error),
            ends_for: self.ends_for.map_or("", Reason::word).into(),
            precopied: 0,
            name: self.first.as_ref().and_then(|first| first.name.as_deref()).unwrap_or_default().to_owned(),
            promised_tls: self.first.as_ref().is_some_and(|first| first.promised_tls),
            #[cfg(feature = "manifest-next")]
            next: self.started_us,
        }
    }

    /// A session of the process before, counted here from now on.
    fn arrive(adopted: Import, cx: &mut ThreadContext) -> (Self, Imported) {
        adopted.terms.counters.shards.of(cx.worker).active.add(1);
        #[cfg(feature = "manifest-next")]
        adopted.terms.counters.shards.of(cx.worker).taken_over.add(1);
        let ways = [&adopted.record.to_backend, &adopted.record.to_client].into_iter().zip(&adopted.pipes);
        let lacks = ways.fold(false, |lacks, (way, pipe)| {
            pipe.iter().for_each(|pipe| cx.pipes.import(pipe));
            lacks || (matches!(way.held, manifest::Held::Piped { .. }) && pipe.is_none())
        });
        let is = Imported {
            phase: adopted.record.phase.clone(),
            incomplete: adopted.record.is_foreign() || lacks,
            watched: adopted.place.is_some(),
        };
        (Self::import(adopted), is)
    }

    fn import(adopted: Import) -> Self {
        let Import { record, terms, client, backend, lease, pipes: [to_backend, to_client], place: _ } =
            adopted;
        let phase = match record.phase {
            manifest::Phase::AwaitingHeader(deadline_ms) => Phase::AwaitingHeader { deadline_ms },
            manifest::Phase::AwaitingFirst(deadline_ms) => Phase::AwaitingFirst { deadline_ms },
            manifest::Phase::AskingTls(began_us, deadline_ms) => Phase::AskingTls { began_us, deadline_ms },
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
        let lease = lease.map(|mut lease| {
            lease.ask(record.owed_since_us);
            lease
        });
        let wants_first =
            matches!(phase, Phase::AwaitingFirst { .. }) || record.promised_tls || !record.name.is_empty();
        let permit = terms.admission.as_ref().filter(|_| record.has_permit);
        Self {
            permit: permit.and_then(|admission| admission.import(record.client_address.ip())),
            terms,
            client: Side::import(&record.client, client),
            client_address: record.client_address,
            proxied: record.proxied.map(|proxied| Box::new(Proxied::import(proxied))),
            first: wants_first.then(|| Box::new(FirstMessage::import(record.name, record.promised_tls))),
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
            met_empty: record.met_empty,
            goes_elsewhere: false,
            is_given: false,
            error: record.error.map(Errno::from_raw_os_error),
            deadline_moved: true,
        }
    }

    /// Nothing was left to do when it was told of.
    fn is_at_rest(&self) -> bool {
        let mut sides = [Some(&self.client), self.backend.as_ref()].into_iter().flatten();
        self.relay.to_backend.is_empty() && self.relay.to_client.is_empty() && sides.all(Side::is_at_rest)
    }

    /// What the kernel says of its sockets is no matter any more.
    fn forget(&self, cx: &ThreadContext) {
        for side in [Some(&self.client), self.backend.as_ref()].into_iter().flatten() {
            let _ = cx.poller.forget(&side.fd);
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
