//! Files of networks of `allow`, `deny` and `accept_proxy`: looked at once a second, read again when one is another and has been
//! still for a second, and swapped in. One that is wrong leaves what was served, and is told.
//!
//! Looking, reading and building are done on a thread that nobody waits for.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::access::SharedAccess;
use crate::admin::NetworkFileRow;
use crate::config::settings::{Listener, NetworkFile, NetworkFiles, NetworkList, Settings};
use crate::config::{NETWORKS_BYTES_MAX, read_networks};

/// All of them, and whom they concern.
#[derive(Debug, Default)]
pub(super) struct WatchedFiles {
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    files: HashMap<Arc<str>, File>,
    users: Vec<Arc<SharedAccess>>,
}

#[derive(Debug)]
struct File {
    list: Arc<NetworkList>,
    /// Since when that is served.
    since: Instant,
    /// What the file looked like when it was read.
    read: Option<Stamp>,
    /// And the last time it was looked at.
    seen: Option<Stamp>,
    failure: Option<(Instant, String)>,
    failures: u64,
}

/// What tells a file from what it was.
type Stamp = Option<[i128; 4]>;

/// What came of reading one again.
enum Outcome {
    Same,
    Changed { before: usize },
    Refused(String),
}

impl WatchedFiles {
    /// These settings are served, with these lists.
    pub(super) fn follow(&self, settings: &Settings, users: Vec<Arc<SharedAccess>>, now: Instant) {
        let mut watched = self.watched();
        let mut before = std::mem::take(&mut watched.files);
        for NetworkFile { path, list } in settings.listeners.iter().flat_map(files_of) {
            if watched.files.contains_key(path) {
                continue;
            }
            // It was read some time ago: what it looks like now may be another file, so it is read once more.
            let known = before.remove(path);
            let same = known.as_ref().filter(|known| known.list == *list).map(|known| known.since);
            let file = File {
                since: same.unwrap_or(now),
                list: Arc::clone(list),
                read: None,
                seen: None,
                failure: None,
                failures: known.map_or(0, |known| known.failures),
            };
            watched.files.insert(Arc::clone(path), file);
        }
        watched.users = users;
    }

    /// What is other in these settings than what is served, a line for each file.
    pub(super) fn differences(&self, settings: &Settings) -> Vec<String> {
        let watched = self.watched();
        let mut told: Vec<String> = Vec::new();
        for NetworkFile { path, list } in settings.listeners.iter().flat_map(files_of) {
            if let Some(served) = watched.files.get(path).filter(|served| served.list != *list) {
                let line =
                    format!("networks of {path} changed: {}, before {}", list.len(), served.list.len());
                if !told.contains(&line) {
                    told.push(line);
                }
            }
        }
        told
    }

    /// For people and scrapers, in the order of the paths.
    pub(super) fn rows(&self) -> Vec<NetworkFileRow> {
        let watched = self.watched();
        let row = |(path, file): (&Arc<str>, &File)| NetworkFileRow {
            path: path.to_string(),
            networks: file.list.len(),
            age_s: file.since.elapsed().as_secs(),
            failures: file.failures,
            failure: file.failure.as_ref().map(|(at, why)| (at.elapsed().as_secs(), why.clone())),
        };
        let mut rows: Vec<_> = watched.files.iter().map(row).collect();
        rows.sort_by(|one, other| one.path.cmp(&other.path));
        rows
    }

    /// There are none.
    pub(super) fn is_empty(&self) -> bool {
        self.watched().files.is_empty()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at each once, and reads those that are others and have been still since the last look. One look at a time.
    pub(super) fn look(&self) {
        let paths: Vec<Arc<str>> = self.watched().files.keys().cloned().collect();
        for path in paths {
            let stamp = stamp(&path);
            let is_due = {
                let mut watched = self.watched();
                let Some(file) = watched.files.get_mut(&path) else { continue };
                let still = file.seen == Some(stamp);
                file.seen = Some(stamp);
                still && file.read != Some(stamp)
            };
            if is_due {
                let read = read(&path)
                    .and_then(|bytes| read_networks(&path, &bytes).map_err(|mistakes| mistakes.in_a_line()));
                self.take(&path, stamp, read);
            }
        }
    }

    fn take(&self, path: &Arc<str>, stamp: Stamp, read: Result<Arc<NetworkList>, String>) {
        let outcome = {
            let mut watched = self.watched();
            // A reload may have taken it out meanwhile.
            let Some(file) = watched.files.get_mut(path) else { return };
            file.read = Some(stamp);
            match read {
                Err(why) => {
                    file.failures += 1;
                    file.failure = Some((Instant::now(), why.clone()));
                    Outcome::Refused(why)
                }
                Ok(list) => {
                    file.failure = None;
                    if list == file.list {
                        Outcome::Same
                    } else {
                        let before = std::mem::replace(&mut file.list, Arc::clone(&list)).len();
                        file.since = Instant::now();
                        let users = watched.users.clone();
                        drop(watched);
                        // The only ones that renew: looks come one after the other.
                        users.iter().for_each(|user| user.renew(path, &list));
                        Outcome::Changed { before }
                    }
                }
            }
        };
        match outcome {
            Outcome::Same => {}
            Outcome::Changed { before } => {
                let networks = self.watched().files.get(path).map_or(0, |file| file.list.len());
                tracing::info!(target: "evenkeel", file = &**path, networks, before, "a file of networks was read again");
            }
            Outcome::Refused(why) => {
                tracing::error!(target: "evenkeel", file = &**path, why, "the file of networks is refused; what it said before goes on");
            }
        }
    }
}

fn files_of(listener: &Listener) -> impl Iterator<Item = &NetworkFile> {
    let NetworkFiles { allow, deny, accept_proxy } = &listener.files;
    allow.iter().chain(deny).chain(accept_proxy)
}

/// Reads one, or says why not; no more than is needed to see that it is too long.
pub(super) fn read(path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let most = NETWORKS_BYTES_MAX as u64 + 1;
    let read = std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("{error}; the user that evenkeel runs as must be able to read it")
        }
        _ => error.to_string(),
    })
}

fn stamp(path: &str) -> Stamp {
    let data = std::fs::metadata(path).ok()?;
    let at = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    let file = i128::from(data.dev()) << 64 | i128::from(data.ino());
    let changed = at(data.ctime(), data.ctime_nsec());
    Some([file, i128::from(data.size()), at(data.mtime(), data.mtime_nsec()), changed])
}
