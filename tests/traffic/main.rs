//! Real traffic over loopback: what a client and a backend see of the balancer between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, unreachable_pub)]

mod access_and_limits;
mod backend_ports;
mod binding;
mod builds;
mod commands;
mod config_files;
mod control_threads;
mod costs;
mod cuts;
mod dashboard;
mod datagram_bursts;
mod datagram_fairness;
mod datagram_headers;
mod datagrams;
mod deadlines;
mod discovery;
mod discovery_file;
mod discovery_soak;
mod discovery_srv;
mod discovery_upgrade;
mod empty_ends;
mod fairness;
mod fd_exhaustion;
mod following;
mod half_close;
mod icmp_refusals;
mod leaving;
mod log_lines;
#[path = "../servers/names.rs"]
mod names;
mod network_files;
mod on_down;
mod owed_answers;
mod passive_ejection;
mod picking;
#[path = "../ports/mod.rs"]
mod ports;
mod postgres;
#[path = "../servers/postgres_client.rs"]
mod postgres_client;
#[path = "../servers/postgres_cluster.rs"]
mod postgres_cluster;
mod postgres_routes;
mod preview;
mod proxy_headers;
mod queue;
mod refusals;
mod reload;
#[path = "../servers/resolvers.rs"]
mod resolvers;
mod retries;
mod rig;
mod roles;
mod route_peers;
mod routes;
mod run_time;
mod send_buffers;
mod shutdown;
mod splice;
mod sticky;
mod supervision;
mod upgrade;
mod upgrade_after_reload;
mod upgrade_pause;
mod withdrawal;
