//! The rules of belief, one by one, as whoever reads the documentation would try them.

use super::*;

const RULES: Rules = Rules {
    max_lag_ms: Some(10_000),
    max_lag_bytes: None,
    contested: Contested::Refuse,
    majority: false,
    writers: Writers::One,
    rise: 2,
};

fn roles(servers: usize) -> Roles {
    Roles::new(RULES, servers, Memory::default())
}

fn generation(number: u64) -> Option<Generation> {
    Some(Generation { lineage: "main".into(), number })
}

fn primary(number: u64) -> Said {
    Said::Role(Answer { claim: Claim::Primary, generation: generation(number), position: None })
}

fn replica(number: u64) -> Said {
    Said::Role(Answer { claim: Claim::Replica, generation: generation(number), position: None })
}

/// Of a protocol that knows no generation.
fn bare(claim: Claim) -> Said {
    Said::Role(Answer { claim, generation: None, position: None })
}

/// Hears `said` of each server in turn, at one moment.
fn hear(roles: &mut Roles, said: &[(usize, Said)]) -> Vec<Standing> {
    for (at, said) in said {
        roles.hear(*at, said.clone(), false, 1_000);
    }
    roles.standings().to_vec()
}

#[test]
fn a_role_counts_at_the_answer_that_names_it_and_silence_does_not() {
    let mut roles = roles(2);
    hear(&mut roles, &[(0, primary(4)), (1, replica(4))]);
    assert_eq!(roles.primary(), Some(0));
    hear(&mut roles, &[(0, Said::Nothing), (0, Said::Nothing)]);
    assert_eq!(roles.primary(), Some(0), "it may be the network");
    hear(&mut roles, &[(0, replica(4))]);
    assert_eq!(roles.primary(), None);
    assert!(roles.hear(1, primary(5), false, 1));
    assert_eq!(roles.primary(), Some(1));
    roles.hear(1, Said::Nothing, true, 2);
    assert_eq!((roles.primary(), roles.standings()[1]), (None, Standing::Unknown), "given up");
}

#[test]
fn the_later_promotion_wins_even_while_the_earlier_one_is_silent_or_insists() {
    for before in [primary(4), Said::Nothing, Said::Full] {
        let mut roles = roles(3);
        hear(&mut roles, &[(0, primary(4)), (0, before), (1, primary(5))]);
        assert_eq!(roles.standings()[..2], [Standing::Stale(5), Standing::Primary]);
        assert!(!Standing::Stale(5).is_any() && !Standing::Stale(5).may_keep_readers());
        hear(&mut roles, &[(0, primary(4))]);
        assert_eq!(roles.primary(), Some(1));
    }
}

#[test]
fn who_is_no_longer_named_by_those_who_decide_is_stale_alone_or_not() {
    let former =
        |number| Said::Role(Answer { claim: Claim::Former, generation: generation(number), position: None });
    let mut roles = roles(3);
    hear(&mut roles, &[(0, primary(4)), (1, replica(4))]);
    assert_eq!(hear(&mut roles, &[(0, former(5))])[0], Standing::Stale(5));
    assert_eq!(roles.primary(), None, "who the other one is must be heard from itself");
    // A replica that says so as well is being promoted: it keeps its readers until it is named.
    assert_eq!(hear(&mut roles, &[(1, former(5))])[1], Standing::Replica);
    // A third one, silent since it was the primary before.
    assert_eq!(hear(&mut roles, &[(2, primary(4))])[2], Standing::Stale(5));
    assert_eq!(hear(&mut roles, &[(1, primary(5))])[1], Standing::Primary);
    roles.hear(1, Said::Nothing, true, 2_000);
    roles.hear(0, Said::Nothing, true, 2_000);
    assert_eq!(hear(&mut roles, &[(2, primary(4))])[2], Standing::Stale(5), "remembered");
    // Those who decide are out of reach: everybody is what it was.
    hear(&mut roles, &[(1, primary(5)), (0, former(5)), (1, Said::Full), (0, Said::Full), (2, Said::Full)]);
    assert_eq!(roles.standings(), [Standing::Stale(5), Standing::Primary, Standing::Stale(5)]);
}

#[test]
fn of_many_that_take_writes_one_does_and_it_does_not_move_while_it_is_well() {
    let mut roles = roles(3);
    let replica = bare(Claim::Replica);
    let [a, b, c] = [0, 1, 2].map(|at| (at, bare(Claim::Writer)));
    hear(&mut roles, &[c.clone(), b.clone()]);
    assert_eq!(roles.primary(), None, "the first of the list may be one");
    assert_eq!(hear(&mut roles, &[(0, Said::Nothing)])[1..], [Standing::Primary, Standing::Replica]);
    // A better one returns, and the present one misses a check.
    hear(&mut roles, &[a.clone(), (1, Said::Nothing)]);
    assert_eq!(roles.primary(), Some(1));
    // It reads only, or is given up: the first of the list that speaks.
    assert_eq!(
        hear(&mut roles, &[(1, replica.clone())]),
        [Standing::Primary, Standing::Replica, Standing::Replica]
    );
    hear(&mut roles, &[b.clone(), (2, Said::Nothing)]);
    assert!(roles.hear(0, Said::Starting, false, 2_000));
    assert_eq!(roles.primary(), Some(1));
    roles.hear(1, Said::Nothing, true, 3_000);
    assert_eq!(roles.primary(), Some(2), "silent, and all there is");

    let mut all = Roles::new(Rules { writers: Writers::All, ..RULES }, 3, Memory::default());
    assert_eq!(
        hear(&mut all, &[a, b, c, (2, replica)]),
        [Standing::Primary, Standing::Primary, Standing::Replica]
    );
}

#[test]
fn an_earlier_generation_is_not_believed_again_alone_or_by_another_process() {
    let mut roles = roles(2);
    hear(&mut roles, &[(0, primary(4)), (1, primary(5))]);
    roles.hear(1, Said::Nothing, true, 2_000);
    assert_eq!(roles.standings(), [Standing::Stale(5), Standing::Unknown]);
    let mut next = Roles::new(RULES, 2, roles.memory().clone());
    assert_eq!(hear(&mut next, &[(0, primary(4))])[0], Standing::Stale(5));
    assert_eq!(hear(&mut next, &[(0, primary(6))])[0], Standing::Primary, "promoted again");
}

#[test]
fn who_was_never_asked_is_nobody() {
    let mut roles = roles(2);
    assert!(roles.standings().iter().all(|standing| !standing.is_primary() && !standing.is_replica()));
    hear(&mut roles, &[(0, Said::Full), (1, Said::Nothing)]);
    assert_eq!(roles.standings(), [Standing::Unknown; 2]);
    // One that a reload adds, in the place of one that stays.
    hear(&mut roles, &[(0, primary(1))]);
    let next = roles.with_servers(RULES, &[None, Some(0)], 5);
    assert_eq!(next.standings(), [Standing::Unknown, Standing::Primary]);
}

#[test]
fn two_that_say_the_same_are_contested_until_one_of_them_gives_way() {
    let mut roles = roles(2);
    hear(&mut roles, &[(0, bare(Claim::Primary)), (1, bare(Claim::Primary))]);
    assert_eq!(roles.standings(), [Standing::Contested; 2]);
    assert!(!Standing::Contested.may_keep_readers());
    // The one that began to say so later, while the other is silent, but not the other way round.
    let mut other = roles.clone();
    hear(&mut other, &[(1, Said::Nothing)]);
    assert_eq!(other.primary(), None, "the later one may be the true one");
    hear(&mut roles, &[(0, Said::Nothing)]);
    assert_eq!(roles.primary(), Some(1));
    hear(&mut roles, &[(0, bare(Claim::Primary))]);
    assert_eq!(roles.primary(), None, "it thaws, and insists");
    hear(&mut roles, &[(0, bare(Claim::Replica))]);
    assert_eq!(roles.primary(), Some(1));

    let keep = Rules { contested: Contested::Keep, ..RULES };
    let mut roles = Roles::new(keep, 2, Memory::default());
    hear(&mut roles, &[(0, primary(3)), (1, primary(3))]);
    assert_eq!(roles.standings(), [Standing::Primary, Standing::Contested]);
}

#[test]
fn the_order_of_first_answers_decides_nothing_between_balancers() {
    let said = [(0, primary(3)), (1, primary(3)), (2, replica(3))];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        let mut roles = roles(3);
        hear(&mut roles, &order.map(|at: usize| said[at].clone()));
        assert_eq!(roles.primary(), None, "{order:?}");
    }
}

#[test]
fn a_full_server_is_what_it_was_and_one_that_starts_is_not() {
    let mut roles = roles(2);
    hear(
        &mut roles,
        &[(0, primary(1)), (1, replica(1)), (0, Said::Nothing), (0, Said::Full), (1, Said::Full)],
    );
    assert_eq!(roles.standings(), [Standing::Primary, Standing::Replica]);
    hear(&mut roles, &[(0, Said::Starting), (1, Said::Starting)]);
    assert_eq!(roles.standings(), [Standing::Starting; 2]);
    hear(&mut roles, &[(0, primary(1)), (1, replica(1))]);
    assert_eq!(roles.standings(), [Standing::Primary, Standing::Replica], "a restart is no promotion");
}

#[test]
fn another_cluster_is_believed_only_when_it_has_most_of_the_pool() {
    let of = |lineage: &str, claim| {
        let generation = Some(Generation { lineage: lineage.into(), number: 9 });
        Said::Role(Answer { claim, generation, position: None })
    };
    let mut roles = roles(3);
    hear(&mut roles, &[(0, primary(4)), (1, replica(4)), (2, of("other", Claim::Primary))]);
    assert_eq!(roles.standings(), [Standing::Primary, Standing::Replica, Standing::Foreign]);
    roles.hear(0, Said::Nothing, true, 1);
    assert_eq!(roles.primary(), None);
    hear(&mut roles, &[(1, of("other", Claim::Replica))]);
    assert_eq!(roles.primary(), Some(2), "the pool was made anew of a backup");
    hear(&mut roles, &[(0, primary(4))]);
    assert_eq!(roles.standings()[0], Standing::Foreign);
}

#[test]
fn with_a_majority_asked_for_half_of_the_pool_is_not_enough() {
    let mut roles = Roles::new(Rules { majority: true, ..RULES }, 4, Memory::default());
    hear(&mut roles, &[(0, primary(1)), (1, replica(1))]);
    assert_eq!(roles.standings()[0], Standing::Alone);
    hear(&mut roles, &[(2, replica(1))]);
    assert_eq!(roles.standings()[0], Standing::Primary);
    hear(&mut roles, &[(1, Said::Nothing)]);
    assert_eq!(roles.primary(), Some(0), "one silence is none");
    roles.hear(1, Said::Nothing, true, 2);
    assert_eq!(roles.primary(), None);
}

#[test]
fn a_replica_leaves_at_the_limit_and_returns_well_below_it_and_only_in_a_row() {
    let mut roles = roles(2);
    let at =
        |claim, position| Said::Role(Answer { claim, generation: generation(1), position: Some(position) });
    // The primary goes on by 100 a second; the replica is as many seconds behind as it is told to be.
    let mut second = 0;
    let mut behind = |roles: &mut Roles, seconds: u64| {
        second += 1;
        let now_ms = second * 1_000;
        roles.hear(0, at(Claim::Primary, second * 100), false, now_ms);
        roles.hear(1, at(Claim::Replica, second.saturating_sub(seconds + 1) * 100 + 50), false, now_ms);
        roles.standings()[1]
    };
    (0..20).for_each(|_| assert_eq!(behind(&mut roles, 0), Standing::Replica));
    assert_eq!(behind(&mut roles, 10), Standing::Replica, "{:?}", roles.lag(1));
    assert_eq!(behind(&mut roles, 11), Standing::Lagging, "{:?}", roles.lag(1));
    assert_eq!(behind(&mut roles, 7), Standing::Lagging, "not yet half");
    assert_eq!(behind(&mut roles, 4), Standing::Lagging, "once");
    roles.hear(1, Said::Nothing, false, 1);
    assert_eq!(behind(&mut roles, 4), Standing::Lagging, "once again");
    assert_eq!(behind(&mut roles, 4), Standing::Replica);
    assert_eq!(behind(&mut roles, 12), Standing::Lagging);
    // Without a primary nothing is known: the last word holds.
    roles.hear(0, Said::Nothing, true, 90_000);
    roles.hear(1, at(Claim::Replica, 100_000), false, 90_000);
    assert_eq!(roles.standings()[1], Standing::Lagging);
    roles.hear(1, primary(2), false, 91_000);
    assert_eq!(roles.primary(), Some(1), "it is the best there is");
}

#[test]
fn the_next_process_knows_what_the_one_before_knew() {
    let mut roles = roles(3);
    hear(&mut roles, &[(0, bare(Claim::Primary)), (1, bare(Claim::Replica))]);
    let known = (0..3).map(|at| roles.known(at)).collect();
    let next = Roles::resumed(RULES, known, roles.primary(), roles.memory().clone(), 9);
    assert_eq!(next.standings(), roles.standings());
    assert_eq!(next.standings()[2], Standing::Unknown);

    // Who fell silent, and who came later: both decide, there as here.
    hear(&mut roles, &[(0, Said::Nothing), (2, bare(Claim::Primary))]);
    let resumed = |roles: &Roles| {
        let known = (0..3).map(|at| roles.known(at)).collect();
        Roles::resumed(RULES, known, None, roles.memory().clone(), 9)
    };
    assert_eq!((roles.primary(), resumed(&roles).primary()), (Some(2), Some(2)));
    hear(&mut roles, &[(0, bare(Claim::Primary)), (2, Said::Nothing)]);
    assert_eq!((roles.primary(), resumed(&roles).primary()), (None, None));
}

#[test]
fn a_replica_that_is_too_many_bytes_behind_leaves_and_returns_below_half() {
    let rules = Rules { max_lag_ms: None, max_lag_bytes: Some(1000), ..RULES };
    let mut roles = Roles::new(rules, 2, Memory::default());
    let at =
        |claim, position| Said::Role(Answer { claim, generation: generation(1), position: Some(position) });
    let mut standing = |now_ms: u64, written: u64, replayed: u64| {
        roles.hear(0, at(Claim::Primary, written), false, now_ms);
        roles.hear(1, at(Claim::Replica, replayed), false, now_ms + 1);
        roles.standings()[1]
    };
    assert_eq!(standing(1_000, 5_000, 5_000), Standing::Replica);
    assert_eq!(standing(2_000, 5_000, 4_000), Standing::Replica, "at the limit it serves");
    assert_eq!(standing(3_000, 6_000, 4_000), Standing::Lagging);
    assert_eq!(standing(4_000, 6_000, 5_300), Standing::Lagging, "below the limit, and not below half of it");
    assert_eq!(standing(5_000, 6_000, 5_600), Standing::Lagging, "once is by chance");
    assert_eq!(standing(6_000, 6_100, 5_900), Standing::Replica);
}

#[test]
fn what_was_forgotten_is_no_hindrance_and_what_is_claimed_now_is() {
    let mut roles = roles(2);
    roles.hear(0, primary(7), false, 1_000);
    roles.hear(0, Said::Nothing, true, 2_000);
    // Restored from a backup.
    roles.hear(1, primary(5), false, 3_000);
    assert_eq!(roles.standings()[1], Standing::Stale(7));
    assert!(roles.forget(4_000));
    assert_eq!((roles.primary(), roles.memory().highest("main")), (Some(1), Some(5)));
    assert!(!roles.forget(5_000), "it is believed now");
    roles.hear(0, primary(7), false, 6_000);
    assert_eq!((roles.primary(), roles.forget(7_000)), (Some(0), false), "the later one is there again");
}
