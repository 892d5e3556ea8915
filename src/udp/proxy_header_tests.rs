//! Headers in the middle of what came as one.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::super::{BatchSize, Door, Origins, SharedPorts};
use super::*;
use crate::access::TrustedProxies;
use crate::config::settings::{Cidr, LogSessions};
use crate::flow::Flows;
use crate::limits::SessionLimits;
use crate::sys::udp;
use crate::sys::udp_batch::Batch;
use crate::sys::udp_probe::Offloads;
use crate::thread_context::trial::Trial;

#[test]
fn headers_are_taken_off_what_was_merged_before_a_reload() {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    backend.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = backend.local_addr().unwrap().port();
    let trial = Trial::new(&format!("protocol: udp, backends: ['127.0.0.1:{port}']"));
    let mut cx = trial.cx();
    let terms = |proxies: &[IpAddr]| {
        let given = manifest::FlowTerms {
            listener: "door".into(),
            pool: "door".into(),
            idle_ms: Some(60_000),
            lifetime_ms: None,
            responses: 0,
            requests: 0,
            log_sessions: "off".into(),
        };
        let limits = Arc::new(SessionLimits::new(None, None, None));
        let before =
            Terms::of_before(&given, LogSessions::Off, Arc::clone(&trial.counters), &trial.live, limits);
        let proxies: Vec<_> = proxies.iter().map(|ip| Cidr { ip: *ip, bits: 32 }).collect();
        Arc::new(Terms { proxies: Arc::new(TrustedProxies::new(&proxies, &[])), ..before })
    };
    let origins = Origins::new(Arc::new(SharedPorts::new((40_000, 60_000), 1)), 0, 1, false);
    let offloads = Offloads { merging: Ok(()), splitting: Ok(()) };
    let mut pump = Pump::new(Flows::new([3; 16], cx.now_ms()), origins, offloads);
    let fd = udp::bind_door(Some([127, 0, 0, 1].into()), 0, false).unwrap();
    let address = crate::sys::tcp::local_address(fd.as_fd()).unwrap();
    let (ip, number) = (Some(address.ip()), 0);
    let (batch_size, terms_before) = (BatchSize::default(), terms(&[]));
    let door = Door {
        id: 1,
        number,
        fd,
        ip,
        port: address.port(),
        is_dual: false,
        terms: terms_before,
        lost_seen: 0,
        batch_size,
    };
    pump.open(door, &cx);

    // Three datagrams of one size leave as one, and wait as one.
    let client: SocketAddr = "203.0.113.9:4711".parse().unwrap();
    let header = proxy_protocol::encode_v2(Some(&Addresses::new(client, address)), Transport::Datagram, &[]);
    let text: Vec<u8> =
        [b"one ", b"two ", b"more"].iter().flat_map(|word| [&header[..], &word[..]].concat()).collect();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut batch = Batch::new(1);
    let empty = Outgoing { slot: 0, start: 0, length: 0, to: Some(address), from: None, part: None, mark: 0 };
    let whole = batch.compose(&text, &empty).unwrap();
    let part = u16::try_from(header.len() + 4).ok();
    assert_eq!(batch.send(sender.as_fd(), &[Outgoing { part, ..whole }]), Ok(1));

    // It is the reload that says who may send headers.
    pump.renew(1, &terms(&["127.0.0.1".parse().unwrap()]));
    pump.on_door_ready(0, &mut cx);
    let mut buffer = [0; 200];
    for expected in ["one ", "two ", "more"] {
        let length = backend.recv(&mut buffer).unwrap();
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
    }
    let counts = trial.counters.shards.of(0);
    assert_eq!(counts.datagrams(Direction::ToBackend).value(), 3);
    assert_eq!(pump.sides.iter().flatten().map(Side::origin).collect::<Vec<_>>(), [client]);
}
