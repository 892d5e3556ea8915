//! The work of our own clients. Every byte that comes back is compared or counted: a wrong or missing
//! one ends the run.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peers::Proxy;
use super::rows::{Found, Size};

/// Four streams into the sink, or there and back; in MB.
pub(crate) fn bulk(door: SocketAddr, size: Size, both_ways: bool) -> Found {
    let (bytes, began) = (size.of(if both_ways { BULK_BYTES / 4 } else { BULK_BYTES }), Instant::now());
    let streams: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || if both_ways { there_and_back(door, bytes) } else { one_way(door, bytes) })
        })
        .collect();
    streams.into_iter().for_each(|stream| stream.join().expect("a stream"));
    let (mb, took_s) = (4.0 * bytes as f64 / 1e6, began.elapsed().as_secs_f64());
    Found { units: mb, took_s, figures: vec![("gb_per_s", mb / 1e3 / took_s)], cpu: None }
}

fn one_way(door: SocketAddr, bytes: usize) {
    let block = vec![0x5au8; BLOCK];
    let mut stream = TcpStream::connect(door).expect("connecting");
    let mut left = bytes;
    while left > 0 {
        let length = left.min(BLOCK);
        stream.write_all(&block[..length]).expect("sending");
        left -= length;
    }
    stream.shutdown(std::net::Shutdown::Write).expect("finishing");
    let mut count = [0; 8];
    stream.read_exact(&mut count).expect("the sink's count");
    assert_eq!(u64::from_le_bytes(count), bytes as u64, "bytes were lost");
}

fn there_and_back(door: SocketAddr, bytes: usize) {
    // Of a length that no block has: bytes that are missing or doubled show.
    let pattern: Vec<u8> = (0..BLOCK + PERIOD).map(|place| (place % PERIOD) as u8).collect();
    let wanted = pattern.clone();
    let stream = TcpStream::connect(door).expect("connecting");
    let mut reader = stream.try_clone().expect("its other half");
    let reading = thread::spawn(move || {
        let (mut buffer, mut count) = (vec![0; BLOCK], 0);
        while count < bytes {
            let length = reader.read(&mut buffer).expect("the echo");
            assert!(length > 0, "bytes were lost");
            assert!(buffer[..length] == wanted[count % PERIOD..][..length], "a wrong byte");
            count += length;
        }
    });
    let (mut sent, mut writer) = (0, stream);
    while sent < bytes {
        let length = (bytes - sent).min(BLOCK);
        writer.write_all(&pattern[sent % PERIOD..][..length]).expect("sending");
        sent += length;
    }
    reading.join().expect("the reader");
}

/// Sends and reads back until it is told to stop; tells how many bytes came back.
pub(crate) fn echo_until(door: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut stream = TcpStream::connect(door).expect("connecting");
    let (block, mut buffer, mut count) = (vec![0x5au8; 64 * 1024], vec![0; 64 * 1024], 0);
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&block).expect("sending");
        stream.read_exact(&mut buffer).expect("the echo");
        assert!(buffer == block, "wrong bytes");
        count += block.len() as u64;
    }
    count
}

/// Datagrams that are answered by the same datagram, one at a time for each client. What gets no answer is counted as lost.
pub(crate) fn exchanges(door: SocketAddr, clients: usize, each: usize) -> Found {
    let began = Instant::now();
    let waited = each_track(clients, move |track| async move {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        socket.connect(door).await.expect("connecting");
        // All at once would overflow the socket of any backend, and tell nothing of the proxy.
        tokio::time::sleep(Duration::from_micros(track as u64 * 100)).await;
        let mut waited = Vec::with_capacity(each);
        for number in 0..each {
            let question = message((track * each + number) as u64);
            let asked = Instant::now();
            socket.send(&question).await.expect("asking");
            let answered = async {
                let mut answer = [0; 65];
                loop {
                    let length = socket.recv(&mut answer).await.expect("the answer");
                    if answer[..length] == question {
                        return;
                    }
                    // One that is late, to a question that was given up: any other is wrong.
                    let is_late =
                        (0..number).any(|old| answer[..length] == message((track * each + old) as u64));
                    assert!(is_late, "a wrong answer");
                }
            };
            match tokio::time::timeout(DATAGRAM_LOST_AFTER, answered).await {
                Ok(()) => waited.push(asked.elapsed().as_secs_f64() * 1e6),
                Err(_) => waited.push(f64::INFINITY),
            }
        }
        waited
    });
    let (answered, lost): (Vec<f64>, Vec<f64>) = waited.into_iter().partition(|us| us.is_finite());
    if answered.len() < lost.len() {
        return Found::default();
    }
    let mut found = found(answered, began);
    found.figures.push(("lost", lost.len() as f64));
    found
}

/// Connections one after the other on 16 tracks, which end in order, or by a reset of the client.
pub(crate) fn connects(door: SocketAddr, size: Size, reset: bool) -> Found {
    const TRACKS: usize = 16;
    let (each, began) = (size.of(250), Instant::now());
    let waited = each_track(TRACKS, move |track| async move {
        let mut waited = Vec::with_capacity(each);
        for number in 0..each {
            let asked = Instant::now();
            let mut stream = tokio::net::TcpStream::connect(door).await.expect("connecting");
            exchange(&mut stream, (track * each + number) as u64, 64).await;
            waited.push(asked.elapsed().as_secs_f64() * 1e6);
            if reset {
                stream.set_zero_linger().expect("a reset at the close");
            }
        }
        waited
    });
    found(waited, began)
}

/// Questions and answers of so many bytes, each connection as fast as it is answered. What opening them costs is not in it.
pub(crate) fn rounds(proxy: &Proxy, connections: usize, each: usize, bytes: usize) -> Found {
    let opened: Vec<_> = (0..connections).map(|_| Mutex::new(Some(opened(proxy.door)))).collect();
    let opened = Arc::new(opened);
    let (cpu, began) = (proxy.cpu(), Instant::now());
    let waited = each_track(connections, move |track| {
        let stream = opened[track].lock().expect("a lock").take().expect("opened once");
        rounds_on(stream, track, each, bytes)
    });
    Found { cpu: Some(proxy.cpu() - cpu), ..found(waited, began) }
}

async fn rounds_on(stream: TcpStream, track: usize, each: usize, bytes: usize) -> Vec<f64> {
    let mut stream = tokio::net::TcpStream::from_std(stream).expect("a stream for the runtime");
    let mut waited = Vec::with_capacity(each);
    for number in 0..each {
        let asked = Instant::now();
        exchange(&mut stream, (track * each + number) as u64, bytes).await;
        waited.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    waited
}

/// A connection whose other half is there, too: it has answered.
pub(crate) fn opened(door: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(door).expect("connecting");
    stream.set_nodelay(true).expect("nodelay");
    stream.write_all(&[1; 64]).expect("asking");
    stream.read_exact(&mut [0; 64]).expect("the answer");
    stream.set_nonblocking(true).expect("nonblocking");
    stream
}

fn found(mut waited: Vec<f64>, began: Instant) -> Found {
    let took_s = began.elapsed().as_secs_f64();
    let figures = super::latency::percentiles(&mut waited);
    Found { units: waited.len() as f64, took_s, figures, cpu: None }
}

fn each_track<F: Future<Output = Vec<f64>> + Send + 'static>(
    tracks: usize,
    work: impl Fn(usize) -> F,
) -> Vec<f64> {
    runtime().block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for track in 0..tracks {
            running.spawn(work(track));
        }
        let mut all = Vec::new();
        while let Some(outcome) = running.join_next().await {
            all.extend(outcome.expect("a client"));
        }
        all
    })
}

/// 64 bytes that no other number has.
pub(crate) fn message(number: u64) -> [u8; 64] {
    std::array::from_fn(|place| number.to_le_bytes()[place % 8] ^ (place & 0xff) as u8)
}

/// So many bytes there and back.
async fn exchange(stream: &mut tokio::net::TcpStream, number: u64, bytes: usize) {
    let question = message(number).repeat(bytes / 64);
    let mut answer = vec![0; question.len()];
    stream.write_all(&question).await.expect("asking");
    stream.read_exact(&mut answer).await.expect("the answer");
    assert_eq!(answer, question, "a wrong answer");
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

const BULK_BYTES: usize = 128 << 20;
const BLOCK: usize = 256 * 1024;
const PERIOD: usize = 251;
const DATAGRAM_LOST_AFTER: Duration = Duration::from_secs(1);
