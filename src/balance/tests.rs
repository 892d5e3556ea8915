//! What holds for every algorithm, and what each promises when it is asked through a [`Picker`].

mod algorithms;
mod hashing;
mod latency;
mod promises;

use std::net::SocketAddr;
use std::sync::Arc;

use super::load::Load;
use super::{Ask, Member, Pick, Picker};
use crate::config::settings::{Balance, HashKey, SourceHash};
use crate::random::Random;

const HASH: SourceHash = SourceHash { key: HashKey::SourceIp, bounded_load: None, mask_v4: 32, mask_v6: 64 };

const ALL: [Balance; 9] = [
    Balance::LeastBusy,
    Balance::RoundRobin,
    Balance::LeastConnections,
    Balance::Random,
    Balance::TwoChoices,
    Balance::LeastLatency,
    Balance::First,
    Balance::SourceHash(HASH),
    Balance::SourceHash(SourceHash { bounded_load: Some(1.25), key: HashKey::SourceIpPort, ..HASH }),
];

fn member(name: &str, weight: u16) -> Member {
    Member { name: name.into(), weight, tier: 0, up: true, out: false, load: Arc::new(Load::new(None)) }
}

/// Members b0, b1 ... of these weights.
fn members(weights: &[u16]) -> Vec<Member> {
    weights.iter().enumerate().map(|(index, weight)| member(&format!("b{index}"), *weight)).collect()
}

fn build(balance: &Balance, members: &[Member]) -> Picker {
    Picker::build(balance, "evenkeel", false, members, None)
}

/// IPv4 clients, each another.
fn client(number: u32) -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::from_bits(0x0a00_0000 + number), 40_000))
}

fn ask(number: u32, tried: &[u32]) -> Ask<'_> {
    // Two draws, so that neither the client nor the next pick is told by the bits.
    let random = Random::new(Random::new(u64::from(number)).bits()).bits();
    Ask { client: client(number), random, now_ns: u64::from(number), tried }
}

fn fill(load: &Load) {
    load.set_max_sessions(Some(1));
    assert!(load.try_take());
}

/// How often each member is picked in `picks` picks.
fn counts(picker: &Picker, members: usize, picks: u32) -> Vec<u32> {
    let mut counts = vec![0; members];
    for number in 0..picks {
        match picker.pick(&ask(number, &[])) {
            Pick::Member(index) => counts[index as usize] += 1,
            other => panic!("{other:?}"),
        }
    }
    counts
}
