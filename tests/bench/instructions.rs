//! The work of the pure rooms, done a given number of times and nothing else: `tests/bench/instructions` counts the
//! instructions of two numbers of times under valgrind, and what is between them is the work alone.
//!
//! Usage: instructions ROOM TIMES; without arguments it names the rooms.

#![allow(clippy::print_stdout, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use evenkeel::balance::load::Load;
use evenkeel::balance::{Ask, Member, Picker};
use evenkeel::config;
use evenkeel::config::settings::{Balance, HashKey, NamePattern, Role, Route, SourceHash};
use evenkeel::flow::{Draining, FlowKey, Flows, Terms};
use evenkeel::limits::{PerSource, SessionLimits};
use evenkeel::proxy_protocol::{self, Addresses, Transport};
use evenkeel::routing::{self, ClientHello, Facts, First, Opening, Table};

type Room = (&'static str, fn(u64));

const ROOMS: [Room; 13] = [
    ("pick/round_robin", |times| picks(&Balance::RoundRobin, times)),
    ("pick/least_connections", |times| picks(&Balance::LeastConnections, times)),
    ("pick/least_busy", |times| picks(&Balance::LeastBusy, times)),
    ("turn/owed_answer", turns),
    ("pick/two_choices", |times| picks(&Balance::TwoChoices, times)),
    ("pick/source_hash", |times| picks(&hash(), times)),
    ("flow/look_up", look_ups),
    ("flow/admit", admissions),
    ("proxy/decode_v2", decodes),
    ("proxy/encode_v2", encodes),
    ("routing/read_hello", hellos),
    ("routing/choose", choices),
    ("config/reference", configurations),
];

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let Some(room) = words.next() else {
        ROOMS.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let times = words.next().and_then(|times| times.parse().ok()).expect("how many times");
    let (_, work) = ROOMS.iter().find(|(name, _)| *name == room).expect("one of the rooms");
    work(times);
}

fn hash() -> Balance {
    Balance::SourceHash(SourceHash { key: HashKey::SourceIp, bounded_load: None, mask_v4: 32, mask_v6: 64 })
}

fn client(number: u64) -> SocketAddr {
    // Spread over the addresses, the same in every run.
    let bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    SocketAddr::from((Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(0)), 40_000))
}

fn picks(balance: &Balance, times: u64) {
    let member = |index: u16| Member {
        name: format!("10.0.{}.{}:5432", index / 256, index % 256).into(),
        weight: 1 + index % 7,
        tier: 0,
        up: true,
        out: false,
        load: Arc::new(Load::new(Some(100))),
    };
    let members: Vec<Member> = (0..1_000).map(member).collect();
    let picker = Picker::build(balance, "evenkeel", false, &members, None);
    for number in 0..times {
        let random = number.wrapping_mul(0x5851_f42d_4c95_7f2d);
        let ask = Ask { client: client(number), random, now_ns: number, tried: &[] };
        black_box(picker.pick(black_box(&ask)));
    }
}

/// What a turn of a session adds to its relaying: an answer is owed, and comes. One in a hundred is measured.
fn turns(times: u64) {
    let load = Load::new(None);
    for number in 1..=times {
        load.ask(black_box(number));
        load.settle(black_box(number));
        if number.is_multiple_of(100) {
            load.observe_answer(number, black_box(5_000_000));
        }
    }
}

fn flows() -> (Flows, Arc<Terms>) {
    let sources = PerSource::new([2; 16], None, 1 << 17);
    let terms = Terms {
        idle_ms: Some(60_000),
        lifetime_ms: None,
        responses: None,
        requests: None,
        limits: Arc::new(SessionLimits::new(None, None, Some(sources))),
        draining: Draining::default(),
    };
    (Flows::new([7; 16], 0), Arc::new(terms))
}

fn key(number: u64) -> FlowKey {
    FlowKey { client: client(number), local: SocketAddr::from(([10, 0, 0, 1], 53)) }
}

fn look_ups(times: u64) {
    let (mut flows, terms) = flows();
    for number in 0..1_000 {
        black_box(flows.admit(&key(number), 0, &terms, || false));
    }
    for number in 0..times {
        black_box(flows.admit(black_box(&key(number % 1_000)), 5, &terms, || false));
    }
}

fn admissions(times: u64) {
    let (mut flows, terms) = flows();
    for number in 0..times {
        black_box(flows.admit(black_box(&key(number)), 5, &terms, || false));
    }
    // The end of the table is no admission.
    std::mem::forget(flows);
}

fn header() -> Vec<u8> {
    let addresses = Addresses::new(client(1), SocketAddr::from(([10, 0, 0, 1], 443)));
    proxy_protocol::encode_v2(Some(&addresses), Transport::Stream, &[])
}

fn decodes(times: u64) {
    let header = header();
    for _ in 0..times {
        black_box(proxy_protocol::decode(black_box(&header)));
    }
}

fn encodes(times: u64) {
    (0..times).for_each(|_| drop(black_box(header())));
}

fn hellos(times: u64) {
    let hello = include_bytes!("../hellos/chromium.hello");
    (0..times).for_each(|_| drop(black_box(routing::read_tls(black_box(hello)))));
}

/// The last of a hundred names.
fn choices(times: u64) {
    let routes: Vec<Route> = (0..100)
        .map(|number| Route {
            from: Vec::new(),
            ports: Vec::new(),
            sni: NamePattern::parse(&format!("name{number:02}.example.org")).ok(),
            alpn: None,
            database: None,
            user: None,
            host: None,
            pool: 0,
            role: Role::Any,
        })
        .collect();
    let table = Table::new(&routes);
    let opening = Opening::Tls(ClientHello::named("name99.example.org"));
    let facts = Facts { client: client(7).ip(), port: 443, first: First::Is(&opening) };
    (0..times).for_each(|_| {
        black_box(table.choose(black_box(&facts)));
    });
}

fn configurations(times: u64) {
    let text = include_bytes!("../../conf/reference.yaml");
    (0..times).for_each(|_| drop(black_box(config::read("reference.yaml", black_box(text)))));
}
