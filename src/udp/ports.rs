//! Local ports towards backends, given out by us.
//!
//! Left to the kernel, each connected socket takes a port that no other UDP socket has, whatever its peer: some 28,000
//! flows for all backends together. What must be unique is the pair of local and remote address and port, so each backend
//! gets the whole range. A thread has every n-th port of it, so no two threads ever meet.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// The ports of one thread, by backend address.
#[derive(Debug)]
pub(super) struct Ports {
    first: u16,
    /// How many ports this thread has towards each backend.
    count: u32,
    /// Between two ports of this thread.
    step: u16,
    towards: HashMap<SocketAddr, Towards>,
}

#[derive(Debug)]
struct Towards {
    /// Our address on the way there.
    source: IpAddr,
    /// One bit a port: taken.
    taken: Box<[u64]>,
    taken_count: u32,
    /// Where the next search begins: a port rests as long as it can before it is used again.
    next: u32,
}

impl Ports {
    /// Every `workers`-th port of the range, from the `worker`-th on.
    pub(super) fn new(range: (u16, u16), worker: usize, workers: usize) -> Self {
        let step = u16::try_from(workers.max(1)).unwrap_or(u16::MAX);
        let first = range.0.saturating_add(u16::try_from(worker).unwrap_or(u16::MAX));
        let count = if first > range.1 { 0 } else { u32::from((range.1 - first) / step) + 1 };
        Self { first, count, step, towards: HashMap::new() }
    }

    /// The address we have towards a backend, as `find` tells it; asked anew when no port towards it is in use.
    pub(super) fn source<E>(
        &mut self,
        backend: SocketAddr,
        find: impl FnOnce() -> Result<IpAddr, E>,
    ) -> Result<IpAddr, E> {
        match self.towards.get_mut(&backend) {
            Some(towards) if towards.taken_count > 0 => return Ok(towards.source),
            Some(towards) => {
                towards.source = find()?;
                return Ok(towards.source);
            }
            None => {}
        }
        let source = find()?;
        let taken = vec![0; (self.count as usize).div_ceil(64)].into();
        self.towards.insert(backend, Towards { source, taken, taken_count: 0, next: 0 });
        Ok(source)
    }

    /// Takes a free port towards a backend whose source is known.
    pub(super) fn take(&mut self, backend: SocketAddr) -> Option<u16> {
        let count = self.count;
        let towards = self.towards.get_mut(&backend)?;
        if towards.taken_count >= count {
            return None;
        }
        let place = (towards.next..count).chain(0..towards.next).find(|&place| !towards.is_taken(place))?;
        towards.taken[place as usize / 64] |= 1 << (place % 64);
        towards.taken_count += 1;
        towards.next = (place + 1) % count;
        // Below `count`, so within the range.
        u16::try_from(place).ok().map(|place| self.first + place * self.step)
    }

    /// Gives a port back.
    pub(super) fn give_back(&mut self, backend: SocketAddr, port: u16) {
        let place = u32::from((port - self.first) / self.step);
        let Some(towards) = self.towards.get_mut(&backend) else { return };
        if towards.is_taken(place) {
            towards.taken[place as usize / 64] &= !(1 << (place % 64));
            towards.taken_count -= 1;
        }
    }

    /// How much of the ports towards the busiest backend is in use, in thousandths.
    pub(super) fn in_use_permille(&self) -> u32 {
        let most = self.towards.values().map(|towards| towards.taken_count).max().unwrap_or(0);
        most * 1_000 / self.count.max(1)
    }
}

impl Towards {
    fn is_taken(&self, place: u32) -> bool {
        self.taken[place as usize / 64] >> (place % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ports(range: (u16, u16), worker: usize, workers: usize, backends: &[SocketAddr]) -> Ports {
        let mut ports = Ports::new(range, worker, workers);
        for &backend in backends {
            let _ = ports.source(backend, || Ok::<_, Infallible>("127.0.0.1".parse().unwrap()));
        }
        ports
    }

    #[test]
    fn threads_share_a_range_and_never_meet() {
        let backend = address("10.0.0.1:53");
        let mut seen = HashSet::new();
        for worker in 0..3 {
            let mut ports = ports((100, 120), worker, 3, &[backend]);
            while let Some(port) = ports.take(backend) {
                assert!((100..=120).contains(&port) && seen.insert(port));
            }
            assert_eq!(ports.in_use_permille(), 1_000);
        }
        assert_eq!(seen.len(), 21);
    }

    #[test]
    fn each_backend_has_the_whole_range_and_a_port_rests_before_it_comes_again() {
        let (one, two) = (address("10.0.0.1:53"), address("10.0.0.2:53"));
        let mut ports = ports((1_000, 1_009), 0, 1, &[one, two]);
        let first: Vec<_> = (0..10).map(|_| ports.take(one).unwrap()).collect();
        assert_eq!(ports.take(one), None);
        assert_eq!((0..10).filter_map(|_| ports.take(two)).count(), 10);
        ports.give_back(one, first[3]);
        ports.give_back(one, first[7]);
        assert_eq!(
            (ports.take(one), ports.take(one), ports.take(one)),
            (Some(first[3]), Some(first[7]), None)
        );
    }

    #[test]
    fn a_range_too_small_for_all_threads_leaves_some_without() {
        let backend = address("10.0.0.1:53");
        assert_eq!(ports((7, 7), 1, 2, &[backend]).take(backend), None);
        assert_eq!(ports((7, 7), 0, 2, &[backend]).take(backend), Some(7));
    }
}
