//! Everything comes back, also to a build that knows less or more; what is broken is refused.

use proptest::prelude::*;

use super::made::{Chance, Made};
use super::*;

fn manifest() -> Manifest {
    // Chance alone may leave a list empty.
    let mut by = Chance(7);
    let mut manifest = Manifest::made(&mut by);
    while manifest.sessions.len() < 3 || manifest.flows.is_empty() || manifest.pools.is_empty() {
        manifest = Manifest::made(&mut by);
    }
    manifest
}

fn read(bytes: &[u8]) -> Result<Manifest, Broken> {
    Manifest::decode(bytes).map(|(manifest, _)| manifest)
}

/// Where the records of a manifest begin.
fn starts(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut starts) = (0, Vec::new());
    while at < bytes.len() {
        starts.push(at);
        // The kind, the length, the fields.
        let length = u32::from_le_bytes(*bytes[at + 2..].first_chunk().unwrap());
        at += 6 + length as usize;
    }
    starts
}

/// A record of this kind.
fn record(kind: u16, fields: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    kind.put(&mut out);
    Bytes(fields.to_vec()).put(&mut out);
    out.into_bytes()
}

#[test]
fn a_part_and_a_whole_with_more_behind_it_are_refused() {
    let bytes = manifest().encode();
    for length in 0..bytes.len() {
        assert_eq!(read(&bytes[..length]), Err(Broken), "{length} of {}", bytes.len());
    }
    let doubled: Vec<u8> = bytes.iter().chain(&bytes).copied().collect();
    assert_eq!(read(&doubled), Err(Broken));
}

#[test]
fn what_there_is_one_of_must_be_there_once() {
    let bytes = manifest().encode();
    let starts = starts(&bytes);
    for (at, start) in starts.iter().enumerate() {
        let mut reader = Reader::new(&bytes[*start..]);
        let kind = u16::take(&mut reader).unwrap();
        if [HEAD, DESCRIPTORS, WORDS].contains(&kind) {
            let end = starts[at + 1];
            let without = [&bytes[..*start], &bytes[end..]].concat();
            let twice = [&bytes[..end], &bytes[*start..]].concat();
            assert_eq!((read(&without), read(&twice)), (Err(Broken), Err(Broken)), "kind {kind}");
        }
    }
}

#[test]
fn a_session_that_is_not_understood_says_so() {
    let mut session = manifest().sessions.remove(0);
    session.phase = Phase::Relaying;
    session.proxied = None;
    for way in [&mut session.to_backend, &mut session.to_client] {
        way.held = Held::Nothing;
    }
    assert!(!session.is_foreign());
    assert!(Session { phase: Phase::Foreign(9), ..session.clone() }.is_foreign());
    let mut holds = session.clone();
    holds.to_client.held = Held::Foreign(9);
    assert!(holds.is_foreign());
}

proptest! {
    #[test]
    fn everything_comes_back(seed in any::<u64>()) {
        let manifest = Manifest::made(&mut Chance(seed));
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok((manifest.clone(), manifest.descriptors())));
    }

    /// As a later build would write it: every record and every variant has more at its end, and there are records that
    /// nobody knows.
    #[test]
    fn what_a_later_build_adds_is_skipped(
        seed in any::<u64>(),
        more in prop::collection::vec(any::<u8>(), 0..40),
        kinds in prop::collection::vec((any::<prop::sample::Index>(), 1_000_u16..50_000), 0..5),
    ) {
        let manifest = Manifest::made(&mut Chance(seed));
        let mut out = Writer::default();
        out.more.clone_from(&more);
        let mut bytes = manifest.encode_with(out);
        for (place, kind) in kinds {
            let starts = starts(&bytes);
            let start = starts[place.index(starts.len())];
            bytes.splice(start..start, record(kind, &more));
        }
        // Those fields that were added last would be read out of what is added here.
        if !cfg!(feature = "manifest-next") {
            prop_assert_eq!(Manifest::decode(&bytes), Ok((manifest.clone(), manifest.descriptors())));
        }
    }

    /// Whatever is read: no panic, and what is taken for a manifest is one.
    #[test]
    fn broken_bytes_are_refused_or_mean_something(
        seed in any::<u64>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Manifest::made(&mut Chance(seed)).encode();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(manifest) = read(&bytes) {
            prop_assert_eq!(read(&manifest.encode()), Ok(manifest));
        }
        bytes.truncate(length.index(bytes.len()));
        let _ = read(&bytes);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Manifest::decode(&bytes);
    }
}
