//! Files that others make: opened without waiting, whatever they are by then.

use std::fs::File;
use std::io;

use rustix::fs::{Mode, OFlags, open};

/// Opens a file for reading; a pipe does not wait for its writer, and a terminal does not become ours.
pub fn open_without_waiting(path: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(open(path, flags, Mode::empty())?))
}
