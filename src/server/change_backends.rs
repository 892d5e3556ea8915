//! `add`, `remove`, `set` and `reset` carried out: other backends, beside the file. Nothing but the backends of pools is touched: what
//! the file on disk says meanwhile waits for a reload.

use std::sync::Arc;

use super::control::{Control, lock};
use super::environment::Document;
use super::error::ReloadError;
use super::run_time::State;
use crate::admin::requests::{self, Kind};
use crate::config::settings::{Pool, Settings};
use crate::config::{
    self, Configuration, Mistakes, Reads, RunTimeChange, RunTimeCommand, RunTimeError, RunTimeWish, Text,
    difference, edited,
};
use crate::publisher::Whom;

impl Control {
    /// Carries out a command; tells what is different by it, a line each, and why it is not kept over a stop.
    pub(super) async fn change_at_run_time(
        self: &Arc<Self>,
        command: RunTimeCommand,
    ) -> Result<requests::ChangedAtRunTime, requests::Refused> {
        let _one_at_a_time = self.changing.lock().await;
        let State { base, changes } = self.run_time.current();
        let by = Arc::clone(&command.by);
        let wish = command.wish.clone();
        let pool = command.pool.clone();
        // A long file takes a while to read.
        let read = tokio::task::spawn_blocking(move || with_command(&base, &changes, &command)).await;
        let read = read.map_err(|error| refused(error.to_string(), Kind::NotNow))??;
        let Configuration { settings, text, base, changes, .. } = read;
        let mut lines = self.serve_backends(settings).await?;
        // At once: a handover that begins now tells all of it or nothing.
        self.run_time.set(base.into(), changes.into());
        *lock(&self.text) = text.into();
        if let RunTimeWish::Reset { backend } = wish {
            lines.extend(self.reset_weights(&pool, backend.as_deref(), &by).await);
        }
        for line in &lines {
            tracing::info!(target: "evenkeel", by = &*by, "changed at run time: {line}");
        }
        Ok(requests::ChangedAtRunTime { lines, not_kept: self.keep_changes().await.err() })
    }

    /// Serves the backends of these settings; all else stays.
    async fn serve_backends(&self, new: Settings) -> Result<Vec<String>, requests::Refused> {
        let not_now = |error: ReloadError| refused(error.to_string(), Kind::NotNow);
        let served = Arc::clone(&self.served().settings);
        let pool = |pool: &Pool| {
            let now = new.pools.iter().find(|now| now.name == pool.name);
            now.map_or_else(
                || pool.clone(),
                |now| Pool { backends: now.backends.clone(), sources: now.sources.clone(), ..pool.clone() },
            )
        };
        let settings = Settings { pools: served.pools.iter().map(pool).collect(), ..(*served).clone() };
        let lines = difference(&served, &settings);
        self.reload_pools(Arc::new(settings)).await.map_err(not_now)?;
        Ok(lines)
    }

    /// The weights of the file again, of one backend or a whole pool.
    async fn reset_weights(&self, pool: &str, backend: Option<&str>, by: &str) -> Vec<String> {
        let names: Vec<String> = {
            let snapshot = self.snapshots.load();
            let view = snapshot.pools.iter().find(|view| !view.gone && *view.live.name == *pool);
            let own = view.into_iter().flat_map(|view| view.backends.iter().zip(&view.states));
            let own = own.filter(|(one, state)| {
                state.has_own_weight() && backend.is_none_or(|backend| *one.name == *backend)
            });
            own.map(|(one, _)| one.name.to_string()).collect()
        };
        let mut lines = Vec::with_capacity(names.len());
        for name in names {
            let whom = Whom { pool: pool.to_owned(), backend: name.clone() };
            // One that has left meanwhile has no weight.
            if self.set_weight(whom, None, by).await.is_ok() {
                lines.push(format!("pool {pool} backend {name} has the weight of the file again"));
            }
        }
        lines
    }

    /// The file was read again: what it says now, and what of the changes stays.
    pub(super) async fn follow_file(&self, document: &Document) {
        let before = self.run_time.current().changes;
        // At once: a handover that begins now tells all of it or nothing.
        self.run_time.set(Arc::clone(&document.base), Arc::clone(&document.changes));
        *lock(&self.text) = Arc::clone(&document.text);
        for over in &document.over {
            tracing::info!(target: "evenkeel", "a change at run time ends: {over}");
        }
        if before != document.changes {
            // A failure is in the log.
            let _ = self.keep_changes().await;
        }
    }

    /// Keeps what is changed over a stop.
    pub(super) async fn keep_changes(&self) -> Result<(), String> {
        let run_time = Arc::clone(&self.run_time);
        // It may wait for a disk.
        let kept = tokio::task::spawn_blocking(move || run_time.keep()).await;
        kept.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// The configuration with one more command.
fn with_command(
    base: &str,
    changes: &[RunTimeChange],
    command: &RunTimeCommand,
) -> Result<Configuration, requests::Refused> {
    let changes = edited(changes, command, base).map_err(|why| match why {
        RunTimeError::NoSuch(why) => refused(why, Kind::NoSuch),
        RunTimeError::NotPossible(why) => refused(why, Kind::NotPossible),
    })?;
    let text = Text { name: "the file", bytes: base.as_bytes() };
    let read = config::read_files(&[text], &changes, BACKENDS_ONLY);
    read.map_err(|mistakes| refused(in_words(&mistakes), Kind::NotPossible))
}

/// What is wrong with a command, without the places in a file that nobody wrote.
fn in_words(mistakes: &Mistakes) -> String {
    let one = |mistake: &config::Mistake| match &mistake.hint {
        Some(hint) => format!("{}; {hint}", mistake.message),
        None => mistake.message.clone(),
    };
    mistakes.list().iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Passwords and files of networks stay as they are served: what is read in their place is not used.
const BACKENDS_ONLY: Reads = Reads {
    secret: |_| Ok(b"(unread)".to_vec()),
    variable: |_| None,
    networks: |_| Ok(b"192.0.2.0/24\n".to_vec()),
};

fn refused(text: String, kind: Kind) -> requests::Refused {
    requests::Refused { text, kind }
}
