//! Admin socket (Unix domain) of the commands: who may connect is the mode of the file, who did is in the log.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener as Listener;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connections::{ConnectionLife, Connections};
use super::requests::Request;
use super::sources::{Peer, Sources};
use super::{Door, converse};
use crate::sys::unix::{self, Listening, Stays};

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: Listener,
    file: Listening,
}

impl Socket {
    /// What makes its file outlive it.
    pub fn stays(&self) -> Stays {
        self.file.stays()
    }

    /// Its number, for another process.
    pub fn number(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

/// A socket that another process bound.
pub fn adopt_socket(socket: OwnedFd, path: &Path) -> io::Result<Socket> {
    let file = Listening::import(path)?;
    Ok(Socket { listener: socket.into(), file })
}

/// Binds the socket. A file that a former process left is replaced; one behind which somebody answers, or that is no
/// socket, is not.
pub fn bind_socket(path: &Path) -> io::Result<Socket> {
    let (socket, file) = unix::listen(path)?;
    Ok(Socket { listener: socket.into(), file })
}

/// Serves until stopped. As many at once as at the HTTP door, and as long.
pub async fn serve_socket(
    socket: Socket,
    sources: Arc<Sources>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
) {
    let Socket { listener, file } = socket;
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(target: "evenkeel", %error, "admin.socket cannot be served");
            return;
        }
    };
    let mut connections = Connections::default();
    let mut gate = sources.gate.keeper();
    loop {
        let is_open = gate.is_open();
        // All arms may be dropped without loss, and come in this order, as at the other door.
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = gate.changed() => continue,
            accepted = listener.accept(), if is_open => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(target: "evenkeel", %error, "a command could not be taken");
                    tokio::time::sleep(super::ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let life =
            Arc::new(ConnectionLife { is_crowded: sources.is_crowded(&stream), ..ConnectionLife::default() });
        let (by, requests) = (peer(&stream), requests.clone());
        let door = Door::Steering { by, requests, life: Arc::clone(&life), stop: stop.clone() };
        let conversation = converse(stream, Arc::clone(&sources), door, stop.clone());
        connections.admit(conversation, COMMAND_MAX, life);
    }
    drop((listener, file));
    // Whoever moved the socket by a reload is still to hear that it is done.
    connections.finish(LAST_ANSWERS_MAX).await;
}

/// `root`, or `uid 1000` where the user has no name here.
fn peer(stream: &UnixStream) -> Peer {
    let Ok(credentials) = stream.peer_cred() else {
        return Peer { name: "somebody".to_owned(), is_owner: false };
    };
    let uid = credentials.uid();
    Peer { name: name_of(uid), is_owner: uid == 0 || uid == unix::own_uid() }
}

fn name_of(uid: u32) -> String {
    let mut users = String::new();
    // A list of users that is no text, or endless, names nobody.
    let _ = std::fs::File::open("/etc/passwd")
        .and_then(|file| file.take(USERS_BYTES_MAX).read_to_string(&mut users));
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid {uid}"))
}

/// A reload of a large file waits for nothing but the disk.
const COMMAND_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// Answers that are under way when the door closes.
const LAST_ANSWERS_MAX: std::time::Duration = std::time::Duration::from_secs(1);
const USERS_BYTES_MAX: u64 = 1 << 20;
