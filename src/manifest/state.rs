//! What is known and counted of listeners, pools and backends.

use std::net::IpAddr;

use super::wire::travels;
use super::{Broken, Reader, Wire, Word, Writer};

/// A counter by its words. It stays as it is for ever; a reader keeps those that it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// What is counted: `sessions`, `bytes`, ...
    pub family: Word,
    /// Of which kind: a reason, a direction, ...; empty where there is only one.
    pub word: Word,
    /// How much there is.
    pub value: u64,
}

impl Wire for Count {
    fn put(&self, out: &mut Writer) {
        self.family.put(out);
        self.word.put(out);
        self.value.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(Self { family: Word::take(from)?, word: Word::take(from)?, value: u64::take(from)? })
    }
}

travels! {
    /// What a listener counted.
    pub struct ListenerCounts {
        /// Its name.
        pub listener: String,
        /// `tcp` or `udp`.
        pub proto: String,
        /// Its pool.
        pub pool: String,
        /// Everything that is counted of it; living sessions are not.
        pub counts: Vec<Count>,
        /// What was taken of its rates and is not there again yet.
        pub rates: Option<Rates> = None,
    }
}

travels! {
    /// What was taken of the rates of a listener. Times are of the shared clock.
    pub struct Rates {
        /// All sources together: the time between two sessions, and when there is the whole second's worth again.
        pub whole: Option<(u64, u64)>,
        /// Each source by itself.
        pub of_sources: Option<RatesOfSources> = None,
    }
}

travels! {
    /// What sources owe, by a hash.
    pub struct RatesOfSources {
        /// The time between two sessions of one source.
        pub interval_ns: u64,
        /// The key of the hash.
        pub key: (u64, u64),
        /// The hash, and when there is the whole second's worth again.
        pub owing: Vec<(u64, u64)>,
    }
}

travels! {
    /// A pool.
    pub struct Pool {
        /// Its name.
        pub name: String,
        /// Everything that is counted of it.
        pub counts: Vec<Count>,
        /// Where sources were sent last, the least recently used first.
        pub remembered: Vec<Remembered>,
        /// Its backends, those that left and still have sessions at the end.
        pub backends: Vec<Backend>,
        /// How its backends are reached, for a pool that has left the file.
        pub reach: Reach,
        /// What is believed of roles, where its check tells them.
        pub roles: Option<PoolRoles> = None,
        /// What its sources had found.
        pub sources: Vec<Source> = Vec::new(),
    }
}

travels! {
    /// What a source of backends had found.
    pub struct Source {
        /// The entry of the file.
        pub text: String,
        /// The addresses.
        pub found: Vec<IpAddr>,
        /// Where a name that is one backend is.
        pub current: Option<IpAddr>,
        /// When it answered last.
        pub answered_ms: Option<u64>,
        /// Since when it fails.
        pub failing_since_ms: Option<u64>,
        /// What one had listed that tells more than addresses.
        pub listed: Vec<FoundBackend> = Vec::new(),
    }
}

travels! {
    /// A backend that a source had listed.
    pub struct FoundBackend {
        /// Its own name.
        pub name: Option<String>,
        /// Where it answers.
        pub ip: IpAddr,
        /// Its port.
        pub port: Option<u16>,
        /// Its share of what is new.
        pub weight: Option<u16>,
        /// Its tier.
        pub tier: Option<u8>,
        /// Its sessions at once.
        pub max_sessions: Option<u32>,
        /// Why it gets nothing new.
        pub drains: Option<String>,
    }
}

travels! {
    /// What is believed of the roles of a pool.
    pub struct PoolRoles {
        /// The backend that is believed to be the primary.
        pub primary: Option<String>,
        /// The highest generation that was ever believed of each cluster, that of the pool last.
        pub generations: Vec<(String, u64)>,
    }
}

travels! {
    /// What a server said of its role.
    pub struct ServerRole {
        /// By its word: `primary`, `replica`; `None`: nothing that counts.
        pub claim: Option<String>,
        /// Of which generation: the cluster, and the number.
        pub generation: Option<(String, u64)>,
        /// The order in which servers began to say what they say.
        pub claimed: u64,
        /// Its last question got no answer.
        pub is_silent: bool,
        /// It was too far behind.
        pub is_lagging: bool,
    }
}

travels! {
    /// How the backends of a pool are reached.
    pub struct Reach {
        /// `send_proxy`.
        pub send_proxy: Word,
        /// `on_down`.
        pub on_down: Word,
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
        /// For which role.
        pub role: Word = "any".into(),
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
        /// Everything that is counted of it.
        pub counts: Vec<Count>,
        /// Its checks and ejections.
        pub checks: Vec<Count>,
        /// Failures of real traffic since its last success.
        pub failures_in_a_row: u32,
        /// When real traffic last failed there; 0: never.
        pub failed_ms: u64,
        /// What a connect is expected to take.
        pub latency_ns: Option<u64>,
        /// How it stands; `None`: it left the file.
        pub state: Option<BackendState>,
        /// What it said of its role; `None`: nobody asked.
        pub role: Option<ServerRole> = None,
        /// When it left the list; `None`: it is there, or nobody noted when.
        pub left_ms: Option<u64> = None,
        /// Sessions in a row that it ended without a byte.
        pub empty_in_a_row: u32 = 0,
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
        /// What the last one was for, by its word.
        pub cause: Word = "failures".into(),
    }
}
