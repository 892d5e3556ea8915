//! Export and import of flows, from process to process. Between two turns nothing of a datagram is left here: what
//! waits, waits in the sockets, and goes with them. But for the backlogs of doors that are full (`backlog`): those stay, and
//! are told, so that the next process counts them as dropped.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::backlog::Backlog;
use super::proxy_header::Proxied;
use super::pump::{Pump, Side, ToEnd};
use super::upstream::Upstream;
use super::{Door, Terms, close};
use crate::flow::{Ended, Flow, FlowId, FlowKey, FlowRecord, Traffic};
use crate::manifest;
use crate::metrics::ListenerCounters;
use crate::pool::Lease;
use crate::reason::Reason;
use crate::thread_context::{ENDS_PER_TURN, ThreadContext, Token};

/// What a thread tells of its flows.
#[derive(Debug, Default)]
pub struct Export {
    /// By their place in the list.
    pub terms: Vec<manifest::FlowTerms>,
    /// In the order of the table.
    pub flows: Vec<manifest::Flow>,
    /// Replies that wait here for room at a door of this listener: they do not go along.
    pub unsent: Vec<(Arc<ListenerCounters>, u64)>,
}

/// A flow of the process before, with everything that its record only names.
#[derive(Debug)]
pub struct Import {
    /// What was told.
    pub record: manifest::Flow,
    /// What it was born with.
    pub terms: Arc<Terms>,
    /// Its socket.
    pub fd: OwnedFd,
    /// Its place at the backend.
    pub lease: Lease,
}

impl Pump {
    /// Tells everything of every flow. Changes nothing.
    pub fn export(&self, worker: u32) -> Export {
        let mut export = Export::default();
        let mut numbers: HashMap<*const Terms, u32> = HashMap::new();
        for side in self.sides.iter().flatten() {
            let Some(flow_record) = self.flows.record(side.id) else { continue };
            let number = *numbers.entry(Arc::as_ptr(&side.terms)).or_insert_with(|| {
                export.terms.push(side.terms.export());
                u32::try_from(export.terms.len() - 1).unwrap_or(u32::MAX)
            });
            let door = self.doors.get(side.door).map_or(0, |door| door.id);
            export.flows.push(side.export(worker, number, door, &flow_record));
        }
        export.unsent = self.unsent();
        export
    }

    /// Sockets of doors: the door's id, the number among its sockets, the socket, and how many datagrams the kernel had lost
    /// there.
    pub fn export_doors(&self) -> impl Iterator<Item = (u64, u32, RawFd, u32)> {
        let tell = |(_, door): (u32, &Door)| (door.id, door.number, door.fd.as_raw_fd(), door.lost_seen);
        self.doors.iter().map(tell)
    }

    fn unsent(&self) -> Vec<(Arc<ListenerCounters>, u64)> {
        let of_door = |(number, backlog): (&u32, &Backlog)| {
            Some((Arc::clone(&self.doors.get(*number)?.terms.counters), backlog.len() as u64))
        };
        self.backlogs.iter().filter_map(of_door).filter(|(_, waiting)| *waiting > 0).collect()
    }

    /// The kernel had lost so many datagrams at this socket when the process before was last told.
    pub fn import_lost(&mut self, (id, number, lost_seen): (u64, u32, u32)) {
        if let Some(door) = self.doors.iter_mut().find(|door| (door.id, door.number) == (id, number)) {
            door.lost_seen = lost_seen;
        }
    }

    /// Takes a flow of the process before into the table. Its door must be open here. Nothing of it is touched before
    /// [`Self::begin_imported`]: one that cannot stay ends there.
    pub fn import(&mut self, adopted: Import, cx: &mut ThreadContext) {
        let Import { mut record, terms, fd, lease } = adopted;
        let is_foreign = record.is_foreign();
        let proxied = record.proxied.take().map(|proxied| Box::new(Proxied::import(proxied)));
        let (client, local) = (record.client, record.local);
        let door = self.doors.iter().find(|(_, door)| door.id == record.door).map(|(number, _)| number);
        let door = door.unwrap_or(u32::MAX);
        let flow_record = lasting_of(&record);
        terms.counters.shards.of(cx.worker).active.add(1);
        let upstream = Upstream::import(&record, fd, lease, &mut self.origins);
        let mut side = Side {
            id: FlowId { index: 0, generation: 0 },
            terms,
            door,
            client,
            proxied,
            local,
            upstream,
            takes_no_parts: false,
        };
        // Its client may have begun it anew with another thread's datagram meanwhile: then this one is over.
        let Some(id) = self.flows.import(&flow_record, side.origin().ip(), &side.terms.flow) else {
            self.to_end.push(ToEnd::Outside(Box::new((side, flow_record.flow))));
            return;
        };
        let watched = cx.poller.watch_input(side.upstream.fd(), Token::Flow(id.pack()).pack()).is_ok();
        side.id = id;
        let place = id.index as usize;
        if self.sides.len() <= place {
            self.sides.resize_with(place + 1, || None);
        }
        self.sides[place] = Some(side);
        let over = match &self.sides[place] {
            _ if !watched || is_foreign => Some(Reason::HandoverFailed),
            _ if door == u32::MAX => Some(Reason::Drained),
            // Its backend went down before it was here to be looked at.
            Some(side) if side.upstream.ends_for().is_some() => side.upstream.ends_for(),
            _ => None,
        };
        self.to_end.extend(over.map(|reason| ToEnd::InTable(id, reason)));
    }

    /// What was imported is this process's from now on: some of what cannot stay ends; true: there is more.
    pub fn begin_imported(&mut self, cx: &mut ThreadContext) -> bool {
        for _ in 0..ENDS_PER_TURN {
            match self.to_end.pop() {
                // One that has ended by itself meanwhile is not there.
                Some(ToEnd::InTable(id, reason)) => drop(self.flows.end(id, reason)),
                Some(ToEnd::Outside(outside)) => {
                    let (side, flow) = *outside;
                    let counts = side.terms.counters.shards.of(cx.worker);
                    counts.active.sub(1);
                    counts.ended(Reason::Drained).add(1);
                    close::log(&side, &Ended { id: side.id, reason: Reason::Drained, flow }, cx);
                    side.upstream.close(&mut self.origins);
                }
                None => break,
            }
        }
        self.close_ended(cx);
        !self.to_end.is_empty()
    }
}

impl Side {
    fn export(&self, worker: u32, terms: u32, door: u64, flow_record: &FlowRecord) -> manifest::Flow {
        let flow = &flow_record.flow;
        let mut record = manifest::Flow {
            worker,
            terms,
            door,
            client: self.client,
            local: self.local,
            proxied: self.proxied.as_ref().map(|proxied| proxied.export(self.client)),
            began_ms: flow.began_ms,
            client_ms: flow.client_ms,
            backend_ms: flow.backend_ms,
            to_backend: (flow.to_backend.datagrams, flow.to_backend.bytes),
            to_client: (flow.to_client.datagrams, flow.to_client.bytes),
            owed: flow_record.owed,
            since_pick: flow_record.since_pick,
            rehomed: flow.rehomed,
            lifetime_end_ms: flow_record.lifetime_end_ms,
            fd: -1,
            lease: 0,
            backend: self.client,
            origin: (self.client, false),
            on_down: "".into(),
            owes_header: false,
            refused: false,
            asked_us: 0,
            answered: false,
            refusals: 0,
            is_exclusive: false,
            #[cfg(feature = "manifest-next")]
            next: "flow".to_owned(),
        };
        self.upstream.export(&mut record);
        record
    }
}

impl Terms {
    fn export(&self) -> manifest::FlowTerms {
        manifest::FlowTerms {
            listener: self.listener.to_string(),
            pool: self.live.name.to_string(),
            idle_ms: self.flow.idle_ms,
            lifetime_ms: self.flow.lifetime_ms,
            responses: self.flow.responses.map_or(0, std::num::NonZeroU32::get),
            requests: self.flow.requests.map_or(0, std::num::NonZeroU32::get),
            log_sessions: self.log_sessions.word().into(),
        }
    }
}

fn lasting_of(record: &manifest::Flow) -> FlowRecord {
    let traffic = |(datagrams, bytes)| Traffic { datagrams, bytes };
    FlowRecord {
        flow: Flow {
            key: FlowKey { client: record.client, local: record.local },
            began_ms: record.began_ms,
            client_ms: record.client_ms,
            backend_ms: record.backend_ms,
            to_backend: traffic(record.to_backend),
            to_client: traffic(record.to_client),
            rehomed: record.rehomed,
        },
        owed: record.owed,
        since_pick: record.since_pick,
        lifetime_end_ms: record.lifetime_end_ms,
    }
}
