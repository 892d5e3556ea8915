//! Doors, sessions and flows.

use std::net::{IpAddr, SocketAddr};

use super::wire::travels;
use super::{Broken, Bytes, Reader, Wire};

travels! {
    /// One thread's socket of a listener at one address and port.
    pub struct Door {
        /// The same for all its sockets.
        pub id: u64,
        /// Which of them, in the order in which the kernel knows them.
        pub number: u32,
        /// It takes datagrams.
        pub udp: bool,
        /// As the file has it.
        pub bind: (Option<IpAddr>, u16),
        /// As the kernel has it.
        pub address: SocketAddr,
        /// Its listener.
        pub listener: String,
        /// Datagrams that the kernel had lost there when it was last heard of.
        pub lost_seen: u32,
        /// The socket.
        pub fd: i32,
    }
}

travels! {
    /// What TCP sessions of one listener were born with.
    pub struct Terms {
        /// The listener.
        pub listener: String,
        /// Its pool, then.
        pub pool: String,
        /// `timeouts.idle`.
        pub idle_ms: Option<u64>,
        /// `timeouts.half_closed`.
        pub half_closed_ms: Option<u64>,
        /// `log_sessions`: 0 all, 1 failed, 2 off.
        pub log_sessions: u8,
    }
}

travels! {
    /// What UDP flows of one listener were born with.
    pub struct FlowTerms {
        /// The listener.
        pub listener: String,
        /// Its pool, then.
        pub pool: String,
        /// `timeouts.idle`.
        pub idle_ms: Option<u64>,
        /// `timeouts.lifetime`.
        pub lifetime_ms: Option<u64>,
        /// `udp.responses`; 0: off.
        pub responses: u32,
        /// `udp.requests`; 0: off.
        pub requests: u32,
        /// `log_sessions`: 0 all, 1 failed, 2 off.
        pub log_sessions: u8,
    }
}

travels! {
    /// A TCP session between two steps.
    pub struct Session {
        /// Whose it is.
        pub worker: u32,
        /// Of the list of [`Terms`].
        pub terms: u32,
        /// The client's end.
        pub client: Side,
        /// Who the client is.
        pub client_address: SocketAddr,
        /// Of a peer that sends PROXY headers.
        pub proxied: Option<Proxied>,
        /// The port the client came to.
        pub local_port: u16,
        /// The backend's end.
        pub backend: Option<Side>,
        /// The backend where it has a place, by its number.
        pub lease: Option<u64>,
        /// It counts in its listener's limits.
        pub has_permit: bool,
        /// Where it stands.
        pub phase: Phase,
        /// From the client.
        pub to_backend: HalfDuplex,
        /// From the backend.
        pub to_client: HalfDuplex,
        /// The side that finished first.
        pub finished_first: Option<u8>,
        /// When bytes were last delivered.
        pub moved_ms: u64,
        /// When its life is over.
        pub lifetime_end_ms: Option<u64>,
        /// Since when the backend owes a first answer.
        pub asked_us: u64,
        /// When it began.
        pub started_us: u64,
        /// How long its connect took.
        pub connect_us: Option<u64>,
        /// How long it waited in line.
        pub queue_us: Option<u64>,
        /// When it ends because its backend went down.
        pub close_later_ms: Option<u64>,
        /// `on_down`: 0 keep, 1 close, 2 rehome.
        pub on_down: u8,
        /// Attempts at a backend.
        pub attempts: u8,
        /// Backends that failed it, by their numbers.
        pub tried: Vec<u64>,
        /// The last error.
        pub error: Option<i32>,
    }
}

travels! {
    /// One socket of a session.
    pub struct Side {
        /// The socket.
        pub fd: i32,
        /// A read may give something.
        pub readable: bool,
        /// A write may find room.
        pub writable: bool,
        /// Its end was announced.
        pub ending: bool,
        /// All it will ever send was read.
        pub read_out: bool,
        /// It was told that no more will come.
        pub finished: bool,
        /// Its connection is gone.
        pub broken: Option<i32>,
        /// The kernel reported an error.
        pub failed: bool,
        /// It sent urgent data.
        pub urgent: bool,
    }
}

travels! {
    /// One direction of a session.
    pub struct HalfDuplex {
        /// Delivered so far.
        pub delivered_bytes: u64,
        /// Read and not yet written.
        pub held: Held,
        /// It moves bulk: 0 copying, 1 splicing, 2 copying for good.
        pub mode: u8,
        /// Of what is held, so many bytes are ours.
        pub lead_bytes: u16,
        /// Reads in a row that filled the buffer.
        pub full_reads: u8,
    }
}

travels! {
    /// What a PROXY header said.
    pub struct Proxied {
        /// Who connected.
        pub peer: SocketAddr,
        /// Whom it carried.
        pub carried: Carried,
        /// To be passed on.
        pub tlvs: Bytes,
    }
}

travels! {
    /// A UDP flow.
    pub struct Flow {
        /// Whose it is.
        pub worker: u32,
        /// Of the list of [`FlowTerms`].
        pub terms: u32,
        /// The door it came through.
        pub door: u64,
        /// Who sends.
        pub client: SocketAddr,
        /// Where to.
        pub local: SocketAddr,
        /// What a PROXY header said.
        pub proxied: Option<Proxied>,
        /// When it was admitted.
        pub began_ms: u64,
        /// When the client sent last.
        pub client_ms: u64,
        /// When the backend sent last.
        pub backend_ms: u64,
        /// Datagrams and bytes from the client.
        pub to_backend: (u64, u64),
        /// Datagrams and bytes from the backend.
        pub to_client: (u64, u64),
        /// Replies still to come.
        pub owed: u32,
        /// Datagrams since the last pick.
        pub since_pick: u32,
        /// Times it got another backend.
        pub rehomed: u32,
        /// When its life is over.
        pub lifetime_end_ms: u64,
        /// The socket towards its backend.
        pub fd: i32,
        /// The backend where it has a place, by its number.
        pub lease: u64,
        /// The backend's address.
        pub backend: SocketAddr,
        /// The address and port it is connected from; those of the client where `true`.
        pub origin: (SocketAddr, bool),
        /// `on_down`: 0 keep, 1 close, 2 rehome.
        pub on_down: u8,
        /// Its first datagram is to have the PROXY header in front.
        pub owes_header: bool,
        /// A refusal came back since the client sent last.
        pub refused: bool,
        /// Since when the backend owes its first answer.
        pub asked_us: u64,
        /// It has answered.
        pub answered: bool,
    }
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Waits for its PROXY header until then.
    AwaitingHeader(u64),
    /// A connect has been under way since (microseconds), until (milliseconds).
    Dialling(u64, u64),
    /// In the line for a place since (microseconds), until (milliseconds).
    Queued(u64, u64),
    /// The next attempt comes then.
    Pausing(u64),
    /// Bytes flow.
    Relaying,
    /// One side is gone, for this reason; the other gets its reset then at the latest.
    Lingering(String, u64),
}

/// What was read and not yet written.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// These bytes.
    Bytes(Bytes),
    /// What is in a pipe.
    Piped {
        /// Where it is read.
        read_end: i32,
        /// Where it is written.
        write_end: i32,
        /// How much there is.
        held_bytes: u64,
        /// How much there can be.
        size_bytes: u64,
    },
}

/// Whom a PROXY header carried.
#[derive(Debug, Clone, PartialEq)]
pub enum Carried {
    /// This client, who came there.
    Proxy(SocketAddr, SocketAddr),
    /// The proxy itself.
    Local,
    /// Somebody.
    Unknown,
}

impl Wire for Phase {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::AwaitingHeader(until_ms) => (0_u8, *until_ms).put(out),
            Self::Dialling(since_us, until_ms) => (1_u8, (*since_us, *until_ms)).put(out),
            Self::Queued(since_us, until_ms) => (2_u8, (*since_us, *until_ms)).put(out),
            Self::Pausing(until_ms) => (3_u8, *until_ms).put(out),
            Self::Relaying => 4_u8.put(out),
            Self::Lingering(reason, until_ms) => {
                5_u8.put(out);
                reason.put(out);
                until_ms.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(match u8::take(from)? {
            0 => Self::AwaitingHeader(u64::take(from)?),
            1 => Self::Dialling(u64::take(from)?, u64::take(from)?),
            2 => Self::Queued(u64::take(from)?, u64::take(from)?),
            3 => Self::Pausing(u64::take(from)?),
            4 => Self::Relaying,
            5 => Self::Lingering(String::take(from)?, u64::take(from)?),
            _ => return Err(Broken),
        })
    }
}

impl Wire for Held {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => 0_u8.put(out),
            Self::Bytes(bytes) => {
                1_u8.put(out);
                bytes.put(out);
            }
            Self::Piped { read_end, write_end, held_bytes, size_bytes } => {
                2_u8.put(out);
                ((*read_end, *write_end), (*held_bytes, *size_bytes)).put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(match u8::take(from)? {
            0 => Self::Nothing,
            1 => Self::Bytes(Bytes::take(from)?),
            2 => {
                let ((read_end, write_end), (held_bytes, size_bytes)) = Wire::take(from)?;
                Self::Piped { read_end, write_end, held_bytes, size_bytes }
            }
            _ => return Err(Broken),
        })
    }
}

impl Wire for Carried {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Proxy(source, destination) => (0_u8, (*source, *destination)).put(out),
            Self::Local => 1_u8.put(out),
            Self::Unknown => 2_u8.put(out),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(match u8::take(from)? {
            0 => Self::Proxy(SocketAddr::take(from)?, SocketAddr::take(from)?),
            1 => Self::Local,
            2 => Self::Unknown,
            _ => return Err(Broken),
        })
    }
}
