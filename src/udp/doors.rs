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

/// The doors of one thread, by their numbers. To look one up costs no more the more there are.
///
/// A number is free again only when no flow names it any more: an answer must not leave through another's door.
#[derive(Debug, Default)]
pub(super) struct DoorTable {
    places: Vec<Place>,
    free: Vec<u32>,
    closed: Vec<u32>,
}

#[derive(Debug)]
enum Place {
    Free,
    Open(Door),
    /// Flows may still name it.
    Closed,
}

impl DoorTable {
    /// Adds a door; tells its number.
    pub(super) fn insert(&mut self, door: Door) -> u32 {
        let Some(number) = self.free.pop() else {
            self.places.push(Place::Open(door));
            // A thread has far fewer doors than 2^32.
            return u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX);
        };
        self.places[number as usize] = Place::Open(door);
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&Door> {
        if let Some(Place::Open(door)) = self.places.get(number as usize) { Some(door) } else { None }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Door> {
        if let Some(Place::Open(door)) = self.places.get_mut(number as usize) { Some(door) } else { None }
    }

    /// Every open door, with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Door)> {
        (0_u32..).zip(&self.places).filter_map(|(number, place)| match place {
            Place::Open(door) => Some((number, door)),
            Place::Free | Place::Closed => None,
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Door> {
        self.places.iter_mut().filter_map(|place| match place {
            Place::Open(door) => Some(door),
            Place::Free | Place::Closed => None,
        })
    }

    /// Closes the sockets of this door.
    pub(super) fn close(&mut self, id: u64) {
        for (number, place) in (0_u32..).zip(&mut self.places) {
            if matches!(place, Place::Open(door) if door.id == id) {
                *place = Place::Closed;
                self.closed.push(number);
            }
        }
    }

    /// The door of this number was closed, and a flow that names it is to end.
    pub(super) fn is_closed(&self, number: u32) -> bool {
        matches!(self.places.get(number as usize), Some(Place::Closed))
    }

    /// No flow names a closed door any more.
    pub(super) fn forget_closed(&mut self) {
        for number in self.closed.drain(..) {
            self.places[number as usize] = Place::Free;
            self.free.push(number);
        }
    }
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
