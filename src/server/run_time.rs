//! What was changed at run time (`add`, `remove`, `set`), kept beside the file.
//!
//! A change lasts until it is taken back or until the file says something else of its backend. A handover takes it along, and a file
//! in the folder of the service (`StateDirectory=`) outlives a stop, a crash and a reboot.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::state_file;
use crate::config::{RunTimeChange, RunTimeHow};

/// What was changed at run time, and where that is kept.
#[derive(Debug)]
pub(super) struct RunTime {
    now: Mutex<State>,
    /// Held while the file is changed, which may take as long as a disk likes: whoever only asks does not wait for that.
    keeping: Mutex<()>,
    path: Option<PathBuf>,
}

/// The file as it is served, and what is laid over it.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// What the file says, without changes and passwords.
    pub(super) base: Arc<str>,
    /// What was changed.
    pub(super) changes: Arc<[RunTimeChange]>,
}

impl RunTime {
    /// As a process begins with it.
    pub(super) fn new(path: Option<PathBuf>, base: Arc<str>, changes: Arc<[RunTimeChange]>) -> Self {
        if !changes.is_empty() {
            let backends = changes.len();
            tracing::info!(target: "evenkeel", backends, "backends are changed at run time; `evenkeel diff` shows which");
        }
        Self { now: Mutex::new(State { base, changes }), keeping: Mutex::new(()), path }
    }

    /// How it is.
    pub(super) fn current(&self) -> State {
        self.lock().clone()
    }

    /// From now on it is so.
    pub(super) fn set(&self, base: Arc<str>, changes: Arc<[RunTimeChange]>) {
        *self.lock() = State { base, changes };
    }

    /// Keeps what there is over a stop. An error: it is so, but not kept. Blocks until it is on the disk.
    pub(super) fn keep(&self) -> Result<(), String> {
        let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.current().changes;
        let kept = match &self.path {
            None if changes.is_empty() => return Ok(()),
            None => {
                return Err("without StateDirectory= in its unit nothing is kept".to_owned());
            }
            Some(path) if changes.is_empty() => match std::fs::remove_file(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(|error| (path, error)),
            },
            Some(path) => state_file::write(path, encode(&changes).as_bytes()).map_err(|error| (path, error)),
        };
        kept.map_err(|(path, error)| {
            let why = format!(
                "{} cannot be changed, and says after a stop what it says now: {error}",
                path.display()
            );
            tracing::warn!(target: "evenkeel", why, "what was changed at run time is not kept");
            why
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was kept; nothing where nothing is, or nobody can read it.
pub(super) fn read(path: &Path) -> Vec<RunTimeChange> {
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => decode(&text).unwrap_or_else(|| {
            let path = path.display();
            tracing::warn!(target: "evenkeel", %path, "what was changed at run time means nothing, and is forgotten");
            Vec::new()
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let path = path.display();
            tracing::warn!(target: "evenkeel", %path, %error, "what was changed at run time cannot be read, and is forgotten");
            Vec::new()
        }
    }
}

/// The changes as text that earlier and later programs read as far as they understand it.
pub(super) fn encode(changes: &[RunTimeChange]) -> String {
    let pairs =
        |keys: &[(String, String)]| keys.iter().map(|(key, value)| json!([key, value])).collect::<Value>();
    let change = |change: &RunTimeChange| {
        let mut value = json!({
            "pool": change.pool,
            "backend": change.backend,
            "by": &*change.by,
            "since_s": change.since_s,
        });
        match &change.how {
            RunTimeHow::Added { address, keys } => {
                value["added"] = json!({ "address": address, "keys": pairs(keys) });
            }
            RunTimeHow::Removed { was } => value["removed"] = json!({ "was": was }),
            RunTimeHow::Set { keys, was } => value["set"] = json!({ "keys": pairs(keys), "was": was }),
        }
        value
    };
    let changes: Vec<Value> = changes.iter().map(change).collect();
    json!({ "evenkeel_run_time": 1, "changes": changes }).to_string()
}

/// The changes of a text. What is not understood is left out; `None`: it is another text.
pub(super) fn decode(text: &str) -> Option<Vec<RunTimeChange>> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("evenkeel_run_time")?;
    Some(value.get("changes")?.as_array()?.iter().filter_map(decode_one).collect())
}

fn decode_one(value: &Value) -> Option<RunTimeChange> {
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    let keys = |value: &Value| {
        let pair =
            |pair: &Value| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()));
        value.get("keys")?.as_array()?.iter().map(pair).collect::<Option<Vec<_>>>()
    };
    let how = if let Some(added) = value.get("added") {
        RunTimeHow::Added { address: text(added, "address")?, keys: keys(added)? }
    } else if let Some(removed) = value.get("removed") {
        RunTimeHow::Removed { was: text(removed, "was")? }
    } else {
        let set = value.get("set")?;
        RunTimeHow::Set { keys: keys(set)?, was: text(set, "was")? }
    };
    Some(RunTimeChange {
        pool: text(value, "pool")?,
        backend: text(value, "backend")?,
        how,
        by: text(value, "by")?.into(),
        since_s: value.get("since_s")?.as_u64()?,
    })
}

/// A thousand changes of a few hundred bytes.
const BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Vec<RunTimeChange> {
        let change = |backend: &str, how| RunTimeChange {
            pool: "p".into(),
            backend: backend.into(),
            how,
            by: "uid 7".into(),
            since_s: 5,
        };
        let keys = vec![("weight".to_owned(), "5".to_owned())];
        vec![
            change("a", RunTimeHow::Added { address: "10.0.0.1:1".into(), keys: keys.clone() }),
            change("b", RunTimeHow::Removed { was: "\"10.0.0.2:1\"".into() }),
            change("c", RunTimeHow::Set { keys, was: "{address: \"10.0.0.3:1\"}".into() }),
        ]
    }

    #[test]
    fn what_is_kept_is_read_again_and_what_a_later_program_adds_is_left_out() {
        let text = encode(&changes());
        assert_eq!(decode(&text), Some(changes()));
        let later = text.replace("\"removed\"", "\"moved\"").replace("\"by\"", "\"why\":\"x\",\"by\"");
        let kept: Vec<_> = changes().into_iter().filter(|one| one.backend != "b").collect();
        assert_eq!(decode(&later), Some(kept));
        for text in ["", "{}", "[]", "{\"evenkeel_run_time\":1}", "\0"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn it_outlives_the_process_where_there_is_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-time.json");
        let run_time = RunTime::new(Some(path.clone()), "".into(), changes().into());
        run_time.keep().unwrap();
        assert_eq!(read(&path), changes());
        run_time.set("".into(), Arc::default());
        run_time.keep().unwrap();
        assert!(!path.exists() && read(&path).is_empty());
        let nowhere = RunTime::new(None, "".into(), changes().into());
        assert!(nowhere.keep().unwrap_err().contains("StateDirectory"));
        let gone = RunTime::new(Some(folder.path().join("none/x")), "".into(), changes().into());
        assert!(gone.keep().unwrap_err().contains("cannot be changed"));
    }
}
