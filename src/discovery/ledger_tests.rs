//! Scenes of a ledger under a virtual clock, and a simulation over many seeds.

use super::*;
use crate::random::Random;

const RULES: Rules = Rules {
    keeps_on_empty: true,
    keep_for_ms: None,
    max_removed_percent: 50,
    refresh_min_ms: 1_000,
    refresh_max_ms: 60_000,
};

fn set(members: impl IntoIterator<Item = u32>) -> Heard<u32> {
    Heard::Members(members.into_iter().collect(), 5_000)
}

fn all(ledger: &Ledger<u32>) -> Vec<u32> {
    ledger.members().copied().collect()
}

/// Answers, each at the moment at which the ledger asks.
fn play(ledger: &mut Ledger<u32>, heard: impl IntoIterator<Item = Heard<u32>>) -> u64 {
    let mut at_ms = ledger.next_ms();
    for heard in heard {
        at_ms = ledger.next_ms();
        ledger.hear(heard, at_ms, 0);
    }
    at_ms
}

#[test]
fn who_comes_comes_at_once_and_who_is_lacked_leaves_after_three_more_answers() {
    let mut ledger = Ledger::new(RULES, 100);
    assert_eq!((ledger.next_ms(), ledger.standing().0), (100, Standing::Waiting));
    play(&mut ledger, [set(1..=5)]);
    assert_eq!((all(&ledger), ledger.next_ms()), (vec![1, 2, 3, 4, 5], 5_100));
    play(&mut ledger, [set(2..=6), set(2..=6), set(2..=6)]);
    assert_eq!((all(&ledger), ledger.next_ms()), (vec![1, 2, 3, 4, 5, 6], 8_100));
    assert_eq!(ledger.hear(set(2..=6), 8_100, 0).left, [1]);
    assert_eq!(ledger.next_ms(), 13_100, "nobody is lacked any more");
    // One that is there once in three times is never lacked for long.
    for turn in 0..100_u32 {
        play(&mut ledger, [set((0..3).map(|at| (turn * 3 + at) % 10 + 1))]);
    }
    assert_eq!(all(&ledger), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_server_that_gives_parts_takes_nobody_away_and_a_removal_there_takes_longer() {
    // Three of ten, six further each time: each is lacked by four answers in a row, and some by fewer.
    let part = |turn: u32| set((0..3).map(move |at| (turn * 6 + at) % 10 + 1));
    let mut ledger = Ledger::new(RULES, 0);
    play(&mut ledger, [set(1..=10)]);
    play(&mut ledger, (0..200).map(part));
    assert_eq!(all(&ledger).len(), 10);
    let without_1 = |turn: u32| set((0..3).map(move |at| (turn * 6 + at) % 10 + 1).filter(|one| *one != 1));
    let began_ms = play(&mut ledger, [without_1(200)]);
    play(&mut ledger, (201..220).map(without_1));
    assert_eq!(all(&ledger), (2..=10).collect::<Vec<_>>());
    assert!(ledger.next_ms() - began_ms <= 20_000);
}

#[test]
fn answers_that_come_in_a_hurry_confirm_nothing() {
    let mut ledger = Ledger::new(RULES, 0);
    play(&mut ledger, [set(1..=3)]);
    for at_ms in (5_000..5_900).step_by(100) {
        ledger.hear(set(1..=2), at_ms, 0);
    }
    assert_eq!(all(&ledger), [1, 2, 3]);
    ledger.hurry(5_900);
    assert_eq!(ledger.next_ms(), 6_800, "a second after the last answer");
}

#[test]
fn much_leaves_at_once_only_when_five_seconds_have_said_so() {
    let mut ledger = Ledger::new(RULES, 0);
    play(&mut ledger, [set(1..=10)]);
    // Once is nothing.
    play(&mut ledger, [set(1..=2), set(1..=10)]);
    assert_eq!(all(&ledger).len(), 10);
    let began_ms = play(&mut ledger, [set(1..=2)]);
    // One more than else, since all of them had come back.
    play(&mut ledger, [set(1..=2), set(1..=2), set(1..=2), set(1..=2)]);
    assert_eq!((ledger.standing().0, all(&ledger).len()), (Standing::Held, 10));
    assert_eq!(ledger.standing().2, Some("the answer lacks 8 of 10; asked again"));
    let mut ended_ms = began_ms;
    while all(&ledger).len() == 10 {
        ended_ms = play(&mut ledger, [set(1..=2)]);
    }
    assert_eq!((all(&ledger), ledger.standing().0), (vec![1, 2], Standing::Ok));
    assert_eq!(ended_ms - began_ms, 5_000);
}

#[test]
fn failures_and_nobody_change_nothing() {
    let mut ledger = Ledger::new(RULES, 0);
    play(&mut ledger, [set(1..=3)]);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let at_ms = play(&mut ledger, [Heard::Failure("SERVFAIL".into())]);
        pauses.push((ledger.next_ms() - at_ms) / 1_000);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(ledger.standing(), (Standing::Failing, 5_000, Some("SERVFAIL")));
    for _ in 0..10 {
        play(&mut ledger, [Heard::Nobody("NXDOMAIN".into(), None)]);
    }
    assert_eq!((all(&ledger), ledger.standing().0), (vec![1, 2, 3], Standing::Nobody));
    play(&mut ledger, [set(1..=3)]);
    assert_eq!(ledger.standing().0, Standing::Ok);
}

#[test]
fn nobody_is_believed_where_it_is_to_be_and_a_failure_for_long_where_that_is_asked_for() {
    let mut ledger = Ledger::new(Rules { keeps_on_empty: false, keep_for_ms: Some(60_000), ..RULES }, 0);
    let nobody = || Heard::Nobody("NXDOMAIN".to_owned(), Some(1_000));
    play(&mut ledger, [set(1..=3), nobody(), nobody(), nobody(), nobody()]);
    assert_eq!((all(&ledger).len(), ledger.standing().0), (3, Standing::Held));
    play(&mut ledger, [nobody(), nobody()]);
    assert_eq!((all(&ledger).len(), ledger.standing().0), (0, Standing::Nobody));
    play(&mut ledger, [set(1..=3)]);
    let at_ms = play(&mut ledger, [Heard::Failure("timeout".into())]);
    assert!(ledger.on_time(at_ms + 59_999).left.is_empty());
    assert_eq!(ledger.on_time(at_ms + 60_000).left, [1, 2, 3]);
}

#[test]
fn what_a_process_before_heard_serves_until_this_one_hears() {
    let mut ledger = Ledger::new(RULES, 9_000);
    ledger.remember([3, 1], (Some(4_000), None));
    assert_eq!((all(&ledger), ledger.standing()), (vec![1, 3], (Standing::Remembered, 4_000, None)));
    play(&mut ledger, [Heard::Failure("timeout".into())]);
    assert_eq!((all(&ledger), ledger.standing().0), (vec![1, 3], Standing::Failing));
    play(&mut ledger, [set([1, 2])]);
    assert_eq!(all(&ledger), [1, 2, 3]);
}

/// Whatever comes, in whatever order: what must stay true of every step.
#[test]
fn a_simulation_over_many_seeds() {
    for seed in 0..256 {
        let mut random = Random::new(seed);
        let rules = Rules {
            keeps_on_empty: seed % 2 == 0,
            keep_for_ms: (seed % 5 == 0).then_some(30_000),
            max_removed_percent: [0, 50, 100][usize::try_from(seed % 3).unwrap()],
            ..RULES
        };
        let mut ledger = Ledger::new(rules, 0);
        // A twin that hears each set in another order of calls: it must agree.
        let mut twin = ledger.clone();
        let mut now_ms = 0;
        for _ in 0..3_000 {
            now_ms = now_ms.max(ledger.next_ms()) + random.bits() % 50;
            let before = all(&ledger);
            let (jitter, count) = (random.bits(), random.bits() % 8);
            let heard = match random.bits() % 8 {
                0 | 1 => Heard::Failure("timeout".into()),
                2 => Heard::Nobody("NXDOMAIN".into(), None),
                _ => {
                    Heard::Members((0..=count).map(|_| (random.bits() % 12) as u32).collect(), random.bits())
                }
            };
            let change = ledger.hear(heard.clone(), now_ms, jitter);
            let reversed = match heard.clone() {
                Heard::Members(members, ttl) => Heard::Members(members.into_iter().rev().collect(), ttl),
                other => other,
            };
            assert_eq!(twin.hear(reversed, now_ms, jitter), change);
            let after = all(&ledger);
            assert!(after.is_sorted() && after.len() <= MEMBERS_MAX);
            assert!(ledger.next_ms() > now_ms, "never a loop without a pause");
            assert!(ledger.next_ms() <= now_ms + 66_000, "never again");
            match &heard {
                Heard::Failure(_) if rules.keep_for_ms.is_none() => assert_eq!(after, before),
                Heard::Nobody(..) if rules.keeps_on_empty => assert_eq!(after, before),
                Heard::Members(members, _) => {
                    assert!(members.iter().all(|member| after.contains(member)), "who comes, comes at once");
                    assert!(!after.is_empty());
                    let left = before.iter().filter(|member| !after.contains(member)).count();
                    assert_eq!(left, change.left.len());
                }
                _ => {}
            }
        }
    }
}
