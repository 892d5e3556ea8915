//! What the data threads are told of: only what may concern their sessions.

use super::PoolImport;
use super::publish_first;
use super::*;
use crate::config;
use crate::config::settings::Role;
use crate::limits::Permits;
use crate::roles::Claim;

/// A publisher of these pools, and the threads that it tells.
pub(super) fn publisher(text: &str) -> (Publisher, Arc<Workers>) {
    let settings = Arc::new(settings(text));
    let workers = Arc::new(Workers::new(2, 10, Arc::new(Permits::new(None))).unwrap());
    let alarm = Arc::new(Notify::new());
    let (snapshots, builder) = publish_first(&settings, &workers, &alarm, 7, &mut PoolImport::default());
    let with = PublisherParts {
        snapshots,
        workers: Arc::clone(&workers),
        builder,
        hash_seed: "seed".into(),
        epoch: Instant::now(),
        alarm,
        first_round: oneshot::channel().0,
        discovery: discovery(&settings),
        settings: Arc::clone(&settings),
        found: Vec::new(),
    };
    let views = with.snapshots.load().pools.clone();
    let targets = targets_of(&settings, &views);
    (Publisher::new(with, &asked(&settings, &views, &targets), &targets), workers)
}

/// Where nobody is asked.
fn discovery(settings: &Arc<Settings>) -> Handle {
    crate::discovery::Service::new(settings, &crate::discovery::Before::default(), Instant::now(), 7)
        .handle()
        .0
}

fn settings(text: &str) -> Settings {
    config::read("test.yaml", text.as_bytes()).unwrap()
}

/// How many messages each thread has got since the last time; all must be about backends that went down.
pub(super) fn told(workers: &Workers) -> [usize; 2] {
    [0, 1].map(|worker| {
        let mut mail = Vec::new();
        workers.mailbox(worker).take(&mut mail);
        assert!(mail.iter().all(|message| matches!(message, Message::Verdicts)));
        mail.len()
    })
}

fn mark(publisher: &mut Publisher, pool: &str, mark: Option<Mark>) {
    let whom = Whom { pool: pool.into(), backend: "a".into() };
    let (reply, outcome) = oneshot::channel();
    publisher.obey(Order::Mark { whom, mark, by: "test".into(), reply });
    outcome.blocking_recv().unwrap().unwrap();
}

pub(super) fn reload(publisher: &mut Publisher, text: &str) {
    let (reply, outcome) = oneshot::channel();
    let settings = settings(text);
    let pools = settings.pools.len();
    publisher.obey(Order::Reload { settings: Arc::new(settings), found: Vec::new(), reply });
    while publisher.reloading.is_some() {
        publisher.go_on_reloading();
    }
    assert_eq!(outcome.blocking_recv().unwrap().pools.len(), pools);
}

const FILE: &str = "
pools:
  closes:
    backends: [{ address: '10.0.0.1:1', name: a }, { address: '10.0.0.2:1', name: b }]
    on_down: close
    health: { check: off }
  keeps:
    backends: [{ address: '10.0.0.1:1', name: a }, { address: '10.0.0.2:1', name: b }]
    health: { check: off }
listeners:
  one: { bind: 1001, pool: closes }
  two: { bind: 1002, pool: keeps }
";

#[test]
fn the_threads_look_for_sessions_only_when_a_backend_went_down_in_a_pool_that_closes() {
    let (mut publisher, workers) = publisher(FILE);
    let generation = |publisher: &Publisher| publisher.snapshots.load().generation;
    let first = generation(&publisher);
    let whom = Whom { pool: "closes".into(), backend: "a".into() };
    let (reply, _outcome) = oneshot::channel();
    publisher.obey(Order::Weight { whom, weight: Some(3), by: "test".into(), reply });
    assert_eq!((generation(&publisher), told(&workers)), (first + 1, [0, 0]), "another weight");
    mark(&mut publisher, "closes", Some(Mark::Drain));
    mark(&mut publisher, "closes", None);
    assert_eq!(told(&workers), [0, 0], "drained and back");
    reload(&mut publisher, FILE);
    reload(&mut publisher, &FILE.replace("name: b }", "name: b, weight: 7 }"));
    assert_eq!(told(&workers), [0, 0], "another file");
    mark(&mut publisher, "keeps", Some(Mark::Down));
    assert_eq!(told(&workers), [0, 0], "down in a pool that keeps its sessions");

    mark(&mut publisher, "closes", Some(Mark::Down));
    assert_eq!(told(&workers), [1, 1], "down");
    mark(&mut publisher, "closes", Some(Mark::Down));
    assert_eq!(told(&workers), [0, 0], "it was down already");
    mark(&mut publisher, "closes", None);
    assert_eq!(told(&workers), [0, 0], "up again");

    // Sessions keep what they were born with.
    reload(&mut publisher, &FILE.replace("on_down: close", "on_down: keep"));
    mark(&mut publisher, "closes", Some(Mark::Down));
    assert_eq!(told(&workers), [1, 1], "down in a pool that closed its sessions once");
}

#[test]
fn a_snapshot_tells_how_often_each_backend_had_gone_down() {
    let (mut publisher, _crew) = publisher(FILE);
    let falls = |publisher: &Publisher| publisher.snapshots.load().pools[0].falls.clone();
    assert_eq!(falls(&publisher), [0, 0]);
    mark(&mut publisher, "closes", Some(Mark::Down));
    assert_eq!(falls(&publisher), [1, 0]);
    mark(&mut publisher, "closes", None);
    mark(&mut publisher, "closes", Some(Mark::Down));
    assert_eq!(falls(&publisher), [2, 0]);
    reload(&mut publisher, FILE);
    assert_eq!(falls(&publisher), [2, 0]);
}

/// Ejects the first backend of a pool of two, as data threads do by what they meet.
fn eject_first(publisher: &mut Publisher, slot: usize) {
    let first = Arc::clone(&publisher.pools[slot].view.backends[0]);
    (0..5).for_each(|_| first.note_failure(1));
    publisher.pools[slot].eject_failing(1);
    publisher.publish();
}

fn eligible(publisher: &Publisher, slot: usize) -> Vec<u32> {
    publisher.snapshots.load().pools[slot].picker.eligible().to_vec()
}

#[test]
fn an_ejection_never_leaves_a_pool_without_anybody_however_the_others_go() {
    let (mut publisher, _workers) = publisher(FILE);
    eject_first(&mut publisher, 0);
    assert_eq!(eligible(&publisher, 0), [1]);
    let whom = Whom { pool: "closes".into(), backend: "b".into() };
    let (reply, _outcome) = oneshot::channel();
    publisher.obey(Order::Weight { whom, weight: Some(0), by: "test".into(), reply });
    assert_eq!(eligible(&publisher, 0), [0], "the other has weight 0");

    eject_first(&mut publisher, 1);
    assert_eq!(eligible(&publisher, 1), [1]);
    reload(
        &mut publisher,
        "
pools:
  closes: { backends: [{ address: '10.0.0.1:1', name: a }], health: { check: off } }
  keeps: { backends: [{ address: '10.0.0.1:1', name: a }], health: { check: off } }
listeners:
  one: { bind: 1001, pool: closes }
  two: { bind: 1002, pool: keeps }
",
    );
    assert_eq!(eligible(&publisher, 1), [0], "the other left the file");
}

#[test]
fn who_gets_no_sessions_is_not_ejected_and_begins_without_its_failures() {
    let (mut publisher, _workers) = publisher(FILE);
    mark(&mut publisher, "closes", Some(Mark::Drain));
    eject_first(&mut publisher, 0);
    assert!(!publisher.pools[0].backends[0].state.is_ejected(), "an operator drains it");
    mark(&mut publisher, "closes", None);
    assert_eq!(publisher.pools[0].view.backends[0].failures_in_a_row(), 0);
    publisher.pools[0].eject_failing(2);
    assert_eq!(eligible(&publisher, 0), [0, 1]);
}

#[test]
fn the_next_process_takes_back_an_ejected_backend_that_is_alone_in_its_file() {
    let (mut before, _workers) = publisher(FILE);
    eject_first(&mut before, 0);
    let (pools, _) = before.export(None);
    let alone = Arc::new(settings(&FILE.replace(", { address: '10.0.0.2:1', name: b }", "")));
    let workers = Arc::new(Workers::new(2, 10, Arc::new(Permits::new(None))).unwrap());
    let alarm = Arc::new(Notify::new());
    let mut import = PoolImport::new(&pools, Duration::from_secs(1), Pickers::new());
    let (snapshots, builder) = publish_first(&alone, &workers, &alarm, 7, &mut import);
    let with = PublisherParts {
        snapshots,
        workers,
        builder,
        hash_seed: "seed".into(),
        epoch: Instant::now(),
        alarm,
        first_round: oneshot::channel().0,
        discovery: discovery(&alone),
        settings: Arc::clone(&alone),
        found: Vec::new(),
    };
    assert_eq!(eligible(&Publisher::new(with, &HashMap::new(), &[]), 0), [0]);
}

/// Sessions bring along since when they are owed an answer: it would be out at the first look.
#[test]
fn after_a_handover_each_has_its_whole_time_to_answer_and_no_average() {
    let (before, workers) = publisher(FILE);
    before.pools[0].view.backends[0].load.observe_connect(1_000_000_000, 3_000_000);
    let (pools, _) = before.export(None);
    let mut import = PoolImport::new(&pools, Duration::from_secs(60), Pickers::new());
    let alarm = Arc::new(Notify::new());
    let (snapshots, _builder) = publish_first(&Arc::new(settings(FILE)), &workers, &alarm, 7, &mut import);
    let load = Arc::clone(&snapshots.load().pools[0].backends[0].load);
    assert_eq!((load.answered_ms(), load.turns()), (60_000, 0));
    let now_ns = 60_000_000_000;
    assert_eq!((load.connect_ns(now_ns), load.answer_ns(now_ns)), (Some(3_000_000.0), None));
}

/// So many pools, each with a table of its own.
fn hashed(pools: usize, hash_seed: &str) -> String {
    let pools: String = (0..pools)
        .map(|pool| {
            format!("  p{pool}: {{ balance: source_hash, backends: [{{ address: '10.0.0.1:1', name: a }}, {{ address: '10.0.0.2:1', name: b{pool} }}] }}\n")
        })
        .collect();
    format!("hash_seed: {hash_seed}\npools:\n{pools}listeners: {{ one: {{ bind: 1001, pool: p0 }} }}\n")
}

/// A check said that the first backend of this pool is down.
fn fell(publisher_sees: &Snapshot, pool: usize) -> Checked {
    let number = publisher_sees.pools[pool].backends[0].number;
    Checked {
        target: crate::health::TargetId(number),
        began: Instant::now(),
        took: Duration::ZERO,
        outcome: crate::health::Outcome::Bad(crate::health::Cause::Refused),
        verdict: crate::health::Verdict {
            state: crate::liveness::State::Down,
            change: Some(crate::liveness::Change::WentDown),
            progress: crate::liveness::Progress { done: 0, of: 3 },
        },
    }
}

fn is_down(snapshots: &SnapshotCell, pool: usize) -> bool {
    !snapshots.load().pools[pool].states[0].is_up()
}

#[tokio::test]
async fn verdicts_are_published_while_a_reload_builds_many_tables() {
    let (publisher, _crew) = publisher(&hashed(200, "one"));
    let snapshots = Arc::clone(&publisher.snapshots);
    let (events, inbox) = mpsc::channel(8);
    let (orders, order_inbox) = mpsc::channel(8);
    let publishing = tokio::spawn(publisher.run(inbox, order_inbox, mpsc::channel(1).1));
    let (reply, mut reloaded) = oneshot::channel();
    // Asked: else what comes of a check is not heard.
    let settings = Arc::new(settings(&hashed(200, "two")));
    assert!(
        orders
            .send(Order::Reload { settings: Arc::clone(&settings), found: Vec::new(), reply })
            .await
            .is_ok()
    );
    let mut meanwhile = 0;
    for pool in 0..200 {
        if reloaded.try_recv().is_ok() {
            break;
        }
        events.send(fell(&snapshots.load(), pool)).await.unwrap();
        while !is_down(&snapshots, pool) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        meanwhile += 1;
    }
    assert!(meanwhile >= 3, "{meanwhile} verdicts were published while the reload was under way");
    drop((events, orders));
    publishing.await.unwrap();
}

#[tokio::test]
async fn pools_whose_tables_cost_nothing_do_not_wait_for_those_that_do() {
    let cheap = "  cheap: { backends: [{ address: '10.0.0.1:1', name: a }, { address: '10.0.0.2:1', name: b }] }\nlisteners";
    let (publisher, _crew) = publisher(&hashed(200, "one").replace("listeners", cheap));
    let snapshots = Arc::clone(&publisher.snapshots);
    let (events, inbox) = mpsc::channel(256);
    let (orders, order_inbox) = mpsc::channel(8);
    for pool in 0..=200 {
        events.send(fell(&snapshots.load(), pool)).await.unwrap();
    }
    let publishing = tokio::spawn(publisher.run(inbox, order_inbox, mpsc::channel(1).1));
    let down = || (0..200).filter(|pool| is_down(&snapshots, *pool)).count();
    while !is_down(&snapshots, 200) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(down() < 100, "{} pools were rebuilt before it", down());
    while down() < 200 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop((events, orders));
    publishing.await.unwrap();
}

const ROLES: &str = "
pools:
  p:
    backends: [{ address: '10.0.0.1:1', name: a }, { address: '10.0.0.2:1', name: b }]
    health: { check: { tcp: { expect: { primary: x, replica: y } } } }
listeners:
  write: { bind: 1001, pool: p, role: primary }
";

/// What a backend said of its role is published.
fn says(publisher: &mut Publisher, index: usize, claim: Claim) {
    let number = publisher.pools[0].view.backends[index].number;
    let answer = crate::roles::Answer { claim, generation: None, position: None };
    let verdict = crate::health::Verdict {
        state: crate::liveness::State::Up,
        change: None,
        progress: crate::liveness::Progress { done: 0, of: 3 },
    };
    publisher.apply(&Checked {
        target: crate::health::TargetId(number),
        outcome: crate::health::Outcome::Role(answer),
        verdict,
        ..fell(&publisher.snapshots.load(), 0)
    });
    publisher.publish();
}

#[test]
fn threads_look_for_sessions_when_a_role_is_lost_and_a_reload_gives_nobody_a_role() {
    let (mut publisher, workers) = publisher(ROLES);
    let haste = Arc::clone(publisher.pools[0].view.live.haste());
    let is_asked_for = || haste.load(std::sync::atomic::Ordering::Relaxed);
    assert!(is_asked_for(), "nobody is known to be the primary");
    let may = |publisher: &Publisher, role| publisher.snapshots.load().pools[0].eligible(role).to_vec();
    assert_eq!(may(&publisher, Role::Any), [0, 1], "as without roles");
    assert_eq!(may(&publisher, Role::PreferReplica), [] as [u32; 0], "nobody was asked");
    says(&mut publisher, 0, Claim::Primary);
    says(&mut publisher, 1, Claim::Replica);
    assert_eq!((may(&publisher, Role::Primary), may(&publisher, Role::Replica)), (vec![0], vec![1]));
    assert!(!is_asked_for());
    assert_eq!(told(&workers), [0, 0], "nobody lost anything");

    // Another order, and a third one that nobody knows.
    let more = ROLES.replace("[{", "[{ address: '10.0.0.3:1', name: c }, {");
    reload(&mut publisher, &more);
    assert_eq!((may(&publisher, Role::Primary), may(&publisher, Role::Replica)), (vec![1], vec![2]));
    says(&mut publisher, 1, Claim::Replica);
    assert_eq!((may(&publisher, Role::Primary), told(&workers)), (vec![], [1, 1]));
    let view = Arc::clone(&publisher.snapshots.load().pools[0]);
    assert_eq!(view.losses[1], view.backends[1].losses());
    assert_eq!(view.losses[1][Role::Primary.index()], 1);
}

/// A handover tells of pools twice: while everything goes on, and when it stands still.
#[test]
fn a_role_that_changes_while_a_process_takes_over_is_known_before_anybody_is_picked() {
    let (mut before, _workers) = publisher(ROLES);
    says(&mut before, 0, Claim::Primary);
    says(&mut before, 1, Claim::Replica);
    let (first, told) = before.export(None);
    let workers = Arc::new(Workers::new(2, 10, Arc::new(Permits::new(None))).unwrap());
    let alarm = Arc::new(Notify::new());
    let mut import = PoolImport::new(&first, Duration::from_secs(1), Pickers::new());
    let (snapshots, _builder) = publish_first(&settings(ROLES), &workers, &alarm, 7, &mut import);
    let primaries = |snapshots: &SnapshotCell| snapshots.load().pools[0].eligible(Role::Primary).to_vec();
    assert_eq!(primaries(&snapshots), [0]);
    let (same, told) = before.export(Some(&told));
    assert!(same.is_empty(), "nothing is otherwise");
    says(&mut before, 0, Claim::Replica);
    says(&mut before, 1, Claim::Primary);
    let (rest, _) = before.export(Some(&told));
    let views = snapshots.load().pools.clone();
    let states = import.catch_up(&rest, &views);
    import.catch_up_roles(&rest, &snapshots, &states, "seed", 2_000);
    assert_eq!(primaries(&snapshots), [1]);
}
