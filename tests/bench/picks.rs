//! What a pick costs, for each algorithm with 10 and with 1,000 members, and what building the tables costs.

#![allow(missing_docs)] // criterion_group! writes a public function without a word on it

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::balance::load::Load;
use evenkeel::balance::{Ask, Member, Picker};
use evenkeel::config::settings::{Balance, HashKey, SourceHash};

criterion_group!(benches, picks, crowded_picks, builds);
criterion_main!(benches);

fn picks(criterion: &mut Criterion) {
    for count in [10, 1_000] {
        let members = members(count, |index| 1 + index % 7);
        for (word, balance) in algorithms() {
            let picker = Picker::build(&balance, "evenkeel", false, &members, None);
            let mut random = 1_u64;
            criterion.bench_function(&format!("pick/{word}/{count}"), |bencher| {
                bencher.iter(|| {
                    // A new client each time, so that a table is not read where it was read before.
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                    let client = SocketAddr::from((Ipv4Addr::from_bits((random >> 32) as u32), 40_000));
                    picker.pick(black_box(&Ask { client, random, now_ns: random >> 30, tried: &[] }))
                });
            });
        }
    }
}

/// The worst a pick can meet: one open member among 1,000.
fn crowded_picks(criterion: &mut Criterion) {
    let members = members(1_000, |index| 1 + index % 7);
    for member in members.iter().filter(|member| &*member.name != "10.0.2.77:5432") {
        member.load.set_max_sessions(Some(1));
        let _ = member.load.try_take();
    }
    for (word, balance) in algorithms() {
        let picker = Picker::build(&balance, "evenkeel", false, &members, None);
        let mut random = 1_u64;
        criterion.bench_function(&format!("crowded/{word}/1000"), |bencher| {
            bencher.iter(|| {
                random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let client = SocketAddr::from((Ipv4Addr::from_bits((random >> 32) as u32), 40_000));
                picker.pick(black_box(&Ask { client, random, now_ns: 2_000_000_000, tried: &[] }))
            });
        });
    }
}

fn builds(criterion: &mut Criterion) {
    // Weights without a common divisor: the longest schedule there is.
    let members = members(1_000, |index| 1 + (index * 89) % 256);
    for (word, balance) in algorithms() {
        criterion.bench_function(&format!("build/{word}/1000"), |bencher| {
            bencher.iter(|| Picker::build(&balance, "evenkeel", false, black_box(&members), None));
        });
    }
}

/// Members with up to 8 sessions each and a measured latency.
fn members(count: u16, weight: impl Fn(u16) -> u16) -> Vec<Member> {
    let member = |index: u16| {
        let load = Load::new(Some(100));
        for _ in 0..index * 31 % 9 {
            assert!(load.try_take());
        }
        load.observe_answer(1, 1_000_000 + u64::from(index) * 977 % 1_000_000);
        let name = format!("10.0.{}.{}:5432", index / 256, index % 256).into();
        Member { name, weight: weight(index), tier: 0, up: true, out: false, load: Arc::new(load) }
    };
    (0..count).map(member).collect()
}

fn algorithms() -> [(&'static str, Balance); 9] {
    let hash = SourceHash { key: HashKey::SourceIp, bounded_load: None, mask_v4: 32, mask_v6: 64 };
    [
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::LeastConnections),
        ("random", Balance::Random),
        ("two_choices", Balance::TwoChoices),
        ("least_latency", Balance::LeastLatency),
        ("least_busy", Balance::LeastBusy),
        ("first", Balance::First),
        ("source_hash", Balance::SourceHash(hash)),
        ("source_hash_bounded", Balance::SourceHash(SourceHash { bounded_load: Some(1.25), ..hash })),
    ]
}
