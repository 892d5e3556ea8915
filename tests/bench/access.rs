//! What a decision about a client costs, with 10, 10,000 and 100,000 networks, and what working out the lists costs.

#![allow(missing_docs, clippy::cast_possible_truncation)] // criterion_group! writes a public function without a word on it

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::access::Access;
use evenkeel::config::settings::Cidr;
use evenkeel::limits::SourceRates;

criterion_group!(benches, decisions, builds, rates);
criterion_main!(benches);

fn decisions(criterion: &mut Criterion) {
    for count in [10, 10_000, 100_000] {
        for (family, is_v4) in [("v4", true), ("v6", false)] {
            let networks = networks(count, is_v4);
            let (allow, deny) = networks.split_at(networks.len() / 2);
            let access = Access::new(allow, deny);
            let mut random = 1_u64;
            criterion.bench_function(&format!("access/{family}/{count}"), |bencher| {
                bencher.iter(|| {
                    // A new client each time, near one of the networks, so that no part of the table is warm by itself.
                    let base = networks[(draw(&mut random) % networks.len() as u64) as usize].ip;
                    access.allows(black_box(near(base, draw(&mut random))))
                });
            });
        }
    }
}

fn builds(criterion: &mut Criterion) {
    let networks = networks(10_000, true);
    criterion.bench_function("access/build/10000", |bencher| {
        bencher.iter(|| Access::new(black_box(&networks[..5_000]), &networks[5_000..]));
    });
}

/// One source after the other out of a million: most of the table's lines are cold.
fn rates(criterion: &mut Criterion) {
    let rates = SourceRates::new([7; 16], 100_000_000, 100_000);
    let (mut random, mut now_ns) = (1_u64, 0);
    criterion.bench_function("rates/source", |bencher| {
        bencher.iter(|| {
            now_ns += 1_000;
            let source = Ipv4Addr::from_bits((draw(&mut random) % 1_000_000) as u32);
            rates.take(black_box(source.into()), now_ns, || Ok(()))
        });
    });
}

fn networks(count: usize, is_v4: bool) -> Vec<Cidr> {
    let mut random = 7_u64;
    let network = |_| {
        let number = draw(&mut random);
        let high = draw(&mut random);
        if is_v4 {
            let bits = 12 + (number % 21) as u8;
            let mask = u32::MAX << (32 - u32::from(bits));
            Cidr { ip: Ipv4Addr::from_bits((high >> 32) as u32 & mask).into(), bits }
        } else {
            let bits = 24 + (number % 41) as u8;
            let mask = u128::MAX << (128 - u32::from(bits));
            let ip = u128::from(high >> 3 | 1 << 61) << 64;
            Cidr { ip: Ipv6Addr::from_bits(ip & mask).into(), bits }
        }
    };
    (0..count).map(network).collect()
}

fn near(ip: IpAddr, random: u64) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() ^ (random & 0x3fff) as u32).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() ^ u128::from(random) << 32).into(),
    }
}

fn draw(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    *random ^ *random >> 29
}
