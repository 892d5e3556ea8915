//! Backends changed beside the file: the commands for it as they are asked, and what was changed as it is told.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::query::Query;
use crate::config::{RunTimeChange, RunTimeCommand, RunTimeHow, RunTimeWish};
use crate::durations::age;

/// What is asked of a path: `/add`, `/remove`, `/set` or `/reset`.
pub(super) fn command(path: &str, query: &Query, by: &str) -> Result<RunTimeCommand, String> {
    let (pool, wish) = match path {
        "/add" => {
            let addresses = query.needed("addresses")?.split_whitespace().map(str::to_owned).collect();
            let wish = RunTimeWish::Add { addresses, keys: keys(query.get("keys").unwrap_or_default())? };
            (query.needed("pool")?.to_owned(), wish)
        }
        "/reset" => match query.needed("whom")?.split_once('/') {
            None => (query.needed("whom")?.to_owned(), RunTimeWish::Reset { backend: None }),
            Some((pool, backend)) => {
                (pool.to_owned(), RunTimeWish::Reset { backend: Some(backend.to_owned()) })
            }
        },
        _ => {
            let named = query.needed("backend")?;
            let (pool, backend) =
                named.split_once('/').ok_or_else(|| format!("`{named}` is no POOL/BACKEND"))?;
            let backend = backend.to_owned();
            let wish = match path {
                "/remove" => RunTimeWish::Remove { backend },
                _ => RunTimeWish::Set { backend, keys: keys(query.needed("keys")?)? },
            };
            (pool.to_owned(), wish)
        }
    };
    Ok(RunTimeCommand { pool, wish, by: by.into(), now_s: unix_s() })
}

/// Keys and their values, each key once.
fn keys(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    for word in text.split_whitespace() {
        let pair = word.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty());
        let (key, value) = pair.ok_or_else(|| format!("`{word}` is no KEY=VALUE"))?;
        if all.iter().any(|(known, _)| known == key) {
            return Err(format!("`{key}` is there twice"));
        }
        all.push((key.to_owned(), value.to_owned()));
    }
    Ok(all)
}

/// What was changed of the backends of a pool.
pub(super) fn of_pool(changes: &[RunTimeChange], pool: &str) -> Value {
    let now_s = unix_s();
    let told = |change: &RunTimeChange| {
        let (did, keys): (_, &[(String, String)]) = match &change.how {
            RunTimeHow::Added { keys, .. } => ("added", keys),
            RunTimeHow::Removed { .. } => ("removed", &[]),
            RunTimeHow::Set { keys, .. } => ("set", keys),
        };
        let keys: Map<String, Value> =
            keys.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        json!({
            "backend": change.backend,
            "did": did,
            "keys": keys,
            "by": &*change.by,
            "since_s": now_s.saturating_sub(change.since_s),
            "told": change.told(),
        })
    };
    changes.iter().filter(|change| change.pool == pool).map(told).collect()
}

/// Those of a pool that a command removed, among those that are not there; or the one that is asked for.
pub(super) fn note_removed(
    absent: &mut Vec<Value>,
    changes: &[RunTimeChange],
    pool: &str,
    asked: Option<&str>,
) {
    let is_meant = |change: &&RunTimeChange| {
        change.pool == pool
            && matches!(change.how, RunTimeHow::Removed { .. })
            && asked.is_none_or(|asked| asked == change.backend)
    };
    for change in changes.iter().filter(is_meant) {
        let name = &change.backend;
        // Whatever else is said of why it is not there, this is it.
        absent.retain(|one| one["name"].as_str() != Some(name));
        let ago = age(unix_s().saturating_sub(change.since_s));
        let why = format!(
            "removed at run time by {}, {ago} ago; `evenkeel reset {pool}/{name}` brings it back",
            change.by
        );
        absent.push(json!({ "name": name, "why": why }));
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
