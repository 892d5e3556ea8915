//! The plan under a virtual clock: fairness, pace, pauses of the process, changes of the list.

use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::config::settings::SendProxy;
use crate::health::LocalError;
use crate::health::target::Haste;

/// A plan, a clock, and backends that answer after a set time (`None`: never).
struct World {
    plan: Plan,
    now: Instant,
    replies: HashMap<SocketAddr, Option<Duration>>,
    /// By when each check in flight is over.
    in_flight: Vec<(Instant, Instant, Ask)>,
    in_flight_max: usize,
}

impl World {
    fn new(slots: usize, targets: &[Target], replies: impl Fn(u64) -> Option<Duration>) -> Self {
        let now = Instant::now();
        let mut plan = Plan::new(slots, 7);
        plan.set_targets(targets, now);
        let replies = targets.iter().map(|target| (target.route.to, replies(target.id.0))).collect();
        Self { plan, now, replies, in_flight: Vec::new(), in_flight_max: 0 }
    }

    /// Runs for `span`, and returns every event with the time it came.
    fn run(&mut self, span: Duration) -> Vec<(Instant, Checked)> {
        let end = self.now + span;
        let mut events = Vec::new();
        loop {
            while let Some(ask) = self.plan.next_ask(self.now) {
                assert!(
                    self.in_flight.iter().all(|(.., other)| other.target != ask.target),
                    "asked twice at once"
                );
                assert!(ask.limit <= ask.health.timeout);
                let takes = self.replies[&ask.route.to].map_or(ask.limit, |reply| reply.min(ask.limit));
                self.in_flight.push((self.now + takes, self.now, ask));
            }
            self.in_flight_max = self.in_flight_max.max(self.in_flight.len());
            let ended = self.in_flight.iter().enumerate().min_by_key(|(_, (over, ..))| *over);
            let ended = ended.map(|(index, (over, ..))| (index, *over));
            let due = self.plan.next_due().map_or(end, |due| due.max(self.now + Duration::from_millis(1)));
            match ended {
                Some((index, over)) if over <= due.min(end) => {
                    self.now = over.max(self.now);
                    let (_, began, ask) = self.in_flight.swap_remove(index);
                    let took = over - began;
                    let is_good = self.replies[&ask.route.to].is_some_and(|reply| reply <= took);
                    let outcome = if is_good { Outcome::Good } else { Outcome::Bad(Cause::Timeout) };
                    let answer = Answer { began, took, outcome };
                    events.extend(self.plan.answered(&ask, answer, self.now).map(|checked| (over, checked)));
                }
                _ if due >= end => {
                    self.now = end;
                    return events;
                }
                _ => self.now = due,
            }
        }
    }
}

fn health(interval: Duration) -> Arc<Health> {
    let timeout = Duration::from_secs(1);
    Arc::new(Health {
        check: Check::Tcp,
        interval,
        timeout,
        rise: 2,
        fall: 3,
        port: None,
        send_proxy: SendProxy::Off,
        keep: None,
    })
}

fn targets(count: u16, interval: Duration) -> Vec<Target> {
    let health = health(interval);
    let target = |n: u16| Target {
        id: TargetId(n.into()),
        route: Route::to(SocketAddr::from(([127, 0, 0, 1], n + 1))),
        health: Arc::clone(&health),
        haste: Haste::default(),
        known: None,
    };
    (0..count).map(target).collect()
}

/// 100 of 1,000, in no pattern the queue order could favour.
fn is_live(id: u64) -> bool {
    id.wrapping_mul(7919) % 1000 >= 900
}

fn live_replies(id: u64) -> Option<Duration> {
    is_live(id).then_some(Duration::from_millis(2))
}

#[test]
fn silent_targets_delay_nobody_whatever_the_slots() {
    for slots in [16, 64, 1024] {
        let mut world = World::new(slots, &targets(1000, Duration::from_secs(2)), live_replies);
        let events = world.run(Duration::from_secs(60));
        assert!(world.in_flight_max <= slots);

        let start = world.now - Duration::from_secs(60);
        let mut last: HashMap<TargetId, Instant> = HashMap::new();
        let mut latest_first = Duration::ZERO;
        // Every glance lasts at least 50 ms, so 16 slots need 900 / 16 * 50 ms for the first round.
        let round = Duration::from_millis(if slots == 16 { 4500 } else { 1500 });
        let gap_max = round.max(Duration::from_millis(2300));
        for (at, checked) in events.iter().filter(|(_, checked)| is_live(checked.target.0)) {
            assert_eq!(checked.outcome, Outcome::Good);
            match last.insert(checked.target, *at) {
                None => latest_first = latest_first.max(*at - start),
                Some(before) => {
                    let gap = *at - before;
                    assert!(gap <= gap_max, "{slots} slots: a gap of {gap:?}");
                }
            }
        }
        assert_eq!(last.len(), 100);
        assert!(latest_first <= round, "{slots} slots: the last first verdict after {latest_first:?}");
        let judged = events.iter().filter(|(_, checked)| checked.verdict.state == State::Down);
        let judged: std::collections::HashSet<_> = judged.map(|(_, checked)| checked.target).collect();
        assert!(
            judged.len() == 900 || slots == 16,
            "{slots} slots: only {} silent ones are down",
            judged.len()
        );
    }
}

#[test]
fn a_sudden_silence_of_most_does_not_delay_the_rest() {
    let mut world =
        World::new(64, &targets(1000, Duration::from_secs(2)), |_| Some(Duration::from_millis(2)));
    world.run(Duration::from_secs(20));
    for (address, reply) in &mut world.replies {
        *reply = live_replies(u64::from(address.port()) - 1);
    }
    let mut last: HashMap<TargetId, Instant> = HashMap::new();
    let mut worst = Duration::ZERO;
    for (at, checked) in world.run(Duration::from_secs(30)) {
        if is_live(checked.target.0) {
            assert_eq!(checked.outcome, Outcome::Good);
            if let Some(before) = last.insert(checked.target, at) {
                worst = worst.max(at - before);
            }
        }
    }
    assert_eq!(last.len(), 100);
    assert!(worst <= Duration::from_millis(4000), "a live target waited {worst:?} for its next check");
}

#[test]
fn a_slow_but_answering_target_is_up_under_pressure() {
    let slow = Some(Duration::from_millis(600));
    let replies = |id| if id == 999 { slow } else { live_replies(id) };
    let mut world = World::new(64, &targets(1000, Duration::from_secs(2)), replies);
    let events = world.run(Duration::from_secs(60));
    let mut of_slow = events.iter().filter(|(_, checked)| checked.target == TargetId(999)).peekable();
    assert!(of_slow.peek().is_some());
    assert!(of_slow.all(|(_, checked)| checked.outcome == Outcome::Good));
}

#[test]
fn the_interval_holds_and_a_changing_target_is_asked_four_times_as_often() {
    let interval = Duration::from_secs(2);
    let mut world = World::new(64, &targets(1, interval), |_| Some(Duration::from_millis(1)));
    let calm = world.run(Duration::from_secs(200));
    world.replies.values_mut().for_each(|reply| *reply = None);
    let falling = world.run(Duration::from_secs(20));
    let began: Vec<_> = calm.iter().map(|(_, checked)| checked.began).collect();
    assert!(began.len() >= 90);
    for pair in began.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= interval * 9 / 10 && gap <= interval * 11 / 10 + Duration::from_millis(1), "{gap:?}");
    }
    // interval / 4 is shorter than the timeout: the next check begins when the one before is over.
    let changes: Vec<_> = falling.iter().map(|(_, checked)| checked.verdict).collect();
    assert_eq!(changes[0].progress, crate::liveness::Progress { done: 1, of: 3 });
    assert_eq!(falling[2].1.verdict.state, State::Down);
    assert_eq!(falling[2].1.began - falling[0].1.began, Duration::from_secs(2));
}

#[test]
fn jitter_stays_within_a_tenth_and_uses_it() {
    let pause = Duration::from_secs(10);
    assert_eq!(jittered(pause, 0), Duration::from_secs(9));
    assert!(jittered(pause, u64::MAX) <= Duration::from_secs(11));
    assert!(jittered(pause, u64::MAX) > Duration::from_millis(10_999));
    let mut random = Random::new(3);
    let mean = (0..4096).map(|_| jittered(pause, random.bits()).as_secs_f64()).sum::<f64>() / 4096.0;
    assert!((9.95..10.05).contains(&mean), "mean of 4096 draws: {mean}");
}

#[test]
fn a_pause_of_the_process_brings_no_burst() {
    let mut world =
        World::new(1024, &targets(1000, Duration::from_secs(2)), |_| Some(Duration::from_millis(1)));
    world.run(Duration::from_secs(10));
    world.now += Duration::from_secs(3600);
    let events = world.run(Duration::from_secs(2));
    assert!((950..=1100).contains(&events.len()), "{} checks in one interval", events.len());
    assert!(world.in_flight_max >= 900, "the first round begins at once");
    let first_tenth = world.now - Duration::from_millis(1800);
    let early = events.iter().filter(|(at, _)| *at < first_tenth).count();
    assert!(early < 200, "{early} of 1,000 in the first tenth of the interval after the pause");
}

#[test]
fn an_update_keeps_schedule_and_liveness_of_what_stays() {
    let interval = Duration::from_secs(2);
    let mut list = targets(3, interval);
    let mut world = World::new(64, &list, |_| Some(Duration::from_millis(1)));
    world.run(Duration::from_secs(10));
    let due_before = world.plan.later.clone().into_sorted_vec();

    // 0 stays (with an equal, not the same, health, and asked from elsewhere), 1 goes, 2 gets a new address.
    list.remove(1);
    list[0].health = health(interval);
    list[0].route.from = [Ipv4Addr::LOCALHOST.into()].into();
    list[1].route.to.set_port(900);
    world.replies.insert(list[1].route.to, None);
    world.plan.set_targets(&list, world.now);
    let of = |wanted| move |item: &&Reverse<(Instant, Ticket, TargetId)>| item.0.2 == TargetId(wanted);
    let due_after = world.plan.later.clone().into_sorted_vec();
    assert_eq!(due_after.len(), 2);
    assert_eq!(due_after.iter().find(of(0)), due_before.iter().find(of(0)));
    assert_eq!(world.plan.entries[&TargetId(0)].route, list[0].route);

    let events = world.run(Duration::from_secs(4));
    assert!(events.iter().all(|(_, checked)| checked.target != TargetId(1)));
    let first = |id| events.iter().map(|(_, checked)| checked).find(|checked| checked.target == TargetId(id));
    assert_eq!(first(0).unwrap().verdict.change, None);
    assert_eq!(first(2).unwrap().verdict.change, Some(crate::liveness::Change::WentDown));
}

#[test]
fn an_answer_for_a_target_that_left_tells_nobody_and_frees_its_slot() {
    let mut list = targets(1, Duration::from_secs(2));
    let mut world = World::new(1, &list, |_| None);
    let now = world.now;
    let ask = world.plan.next_ask(now).unwrap();
    list[0].route.to.set_port(900);
    world.plan.set_targets(&list, now);
    assert!(world.plan.next_ask(now).is_none(), "the only slot is taken");
    let answer = Answer { began: now, took: Duration::ZERO, outcome: Outcome::Good };
    assert_eq!(world.plan.answered(&ask, answer, now), None);
    assert_eq!(world.plan.next_ask(now).unwrap().route.to.port(), 900);
}

#[test]
fn a_local_error_counts_for_nothing() {
    let mut world = World::new(1, &targets(1, Duration::from_secs(2)), |_| None);
    let mut tell = |outcome: Outcome| {
        world.now = world.plan.next_due().unwrap_or(world.now);
        let ask = world.plan.next_ask(world.now).unwrap();
        let answer = Answer { began: world.now, took: Duration::ZERO, outcome };
        world.plan.answered(&ask, answer, world.now).unwrap().verdict
    };
    let local = || Outcome::Local(LocalError::NoFiles);
    assert_eq!(tell(local()).state, State::Untested);
    assert_eq!(tell(Outcome::Good).state, State::Up);
    let falling = tell(Outcome::Bad(Cause::Refused));
    for _ in 0..10 {
        let verdict = tell(local());
        assert_eq!((verdict.state, verdict.change, verdict.progress), (State::Up, None, falling.progress));
    }
}

#[test]
fn a_check_that_is_off_is_not_asked() {
    let mut list = targets(1, Duration::from_secs(2));
    Arc::make_mut(&mut list[0].health).check = Check::Off;
    let mut world = World::new(1, &list, |_| None);
    assert!(world.plan.next_ask(world.now).is_none() && world.plan.next_due().is_none());
}

#[test]
fn who_is_hurried_is_asked_at_a_quarter_of_its_interval_at_the_soonest_and_never_twice() {
    let interval = Duration::from_secs(4);
    let mut world = World::new(8, &targets(2, interval), |_| Some(Duration::from_millis(2)));
    world.run(Duration::from_secs(20));
    let hurried = TargetId(0);
    let (mut asked, mut last) = (0, world.now);
    for _ in 0..200 {
        // A server that ends each connection as soon as it can.
        world.plan.hurry(hurried, world.now);
        for (at, checked) in world.run(Duration::from_millis(50)) {
            if checked.target == hurried {
                assert!(at - last >= Duration::from_millis(900) || asked == 0, "{:?}", at - last);
                (asked, last) = (asked + 1, at);
            }
        }
    }
    assert!((9..=11).contains(&asked), "{asked} in 10 s");
    // The places it had left before are nothing.
    let events = world.run(Duration::from_secs(40));
    let counted = events.iter().filter(|(_, checked)| checked.target == hurried).count();
    assert!((9..=12).contains(&counted), "{counted} in 40 s");
    assert!(world.plan.later.len() <= 2, "{} places", world.plan.later.len());
    world.plan.hurry(TargetId(99), world.now);
}

#[test]
fn another_password_is_asked_with_at_once_and_leaves_what_is_known() {
    use crate::config::settings::{PostgresCheck, Secret, SecretSource, Tls};
    let with = |password: &[u8], user: &str| {
        let mut one = targets(1, Duration::from_secs(2)).remove(0);
        let (user, password) = (user.into(), Secret::new(SecretSource::Here, password));
        let check = PostgresCheck { user, password, database: "postgres".into(), tls: Tls::Off };
        one.health = Arc::new(Health { check: Check::Postgres(check), ..Health::clone(&one.health) });
        one
    };
    let mut world = World::new(8, &[with(b"a", "u")], |_| Some(Duration::from_millis(2)));
    world.run(Duration::from_secs(10));
    world.plan.set_targets(&[with(b"b", "u")], world.now);
    let (at, first) = world.run(Duration::from_secs(1)).remove(0);
    assert_eq!((first.verdict.state, first.verdict.change), (State::Up, None));
    assert!(world.now - at > Duration::from_millis(900), "at once");
    world.plan.set_targets(&[with(b"b", "w")], world.now);
    let (_, first) = world.run(Duration::from_secs(1)).remove(0);
    assert!(first.verdict.change.is_some(), "somebody else asks: nothing is known");
}

#[test]
fn when_a_server_has_another_role_the_others_of_its_pool_are_asked_at_once() {
    let role = |claim| Outcome::Role(crate::roles::Answer { claim, generation: None, position: None });
    let interval = Duration::from_secs(4);
    let mut all = targets(5, interval);
    let shared = Haste::default();
    for target in &mut all {
        target.health = Arc::new(Health { check: Check::Patroni, ..Health::clone(&target.health) });
        if target.id.0 < 3 {
            target.haste = shared.clone();
        }
    }
    let (mut plan, began) = (Plan::new(8, 7), Instant::now());
    plan.set_targets(&all, began);
    let ask_all = |plan: &mut Plan, now: Instant, primary: bool| {
        let mut asked = Vec::new();
        while let Some(ask) = plan.next_ask(now) {
            let is_primary = ask.target == TargetId(0) && primary;
            let outcome = match ask.target {
                TargetId(0) if !is_primary => Outcome::Bad(Cause::Refused),
                TargetId(0) => role(Claim::Primary),
                _ => role(Claim::Replica),
            };
            plan.answered(&ask, Answer { began: now, took: Duration::ZERO, outcome }, now);
            asked.push(ask.target.0);
        }
        asked.sort_unstable();
        asked
    };
    let mut now = began;
    for _ in 0..40 {
        now += Duration::from_millis(500);
        ask_all(&mut plan, now, true);
    }
    // Seconds before any of them is due: the connection to the primary ends, and it refuses a new one.
    while plan.next_due().is_some_and(|due| due < now + Duration::from_millis(1500)) {
        now += Duration::from_millis(100);
        ask_all(&mut plan, now, true);
    }
    now += Duration::from_millis(1200);
    plan.hurry(TargetId(0), now);
    let asked = ask_all(&mut plan, now, false);
    assert_eq!(asked, [0, 1, 2], "and those of other pools are not");
}
