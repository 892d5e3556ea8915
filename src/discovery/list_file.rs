//! List file: a file that lists backends, looked at again and again, and read when it is another than before.
//!
//! A look costs a microsecond, and sees every way in which files are changed: written in place, renamed over, behind links that
//! turn, with a folder that is replaced. What notifies of changes (inotify) misses one of these in each of its forms. A file that
//! has changed is read twice, at once and two seconds later: whoever writes in place has then finished.

use std::fs::{File, Metadata};
use std::future::Future;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use super::listing;
use super::watch::{Answer, Watch};
use crate::config::LISTING_BYTES_MAX;
use crate::config::settings::ListFile;
use crate::sys::files::open_without_waiting;
use crate::sys::unix::own_uid;

/// The watch over one file.
#[derive(Debug)]
pub(super) struct FileWatch {
    file: ListFile,
    /// How the file was when it was read last.
    read: Option<Mark>,
    /// When it is read once more.
    again_at: Option<Instant>,
    /// What was told last.
    told: Option<Answer>,
    /// A look that the file system has not answered: no other one is begun before it ends.
    stuck: Option<JoinHandle<Looked>>,
}

/// What came of a look; nothing where the file is as it was.
type Looked = Result<Option<(Mark, Vec<u8>)>, FileError>;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark([i64; 7]);

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no file but {0}")]
    NoFile(&'static str),
    #[error("others may write to it (mode {0:04o}), and who writes it decides where sessions go; chmod o-w")]
    Writable(u32),
    #[error("it belongs to user {owner}; it must belong to root or to user {own}, whom evenkeel runs as")]
    Stranger { owner: u32, own: u32 },
    #[error("it is longer than 8 MiB")]
    TooLong,
}

impl FileWatch {
    /// One that has not looked yet.
    pub(super) fn new(file: &ListFile) -> Self {
        Self { file: file.clone(), read: None, again_at: None, told: None, stuck: None }
    }

    /// What there is to say, if there is; asked for it, it says in any case.
    async fn look(&mut self, is_hurried: bool) -> Option<Answer> {
        let path = self.file.path.clone();
        let is_due = self.again_at.is_some_and(|at| at <= Instant::now());
        let known = self.read.filter(|_| !(is_due || is_hurried));
        let mut looking = self.stuck.take().unwrap_or_else(|| spawn_blocking(move || look(&path, known)));
        let Ok(looked) = timeout(STUCK, &mut looking).await else {
            self.stuck = Some(looking);
            return self.failed(format!("{}: the file system does not answer", self.file.path), is_hurried);
        };
        let (mark, text) = match looked {
            Ok(Ok(None)) => return None,
            Ok(Ok(Some((mark, text)))) => (mark, text),
            Ok(Err(error)) => return self.failed(format!("{}: {error}", self.file.path), is_hurried),
            Err(_) => return self.failed(format!("{}: it could not be read", self.file.path), is_hurried),
        };
        self.again_at = (self.read != Some(mark)).then(|| Instant::now() + AGAIN);
        self.read = Some(mark);
        let path = self.file.path.clone();
        let answer = spawn_blocking(move || match listing::read(&path, &text) {
            Ok(all) => Answer::Listed(all),
            Err(why) => Answer::Failure(why),
        });
        let Ok(answer) = answer.await else {
            return self.failed(format!("{}: it could not be read", self.file.path), is_hurried);
        };
        self.tell(answer, is_hurried)
    }

    fn failed(&mut self, why: String, is_hurried: bool) -> Option<Answer> {
        (self.read, self.again_at) = (None, None);
        self.tell(Answer::Failure(why), is_hurried)
    }

    /// What was told last is told again only to who asked.
    fn tell(&mut self, answer: Answer, is_hurried: bool) -> Option<Answer> {
        let is_news = self.told.as_ref() != Some(&answer);
        self.told = Some(answer.clone());
        (is_news || is_hurried).then_some(answer)
    }
}

impl Watch for FileWatch {
    fn next<'a>(&'a mut self, hurry: &'a Notify) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            let mut is_hurried = false;
            loop {
                if let Some(answer) = self.look(is_hurried).await {
                    return answer;
                }
                is_hurried = tokio::select! {
                    () = hurry.notified() => true,
                    () = sleep(self.file.every) => false,
                };
            }
        })
    }

    /// To look costs nothing, and a file that is whole again is to serve at once.
    fn pause(&self) -> Option<Duration> {
        Some(self.file.every)
    }

    /// Who may write the file could as well write the configuration.
    fn may_name_loopback(&self) -> bool {
        true
    }
}

/// The file, if it is another than known: how it is, and its text.
fn look(path: &str, known: Option<Mark>) -> Looked {
    let found = std::fs::metadata(path)?;
    check(&found)?;
    if known == Some(Mark::of(&found)) {
        return Ok(None);
    }
    // It may be a pipe by now, which would wait for a writer.
    let file = open_without_waiting(path)?;
    // What was opened is what counts.
    let opened = file.metadata()?;
    check(&opened)?;
    let mut text = Vec::new();
    let most = LISTING_BYTES_MAX as u64;
    File::take(file, most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(FileError::TooLong);
    }
    Ok(Some((Mark::of(&opened), text)))
}

/// Whether it may be used at all.
fn check(data: &Metadata) -> Result<(), FileError> {
    if !data.is_file() {
        return Err(FileError::NoFile(if data.is_dir() { "a folder" } else { "a pipe, socket or device" }));
    }
    let (mode, owner, own) = (data.mode() & 0o7777, data.uid(), own_uid());
    if mode & 0o002 != 0 {
        return Err(FileError::Writable(mode));
    }
    if owner != 0 && owner != own {
        return Err(FileError::Stranger { owner, own });
    }
    if data.len() > LISTING_BYTES_MAX as u64 {
        return Err(FileError::TooLong);
    }
    Ok(())
}

impl Mark {
    fn of(data: &Metadata) -> Self {
        // The numbers tell files apart, whatever their signs.
        #[allow(clippy::cast_possible_wrap)]
        let ids = [data.dev() as i64, data.ino() as i64, data.size() as i64];
        let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
        Self([ids[0], ids[1], ids[2], times[0], times[1], times[2], times[3]])
    }
}

/// For how long a file system may be silent (NFS without its server) before that is told.
const STUCK: Duration = Duration::from_secs(5);
/// When a file that has changed is read once more.
const AGAIN: Duration = Duration::from_secs(2);
