//! File of what discovery has found (`found.json`, crash recovery): a process that begins while a source does not answer has what
//! was found before, until it answers.
//!
//! In the folder that the service manager keeps for the service (`StateDirectory=`); without one nothing outlives a crash. Fields
//! that are not known are passed over, those that are missing stand for nothing. What is older than a week is not believed, nor a
//! file that somebody else may have written: who names backends decides where passwords go.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::state_file;
use crate::discovery::{Before, Board, Remembered};
use crate::manifest::{FoundBackend, Source};
use crate::sys::unix::own_uid;

/// What a process before had found, and how old that is; nothing where there is no file.
pub(super) fn read(path: &Path) -> Before {
    match text_of(path) {
        Ok(text) => parse(&text, unix_s()),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                let path = path.display();
                tracing::warn!(target: "discovery", %path, %error, "what was found before cannot be read: it is forgotten");
            }
            Before::default()
        }
    }
}

/// Keeps what is found, as long as somebody finds it.
pub(super) async fn keep(
    path: PathBuf,
    board: Arc<Board>,
    epoch: Instant,
    before: Before,
    stop: CancellationToken,
) {
    let (mut kept, mut was_well) = (String::new(), true);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = board.changed() => {}
        }
        // Many changes are one.
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(PAUSE) => {}
        }
        let now_ms = u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let found = told(&board, &before, now_ms, unix_s());
        // That it is found still is no news, until it makes the file an hour younger.
        let body = found.unaged();
        if body == kept {
            continue;
        }
        let place = path.clone();
        let text = found.text();
        let written = tokio::task::spawn_blocking(move || state_file::write(&place, text.as_bytes())).await;
        let error = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let (Some(error), true) = (&error, was_well) {
            let path = path.display();
            tracing::warn!(target: "discovery", %path, %error, "what is found cannot be kept: a crash forgets it");
        }
        was_well = error.is_none();
        if was_well {
            kept = body;
        }
    }
}

/// What is to be kept of all pools.
struct Told(BTreeMap<String, Vec<(Source, u64)>>);

/// Of each source that has found somebody, with the time of its last answer.
fn told(board: &Board, before: &Before, now_ms: u64, now_s: u64) -> Told {
    let mut all = BTreeMap::new();
    let mut room = ENTRIES_MAX;
    for (pool, row) in board.pools().iter().filter(|(_, row)| row.is_remembered) {
        let mut sources = Vec::new();
        for told in row.sources.iter().map(|source| &source.told) {
            let own_s =
                told.answered_ms.map(|at_ms| now_s.saturating_sub(now_ms.saturating_sub(at_ms) / 1_000));
            let old_s = || Some(now_s.saturating_sub(before.of(pool, &told.text)?.age_s? + now_ms / 1_000));
            let count = told.found.len() + told.listed.len();
            let Some(at_s) = own_s.or_else(old_s).filter(|_| count > 0 && count <= room) else { continue };
            room -= count;
            sources.push((told.clone(), at_s));
        }
        if !sources.is_empty() {
            all.insert(pool.clone(), sources);
        }
    }
    Told(all)
}

impl Told {
    fn text(&self) -> String {
        format!("{:#}\n", self.value(|at_s| at_s))
    }

    /// The same with times that hardly move.
    fn unaged(&self) -> String {
        self.value(|at_s| at_s / AGED_S).to_string()
    }

    fn value(&self, time: impl Fn(u64) -> u64) -> Value {
        let pools = self.0.iter().map(|(pool, sources)| {
            let sources = sources.iter().map(|(source, at_s)| {
                json!({
                    "source": source.text,
                    "answered_at": time(*at_s),
                    "found": source.found,
                    "current": source.current,
                    "backends": source.listed.iter().map(record).collect::<Vec<_>>(),
                })
            });
            (pool.clone(), sources.collect())
        });
        json!({ "format": FORMAT, "pools": Value::Object(pools.collect()) })
    }
}

fn record(one: &FoundBackend) -> Value {
    json!({
        "name": one.name,
        "ip": one.ip,
        "port": one.port,
        "weight": one.weight,
        "tier": one.tier,
        "max_sessions": one.max_sessions,
        "drains": one.drains,
    })
}

fn parse(text: &str, now_s: u64) -> Before {
    let Ok(all) = serde_json::from_str::<Value>(text) else {
        tracing::warn!(target: "discovery", "what was found before is no JSON: it is forgotten");
        return Before::default();
    };
    let mut before = Before::default();
    let mut room = ENTRIES_MAX;
    let pools = all.get("pools").and_then(Value::as_object).into_iter().flatten();
    for (pool, sources) in pools {
        for source in sources.as_array().into_iter().flatten() {
            let Some(found) = source_of(source) else { continue };
            let at_s = source.get("answered_at").and_then(Value::as_u64).unwrap_or(0);
            let age_s = now_s.saturating_sub(at_s);
            let count = found.found.len() + found.listed.len();
            if age_s <= AGE_MAX_S && count <= room {
                room -= count;
                before.add(pool, Remembered { source: found, age_s: Some(age_s) });
            }
        }
    }
    before
}

/// One that means nothing is passed over.
fn source_of(value: &Value) -> Option<Source> {
    let list = |key: &str| value.get(key).and_then(Value::as_array).into_iter().flatten();
    let ip = |value: &Value| value.as_str().and_then(|ip| ip.parse().ok());
    let listed = list("backends").filter_map(|one| {
        let number = |key: &str| one.get(key).and_then(Value::as_u64);
        let text = |key: &str| one.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(FoundBackend {
            name: text("name"),
            ip: ip(one.get("ip")?)?,
            port: number("port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
            weight: number("weight").and_then(|weight| u16::try_from(weight).ok()),
            tier: number("tier").and_then(|tier| u8::try_from(tier).ok()),
            max_sessions: number("max_sessions")
                .and_then(|most| u32::try_from(most).ok())
                .filter(|most| *most > 0),
            drains: text("drains"),
        })
    });
    Some(Source {
        text: value.get("source")?.as_str()?.to_owned(),
        found: list("found").filter_map(ip).collect(),
        current: value.get("current").and_then(ip),
        answered_ms: None,
        failing_since_ms: None,
        listed: listed.collect(),
    })
}

fn text_of(path: &Path) -> io::Result<String> {
    let file = std::fs::File::open(path)?;
    let data = file.metadata()?;
    if data.mode() & 0o022 != 0 || data.uid() != 0 && data.uid() != own_uid() {
        return Err(io::Error::other("others may have written it"));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

const FORMAT: u32 = 1;
/// Backends of all pools.
const ENTRIES_MAX: usize = 10_000;
/// Each has less than a KiB.
const BYTES_MAX: u64 = 16 << 20;
/// Older is not believed.
const AGE_MAX_S: u64 = 7 * 24 * 3_600;
/// The file is made younger so often.
const AGED_S: u64 = 3_600;
/// Between a change and the file.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn source(text: &str) -> Source {
        Source {
            text: text.to_owned(),
            found: vec!["10.0.0.1".parse().unwrap()],
            current: Some("10.0.0.1".parse().unwrap()),
            answered_ms: None,
            failing_since_ms: None,
            listed: vec![FoundBackend {
                name: Some("a".into()),
                ip: "::1".parse().unwrap(),
                port: Some(1),
                weight: Some(0),
                tier: Some(2),
                max_sessions: Some(3),
                drains: Some("critical".into()),
            }],
        }
    }

    #[test]
    fn what_is_kept_is_read_with_its_age_for_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("found.json");
        assert!(read(&path).is_empty());
        let now_s = unix_s();
        let of =
            |age_s: u64| Told(BTreeMap::from([("pg".to_owned(), vec![(source("file /l"), now_s - age_s)])]));
        state_file::write(&path, of(3_600).text().as_bytes()).unwrap();
        let before = read(&path);
        let one = before.of("pg", "file /l").unwrap();
        assert_eq!(one.source, source("file /l"));
        let age_s = one.age_s.unwrap();
        assert!((3_600..3_700).contains(&age_s), "{age_s}");
        assert!(before.of("pg", "file /other").is_none() && before.of("other", "file /l").is_none());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        state_file::write(&path, of(AGE_MAX_S + 60).text().as_bytes()).unwrap();
        assert!(read(&path).is_empty(), "too old");
    }

    #[test]
    fn what_is_broken_or_somebody_elses_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("found.json");
        for text in [
            "",
            "{",
            "[]",
            "{\"pools\": 1}",
            "{\"pools\": {\"pg\": [{\"answered_at\": 1}, 7, {\"source\": 1}]}}",
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_empty(), "{text}");
        }
        let text = Told(BTreeMap::from([("pg".to_owned(), vec![(source("s"), unix_s())])])).text();
        let later = text.replacen('{', "{ \"more\": [1],", 1).replace("\"weight\"", "\"mass\"");
        assert_eq!(parse(&later, unix_s()).of("pg", "s").unwrap().source.listed[0].weight, None);
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read(&path).is_empty(), "anybody may have written it");
    }
}
