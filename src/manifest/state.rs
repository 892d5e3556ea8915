//! What is known and counted of listeners, pools and backends.

use std::net::IpAddr;

use super::wire::travels;

travels! {
    /// What a listener counted.
    pub struct ListenerCounts {
        /// Its name.
        pub listener: String,
        /// `tcp` or `udp`.
        pub proto: String,
        /// Its pool.
        pub pool: String,
        /// In the order in which the counters stand; those of living sessions are not among them.
        pub counts: Vec<u64>,
    }
}

travels! {
    /// A pool.
    pub struct Pool {
        /// Its name.
        pub name: String,
        /// In the order in which the counters stand.
        pub counts: Vec<u64>,
        /// Where sources were sent last, the least recently used first.
        pub remembered: Vec<Remembered>,
        /// Its backends, those that left and still have sessions at the end.
        pub backends: Vec<Backend>,
        /// How its backends are reached, for a pool that has left the file.
        pub reach: Reach,
    }
}

travels! {
    /// How the backends of a pool are reached.
    pub struct Reach {
        /// `send_proxy`: 0 off, 1 and 2 the versions.
        pub send_proxy: u8,
        /// `on_down`: 0 keep, 1 close, 2 rehome.
        pub on_down: u8,
        /// How long one attempt may take.
        pub connect_ms: u64,
        /// Attempts for a session.
        pub attempts: u8,
        /// `connect_from`: the client's own.
        pub from_client: bool,
        /// `connect_from`: these.
        pub from: Vec<IpAddr>,
    }
}

travels! {
    /// An entry of a sticky table.
    pub struct Remembered {
        /// The source.
        pub source: IpAddr,
        /// Its backend.
        pub backend: String,
        /// When it came last.
        pub used_ms: u64,
    }
}

travels! {
    /// A backend.
    pub struct Backend {
        /// No other backend of that process had it.
        pub number: u64,
        /// Its name.
        pub name: String,
        /// Its address.
        pub ip: IpAddr,
        /// Its port; `None`: that of its listener.
        pub port: Option<u16>,
        /// In the order in which the counters stand.
        pub counts: Vec<u64>,
        /// Its checks and ejections.
        pub checks: Vec<u64>,
        /// Failures of real traffic since its last success.
        pub failures_in_a_row: u32,
        /// When real traffic last failed there; 0: never.
        pub failed_ms: u64,
        /// What a connect is expected to take.
        pub latency_ns: Option<u64>,
        /// How it stands; `None`: it left the file.
        pub state: Option<BackendState>,
    }
}

travels! {
    /// What is known of one backend.
    pub struct BackendState {
        /// By its word: `unchecked`, `untested`, `added`, `up`, `down`.
        pub health: String,
        /// Why it is down.
        pub cause: Option<String>,
        /// Since when.
        pub since_ms: u64,
        /// How it was ejected.
        pub ejection: Ejection,
        /// It came back then, and so many tenths of its weight count.
        pub rising: Option<(u64, u16)>,
        /// What an operator said of it by its word, who, and when.
        pub marked: Option<(String, (String, u64))>,
        /// Set at run time.
        pub weight: Option<u16>,
    }
}

travels! {
    /// The ejections of one backend.
    pub struct Ejection {
        /// The one that lasts: since, until.
        pub out: Option<(u64, u64)>,
        /// How many count as in a row.
        pub in_a_row: u32,
        /// When the last one ended.
        pub ended_ms: u64,
        /// Since when it has been quiet.
        pub quiet_since_ms: Option<u64>,
    }
}
