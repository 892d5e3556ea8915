//! Rules of which the first that fits decides, as our two lists of which the longest match decides.
//!
//! Must stay true: the lists let in exactly those whom the rules let in; where that cannot be said, nobody is let in and the caller
//! tells so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The rules of a listener, in their order.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    allows: bool,
    networks: Vec<Network>,
    /// It is for all others than these.
    negated: bool,
}

/// The addresses from one to another, of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Network {
    is_v6: bool,
    first: u128,
    last: u128,
}

/// `allow` and `deny` of our file.
pub(super) type Lists = (Vec<String>, Vec<String>);

impl Rules {
    /// The next rule. `networks`: as ours are written.
    pub(super) fn add(&mut self, allows: bool, networks: &[String], negated: bool) {
        let networks = networks.iter().filter_map(|text| Network::read(text)).collect();
        self.rules.push(Rule { allows, networks, negated });
    }

    /// For everybody who comes so far.
    pub(super) fn all(&mut self, allows: bool) {
        self.rules.push(Rule { allows, networks: Vec::new(), negated: true });
    }

    /// They name nobody.
    pub(super) fn is_at_most_everybody(&self) -> bool {
        self.rules.iter().all(|rule| rule.networks.is_empty())
    }

    /// The same with two lists; `None`: the rules are too many to be sure.
    pub(super) fn lists(&self) -> Option<Lists> {
        let closed = self.rules.iter().position(|rule| rule.networks.is_empty() && rule.negated);
        // What stands behind a rule for everybody is never asked.
        let rules = &self.rules[..closed.map_or(self.rules.len(), |at| at + 1)];
        let natural = natural(rules);
        let count: usize = rules.iter().map(|rule| rule.networks.len()).sum();
        let verdicts = [true, false].map(|verdict| {
            rules.iter().any(|rule| rule.allows == verdict && !(rule.negated && rule.networks.is_empty()))
        });
        let is_plain =
            verdicts != [true, true] && rules.iter().all(|rule| !rule.negated || rule.networks.is_empty());
        if is_plain {
            let by_default = rules.last().filter(|_| closed.is_some()).is_none_or(|rule| rule.allows);
            return Some(match (by_default, verdicts) {
                // Nothing else than what happens anyway.
                (true, [_, false]) => (Vec::new(), Vec::new()),
                (false, [false, _]) => (Vec::new(), everybody()),
                _ => natural,
            });
        }
        if count > NETWORKS_MAX {
            return None;
        }
        let pieces = pieces(rules);
        let is_right = |(allow, deny): &Lists| {
            let read =
                |list: &[String]| list.iter().filter_map(|text| Network::read(text)).collect::<Vec<_>>();
            let (allow, deny) = (read(allow), read(deny));
            pieces.iter().all(|(piece, allowed)| by_longest(&allow, &deny, piece) == *allowed)
        };
        if is_right(&natural) {
            return Some(natural);
        }
        Some(exact(&pieces))
    }
}

/// Both lists as they would be written by hand.
fn natural(rules: &[Rule]) -> Lists {
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    let mut is_open = true;
    for rule in rules {
        let is_all = rule.networks.is_empty();
        match (rule.allows, rule.negated) {
            (true, false) => allow.extend(&rule.networks),
            (false, false) => deny.extend(&rule.networks),
            (false, true) if is_all => is_open = false,
            (false, true) => {
                allow.extend(&rule.networks);
                is_open = false;
            }
            (true, true) if is_all => {}
            (true, true) => deny.extend(&rule.networks),
        }
    }
    let shown = |list: Vec<&Network>| list.into_iter().map(Network::shown).collect::<Vec<_>>();
    let (mut allow, deny) = (shown(allow), shown(deny));
    if is_open && !allow.is_empty() {
        // Who is in neither list is refused where `allow` has somebody.
        allow.extend(everybody());
    }
    if !is_open && allow.is_empty() {
        return (Vec::new(), everybody());
    }
    (allow, deny)
}

pub(super) fn everybody() -> Vec<String> {
    ["0.0.0.0/0", "::/0"].map(str::to_owned).into()
}

/// The whole of both families, cut where a network begins or ends, each piece with the verdict of the first rule that fits.
fn pieces(rules: &[Rule]) -> Vec<(Network, bool)> {
    let mut all = Vec::new();
    for is_v6 in [false, true] {
        let most = if is_v6 { u128::MAX } else { u128::from(u32::MAX) };
        let networks = rules.iter().flat_map(|rule| &rule.networks).filter(|network| network.is_v6 == is_v6);
        let mut begins: Vec<u128> = vec![0];
        for network in networks {
            begins.push(network.first);
            begins.extend(network.last.checked_add(1).filter(|next| *next <= most));
        }
        begins.sort_unstable();
        begins.dedup();
        for (at, first) in begins.iter().enumerate() {
            let last = begins.get(at + 1).map_or(most, |next| next - 1);
            let piece = Network { is_v6, first: *first, last };
            let fits =
                |rule: &&Rule| rule.networks.iter().any(|network| network.holds(&piece)) != rule.negated;
            let allowed = rules.iter().find(fits).is_none_or(|rule| rule.allows);
            all.push((piece, allowed));
        }
    }
    all
}

/// What our lists say of a piece that no network of theirs cuts, or cuts only at its ends.
fn by_longest(allow: &[Network], deny: &[Network], piece: &Network) -> bool {
    let longest = |list: &[Network]| {
        list.iter().filter(|network| network.holds(piece)).map(|network| network.last - network.first).min()
    };
    match (longest(allow), longest(deny)) {
        (Some(allow), Some(deny)) => allow < deny,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => allow.is_empty(),
    }
}

/// One list that names every piece: those that are let in, or those that are not where the rest is.
fn exact(pieces: &[(Network, bool)]) -> Lists {
    let of = |wanted: bool| {
        let mut list = Vec::new();
        for is_v6 in [false, true] {
            let mut open: Option<Network> = None;
            for (piece, allowed) in pieces.iter().filter(|(piece, _)| piece.is_v6 == is_v6) {
                match (&mut open, *allowed == wanted) {
                    (Some(whole), true) => whole.last = piece.last,
                    (None, true) => open = Some(*piece),
                    (open, false) => list.extend(open.take()),
                }
            }
            list.extend(open);
        }
        list.iter().flat_map(Network::cut).map(|network| network.shown()).collect::<Vec<_>>()
    };
    let (allow, deny) = (of(true), of(false));
    if allow.is_empty() {
        (Vec::new(), everybody())
    } else if deny.len() < allow.len() {
        (Vec::new(), deny)
    } else {
        (allow, Vec::new())
    }
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let (first, most, is_v6) = match address.parse().ok()? {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32, false),
            IpAddr::V6(ip) => (ip.to_bits(), 128, true),
        };
        let bits: u32 = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        let size = u128::MAX.checked_shr(128 - (most.checked_sub(bits)?)).unwrap_or(0);
        Some(Self { is_v6, first: first & !size, last: first | size })
    }

    fn holds(&self, piece: &Self) -> bool {
        self.is_v6 == piece.is_v6 && self.first <= piece.first && piece.last <= self.last
    }

    /// As networks with a length of bits each.
    fn cut(&self) -> Vec<Self> {
        let (mut all, mut first) = (Vec::new(), self.first);
        loop {
            let aligned = if first == 0 { u128::MAX } else { (1 << first.trailing_zeros()) - 1 };
            let mut size = aligned;
            while first.checked_add(size).is_none_or(|last| last > self.last) {
                size >>= 1;
            }
            all.push(Self { is_v6: self.is_v6, first, last: first + size });
            match (first + size).checked_add(1).filter(|next| *next <= self.last) {
                Some(next) => first = next,
                None => return all,
            }
        }
    }

    fn shown(&self) -> String {
        let most = if self.is_v6 { 128 } else { 32 };
        let bits = most - (self.last - self.first).count_ones();
        let ip: IpAddr = match u32::try_from(self.first).ok().filter(|_| !self.is_v6) {
            Some(bits) => Ipv4Addr::from_bits(bits).into(),
            None => Ipv6Addr::from_bits(self.first).into(),
        };
        if bits == most { ip.to_string() } else { format!("{ip}/{bits}") }
    }
}

/// Of all rules, where they are of both kinds.
const NETWORKS_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(all: &[(bool, &[&str], bool)]) -> Rules {
        let mut rules = Rules::default();
        for (allows, networks, negated) in all {
            let networks: Vec<String> = networks.iter().map(|one| (*one).to_owned()).collect();
            if networks.is_empty() { rules.all(*allows) } else { rules.add(*allows, &networks, *negated) }
        }
        rules
    }

    #[test]
    fn what_can_be_said_as_it_is_written_is_said_so() {
        let lists = |all: &[(bool, &[&str], bool)]| {
            let (allow, deny) = rules(all).lists().unwrap();
            (allow.join(" "), deny.join(" "))
        };
        let both = |allow: &str, deny: &str| (allow.to_owned(), deny.to_owned());
        assert_eq!(lists(&[]), both("", ""));
        assert_eq!(lists(&[(false, &["10.0.0.0/8"], false)]), both("", "10.0.0.0/8"));
        assert_eq!(lists(&[(true, &["10.0.0.0/8"], false), (false, &[], false)]), both("10.0.0.0/8", ""));
        assert_eq!(lists(&[(false, &["10.0.0.0/8"], true)]), both("10.0.0.0/8", ""));
        assert_eq!(lists(&[(false, &[], false)]), both("", "0.0.0.0/0 ::/0"));
        assert_eq!(lists(&[(false, &[], false), (true, &["10.0.0.0/8"], false)]), both("", "0.0.0.0/0 ::/0"));
        assert_eq!(lists(&[(true, &["10.0.0.0/8"], false)]), both("", ""));
        assert_eq!(
            lists(&[(true, &["10.1.0.0/16"], false), (false, &["10.0.0.0/8"], false)]),
            both("10.1.0.0/16 0.0.0.0/0 ::/0", "10.0.0.0/8")
        );
        // The longest would let in whom the first keeps out.
        let first =
            lists(&[(false, &["10.0.0.0/8"], false), (true, &["10.1.0.0/16"], false), (false, &[], false)]);
        assert_eq!(first, both("", "0.0.0.0/0 ::/0"));
        // Both must hold.
        let both_must = lists(&[(false, &["10.0.0.0/8"], true), (false, &["10.1.0.0/16"], true)]);
        assert_eq!(both_must, both("10.1.0.0/16", ""));
    }

    proptest! {
        #[test]
        fn the_lists_let_in_whom_the_rules_let_in(
            all in prop::collection::vec((any::<bool>(), prop::collection::vec((0u8..4, 0u8..4, 8u32..=24), 0..4), any::<bool>()), 0..6),
            clients in prop::collection::vec((0u8..4, 0u8..4, 0u8..4), 20),
        ) {
            let mut rules = Rules::default();
            for (allows, networks, negated) in &all {
                let networks: Vec<String> =
                    networks.iter().map(|(one, two, bits)| super::super::units::network(&format!("10.{one}.{two}.0/{bits}")).unwrap()).collect();
                rules.add(*allows, &networks, *negated);
            }
            let (allow, deny) = rules.lists().unwrap();
            let read = |list: &[String]| list.iter().map(|text| Network::read(text).unwrap()).collect::<Vec<_>>();
            let (allow, deny) = (read(&allow), read(&deny));
            for (one, two, three) in clients {
                let client = Network::read(&format!("10.{one}.{two}.{three}")).unwrap();
                let fits = |rule: &&Rule| rule.networks.iter().any(|network| network.holds(&client)) != rule.negated;
                let expected = rules.rules.iter().find(fits).is_none_or(|rule| rule.allows);
                prop_assert_eq!(by_longest(&allow, &deny, &client), expected, "{:?} {:?}", allow, deny);
            }
        }
    }
}
