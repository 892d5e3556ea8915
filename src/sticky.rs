//! Sticky sessions (session affinity, persistence): which backend a source was sent to last: a bounded table, of which
//! the least recently used entry goes.
//!
//! Pure: the clock and the hash key are arguments. Every use renews an entry for the same length of time, so the order
//! of use is also the order in which entries run out: one chain serves both. What must stay true: never more than `most`
//! entries; an entry that ran out is not found; no call takes longer the more entries there are.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use siphasher::sip::SipHasher13;
use slab::Slab;

/// What counts as one source: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// IPv4-mapped addresses too.
    V4([u8; 4]),
    /// The first half of the address.
    V6([u8; 8]),
}

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl From<Source> for IpAddr {
    /// The first address of the source.
    fn from(source: Source) -> Self {
        match source {
            Source::V4(octets) => octets.into(),
            Source::V6([a, b, c, d, e, f, g, h]) => [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0].into(),
        }
    }
}

/// The table of one pool.
#[derive(Debug)]
pub struct Sticky {
    places: HashMap<Source, usize, Keyed>,
    entries: Slab<Entry>,
    /// The least recently used, which goes first.
    oldest: Option<usize>,
    newest: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    source: Source,
    backend: Arc<str>,
    used_ms: u64,
    older: Option<usize>,
    newer: Option<usize>,
}

impl Sticky {
    /// Remembers nobody. `hash_key`: nobody outside can foresee which sources share a place in the table.
    pub fn new(hash_key: [u8; 16]) -> Self {
        let places = HashMap::with_hasher(Keyed(SipHasher13::new_with_key(&hash_key)));
        Self { places, entries: Slab::new(), oldest: None, newest: None }
    }

    /// How many sources it remembers, those that ran out and were not met since included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// It remembers nobody.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The backend of this source, if it was used within `for_ms`. Changes nothing.
    pub fn find(&self, source: Source, for_ms: u64, now_ms: u64) -> Option<&Arc<str>> {
        let entry = self.entries.get(*self.places.get(&source)?)?;
        (now_ms < entry.used_ms.saturating_add(for_ms)).then_some(&entry.backend)
    }

    /// Remembers that this source is with `backend` now, among at most `most`; that is a use.
    pub fn note(&mut self, source: Source, backend: &Arc<str>, most: usize, now_ms: u64) {
        if let Some(&place) = self.places.get(&source) {
            self.unchain(place);
            self.chain(place);
            let entry = &mut self.entries[place];
            entry.used_ms = now_ms;
            if entry.backend != *backend {
                entry.backend = Arc::clone(backend);
            }
            return;
        }
        while self.entries.len() >= most.max(1) {
            self.forget_oldest();
        }
        let backend = Arc::clone(backend);
        let place = self.entries.insert(Entry { source, backend, used_ms: now_ms, older: None, newer: None });
        self.places.insert(source, place);
        self.chain(place);
    }

    /// Every entry, the least recently used first: source, backend, when it was used.
    pub fn entries(&self) -> impl Iterator<Item = (Source, &Arc<str>, u64)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let entry = self.entries.get(next?)?;
            next = entry.newer;
            Some((entry.source, &entry.backend, entry.used_ms))
        })
    }

    /// The entries that were used since then, the least recently used first. Looks at no others.
    pub fn used_since(&self, since_ms: u64) -> Vec<(Source, &Arc<str>, u64)> {
        let mut next = self.newest;
        let from_newest = std::iter::from_fn(|| {
            let entry = self.entries.get(next?)?;
            next = entry.older;
            (entry.used_ms >= since_ms).then_some((entry.source, &entry.backend, entry.used_ms))
        });
        let mut used: Vec<_> = from_newest.collect();
        used.reverse();
        used
    }

    /// Forgets up to `most` of those that were not used within `for_ms`.
    pub fn sweep(&mut self, for_ms: u64, now_ms: u64, most: usize) {
        for _ in 0..most {
            let oldest = self.oldest.map(|place| &self.entries[place]);
            if oldest.is_none_or(|entry| now_ms < entry.used_ms.saturating_add(for_ms)) {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(place) = self.oldest {
            self.unchain(place);
            let entry = self.entries.remove(place);
            self.places.remove(&entry.source);
        }
    }

    fn chain(&mut self, place: usize) {
        let before = self.newest.replace(place);
        match before {
            Some(before) => self.entries[before].newer = Some(place),
            None => self.oldest = Some(place),
        }
        let entry = &mut self.entries[place];
        (entry.older, entry.newer) = (before, None);
    }

    fn unchain(&mut self, place: usize) {
        let (older, newer) = (self.entries[place].older, self.entries[place].newer);
        match older {
            Some(older) => self.entries[older].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.entries[newer].older = older,
            None => self.newest = older,
        }
    }
}

/// Makes hashers of one key.
#[derive(Debug)]
struct Keyed(SipHasher13);

impl BuildHasher for Keyed {
    type Hasher = Fed;

    fn build_hasher(&self) -> Fed {
        Fed(self.0)
    }
}

/// A keyed hasher that is fed a source.
struct Fed(SipHasher13);

impl Hasher for Fed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn source(number: u8) -> Source {
        IpAddr::from([10, 0, 0, number]).into()
    }

    #[test]
    fn ipv6_counts_by_64_bits_and_mapped_addresses_are_ipv4() {
        let same = |a: &str, b: &str| {
            let of = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
            of(a) == of(b)
        };
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.2", "10.0.0.1"));
    }

    proptest! {
        /// Against a plain list of the last `most` uses.
        #[test]
        fn agrees_with_a_list_in_order_of_use(
            most in 1usize..6,
            steps in prop::collection::vec((0u8..10, 0u8..3, 0u64..40, 0u8..4), 1..200),
        ) {
            const FOR_MS: u64 = 60;
            let backends: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
            let mut sticky = Sticky::new([7; 16]);
            let mut list: VecDeque<(Source, Arc<str>, u64)> = VecDeque::new();
            let mut now_ms = 0;
            for (number, backend, later_ms, action) in steps {
                now_ms += later_ms;
                let (source, backend) = (source(number), &backends[usize::from(backend)]);
                let expected = list.iter().find(|(who, _, at)| *who == source && now_ms < at + FOR_MS);
                prop_assert_eq!(sticky.find(source, FOR_MS, now_ms), expected.map(|(_, backend, _)| backend));
                if action == 0 {
                    sticky.sweep(FOR_MS, now_ms, 2);
                    for _ in 0..2 {
                        if list.front().is_some_and(|(_, _, at)| now_ms >= at + FOR_MS) {
                            list.pop_front();
                        }
                    }
                } else {
                    sticky.note(source, backend, most, now_ms);
                    let known = list.iter().position(|(who, _, _)| *who == source);
                    match known {
                        Some(at) => { list.remove(at); }
                        None if list.len() >= most => { list.pop_front(); }
                        None => {}
                    }
                    list.push_back((source, Arc::clone(backend), now_ms));
                }
                prop_assert_eq!(sticky.len(), list.len());
                prop_assert_eq!(sticky.places.len(), list.len());
            }
        }
    }

    #[test]
    fn a_lowered_number_of_entries_takes_effect() {
        let mut sticky = Sticky::new([1; 16]);
        let backend = Arc::from("a");
        (0..100).for_each(|number| sticky.note(source(number), &backend, 100, u64::from(number)));
        sticky.note(source(200), &backend, 10, 200);
        assert_eq!(sticky.len(), 10);
        assert!(
            sticky.find(source(99), 1_000, 200).is_some() && sticky.find(source(90), 1_000, 200).is_none()
        );
    }
}
