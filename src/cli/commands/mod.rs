//! The commands that talk to a running balancer.

pub(super) mod diff;
mod marks;
mod run_time;
mod said;
mod sessions;
pub(super) mod shown;
mod sources;
mod status;
mod whose;
mod withdraw;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::client::Told;
use said::Said;
use whose::Whose;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Listeners, pools, backends: state, why and since when, sessions
    #[command(
        after_help = "Examples:\n  evenkeel status\n  evenkeel status --json | jq '.pools[].backends[] | select(.state != \"up\")'\n  evenkeel status --ready && echo clients may be sent here\n\nExit code of --ready 0: they may; 1: they may not; 69: no balancer answers."
    )]
    Status {
        /// Only whether clients may be sent to this machine, as /readyz says it
        #[arg(long)]
        ready: bool,
        /// Ready while this listener has a backend that may be picked
        #[arg(long, value_name = "NAME", requires = "ready")]
        listener: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Which backend a client would get now, and why the others not
    #[command(
        after_help = "Examples:\n  evenkeel explain postgres 192.0.2.7\n  evenkeel explain games 192.0.2.7:27005\n  evenkeel explain postgres 192.0.2.7 10.0.0.13:5432\n  evenkeel explain tls 192.0.2.7 --sni db.example.org"
    )]
    Explain {
        /// The listener it comes to
        listener: String,
        /// Its address, with or without its port
        client: String,
        /// Why this one is no backend of the pool
        backend: Option<String>,
        #[command(flatten)]
        said: Said,
        #[command(flatten)]
        whose: Whose,
    },
    /// A backend gets nothing new; what it has stays
    #[command(
        after_help = "Examples:\n  evenkeel drain postgres/db2\n  evenkeel drain postgres/db2 --wait --timeout 10m"
    )]
    Drain(marks::Marking),
    /// A backend gets sessions again
    #[command(after_help = "Example:\n  evenkeel ready postgres/db2")]
    Ready(marks::Marking),
    /// A backend gets nothing new, and its sessions go the way of `on_down`
    #[command(after_help = "Example:\n  evenkeel down postgres/db2")]
    Down(marks::Marking),
    /// Give a backend another weight, until the file's own changes
    #[command(
        after_help = "Examples:\n  evenkeel weight postgres/db2 10\n  evenkeel weight postgres/db2 file"
    )]
    Weight {
        /// The backend
        #[arg(value_name = "POOL/BACKEND")]
        backend: String,
        /// 0 to 256, or `file`: what the file says
        weight: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Add backends to a pool beside the file, until the file has them too
    #[command(
        after_help = "Examples:\n  evenkeel add postgres 10.0.0.14:5432\n  evenkeel add games 10.0.0.21:27015 10.0.0.22:27015 weight=50 max_sessions=64\n  evenkeel add web db.example.org:5432 addresses=one name=db\n\nKeys are those of `backends` in the file: evenkeel keys backends. It lasts over reloads and restarts; evenkeel reset takes it back."
    )]
    Add {
        /// The pool
        pool: String,
        /// Where they answer, and what the file would say of them besides
        #[arg(required = true, value_name = "ADDRESS[:PORT] | KEY=VALUE")]
        words: Vec<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Remove a backend of a pool beside the file: it goes as if it had left the file
    #[command(
        after_help = "Examples:\n  evenkeel remove postgres/10.0.0.14:5432\n  evenkeel reset postgres/10.0.0.14:5432   # it is there again\n\nWhat becomes of its sessions, `on_removed` of the pool says. To take one out for an hour: evenkeel drain."
    )]
    Remove {
        /// The backend
        #[arg(value_name = "POOL/BACKEND")]
        backend: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Set keys of a backend beside the file, until the file says something else of it
    #[command(
        after_help = "Examples:\n  evenkeel set postgres/db2 max_sessions=200\n  evenkeel set games/eu1 tier=1 weight=10\n  evenkeel set postgres/db2 address=10.0.0.15:5432"
    )]
    Set {
        /// The backend
        #[arg(value_name = "POOL/BACKEND")]
        backend: String,
        /// Keys of `backends`, and their values
        #[arg(required = true, value_name = "KEY=VALUE")]
        keys: Vec<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Take back what add, remove, set and weight changed of a backend, or of a pool
    #[command(after_help = "Examples:\n  evenkeel reset postgres/db2\n  evenkeel reset postgres")]
    Reset {
        /// The backend, or the pool
        #[arg(value_name = "POOL[/BACKEND]")]
        whom: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Let an earlier primary be believed again, after a restore from a backup
    #[command(after_help = "Example:\n  evenkeel forget pg")]
    Forget {
        /// The pool
        #[arg(value_name = "POOL")]
        pool: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Have nobody sent to this machine: /readyz says 503, everything else stays as it is, also over restarts
    #[command(
        after_help = "Examples:\n  evenkeel withdraw --wait && systemctl stop evenkeel   # before maintenance\n  systemctl start evenkeel && evenkeel announce         # afterwards"
    )]
    Withdraw(withdraw::Withdrawing),
    /// Let clients be sent to this machine again
    #[command(after_help = "Example:\n  evenkeel announce")]
    Announce {
        #[command(flatten)]
        whose: Whose,
    },
    /// List sessions, the oldest first
    #[command(
        after_help = "Examples:\n  evenkeel sessions\n  evenkeel sessions --backend postgres/db2 --client 192.0.2.7"
    )]
    Sessions {
        #[command(flatten)]
        which: sessions::Which,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        limit: u32,
        #[command(flatten)]
        whose: Whose,
    },
    /// Close sessions: both sides see a reset
    #[command(
        after_help = "Examples:\n  evenkeel close --backend postgres/db2\n  evenkeel close --local 192.0.2.10   # the address that moved to the other machine\n  evenkeel close --all"
    )]
    Close {
        #[command(flatten)]
        which: sessions::Which,
        /// Every session there is
        #[arg(long, conflicts_with_all = ["listener", "backend", "client", "local"])]
        all: bool,
        #[command(flatten)]
        whose: Whose,
    },
    /// Where backends are found by names: how each source stands, and its last answer
    #[command(after_help = "Examples:\n  evenkeel sources\n  evenkeel sources postgres --json")]
    Sources {
        /// Of this pool only
        pool: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Ask the sources of backends at once
    #[command(after_help = "Examples:\n  evenkeel refresh\n  evenkeel refresh postgres")]
    Refresh {
        /// Of this pool only
        pool: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Read the file again; print what changed, or every mistake
    #[command(
        after_help = "Example:\n  evenkeel reload\n\nExit code 78: the file is refused, and what was served goes on."
    )]
    Reload {
        #[command(flatten)]
        whose: Whose,
    },
    /// What the file says that is not served: + - ~ for each listener, pool and key
    #[command(
        after_help = "Examples:\n  evenkeel diff\n  evenkeel diff && echo all of it is served\n\nExit code 0: no difference; 1: something differs; 2: the file has mistakes. The balancer reads its own file, in its own environment."
    )]
    Diff {
        #[command(flatten)]
        whose: Whose,
    },
    /// Hand every session over to a new process, which runs the program that is on disk now
    #[command(
        after_help = "Examples:\n  evenkeel upgrade\n  evenkeel upgrade --binary /root/evenkeel-next\n\nExit code 1: the new process did not take over, and everything goes on in the old one."
    )]
    Upgrade {
        /// Another program than the one that was started [root or the balancer's own user only]
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Set the level of the log until the file says otherwise
    #[command(after_help = "Example:\n  evenkeel log debug")]
    Log {
        /// error, warn, info, debug or trace
        level: String,
        #[command(flatten)]
        whose: Whose,
    },
}

/// Runs one of them.
pub(super) fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Status { ready: true, listener, whose } => status::ready(whose, listener.as_deref()),
        Command::Status { whose, .. } => status::status(whose),
        Command::Explain { listener, client, backend, said, whose } => {
            status::explain(whose, &listener, &client, backend.as_deref(), &said)
        }
        Command::Drain(marking) => marks::mark(marking, "drain"),
        Command::Ready(marking) => marks::mark(marking, "ready"),
        Command::Down(marking) => marks::mark(marking, "down"),
        Command::Weight { backend, weight, whose } => marks::weight(whose, &backend, &weight),
        Command::Add { pool, words, whose } => run_time::add(whose, &pool, &words),
        Command::Remove { backend, whose } => run_time::remove(whose, &backend),
        Command::Set { backend, keys, whose } => run_time::set(whose, &backend, &keys),
        Command::Reset { whom, whose } => run_time::reset(whose, &whom),
        Command::Forget { pool, whose } => marks::forget(whose, &pool),
        Command::Withdraw(withdrawing) => withdraw::withdraw(withdrawing),
        Command::Announce { whose } => withdraw::announce(whose),
        Command::Sessions { which, limit, whose } => sessions::sessions(whose, &which, limit),
        Command::Close { which, all, whose } => sessions::close(whose, &which, all),
        Command::Sources { pool, whose } => sources::sources(whose, pool.as_deref()),
        Command::Refresh { pool, whose } => sources::refresh(whose, pool.as_deref()),
        Command::Reload { whose } => reload(whose),
        Command::Diff { whose } => diff::diff(whose),
        Command::Upgrade { binary, whose } => upgrade(whose, binary.as_deref()),
        Command::Log { level, whose } => log(whose, &level),
    };
    outcome.map_or_else(|Told(code)| code, |()| ExitCode::SUCCESS)
}

fn reload(whose: Whose) -> Result<(), Told> {
    let client = whose.client()?;
    let answer = client.ask("POST", "/reload", &[])?;
    client.show(&answer, |answer| {
        let changes: Vec<&str> =
            shown::list(answer, "changes").iter().filter_map(|line| line.as_str()).collect();
        if changes.is_empty() { "nothing changed".to_owned() } else { changes.join("\n") }
    })
}

fn upgrade(whose: Whose, binary: Option<&Path>) -> Result<(), Told> {
    let client = whose.client()?;
    // The balancer has another working directory.
    let binary = binary.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let binary = binary.as_ref().map(|path| path.display().to_string());
    let query: Vec<_> = binary.iter().map(|path| ("binary", path.as_str())).collect();
    let answer = client.ask("POST", "/upgrade", &query)?;
    client.show(&answer, |answer| {
        let sessions = answer["sessions"].as_u64().unwrap_or(0);
        let (pid, pause_ms) = (&answer["pid"], answer["pause_ms"].as_f64().unwrap_or(0.0));
        let plural = if sessions == 1 { "" } else { "s" };
        format!("process {pid} has taken over {sessions} session{plural}; nothing moved for {pause_ms:.1} ms")
    })
}

fn log(whose: Whose, level: &str) -> Result<(), Told> {
    let client = whose.client()?;
    let answer = client.ask("POST", "/log", &[("level", level)])?;
    client.show(&answer, |_| format!("the log begins at {level} now"))
}
