//! Unix sockets with a path: listening so that nobody else ever had access, and taking the place of one that is dead.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A socket at a path. The file is removed with it, if it is still its own.
#[derive(Debug)]
pub struct Listening {
    path: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
    stays: Arc<AtomicBool>,
}

/// Says that a socket's file is to outlive its [`Listening`]: another process listens there now.
#[derive(Debug, Clone)]
pub struct Stays(Arc<AtomicBool>);

impl Stays {
    /// From now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// No more: the file goes with its [`Listening`].
    pub fn unset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Listening {
    /// The file of a socket that another process made.
    pub fn import(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)?, stays: Arc::default() })
    }

    /// What makes its file stay.
    pub fn stays(&self) -> Stays {
        Stays(Arc::clone(&self.stays))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if !self.stays.load(Ordering::Relaxed) && identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Whoever removed it meanwhile did our work.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens there, for the owner and the group alone (mode 0660). The file of a socket that nobody answers at is replaced;
/// anything else that is there stays and is an error.
pub fn listen(path: &Path) -> io::Result<(OwnedFd, Listening)> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    // Two that start at once must not each remove the other's fresh socket.
    let _turn = take_turn(folder)?;
    remove_dead(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A socket's file is made with the mode of the socket, less the umask: there is no moment at which others may connect.
    fchmod(&socket, Mode::from_raw_mode(MODE))?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let listening = Listening { path: path.to_owned(), identity: identity(path)?, stays: Arc::default() };
    // What the umask took from the group is given back.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    net::listen(&socket, BACKLOG)?;
    Ok((socket, listening))
}

/// The user that this process acts as.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn remove_dead(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket; it stays"));
    }
    // One whose queue is full is alive too, and must not hold us up.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "another balancer answers there; give each its own `admin.socket`",
        )),
        Err(errno) => Err(errno.into()),
    }
}

/// A lock of the folder, waited for a second: anyone who may read the folder can hold it.
fn take_turn(folder: &Path) -> io::Result<File> {
    let folder = File::open(folder)?;
    for _ in 0..TURN_LOOKS {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => std::thread::sleep(TURN_LOOK_EVERY),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(folder)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

const MODE: u32 = 0o660;
const BACKLOG: i32 = 128;
const TURN_LOOKS: u32 = 50;
const TURN_LOOK_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn owner_and_group_may_and_the_file_goes_with_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (socket, listening) = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
        assert!(UnixStream::connect(&path).is_ok());
        drop((socket, listening));
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_one_is_replaced_a_living_one_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (socket, listening) = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        // It dies without a chance to clean up.
        std::mem::forget(listening);
        drop(socket);
        assert!(path.exists());
        let (_socket, listening) = listen(&path).unwrap();
        // Somebody else's file at the same path stays.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(listening);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn of_many_that_start_at_once_one_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        for _ in 0..20 {
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| listen(&path))).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            let (living, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
            assert_eq!((living.len(), refused.len()), (1, 3));
            assert!(UnixStream::connect(&path).is_ok());
        }
    }
}
