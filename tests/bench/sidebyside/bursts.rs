//! Bursts of full-size datagrams, sent and received as QUIC servers and clients do: UDP_SEGMENT out, UDP_GRO in.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use evenkeel::sys::poller::{Events, Poller};
use evenkeel::sys::udp::merge_received;
use evenkeel::sys::udp_batch::{Batch, Outgoing};

use super::rows::{Found, Size};

/// A backend that answers the last datagram of each burst with the burst's number and how many of it came whole; never
/// returns.
pub(crate) fn answer_bursts(socket: &UdpSocket) {
    merge_received(socket.as_fd()).expect("merging");
    let (poller, mut events) = (Poller::new().expect("a poller"), Events::new());
    poller.watch_input(socket, 0).expect("watching");
    let mut batch = Batch::new(64);
    let (mut burst, mut came) = ([0; 8], 0_u64);
    loop {
        poller.wait(None, &mut events).expect("waiting");
        if batch.receive(socket.as_fd(), 64).is_err() {
            continue;
        }
        for slot in 0..batch.received().len() {
            let told = batch.received()[slot];
            let part = told.part.map_or(told.length, usize::from);
            for datagram in batch.bytes(slot).chunks(part) {
                let (head, body) = datagram.split_at(16);
                if head[..8] != burst {
                    burst.copy_from_slice(&head[..8]);
                    came = 0;
                }
                came += u64::from(body == [0x5a; PART - 16]);
                if head[8..] == (PARTS as u64 - 1).to_le_bytes() {
                    let _ = socket.send_to(&[burst, came.to_le_bytes()].concat(), told.from);
                }
            }
        }
        batch.clear();
    }
}

/// One sender, one burst after the other, as one or one by one; in datagrams.
pub(crate) fn bursts(door: SocketAddr, size: Size, merged: bool) -> Found {
    let (bursts, began) = (size.of(1_500) as u64, Instant::now());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(door).expect("connecting");
    socket.set_read_timeout(Some(LOST_AFTER)).expect("a time-out");
    // What is sent stands in a slot, and gets there by being received.
    let (mut batch, seed) = (Batch::new(1), UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    let mut came = 0;
    // A burst before the first has no number that the backend begins with.
    for number in 1..=bursts {
        let burst: Vec<u8> = (0..PARTS as u64)
            .flat_map(|place| {
                let mut datagram = [0x5a; PART];
                datagram[..8].copy_from_slice(&number.to_le_bytes());
                datagram[8..16].copy_from_slice(&place.to_le_bytes());
                datagram
            })
            .collect();
        batch.clear();
        seed.send_to(&burst, seed.local_addr().expect("its address")).expect("sending to itself");
        assert_eq!(batch.receive(seed.as_fd(), 1), Ok(1));
        let part = u16::try_from(PART).ok();
        let whole = Outgoing { slot: 0, start: 0, length: burst.len(), to: None, from: None, part, mark: 0 };
        if merged {
            assert_eq!(batch.send(socket.as_fd(), &[whole]), Ok(1));
        } else {
            let each =
                (0..PARTS).map(|place| Outgoing { start: place * PART, length: PART, part: None, ..whole });
            assert_eq!(batch.send(socket.as_fd(), &each.collect::<Vec<_>>()), Ok(PARTS));
        }
        came += answer_to(&socket, number);
        if number >= GIVEN_UP_AFTER && came == 0 {
            return Found::default();
        }
    }
    let sent = bursts * PARTS as u64;
    if came * 2 < sent {
        return Found::default();
    }
    Found {
        units: came as f64,
        took_s: began.elapsed().as_secs_f64(),
        cpu: None,
        figures: vec![("lost_percent", (sent - came) as f64 * 100.0 / sent as f64)],
    }
}

/// How many of the burst came; 0 when its last did not.
fn answer_to(socket: &UdpSocket, number: u64) -> u64 {
    let mut answer = [0; 16];
    while socket.recv(&mut answer).is_ok_and(|length| length == answer.len()) {
        let (told, came) = answer.split_at(8);
        let told = u64::from_le_bytes(told.try_into().expect("eight bytes"));
        // One that is late, to a burst that was given up.
        assert!(told <= number, "a wrong answer");
        if told == number {
            return u64::from_le_bytes(came.try_into().expect("eight bytes"));
        }
    }
    0
}

const PART: usize = 1_200;
const PARTS: usize = 40;
/// Without any datagram of so many bursts no more are sent.
const GIVEN_UP_AFTER: u64 = 5;
const LOST_AFTER: Duration = Duration::from_millis(200);
