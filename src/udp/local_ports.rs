//! Local (ephemeral) ports towards backends, given out by us.
//!
//! Left to the kernel, each connected socket takes a port that no other UDP socket has, whatever its peer: some 28,000
//! flows for all backends together. What must be unique is the pair of local and remote address and port, so each pair of
//! an address of ours and a backend gets the whole range. A thread has every n-th port of it, so no two threads ever meet.
//!
//! Which port comes next is for nobody outside to foresee (RFC 5452, RFC 6056): each pair goes through the range in an order
//! of its own, shuffled by a key of this process. One counter leads through all of them, so that a port rests before it comes
//! again, and nothing is kept of a pair that has no flow.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use super::shared_ports::Share;

/// The ports of one thread, by our address and the backend's.
#[derive(Debug)]
pub(super) struct LocalPorts {
    share: Share,
    key: u64,
    /// Ports looked at so far.
    turns: u32,
    /// The address that the kernel would use towards a backend. Only while a flow has it.
    usual: HashMap<SocketAddr, IpAddr>,
    between: HashMap<(IpAddr, SocketAddr), Between>,
    /// How many flows have a port, by our address and the port's place: the kernel lets nobody else have it meanwhile.
    held: HashMap<(IpAddr, u32), u32>,
}

/// The ports between an address of ours and a backend. There while one of them is taken.
#[derive(Debug)]
struct Between {
    taken: Places,
    taken_count: u32,
    /// Of the order.
    key: u64,
}

/// Places that are taken. Most pairs have few flows, and there may be as many pairs as flows.
#[derive(Debug)]
enum Places {
    /// In no order.
    Few(Vec<u32>),
    /// One bit a place.
    Many(Box<[u64]>),
}

/// A port that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) port: u16,
    /// Flows of this thread to other backends have it, too.
    pub(super) is_held: bool,
}

/// Which ports will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    /// Every one of the share.
    All,
    /// Those that flows to other backends have: nobody else can be in the way there.
    Held,
}

impl LocalPorts {
    /// `key`: told to nobody, and another one in each process.
    pub(super) fn new(share: Share, key: u64) -> Self {
        // Where the counter begins is nobody's business either: its lower half is as good as any.
        #[allow(clippy::cast_possible_truncation)]
        let turns = mix(key) as u32;
        Self { share, key, turns, usual: HashMap::new(), between: HashMap::new(), held: HashMap::new() }
    }

    /// The address we have towards a backend, as `find` tells it; asked anew when no flow has it there.
    pub(super) fn usual_source<E>(
        &mut self,
        backend: SocketAddr,
        find: impl FnOnce() -> Result<IpAddr, E>,
    ) -> Result<IpAddr, E> {
        if let Some(source) = self.usual.get(&backend) {
            return Ok(*source);
        }
        find()
    }

    /// It was of no use: asked anew next time.
    pub(super) fn forget_usual(&mut self, backend: SocketAddr) {
        self.usual.remove(&backend);
    }

    /// A flow has this address towards the backend, as the kernel would have it.
    pub(super) fn keep_usual(&mut self, backend: SocketAddr, source: IpAddr) {
        self.usual.insert(backend, source);
    }

    /// Takes a port that is free between an address of ours and a backend. `is_stray`: another thread's flow has it.
    pub(super) fn take(
        &mut self,
        source: IpAddr,
        backend: SocketAddr,
        among: Among,
        is_stray: impl Fn(u16) -> bool,
    ) -> Option<Taken> {
        let share = self.share;
        let place = self.find(source, backend, among, is_stray)?;
        let between = self.between(source, backend);
        between.take(place, share.count);
        let flows = self.held.entry((source, place)).or_default();
        *flows += 1;
        Some(Taken { port: share.port_at(place), is_held: *flows > 1 })
    }

    fn find(
        &mut self,
        source: IpAddr,
        backend: SocketAddr,
        among: Among,
        is_stray: impl Fn(u16) -> bool,
    ) -> Option<u32> {
        let (share, count) = (self.share, self.share.count);
        let between = self.between.get(&(source, backend));
        if between.is_some_and(|between| between.taken_count >= count) || count == 0 {
            return None;
        }
        let is_free = |place: &u32| {
            !between.is_some_and(|between| between.is_taken(*place)) && !is_stray(share.port_at(*place))
        };
        if among == Among::Held {
            let places = self.held.keys().filter(|(held, _)| *held == source).map(|(_, place)| *place);
            return places.take(HELD_LOOKED_AT_MAX).find(is_free);
        }
        let key = between.map_or_else(|| order_key(self.key, source, backend), |between| between.key);
        let mut place = 0;
        for _ in 0..SHUFFLED_MAX.min(count) {
            self.turns = self.turns.wrapping_add(1);
            place = shuffled(key, self.turns % count, count);
            if is_free(&place) {
                return Some(place);
            }
        }
        // Nearly all are taken: the next free one, wherever that is.
        (place..count).chain(0..place).find(is_free)
    }

    /// Notes a port that a flow of the process before has. One that is not among this thread's is noted as a stray.
    pub(super) fn import(&mut self, source: SocketAddr, backend: SocketAddr) {
        let Some(place) = self.share.place_of(source.port()) else { return };
        let count = self.share.count;
        let between = self.between(source.ip(), backend);
        if !between.is_taken(place) {
            between.take(place, count);
            *self.held.entry((source.ip(), place)).or_default() += 1;
        }
    }

    fn between(&mut self, source: IpAddr, backend: SocketAddr) -> &mut Between {
        let key = self.key;
        self.between.entry((source, backend)).or_insert_with(|| Between {
            taken: Places::Few(Vec::new()),
            taken_count: 0,
            key: order_key(key, source, backend),
        })
    }

    /// Gives a port back. False: it is not among this thread's.
    pub(super) fn give_back(&mut self, source: SocketAddr, backend: SocketAddr) -> bool {
        let Some(place) = self.share.place_of(source.port()) else { return false };
        let pair = (source.ip(), backend);
        let Some(between) = self.between.get_mut(&pair) else { return true };
        if !between.is_taken(place) {
            return true;
        }
        between.give_back(place);
        if between.taken_count == 0 {
            self.between.remove(&pair);
            if self.usual.get(&backend) == Some(&source.ip()) {
                self.usual.remove(&backend);
            }
        }
        let held = (source.ip(), place);
        if let Some(flows) = self.held.get_mut(&held) {
            *flows -= 1;
            if *flows == 0 {
                self.held.remove(&held);
            }
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
        match &self.taken {
            Places::Few(places) => places.contains(&place),
            Places::Many(bits) => bits[place as usize / 64] >> (place % 64) & 1 == 1,
        }
    }

    /// Takes a free place of so many.
    fn take(&mut self, place: u32, count: u32) {
        self.taken_count += 1;
        match &mut self.taken {
            Places::Few(places) if places.len() < FEW_MAX => places.push(place),
            Places::Few(places) => {
                let mut bits = vec![0_u64; (count as usize).div_ceil(64)];
                for place in places.iter().chain([&place]) {
                    bits[*place as usize / 64] |= 1 << (place % 64);
                }
                self.taken = Places::Many(bits.into());
            }
            Places::Many(bits) => bits[place as usize / 64] |= 1 << (place % 64),
        }
    }

    fn give_back(&mut self, place: u32) {
        self.taken_count -= 1;
        match &mut self.taken {
            Places::Few(places) => places.retain(|taken| *taken != place),
            Places::Many(bits) => bits[place as usize / 64] &= !(1 << (place % 64)),
        }
    }
}

fn order_key(key: u64, source: IpAddr, backend: SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, source, backend).hash(&mut hasher);
    hasher.finish()
}

/// Where a position below `count` stands in the order of this key: a Feistel network over the next power of four, gone
/// through again while it leads beyond `count`. Each position has a place of its own.
fn shuffled(key: u64, position: u32, count: u32) -> u32 {
    let bits = u32::BITS - count.saturating_sub(1).leading_zeros();
    let half = bits.div_ceil(2).max(1);
    let mask = (1 << half) - 1;
    let mut place = position;
    loop {
        let (mut left, mut right) = (place >> half, place & mask);
        for round in 0..4 {
            // The mask keeps what fits.
            #[allow(clippy::cast_possible_truncation)]
            let mixed = mix(key ^ (u64::from(right) << 8 | round)) as u32;
            (left, right) = (right, left ^ (mixed & mask));
        }
        place = left << half | right;
        if place < count {
            return place;
        }
    }
}

/// The finish of splitmix64: each bit of what comes out hangs on each that goes in.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Places of a pair until they are kept as bits: 3.5 KB where the range is the usual one.
const FEW_MAX: usize = 16;
/// Ports tried in the shuffled order; while one in ten is free, one of them is.
const SHUFFLED_MAX: u32 = 64;
/// Of those that flows have: one turn looks at no more.
const HELD_LOOKED_AT_MAX: usize = 1_024;

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
        ports.take(source.parse().unwrap(), backend, Among::All, |_| false).map(|taken| taken.port)
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
        let again: HashSet<_> = std::iter::from_fn(|| take(&mut ports, HERE, one)).collect();
        assert_eq!(again, [first[3], first[7]].into());
    }

    #[test]
    fn the_usual_source_is_asked_for_anew_when_none_of_its_ports_is_in_use() {
        let backend = address("10.0.0.1:53");
        let mut ports = ports((1_000, 1_009), 0, 1, 7);
        let find = |source: &str| Ok::<_, Infallible>(source.parse::<IpAddr>().unwrap());
        let one: IpAddr = ports.usual_source(backend, || find("10.0.0.8")).unwrap();
        let port = ports.take(one, backend, Among::All, |_| false).unwrap().port;
        ports.keep_usual(backend, one);
        assert_eq!(ports.usual_source(backend, || find("10.0.0.9")).unwrap(), one);
        ports.forget_usual(backend);
        assert_eq!(ports.usual_source(backend, || find("10.0.0.9")).unwrap().to_string(), "10.0.0.9");
        ports.keep_usual(backend, one);
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
            std::iter::from_fn(|| ports.take(source, backend, Among::All, |port| port != 1_042))
                .map(|taken| taken.port)
                .collect();
        assert_eq!(given, [1_042]);
        assert_eq!(std::iter::from_fn(|| take(&mut ports, HERE, backend)).count(), 99);
    }

    #[test]
    fn a_range_too_small_for_all_threads_leaves_some_without() {
        let backend = address("10.0.0.1:53");
        assert_eq!(take(&mut ports((7, 7), 1, 2, 7), HERE, backend), None);
        assert_eq!(take(&mut ports((7, 7), 0, 2, 7), HERE, backend), Some(7));
    }

    #[test]
    fn the_order_is_one_of_its_own_for_each_pair_and_key_and_leaves_nothing_out() {
        for count in [1, 2, 3, 10, 64, 100, 1_000] {
            let mut places: Vec<_> = (0..count).map(|position| shuffled(7, position, count)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..count), "{count}");
        }
        let order = |key| (0..1_000).map(|position| shuffled(key, position, 1_000)).collect::<Vec<_>>();
        let follows = |order: &[u32]| order.windows(2).filter(|two| two[1] == two[0] + 1).count();
        assert!(follows(&order(7)) < 10 && order(7) != order(8));
        let same = order(7).iter().zip(order(8)).filter(|(one, other)| *one == other).count();
        assert!(same < 10, "{same}");
    }

    #[test]
    fn a_port_rests_before_it_comes_again() {
        let backend = address("10.0.0.1:53");
        let mut ports = ports((1_000, 1_099), 0, 1, 7);
        let mut seen = HashSet::new();
        for _ in 0..100 {
            let port = take(&mut ports, HERE, backend).unwrap();
            assert!(seen.insert(port), "{port} came again after {} others", seen.len());
            ports.give_back(SocketAddr::new(HERE.parse().unwrap(), port), backend);
        }
    }

    #[test]
    fn nothing_is_kept_of_pairs_without_flows() {
        let mut ports = ports((1_000, 60_000), 0, 1, 7);
        for host in 0..1_000u16 {
            let backend = SocketAddr::from(([10, 0, host.to_be_bytes()[0], host.to_be_bytes()[1]], 53));
            let source = HERE.parse().unwrap();
            ports.keep_usual(backend, source);
            let some = [0; 3].map(|_| take(&mut ports, HERE, backend).unwrap());
            for port in some {
                assert!(ports.give_back(SocketAddr::new(source, port), backend));
            }
        }
        assert_eq!((ports.between.len(), ports.usual.len(), ports.held.len()), (0, 0, 0));
    }

    #[test]
    fn a_port_that_flows_to_others_have_is_told() {
        let backends = ["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53"].map(address);
        let mut ports = ports((7, 7), 0, 1, 7);
        let source = HERE.parse().unwrap();
        let mut take = |backend, among| ports.take(source, backend, among, |_| false);
        assert_eq!(take(backends[0], Among::Held), None);
        assert_eq!(take(backends[0], Among::All), Some(Taken { port: 7, is_held: false }));
        assert_eq!(take(backends[1], Among::All), Some(Taken { port: 7, is_held: true }));
        assert_eq!(take(backends[2], Among::Held), Some(Taken { port: 7, is_held: true }));
        assert_eq!(take(backends[2], Among::Held), None);
    }
}
