//! Sealed memory (memfd): bytes that travel as one descriptor and that nobody can change any more.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Memory with these bytes that nobody can change any more.
pub fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"evenkeel-manifest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file.into())
}

/// What such memory holds, if it is no more than `most`.
pub fn read_sealed(fd: OwnedFd, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    let about = file.metadata()?;
    if !about.is_file() || about.len() > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_sealed_comes_back_and_cannot_be_changed() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let fd = sealed(&bytes).unwrap();
        assert_eq!(rustix::io::pwrite(&fd, b"x", 0), Err(Errno::PERM));
        let copy = fd.try_clone().unwrap();
        assert!(read_sealed(copy, 1_000).is_err(), "more than may be");
        assert_eq!(read_sealed(fd, 1 << 30).unwrap(), bytes);
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(read_sealed(pipe, 1_000).is_err(), "no such memory");
    }
}
