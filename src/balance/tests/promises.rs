//! Every algorithm, any members: who may be picked, and that somebody is.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Draft {
    weight: u16,
    tier: u8,
    up: bool,
    out: bool,
    active: u8,
    max: Option<u32>,
    tried: bool,
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let draft = (
        prop_oneof![1 => Just(0_u16), 3 => Just(1), 3 => 1_u16..=256],
        0_u8..3,
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.2),
        0_u8..6,
        prop_oneof![1 => Just(None), 3 => (1_u32..6).prop_map(Some)],
        prop::bool::weighted(0.2),
    );
    let draft = draft.prop_map(|(weight, tier, up, out, active, max, tried)| Draft {
        weight,
        tier,
        up,
        out,
        active,
        max,
        tried,
    });
    proptest::collection::vec(draft, 0..40)
}

fn made(drafts: &[Draft]) -> Vec<Member> {
    let made = |(index, draft): (usize, &Draft)| {
        let load = Load::new(draft.max);
        for _ in 0..draft.active {
            let _ = load.try_take();
        }
        let Draft { weight, tier, up, out, .. } = *draft;
        Member { name: format!("n{}", index * 7919 % 41).into(), weight, tier, up, out, load: Arc::new(load) }
    };
    drafts.iter().enumerate().map(made).collect()
}

/// Eligibility told a second time, in other words.
fn expected(drafts: &[Draft], try_all: bool) -> Vec<u32> {
    let select = |accepts: &dyn Fn(&Draft) -> bool| {
        (0_u32..).zip(drafts).filter(|(_, draft)| accepts(draft)).map(|(index, _)| index).collect::<Vec<_>>()
    };
    for tier in 0..=u8::MAX {
        let serving = select(&|d| d.tier == tier && d.up && !d.out && d.weight != 0);
        if !serving.is_empty() {
            return serving;
        }
    }
    if try_all { select(&|d| !d.out && d.weight != 0) } else { Vec::new() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_pick_is_always_one_of_those_that_can_serve(
        drafts in drafts(), try_all: bool, random: u64, client: u32, turns in 1_usize..6,
    ) {
        let members = made(&drafts);
        let tried: Vec<u32> =
            (0_u32..).zip(&drafts).filter(|(_, draft)| draft.tried).map(|(index, _)| index).take(16).collect();
        let eligible = expected(&drafts, try_all);
        let not_full: Vec<u32> =
            eligible.iter().copied().filter(|index| !members[*index as usize].load.is_full()).collect();
        let open: Vec<u32> = not_full.iter().copied().filter(|index| !tried.contains(index)).collect();
        for balance in &ALL {
            let picker = Picker::build(balance, "evenkeel", try_all, &members, None);
            prop_assert_eq!(picker.eligible(), &eligible[..]);
            for turn in 0..turns as u64 {
                let random = random.wrapping_add(turn);
                let pick = picker.pick(&Ask { client: super::client(client >> 8), random, now_ns: 0, tried: &tried });
                match pick {
                    Pick::Member(index) => prop_assert!(open.contains(&index), "{balance:?}: {index} of {open:?}"),
                    Pick::Tried => prop_assert!(open.is_empty() && !not_full.is_empty(), "{balance:?}"),
                    Pick::Full => prop_assert!(not_full.is_empty() && !eligible.is_empty(), "{balance:?}"),
                    Pick::NoneEligible => prop_assert!(eligible.is_empty(), "{balance:?}"),
                }
            }
        }
    }
}

#[test]
fn the_one_open_member_of_a_thousand_is_found() {
    let list = members(&[3; 1_000]);
    for (index, member) in list.iter().enumerate() {
        if index != 777 {
            fill(&member.load);
        }
    }
    for balance in &ALL {
        let picker = build(balance, &list);
        for number in 0..50 {
            assert_eq!(picker.pick(&ask(number, &[])), Pick::Member(777), "{balance:?}");
            assert_eq!(picker.pick(&ask(number, &[777])), Pick::Tried, "{balance:?}");
        }
    }
    fill(&list[777].load);
    for balance in &ALL {
        assert_eq!(build(balance, &list).pick(&ask(1, &[777])), Pick::Full, "{balance:?}");
    }
}

#[test]
fn a_higher_tier_serves_only_while_no_lower_one_can_and_not_because_it_is_full() {
    let mut list = members(&[1, 1, 1]);
    list[1].tier = 1;
    list[2].tier = 2;
    fill(&list[0].load);
    for balance in &ALL {
        assert_eq!(build(balance, &list).pick(&ask(1, &[])), Pick::Full);
    }
    list[0].up = false;
    for balance in &ALL {
        assert_eq!(build(balance, &list).pick(&ask(1, &[])), Pick::Member(1));
    }
}

#[test]
fn try_all_takes_every_tier_but_nobody_an_operator_took_out() {
    let mut list = members(&[1, 1, 1, 0]);
    list[1].tier = 1;
    list[2].out = true;
    for member in &mut list {
        member.up = false;
    }
    for balance in &ALL {
        assert_eq!(build(balance, &list).pick(&ask(1, &[])), Pick::NoneEligible);
        assert_eq!(Picker::build(balance, "evenkeel", true, &list, None).eligible(), [0, 1]);
    }
    list[0].up = true;
    assert_eq!(Picker::build(&ALL[0], "evenkeel", true, &list, None).eligible(), [0]);
}

#[test]
fn members_beyond_the_cap_are_never_eligible() {
    let one = member("one", 1);
    let list = vec![one; crate::balance::MEMBERS_MAX + 5];
    for balance in &ALL {
        let picker = build(balance, &list);
        assert_eq!(picker.eligible().len(), crate::balance::MEMBERS_MAX);
        assert!(matches!(picker.pick(&ask(9, &[])), Pick::Member(_)));
    }
}

proptest! {
    /// What is foreseen is what comes, and looking ahead takes nobody's turn.
    #[test]
    fn foresight_agrees_with_the_pick(drafts in drafts(), which in 0..ALL.len(), number in 0_u32..1_000) {
        let members = made(&drafts);
        let picker = build(&ALL[which], &members);
        let ask = ask(number, &[]);
        let foreseen = picker.preview(&ask);
        prop_assert_eq!(&picker.preview(&ask), &foreseen, "looking changes nothing");
        match (foreseen, picker.pick(&ask)) {
            (crate::balance::Preview::Member(foreseen), Pick::Member(picked)) => prop_assert_eq!(foreseen, picked),
            (crate::balance::Preview::Odds(odds), Pick::Member(_)) => {
                let sum: u32 = odds.iter().map(|(_, odds)| odds).sum();
                prop_assert!((950..=1_050).contains(&sum), "{:?}", odds);
                for (index, _) in odds {
                    prop_assert!(!members[index as usize].load.is_full());
                }
            }
            (crate::balance::Preview::Full, Pick::Full) | (crate::balance::Preview::NoneEligible, Pick::NoneEligible) => {}
            (foreseen, picked) => prop_assert!(false, "foreseen {:?}, picked {:?}", foreseen, picked),
        }
    }
}
