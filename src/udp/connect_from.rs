//! Source address and port of a flow, `connect_from`: from which it reaches its backend, and who has which.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::local_ports::{Among, LocalPorts};
use super::shared_ports::SharedPorts;
use super::upstream::NoUpstream;
use crate::config::settings::ConnectFrom;
use crate::pool::PoolView;
use crate::sys::Errno;
use crate::sys::udp::{self, Foreign};

/// Everything a thread connects from.
#[derive(Debug)]
pub struct Origins {
    pub(super) ports: LocalPorts,
    shared: Arc<SharedPorts>,
    /// The kernel may merge what backends answer.
    merges: bool,
}

/// What a flow connects from. To be given back once.
#[derive(Debug)]
#[must_use]
pub(super) enum Origin {
    /// An address and port of ours.
    Ours(SocketAddr),
    /// The client's.
    Client(SocketAddr),
}

impl Origin {
    /// As the next process is told: from where, and whether that is the client's own.
    pub(super) fn export(&self) -> (SocketAddr, bool) {
        match self {
            Self::Ours(from) => (*from, false),
            Self::Client(from) => (*from, true),
        }
    }
}

impl Origins {
    /// Those of the `worker`-th thread. `merges`: the kernel does so with datagrams that come.
    pub fn new(shared: Arc<SharedPorts>, worker: usize, seed: u64, merges: bool) -> Self {
        Self { ports: LocalPorts::new(shared.share_of(worker), seed), shared, merges }
    }

    /// A socket between the address that `connect_from` says and the backend.
    pub(super) fn connect(
        &mut self,
        view: &PoolView,
        client: SocketAddr,
        backend: SocketAddr,
        worker: usize,
    ) -> Result<(OwnedFd, Origin), NoUpstream> {
        let connected = self.connect_from(view, client, backend, worker)?;
        if self.merges {
            // The kernel has shown that it can; if not here, they come one by one.
            let _ = udp::merge_received(connected.0.as_fd());
        }
        Ok(connected)
    }

    fn connect_from(
        &mut self,
        view: &PoolView,
        client: SocketAddr,
        backend: SocketAddr,
        worker: usize,
    ) -> Result<(OwnedFd, Origin), NoUpstream> {
        match &view.settings.connect_from {
            ConnectFrom::Any => self.connect_any(backend),
            ConnectFrom::Client => self.connect_as(client, backend),
            ConnectFrom::Addresses(_) => {
                for source in view.sources(backend.ip(), worker) {
                    match self.connect_ours(source, backend) {
                        Err(NoUpstream::NoPort | NoUpstream::Local(Errno::ADDRNOTAVAIL)) => {
                            view.live.shards.of(worker).source_full.add(1);
                        }
                        outcome => return outcome,
                    }
                }
                Err(NoUpstream::NoPort)
            }
        }
    }

    pub(super) fn give_back(&mut self, origin: &Origin, backend: SocketAddr) {
        match origin {
            Origin::Ours(source) => {
                if !self.ports.give_back(*source, backend) {
                    self.shared.give_back_stray(*source, backend);
                }
            }
            Origin::Client(client) => self.shared.give_back_client(*client, backend),
        }
    }

    /// What a flow of the process before is connected from; it is noted in what the threads share.
    pub(super) fn import(&mut self, (from, is_client): (SocketAddr, bool), backend: SocketAddr) -> Origin {
        if is_client {
            Origin::Client(from)
        } else {
            self.ports.import(from, backend);
            Origin::Ours(from)
        }
    }

    /// The address that was in use towards this backend may be this host's no more.
    pub(super) fn forget_source(&mut self, backend: SocketAddr) {
        self.ports.forget_usual(backend);
    }

    /// From the address that the kernel would use.
    fn connect_any(&mut self, backend: SocketAddr) -> Result<(OwnedFd, Origin), NoUpstream> {
        let mut usual = self.ports.usual_source(backend, || udp::source_towards(backend));
        for is_last in [false, true] {
            let source = usual.map_err(NoUpstream::Local)?;
            match self.connect_ours(source, backend) {
                Err(NoUpstream::Local(errno)) if !is_last && is_of_the_source(errno) => {
                    self.ports.forget_usual(backend);
                    usual = self.ports.usual_source(backend, || udp::source_towards(backend));
                }
                outcome => {
                    if outcome.is_ok() {
                        self.ports.keep_usual(backend, source);
                    }
                    return outcome;
                }
            }
        }
        Err(NoUpstream::NoPort)
    }

    /// From a free port. One that another process has is passed over, a few of them; then one that is this process's.
    fn connect_ours(&mut self, source: IpAddr, backend: SocketAddr) -> Result<(OwnedFd, Origin), NoUpstream> {
        for tried in 0..=PORTS_TRIED_MAX {
            let among = if tried < PORTS_TRIED_MAX { Among::All } else { Among::Held };
            let (port, is_held) = {
                let strays = self.shared.strays();
                let strays = strays.as_ref();
                let is_stray =
                    |port| strays.is_some_and(|all| all.contains(SocketAddr::new(source, port), backend));
                let taken = self.ports.take(source, backend, among, is_stray).ok_or(NoUpstream::NoPort)?;
                let at = SocketAddr::new(source, taken.port);
                (taken.port, taken.is_held || strays.is_some_and(|all| all.has_local(at)))
            };
            let source = SocketAddr::new(source, port);
            let connected = if is_held {
                udp::connect_beside(source, backend, Foreign::No)
            } else {
                udp::connect_from(source, backend, Foreign::No)
            };
            match connected {
                Ok(fd) => return Ok((fd, Origin::Ours(source))),
                Err(errno) => {
                    self.ports.give_back(source, backend);
                    if errno != Errno::ADDRINUSE {
                        return Err(NoUpstream::Local(errno));
                    }
                }
            }
        }
        Err(NoUpstream::NoPort)
    }

    fn connect_as(&self, client: SocketAddr, backend: SocketAddr) -> Result<(OwnedFd, Origin), NoUpstream> {
        if client.is_ipv4() != backend.is_ipv4() {
            return Err(NoUpstream::Local(Errno::AFNOSUPPORT));
        }
        if !self.shared.take_client(client, backend) {
            return Err(NoUpstream::NoPort);
        }
        let origin = Origin::Client(client);
        let connected = match udp::connect_from(client, backend, Foreign::Yes) {
            Err(Errno::ADDRINUSE) if self.shared.shares_client(client) => {
                udp::connect_beside(client, backend, Foreign::Yes)
            }
            outcome => outcome,
        };
        match connected {
            Ok(fd) => Ok((fd, origin)),
            Err(errno) => {
                self.shared.give_back_client(client, backend);
                Err(if errno == Errno::ADDRINUSE { NoUpstream::NoPort } else { NoUpstream::Local(errno) })
            }
        }
    }
}

/// What binding, connecting or sending says when our address is not this host's any more, or leads nowhere.
pub(super) fn is_of_the_source(errno: Errno) -> bool {
    matches!(errno, Errno::ADDRNOTAVAIL | Errno::INVAL | Errno::NETUNREACH)
}

const PORTS_TRIED_MAX: usize = 32;
