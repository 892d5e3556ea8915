//! The work: clients and backends, on one thread each.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The two backends: one that echoes, one that swallows and tells how much it was.
pub(crate) struct Backends {
    echo: SocketAddr,
    datagrams: SocketAddr,
    bursts: SocketAddr,
    sink: SocketAddr,
}

impl Backends {
    pub(crate) fn start() -> Self {
        let sink = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let sink_address = sink.local_addr().expect("its address");
        thread::spawn(move || {
            for stream in sink.incoming().flatten() {
                thread::spawn(move || swallow(stream));
            }
        });
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            runtime().block_on(async {
                let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
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
            bursts: bursts_address,
            datagrams: told_datagrams.recv().expect("the datagram backend"),
            echo: told.recv().expect("the echo backend"),
            sink: sink_address,
        }
    }

    pub(crate) fn of(&self, row: &str) -> SocketAddr {
        match row {
            row if row.starts_with("bulk") => self.sink,
            row if row.starts_with("udp bursts") => self.bursts,
            row if row.starts_with("udp") => self.datagrams,
            _ => self.echo,
        }
    }
}

/// Four streams into the sink; in MB.
pub(crate) fn bulk(door: SocketAddr) -> f64 {
    let streams: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let block = vec![0x5au8; 256 * 1024];
                let mut stream = TcpStream::connect(door).expect("connecting");
                for _ in 0..BULK_BYTES / block.len() {
                    stream.write_all(&block).expect("sending");
                }
                stream.shutdown(std::net::Shutdown::Write).expect("finishing");
                let mut count = [0; 8];
                stream.read_exact(&mut count).expect("the sink's count");
                assert_eq!(u64::from_le_bytes(count), BULK_BYTES as u64, "bytes were lost");
            })
        })
        .collect();
    streams.into_iter().for_each(|stream| stream.join().expect("a stream"));
    4.0 * BULK_BYTES as f64 / 1e6
}

pub(crate) fn small_one(door: SocketAddr) -> f64 {
    rounds(door, 1, 20_000)
}

pub(crate) fn small_many(door: SocketAddr) -> f64 {
    rounds(door, 64, 600)
}

pub(crate) fn udp_one(door: SocketAddr) -> f64 {
    exchanges(door, 1, 20_000)
}

pub(crate) fn udp_many(door: SocketAddr) -> f64 {
    exchanges(door, 64, 500)
}

/// Datagrams that are answered by the same datagram, one at a time for each client.
fn exchanges(door: SocketAddr, clients: usize, each: usize) -> f64 {
    each_track(clients, move |track| async move {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        socket.connect(door).await.expect("connecting");
        for number in 0..each {
            let number = ((track * each + number) as u64).to_le_bytes();
            let question: [u8; 64] = std::array::from_fn(|place| number[place % 8] ^ place as u8);
            socket.send(&question).await.expect("asking");
            let mut answer = [0; 65];
            let heard = tokio::time::timeout(LOST_AFTER, socket.recv(&mut answer)).await;
            let length = heard.expect("a datagram was lost").expect("the answer");
            assert_eq!(answer[..length], question, "a wrong answer");
        }
    });
    (clients * each) as f64
}

/// Connections one after the other on 16 tracks.
pub(crate) fn connects(door: SocketAddr) -> f64 {
    const TRACKS: usize = 16;
    const EACH: usize = 250;
    each_track(TRACKS, move |track| async move {
        for number in 0..EACH {
            let mut stream = tokio::net::TcpStream::connect(door).await.expect("connecting");
            exchange(&mut stream, (track * EACH + number) as u64).await;
        }
    });
    (TRACKS * EACH) as f64
}

fn rounds(door: SocketAddr, connections: usize, each: usize) -> f64 {
    each_track(connections, move |track| async move {
        let mut stream = tokio::net::TcpStream::connect(door).await.expect("connecting");
        stream.set_nodelay(true).expect("nodelay");
        for number in 0..each {
            exchange(&mut stream, (track * each + number) as u64).await;
        }
    });
    (connections * each) as f64
}

fn each_track<F: Future<Output = ()> + Send + 'static>(tracks: usize, work: impl Fn(usize) -> F) {
    runtime().block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for track in 0..tracks {
            running.spawn(work(track));
        }
        while let Some(outcome) = running.join_next().await {
            outcome.expect("a client");
        }
    });
}

/// 64 bytes there and back.
async fn exchange(stream: &mut tokio::net::TcpStream, number: u64) {
    let question: [u8; 64] =
        std::array::from_fn(|place| number.to_le_bytes()[place % 8] ^ (place & 0xff) as u8);
    let mut answer = [0; 64];
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

const BULK_BYTES: usize = 128 << 20;
const LOST_AFTER: std::time::Duration = std::time::Duration::from_secs(10);
