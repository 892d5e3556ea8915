//! A DNS server of a test's own, by UDP and TCP, which answers each name as the test says, and misbehaves when it is told to.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a name is answered.
#[derive(Debug, Clone)]
pub enum Says {
    /// These, those of the type that is asked for.
    Addresses(Vec<IpAddr>),
    /// The same in another order each time.
    Shuffled(Vec<IpAddr>),
    /// So many of them, moving on each time.
    Rotating(Vec<IpAddr>, usize),
    /// Cut in a datagram, whole by TCP.
    ByTcp(Vec<IpAddr>),
    /// Cut in a datagram, and TCP is closed without a word.
    NoTcp,
    /// These services: priority, weight, port and host.
    Services(Vec<(u16, u16, u16, &'static str)>),
    /// This code, and nothing else.
    Code(u8),
    /// No record.
    Nothing,
    /// No answer.
    Silence,
    /// Bytes that mean nothing.
    Garbage,
    /// This address under another number.
    OtherNumber(IpAddr),
    /// This address for another name.
    OtherName(IpAddr),
}

/// The server.
pub struct Names {
    /// Where it answers.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<HashMap<String, Says>>,
    asked: AtomicUsize,
    stop: AtomicBool,
}

impl Names {
    /// Answers on loopback; every name is unknown.
    pub fn start() -> Self {
        let (stream, datagrams) = std::iter::repeat_with(|| {
            let stream = TcpListener::bind("127.0.0.1:0").unwrap();
            let datagrams = UdpSocket::bind(stream.local_addr().unwrap());
            (stream, datagrams)
        })
        .find_map(|(stream, datagrams)| Some((stream, datagrams.ok()?)))
        .unwrap();
        let address = stream.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        datagrams.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (by_datagram, by_stream) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || by_datagram.serve_datagrams(&datagrams)),
            std::thread::spawn(move || by_stream.serve_streams(&stream)),
        ];
        Self { address, shared, threads }
    }

    /// A name is answered so from now on.
    pub fn set(&self, name: &str, says: Says) {
        self.shared.names.lock().unwrap().insert(name.to_owned(), says);
    }

    /// A name has these addresses from now on.
    pub fn has(&self, name: &str, addresses: &[&str]) {
        self.set(name, Says::Addresses(addresses.iter().map(|ip| ip.parse().unwrap()).collect()));
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

impl Shared {
    fn serve_datagrams(&self, socket: &UdpSocket) {
        let mut question = [0; 512];
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut question)
                && let Some(answer) = self.answer(&question[..length], false)
            {
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    fn serve_streams(&self, listener: &TcpListener) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut length = [0; 2];
            let mut question = Vec::new();
            if stream.read_exact(&mut length).is_ok() {
                question.resize(usize::from(u16::from_be_bytes(length)), 0);
            }
            if stream.read_exact(&mut question).is_ok()
                && let Some(answer) = self.answer(&question, true)
            {
                let length = u16::try_from(answer.len()).unwrap();
                let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat());
            }
        }
    }

    fn answer(&self, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let turn = self.asked.fetch_add(1, Ordering::Relaxed);
        let mut at = 12;
        let mut labels = Vec::new();
        while question[at] != 0 {
            let length = usize::from(question[at]);
            labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
            at += 1 + length;
        }
        let wants_v4 = question[at + 2] == 1;
        let question = &question[..at + 5];
        let name = labels.join(".");
        let says = self.names.lock().unwrap().get(&name).cloned().unwrap_or(Says::Code(3));
        let message = |flags: u8, code: u8, all: &[IpAddr]| message(question, flags, code, all, wants_v4);
        match says {
            Says::Addresses(all) => Some(message(0, 0, &all)),
            Says::Shuffled(mut all) => {
                let places = all.len();
                all.rotate_left(turn * 7 % places);
                all.swap(0, turn % places);
                Some(message(0, 0, &all))
            }
            Says::Rotating(mut all, some) => {
                all.retain(|ip| ip.is_ipv4() == wants_v4);
                if !all.is_empty() {
                    // Both types are asked for, so each has every second turn.
                    let places = all.len();
                    all.rotate_left(turn / 2 * some % places);
                    all.truncate(some);
                }
                Some(message(0, 0, &all))
            }
            Says::ByTcp(all) if by_tcp => Some(message(0, 0, &all)),
            Says::ByTcp(_) => Some(message(2, 0, &[])),
            Says::NoTcp => (!by_tcp).then(|| message(2, 0, &[])),
            Says::Services(all) => Some(services(question, &all)),
            Says::Code(code) => Some(message(0, code, &[])),
            Says::Nothing => Some(message(0, 0, &[])),
            Says::Silence => None,
            Says::Garbage => Some(vec![0x5a; 60]),
            Says::OtherNumber(ip) => {
                let mut message = message(0, 0, &[ip]);
                message[0] ^= 1;
                Some(message)
            }
            Says::OtherName(ip) => {
                let mut message = message(0, 0, &[ip]);
                message[13] ^= 1;
                Some(message)
            }
        }
    }
}

fn services(question: &[u8], all: &[(u16, u16, u16, &str)]) -> Vec<u8> {
    let mut message = question[..2].to_vec();
    message.extend([0x85, 0x80, 0, 1]);
    message.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
    message.extend([0; 4]);
    message.extend(&question[12..]);
    for (priority, weight, port, host) in all {
        let mut data = [priority, weight, port].map(|number| number.to_be_bytes()).concat();
        for label in host.split('.').filter(|label| !label.is_empty()) {
            data.push(u8::try_from(label.len()).unwrap());
            data.extend(label.as_bytes());
        }
        data.push(0);
        message.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 1]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
    }
    message
}

fn message(question: &[u8], flags: u8, code: u8, all: &[IpAddr], wants_v4: bool) -> Vec<u8> {
    let all: Vec<&IpAddr> = all.iter().filter(|ip| ip.is_ipv4() == wants_v4).collect();
    let mut message = question[..2].to_vec();
    message.extend([0x85 | flags, 0x80 | code, 0, 1]);
    message.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
    message.extend([0; 4]);
    message.extend(&question[12..]);
    for ip in all {
        let (record_type, bytes) = match ip {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (28, ip.octets().to_vec()),
        };
        message.extend([0xc0, 12, 0, record_type, 0, 1, 0, 0, 0, 1, 0]);
        message.push(u8::try_from(bytes.len()).unwrap());
        message.extend(bytes);
    }
    message
}
