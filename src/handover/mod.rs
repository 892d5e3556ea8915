//! Live sockets from one process to the next.
//!
//! `parcel` is what goes: the manifest of `manifest/` with its descriptors, as messages. `line` carries it between a
//! process and the successor that it started; `park` leaves it with the service manager for a successor that comes later.

mod dbus;
mod job;
mod line;
mod parcel;
mod park;
mod store;

pub use job::is_restart;
pub use line::{Line, LineError, count_of};
pub use parcel::{Parcel, ParcelError};
pub use park::{Park, ParkError};
pub use store::{DOORS_KEPT_MAX, PARK, Store, door_name};
