//! Answers at a fixed rate: each question is due at its time whatever became of those before it, and its answer's time counts
//! from there. A proxy that stalls cannot hide it by being asked less.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use evenkeel::sys::poller::{Events, Poller};

use super::load;
use super::peers::Proxy;
use super::rows::{Found, Size};

/// So many connections, which together ask `RATE` times a second.
pub(crate) fn at_rate(door: SocketAddr, connections: usize, size: Size) -> Found {
    let questions = size.of(RATE * 2);
    let began = Instant::now();
    let mut waited = ask(door, connections, questions);
    let took_s = began.elapsed().as_secs_f64();
    Found { units: questions as f64, took_s, figures: percentiles(&mut waited), cpu: None }
}

/// The same beside four streams of bulk that go on until it is over.
pub(crate) fn mixed(door: SocketAddr, size: Size) -> Found {
    let stop = Arc::new(AtomicBool::new(false));
    let bulk: Vec<_> = (0..4)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || load::echo_until(door, &stop))
        })
        .collect();
    let mut found = at_rate(door, 64, size);
    stop.store(true, Ordering::Relaxed);
    let bytes: u64 = bulk.into_iter().map(|stream| stream.join().expect("a stream")).sum();
    found.figures.push(("bulk_gb_per_s", bytes as f64 / 1e9 / found.took_s));
    found
}

/// Many connections that say nothing: what they cost, against the proxy that has just begun, since memory is kept for the next.
pub(crate) fn idle(proxy: &Proxy, size: Size) -> Found {
    let count = size.of(8_000);
    let kernel_at_first = settled_kernel_bytes();
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(load::opened(proxy.door));
    }
    let bytes = proxy.private_kib().saturating_sub(proxy.at_first_kib) * 1024;
    let kernel = kernel_at_first.zip(kernel_bytes()).map(|(before, now)| now.saturating_sub(before));
    let (cpu, began) = (proxy.cpu(), Instant::now());
    std::thread::sleep(if size == Size::Smoke { Duration::from_millis(100) } else { Duration::from_secs(2) });
    let idle_s = began.elapsed().as_secs_f64();
    let cpu_ms = (proxy.cpu() - cpu).as_secs_f64() * 1e3 / idle_s;
    let mut figures = vec![("bytes", bytes as f64 / count as f64)];
    // The sockets of client and backend are in this, the same for every proxy.
    figures.extend(kernel.map(|kernel| ("total_bytes", (bytes + kernel) as f64 / count as f64)));
    figures.push(("idle_cpu_ms_per_s", cpu_ms));
    drop(held);
    Found { units: count as f64, took_s: idle_s, figures, cpu: None }
}

/// What the kernel's own objects take, sockets among them; only root may know.
fn kernel_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/slabinfo").ok()?;
    // name, active objects, all objects, size of one
    let of = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let active: u64 = words.next()?.parse().ok()?;
        Some(active * words.nth(1)?.parse::<u64>().ok()?)
    };
    Some(text.lines().skip(2).filter_map(of).sum())
}

/// The same when what the work before left has gone.
fn settled_kernel_bytes() -> Option<u64> {
    let (began, mut before) = (Instant::now(), kernel_bytes()?);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = kernel_bytes()?;
        if now + (1 << 18) >= before || began.elapsed() > LOST_AFTER {
            return Some(now);
        }
        before = now;
    }
}

struct Connection {
    stream: TcpStream,
    /// When each question that has no answer yet was due, the one that was sent first.
    due: VecDeque<Instant>,
    sent: u64,
    read: usize,
    answered: u64,
}

fn ask(door: SocketAddr, connections: usize, questions: usize) -> Vec<f64> {
    let (poller, mut events) = (Poller::new().expect("a poller"), Events::new());
    let mut all: Vec<Connection> = (0..connections)
        .map(|number| {
            let stream = TcpStream::connect(door).expect("connecting");
            stream.set_nodelay(true).expect("nodelay");
            stream.set_nonblocking(true).expect("nonblocking");
            poller.watch_input(&stream, number as u64).expect("watching");
            Connection { stream, due: VecDeque::new(), sent: 0, read: 0, answered: 0 }
        })
        .collect();
    let (began, mut asked, mut waited) = (Instant::now(), 0, Vec::with_capacity(questions));
    let due_at = |number: usize| began + Duration::from_secs_f64(number as f64 / RATE as f64);
    while waited.len() < questions {
        while asked < questions && due_at(asked) <= Instant::now() {
            let connection = &mut all[asked % connections];
            connection.due.push_back(due_at(asked));
            // One question at a time on a connection, as a client does.
            if connection.due.len() == 1 {
                connection.ask();
            }
            asked += 1;
        }
        let pause = if asked < questions {
            due_at(asked).saturating_duration_since(Instant::now())
        } else {
            LOST_AFTER
        };
        poller.wait(Some(pause), &mut events).expect("waiting");
        for event in events.iter() {
            let connection = &mut all[usize::try_from(event.token).expect("a number of ours")];
            connection.hear(&mut waited);
        }
        assert!(began.elapsed() < LOST_AFTER * 6, "answers are missing");
    }
    waited
}

impl Connection {
    fn ask(&mut self) {
        self.sent += 1;
        self.stream.write_all(&load::message(self.sent)).expect("asking");
    }

    fn hear(&mut self, waited: &mut Vec<f64>) {
        let mut answer = [0; 64];
        loop {
            match self.stream.read(&mut answer[self.read..]) {
                Ok(0) => panic!("the connection ended"),
                Ok(length) => {
                    let wanted = load::message(self.answered + 1);
                    assert_eq!(
                        answer[self.read..self.read + length],
                        wanted[self.read..self.read + length],
                        "a wrong answer"
                    );
                    self.read += length;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("reading: {error}"),
            }
            if self.read == answer.len() {
                self.read = 0;
                self.answered += 1;
                let due = self.due.pop_front().expect("it was asked");
                waited.push(due.elapsed().as_secs_f64() * 1e6);
                if !self.due.is_empty() {
                    self.ask();
                }
            }
        }
    }
}

/// In microseconds.
pub(crate) fn percentiles(waited: &mut [f64]) -> Vec<(&'static str, f64)> {
    waited.sort_by(f64::total_cmp);
    let at = |share: f64| waited[((waited.len() - 1) as f64 * share) as usize];
    vec![("p50_us", at(0.5)), ("p99_us", at(0.99)), ("p99.9_us", at(0.999))]
}

const RATE: usize = 5_000;
const LOST_AFTER: Duration = Duration::from_secs(10);
