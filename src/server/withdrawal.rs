//! Withdrawal (lame duck, maintenance mode): an operator wants nobody sent to this machine. `/readyz` says so to whoever moves an
//! address or a route; everything else stays as it is.
//!
//! It lasts until he announces the machine again: a handover takes it along, and a file in the folder of the service
//! (`StateDirectory=`) outlives a stop, a crash and a reboot. Without that folder a stop ends it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::state_file;
use crate::process_phase::Withdrawn;

/// Whether this machine is withdrawn, and where that is kept.
#[derive(Debug)]
pub(super) struct Withdrawal {
    now: Mutex<Option<Withdrawn>>,
    /// Held while the file is changed, which may take as long as a disk likes: whoever only asks does not wait for that.
    changing: Mutex<()>,
    path: Option<PathBuf>,
}

impl Withdrawal {
    /// As it was kept; `before`: as the process before told, who knows better.
    pub(super) fn new(path: Option<PathBuf>, before: Option<Option<Withdrawn>>) -> Self {
        let now = before.unwrap_or_else(|| path.as_deref().and_then(read));
        if let Some(Withdrawn { by, .. }) = &now {
            tracing::warn!(target: "evenkeel", by, "this machine is withdrawn: /readyz says 503; `evenkeel announce` ends it");
        }
        Self { now: Mutex::new(now), changing: Mutex::new(()), path }
    }

    /// How it is.
    pub(super) fn current(&self) -> Option<Withdrawn> {
        self.lock().clone()
    }

    /// Withdraws the machine, or announces it. What is so already stays as it is, and is kept again. An error: it is so, but not kept.
    pub(super) fn set(&self, by: &str, is_withdrawn: bool) -> Result<(), String> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, is_new) = {
            let mut now = self.lock();
            let is_new = now.is_some() != is_withdrawn;
            if is_new {
                *now = is_withdrawn.then(|| Withdrawn { by: by.to_owned(), since_s: unix_seconds() });
            }
            (now.clone(), is_new)
        };
        let kept = match (&self.path, &now) {
            (None, None) => Ok(()),
            (None, Some(_)) => {
                Err("it lasts until the program stops: without StateDirectory= in its unit nothing is kept"
                    .to_owned())
            }
            (Some(path), Some(now)) => {
                state_file::write(path, told(now).as_bytes()).map_err(|error| not_kept(path, &error))
            }
            (Some(path), None) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(not_kept(path, &error)),
                _ => Ok(()),
            },
        };
        match &now {
            _ if !is_new => {}
            Some(_) => {
                tracing::warn!(target: "evenkeel", by, "withdrawn: /readyz says 503, everything else stays as it is; `evenkeel announce` ends it");
            }
            None => tracing::info!(target: "evenkeel", by, "announced: /readyz says 200 again"),
        }
        kept.inspect_err(|why| tracing::warn!(target: "evenkeel", why, "the withdrawal is not kept"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Withdrawn>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_kept(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be changed, and says after a stop what it says now: {error}", path.display())
}

fn told(now: &Withdrawn) -> String {
    format!("{HEAD}{}\t{}\n", now.since_s, now.by)
}

/// A file that means nothing is none.
fn read(path: &Path) -> Option<Withdrawn> {
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let path = path.display();
            tracing::warn!(target: "evenkeel", %path, %error, "whether this machine is withdrawn cannot be read: it is not");
            None
        }
    }
}

fn parse(text: &str) -> Option<Withdrawn> {
    let (since, by) = text.strip_prefix(HEAD)?.lines().next()?.split_once('\t')?;
    Some(Withdrawn { by: by.to_owned(), since_s: since.parse().ok()? })
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const HEAD: &str = "evenkeel withdrawn 1\n";
const BYTES_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().join("withdrawn"));
        let begin = |before| Withdrawal::new(path.clone(), before);
        let first = begin(None);
        assert_eq!(first.current(), None);
        first.set("uid 7", true).unwrap();
        first.set("somebody else", true).unwrap();
        let now = first.current().unwrap();
        assert_eq!((&*now.by, now.since_s > 1_700_000_000), ("uid 7", true));
        assert_eq!(begin(None).current(), Some(now.clone()), "a stop is outlived");
        assert_eq!(begin(Some(None)).current(), None, "who was told by the process before knows better");
        first.set("uid 7", false).unwrap();
        assert_eq!((first.current(), begin(None).current()), (None, None));
        assert_eq!(Withdrawal::new(None, Some(Some(now.clone()))).current(), Some(now));
        let nowhere = Withdrawal::new(None, None);
        assert!(nowhere.set("root", true).unwrap_err().contains("StateDirectory"));
        assert!(nowhere.current().is_some() && nowhere.set("root", false).is_ok());
    }

    #[test]
    fn a_file_that_means_nothing_is_none() {
        for text in ["", HEAD, "evenkeel withdrawn 2\n7\troot\n", "evenkeel withdrawn 1\nx\troot\n", "\0"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let now = Withdrawn { by: "uid 1000 (eve)".into(), since_s: 7 };
        assert_eq!(parse(&told(&now)), Some(now));
    }

    #[test]
    fn a_folder_that_takes_nothing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none/withdrawn");
        let withdrawal = Withdrawal::new(Some(path.clone()), None);
        let why = withdrawal.set("root", true).unwrap_err();
        assert!(why.contains("withdrawn cannot be changed"), "{why}");
        assert!(withdrawal.current().is_some(), "it is so all the same");
        assert!(withdrawal.set("root", true).is_err(), "and is not said to be kept");
        std::fs::create_dir(folder.path().join("none")).unwrap();
        withdrawal.set("root", true).unwrap();
        assert!(Withdrawal::new(Some(path), None).current().is_some(), "once the folder is mended, it is");
    }
}
