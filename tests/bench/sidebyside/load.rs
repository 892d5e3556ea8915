//! The work: clients and backends, on one thread each. Every byte that comes back is compared or counted: a wrong or missing
//! one ends the run.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peers::is_there;
use super::rows::{Found, Size};

/// The backends, at every address of the loopback network: one that echoes, one that swallows and tells how much it was, two
/// for datagrams, and a Redis where there is one.
pub(crate) struct Backends {
    redis: Option<Redis>,
    echo: SocketAddr,
    datagrams: SocketAddr,
    bursts: SocketAddr,
    sink: SocketAddr,
}

impl Backends {
    pub(crate) fn start() -> Self {
        let sink = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let sink_address = sink.local_addr().expect("its address");
        thread::spawn(move || {
            for stream in sink.incoming().flatten() {
                thread::spawn(move || swallow(stream));
            }
        });
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            runtime().block_on(async {
                let echo = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a free port");
                tell.send(echo.local_addr().expect("its address")).expect("somebody waits");
                loop {
                    let Ok((stream, _)) = echo.accept().await else { continue };
                    tokio::spawn(say_back(stream));
                }
            });
        });
        let (tell_datagrams, told_datagrams) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
            tell_datagrams.send(socket.local_addr().expect("its address")).expect("somebody waits");
            let mut datagram = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                let _ = socket.send_to(&datagram[..length], from);
            }
        });
        let bursts = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let bursts_address = bursts.local_addr().expect("its address");
        thread::spawn(move || crate::bursts::answer_bursts(&bursts));
        Self {
            redis: Redis::start(),
            bursts: bursts_address,
            datagrams: told_datagrams.recv().expect("the datagram backend"),
            echo: at_loopback(told.recv().expect("the echo backend")),
            sink: at_loopback(sink_address),
        }
    }

    pub(crate) fn of(&self, row: &str) -> SocketAddr {
        match row {
            row if row.starts_with("bulk one way") => self.sink,
            row if row.starts_with("redis") => self.redis.as_ref().map_or(self.echo, |redis| redis.address),
            row if row.starts_with("udp bursts") => self.bursts,
            row if row.starts_with("udp") => self.datagrams,
            _ => self.echo,
        }
    }

    pub(crate) fn has_redis(&self) -> bool {
        self.redis.is_some()
    }
}

/// A Redis of our own, gone with this.
struct Redis {
    child: std::process::Child,
    address: SocketAddr,
}

impl Redis {
    fn start() -> Option<Self> {
        if !is_there("redis-server") || !is_there("redis-benchmark") {
            return None;
        }
        let address = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?;
        let port = address.port().to_string();
        let child = std::process::Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .ok()?;
        let began = Instant::now();
        while TcpStream::connect(address).is_err() && began.elapsed() < LOST_AFTER {
            thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(Self { child, address })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// redis-benchmark's own figure.
pub(crate) fn redis(door: SocketAddr, size: Size) -> Found {
    let requests = size.of(40_000);
    let began = Instant::now();
    let output = std::process::Command::new("redis-benchmark")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &door.port().to_string(),
            "-n",
            &requests.to_string(),
            "-t",
            "get",
            "-q",
            "--csv",
        ])
        .output()
        .expect("running redis-benchmark");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().find(|line| line.starts_with("\"GET\"")).expect("its figure");
    let figure = |place: usize| -> f64 {
        said.split(',').nth(place).and_then(|word| word.trim_matches('"').parse().ok()).expect("a number")
    };
    let figures = vec![("requests_per_s", figure(1)), ("p50_ms", figure(4)), ("p99_ms", figure(6))];
    Found { units: requests as f64, took_s: began.elapsed().as_secs_f64(), figures }
}

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
    Found { units: mb, took_s, figures: vec![("gb_per_s", mb / 1e3 / took_s)] }
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
    assert!(answered.len() > lost.len(), "most datagrams were lost");
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

/// Questions and answers of so many bytes, each connection as fast as it is answered.
pub(crate) fn rounds(door: SocketAddr, connections: usize, each: usize, bytes: usize) -> Found {
    let began = Instant::now();
    let waited = each_track(connections, move |track| async move {
        let mut stream = tokio::net::TcpStream::connect(door).await.expect("connecting");
        stream.set_nodelay(true).expect("nodelay");
        let mut waited = Vec::with_capacity(each);
        for number in 0..each {
            let asked = Instant::now();
            exchange(&mut stream, (track * each + number) as u64, bytes).await;
            waited.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        waited
    });
    found(waited, began)
}

fn found(mut waited: Vec<f64>, began: Instant) -> Found {
    let took_s = began.elapsed().as_secs_f64();
    let figures = super::latency::percentiles(&mut waited);
    Found { units: waited.len() as f64, took_s, figures }
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

async fn say_back(mut stream: tokio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

fn swallow(mut stream: TcpStream) {
    let mut buffer = vec![0; 256 * 1024];
    let mut count = 0u64;
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        count += length as u64;
    }
    let _ = stream.write_all(&count.to_le_bytes());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn at_loopback(address: SocketAddr) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], address.port()))
}

const BULK_BYTES: usize = 128 << 20;
const BLOCK: usize = 256 * 1024;
const PERIOD: usize = 251;
const LOST_AFTER: std::time::Duration = std::time::Duration::from_secs(10);
const DATAGRAM_LOST_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
