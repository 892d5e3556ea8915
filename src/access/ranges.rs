//! Sorted address ranges of a network list (CIDR, longest prefix match): nested networks laid flat, as the addresses at
//! which the answer changes, in order.
//!
//! Two networks lie apart or one within the other, so walking them by their first address and keeping those that are open
//! on a stack tells which is the longest anywhere. Equal answers side by side are one, so the answer is how many edges lie
//! at or before an address: even, as at the beginning; odd, the other one.

/// An address as a number.
pub(super) trait Bits: Copy + Ord {
    /// The number after it; `None` after the last.
    fn after(self) -> Option<Self>;
    /// The last address of the network that begins here and has so many leading bits.
    fn last_of(self, bits: u8) -> Self;
    /// The first address there is.
    const FIRST: Self;
}

/// Where the answer changes.
#[derive(Debug, Clone)]
pub(super) struct Ranges<T> {
    /// The answer before the first edge.
    first: bool,
    at: Box<[T]>,
}

impl<T: Bits> Ranges<T> {
    /// Of these networks: first address, leading bits, may it come in. `others` is the answer outside of all.
    pub(super) fn new(mut networks: Vec<(T, u8, bool)>, others: bool) -> Self {
        // Outer ones before those within; of two equal ones the denied comes last, and so lies on top.
        networks.sort_by_key(|(first, bits, allowed)| (*first, *bits, !allowed));
        let mut flat = Flat { answers: vec![(T::FIRST, others)] };
        let mut open: Vec<(T, bool)> = Vec::new();
        for (first, bits, allowed) in networks {
            while let Some((last, _)) = open.last().filter(|(last, _)| *last < first).copied() {
                open.pop();
                flat.leave(last, &open, others);
            }
            open.push((first.last_of(bits), allowed));
            flat.push(first, allowed);
        }
        while let Some((last, _)) = open.pop() {
            flat.leave(last, &open, others);
        }
        flat.into_edges()
    }

    pub(super) fn allows(&self, address: T) -> bool {
        let passed = self.at.partition_point(|edge| *edge <= address);
        self.first ^ (passed % 2 == 1)
    }
}

/// From which address on which answer holds.
struct Flat<T> {
    answers: Vec<(T, bool)>,
}

impl<T: Bits> Flat<T> {
    fn push(&mut self, from: T, answer: bool) {
        match self.answers.last_mut() {
            Some(last) if last.0 == from => last.1 = answer,
            _ => self.answers.push((from, answer)),
        }
    }

    /// Behind the end of a network the one around it answers again.
    fn leave(&mut self, last: T, open: &[(T, bool)], others: bool) {
        if let Some(next) = last.after() {
            self.push(next, open.last().map_or(others, |(_, allowed)| *allowed));
        }
    }

    fn into_edges(mut self) -> Ranges<T> {
        self.answers.dedup_by_key(|(_, answer)| *answer);
        // There is one for the first address at least.
        let first = self.answers.first().is_none_or(|(_, answer)| *answer);
        Ranges { first, at: self.answers.iter().skip(1).map(|(from, _)| *from).collect() }
    }
}

impl Bits for u32 {
    const FIRST: Self = 0;

    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn last_of(self, bits: u8) -> Self {
        self | Self::MAX.checked_shr(bits.into()).unwrap_or(0)
    }
}

impl Bits for u128 {
    const FIRST: Self = 0;

    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn last_of(self, bits: u8) -> Self {
        self | Self::MAX.checked_shr(bits.into()).unwrap_or(0)
    }
}
