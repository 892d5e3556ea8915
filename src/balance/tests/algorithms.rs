//! Who gets how much, for each algorithm but the hashing one. Bounds are stated with their sample size.

use std::sync::Barrier;

use super::*;

#[test]
fn round_robin_gives_smooth_turns() {
    let picker = build(&Balance::RoundRobin, &members(&[5, 1, 1]));
    let turns: Vec<_> = (0..14).map(|number| picker.pick(&ask(number, &[]))).collect();
    let expected = [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0].map(Pick::Member);
    assert_eq!(turns, expected);
}

#[test]
fn round_robin_goes_on_where_it_was_after_a_rebuild() {
    let list = members(&[1; 5]);
    let mut picker = build(&Balance::RoundRobin, &list);
    for number in 0..23 {
        assert_eq!(picker.pick(&ask(number, &[])), Pick::Member(number % 5));
        picker = Picker::build(&Balance::RoundRobin, "evenkeel", false, &list, Some(&picker));
    }
}

#[test]
fn round_robin_is_exact_over_rounds_of_many_threads() {
    let weights = [7_u16, 1, 256, 13, 100];
    let picker = build(&Balance::RoundRobin, &members(&weights));
    let round: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
    // 4 threads of 50 rounds each.
    let barrier = Barrier::new(4);
    let share = || {
        barrier.wait();
        counts(&picker, weights.len(), round * 50)
    };
    let shares: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(share)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (index, weight) in weights.iter().enumerate() {
        let sum: u32 = shares.iter().map(|share| share[index]).sum();
        assert_eq!(sum, u32::from(*weight) * 200);
    }
}

#[test]
fn round_robin_shares_the_turns_of_a_full_member_among_the_others() {
    let list = members(&[1, 1, 1]);
    fill(&list[1].load);
    let counts = counts(&build(&Balance::RoundRobin, &list), 3, 300);
    assert_eq!(counts, [150, 0, 150]);
}

#[test]
fn round_robin_gives_the_few_open_of_many_equal_turns() {
    let list = members(&[1; 1_000]);
    for (index, member) in list.iter().enumerate() {
        if !(500..510).contains(&index) {
            fill(&member.load);
        }
    }
    // A walk through the schedule meets the ten once in a round, a scan each in turn.
    let counts = counts(&build(&Balance::RoundRobin, &list), 1_000, 10_000);
    assert!(counts[500..510].iter().all(|count| (850..=1_150).contains(count)), "{:?}", &counts[500..510]);
}

#[test]
fn least_connections_fills_by_weight_exactly() {
    let list = members(&[1, 2, 4, 1]);
    let picker = build(&Balance::LeastConnections, &list);
    for number in 0..8_000 {
        let Pick::Member(index) = picker.pick(&ask(number, &[])) else { panic!() };
        assert!(list[index as usize].load.try_take());
    }
    let active: Vec<u32> = list.iter().map(|member| member.load.active()).collect();
    assert_eq!(active, [1_000, 2_000, 4_000, 1_000]);
}

#[test]
fn least_connections_lets_equals_take_turns() {
    let list = members(&[1; 6]);
    for busy in [1, 2, 3, 5] {
        assert!(list[busy].load.try_take());
    }
    // Sessions that end at once: the two idle ones stay equal.
    assert_eq!(counts(&build(&Balance::LeastConnections, &list), 6, 1_000), [500, 0, 0, 0, 500, 0]);
}

#[test]
fn random_follows_the_weights() {
    let weights = [1_u16, 0, 2, 256, 41];
    let picks = 300_000;
    let counts = counts(&build(&Balance::Random, &members(&weights)), 5, picks);
    for (count, weight) in counts.iter().zip(weights) {
        assert_near(*count, f64::from(weight) / 300.0, picks);
    }
}

#[test]
fn random_follows_the_weights_of_those_that_are_open() {
    let mut weights = vec![100; 40];
    weights.extend([1, 2, 5]);
    let list = members(&weights);
    list[..40].iter().for_each(|member| fill(&member.load));
    let picks = 40_000;
    let counts = counts(&build(&Balance::Random, &list), 43, picks);
    for (count, weight) in counts[40..].iter().zip([1.0, 2.0, 5.0]) {
        assert_near(*count, weight / 8.0, picks);
    }
}

#[test]
fn a_pair_is_drawn_by_weight_and_distinct() {
    // Idle members of one weight each 2: of a pair of equals the first drawn is kept, so shares are the weights'.
    let picks = 100_000;
    for counts in
        [Balance::TwoChoices, Balance::LeastLatency].map(|b| counts(&build(&b, &members(&[2; 5])), 5, picks))
    {
        for count in counts {
            assert_near(count, 0.2, picks);
        }
    }
    // The heavy one is drawn first nearly always; the busy light one must still be compared with somebody.
    let list = members(&[256, 1]);
    for _ in 0..300 {
        assert!(list[0].load.try_take());
    }
    assert_eq!(counts(&build(&Balance::TwoChoices, &list), 2, 1_000), [0, 1_000]);
}

#[test]
fn two_choices_keeps_even_loads() {
    let weights: Vec<u16> = (0..100).map(|index| 1 + index % 4).collect();
    let list = members(&weights);
    let picker = build(&Balance::TwoChoices, &list);
    // 250 units of weight, 40 sessions each.
    for number in 0..10_000 {
        let Pick::Member(index) = picker.pick(&ask(number, &[])) else { panic!() };
        assert!(list[index as usize].load.try_take());
    }
    for (member, weight) in list.iter().zip(weights) {
        let per_weight = f64::from(member.load.active()) / f64::from(weight);
        // Pure chance would spread weight 1 from 22 to 60.
        assert!((32.0..=46.0).contains(&per_weight), "weight {weight}: {per_weight}");
    }
}

#[test]
fn first_fills_in_list_order() {
    let list = members(&[1, 9, 1]);
    list[0].load.set_max_sessions(Some(2));
    list[1].load.set_max_sessions(Some(1));
    let picker = build(&Balance::First, &list);
    let mut order = Vec::new();
    for number in 0..5 {
        let Pick::Member(index) = picker.pick(&ask(number, &[])) else { panic!() };
        assert!(list[index as usize].load.try_take());
        order.push(index);
    }
    assert_eq!(order, [0, 0, 1, 2, 2]);
    list[0].load.give_back();
    assert_eq!(picker.pick(&ask(9, &[])), Pick::Member(0));
}

/// Within five standard deviations of the share: the seeds are fixed, so this either always holds or never does.
fn assert_near(count: u32, share: f64, picks: u32) {
    let expected = share * f64::from(picks);
    let deviation = (expected * (1.0 - share)).sqrt();
    assert!((f64::from(count) - expected).abs() <= 5.0 * deviation, "{count} of {expected}");
}
