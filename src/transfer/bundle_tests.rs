//! Parcels that arrive, and what is refused.

use std::os::fd::AsFd;

use super::*;
use crate::manifest::Door;

/// A manifest with so many doors, whose sockets are pipes.
fn manifest(doors: usize) -> (Manifest, Vec<io::PipeReader>) {
    let pipes: Vec<_> = (0..doors).map(|_| io::pipe().unwrap().0).collect();
    let door = |(id, pipe): (u64, &io::PipeReader)| Door {
        id,
        number: 0,
        udp: false,
        bind: (None, 1),
        address: "[::]:1".parse().unwrap(),
        listener: "a".into(),
        lost_seen: 0,
        fd: pipe.as_raw_fd(),
    };
    let manifest = Manifest {
        program: "0".into(),
        config: "text".into(),
        config_path: "/path".into(),
        epoch_ns: 1,
        workers: 1,
        http: None,
        socket: None,
        doors: (0..).zip(&pipes).map(door).collect(),
        listeners: Vec::new(),
        pools: Vec::new(),
        terms: Vec::new(),
        flow_terms: Vec::new(),
        sessions: Vec::new(),
        flows: Vec::new(),
        reloads: (0, 0),
    };
    (manifest, pipes)
}

/// Sends these messages and takes what comes.
fn carry(messages: &[(Vec<u8>, Vec<RawFd>)]) -> Result<Bundle, BundleError> {
    let (here, there) = fd_passing::pair().unwrap();
    for (bytes, descriptors) in messages {
        fd_passing::send(here.as_fd(), bytes, descriptors).unwrap();
    }
    let mut arriving = Arriving::default();
    let mut buffer = [0; 64];
    while let Ok(Some(arrived)) = fd_passing::receive(there.as_fd(), &mut buffer, false) {
        let length = arrived.length;
        arriving.take(&buffer[..length], arrived)?;
    }
    arriving.finish()
}

#[test]
fn what_was_sent_arrives_with_every_descriptor_under_its_number() {
    for doors in [0, 1, 253, 254, 600] {
        let (manifest, pipes) = manifest(doors);
        let messages: Vec<_> = Messages::new(&manifest).unwrap().iter().collect();
        let sent = Messages::new(&manifest).unwrap();
        let again: Vec<_> = sent.iter().collect();
        assert_eq!(messages.len(), 1 + doors.div_ceil(DESCRIPTORS_MAX));
        let mut bundle = carry(&again).unwrap();
        assert_eq!(bundle.manifest, manifest);
        for pipe in &pipes {
            let came = bundle.descriptor(pipe.as_raw_fd()).unwrap();
            let same =
                |fd: BorrowedInode<'_>| std::fs::metadata(format!("/proc/self/fd/{}", fd.0.as_raw_fd()));
            let (mine, theirs) = (same(BorrowedInode(pipe.as_fd())), same(BorrowedInode(came.as_fd())));
            let inode =
                |about: io::Result<std::fs::Metadata>| std::os::unix::fs::MetadataExt::ino(&about.unwrap());
            assert_eq!(inode(mine), inode(theirs));
            assert!(bundle.descriptor(pipe.as_raw_fd()).is_none(), "once");
        }
    }
}

struct BorrowedInode<'a>(std::os::fd::BorrowedFd<'a>);

#[test]
fn what_is_not_whole_or_not_ours_is_refused() {
    let (manifest, _pipes) = manifest(600);
    let bundle = Messages::new(&manifest).unwrap();
    let all: Vec<_> = bundle.iter().collect();
    assert!(carry(&all).is_ok());
    let refused = |messages: &[(Vec<u8>, Vec<RawFd>)]| carry(messages).unwrap_err().to_string();
    assert_eq!(refused(&[]), BundleError::Foreign.to_string());
    assert_eq!(refused(&all[..1]), "0 of 600 descriptors came");
    assert_eq!(refused(&all[..3]), "506 of 600 descriptors came");
    assert_eq!(refused(&all[1..]), BundleError::Foreign.to_string(), "without its head");
    let swapped = [all[0].clone(), all[2].clone(), all[1].clone(), all[3].clone()];
    assert_eq!(refused(&swapped), BundleError::Foreign.to_string(), "out of order");
    let doubled: Vec<_> = all.iter().chain(&all[1..]).cloned().collect();
    assert_eq!(refused(&doubled), BundleError::Foreign.to_string());
    let mut other = all.clone();
    other[0].0[8] ^= 4;
    assert!(refused(&other).contains("version 7 of the manifest"), "{}", refused(&other));
    let mut damaged = all.clone();
    damaged[0].0[16] ^= 1;
    assert_eq!(refused(&damaged), BundleError::Damaged.to_string(), "another sum");
    let mut foreign = all;
    foreign[0].0[0] = b'E';
    assert_eq!(refused(&foreign), BundleError::Foreign.to_string());
}

#[test]
fn a_record_that_names_what_is_not_there_is_refused() {
    let (mut manifest, _pipes) = manifest(2);
    manifest.doors[1].fd = manifest.doors[0].fd;
    let messages = Messages::new(&manifest).unwrap();
    let twice: Vec<_> = messages.iter().collect();
    assert!(matches!(carry(&twice), Err(BundleError::Damaged)), "one socket cannot be two");
}
