//! Listening sockets of UDP (datagram doors) of one thread.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{BatchSize, Terms};
use crate::sys::udp;
use crate::sys::udp_batch::{Outgoing, Received};

/// One thread's socket of a listener at one address and port.
#[derive(Debug)]
pub struct Door {
    /// Names the door, on every thread the same.
    pub id: u64,
    /// Which of the door's sockets it is, in the order in which the kernel knows them.
    pub number: u32,
    /// Bound, and telling which address a datagram came to.
    pub fd: OwnedFd,
    /// The address it is bound to; `None`: every one.
    pub ip: Option<IpAddr>,
    /// The port clients come to.
    pub port: u16,
    /// It is an IPv6 socket that IPv4 comes through.
    pub is_dual: bool,
    /// What its flows are born with.
    pub terms: Arc<Terms>,
    /// How many datagrams the kernel had lost here when it was last heard of.
    pub lost_seen: u32,
    /// How many datagrams it is asked for.
    pub batch_size: BatchSize,
}

impl Door {
    /// Our address that a datagram came to.
    pub(super) fn local(&self, received: &Received) -> Option<SocketAddr> {
        let bound = self.ip.filter(|ip| !ip.is_unspecified());
        received.to.or(bound).map(|ip| SocketAddr::new(ip.to_canonical(), self.port))
    }

    /// A reply of this slot to a client, from the address it had sent to.
    pub(super) fn reply(&self, slot: usize, told: &Received, client: SocketAddr, local: IpAddr) -> Outgoing {
        Outgoing {
            slot,
            start: 0,
            length: told.length,
            to: Some(match client {
                SocketAddr::V4(v4) => {
                    SocketAddr::new(self.as_the_socket_has_it((*v4.ip()).into()), v4.port())
                }
                // With its scope: link-local clients have one.
                v6 @ SocketAddr::V6(_) => v6,
            }),
            from: if self.ip.is_some_and(udp::has_one_address) {
                None
            } else {
                Some(self.as_the_socket_has_it(local))
            },
            part: told.part,
            mark: told.mark,
        }
    }

    fn as_the_socket_has_it(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) if self.is_dual => ip.to_ipv6_mapped().into(),
            other => other,
        }
    }
}
