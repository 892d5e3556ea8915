//! One small exchange after the other, TCP or UDP, beside streams that send as fast as they can: how long it waits, and how
//! much of theirs passes meanwhile, which no other work on the machine changes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::load;
use super::peers::Proxy;
use super::rows::{Found, Size};

/// A backend for both kinds at one port, TCP and UDP: a connection that begins with bulk is swallowed and counted, any other
/// is answered, and so is a datagram.
pub(crate) fn backend() -> SocketAddr {
    // A port that is free for one need not be free for the other.
    let (listener, socket) = loop {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().expect("its address")) {
            break (listener, socket);
        }
    };
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || super::backends::say_datagrams_back(&socket));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    let mut message = [0; 64];
    let _ = stream.set_nodelay(true);
    if stream.read_exact(&mut message).is_err() {
        return;
    }
    if message == BULK[..64] {
        let mut buffer = vec![0; BULK.len()];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            SWALLOWED.fetch_add(length as u64, Ordering::Relaxed);
        }
    } else {
        while stream.write_all(&message).is_ok() && stream.read_exact(&mut message).is_ok() {}
    }
}

/// 64 bytes there and back on a connection; CPU is told for the MB of all streams.
pub(crate) fn rounds(proxy: &Proxy, streams: usize, size: Size) -> Found {
    let mut stream = load::opened(proxy.door);
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(LOST_AFTER)).expect("a time-out");
    beside(proxy, streams, size, |number| {
        let (question, mut answer) = (load::message(number), [0; 64]);
        stream.write_all(&question).expect("asking");
        stream.read_exact(&mut answer).expect("the answer");
        assert_eq!(answer, question, "a wrong answer");
    })
}

/// The same with datagrams.
pub(crate) fn exchanges(proxy: &Proxy, streams: usize, size: Size) -> Found {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(proxy.door).expect("connecting");
    socket.set_read_timeout(Some(LOST_AFTER)).expect("a time-out");
    beside(proxy, streams, size, |number| {
        let (question, mut answer) = (load::message(number), [0; 65]);
        socket.send(&question).expect("asking");
        let length = socket.recv(&mut answer).expect("the answer");
        assert_eq!(answer[..length], question, "a wrong answer");
    })
}

fn beside(proxy: &Proxy, streams: usize, size: Size, mut exchange: impl FnMut(u64)) -> Found {
    let (door, stop) = (proxy.door, Arc::new(AtomicBool::new(false)));
    let senders: Vec<_> = (0..streams)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut stream = TcpStream::connect(door).expect("connecting");
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(&BULK).expect("sending");
                }
            })
        })
        .collect();
    let swallowed = || SWALLOWED.load(Ordering::Relaxed);
    let (began, before) = (Instant::now(), swallowed());
    while swallowed() - before < streams as u64 * BEGIN_BYTES {
        assert!(began.elapsed() < LOST_AFTER, "bulk does not flow");
        thread::sleep(Duration::from_millis(1));
    }
    let (began, cpu, before) = (Instant::now(), proxy.cpu(), swallowed());
    let (mut waited, mut passed) = (Vec::new(), Vec::new());
    // What waits long is asked less often: some seconds are enough.
    for number in 0..size.of(QUESTIONS) as u64 {
        if number > 0 && began.elapsed() > ROUND_MAX {
            break;
        }
        let (asked, at_first) = (Instant::now(), swallowed());
        exchange(number);
        waited.push(asked.elapsed().as_secs_f64() * 1e6);
        passed.push((swallowed() - at_first) as f64 / 1e6);
    }
    let (took_s, cpu) = (began.elapsed().as_secs_f64(), proxy.cpu() - cpu);
    let mb = (swallowed() - before) as f64 / 1e6;
    stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().expect("a stream"));
    let mut figures = super::latency::percentiles(&mut waited);
    figures.truncate(2);
    passed.sort_by(f64::total_cmp);
    let at = |permille: usize| passed[(passed.len() - 1) * permille / 1_000];
    figures.extend([("passed_mb_p50", at(500)), ("passed_mb_p99", at(990))]);
    Found { units: mb, took_s, cpu: Some(cpu), figures }
}

/// What all streams of bulk have brought to the backend.
static SWALLOWED: AtomicU64 = AtomicU64::new(0);
static BULK: [u8; 256 * 1024] = [0x5a; 256 * 1024];
/// Of each stream, until it counts as flowing.
const BEGIN_BYTES: u64 = 1 << 20;
const QUESTIONS: usize = 400;
const ROUND_MAX: Duration = Duration::from_secs(5);
const LOST_AFTER: Duration = Duration::from_secs(60);
