//! Parcels that arrive, and what is refused.

use std::os::fd::AsFd;

use super::*;
use crate::manifest::{Door, Head};

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
    let head = Head {
        program: "0".into(),
        config: "text".into(),
        config_path: "/path".into(),
        epoch_ns: 1,
        workers: 1,
        http: None,
        socket: None,
        reloads: (0, 0),
        ready: None,
        withdrawn: None,
        base: None,
        run_time: None,
    };
    let doors = (0..).zip(&pipes).map(door).collect();
    let manifest = Manifest { doors, ..Manifest::new(head) };
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
    arriving.finish(&HashSet::new())
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
    let mut damaged = all.clone();
    damaged[0].0[20] ^= 1;
    assert_eq!(refused(&damaged), BundleError::Damaged.to_string(), "another sum");
    let mut foreign = all;
    foreign[0].0[0] = b'E';
    assert_eq!(refused(&foreign), BundleError::Foreign.to_string());
}

#[test]
fn a_build_that_is_too_far_away_is_told_by_its_number() {
    let (manifest, _pipes) = manifest(3);
    let bundle = Messages::new(&manifest).unwrap();
    let all: Vec<_> = bundle.iter().collect();
    let with = |format: u32, oldest: u32| {
        let mut all = all.clone();
        all[0].0[8..12].copy_from_slice(&format.to_le_bytes());
        all[0].0[12..16].copy_from_slice(&oldest.to_le_bytes());
        carry(&all).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with(VERSION + 9, VERSION), Ok(()), "it says that this program may read it");
    let refused = with(VERSION + 9, VERSION + 1).unwrap_err();
    assert!(refused.contains(&format!("takes a program of format {} or later", VERSION + 1)), "{refused}");
    // The head of a build of which the manifest could not grow, as it was sent: version 2, three descriptors, a checksum.
    let old = b"evenkeel\x02\0\0\0\x03\0\0\0\xd1\x9b\x60\x3c\x11\x4f\x7e\xa2";
    let mut messages = all.clone();
    messages[0].0 = old.to_vec();
    let refused = carry(&messages).unwrap_err().to_string();
    assert!(refused.contains("is of format 2, and this program reads 3 and later"), "{refused}");
    // What such a build looks at: it takes 2 and nothing else.
    assert_eq!(&all[0].0[..8], MAGIC);
    assert_ne!(&all[0].0[8..12], 2_u32.to_le_bytes());
}

#[test]
fn what_a_later_build_adds_to_messages_and_descriptors_changes_nothing() {
    let (mut manifest, pipes) = manifest(3);
    let bundle = Messages::new(&manifest).unwrap();
    let mut all: Vec<_> = bundle.iter().collect();
    // A record that is not known here named the last one.
    manifest.doors.pop();
    let mut bytes = manifest.encode();
    let listed = i32s(&[pipes[0].as_raw_fd(), pipes[1].as_raw_fd()]);
    let at = bytes.windows(listed.len()).position(|window| window == listed).unwrap();
    // The length of the record, the number of descriptors, and one more of them.
    for length in [at - 8, at - 4] {
        bytes[length] += if length == at - 4 { 1 } else { 4 };
    }
    bytes.splice(at + 8..at + 8, pipes[2].as_raw_fd().to_le_bytes());
    let sealed = memfd::sealed(&bytes).unwrap();
    all[0].1 = vec![sealed.as_raw_fd(), pipes[0].as_raw_fd()];
    let sum = all[0].0.len() - 8;
    all[0].0[sum..].copy_from_slice(&checksum(&bytes).to_le_bytes());
    all[0].0.extend(b"more");
    all[1].0.extend(b"more");
    let mut bundle = carry(&all).unwrap();
    assert_eq!(bundle.manifest, manifest);
    let came = [0, 1, 2].map(|at| bundle.descriptor(pipes[at].as_raw_fd()).is_some());
    assert_eq!(came, [true, true, true], "each can be taken, and is closed if it is not");
}

fn i32s(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn a_record_that_names_what_is_not_there_is_refused() {
    let (mut manifest, _pipes) = manifest(2);
    manifest.doors[1].fd = manifest.doors[0].fd;
    let messages = Messages::new(&manifest).unwrap();
    let twice: Vec<_> = messages.iter().collect();
    assert!(matches!(carry(&twice), Err(BundleError::Damaged)), "one socket cannot be two");
    // A descriptor that is not on the list.
    let (mut manifest, pipes) = self::manifest(2);
    let mut bytes = manifest.encode();
    let listed = i32s(&[pipes[0].as_raw_fd(), pipes[1].as_raw_fd()]);
    let at = bytes.windows(listed.len()).position(|window| window == listed).unwrap();
    bytes[at..at + 4].copy_from_slice(&9_999_i32.to_le_bytes());
    let sealed = memfd::sealed(&bytes).unwrap();
    let unlisted = Messages::new(&manifest).unwrap();
    let mut messages: Vec<_> = unlisted.iter().collect();
    messages[0].1 = vec![sealed.as_raw_fd()];
    let sum = messages[0].0.len() - 8;
    messages[0].0[sum..].copy_from_slice(&checksum(&bytes).to_le_bytes());
    assert!(matches!(carry(&messages), Err(BundleError::Damaged)), "nothing came for that door");
    manifest.doors.clear();
    assert!(carry(&Messages::new(&manifest).unwrap().iter().collect::<Vec<_>>()).is_ok());
}
