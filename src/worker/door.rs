//! Door: the listening socket of one data thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::tcp::Terms;

/// One thread's socket of a listener at one address and port.
#[derive(Debug)]
pub struct Door {
    /// Names the door, on every thread the same.
    pub id: u64,
    /// Which of the door's sockets it is, in the order in which the kernel knows them.
    pub number: u32,
    /// Listening.
    pub fd: OwnedFd,
    /// The port clients come to.
    pub port: u16,
    /// What its sessions are born with.
    pub terms: Arc<Terms>,
}
