//! One direction over real sockets: order, ends, modes.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::pool::{Snapshot, SnapshotCell};
use crate::random::Random;
use crate::sys::poller::Poller;
use crate::thread_context::{PipePool, SCRATCH_BYTES};

const SLICE_BYTES: usize = 256 * 1024;

fn cx() -> ThreadContext {
    ThreadContext {
        worker: 0,
        poller: Arc::new(Poller::new().unwrap()),
        scratch: vec![0; SCRATCH_BYTES].into(),
        pipes: PipePool::new(0),
        snapshots: Arc::new(SnapshotCell::new(Snapshot { generation: 1, pools: Vec::new() })),
        now_us: 0,
        random: Random::new(1),
        shortage: None,
        give_permit_back: Box::new(|| ()),
        send_cancel: crate::thread_context::SendCancel::new(|_| false),
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    near.set_nonblocking(true).unwrap();
    (near, listener.accept().unwrap().0)
}

/// A receiver whose queue is full when the header is to leave: nothing of the sender may pass it.
#[test]
fn what_leads_leaves_first_in_however_many_pieces_and_is_not_counted() {
    let (mut cx, (from, mut client), (to, mut backend)) = (cx(), pair(), pair());
    let mut filled = 0;
    while let Ok(length) = socket::send(to.as_fd(), &[0xaa; 1_000]) {
        filled += length;
    }
    let (mut from, mut to) = (Side::new(from.into()), Side::new(to.into()));
    let mut way = HalfDuplex::default();
    way.lead_with(vec![0xbb; 4_096]);
    std::io::Write::write_all(&mut client, b"hello").unwrap();
    drop(client);
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    backend.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    while seen.len() < filled + 4_096 + 5 {
        assert!(Instant::now() < deadline, "{} bytes came", seen.len());
        // Everything is ready until the kernel says otherwise.
        (from.readable, to.writable) = (true, true);
        way.step(&mut from, &mut to, Share::Slice(SLICE_BYTES), &mut cx);
        let mut piece = [0; 50_000];
        let length = backend.read(&mut piece).unwrap_or(0);
        seen.extend_from_slice(&piece[..length]);
    }
    let (lead, rest) = seen[filled..].split_at(4_096);
    assert!(seen[..filled].iter().all(|byte| *byte == 0xaa) && lead.iter().all(|byte| *byte == 0xbb));
    assert_eq!((rest, way.delivered_bytes, way.is_empty()), (&b"hello"[..], 5, true));
}

/// Bulk at one side, a receiver with room at the other: what is little goes at once, the rest in slices.
#[test]
fn bulk_moves_by_slices_and_only_in_its_turn() {
    let (mut cx, (from, mut client), (to, mut backend)) = (cx(), pair(), pair());
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(length) = std::io::Write::write(&mut client, &[1; 64 * 1024]) {
        sent += length;
    }
    assert!(sent > 4 * SCRATCH_BYTES, "{sent} bytes wait");
    let reading = std::thread::spawn(move || {
        let (mut buffer, mut came) = (vec![0; 64 * 1024], 0);
        while let Ok(length @ 1..) = backend.read(&mut buffer) {
            came += length;
        }
        came
    });
    let (mut from, mut to) = (Side::new(from.into()), Side::new(to.into()));
    let mut way = HalfDuplex::default();
    (from.readable, to.writable) = (true, true);
    let little = Share::Little(SCRATCH_BYTES);
    assert_eq!(way.step(&mut from, &mut to, little, &mut cx), Turn::Unfinished);
    let at_once = way.delivered_bytes;
    assert!(at_once <= SCRATCH_BYTES as u64);
    // It filled the buffer: more of the same is bulk, however often its socket is ready.
    for _ in 0..10 {
        to.writable = true;
        way.step(&mut from, &mut to, little, &mut cx);
    }
    assert_eq!(way.delivered_bytes, at_once);
    let deadline = Instant::now() + Duration::from_secs(60);
    drop(client);
    while !from.read_out || !way.is_empty() {
        assert!(Instant::now() < deadline, "{} of {sent} bytes", way.delivered_bytes);
        let before = way.delivered_bytes;
        (from.readable, to.writable) = (true, true);
        way.step(&mut from, &mut to, Share::Slice(SLICE_BYTES), &mut cx);
        assert!(way.delivered_bytes - before <= (SLICE_BYTES + SCRATCH_BYTES) as u64);
    }
    drop(to);
    assert_eq!((reading.join().unwrap(), way.delivered_bytes), (sent, sent as u64));
}

/// A write can fail though the peer, which says nothing, never ends its stream: nobody may wait for that end.
#[test]
fn a_connection_that_a_write_found_gone_is_read_out_when_it_has_nothing_more() {
    let (mut cx, (from, mut client), (to, mut backend)) = (cx(), pair(), pair());
    std::io::Write::write_all(&mut client, b"last words").unwrap();
    let (mut from, mut to) = (Side::new(from.into()), Side::new(to.into()));
    let mut way = HalfDuplex::default();
    from.write_failed(Errno::PIPE);
    to.writable = true;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !from.read_out {
        assert!(Instant::now() < deadline, "it waits for an end that never comes");
        from.readable = true;
        way.step(&mut from, &mut to, Share::Slice(SLICE_BYTES), &mut cx);
    }
    let mut seen = [0; 10];
    backend.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"last words");
}

/// The first words of a client, read and not taken by a backend that is gone, with and without a header in front.
#[test]
fn what_nobody_was_given_goes_to_the_next_receiver_behind_its_header() {
    let (mut cx, (from, mut client)) = (cx(), pair());
    let mut from = Side::new(from.into());
    std::io::Write::write_all(&mut client, b"hello").unwrap();
    let (to, backend) = pair();
    socket::reset_on_close(backend.as_fd());
    drop(backend);
    let mut gone = Side::new(to.into());
    (from.readable, gone.writable) = (true, true);
    let mut way = HalfDuplex::default();
    while socket::receivable(from.fd()) > 0 {
        way.step(&mut from, &mut gone, Share::Little(100), &mut cx);
        from.readable = true;
    }
    assert!(gone.broken.is_some());
    assert_eq!(way.step(&mut from, &mut gone, Share::Little(100), &mut cx), Turn::Waiting, "nothing to do");
    assert_eq!((way.delivered_bytes, way.held_bytes()), (0, 5));
    for (header, wanted) in
        [(&b""[..], &b"hello"[..]), (b"PROXY ", b"PROXY hello"), (b"AGAIN ", b"AGAIN hello")]
    {
        way.begin_again();
        if !header.is_empty() {
            way.lead_with(header.to_vec());
        }
        assert_eq!(way.held_bytes(), 5);
        let (to, mut backend) = pair();
        let mut next = Side::new(to.into());
        next.writable = !header.starts_with(b"PROXY");
        way.step(&mut from, &mut next, Share::Little(100), &mut cx);
        if next.writable {
            let mut got = vec![0; wanted.len()];
            backend.read_exact(&mut got).unwrap();
            assert_eq!((&*got, way.delivered_bytes), (wanted, 5));
            // As if it had not been there, for the next round.
            way = HalfDuplex { held: Held::of(b"hello"[..].into()), ..HalfDuplex::default() };
        }
    }
}

/// A backend that resets after it was found ready: what the next one is to get was written to this one, and not taken.
#[test]
fn a_write_of_first_words_that_fails_loses_none_of_them() {
    let (mut cx, (from, client)) = (cx(), pair());
    let mut from = Side::new(from.into());
    let (to, backend) = pair();
    socket::reset_on_close(backend.as_fd());
    drop(backend);
    let mut gone = Side::new(to.into());
    gone.writable = true;
    let mut way = HalfDuplex { held: Held::of(b"hello"[..].into()), ..HalfDuplex::default() };
    way.lead_with(b"PROXY ".to_vec());
    let deadline = Instant::now() + Duration::from_secs(60);
    while gone.broken.is_none() {
        assert!(Instant::now() < deadline, "the write does not fail");
        gone.writable = true;
        way.step(&mut from, &mut gone, Share::Little(100), &mut cx);
    }
    assert_eq!((way.can_begin_again(), way.held_bytes()), (Ok(true), 5));
    way.begin_again();
    let (to, mut backend) = pair();
    let mut next = Side::new(to.into());
    next.writable = true;
    way.step(&mut from, &mut next, Share::Little(100), &mut cx);
    let mut got = [0; 5];
    backend.read_exact(&mut got).unwrap();
    assert_eq!((&got, way.delivered_bytes), (b"hello", 5));
    drop(client);
}

/// Of a session that was handed over between two backends nothing is kept yet, and its message waits to be written.
#[test]
fn what_waits_when_keeping_begins_is_kept() {
    let (mut cx, (from, _client)) = (cx(), pair());
    let mut from = Side::new(from.into());
    let mut way = HalfDuplex { held: Held::of(b"hello"[..].into()), ..HalfDuplex::default() };
    for (round, header) in ["", "PROXY ", ""].into_iter().enumerate() {
        if !header.is_empty() {
            way.lead_with(header.into());
        }
        way.keep_first(&mut cx);
        let (to, mut backend) = pair();
        let mut to = Side::new(to.into());
        to.writable = true;
        way.step(&mut from, &mut to, Share::Little(100), &mut cx);
        let mut got = vec![0; header.len() + 5];
        backend.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), format!("{header}hello"), "round {round}");
        assert_eq!((way.can_begin_again(), way.delivered_bytes), (Ok(true), 5));
        way.begin_again();
    }
}
