//! What a process tells its successor: everything about its live sockets, as plain values and as bytes.
//!
//! Pure. A descriptor is named by its number in the process that gives it; the descriptors themselves travel beside this.
//! Times are microseconds or milliseconds of the shared clock, whose zero travels too, so they mean the same in both
//! processes. Names stand for listeners, pools and reasons; numbers stand for backends and terms, as they did in the
//! process that gives.
//!
//! Whoever changes a record changes [`VERSION`]: two processes whose versions differ do not hand over.

mod records;
mod state;
mod wire;

pub use records::{Carried, Door, Flow, FlowTerms, HalfDuplex, Held, Phase, Proxied, Session, Side, Terms};
pub use state::{Backend, BackendState, Ejection, ListenerCounts, Pool, Reach, Remembered};
pub use wire::{Broken, Bytes, Reader, Wire};

use wire::travels;

travels! {
    /// Everything.
    pub struct Manifest {
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
        /// Configurations taken and refused so far.
        pub reloads: (u64, u64),
    }
}

impl Manifest {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4_096 + 256 * (self.sessions.len() + self.flows.len()));
        self.put(&mut out);
        out
    }

    /// Of bytes; all of them must be it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Broken> {
        let mut reader = Reader::new(bytes);
        let manifest = Self::take(&mut reader)?;
        if reader.is_empty() { Ok(manifest) } else { Err(Broken) }
    }

    /// The descriptors that travel with it, each once, in the order in which they travel.
    pub fn descriptors(&self) -> Vec<i32> {
        let mut all: Vec<i32> = self.http.into_iter().chain(self.socket.iter().map(|(fd, _)| *fd)).collect();
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
        all
    }

    /// Those of them that are the two ends of TCP sessions.
    pub fn session_sockets(&self) -> impl Iterator<Item = i32> {
        self.sessions
            .iter()
            .flat_map(|session| [Some(session.client.fd), session.backend.as_ref().map(|side| side.fd)])
            .flatten()
    }
}

/// Of the records here. A process takes only what has its own.
pub const VERSION: u32 = 3;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
