//! Admin commands, carried out: each in a task of its own, so that a reload holds up no question.

use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::control::{Control, lock};
use super::{Refused, Succeeded, UpgradeError, Whom};
use crate::admin::requests::{self, Kind, Request};
use crate::admin::{self, Socket};
use crate::config::settings::{AdminSocket, Settings};
use crate::reason::Reason;
use crate::session_query::Filter;
use crate::sys::unix::Stays;
use crate::worker::{self, Message};

/// The socket of the commands cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("admin.socket: {}: {source}", path.display())]
pub struct SocketError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// A bound socket, and what ends it.
pub(super) struct SocketDoor {
    pub(super) socket: Socket,
    pub(super) path: PathBuf,
}

/// The socket that is served.
pub(super) struct ServedSocket {
    pub(super) path: PathBuf,
    pub(super) fd: RawFd,
    /// Makes its file outlive this process.
    pub(super) stays: Stays,
    stop: CancellationToken,
}

impl SocketDoor {
    /// The socket that another process had.
    pub(super) fn import(fd: OwnedFd, path: PathBuf) -> std::io::Result<Self> {
        Ok(Self { socket: admin::adopt_socket(fd, &path)?, path })
    }

    /// The socket that the file asks for, `usual` where it leaves that open. One that was not asked for by name may fail
    /// with a warning.
    pub(super) fn bind(settings: &Settings, usual: Option<&Path>) -> Result<Option<Self>, SocketError> {
        let (path, asked) = match &settings.admin.socket {
            AdminSocket::Off => return Ok(None),
            AdminSocket::Path(path) => (PathBuf::from(path), true),
            AdminSocket::Auto => match usual {
                Some(path) => (path.to_owned(), false),
                None => {
                    tracing::warn!(target: "evenkeel", "no admin socket: there is neither /run/evenkeel nor XDG_RUNTIME_DIR; admin.socket names a place for it, or `off`");
                    return Ok(None);
                }
            },
        };
        match admin::bind_socket(&path) {
            Ok(socket) => Ok(Some(Self { socket, path })),
            Err(source) if asked => Err(SocketError { path, source }),
            Err(error) => {
                let path = path.display();
                tracing::warn!(target: "evenkeel", %path, %error, "the commands cannot reach this balancer: no admin socket; admin.socket names another place, or `off`");
                Ok(None)
            }
        }
    }
}

impl Control {
    /// Answers at this socket from now on, and at no other.
    pub(super) fn serve_socket(self: &Arc<Self>, door: Option<SocketDoor>) {
        let stop = CancellationToken::new();
        let now = door.as_ref().map(|door| ServedSocket {
            path: door.path.clone(),
            fd: door.socket.number(),
            stays: door.socket.stays(),
            stop: stop.clone(),
        });
        if let Some(before) = std::mem::replace(&mut *lock(&self.socket), now) {
            before.stop.cancel();
        }
        let Some(SocketDoor { socket, path }) = door else { return };
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        self.tasks.spawn(admin::serve_socket(socket, Arc::new(self.sources()), requests, stop));
        self.tasks.spawn(Arc::clone(self).obey(inbox));
        tracing::info!(target: "evenkeel", path = %path.display(), "admin.socket is ready: evenkeel status");
    }

    /// The socket of the new file is the one there is, perhaps said in another way.
    pub(super) fn has_socket_of(&self, before: &Settings, settings: &Settings) -> bool {
        let place = |settings: &Settings| match &settings.admin.socket {
            AdminSocket::Off => None,
            AdminSocket::Auto => self.usual_socket.clone(),
            AdminSocket::Path(path) => Some(PathBuf::from(path)),
        };
        let asked = place(settings);
        before.admin.socket == settings.admin.socket || (asked.is_some() && asked == self.socket_path())
    }

    /// Where the commands reach it.
    pub(super) fn socket_path(&self) -> Option<PathBuf> {
        lock(&self.socket).as_ref().map(|socket| socket.path.clone())
    }

    /// Carries out what is asked until nobody can ask any more.
    async fn obey(self: Arc<Self>, mut inbox: mpsc::Receiver<Request>) {
        while let Some(request) = inbox.recv().await {
            let control = Arc::clone(&self);
            self.tasks.spawn(async move { control.carry_out(request).await });
        }
    }

    async fn carry_out(self: Arc<Self>, request: Request) {
        // Whoever asked may have gone.
        match request {
            Request::Reload { reply } => {
                let outcome = self.reload_file().await;
                let _ = reply.send(outcome.map(|changes| changes.lines).map_err(|refused| {
                    let kind = match &refused {
                        Refused::Serve(super::ReloadError::Fixed(_))
                        | Refused::Unreadable(_)
                        | Refused::Mistakes(_) => Kind::BadFile,
                        Refused::Serve(_) => Kind::NotNow,
                    };
                    requests::Refused { text: refused.to_string(), kind }
                }));
            }
            Request::Upgrade { binary, reply } => {
                let outcome = self.upgrade(binary.as_deref()).await;
                let upgraded = outcome.map(|Succeeded { pid, handed_over }| requests::Upgraded {
                    pid,
                    sessions: handed_over.sessions + handed_over.flows,
                    pause_ms: handed_over.pause.as_secs_f64() * 1_000.0,
                });
                let refused = |error: UpgradeError| requests::Refused {
                    text: format!("not handed over, everything goes on as before: {error}"),
                    kind: Kind::NotNow,
                };
                let _ = reply.send(upgraded.map_err(refused));
            }
            Request::Mark { pool, backend, mark, by, reply } => {
                let outcome = self.mark(Whom { pool, backend }, mark, &by).await;
                let _ = reply.send(outcome.map_err(refused));
            }
            Request::Weight { pool, backend, weight, by, reply } => {
                let outcome = self.set_weight(Whom { pool, backend }, weight, &by).await;
                let _ = reply.send(outcome.map_err(refused));
            }
            Request::LogLevel { level, reply } => {
                (self.file.set_log_level)(level);
                let _ = reply.send(());
            }
            Request::Search { filter, close, rows_max, reply } => {
                let found = self.search(&filter, close.then_some(CLOSED), rows_max).await;
                let _ = reply.send(found);
            }
        }
    }

    /// Asks every data thread; each looks a little in each of its turns.
    async fn search(&self, filter: &Filter, close: Option<Reason>, rows_max: usize) -> requests::Search {
        let mut answers = Vec::new();
        for worker in 0..self.workers.count() {
            let (sender, answer) = oneshot::channel();
            let search = worker::Search {
                filter: filter.clone(),
                close,
                rows_max,
                reply: Box::new(move |answer| drop(sender.send(answer))),
            };
            self.workers.mailbox(worker).post(Message::Search(Box::new(search)));
            answers.push(answer);
        }
        let mut all = requests::Search::default();
        for answer in answers {
            // A thread that ended has no sessions.
            let worker::Answer { rows, count } = answer.await.unwrap_or_default();
            all.count += count;
            all.rows.extend(rows);
        }
        all.rows.sort_by_key(|found| std::cmp::Reverse(found.age_ms));
        all.rows.truncate(rows_max);
        all
    }
}

impl Control {
    /// Ends the sessions of a listener when the grace is over.
    pub(super) fn end_after_grace(self: &Arc<Self>, listener: String, grace: Duration, reason: Reason) {
        let (control, stop) = (Arc::clone(self), self.stop.clone());
        self.tasks.spawn(async move {
            // Both arms may be dropped without loss.
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                () = stop.cancelled() => return,
            }
            // A file may have brought it back meanwhile.
            if control.served().terms.contains_key(&listener) {
                return;
            }
            let filter = Filter { listener: Some(listener), ..Filter::default() };
            control.search(&filter, Some(reason), 0).await;
        });
    }
}

// By value: it is what `map_err` gives.
#[allow(clippy::needless_pass_by_value)]
fn refused(error: super::OrderError) -> requests::Refused {
    let kind = if error == super::OrderError::Stopping { Kind::NotNow } else { Kind::NoSuch };
    requests::Refused { text: error.to_string(), kind }
}

/// Orders on their way; whoever gives one waits.
const REQUESTS_MAX: usize = 64;

/// Why sessions end that an operator closes.
#[cfg(not(feature = "manifest-next"))]
const CLOSED: Reason = Reason::Closed;
#[cfg(feature = "manifest-next")]
const CLOSED: Reason = Reason::Next;
