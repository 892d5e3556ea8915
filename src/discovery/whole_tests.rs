//! Scenes of the ledger of a whole source under a virtual clock, and a simulation over many seeds.

use super::*;
use crate::random::Random;

const RULES: Rules = Rules {
    keeps_on_empty: true,
    keep_for_ms: None,
    max_removed_percent: 50,
    refresh_min_ms: 1_000,
    refresh_max_ms: 60_000,
};

fn list(members: impl IntoIterator<Item = u8>) -> Vec<Listed> {
    let listed = |at: u8| Listed {
        name: None,
        ip: IpAddr::from([10, 0, 0, at]),
        port: Some(1),
        weight: None,
        tier: None,
        max_sessions: None,
        drains: None,
    };
    members.into_iter().map(listed).collect()
}

fn all(whole: &Whole) -> Vec<u8> {
    let last = |listed: &Listed| match listed.ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    };
    let mut all: Vec<u8> = whole.members().map(last).collect();
    all.sort_unstable();
    all
}

#[test]
fn who_comes_comes_at_once_and_who_leaves_leaves_at_once() {
    let mut whole = Whole::new(RULES, 0);
    assert_eq!((whole.standing().0, whole.ask_ms(), whole.hurry_ms()), (Standing::Waiting, 0, None));
    let change = whole.hear(list(1..=4), "", 10);
    assert_eq!((change.found.len(), all(&whole)), (4, vec![1, 2, 3, 4]));
    let change = whole.hear(list([4, 1, 2, 5]), "", 20);
    assert_eq!((change.found.len(), change.left), (1, vec!["10.0.0.3:1".to_owned()]));
    assert_eq!((all(&whole), whole.standing().0), (vec![1, 2, 4, 5], Standing::Ok));
    let change = whole.hear(list([1, 2, 4, 5]), "", 30);
    assert_eq!(change, Change { found: Vec::new(), left: Vec::new() });
}

#[test]
fn what_takes_away_much_is_asked_again_and_must_be_said_twice() {
    let mut whole = Whole::new(RULES, 0);
    whole.hear(list(1..=10), "", 0);
    whole.hear(list([1, 2, 11]), "", 1_000);
    assert_eq!(all(&whole).len(), 11, "who comes is there, and nobody left");
    assert_eq!(whole.standing(), (Standing::Held, 1_000, Some("the answer lacks 8 of 10; asked again")));
    assert_eq!((whole.ask_ms(), whole.hurry_ms()), (1_050, Some(6_000)));
    whole.hear(list([1, 2, 11]), "", 5_999);
    assert_eq!((all(&whole).len(), whole.hurry_ms()), (11, Some(6_000)), "not for long enough");
    whole.fail("timeout".into(), (6_000, None), 0);
    assert_eq!(
        (all(&whole).len(), whole.ask_ms(), whole.hurry_ms()),
        (11, 7_000, Some(7_000)),
        "a failure confirms nothing"
    );
    whole.hear(list([1, 2, 11]), "", 7_000);
    assert_eq!((all(&whole), whole.standing().0, whole.hurry_ms()), (vec![1, 2, 11], Standing::Ok, None));

    whole.hear(list(1..=10), "", 8_000);
    whole.hear(list([1, 2]), "", 9_000);
    whole.hear(list(1..=10), "", 14_000);
    assert_eq!((all(&whole).len(), whole.standing().0), (10, Standing::Ok), "once is no removal");
    whole.hear(list([1]), "", 15_000);
    assert_eq!(all(&whole).len(), 10, "what was lacked before has been there since");
}

#[test]
fn a_list_of_others_altogether_takes_away_much() {
    let mut whole = Whole::new(RULES, 0);
    whole.hear(list(1..=3), "", 0);
    whole.hear(list(11..=13), "", 1_000);
    assert_eq!((all(&whole).len(), whole.standing().0), (6, Standing::Held));
    whole.hear(list(11..=13), "", 6_000);
    assert_eq!(all(&whole), [11, 12, 13]);
    whole.hear(list([12, 13]), "", 7_000);
    assert_eq!(all(&whole), [12, 13], "one is never much");
}

#[test]
fn no_failure_and_no_nobody_takes_anybody_out() {
    let mut whole = Whole::new(RULES, 0);
    whole.hear(list(1..=3), "", 0);
    for at_s in 1..=20 {
        whole.fail("HTTP 403".into(), (at_s * 1_000, None), 0);
    }
    assert_eq!((all(&whole).len(), whole.standing()), (3, (Standing::Failing, 1_000, Some("HTTP 403"))));
    assert_eq!(whole.ask_ms(), 50_000, "30 s at most");
    whole.hear(Vec::new(), "the list is empty", 50_000);
    assert_eq!(whole.standing(), (Standing::Nobody, 50_000, Some("the list is empty")));
    assert_eq!(all(&whole).len(), 3);

    whole.set_rules(Rules { keeps_on_empty: false, ..RULES });
    whole.hear(Vec::new(), "the list is empty", 51_000);
    assert_eq!((all(&whole).len(), whole.standing().0), (3, Standing::Held));
    whole.hear(Vec::new(), "the list is empty", 56_000);
    assert_eq!((all(&whole).len(), whole.standing().0), (0, Standing::Nobody));

    whole.set_rules(Rules { keep_for_ms: Some(10_000), ..RULES });
    whole.hear(list([1]), "", 60_000);
    whole.fail("timeout".into(), (61_000, None), 0);
    assert!(whole.on_time(70_999).left.is_empty());
    assert_eq!(whole.on_time(71_000).left.len(), 1);
}

#[test]
fn a_hurried_one_is_asked_once_a_second_at_most() {
    let mut whole = Whole::new(RULES, 0);
    whole.hurry(5);
    assert_eq!(whole.hurry_ms(), Some(5));
    whole.note_hurried();
    whole.hear(list([1]), "", 100);
    whole.hurry(200);
    assert_eq!((whole.ask_ms(), whole.hurry_ms()), (150, Some(1_100)));
    whole.fail("x".into(), (2_000, None), 0);
    whole.fail("x".into(), (3_000, None), 0);
    assert_eq!(whole.ask_ms(), 5_000);
    whole.hurry(3_500);
    assert_eq!(whole.ask_ms(), 4_000, "a rest is cut short");
}

#[test]
fn what_a_process_before_had_heard_serves() {
    let mut whole = Whole::new(RULES, 5_000);
    whole.remember(list([2, 1]), (Some(4_000), None));
    assert_eq!((all(&whole), whole.standing()), (vec![1, 2], (Standing::Remembered, 4_000, None)));
    assert!(!whole.is_heard());
    whole.hear(list([1, 2]), "", 6_000);
    assert!(whole.is_heard());
}

/// Whatever answers: never empty by failure, never above the bound, and what an answer named is there.
#[test]
fn many_seeds_keep_what_must_stay_true() {
    for seed in 0..64 {
        let mut random = Random::new(seed);
        let mut whole = Whole::new(RULES, 0);
        let mut now_ms = 0;
        for _ in 0..1_000 {
            now_ms += random.bits() % 3_000;
            let before = all(&whole);
            match random.bits() % 4 {
                0 => drop(whole.fail("x".into(), (now_ms, None), random.bits())),
                1 => drop(whole.hear(Vec::new(), "", now_ms)),
                _ => {
                    let mut named = list((1..=20).filter(|_| !random.bits().is_multiple_of(3)));
                    let mut other = whole.clone();
                    whole.hear(named.clone(), "", now_ms);
                    named.reverse();
                    other.hear(named.clone(), "", now_ms);
                    assert_eq!(all(&whole), all(&other), "the order means nothing");
                    assert!(named.iter().all(|one| whole.members().any(|there| there == one)), "seed {seed}");
                    continue;
                }
            }
            assert_eq!(all(&whole), before, "seed {seed}");
        }
    }
}
