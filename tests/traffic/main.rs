//! Real traffic over loopback: what a client and a backend see of the balancer between them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod bulk;
mod crowds;
mod deadlines;
mod endings;
mod limits;
mod rig;
mod stalls;
