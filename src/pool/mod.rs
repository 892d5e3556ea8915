//! Pools as all threads see them: live backends, and the one snapshot that says which of them may be picked.
//!
//! Only the publisher builds and stores snapshots; everyone else reads. A reader keeps what it read for one pick and no
//! longer.

mod backend;
mod explain;
mod lasting;
mod lease;
mod queue;
mod snapshot;
mod sources;

pub use backend::Backend;
pub use explain::{Explanation, Outcome, Why};
pub use lasting::{Lasting, Reach};
pub use lease::{Lease, Refusal};
pub use queue::{End, Ticket, Waiter};
pub use snapshot::{PoolSlot, PoolView, Published, Snapshot, rules};
pub use sources::tcp_source_ports_ratio;
