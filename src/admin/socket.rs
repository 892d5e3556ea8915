//! The Unix socket of the commands: who may connect is the file's mode, who did is in the log.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::requests::Request;
use super::{Sources, converse, crowd::Crowd};

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the socket. A file that a former process left is replaced; one behind which somebody answers is not.
pub fn bind_socket(path: &Path) -> io::Result<Socket> {
    if path.symlink_metadata().is_ok() {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                let taken = "another balancer answers there; give each its own `admin.socket`";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    let listener = UnixListener::bind(path)?;
    let socket = Socket { listener, path: path.to_owned() };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    Ok(socket)
}

/// Serves until stopped. As many at once as at the HTTP door, and as long.
pub async fn serve_socket(
    socket: Socket,
    sources: Arc<Sources>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
) {
    let mut crowd = Crowd::default();
    loop {
        // Both arms may be dropped without loss: no connection is taken before the accept completes.
        let stream = tokio::select! {
            accepted = socket.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(target: "evenkeel", %error, "a command could not be taken");
                    tokio::time::sleep(super::ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => return,
        };
        let by = peer(&stream);
        let steering = Some((by, requests.clone()));
        crowd.admit(converse(stream, Arc::clone(&sources), steering), COMMAND_MAX);
    }
}

/// `root`, or `uid 1000` where the user has no name here.
fn peer(stream: &UnixStream) -> String {
    let Ok(credentials) = stream.peer_cred() else { return "somebody".to_owned() };
    let uid = credentials.uid();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid {uid}"))
}

/// The group may use the commands.
const MODE: u32 = 0o660;
/// A reload of a large file waits for nothing but the disk.
const COMMAND_MAX: std::time::Duration = std::time::Duration::from_secs(60);
