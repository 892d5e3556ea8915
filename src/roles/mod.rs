//! Roles of a replicated pool (failover, leader detection, fencing by generation): which of its servers is believed to be the
//! primary, which may serve as replicas, and why the others may not.
//!
//! Pure. What servers answer goes in, one after the other, and how each stands comes out. What must stay true, whatever is
//! answered, lost, late or repeated (the simulation of this room holds it to that):
//!
//! - one primary at most is believed, but where the protocol has many and the file wants all, and never one of an earlier generation than another that was believed;
//! - a server stops being the primary with the answer in which it says so, or in which another says that it is a later one:
//!   silence is waited for, words are not;
//! - who was never asked is nobody: it serves no role.
//!
//! This is no fencing: who reaches a former primary on another way still writes there.

mod answer;
mod belief;
mod lag;
mod memory;
mod rules;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod simulation;

pub use answer::{Answer, Claim, Generation, Said};
use belief::{Judged, Voice};
pub use lag::Lag;
use lag::Samples;
pub use memory::Memory;
pub use rules::{Contested, Rules, Writers};

/// How a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was not asked yet, or is silent for so long that nobody knows.
    Unknown,
    /// It serves nobody yet, or no more.
    Starting,
    /// It is believed to be the primary.
    Primary,
    /// It says it is the primary, and a later promotion is known, of this number.
    Stale(u64),
    /// It says it is the primary, of another cluster than the pool's.
    Foreign,
    /// It says it is the primary, and so does another one.
    Contested,
    /// It says it is the primary, and too few of the pool answer.
    Alone,
    /// A replica that serves.
    Replica,
    /// A replica that is too far behind.
    Lagging,
}

impl Standing {
    /// Its word in logs and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Starting => "starting",
            Self::Primary => "primary",
            Self::Stale(_) => "stale primary",
            Self::Foreign => "primary elsewhere",
            Self::Contested => "contested",
            Self::Alone => "primary without a majority",
            Self::Replica => "replica",
            Self::Lagging => "lagging",
        }
    }

    /// It may serve what writes.
    pub fn is_primary(self) -> bool {
        self == Self::Primary
    }

    /// It may serve what only reads, as a replica.
    pub fn is_replica(self) -> bool {
        self == Self::Replica
    }

    /// It may serve those that do not care: only a former primary may not, whose data nobody wants.
    pub fn is_any(self) -> bool {
        !matches!(self, Self::Stale(_))
    }

    /// Whoever reads there may stay: a replica that was promoted, or lags, keeps what it has.
    pub fn may_keep_readers(self) -> bool {
        !matches!(self, Self::Stale(_) | Self::Foreign | Self::Contested)
    }
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Server {
    claim: Option<Claim>,
    generation: Option<Generation>,
    claimed: u64,
    is_silent: bool,
    is_starting: bool,
    is_there: bool,
    lag: Option<Lag>,
    is_lagging: bool,
    /// Answers in a row that speak for its return.
    in_time: u8,
    said_ms: Option<u64>,
}

impl Server {
    /// For who is believed the two are the same.
    fn is_as(&self, other: &Self) -> bool {
        (self.claim, self.claimed, &self.generation) == (other.claim, other.claimed, &other.generation)
            && (self.is_silent, self.is_starting, self.is_there)
                == (other.is_silent, other.is_starting, other.is_there)
    }
}

/// The roles of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    rules: Rules,
    servers: Vec<Server>,
    standings: Vec<Standing>,
    memory: Memory,
    samples: Samples,
    claims: u64,
    /// Since when the present primary is believed, and when the one before was so last.
    since_ms: u64,
    ended_ms: Option<u64>,
}

impl Roles {
    /// Of so many servers, none of which was asked.
    pub fn new(rules: Rules, servers: usize, memory: Memory) -> Self {
        Self {
            rules,
            servers: vec![Server::default(); servers],
            standings: vec![Standing::Unknown; servers],
            memory,
            samples: Samples::default(),
            claims: 0,
            since_ms: 0,
            ended_ms: None,
        }
    }

    /// The same under other rules and with other servers: each is the one that had this place, or a new one.
    pub fn with_servers(&self, rules: Rules, places: &[Option<usize>], now_ms: u64) -> Self {
        let server = |place: &Option<usize>| place.and_then(|at| self.servers.get(at).cloned());
        let standing = |place: &Option<usize>| place.and_then(|at| self.standings.get(at).copied());
        let mut next = Self {
            rules,
            servers: places.iter().map(|place| server(place).unwrap_or_default()).collect(),
            standings: places.iter().map(|place| standing(place).unwrap_or(Standing::Unknown)).collect(),
            ..self.clone()
        };
        next.judge(now_ms);
        next
    }

    /// Forgets which generations were ever believed, after a restore from a backup; those who claim one now are judged anew. True:
    /// somebody stands otherwise than before.
    pub fn forget(&mut self, now_ms: u64) -> bool {
        let before = self.standings.clone();
        self.memory = Memory::default();
        self.judge(now_ms);
        self.standings != before
    }

    /// Takes what a server said. `is_down`: its checks have given it up. True: somebody stands otherwise than before, or says so.
    pub fn hear(&mut self, at: usize, said: Said, is_down: bool, now_ms: u64) -> bool {
        let Some(server) = self.servers.get(at) else { return false };
        let position = match &said {
            Said::Role(answer) => Some(answer.position),
            Said::Starting | Said::Full | Said::Nothing => None,
        };
        // That another is named is as good as what that other says.
        let told = match &said {
            Said::Role(answer) if answer.claim == Claim::Former => answer.generation.clone(),
            _ => None,
        };
        let next = self.after(server, said, is_down, now_ms);
        let is_later = |told: &&Generation| self.memory.highest(&told.lineage) < Some(told.number);
        let told = told.as_ref().filter(is_later);
        let is_news = !next.is_as(server) || told.is_some();
        let says_otherwise = (next.claim, &next.generation) != (server.claim, &server.generation);
        let before = if is_news { self.standings.clone() } else { Vec::new() };
        if let Some(told) = told {
            self.memory.note(told);
        }
        self.claims = self.claims.max(next.claimed);
        self.servers[at] = next;
        if is_news {
            self.judge(now_ms);
        }
        // Whether it lags is told by positions, and what these mean by who is the primary.
        let lag_changed = position.is_some_and(|position| self.measure(at, position, now_ms));
        if lag_changed {
            self.judge(now_ms);
        }
        lag_changed || says_otherwise || is_news && self.standings != before
    }

    /// What becomes of a server that said this.
    fn after(&self, server: &Server, said: Said, is_down: bool, now_ms: u64) -> Server {
        // Whoever gave its role up is still of the cluster, and as far behind as it was.
        let nobody = |generation| Server { generation, is_lagging: server.is_lagging, ..Server::default() };
        let as_before = || Server { is_silent: false, is_there: true, ..server.clone() };
        match said {
            // It is being promoted, and those who decide have not said so yet: whoever reads there stays.
            Said::Role(answer) if answer.claim == Claim::Former && server.claim == Some(Claim::Replica) => {
                as_before()
            }
            Said::Role(answer) => Server {
                claimed: if server.claim == Some(answer.claim) { server.claimed } else { self.claims + 1 },
                claim: Some(answer.claim),
                generation: answer.generation,
                is_silent: false,
                is_starting: false,
                is_there: true,
                said_ms: Some(now_ms),
                ..server.clone()
            },
            Said::Starting => Server {
                is_starting: true,
                is_there: !is_down,
                said_ms: Some(now_ms),
                ..nobody(server.generation.clone())
            },
            Said::Full => as_before(),
            Said::Nothing if is_down => Server { is_silent: true, ..nobody(server.generation.clone()) },
            Said::Nothing => Server { is_silent: true, in_time: 0, ..server.clone() },
        }
    }

    /// Who is believed to be the primary.
    pub fn primary(&self) -> Option<usize> {
        self.standings.iter().position(|standing| standing.is_primary())
    }

    /// How each stands.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// What a server said last.
    pub fn claim(&self, at: usize) -> Option<Claim> {
        self.servers.get(at)?.claim
    }

    /// Of which generation it is.
    pub fn generation(&self, at: usize) -> Option<&Generation> {
        self.servers.get(at)?.generation.as_ref()
    }

    /// How far it is behind the primary.
    pub fn lag(&self, at: usize) -> Option<Lag> {
        self.servers.get(at)?.lag
    }

    /// What is remembered of generations.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// When the primary before the present one was believed last.
    pub fn last_primary_ms(&self) -> Option<u64> {
        self.ended_ms
    }

    /// Since when the primary is believed, or nobody is.
    pub fn primary_since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Works out who is believed.
    fn judge(&mut self, now_ms: u64) {
        let before = self.primary();
        let voices: Vec<Voice<'_>> = self
            .servers
            .iter()
            .map(|server| Voice {
                claim: server.claim,
                generation: server.generation.as_ref(),
                is_silent: server.is_silent,
                claimed: server.claimed,
                is_there: server.is_there,
                is_unheard: server.claim.is_none() && !server.is_silent && !server.is_starting,
            })
            .collect();
        let judged = belief::judge(&voices, &self.memory, before, &self.rules);
        let standing = |(server, judged): (&Server, &Judged)| match judged {
            Judged::Believed => Standing::Primary,
            Judged::Stale(known) => Standing::Stale(*known),
            Judged::Foreign => Standing::Foreign,
            Judged::Contested => Standing::Contested,
            Judged::Alone => Standing::Alone,
            Judged::Spare => Standing::Replica,
            Judged::NoPrimary if server.is_starting => Standing::Starting,
            Judged::NoPrimary if server.claim.is_none() => Standing::Unknown,
            Judged::NoPrimary if server.is_lagging => Standing::Lagging,
            Judged::NoPrimary => Standing::Replica,
        };
        self.standings = self.servers.iter().zip(&judged).map(standing).collect();
        let primary = self.primary();
        if before != primary {
            self.since_ms = now_ms;
            self.samples.clear();
            if before.is_some() {
                self.ended_ms = Some(now_ms);
            }
        }
        // A promotion that was claimed has been, whoever is believed.
        for (server, judged) in self.servers.iter().zip(&judged) {
            if let Some(generation) = server.generation.as_ref().filter(|_| judged.is_of_the_pool()) {
                self.memory.note(generation);
            }
        }
    }

    /// Notes where the server is in the stream of changes. True: it lags now, or no more.
    fn measure(&mut self, at: usize, position: Option<u64>, now_ms: u64) -> bool {
        let standing = self.standings[at];
        let server = &mut self.servers[at];
        if standing.is_primary() {
            (server.lag, server.is_lagging, server.in_time) = (None, false, 0);
            if let Some(position) = position {
                self.samples.note(position, now_ms);
            }
            return false;
        }
        if server.claim != Some(Claim::Replica) {
            return false;
        }
        // Where nothing is known the last word holds.
        let Some(lag) = position.and_then(|position| self.samples.behind(position, now_ms)) else {
            return false;
        };
        server.lag = Some(lag);
        let beyond = |part: u64| {
            let is_beyond = |most: Option<u64>, value: u64| most.is_some_and(|most| value > most / part);
            is_beyond(self.rules.max_lag_ms, lag.ms) || is_beyond(self.rules.max_lag_bytes, lag.bytes)
        };
        let was_lagging = server.is_lagging;
        if beyond(1) {
            (server.is_lagging, server.in_time) = (true, 0);
        } else if was_lagging {
            server.in_time = if beyond(2) { 0 } else { server.in_time.saturating_add(1) };
            server.is_lagging = server.in_time < self.rules.rise.max(1);
        }
        server.is_lagging != was_lagging
    }
}

/// What travels to the next process of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What it said last.
    pub claim: Option<Claim>,
    /// Of which generation.
    pub generation: Option<Generation>,
    /// The order in which servers began to say what they say.
    pub claimed: u64,
    /// Its last question got no answer.
    pub is_silent: bool,
    /// It was too far behind.
    pub is_lagging: bool,
}

impl Roles {
    /// What the next process must know of a server.
    pub fn known(&self, at: usize) -> Option<Known> {
        let server = self.servers.get(at)?;
        Some(Known {
            claim: server.claim,
            generation: server.generation.clone(),
            claimed: server.claimed,
            is_silent: server.is_silent,
            is_lagging: server.is_lagging,
        })
    }

    /// As a process before this one left them, and whom it believed.
    pub fn resumed(
        rules: Rules,
        servers: Vec<Option<Known>>,
        primary: Option<usize>,
        memory: Memory,
        now_ms: u64,
    ) -> Self {
        let mut roles = Self::new(rules, servers.len(), memory);
        for (server, known) in roles.servers.iter_mut().zip(servers) {
            let Some(known) = known else { continue };
            *server = Server {
                claim: known.claim,
                generation: known.generation,
                claimed: known.claimed,
                is_silent: known.is_silent,
                is_lagging: known.is_lagging,
                is_there: known.claim.is_some(),
                ..Server::default()
            };
        }
        roles.claims = roles.servers.iter().map(|server| server.claimed).max().unwrap_or(0);
        if let Some(standing) = primary.and_then(|primary| roles.standings.get_mut(primary)) {
            *standing = Standing::Primary;
        }
        roles.judge(now_ms);
        roles
    }
}
