//! Small exchanges beside bulk on one data thread. What counts is the bytes of bulk that pass between a question and its
//! answer: time would be the machine's, bytes are the thread's order of work.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use evenkeel::metrics::Direction;

use crate::datagrams::{Answering, ask};
use crate::rig::*;

/// Streams that send as fast as they can, until they are dropped.
struct Bulk {
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
}

impl Bulk {
    fn start(door: SocketAddr, streams: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sender = || {
            let (stop, mut stream) = (Arc::clone(&stop), connect(door));
            std::thread::spawn(move || {
                let block = vec![0x5a; 256 * 1024];
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(&block).unwrap();
                }
            })
        };
        let senders = (0..streams).map(|_| sender()).collect();
        Self { stop, senders }
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.senders.drain(..).for_each(|sender| sender.join().unwrap());
    }
}

fn swallow(mut stream: std::net::TcpStream) {
    let mut buffer = vec![0; 256 * 1024];
    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
}

/// What passes during an exchange beside bulk, in MB: the median of many.
fn passed_beside_bulk(start: impl FnOnce(SocketAddr, SocketAddr) -> Box<dyn FnMut()>) -> u64 {
    let (sink, echoing, answering) = (Backend::start(swallow), Backend::start(echo), Answering::start(""));
    let balancer = Balancer::start(&format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners:\n  bulk: {{ bind: '127.0.0.1:1', backends: ['{}'] }}\n  \
         datagrams: {{ bind: '127.0.0.1:2', protocol: udp, backends: ['{}'] }}\n  \
         small: {{ bind: '127.0.0.1:3', backends: ['{}'] }}",
        sink.address, answering.address, echoing.address
    ));
    let doors = balancer.server().addresses();
    let bulk = balancer.server().counters("bulk").unwrap();
    let carried = || bulk.shards.sum(|shard| shard.bytes(Direction::ToBackend).value());
    let mut exchange = start(doors[2].1, doors[1].1);
    exchange();
    let streams = Bulk::start(doors[0].1, STREAMS);
    eventually("bulk flows", || carried() > STREAMS as u64 * 8_000_000);
    let before = carried();
    let mut passed: Vec<u64> = (0..EXCHANGES)
        .map(|_| {
            let before = carried();
            exchange();
            carried() - before
        })
        .collect();
    eventually("bulk has flowed all the time", || carried() > before);
    drop(streams);
    passed.sort_unstable();
    passed[EXCHANGES / 2] / 1_000_000
}

#[test]
fn a_small_exchange_does_not_wait_for_every_stream_of_bulk() {
    let passed = passed_beside_bulk(|small, _| {
        let mut stream = connect(small);
        stream.set_nodelay(true).unwrap();
        Box::new(move || exchange(&mut stream, &[7; 64]))
    });
    assert!(passed <= PASSED_MAX_MB, "{passed} MB of bulk passed meanwhile");
}

#[test]
fn a_datagram_does_not_wait_for_every_stream_of_bulk() {
    let passed = passed_beside_bulk(|_, datagrams| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(datagrams).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Box::new(move || assert_eq!(ask(&socket, &[7; 64]), [7; 64]))
    });
    assert!(passed <= PASSED_MAX_MB, "{passed} MB of bulk passed meanwhile");
}

const STREAMS: usize = 32;
const EXCHANGES: usize = 41;
/// Several times what the thread's turns let pass: client and backend wait for a processor, too. Were each stream served
/// once in between, as much as their buffers hold would pass: 100 MB and more.
const PASSED_MAX_MB: u64 = 16;
