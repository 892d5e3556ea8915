//! Environment: what the program around a server gives it: the service manager, the file, chance, sockets that were kept.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::error::Refused;
use crate::config::settings::{Level, Settings};
use crate::config::{RunTimeChange, Variable};
use crate::sys::udp_probe::Offloads;
use crate::systemd::{FdStore, Notify};

/// What a server is given by the program around it.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The service manager.
    pub notify: Notify,
    /// Log lines that found no room.
    pub log_lines_dropped: Arc<AtomicU64>,
    /// Moves all chance: picks, jitter.
    pub seed: u64,
    /// What a reload needs.
    pub file: File,
    /// What an upgrade starts.
    pub program: Program,
    /// Listening sockets that the service manager kept from a process before.
    pub kept: Arc<Mutex<FdStore>>,
    /// Where the commands look for the socket when nothing else is said; `None`: nowhere.
    pub usual_socket: Option<PathBuf>,
    /// Where what is remembered of primaries outlives a crash; `None`: nowhere.
    pub generations: Option<PathBuf>,
    /// Where what discovery has found outlives a crash; `None`: nowhere.
    pub found: Option<PathBuf>,
    /// Where backends that are changed at run time outlive a crash; `None`: nowhere.
    pub run_time: Option<PathBuf>,
    /// What the kernel does with several datagrams at once.
    pub offloads: Offloads,
}

impl Environment {
    /// Of a balancer inside another program: no service manager, no file, no socket.
    pub fn embedded(seed: u64, offloads: Offloads) -> Self {
        Self {
            notify: Notify::nobody(),
            log_lines_dropped: Arc::default(),
            seed,
            file: File::none(),
            program: Program::default(),
            kept: Arc::default(),
            usual_socket: None,
            generations: None,
            found: None,
            run_time: None,
            offloads,
        }
    }
}

/// How this program was started.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The file on disk, as it was called when it started: a package may have put a newer one there since.
    pub binary: PathBuf,
    /// What it was told.
    pub arguments: Vec<OsString>,
}

/// Reads the file, and lays over it what was changed at run time.
pub(super) type ReadFile = dyn Fn(&[RunTimeChange]) -> Result<Document, Refused> + Send + Sync;

/// The file behind a balancer, and the log it may turn up.
#[derive(Clone)]
pub struct File {
    /// The files that were read, for people.
    pub names: Arc<[String]>,
    /// What it said when the balancer started, without its passwords.
    pub text: Arc<str>,
    /// The same without what was changed at run time.
    pub base: Arc<str>,
    /// What was.
    pub changes: Arc<[RunTimeChange]>,
    /// Reads and checks it, with what is changed at run time.
    pub read: Arc<ReadFile>,
    /// Sets the level of the log.
    pub set_log_level: Arc<dyn Fn(Level) + Send + Sync>,
}

/// A file that was read and is right.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it means.
    pub settings: Settings,
    /// What it says, without its passwords.
    pub text: Arc<str>,
    /// The same without what was changed at run time.
    pub base: Arc<str>,
    /// What was, and stays.
    pub changes: Arc<[RunTimeChange]>,
    /// What was, and ends with what the files say now, for people.
    pub over: Vec<String>,
    /// The variables of the environment that it uses.
    pub variables: Vec<Variable>,
    /// The files it was read from.
    pub files: Arc<[String]>,
    /// What stands beside them in a folder and is not read.
    pub ignored: Vec<String>,
    /// What is not wrong, and not well.
    pub warnings: Vec<String>,
}

impl Document {
    /// Puts what is not well into the log.
    pub fn warn(&self) {
        self.warnings.iter().for_each(|warning| tracing::warn!(target: "evenkeel", "{warning}"));
    }
}

impl File {
    /// There is none: for a balancer inside another program.
    pub fn none() -> Self {
        Self {
            names: Arc::default(),
            text: "".into(),
            base: "".into(),
            changes: Arc::default(),
            read: Arc::new(|_| Err(Refused::Unreadable("this balancer has no file".into()))),
            set_log_level: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("File")
    }
}
