//! Doors, sessions and flows.

use std::net::{IpAddr, SocketAddr};

use super::wire::travels;
use super::{Bytes, Carried, Held, Phase, Word};

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
        /// `log_sessions`.
        pub log_sessions: Word,
        /// `role`, of the listener or the route; empty: that of the listener.
        pub role: Word = "".into(),
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
        /// `log_sessions`.
        pub log_sessions: Word,
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
        /// The side that finished first: 0 the client, 1 the backend.
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
        /// `on_down`.
        pub on_down: Word,
        /// Attempts at a backend.
        pub attempts: u8,
        /// Backends that failed it, by their numbers.
        pub tried: Vec<u64>,
        /// The last error.
        pub error: Option<i32>,
        /// Why it ends at `close_later_ms`, by the word of the reason; empty: its backend went down.
        pub ends_for: Word = "".into(),
        /// Its two sockets went ahead, as so many-th of its worker's; 0: they come along.
        pub precopied: u32 = 0,
        /// Its last backend ended without a byte, and another is looked for.
        pub met_empty: bool = false,
        /// Since when the backend owes an answer to what the client said last; 0: it owes none, or nobody noted it.
        pub owed_since_us: u64 = 0,
        /// What it asked for by name; empty: nothing.
        pub name: String = String::new(),
        /// It was told that it may begin with TLS, and its backend is still to be asked for that.
        pub promised_tls: bool = false,
        /// What a later build might add.
        #[cfg(feature = "manifest-next")]
        pub next: u64 = 0,
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
        /// How it moves bytes: `copy`, `splice`, `copy_only`.
        pub mode: Word,
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
        /// `on_down`.
        pub on_down: Word,
        /// Its first datagram is to have the PROXY header in front.
        pub owes_header: bool,
        /// A refusal came back since the client sent last.
        pub refused: bool,
        /// Since when the backend owes its first answer.
        pub asked_us: u64,
        /// It has answered.
        pub answered: bool,
        /// Refusals since the last answer.
        pub refusals: u32 = 0,
        /// Nobody but this process can have its socket's port.
        pub is_exclusive: bool = false,
        /// What a later build might add.
        #[cfg(feature = "manifest-next")]
        pub next: String = String::new(),
    }
}

#[cfg(feature = "manifest-next")]
travels! {
    /// A record that only a later build might have, with a descriptor of its own.
    pub struct Next {
        /// What it is.
        pub about: String,
        /// Its descriptor.
        pub fd: i32,
    }
}

impl Session {
    /// It is in a state that this program has no word for: nobody here can go on with it.
    pub fn is_foreign(&self) -> bool {
        matches!(self.phase, Phase::Foreign(_))
            || [&self.to_backend, &self.to_client].iter().any(|way| matches!(way.held, Held::Foreign(_)))
            || self.proxied.as_ref().is_some_and(Proxied::is_foreign)
    }
}

impl Flow {
    /// Likewise.
    pub fn is_foreign(&self) -> bool {
        self.proxied.as_ref().is_some_and(Proxied::is_foreign)
    }
}

impl Proxied {
    fn is_foreign(&self) -> bool {
        matches!(self.carried, Carried::Foreign(_))
    }
}
