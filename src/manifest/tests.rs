//! Everything comes back; what is broken is refused.

use proptest::prelude::*;

use super::*;

fn side(fd: i32) -> Side {
    Side {
        fd,
        readable: true,
        writable: false,
        ending: true,
        read_out: false,
        finished: true,
        broken: Some(104),
        failed: false,
        urgent: true,
    }
}

fn way(held: Held) -> HalfDuplex {
    HalfDuplex { delivered_bytes: u64::MAX, held, mode: 1, lead_bytes: 7, full_reads: 2 }
}

fn session(fd: i32, phase: Phase) -> Session {
    let proxied = Proxied {
        peer: "[fe80::1%3]:9".parse().unwrap(),
        carried: Carried::Proxy("1.2.3.4:5".parse().unwrap(), "[::1]:6".parse().unwrap()),
        tlvs: Bytes(vec![1, 2, 3]),
    };
    let piped = Held::Piped { read_end: fd + 2, write_end: fd + 3, held_bytes: 9, size_bytes: 4_096 };
    Session {
        worker: 1,
        terms: 0,
        client: side(fd),
        client_address: "10.0.0.1:4000".parse().unwrap(),
        proxied: Some(proxied),
        local_port: 5_432,
        backend: Some(side(fd + 1)),
        lease: Some(17),
        has_permit: true,
        phase,
        to_backend: way(piped),
        to_client: way(Held::Bytes(Bytes(b"unsent".to_vec()))),
        finished_first: Some(0),
        moved_ms: 5,
        lifetime_end_ms: None,
        asked_us: 6,
        started_us: 7,
        connect_us: Some(8),
        queue_us: None,
        close_later_ms: Some(9),
        on_down: 1,
        attempts: 2,
        tried: vec![0, 3],
        error: Some(111),
    }
}

fn manifest() -> Manifest {
    let phases = [
        Phase::AwaitingHeader(1),
        Phase::Dialling(2, 3),
        Phase::Queued(4, 5),
        Phase::Pausing(6),
        Phase::Relaying,
        Phase::Lingering("client_reset".into(), 7),
    ];
    Manifest {
        program: "0.1.0".into(),
        config: "listeners: {}\n".into(),
        config_path: "/etc/evenkeel/evenkeel.yaml".into(),
        epoch_ns: 1,
        workers: 2,
        http: Some(900),
        socket: Some((901, "/run/evenkeel/admin.sock".into())),
        doors: vec![Door {
            id: 1,
            number: 0,
            udp: true,
            bind: (None, 53),
            address: "0.0.0.0:53".parse().unwrap(),
            listener: "dns".into(),
            lost_seen: 3,
            fd: 800,
        }],
        listeners: vec![],
        pools: vec![],
        terms: vec![],
        flow_terms: vec![],
        sessions: (0..).step_by(10).zip(phases).map(|(fd, phase)| session(fd, phase)).collect(),
        flows: vec![],
        reloads: (4, 5),
    }
}

#[test]
fn everything_comes_back_and_names_each_descriptor_once() {
    let manifest = manifest();
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes), Ok(manifest.clone()));
    let mut descriptors = manifest.descriptors();
    assert_eq!(descriptors.len(), 2 + 1 + 6 * 4);
    descriptors.sort_unstable();
    descriptors.dedup();
    assert_eq!(descriptors.len(), 2 + 1 + 6 * 4);
}

#[test]
fn a_part_and_a_whole_with_more_behind_it_are_refused() {
    let bytes = manifest().encode();
    for length in 0..bytes.len() {
        assert_eq!(Manifest::decode(&bytes[..length]), Err(Broken), "{length} of {}", bytes.len());
    }
    let doubled: Vec<u8> = bytes.iter().chain(&bytes).copied().collect();
    assert_eq!(Manifest::decode(&doubled), Err(Broken));
}

proptest! {
    /// Whatever is read: no panic, and what is taken for a manifest is one.
    #[test]
    fn broken_bytes_are_refused_or_mean_something(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = manifest().encode();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Manifest::decode(&bytes);
    }
}
