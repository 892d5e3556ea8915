//! What the data threads are told of: only what may concern their sessions.

use super::PoolImport;
use super::publish_first;
use super::*;
use crate::config;
use crate::limits::Permits;

/// A publisher of these pools, and the threads that it tells.
fn publisher(text: &str) -> (Publisher, Arc<Workers>) {
    let settings = settings(text);
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
    };
    (Publisher::new(with, &HashMap::new()), workers)
}

fn settings(text: &str) -> Settings {
    config::read("test.yaml", text.as_bytes()).unwrap()
}

/// How many messages each thread has got since the last time; all must be about backends that went down.
fn told(workers: &Workers) -> [usize; 2] {
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

fn reload(publisher: &mut Publisher, text: &str) {
    let (reply, outcome) = oneshot::channel();
    publisher.obey(Order::Reload { settings: Arc::new(settings(text)), reply });
    assert_eq!(outcome.blocking_recv().unwrap().pools.len(), 2);
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
    let pools = before.export();
    let alone = settings(&FILE.replace(", { address: '10.0.0.2:1', name: b }", ""));
    let workers = Arc::new(Workers::new(2, 10, Arc::new(Permits::new(None))).unwrap());
    let alarm = Arc::new(Notify::new());
    let mut import = PoolImport::new(&pools, Duration::from_secs(1));
    let (snapshots, builder) = publish_first(&alone, &workers, &alarm, 7, &mut import);
    let with = PublisherParts {
        snapshots,
        workers,
        builder,
        hash_seed: "seed".into(),
        epoch: Instant::now(),
        alarm,
        first_round: oneshot::channel().0,
    };
    assert_eq!(eligible(&Publisher::new(with, &HashMap::new()), 0), [0]);
}
