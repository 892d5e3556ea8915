//! The table, step by step; the simulation does the rest.

use std::num::NonZeroU32;

use super::super::{Draining, Traffic};
use super::*;
use crate::limits::{PerSource, SessionLimits};

fn terms(flows: u32, per_source: u32, responses: u32, requests: u32) -> Arc<Terms> {
    let sources = PerSource::new([2; 16], Some(per_source), flows);
    let limits = SessionLimits::new(None, Some(flows), Some(sources));
    Arc::new(Terms {
        idle_ms: Some(60_000),
        lifetime_ms: None,
        responses: NonZeroU32::new(responses),
        requests: NonZeroU32::new(requests),
        limits: Arc::new(limits),
        draining: Draining::default(),
    })
}

fn key(client: u16) -> FlowKey {
    FlowKey {
        client: ([192, 0, (client >> 8) as u8, client as u8], 40_000).into(),
        local: ([10, 0, 0, 1], 53).into(),
    }
}

fn admit(flows: &mut Flows, client: u16, terms: &Arc<Terms>) -> Admission {
    flows.admit(&key(client), 0, terms, || false)
}

fn begin(flows: &mut Flows, client: u16, terms: &Arc<Terms>) -> FlowId {
    match admit(flows, client, terms) {
        Admission::New(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_shed_datagram_allocates_nothing_and_meets_the_rules_in_their_order() {
    let terms = terms(2, 1, 0, 0);
    let mut flows = Flows::new([1; 16], 0);
    let none = flows.bytes();
    assert_eq!(flows.admit(&key(1), 0, &terms, || true), Admission::Shed(Reason::Denied));
    assert_eq!((flows.bytes(), flows.len()), (none, 0));
    let first = begin(&mut flows, 1, &terms);
    begin(&mut flows, 2, &terms);
    let full = flows.bytes();
    for client in 3..5_000 {
        assert_eq!(admit(&mut flows, client, &terms), Admission::Shed(Reason::LimitSessions));
    }
    let mut same_source = key(1);
    same_source.client.set_port(9);
    let shed = flows.admit(&same_source, 0, &terms, || false);
    assert_eq!(shed, Admission::Shed(Reason::LimitSessionsPerSource));
    terms.draining.begin();
    assert_eq!(flows.admit(&key(3), 0, &terms, || true), Admission::Shed(Reason::Drained));
    assert_eq!((flows.bytes(), flows.len()), (full, 2));
    // A known flow meets no rule at all.
    assert_eq!(flows.admit(&key(1), 0, &terms, || panic!("asked")), Admission::Known(first));
}

#[test]
fn a_place_is_free_when_the_end_was_taken_and_not_before() {
    let terms = terms(1, 1, 0, 0);
    let mut flows = Flows::new([1; 16], 0);
    let id = begin(&mut flows, 1, &terms);
    assert!(flows.end(id, Reason::NoBackend) && !flows.end(id, Reason::Idle));
    assert_eq!(admit(&mut flows, 2, &terms), Admission::Shed(Reason::LimitSessions));
    let ended = flows.take_ended().unwrap();
    assert_eq!((ended.id, ended.reason, ended.flow.key), (id, Reason::NoBackend, key(1)));
    assert_eq!(flows.take_ended(), None);
    let next = begin(&mut flows, 2, &terms);
    assert_eq!((next.index, flows.get(id)), (id.index, None));
}

#[test]
fn the_last_of_all_expected_replies_ends_a_flow() {
    let terms = terms(9, 9, 2, 0);
    let mut flows = Flows::new([1; 16], 0);
    let id = begin(&mut flows, 1, &terms);
    flows.on_client(id, 2, 60, 5);
    assert_eq!(flows.on_backend(id, 3, 900, 6), Heard::On);
    flows.on_client(id, 1, 30, 7);
    assert_eq!(flows.on_backend(id, 2, 600, 8), Heard::On);
    assert_eq!(flows.on_backend(id, 1, 300, 9), Heard::Complete);
    assert_eq!(flows.on_backend(id, 1, 300, 9), Heard::Nobody);
    let Ended { reason, flow, .. } = flows.take_ended().unwrap();
    assert_eq!(reason, Reason::Responses);
    assert_eq!(flow.to_backend, Traffic { datagrams: 3, bytes: 90 });
    assert_eq!(flow.to_client, Traffic { datagrams: 6, bytes: 1_800 });
}

#[test]
fn a_dead_backend_owes_nothing() {
    let terms = terms(9, 9, 1, 0);
    let mut flows = Flows::new([1; 16], 0);
    let id = begin(&mut flows, 1, &terms);
    flows.on_client(id, 3, 90, 5);
    flows.rehomed(id, 1);
    assert_eq!(flows.on_backend(id, 1, 30, 6), Heard::Complete);
    assert_eq!(flows.take_ended().unwrap().flow.rehomed, 1);
}

#[test]
fn a_new_pick_comes_after_exactly_so_many_datagrams() {
    let terms = terms(9, 9, 0, 5);
    let mut flows = Flows::new([1; 16], 0);
    let id = begin(&mut flows, 1, &terms);
    assert_eq!(flows.requests_left(id), Some(5));
    flows.on_client(id, 3, 30, 0);
    assert_eq!(flows.requests_left(id), Some(2));
    flows.on_client(id, 2, 20, 0);
    assert_eq!(flows.requests_left(id), Some(0));
    flows.picked_anew(id);
    assert_eq!(flows.requests_left(id), Some(5));
}

#[test]
fn a_lifetime_ends_a_busy_flow_and_is_spread() {
    let mut long = Arc::into_inner(terms(5_000, 5_000, 0, 0)).unwrap();
    long.lifetime_ms = Some(100_000);
    let (long, mut flows) = (Arc::new(long), Flows::new([1; 16], 0));
    let ids: Vec<FlowId> = (0..2_000).map(|client| begin(&mut flows, client, &long)).collect();
    let (mut first, mut last) = (u64::MAX, 0);
    for now_ms in (0..=111_000).step_by(500) {
        ids.iter().for_each(|id| flows.on_client(*id, 1, 1, now_ms));
        while flows.sweep(now_ms, 100) {}
        while let Some(ended) = flows.take_ended() {
            assert_eq!(ended.reason, Reason::Lifetime);
            (first, last) = (first.min(now_ms), last.max(now_ms));
        }
    }
    assert!(flows.is_empty() && (90_000..92_000).contains(&first) && (108_000..110_600).contains(&last));
}

#[test]
fn a_sweep_does_no_more_than_asked_at_once() {
    let terms = terms(5_000, 5_000, 0, 0);
    let mut flows = Flows::new([1; 16], 0);
    for client in 0..1_000 {
        begin(&mut flows, client, &terms);
    }
    assert!(!flows.sweep(59_999, 10) && flows.sweep(60_032, 300));
    assert_eq!(flows.len(), 700);
    while flows.sweep(60_032, 300) {}
    assert!(flows.is_empty());
    assert_eq!(flows.next_wake_ms(), None);
}
