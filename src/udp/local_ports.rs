//! Local (ephemeral) ports towards backends, given out by us.
//!
//! Left to the kernel, each connected socket takes a port that no other UDP socket has, whatever its peer: some 28,000
//! flows for all backends together. What must be unique is the pair of local and remote address and port, so each pair of
//! an address of ours and a backend gets the whole range. A thread has every n-th port of it, so no two threads ever meet.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use super::shared_ports::Share;

/// The ports of one thread, by our address and the backend's.
#[derive(Debug)]
pub(super) struct LocalPorts {
    share: Share,
    seed: u64,
    /// The address that the kernel would use towards a backend.
    usual: HashMap<SocketAddr, IpAddr>,
    between: HashMap<(IpAddr, SocketAddr), Between>,
}

#[derive(Debug)]
struct Between {
    /// One bit a port: taken.
    taken: Box<[u64]>,
    taken_count: u32,
    /// Where the next search begins: a port rests as long as it can before it is used again.
    next: u32,
}

impl LocalPorts {
    /// Where the search begins differs with the `seed`: two processes of one host that have a backend in common know
    /// nothing of each other's ports, and the kernel would let them share one.
    pub(super) fn new(share: Share, seed: u64) -> Self {
        Self { share, seed, usual: HashMap::new(), between: HashMap::new() }
    }

    /// The address we have towards a backend, as `find` tells it; asked anew when no port of it there is in use.
    pub(super) fn usual_source<E>(
        &mut self,
        backend: SocketAddr,
        find: impl FnOnce() -> Result<IpAddr, E>,
    ) -> Result<IpAddr, E> {
        let known = self.usual.get(&backend).copied();
        let is_used =
            |source| self.between.get(&(source, backend)).is_some_and(|there| there.taken_count > 0);
        if let Some(source) = known.filter(|source| is_used(*source)) {
            return Ok(source);
        }
        let source = find()?;
        self.usual.insert(backend, source);
        Ok(source)
    }

    /// Takes a port that is free between an address of ours and a backend. `is_stray`: another thread's flow has it.
    pub(super) fn take(
        &mut self,
        source: IpAddr,
        backend: SocketAddr,
        is_stray: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let (share, count) = (self.share, self.share.count);
        let between = self.between(source, backend);
        if between.taken_count >= count {
            return None;
        }
        let is_free = |place: &u32| !between.is_taken(*place) && !is_stray(share.port_at(*place));
        let place = (between.next..count).chain(0..between.next).find(is_free)?;
        between.taken[place as usize / 64] |= 1 << (place % 64);
        between.taken_count += 1;
        between.next = (place + 1) % count;
        Some(share.port_at(place))
    }

    /// Notes a port that a flow of the process before has. One that is not among this thread's is noted as a stray.
    pub(super) fn import(&mut self, source: SocketAddr, backend: SocketAddr) {
        let Some(place) = self.share.place_of(source.port()) else { return };
        let between = self.between(source.ip(), backend);
        if !between.is_taken(place) {
            between.taken[place as usize / 64] |= 1 << (place % 64);
            between.taken_count += 1;
        }
    }

    fn between(&mut self, source: IpAddr, backend: SocketAddr) -> &mut Between {
        let (count, seed) = (self.share.count, self.seed);
        self.between.entry((source, backend)).or_insert_with(|| Between {
            taken: vec![0; (count as usize).div_ceil(64)].into(),
            taken_count: 0,
            next: first_place(seed, source, backend, count),
        })
    }

    /// Gives a port back. False: it is not among this thread's.
    pub(super) fn give_back(&mut self, source: SocketAddr, backend: SocketAddr) -> bool {
        let Some(place) = self.share.place_of(source.port()) else { return false };
        if let Some(between) = self.between.get_mut(&(source.ip(), backend))
            && between.is_taken(place)
        {
            between.taken[place as usize / 64] &= !(1 << (place % 64));
            between.taken_count -= 1;
        }
        true
    }

    /// How much of the ports is in use between the address and the backend that have most, in thousandths.
    pub(super) fn in_use_permille(&self) -> u32 {
        let most = self.between.values().map(|between| between.taken_count).max().unwrap_or(0);
        most * 1_000 / self.share.count.max(1)
    }
}

impl Between {
    fn is_taken(&self, place: u32) -> bool {
        self.taken[place as usize / 64] >> (place % 64) & 1 == 1
    }
}

fn first_place(seed: u64, source: IpAddr, backend: SocketAddr, count: u32) -> u32 {
    let mut hasher = DefaultHasher::new();
    (seed, source, backend).hash(&mut hasher);
    u32::try_from(hasher.finish() % u64::from(count.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use super::super::shared_ports::SharedPorts;
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    const HERE: &str = "127.0.0.1";

    fn ports(range: (u16, u16), worker: usize, workers: usize, seed: u64) -> LocalPorts {
        LocalPorts::new(SharedPorts::new(range, workers).share_of(worker), seed)
    }

    fn take(ports: &mut LocalPorts, source: &str, backend: SocketAddr) -> Option<u16> {
        ports.take(source.parse().unwrap(), backend, |_| false)
    }

    #[test]
    fn threads_share_a_range_and_never_meet() {
        let backend = address("10.0.0.1:53");
        let mut seen = HashSet::new();
        for worker in 0..3 {
            let mut ports = ports((100, 120), worker, 3, 7);
            while let Some(port) = take(&mut ports, HERE, backend) {
                assert!((100..=120).contains(&port) && seen.insert(port));
            }
            assert_eq!(ports.in_use_permille(), 1_000);
        }
        assert_eq!(seen.len(), 21);
    }

    #[test]
    fn each_pair_has_the_whole_range_and_a_port_rests_before_it_comes_again() {
        let (one, two) = (address("10.0.0.1:53"), address("10.0.0.2:53"));
        let mut ports = ports((1_000, 1_009), 0, 1, 7);
        let first: Vec<_> = (0..10).map(|_| take(&mut ports, HERE, one).unwrap()).collect();
        assert_eq!(take(&mut ports, HERE, one), None);
        assert_eq!((0..11).filter_map(|_| take(&mut ports, HERE, two)).count(), 10);
        assert_eq!((0..11).filter_map(|_| take(&mut ports, "127.0.0.2", one)).count(), 10);
        let here = |port| SocketAddr::new(HERE.parse().unwrap(), port);
        ports.give_back(here(first[3]), one);
        ports.give_back(here(first[7]), one);
        let again = [0; 3].map(|_| take(&mut ports, HERE, one));
        assert_eq!(again, [Some(first[3]), Some(first[7]), None]);
    }

    #[test]
    fn the_usual_source_is_asked_for_anew_when_none_of_its_ports_is_in_use() {
        let backend = address("10.0.0.1:53");
        let mut ports = ports((1_000, 1_009), 0, 1, 7);
        let find = |source: &str| Ok::<_, Infallible>(source.parse::<IpAddr>().unwrap());
        let one: IpAddr = ports.usual_source(backend, || find("10.0.0.8")).unwrap();
        let port = ports.take(one, backend, |_| false).unwrap();
        assert_eq!(ports.usual_source(backend, || find("10.0.0.9")).unwrap(), one);
        ports.give_back(SocketAddr::new(one, port), backend);
        assert_eq!(ports.usual_source(backend, || find("10.0.0.9")).unwrap().to_string(), "10.0.0.9");
    }

    #[test]
    fn two_processes_begin_at_different_ports() {
        let backend = address("10.0.0.1:53");
        let firsts: HashSet<_> =
            (0..20).map(|seed| take(&mut ports((1_000, 60_000), 0, 1, seed), HERE, backend)).collect();
        assert!(firsts.len() > 15, "{firsts:?}");
    }

    #[test]
    fn a_port_of_the_process_before_is_not_given_again_and_a_foreign_one_is_left_alone() {
        let backend = address("10.0.0.1:53");
        let mut ports = ports((1_000, 1_009), 1, 2, 0);
        let here = |port| SocketAddr::new(HERE.parse().unwrap(), port);
        for port in [1_003, 1_003, 1_004, 7, 1_011] {
            ports.import(here(port), backend);
        }
        let mut given: Vec<_> = std::iter::from_fn(|| take(&mut ports, HERE, backend)).collect();
        given.sort_unstable();
        assert_eq!(given, [1_001, 1_005, 1_007, 1_009]);
        let is_own = [1_003, 1_004, 7, 1_011].map(|port| ports.give_back(here(port), backend));
        assert_eq!(is_own, [true, false, false, false]);
        assert_eq!((take(&mut ports, HERE, backend), take(&mut ports, HERE, backend)), (Some(1_003), None));
    }

    #[test]
    fn a_stray_is_passed_over_while_it_is_one() {
        let backend = address("10.0.0.1:53");
        let mut ports = ports((1_000, 1_099), 0, 1, 7);
        let source = HERE.parse().unwrap();
        let given: Vec<_> =
            std::iter::from_fn(|| ports.take(source, backend, |port| port != 1_042)).collect();
        assert_eq!(given, [1_042]);
        assert_eq!(std::iter::from_fn(|| take(&mut ports, HERE, backend)).count(), 99);
    }

    #[test]
    fn a_range_too_small_for_all_threads_leaves_some_without() {
        let backend = address("10.0.0.1:53");
        assert_eq!(take(&mut ports((7, 7), 1, 2, 7), HERE, backend), None);
        assert_eq!(take(&mut ports((7, 7), 0, 2, 7), HERE, backend), Some(7));
    }
}
