//! One manifest with everything in it that this build writes: every record, every kind, every counter and reason.

use evenkeel::config::settings::{LogSessions, OnDown, Role, SendProxy, Word as _};
use evenkeel::manifest::*;
use evenkeel::metrics::{BackendShard, CheckCounts, Histogram, ListenerShard, Named, PerWorker, PoolShard};
use evenkeel::reason::Reason;

pub fn specimen() -> Manifest {
    let head = Head {
        program: "0.1.0".into(),
        config: "listeners: { web: { bind: 443, backends: [10.0.0.1] } }\n".into(),
        config_path: "/etc/evenkeel/evenkeel.yaml".into(),
        epoch_ns: 1_000_000_007,
        workers: 2,
        http: Some(900),
        socket: Some((901, "/run/evenkeel/admin.sock".into())),
        reloads: (4, 5),
        ready: Some(902),
        withdrawn: Some(("root".into(), 1_800_000_000)),
        base: Some("listeners: { web: { bind: 443, backends: [10.0.0.2] } }\n".into()),
        run_time: Some("{\"evenkeel_run_time\":1,\"changes\":[]}".into()),
    };
    let phases = [
        Phase::AwaitingHeader(1_001),
        Phase::Dialling(2_002_000, 3_003),
        Phase::Queued(4_004_000, 5_005),
        Phase::Pausing(6_006),
        Phase::Relaying,
        Phase::Lingering(Reason::ClientReset.word().into(), 7_007),
        Phase::AwaitingFirst(8_008),
        Phase::AskingTls(9_009_000, 10_010),
    ];
    Manifest {
        doors: vec![door(1, false, 800), door(2, true, 801)],
        listeners: vec![listener("web", "tcp"), listener("dns", "udp")],
        pools: vec![pool(SendProxy::V1, OnDown::Close), pool(SendProxy::V2, OnDown::Keep), reached_by_all()],
        terms: [LogSessions::All, LogSessions::Failed].map(terms).into(),
        flow_terms: vec![flow_terms(LogSessions::Off)],
        sessions: (100..).step_by(10).zip(phases).map(|(fd, phase)| session(fd, phase)).collect(),
        flows: vec![flow(300, Carried::Local), flow(301, Carried::Unknown)],
        ..Manifest::new(head)
    }
}

/// Every kind stands in the specimen: whoever adds one is asked here to add it there.
pub fn kinds(manifest: &Manifest) -> [usize; 3] {
    let phase = |phase: &Phase| match phase {
        Phase::AwaitingHeader(_) => 0,
        Phase::Dialling(..) => 1,
        Phase::Queued(..) => 2,
        Phase::Pausing(_) => 3,
        Phase::Relaying => 4,
        Phase::Lingering(..) => 5,
        Phase::AwaitingFirst(_) => 6,
        Phase::AskingTls(..) => 7,
        Phase::Foreign(_) => panic!("nobody writes it"),
    };
    let held = |held: &Held| match held {
        Held::Nothing => 0,
        Held::Bytes(_) => 1,
        Held::Piped { .. } => 2,
        Held::Foreign(_) => panic!("nobody writes it"),
    };
    let carried = |carried: &Carried| match carried {
        Carried::Proxy(..) => 0,
        Carried::Local => 1,
        Carried::Unknown => 2,
        Carried::Foreign(_) => panic!("nobody writes it"),
    };
    let count = |all: Vec<usize>| all.into_iter().collect::<std::collections::BTreeSet<_>>().len();
    let ways = manifest.sessions.iter().flat_map(|one| [&one.to_backend.held, &one.to_client.held]);
    let proxied = manifest.sessions.iter().filter_map(|one| one.proxied.as_ref());
    let proxied = proxied.chain(manifest.flows.iter().filter_map(|one| one.proxied.as_ref()));
    [
        count(manifest.sessions.iter().map(|one| phase(&one.phase)).collect()),
        count(ways.map(held).collect()),
        count(proxied.map(|one| carried(&one.carried)).collect()),
    ]
}

/// Counters with a value of its own each.
fn numbered(all: &[Named<'_>]) -> Vec<Count> {
    (1_u64..).zip(all).map(|(number, named)| named.count(number * 1_001)).collect()
}

fn counts<T: Default>(named: impl for<'a> Fn(&'a T) -> Vec<Named<'a>>) -> Vec<Count> {
    numbered(&named(PerWorker::<T>::new(1).of(0)))
}

fn door(id: u64, udp: bool, fd: i32) -> Door {
    Door {
        id,
        number: 0,
        udp,
        bind: (udp.then_some([10, 0, 0, 9].into()), 53),
        address: "[::]:53".parse().unwrap(),
        listener: if udp { "dns" } else { "web" }.into(),
        lost_seen: 3,
        fd,
    }
}

fn listener(listener: &str, proto: &str) -> ListenerCounts {
    ListenerCounts {
        listener: listener.into(),
        proto: proto.into(),
        pool: "databases".into(),
        counts: counts(ListenerShard::counters),
        rates: Some(Rates {
            whole: Some((2_000_000, 12_000_000)),
            of_sources: Some(RatesOfSources {
                interval_ns: 3_000_000,
                key: (4, 5),
                owing: vec![(6, 13_000_000), (7, 14_000_000)],
            }),
        }),
    }
}

fn pool(send_proxy: SendProxy, on_down: OnDown) -> Pool {
    let mut counted = counts(PoolShard::counters);
    counted.extend(numbered(&Histogram::default().counters("check_seconds").collect::<Vec<_>>()));
    Pool {
        name: "databases".into(),
        counts: counted,
        remembered: vec![Remembered {
            source: "2001:db8::1".parse().unwrap(),
            backend: "db1".into(),
            used_ms: 77,
            role: Role::PreferReplica.word().into(),
        }],
        backends: vec![backend("db1", Some(standing())), backend("gone", None)],
        reach: Reach {
            send_proxy: send_proxy.word().into(),
            on_down: on_down.word().into(),
            connect_ms: 5_000,
            attempts: 3,
            from_client: false,
            from: vec!["10.0.0.8".parse().unwrap()],
        },
        roles: Some(PoolRoles { primary: Some("db1".into()), generations: vec![("7361".into(), 5)] }),
        sources: vec![Source {
            text: "db.example.org:5432".into(),
            found: vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            current: Some("10.0.0.1".parse().unwrap()),
            answered_ms: Some(55),
            failing_since_ms: Some(56),
            listed: vec![FoundBackend {
                name: Some("pg-1".into()),
                ip: "10.0.0.2".parse().unwrap(),
                port: Some(5_432),
                weight: Some(3),
                tier: Some(1),
                max_sessions: Some(50),
                drains: Some("terminating (kubernetes)".into()),
            }],
        }],
    }
}

fn reached_by_all() -> Pool {
    let mut pool = pool(SendProxy::Off, OnDown::Rehome);
    pool.reach.from_client = true;
    pool
}

fn backend(name: &str, standing: Option<BackendState>) -> Backend {
    Backend {
        number: 17,
        name: name.into(),
        ip: "10.0.0.1".parse().unwrap(),
        port: Some(5_432),
        counts: counts(BackendShard::counters),
        checks: numbered(&CheckCounts::default().counters()),
        failures_in_a_row: 2,
        empty_in_a_row: 3,
        failed_ms: 88,
        latency_ns: Some(99_000),
        state: standing,
        role: Some(ServerRole {
            claim: Some("primary".into()),
            generation: Some(("7361".into(), 5)),
            claimed: 4,
            is_silent: true,
            is_lagging: true,
        }),
        left_ms: Some(66),
    }
}

fn standing() -> BackendState {
    BackendState {
        health: "down".into(),
        cause: Some("connect refused, 3 of 3 checks".into()),
        since_ms: 11,
        ejection: Ejection {
            out: Some((12, 13)),
            in_a_row: 2,
            ended_ms: 14,
            quiet_since_ms: Some(15),
            cause: "empty".into(),
        },
        rising: Some((16, 4)),
        marked: Some(("drain".into(), ("root".into(), 17))),
        weight: Some(7),
    }
}

fn terms(log_sessions: LogSessions) -> Terms {
    Terms {
        listener: "web".into(),
        pool: "databases".into(),
        idle_ms: Some(60_000),
        half_closed_ms: None,
        log_sessions: log_sessions.word().into(),
        role: Role::Replica.word().into(),
    }
}

fn flow_terms(log_sessions: LogSessions) -> FlowTerms {
    FlowTerms {
        listener: "dns".into(),
        pool: "databases".into(),
        idle_ms: Some(60_000),
        lifetime_ms: None,
        responses: 1,
        requests: 0,
        log_sessions: log_sessions.word().into(),
    }
}

fn proxied(carried: Carried) -> Option<Proxied> {
    Some(Proxied { peer: "[fe80::1%3]:9".parse().unwrap(), carried, tlvs: Bytes(vec![1, 0, 2, b'h', b'2']) })
}

fn session(fd: i32, phase: Phase) -> Session {
    let side = |fd| Side {
        fd,
        readable: true,
        writable: false,
        ending: true,
        read_out: false,
        finished: true,
        broken: Some(104),
        failed: false,
        urgent: true,
    };
    let way = |held, mode: &'static str| HalfDuplex {
        delivered_bytes: 1 << 40,
        held,
        mode: mode.into(),
        lead_bytes: 7,
        full_reads: 2,
    };
    let piped = Held::Piped { read_end: fd + 2, write_end: fd + 3, held_bytes: 9, size_bytes: 4_096 };
    let is_relaying = phase == Phase::Relaying;
    let source = ("192.0.2.7:4000".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
    Session {
        worker: 1,
        terms: 1,
        client: side(fd),
        client_address: "192.0.2.7:4000".parse().unwrap(),
        proxied: proxied(Carried::Proxy(source.0, source.1)),
        local_port: 443,
        backend: is_relaying.then(|| side(fd + 1)),
        lease: is_relaying.then_some(17),
        has_permit: true,
        phase,
        to_backend: if is_relaying { way(piped, "splice") } else { way(Held::Nothing, "copy") },
        to_client: way(Held::Bytes(Bytes(b"unsent".to_vec())), "copy_only"),
        finished_first: Some(1),
        moved_ms: 5,
        lifetime_end_ms: Some(6),
        asked_us: 7,
        started_us: 8,
        connect_us: Some(9),
        queue_us: Some(10),
        close_later_ms: Some(11),
        on_down: OnDown::Close.word().into(),
        attempts: 2,
        tried: vec![0, 3],
        error: Some(111),
        ends_for: Reason::RoleChanged.word().into(),
        precopied: if is_relaying { 9 } else { 0 },
        met_empty: true,
        owed_since_us: 1_313,
        name: "db.example.org".into(),
        promised_tls: true,
    }
}

fn flow(fd: i32, carried: Carried) -> Flow {
    Flow {
        worker: 0,
        terms: 0,
        door: 2,
        client: "192.0.2.7:5000".parse().unwrap(),
        local: "10.0.0.9:53".parse().unwrap(),
        proxied: proxied(carried),
        began_ms: 1,
        client_ms: 2,
        backend_ms: 3,
        to_backend: (4, 5),
        to_client: (6, 7),
        owed: 8,
        since_pick: 9,
        rehomed: 10,
        lifetime_end_ms: 11,
        fd,
        lease: 17,
        backend: "10.0.0.1:53".parse().unwrap(),
        origin: ("10.0.0.8:40000".parse().unwrap(), true),
        on_down: OnDown::Rehome.word().into(),
        owes_header: true,
        refused: false,
        asked_us: 12,
        answered: true,
        refusals: 2,
        is_exclusive: true,
    }
}
