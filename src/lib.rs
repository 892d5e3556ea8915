//! evenkeel: a layer-4 load balancer for TCP connections and UDP flows.
//!
//! The types that matter, from the outside in: [`server::Server`] is a running balancer, started with
//! [`config::settings::Settings`] (which [`config::read`] makes of a file's text, or tells all its mistakes) in a
//! [`server::Environment`]. Its data threads ([`worker`]) hold [`tcp::Sessions`] and the UDP [`udp::Pump`], and pick backends from
//! the [`pool::Snapshot`] that the publisher ([`publisher`]) swaps in. [`manifest::Manifest`] is what one process hands over to
//! the next. `examples/embed.rs` runs a balancer inside another program; `docs/design/architecture.md` walks through the code.
//!
//! A room imports only lower floors (`tests/architecture` holds it to that):
//!
//! ```text
//!  top      main  cli/  logging                argv in, exit code out
//!  life     server/                               who runs, who stops, what listens
//!  front    publisher/  admin/  listener/         the one writer of snapshots; HTTP answers; binding
//!  thread   worker/                            one data thread: epoll loop, doors, mailbox, sessions
//!  work     tcp/  udp/  health/  discovery/  transfer/  systemd/  move bytes, ask backends how they are, reach the next process
//!  lent     thread_context/                         the tools of a data thread
//!  shared   pool/  metrics/  tls/              what several threads look at: atomics, the one swapped snapshot; whom to believe
//!  ground   config/  access/  base64  dns/  balance/  flow/  limits/  proxy_protocol/  routing/  liveness  backend_state/  roles/  sticky  timer_wheel  durations  random  process_phase  reason  session_query  manifest  import/   pure: values in, values out
//!  cellar   sys/                               the only unsafe and raw system calls; knows nothing above
//! ```

pub mod access;
pub mod admin;
pub mod backend_state;
pub mod balance;
pub mod base64;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod dns;
pub mod durations;
pub mod flow;
pub mod health;
pub mod import;
pub mod limits;
pub mod listener;
pub mod liveness;
pub mod logging;
pub mod manifest;
pub mod metrics;
pub mod pool;
pub mod process_phase;
pub mod proxy_protocol;
pub mod publisher;
pub mod random;
pub mod reason;
pub mod roles;
pub mod routing;
pub mod server;
pub mod session_query;
pub mod sticky;
pub mod sys;
pub mod systemd;
pub mod tcp;
pub mod thread_context;
pub mod timer_wheel;
pub mod tls;
pub mod transfer;
pub mod udp;
pub mod worker;
