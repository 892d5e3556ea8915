//! Real traffic over loopback: what a client and a backend see of the balancer between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, unreachable_pub)]

mod bulk;
mod commands;
mod costs;
mod crowds;
mod datagram_bursts;
mod datagram_fairness;
mod datagram_headers;
mod datagrams;
mod deadlines;
mod doors;
mod endings;
mod entry;
mod failing;
mod handover;
mod limits;
mod log_lines;
#[path = "../ports/mod.rs"]
mod ports;
mod proxy_headers;
mod queue;
mod reload;
mod rig;
mod shutdown;
mod stalls;
mod sticky;
mod successions;
mod watching;
