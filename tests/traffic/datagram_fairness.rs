//! Many flows beside each other: none waits for another, and what one loses is its own.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use evenkeel::metrics::Direction;
use evenkeel::sys::udp_batch::{Batch, Outgoing};

use crate::datagrams::{Answering, ask, client, hear};
use crate::rig::*;

/// A thread that does the same again and again, until it is dropped.
struct Again {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Again {
    /// `make` runs on that thread, and tells what to do there.
    fn start<A: FnMut()>(make: impl FnOnce() -> A + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut act = make();
            while !stopped.load(Ordering::Relaxed) {
                act();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn silent_backend() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn connected(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Sends 60 datagrams with each call: more than a balancer takes in the same time.
fn flood(socket: UdpSocket) -> Again {
    let whole = Outgoing { slot: 0, start: 0, length: 6_000, to: None, from: None, part: Some(100), mark: 0 };
    Again::start(move || {
        let (mut batch, seed) = (Batch::new(1), UdpSocket::bind("127.0.0.1:0").unwrap());
        seed.send_to(&[1; 6_000], seed.local_addr().unwrap()).unwrap();
        eventually("it stands in the slot", || batch.receive(seed.as_fd(), 1) == Ok(1));
        move || {
            // A full buffer is no end of the flood.
            let _ = batch.send(socket.as_fd(), &[whole]);
        }
    })
}

/// One thread with two doors, so that only its turns stand between the flood and the others, and no full buffer. The
/// flooded door takes each datagram by itself, since it takes PROXY headers from somebody.
#[test]
fn a_flood_of_one_flow_does_not_starve_the_others() {
    let (good, flooded) = (Answering::start("x"), silent_backend());
    let balancer = Balancer::start(&format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners:\n  calm: {{ bind: '127.0.0.1:1', protocol: udp, backends: ['{}'] }}\n  \
         flood: {{ bind: '127.0.0.1:2', protocol: udp, accept_proxy: 192.0.2.1, backends: ['{}'] }}",
        good.address,
        flooded.local_addr().unwrap()
    ));
    let doors = balancer.server().addresses();
    let flooder = connected(doors[1].1);
    flooder.send(b"begin").unwrap();
    let mut datagram = [0; 64];
    let (_, upstream) = flooded.recv_from(&mut datagram).unwrap();
    let flooding = balancer.server().counters("flood").unwrap();
    let carried = |direction| flooding.shards.sum(|shard| shard.datagrams(direction).value());
    // From the client, as fast as it can, and from its backend too.
    let from_client = flood(flooder);
    let from_backend = Again::start(move || move || drop(flooded.send_to(&[2; 64], upstream)));
    eventually("it floods both ways", || {
        carried(Direction::ToBackend) > 1_000 && carried(Direction::ToClient) > 1_000
    });
    let before = (carried(Direction::ToBackend), carried(Direction::ToClient));
    let others: Vec<UdpSocket> = (0..10).map(|_| connected(doors[0].1)).collect();
    for round in 0..20u8 {
        for other in &others {
            assert_eq!(ask(other, &[round]), [b'x', round]);
        }
    }
    eventually("it has flooded all the time", || {
        carried(Direction::ToBackend) > before.0 && carried(Direction::ToClient) > before.1
    });
    drop((from_client, from_backend));
}

#[test]
fn a_backend_that_does_not_read_slows_nobody_else() {
    let (good, stuck) = (Answering::start("x"), silent_backend());
    let balancer = Balancer::start(&format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners:\n  door:\n    bind: '127.0.0.1:53'\n    protocol: udp\n    backends: ['{}', '{}']\n",
        stuck.local_addr().unwrap(),
        good.address
    ));
    let (to_stuck, to_good) = (connected(balancer.address()), connected(balancer.address()));
    to_stuck.send(b"first").unwrap();
    becomes("flows", 1, || balancer.begun());
    assert_eq!(ask(&to_good, b"second"), b"xsecond");
    // Far more than any buffer holds; each answer shows that what came before it was dealt with.
    for round in 0..100u8 {
        for _ in 0..20 {
            to_stuck.send(&[0; 9_000]).unwrap();
        }
        assert_eq!(ask(&to_good, &[round]), [b'x', round]);
    }
    let carried = balancer.counters().shards.sum(|shard| shard.datagrams(Direction::ToBackend).value());
    assert_eq!(carried, 2 + 100 * 21, "sent on, whoever reads it");
}

#[test]
fn a_thousand_datagrams_of_a_flow_keep_their_order_and_their_bytes() {
    let backend = Answering::start("");
    let balancer = Balancer::start(&format!(
        "workers: 2\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:53', protocol: udp, backends: ['{}'] }} }}",
        backend.address
    ));
    let client = client(&balancer, "127.0.0.1");
    let datagram = |number: u32| {
        let bytes = [&number.to_le_bytes()[..], &pattern(number as usize % 1_400)].concat();
        let (_, sum) = sum_of(&mut &bytes[..]);
        [&bytes[..], &sum.to_le_bytes()].concat()
    };
    // As many at a time as every buffer on the way holds.
    for first in (0..1_000).step_by(40) {
        for number in first..first + 40 {
            client.send(&datagram(number)).unwrap();
        }
        for number in first..first + 40 {
            let heard = hear(&client);
            let (bytes, sum) = heard.split_at(heard.len() - 8);
            assert_eq!(sum_of(&mut &*bytes).1.to_le_bytes(), sum, "{number}: other bytes");
            assert_eq!(bytes[..4], number.to_le_bytes(), "out of order");
        }
    }
    assert_eq!(balancer.begun(), 1);
}

/// What refusals take with them are the datagrams that caused them, and no others: the second decides.
#[test]
fn the_datagram_after_the_second_refusal_reaches_another_backend() {
    let mut backends = ["a", "b"].map(Answering::start);
    let balancer = Balancer::start(&format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: '127.0.0.1:53', protocol: udp, balance: first, backends: ['{}', '{}'] }} }}",
        backends[0].address, backends[1].address
    ));
    let client = client(&balancer, "127.0.0.1");
    assert_eq!(ask(&client, b"1"), b"a1");
    backends[0].stop();
    for round in 1..=2 {
        client.send(b"lost").unwrap();
        becomes("refusals", round, || {
            balancer.backend(0, |backend| backend.shards.sum(|shard| shard.connect_failures.value()))
        });
    }
    assert_eq!(ask(&client, b"2"), b"b2", "asked once");
    assert_eq!(balancer.begun(), 1);
}
