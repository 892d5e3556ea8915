//! Manifest of a handover (its state and wire format): everything that a process tells its successor about its live
//! sockets, as plain values and as bytes.
//!
//! Pure. A descriptor is named by its number in the process that gives it; the descriptors themselves travel beside this,
//! in the order of a list that is part of it. Times are microseconds or milliseconds of the shared clock, whose zero
//! travels too, so they mean the same in both processes. Names stand for listeners and pools, words for reasons, counters
//! and settings; numbers stand for backends and terms, as they did in the process that gives.
//!
//! ```text
//!  manifest = (kind u16, record) ...  end      head, descriptors, words, doors, listeners, pools, terms, sessions, flows
//!  record   = length u32, fields               in an order that only grows at its end
//!  variant  = number u8, record                where a session stands, what it holds, whom a header carried
//! ```
//!
//! What may change, so that builds before and after it hand over to each other, both ways, with every session:
//!
//! - A field more: at the end of its record or variant, with the value that stands for it where it is not there
//!   (`pub field: Kind = value`). Older builds skip it.
//! - A field less: it stays in its place and is written as a value that means nothing.
//! - A kind of records more, also one that names descriptors: older builds skip it, and close those that nobody takes.
//! - A kind of phase, of what is held, of what a header carried: an older build ends those sessions, and no others, as
//!   `handover_failed`. So it is worth a thought what older ones would make of it.
//! - A counter or a reason more: an older build keeps it by its word and passes it on. Words of settings that are not known
//!   mean their default.
//!
//! Whoever does any of this raises [`VERSION`] and keeps what is written then (`tests/manifests`). Whoever makes something
//! mean another thing than before, so that an older build would get it wrong, raises [`OLDEST_READER`]; whoever stops
//! reading what older ones wrote raises [`OLDEST_READ`]. Both end sessions at an upgrade, so there must be no other way.

mod kinds;
#[cfg(test)]
mod made;
mod records;
mod state;
mod version;
mod wire;
mod word;

pub use kinds::{Carried, Held, Phase};
#[cfg(feature = "manifest-next")]
pub use records::Next;
pub use records::{Door, Flow, FlowTerms, HalfDuplex, Proxied, Session, Side, Terms};
pub use state::{
    Backend, BackendState, Count, Ejection, FoundBackend, ListenerCounts, Pool, PoolRoles, Rates,
    RatesOfSources, Reach, Remembered, ServerRole, Source,
};
pub use version::{Misfit, OLDEST_READ, OLDEST_READER, Reads, VERSION, may_be_read};
pub use wire::{Broken, Bytes, Reader, Wire, Writer};
pub use word::Word;

use wire::travels;

/// Everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// What there is one of.
    pub head: Head,
    /// Doors, in the order in which the kernel knows those of one address.
    pub doors: Vec<Door>,
    /// What sessions were born with, and what their listeners counted.
    pub listeners: Vec<ListenerCounts>,
    /// Pools and their backends.
    pub pools: Vec<Pool>,
    /// By the numbers in sessions.
    pub terms: Vec<Terms>,
    /// By the numbers in flows.
    pub flow_terms: Vec<FlowTerms>,
    /// TCP sessions.
    pub sessions: Vec<Session>,
    /// UDP flows.
    pub flows: Vec<Flow>,
    /// What a later build might have.
    #[cfg(feature = "manifest-next")]
    pub next: Vec<Next>,
}

travels! {
    /// What there is one of.
    pub struct Head {
        /// The program that wrote it, for people.
        pub program: String,
        /// The configuration that it served, as text: a successor begins with it.
        pub config: String,
        /// The file that the text is of, for people.
        pub config_path: String,
        /// The zero of the shared clock, in nanoseconds of the system's monotonic one.
        pub epoch_ns: u64,
        /// Its data threads.
        pub workers: u32,
        /// The listening socket of `admin.http`.
        pub http: Option<i32>,
        /// The listening socket of `admin.socket`, and where it is.
        pub socket: Option<(i32, String)>,
        /// Configurations taken and refused so far.
        pub reloads: (u64, u64),
        /// The listening socket of `admin.ready`.
        pub ready: Option<i32> = None,
        /// Who wants nobody sent to this machine, and since when in seconds since 1970.
        pub withdrawn: Option<(String, u64)> = None,
        /// The configuration without what was changed at run time, where something was.
        pub base: Option<String> = None,
        /// What was.
        pub run_time: Option<String> = None,
    }
}

travels! {
    /// The descriptors that travel, in their order: also those that only records name which a reader skips.
    struct Descriptors {
        /// Their numbers.
        pub numbers: Vec<i32>,
    }
}

travels! {
    /// The words of the manifest.
    struct Listed {
        /// By their numbers.
        pub words: Vec<String>,
    }
}

impl Manifest {
    /// One without doors, pools and sessions.
    pub fn new(head: Head) -> Self {
        Self {
            head,
            doors: Vec::new(),
            listeners: Vec::new(),
            pools: Vec::new(),
            terms: Vec::new(),
            flow_terms: Vec::new(),
            sessions: Vec::new(),
            flows: Vec::new(),
            #[cfg(feature = "manifest-next")]
            next: Vec::new(),
        }
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(Writer::with_capacity(4_096 + 256 * (self.sessions.len() + self.flows.len())))
    }

    fn encode_with(&self, mut out: Writer) -> Vec<u8> {
        put_all(HEAD, std::slice::from_ref(&self.head), &mut out);
        put_all(DESCRIPTORS, &[Descriptors { numbers: self.descriptors() }], &mut out);
        put_all(DOOR, &self.doors, &mut out);
        put_all(LISTENER, &self.listeners, &mut out);
        put_all(POOL, &self.pools, &mut out);
        put_all(TERMS, &self.terms, &mut out);
        put_all(FLOW_TERMS, &self.flow_terms, &mut out);
        put_all(SESSION, &self.sessions, &mut out);
        put_all(FLOW, &self.flows, &mut out);
        #[cfg(feature = "manifest-next")]
        put_all(NEXT, &self.next, &mut out);
        // Known when everything else is written; whoever reads looks for them first.
        let words = Listed { words: out.words() };
        put_all(WORDS, &[words], &mut out);
        END.put(&mut out);
        out.record(|_| ());
        out.into_bytes()
    }

    /// Of bytes, all of which must be it, and the descriptors that travel with it, in their order.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Vec<i32>), Broken> {
        let words = words_of(bytes)?;
        let mut reader = Reader::with_words(bytes, &words);
        let from = &mut reader;
        let (mut head, mut descriptors) = (None, None);
        let mut all = Self::new(Head::nobody());
        loop {
            match u16::take(from)? {
                END => break,
                HEAD => once(&mut head, Head::take(from)?)?,
                DESCRIPTORS => once(&mut descriptors, Descriptors::take(from)?)?,
                DOOR => all.doors.push(Wire::take(from)?),
                LISTENER => all.listeners.push(Wire::take(from)?),
                POOL => all.pools.push(Wire::take(from)?),
                TERMS => all.terms.push(Wire::take(from)?),
                FLOW_TERMS => all.flow_terms.push(Wire::take(from)?),
                SESSION => all.sessions.push(Wire::take(from)?),
                FLOW => all.flows.push(Wire::take(from)?),
                #[cfg(feature = "manifest-next")]
                NEXT => all.next.push(Wire::take(from)?),
                // Of a later build, or the words, which were read already.
                _ => {
                    from.record()?;
                }
            }
        }
        all.head = head.ok_or(Broken)?;
        Ok((all, descriptors.ok_or(Broken)?.numbers))
    }

    /// The numbers of its backends.
    pub fn backends(&self) -> impl Iterator<Item = u64> {
        self.pools.iter().flat_map(|pool| &pool.backends).map(|backend| backend.number)
    }

    /// The descriptors that its records name.
    pub fn descriptors(&self) -> Vec<i32> {
        let head = &self.head;
        let mut all: Vec<i32> =
            head.http.into_iter().chain(head.ready).chain(head.socket.iter().map(|(fd, _)| *fd)).collect();
        all.extend(self.doors.iter().map(|door| door.fd));
        all.extend(self.session_sockets());
        for session in &self.sessions {
            for way in [&session.to_backend, &session.to_client] {
                if let Held::Piped { read_end, write_end, .. } = way.held {
                    all.extend([read_end, write_end]);
                }
            }
        }
        all.extend(self.flows.iter().map(|flow| flow.fd));
        #[cfg(feature = "manifest-next")]
        all.extend(self.next.iter().map(|next| next.fd));
        all
    }

    /// Those of them that are the two ends of TCP sessions, but for those that went ahead.
    pub fn session_sockets(&self) -> impl Iterator<Item = i32> {
        let along = self.sessions.iter().filter(|session| session.precopied == 0);
        along
            .flat_map(|session| [Some(session.client.fd), session.backend.as_ref().map(|side| side.fd)])
            .flatten()
    }
}

impl Head {
    /// Until the real one is read.
    fn nobody() -> Self {
        Self {
            program: String::new(),
            config: String::new(),
            config_path: String::new(),
            epoch_ns: 0,
            workers: 0,
            http: None,
            socket: None,
            reloads: (0, 0),
            ready: None,
            withdrawn: None,
            base: None,
            run_time: None,
        }
    }
}

fn put_all<T: Wire>(kind: u16, records: &[T], out: &mut Writer) {
    for record in records {
        kind.put(out);
        record.put(out);
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Broken> {
    if place.replace(value).is_some() { Err(Broken) } else { Ok(()) }
}

/// The words of a whole manifest: its records follow each other up to the last, and nothing is behind that.
fn words_of(bytes: &[u8]) -> Result<Vec<Word>, Broken> {
    let mut reader = Reader::new(bytes);
    let mut words = None;
    loop {
        match u16::take(&mut reader)? {
            END => break,
            WORDS => once(&mut words, Listed::take(&mut reader)?)?,
            _ => {
                reader.record()?;
            }
        }
    }
    reader.record()?;
    let words = words.filter(|_| reader.is_empty()).ok_or(Broken)?;
    Ok(words.words.into_iter().map(Word::from).collect())
}

// Kinds of records, by numbers that are theirs for ever.
const END: u16 = 0;
const HEAD: u16 = 1;
const DESCRIPTORS: u16 = 2;
const WORDS: u16 = 3;
const DOOR: u16 = 4;
const LISTENER: u16 = 5;
const POOL: u16 = 6;
const TERMS: u16 = 7;
const FLOW_TERMS: u16 = 8;
const SESSION: u16 = 9;
const FLOW: u16 = 10;
/// Of no build that serves anybody.
#[cfg(feature = "manifest-next")]
const NEXT: u16 = 60_000;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
