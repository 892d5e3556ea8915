//! Pipes, and splice: bytes that go from socket to socket without passing through the process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::Errno;

/// A pipe and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    read_end: OwnedFd,
    write_end: OwnedFd,
    held_bytes: usize,
    size_bytes: usize,
}

impl Pipe {
    /// A pipe of this size, or of what the kernel grants of it. An unprivileged user over the page budget gets EPERM.
    pub fn new(size_bytes: usize) -> Result<Self, Errno> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size_bytes = fcntl_setpipe_size(&write_end, size_bytes)?;
        Ok(Self { read_end, write_end, held_bytes: 0, size_bytes })
    }

    /// A pipe of another process, with what is in it.
    pub fn import(read_end: OwnedFd, write_end: OwnedFd, held_bytes: usize, size_bytes: usize) -> Self {
        Self { read_end, write_end, held_bytes, size_bytes }
    }

    /// Its two ends, to be named to another process.
    pub fn ends(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.read_end.as_fd(), self.write_end.as_fd())
    }

    /// What it can hold at most.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// What is in it now.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Moves bytes from a socket into the pipe, at most `bytes_max`. 0 is the end of the stream. Call it on an empty pipe
    /// only: from a full one the kernel's EAGAIN would look like a socket without data.
    pub fn fill(&mut self, from: BorrowedFd<'_>, bytes_max: usize) -> Result<usize, Errno> {
        debug_assert_eq!(self.held_bytes, 0, "filling a pipe that holds bytes");
        let moved = splice(from, None, &self.write_end, None, self.size_bytes.min(bytes_max), MOVE)?;
        self.held_bytes += moved;
        Ok(moved)
    }

    /// Moves bytes from the pipe into a socket.
    pub fn drain(&mut self, to: BorrowedFd<'_>) -> Result<usize, Errno> {
        let moved = splice(&self.read_end, None, to, None, self.held_bytes, MOVE)?;
        self.held_bytes = self.held_bytes.saturating_sub(moved);
        Ok(moved)
    }

    /// Reads everything that is in it.
    pub fn read(&mut self) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; self.held_bytes];
        while self.held_bytes > 0 {
            let from = bytes.len() - self.held_bytes;
            match rustix::io::read(&self.read_end, &mut bytes[from..]) {
                Ok(0) => return Err(Errno::PIPE),
                Ok(length) => self.held_bytes = self.held_bytes.saturating_sub(length),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(bytes)
    }
}

const MOVE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_pass_from_socket_to_socket() {
        let (mut source, entry) = pair();
        let (exit, mut target) = pair();
        let mut pipe = Pipe::new(64 * 1024).unwrap();
        assert!(pipe.size_bytes() >= 64 * 1024);
        source.write_all(b"through the pipe").unwrap();
        source.shutdown(std::net::Shutdown::Write).unwrap();
        let mut moved = 0;
        // Blocking sockets: `fill` waits for the first bytes; 0 comes only after all were taken.
        loop {
            let filled = pipe.fill(entry.as_fd(), usize::MAX).unwrap();
            if filled == 0 {
                break;
            }
            while pipe.held_bytes() > 0 {
                moved += pipe.drain(exit.as_fd()).unwrap();
            }
        }
        assert_eq!(moved, 16);
        drop(exit);
        let mut text = String::new();
        target.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the pipe");
    }
}
