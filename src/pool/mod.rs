//! Pools (upstreams, clusters) as all threads see them: live backends, and the one snapshot that says which of them may
//! be picked.
//!
//! Only the publisher builds and stores snapshots; everyone else reads. A reader keeps what it read for one pick and no
//! longer.

mod backend;
mod departure;
mod explain;
mod lease;
mod live;
mod queue;
mod role_view;
mod snapshot;
mod source_ports;

pub use backend::Backend;
pub use departure::Departure;
pub use explain::{Explanation, Outcome, Why};
pub use lease::{Lease, Refusal};
pub use live::{LivePool, PoolHooks};
pub use queue::{End, Ticket, Waiter};
pub use role_view::RoleView;
pub use snapshot::{
    Left, Lends, PoolSlot, PoolView, Snapshot, SnapshotCell, is_out, picker_when_all_serve, rules,
};
pub use source_ports::tcp_source_ports_ratio;
