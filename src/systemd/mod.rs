//! The service manager: what it is told (`notify`), the descriptors that it keeps (`fd_store`), and whether a stop is half
//! of a restart (`job`, asked over D-Bus).

mod dbus;
mod fd_store;
mod job;
mod notify;

#[cfg(fuzzing)]
pub use dbus::fuzz as fuzz_dbus;
pub use fd_store::{DOORS_KEPT_MAX, FdStore, STASH, door_name};
pub use job::{StopKind, stop_kind};
pub use notify::Notify;
