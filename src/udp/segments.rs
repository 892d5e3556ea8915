//! Segments (GRO, GSO): several datagrams that the kernel handed over as one (UDP_GRO), and goes on as one
//! (UDP_SEGMENT) or by themselves.

use crate::sys::udp_batch::{Outgoing, Received};

/// How many datagrams came as one.
pub(super) fn parts_of(told: &Received) -> u32 {
    let parts = told.part.map_or(1, |part| told.length.div_ceil(part.into()));
    u32::try_from(parts).unwrap_or(u32::MAX)
}

/// How many datagrams go as one.
pub(super) fn parts_of_outgoing(outgoing: &Outgoing) -> u64 {
    outgoing.part.map_or(1, |part| outgoing.length.div_ceil(part.into()) as u64)
}

/// A merged datagram as the datagrams it is made of.
pub(super) fn parts(whole: Outgoing) -> impl Iterator<Item = Outgoing> {
    let size = whole.part.map_or(whole.length.max(1), usize::from);
    (0..whole.length).step_by(size).map(move |start| Outgoing {
        start: whole.start + start,
        length: size.min(whole.length - start),
        part: None,
        ..whole
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_whole_and_the_last_may_be_shorter() {
        let whole =
            Outgoing { slot: 3, start: 0, length: 2_500, to: None, from: None, part: Some(1_200), mark: 1 };
        let made: Vec<_> = parts(whole).map(|part| (part.start, part.length, part.part, part.mark)).collect();
        assert_eq!(made, [(0, 1_200, None, 1), (1_200, 1_200, None, 1), (2_400, 100, None, 1)]);
        assert_eq!(parts_of_outgoing(&whole), 3);
        assert_eq!(parts_of_outgoing(&Outgoing { part: None, length: 0, ..whole }), 1);
    }
}
