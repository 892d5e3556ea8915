//! Answers that come faster than the link to the clients carries them: they wait within `udp.send_buffer`, and what does not
//! is counted.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use evenkeel::metrics::Drop as Dropped;

use crate::rig::*;

/// A client behind a link of 50 Mbit/s with room for 4 MB; tells how many of the answers it got.
fn client_behind_a_link(ready: &mpsc::Sender<String>, go: &mpsc::Receiver<SocketAddr>) -> usize {
    if !enter_network("") {
        ready.send(String::new()).unwrap();
        return 0;
    }
    let thread = rustix::thread::gettid().as_raw_nonzero();
    ready.send(format!("/proc/{}/task/{thread}/ns/net", std::process::id())).unwrap();
    let balancer = go.recv().unwrap();
    configure("ip addr add 10.78.0.2/24 dev client; ip link set client up");
    let socket = UdpSocket::bind("10.78.0.2:0").unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket.connect(balancer).unwrap();
    // The link may come up a little later.
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0; 2_000];
    eventually("the backend answers", || socket.send(b"hello").is_ok() && socket.recv(&mut answer).is_ok());
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    while socket.send(b"go").is_err() {}
    let mut numbers = HashSet::new();
    while let Ok(length) = socket.recv(&mut answer) {
        if length == 1_200 {
            let number = u32::from_be_bytes(answer[..4].try_into().unwrap());
            assert!(numbers.insert(number), "{number} came twice");
        }
    }
    numbers.len()
}

/// How many of 1,000 answers come, and how many are counted as dropped.
fn answers_that_come(send_buffer: &str) -> Option<(usize, u64)> {
    let ((ready, is_ready), (go, may_go)) = (mpsc::channel(), mpsc::channel());
    let client = std::thread::spawn(move || client_behind_a_link(&ready, &may_go));
    let network = is_ready.recv().unwrap();
    if network.is_empty() || !enter_network("") {
        return None;
    }
    configure(&format!(
        "ip link add server type veth peer name client; ip link set client netns {network}; \
         ip addr add 10.78.0.1/24 dev server; ip link set server up; \
         tc qdisc add dev server root tbf rate 50mbit burst 32kb limit 4mb"
    ));
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    let balancer = Balancer::start(&format!(
        "workers: 1\nshutdown: {{ grace: 0s }}\nlisteners: {{ door: {{ bind: '10.78.0.1:53', protocol: udp, \
         udp: {{ {send_buffer} }}, backends: ['{}'] }} }}",
        backend.local_addr().unwrap()
    ));
    let answering = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        loop {
            let (length, from) = backend.recv_from(&mut bytes).unwrap();
            if &bytes[..length] == b"go" {
                let mut answer = [7; 1_200];
                for number in 0..1_000_u32 {
                    answer[..4].copy_from_slice(&number.to_be_bytes());
                    backend.send_to(&answer, from).unwrap();
                    if number % 10 == 9 {
                        // 96 Mbit/s: what the balancer takes in time, and the link does not.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                return;
            }
            backend.send_to(b"hello", from).unwrap();
        }
    });
    go.send(balancer.address()).unwrap();
    let came = client.join().unwrap();
    answering.join().unwrap();
    let dropped = balancer.counters().shards.sum(|shard| shard.dropped(Dropped::SendBuffer).value());
    Some((came, dropped))
}

#[test]
fn nothing_is_lost_that_the_link_can_carry() {
    let here = std::thread::spawn(|| {
        let Some((came, dropped)) = answers_that_come("") else { return };
        assert_eq!((came, dropped), (1_000, 0), "answers of 1,000");
    });
    here.join().unwrap();
}

#[test]
fn what_a_small_buffer_cannot_hold_is_counted() {
    let here = std::thread::spawn(|| {
        let Some((came, dropped)) = answers_that_come("send_buffer: 64KiB") else { return };
        assert_eq!(came as u64 + dropped, 1_000);
        assert!(dropped > 0, "more fits into 64 KiB than should");
    });
    here.join().unwrap();
}
