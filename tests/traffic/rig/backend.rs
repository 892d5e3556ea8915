//! Backends that do what a test tells them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustix::net::{Shutdown, shutdown};
use socket2::{Domain, SockFilter, Socket, Type};

use super::{DEADLINE, eventually};
use crate::ports::free_port;

/// A listening socket whose connections each run the script on a thread of their own.
pub struct Backend {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    living: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    listener: Option<Arc<TcpListener>>,
    accepting: Option<JoinHandle<()>>,
}

impl Backend {
    pub fn start(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", script)
    }

    /// At an address of one's own choice.
    pub fn start_at(address: &str, script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = listen_at(address.parse().unwrap());
        let mut backend = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            living: Arc::default(),
            most: Arc::default(),
            stopping: Arc::default(),
            listener: Some(Arc::clone(&listener)),
            accepting: None,
        };
        let (accepted, living, most) =
            (Arc::clone(&backend.accepted), Arc::clone(&backend.living), Arc::clone(&backend.most));
        let script = Arc::new(script);
        let stopping = Arc::clone(&backend.stopping);
        backend.accepting = Some(std::thread::spawn(move || {
            // Shutting the listener down ends the blocking accept.
            while let Ok((stream, _)) = listener.accept() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.set_write_timeout(Some(DEADLINE)).unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let now = living.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                let (script, living) = (Arc::clone(&script), Alive(Arc::clone(&living)));
                std::thread::Builder::new()
                    .stack_size(256 * 1024)
                    .spawn(move || {
                        let living = living;
                        script(stream);
                        drop(living);
                    })
                    .unwrap();
            }
        }));
        backend
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many run now.
    pub fn living(&self) -> usize {
        self.living.load(Ordering::SeqCst)
    }

    /// The most that ever ran at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Stops listening; connections in its queue are lost.
    pub fn stop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.take() {
            let _ = shutdown(&listener, Shutdown::Both);
        }
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
    }

    /// Stops listening without losing anyone: new SYNs are dropped first, then what had come through is taken.
    pub fn stop_gently(&mut self) {
        if let Some(listener) = &self.listener {
            let socket = socket2::SockRef::from(&**listener);
            // Drops segments with SYN set: byte 13 of the TCP header holds the flags.
            let filter = [
                SockFilter::new(0x30, 0, 0, 13),
                SockFilter::new(0x45, 0, 1, 0x02),
                SockFilter::new(0x06, 0, 0, 0),
                SockFilter::new(0x06, 0, 0, u32::MAX),
            ];
            socket.attach_filter(&filter).unwrap();
            let port = self.address.port();
            eventually("the handshakes under way are over", || !has_handshakes(port));
            // `tcp_info` of a listener counts its queue; an empty one has been taken by the accepting thread.
            eventually("the accept queue is empty", || queue_length(port) == 0);
        }
        self.stop();
    }
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A backend that a test can take away and bring back at the same address.
pub struct Switch {
    pub address: SocketAddr,
    script: Arc<dyn Fn(TcpStream) + Send + Sync>,
    backend: Option<Backend>,
    accepted_before: usize,
}

impl Switch {
    pub fn start(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let script: Arc<dyn Fn(TcpStream) + Send + Sync> = Arc::new(script);
        let run = Arc::clone(&script);
        let backend = Backend::start(move |stream| run(stream));
        Self { address: backend.address, script, backend: Some(backend), accepted_before: 0 }
    }

    pub fn off(&mut self) {
        if let Some(mut backend) = self.backend.take() {
            backend.stop_gently();
            self.accepted_before += backend.accepted();
        }
    }

    pub fn on(&mut self) {
        let run = Arc::clone(&self.script);
        self.backend = Some(Backend::start_at(&self.address.to_string(), move |stream| run(stream)));
    }

    pub fn accepted(&self) -> usize {
        self.accepted_before + self.backend.as_ref().map_or(0, Backend::accepted)
    }
}

/// A listener whose queue is full: the kernel drops every further SYN, so a connect is never answered.
pub struct Silent {
    pub address: SocketAddr,
    listener: Socket,
    fillers: Vec<TcpStream>,
}

impl Silent {
    pub fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        // A backlog of 0 holds one connection.
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fillers = vec![TcpStream::connect(address).unwrap()];
        Self { address, listener, fillers }
    }

    /// Answers from now on: takes what waits, and gives the next connection.
    pub fn wake(mut self) -> TcpStream {
        let filler = self.fillers[0].local_addr().unwrap();
        loop {
            let (stream, peer) = self.listener.accept().unwrap();
            if peer.as_socket() == Some(filler) {
                self.fillers.clear();
                continue;
            }
            let stream = TcpStream::from(stream);
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            return stream;
        }
    }
}

/// A backend that accepts and keeps, on one thread for all connections.
pub struct Keeper {
    pub address: SocketAddr,
    listener: Arc<TcpListener>,
    kept: Arc<AtomicUsize>,
    keeping: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start() -> Self {
        let listener = listen_at("127.0.0.1:0".parse().unwrap());
        let address = listener.local_addr().unwrap();
        let (kept, accepting) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&listener));
        let count = Arc::clone(&kept);
        let keeping = std::thread::spawn(move || {
            let mut streams = Vec::new();
            while let Ok((stream, _)) = accepting.accept() {
                streams.push(stream);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, listener, kept, keeping: Some(keeping) }
    }

    /// Connections it holds.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::SeqCst)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = shutdown(&self.listener, Shutdown::Both);
        if let Some(keeping) = self.keeping.take() {
            let _ = keeping.join();
        }
    }
}

/// An address where nobody listens.
pub fn closed_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// A script: sends back what comes, until the end.
pub fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// A script: reads one byte, answers a word, finishes.
pub fn answer_with(word: &'static str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            let _ = stream.write_all(word.as_bytes());
        }
    }
}

/// With a long queue: a full one would leave clients connected to nobody.
fn listen_at(address: SocketAddr) -> Arc<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(4_096).unwrap();
    Arc::new(TcpListener::from(socket))
}

fn has_handshakes(port: u16) -> bool {
    tcp_table().any(|(local, state, _)| local == port && state == SYN_RECEIVED)
}

fn queue_length(port: u16) -> usize {
    tcp_table()
        .find(|(local, state, _)| *local == port && *state == LISTENING)
        .map_or(0, |(_, _, queue)| queue)
}

/// Local port, state and receive queue of every IPv4 socket; the receive queue of a listener is its accept queue.
fn tcp_table() -> impl Iterator<Item = (u16, u8, usize)> {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows: Vec<_> = text.lines().skip(1).filter_map(row).collect();
    rows.into_iter()
}

fn row(line: &str) -> Option<(u16, u8, usize)> {
    let mut fields = line.split_whitespace().skip(1);
    let port = u16::from_str_radix(fields.next()?.rsplit_once(':')?.1, 16).ok()?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let queue = usize::from_str_radix(fields.next()?.rsplit_once(':')?.1, 16).ok()?;
    Some((port, state, queue))
}

const SYN_RECEIVED: u8 = 3;
const LISTENING: u8 = 10;
