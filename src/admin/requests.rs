//! Admin requests: what somebody asks to be changed, or looked for on the data threads. The admin doors send these; the
//! server does them.

use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::backend_state::Mark;
use crate::config::RunTimeCommand;
use crate::config::settings::Level;
use crate::session_query::{Filter, SessionRow};

/// One thing to do, and where its outcome goes. Whoever asked may have gone: it is done all the same.
#[derive(Debug)]
pub enum Request {
    /// Read the file again.
    Reload {
        /// What changed, a line each.
        reply: oneshot::Sender<Result<Vec<String>, Refused>>,
    },
    /// Tell what a reload would do.
    Preview {
        /// What, or why it would be refused.
        reply: oneshot::Sender<Result<Preview, Refused>>,
    },
    /// Hand over to a new process.
    Upgrade {
        /// The program; `None`: its own file.
        binary: Option<PathBuf>,
        /// What came of it.
        reply: oneshot::Sender<Result<Upgraded, Refused>>,
    },
    /// Say this of a backend; `None` takes back what was said.
    Mark {
        /// The name of its pool.
        pool: String,
        /// Its own.
        backend: String,
        /// What.
        mark: Option<Mark>,
        /// Who says so.
        by: String,
        /// Whether there is such a backend.
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// Set the weight of a backend; `None`: the file's again.
    Weight {
        /// The name of its pool.
        pool: String,
        /// Its own.
        backend: String,
        /// The weight.
        weight: Option<u16>,
        /// Who says so.
        by: String,
        /// Whether there is such a backend.
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// Forget which generations of a pool's primaries were ever believed.
    Forget {
        /// The name of the pool.
        pool: String,
        /// Who says so.
        by: String,
        /// Whether there is such a pool.
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// Ask the sources of a pool, or of all, at once.
    Refresh {
        /// The name of the pool; `None`: all.
        pool: Option<String>,
        /// Whether there are any.
        reply: oneshot::Sender<bool>,
    },
    /// Nobody is to be sent to this machine, or people are again.
    Withdraw {
        /// Nobody.
        is_withdrawn: bool,
        /// Who says so.
        by: String,
        /// Whether it is kept over a stop; it is so in any case.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Change backends beside the file.
    ChangeAtRunTime {
        /// How.
        command: RunTimeCommand,
        /// What is different by it.
        reply: oneshot::Sender<Result<ChangedAtRunTime, Refused>>,
    },
    /// Set the level of the log until the file says otherwise.
    LogLevel {
        /// The least serious level that is written.
        level: Level,
        /// When it is.
        reply: oneshot::Sender<()>,
    },
    /// Look for sessions, or close them.
    Search {
        /// Which.
        filter: Filter,
        /// They are to be closed.
        close: bool,
        /// How many are told at most.
        rows_max: usize,
        /// What was found.
        reply: oneshot::Sender<Search>,
    },
}

/// What a reload would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// What the file says that is not served, a line each.
    pub changes: Vec<String>,
    /// What is changed at run time and stays so, a line each.
    pub at_run_time: Vec<String>,
    /// What comes of that.
    pub effects: Vec<Effect>,
    /// The files that were read.
    pub files: Vec<String>,
}

/// Backends are changed beside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedAtRunTime {
    /// What is different, a line each.
    pub lines: Vec<String>,
    /// Why a stop ends it.
    pub not_kept: Option<String>,
}

/// One thing that would come of a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// `opens`, `closes`, `ends`, `keeps`, `moves`, `resets` or `refused`.
    pub kind: &'static str,
    /// For people.
    pub text: String,
    /// Sessions that it concerns.
    pub sessions: u64,
    /// The share of clients that it concerns, where nobody knows their sessions.
    pub percent: Option<f64>,
}

impl Effect {
    /// One that concerns so many sessions.
    pub fn new(kind: &'static str, text: String, sessions: u64) -> Self {
        Self { kind, text, sessions, percent: None }
    }
}

/// A new process has everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Upgraded {
    /// The process.
    pub pid: u32,
    /// TCP sessions and UDP flows that it has.
    pub sessions: usize,
    /// How long nothing moved.
    pub pause_ms: f64,
}

/// Why it was not done: for people, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason; several lines for a file with mistakes.
    pub text: String,
    /// What it is about.
    pub kind: Kind,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The file is wrong, not the request.
    BadFile,
    /// What was named is not there.
    NoSuch,
    /// The request cannot be carried out as it is.
    NotPossible,
    /// File and request are right, and it cannot be done at this moment: an address is taken, the program stops.
    NotNow,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// The first ones.
    pub rows: Vec<SessionRow>,
    /// How many in all.
    pub count: u64,
}
