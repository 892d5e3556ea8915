//! What stands behind the proxies: backends of our own, on one thread each, and real servers, started for the first row that
//! wants them.

use std::cell::OnceCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bursts::answer_bursts;
use super::load::runtime;
use super::programs::{self, Server};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Says back what it hears.
    Echo,
    /// Swallows a stream and tells how much it was.
    Sink,
    /// Says datagrams back.
    Datagrams,
    /// Answers a burst with as many datagrams.
    Bursts,
    /// Swallows bulk, and says all else back, datagrams too.
    Mixed,
    Redis,
    Postgres,
    /// Knot DNS.
    Names,
    /// A place for iperf3, which each of its runs fills anew.
    Iperf,
}

/// All of them.
pub(crate) struct Backends {
    echo: SocketAddr,
    sink: SocketAddr,
    datagrams: SocketAddr,
    bursts: SocketAddr,
    mixed: SocketAddr,
    redis: OnceCell<Option<Server>>,
    postgres: OnceCell<Option<Server>>,
    names: OnceCell<Option<Server>>,
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
        let (tell, told) = mpsc::channel();
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
        Self {
            echo: at_loopback(told.recv().expect("the echo backend")),
            sink: at_loopback(sink_address),
            datagrams: of_datagrams(say_datagrams_back),
            bursts: of_datagrams(answer_bursts),
            mixed: at_loopback(super::beside::backend()),
            redis: OnceCell::new(),
            postgres: OnceCell::new(),
            names: OnceCell::new(),
        }
    }

    /// Where it is; an error names the programs that are missing.
    pub(crate) fn address(&self, of: Backend) -> Result<SocketAddr, &'static str> {
        let server = |server: &Option<Server>, wanted| server.as_ref().map(Server::address).ok_or(wanted);
        match of {
            Backend::Echo => Ok(self.echo),
            Backend::Sink => Ok(self.sink),
            Backend::Datagrams => Ok(self.datagrams),
            Backend::Bursts => Ok(self.bursts),
            Backend::Mixed => Ok(self.mixed),
            Backend::Redis => {
                server(self.redis.get_or_init(programs::redis), "redis-server, redis-benchmark")
            }
            Backend::Postgres => server(self.postgres.get_or_init(programs::postgres), "postgresql, pgbench"),
            Backend::Names => server(self.names.get_or_init(programs::names), "knot, dnsperf"),
            Backend::Iperf => programs::place_of_iperf().ok_or("iperf3"),
        }
    }
}

fn of_datagrams(answer: fn(&UdpSocket)) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("its address");
    // Room for what 1,000 clients have on their way: what is lost is to be lost by the proxy.
    let _ = SockRef::from(&socket).set_recv_buffer_size(4 << 20);
    thread::spawn(move || answer(&socket));
    address
}

pub(crate) fn say_datagrams_back(socket: &UdpSocket) {
    let mut datagram = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        let _ = socket.send_to(&datagram[..length], from);
    }
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

fn at_loopback(address: SocketAddr) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], address.port()))
}
