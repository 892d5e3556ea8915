//! The rows of the table: what is done, in which unit it is told, and with which proxies in front.

use std::time::Duration;

use super::backends::Backend;
use super::peers::{Proxy, Setup};
use super::programs::{self, Way};
use super::{beside, bursts, latency, load};

/// What one round of a row found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Units of work that were done, for the CPU time of each; 0: so much was lost that a figure would mean nothing.
    pub(crate) units: f64,
    /// Seconds that the work took.
    pub(crate) took_s: f64,
    /// CPU time of the proxy, where not all of its time was the work.
    pub(crate) cpu: Option<Duration>,
    /// Other figures, by name.
    pub(crate) figures: Vec<(&'static str, f64)>,
}

/// One kind of work.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What the cost is told for.
    pub(crate) unit: &'static str,
    pub(crate) setup: Setup,
    /// One of each kind, for a run that is not to take long.
    pub(crate) headline: bool,
    pub(crate) work: fn(&Proxy, Size) -> Found,
}

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Enough to see that it works.
    Smoke,
    /// A tenth.
    Quick,
    Whole,
}

impl Size {
    /// So many, of what the whole would be.
    pub(crate) fn of(self, whole: usize) -> usize {
        match self {
            Self::Smoke => (whole / 200).max(1),
            Self::Quick => (whole / 4).max(1),
            Self::Whole => whole,
        }
    }
}

const TCP: Setup = Setup { to: Backend::Echo, udp: false, logged: false, backends: 1 };
const UDP: Setup = Setup { to: Backend::Datagrams, udp: true, ..TCP };
const MIXED: Setup = Setup { to: Backend::Mixed, ..TCP };
const MIXED_UDP: Setup = Setup { udp: true, ..MIXED };
const BURSTS: Setup = Setup { to: Backend::Bursts, ..UDP };
const REDIS: Setup = Setup { to: Backend::Redis, ..TCP };
const POSTGRES: Setup = Setup { to: Backend::Postgres, ..TCP };
const NAMES: Setup = Setup { to: Backend::Names, ..UDP };
const IPERF: Setup = Setup { to: Backend::Iperf, ..TCP };
const IPERF_UDP: Setup = Setup { udp: true, ..IPERF };

const fn row(
    name: &'static str,
    unit: &'static str,
    setup: Setup,
    headline: bool,
    work: fn(&Proxy, Size) -> Found,
) -> Row {
    Row { name, unit, setup, headline, work }
}

/// All of them, in the order of the table.
pub(crate) const ROWS: [Row; 37] = [
    row("bulk one way, 4 streams", "MB", Setup { to: Backend::Sink, ..TCP }, true, |proxy, size| {
        load::bulk(proxy.door, size, false)
    }),
    row("bulk both ways, 4 streams", "MB", TCP, false, |proxy, size| load::bulk(proxy.door, size, true)),
    row("64 B rounds, 1 connection", "round", TCP, true, |p, s| load::rounds(p, 1, s.of(20_000), 64)),
    row("64 B rounds, 64 connections", "round", TCP, true, |p, s| load::rounds(p, 64, s.of(600), 64)),
    row("64 B rounds, 1,000 connections", "round", TCP, false, |p, s| load::rounds(p, 1_000, s.of(40), 64)),
    row("4 KiB rounds, 1 connection", "round", TCP, false, |p, s| load::rounds(p, 1, s.of(15_000), 4_096)),
    row("4 KiB rounds, 64 connections", "round", TCP, false, |p, s| load::rounds(p, 64, s.of(500), 4_096)),
    row("64 B at a fixed rate, 64 connections", "round", TCP, true, |p, s| latency::at_rate(p.door, 64, s)),
    row("connect, 64 B, close (FIN)", "connection", TCP, true, |p, s| load::connects(p.door, s, false)),
    row("connect, 64 B, close (RST)", "connection", TCP, false, |p, s| load::connects(p.door, s, true)),
    row("connect, 64 B, close, each logged", "connection", Setup { logged: true, ..TCP }, true, |p, s| {
        load::connects(p.door, s, false)
    }),
    row("8,000 idle connections", "connection", TCP, true, latency::idle),
    row("mixed: 64 at a fixed rate beside 4 bulk", "round", TCP, true, |p, s| latency::mixed(p.door, s)),
    row("64 B beside 4 bulk streams", "MB", MIXED, false, |p, s| beside::rounds(p, 4, s)),
    row("64 B beside 64 bulk streams", "MB", MIXED, true, |p, s| beside::rounds(p, 64, s)),
    row("64 B beside 128 bulk streams", "MB", MIXED, false, |p, s| beside::rounds(p, 128, s)),
    row("udp 64 B beside 4 bulk streams", "MB", MIXED_UDP, false, |p, s| beside::exchanges(p, 4, s)),
    row("udp 64 B beside 64 bulk streams", "MB", MIXED_UDP, false, |p, s| beside::exchanges(p, 64, s)),
    row("udp 64 B beside 128 bulk streams", "MB", MIXED_UDP, true, |p, s| beside::exchanges(p, 128, s)),
    row("udp 64 B, 1 client", "exchange", UDP, true, |p, s| load::exchanges(p.door, 1, s.of(20_000))),
    row("udp 64 B, 64 clients", "exchange", UDP, true, |p, s| load::exchanges(p.door, 64, s.of(500))),
    row("udp 64 B, 1,000 clients", "exchange", UDP, false, |p, s| load::exchanges(p.door, 1_000, s.of(40))),
    row("udp bursts of 40 x 1,200 B, UDP_SEGMENT", "datagram", BURSTS, true, |p, s| {
        bursts::bursts(p.door, s, true)
    }),
    row("udp bursts of 40 x 1,200 B, one by one", "datagram", BURSTS, false, |p, s| {
        bursts::bursts(p.door, s, false)
    }),
    row("2 backends: connects", "connection", Setup { backends: 2, ..TCP }, false, scale),
    row("100 backends: connects", "connection", Setup { backends: 100, ..TCP }, false, scale),
    row("1,000 backends: connects", "connection", Setup { backends: 1_000, ..TCP }, true, scale),
    row("10 connections: 64 B rounds", "round", TCP, false, |p, s| load::rounds(p, 10, s.of(4_000), 64)),
    row("8,000 connections: 64 B rounds", "round", TCP, false, |p, s| load::rounds(p, 8_000, s.of(8), 64)),
    row("iperf3, 4 streams up", "MB", IPERF, false, |p, s| programs::iperf(p.door, s, Way::Up)),
    row("iperf3, 4 streams down", "MB", IPERF, false, |p, s| programs::iperf(p.door, s, Way::Down)),
    row("iperf3 -u, 100 Mbit/s", "datagram", IPERF_UDP, false, |p, s| {
        programs::iperf(p.door, s, Way::Datagrams)
    }),
    row("redis-benchmark", "request", REDIS, true, |p, s| programs::redis_benchmark(p.door, s, 1)),
    row("redis-benchmark -P 16", "request", REDIS, false, |p, s| programs::redis_benchmark(p.door, s, 16)),
    row("pgbench -S", "transaction", POSTGRES, false, |p, s| programs::pgbench(p.door, s, false)),
    row("pgbench -S -C", "transaction", POSTGRES, false, |p, s| programs::pgbench(p.door, s, true)),
    row("dnsperf", "query", NAMES, false, |p, s| programs::dnsperf(p.door, s)),
];

fn scale(proxy: &Proxy, size: Size) -> Found {
    load::connects(proxy.door, size, false)
}
