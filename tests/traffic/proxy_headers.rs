//! PROXY headers of TCP: taken from listed peers and from no others, whatever they send; put in front of everything that
//! goes to the backend.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use evenkeel::metrics::Direction;
use evenkeel::proxy_protocol::{
    Addresses, Carried, Decoded, HEADER_BYTES_MAX, Transport, decode, encode_v1, encode_v2,
};
use evenkeel::reason::Reason;

use crate::ports::free_port;
use crate::rig::*;

/// A client's connection, as the header of the backend's tells it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    carried: Carried,
    tlvs: Vec<u8>,
}

/// Takes exactly the header off a stream.
fn read_header(stream: &mut TcpStream) -> Told {
    let mut bytes = Vec::new();
    loop {
        match decode(&bytes) {
            Decoded::Incomplete { missing } => {
                let from = bytes.len();
                bytes.resize(from + missing, 0);
                stream.read_exact(&mut bytes[from..]).unwrap();
            }
            Decoded::Header(header) => {
                assert_eq!(header.length, bytes.len());
                return Told { carried: header.carried, tlvs: header.tlvs.to_vec() };
            }
            Decoded::Malformed(malformed) => panic!("{malformed}: {bytes:?}"),
        }
    }
}

/// A script: takes a header, answers it as one line of text, and then sends back what comes.
fn tell_header(mut stream: TcpStream) {
    let told = read_header(&mut stream);
    let _ = stream.write_all(format!("{told:?}\n").as_bytes());
    echo(stream);
}

fn balancer(backend: &Backend, more: &str) -> Balancer {
    Balancer::start(&format!(
        "workers: 2\nlisteners:\n  door:\n    bind: '127.0.0.1:80'\n    backends: ['{}']\n    health: {{ check: off }}\n{more}",
        backend.address
    ))
}

/// Reads up to the end of a line.
fn line(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while text.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses::new(source.parse().unwrap(), destination.parse().unwrap())
}

fn proxied(source: SocketAddr, destination: SocketAddr) -> Carried {
    Carried::Proxy(Addresses::new(source, destination))
}

#[test]
fn a_header_is_taken_byte_for_byte_however_it_comes() {
    let backend = Backend::start(echo);
    let balancer = balancer(&backend, ACCEPTING);
    let both = addresses("192.0.2.7:50000", "198.51.100.1:443");
    let tlvs = [&[0xe0, 1, 0][..], &[7; 256]].concat();
    let headers = [
        encode_v1(Some(&both)),
        encode_v1(None),
        encode_v2(Some(&both), Transport::Stream, &tlvs),
        encode_v2(None, Transport::Stream, &[]),
        encode_v2(Some(&addresses("[2001:db8::1]:1", "[2001:db8::2]:2")), Transport::Stream, &[]),
    ];
    let mut sessions = 0;
    for header in &headers {
        // In one segment with what follows; alone; in pieces; byte by byte.
        for piece in [usize::MAX, header.len(), 7, 1] {
            let mut client = connect(balancer.address());
            let bytes = [&header[..], b"hello"].concat();
            for chunk in bytes.chunks(piece.min(bytes.len())) {
                client.write_all(chunk).unwrap();
                if piece == 7 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            let mut back = [0; 5];
            client.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"hello");
            exchange(&mut client, &pattern(300_000));
            sessions += 1;
        }
    }
    balancer.ends(Reason::ClientClosed, sessions);
    // Headers are not the client's bytes.
    assert_eq!(balancer.bytes(Direction::ToBackend), sessions * 300_005);
}

#[test]
fn a_server_that_speaks_first_is_heard_once_the_header_is_there() {
    let backend = Backend::start(|mut stream| {
        let _ = stream.write_all(b"220 hello\n");
        echo(stream);
    });
    let balancer = balancer(&backend, "    accept_proxy: 127.0.0.0/8\n    timeouts: { header: 1m }\n");
    let mut client = connect(balancer.address());
    client.write_all(&encode_v1(None)).unwrap();
    assert_eq!(line(&mut client), "220 hello\n");
    exchange(&mut client, b"and on");
}

#[test]
fn what_is_no_whole_header_in_time_ends_in_a_reset_before_any_backend_is_touched() {
    let backend = Backend::start(echo);
    let patient = balancer(&backend, ACCEPTING);
    let v2 = |behind: &[u8]| [&b"\r\n\r\n\0\r\nQUIT\n"[..], behind].concat();
    let mut wrong_checksum = encode_v2(Some(&addresses("1.2.3.4:5", "6.7.8.9:1")), Transport::Stream, &[]);
    *wrong_checksum.last_mut().unwrap() ^= 1;
    let broken = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\0".to_vec(),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".to_vec(),
        // 107 bytes without a line end, and not one more.
        [&b"PROXY UNKNOWN "[..], &[b'x'; 93]].concat(),
        // 65,535 claimed bytes; of an address block of 12 only 11; a version 1 and a command 2 of v2.
        v2(&[0x21, 0x11, 0xff, 0xff]),
        v2(&[0x21, 0x11, 0, 11]),
        v2(&[0x11]),
        v2(&[0x22]),
        v2(&[0x21, 0x11, 0, 13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
        wrong_checksum,
    ];
    let mut ended = 0;
    for bytes in &broken {
        let mut client = connect(patient.address());
        client.write_all(bytes).unwrap();
        let began = std::time::Instant::now();
        assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset), "{bytes:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "not at once: {bytes:?}");
        ended += 1;
    }
    // Closed in the middle, and before it began.
    for bytes in [&b"PROXY TCP4 1.2.3"[..], b""] {
        let mut client = connect(patient.address());
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), (Vec::new(), Outcome::Reset));
        ended += 1;
    }
    patient.ends(Reason::BadProxyHeader, ended);
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn the_time_for_a_header_is_that_of_the_whole_and_not_of_its_parts() {
    let backend = Backend::start(echo);
    let balancer = balancer(&backend, "    accept_proxy: 127.0.0.1\n    timeouts: { header: 1s }\n");
    let mut silent = connect(balancer.address());
    let mut slow = connect(balancer.address());
    let writer = slow.try_clone().unwrap();
    let dripping = std::thread::spawn(move || drip(writer));
    for client in [&mut silent, &mut slow] {
        assert_eq!(read_to_end(client), (Vec::new(), Outcome::Reset));
    }
    assert!(dripping.join().unwrap() < 107, "it was let finish");
    balancer.ends(Reason::BadProxyHeader, 2);
    assert_eq!(backend.accepted(), 0);
}

/// Sends a long header a byte at a time until nobody takes it; tells how many bytes were taken.
fn drip(mut stream: TcpStream) -> usize {
    let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 91], b"\r\n"].concat();
    for (sent, byte) in line.iter().enumerate() {
        if stream.write_all(&[*byte]).is_err() {
            return sent;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    line.len()
}

#[test]
fn a_peer_that_resets_within_its_header_has_reset() {
    let backend = Backend::start(echo);
    let balancer = balancer(&backend, ACCEPTING);
    let mut client = connect(balancer.address());
    client.write_all(b"PROXY TCP4").unwrap();
    becomes("a session", 1, || balancer.active());
    reset(client);
    balancer.ends(Reason::ClientReset, 1);
}

#[test]
fn a_header_from_a_network_that_is_not_listed_is_plain_bytes() {
    let backend = Backend::start(echo);
    let balancer = balancer(&backend, "    accept_proxy: [127.0.0.2, 192.0.2.0/24, '::/0']\n");
    let mut client = connect(balancer.address());
    exchange(&mut client, b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\r\nhello");
    exchange(&mut client, &encode_v2(None, Transport::Stream, &[]));
    drop(client);
    balancer.ends(Reason::ClientClosed, 1);
}

#[test]
fn the_greatest_header_passes_with_all_its_tlvs() {
    let backend = Backend::start(tell_header);
    let balancer = balancer(&backend, &format!("{ACCEPTING}    send_proxy: v2\n"));
    let both = addresses("192.0.2.7:50000", "198.51.100.1:443");
    let value = vec![9; HEADER_BYTES_MAX - 16 - 12 - 7 - 3];
    let tlvs = [&[0xe1][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), &value].concat();
    let header = encode_v2(Some(&both), Transport::Stream, &tlvs);
    assert_eq!(header.len(), HEADER_BYTES_MAX);
    let mut client = connect(balancer.address());
    client.write_all(&[&header[..], b"x"].concat()).unwrap();
    let checksum = &header[HEADER_BYTES_MAX - 7..];
    let expected = Told { carried: Carried::Proxy(both), tlvs: [&tlvs[..], checksum].concat() };
    assert_eq!(line(&mut client), format!("{expected:?}\n"));
    let mut back = [0];
    client.read_exact(&mut back).unwrap();
}

#[test]
fn the_backend_is_told_of_the_client_before_anything_else() {
    for version in ["v1", "v2"] {
        let backend = Backend::start(tell_header);
        let balancer = balancer(&backend, &format!("    send_proxy: {version}\n"));
        // Silent, talking at once, and half-closed at once.
        for kind in 0..3 {
            let mut client = connect(balancer.address());
            if kind > 0 {
                client.write_all(&pattern(200_000)).unwrap();
            }
            if kind == 2 {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let told = line(&mut client);
            let expected = proxied(client.local_addr().unwrap(), balancer.address());
            assert!(told.starts_with(&format!("Told {{ carried: {expected:?}")), "{told}");
            if kind > 0 {
                let mut back = vec![0; 200_000];
                client.read_exact(&mut back).unwrap();
                assert!(back == pattern(200_000));
            }
        }
        balancer.ends(Reason::ClientClosed, 3);
        assert_eq!(balancer.bytes(Direction::ToBackend), 400_000, "headers are not the client's");
    }
}

#[test]
fn a_connection_that_is_handed_on_is_handed_on_as_it_came() {
    let (v1, v2) = (Backend::start(tell_header), Backend::start(tell_header));
    let both = addresses("192.0.2.7:50000", "[2001:db8::1]:443");
    let ends = Carried::Proxy(both);
    let tlvs = [0x05, 0, 2, b'i', b'd'];
    let headers = [
        (encode_v1(Some(&both)), ends, &[][..]),
        (encode_v2(Some(&both), Transport::Stream, &tlvs), ends, &tlvs[..]),
        (encode_v1(None), Carried::Unknown, &[]),
        (encode_v2(None, Transport::Stream, &[]), Carried::Local, &[]),
    ];
    for (backend, version) in [(&v1, "v1"), (&v2, "v2")] {
        let balancer = balancer(backend, &format!("{ACCEPTING}    send_proxy: {version}\n"));
        for (header, carried, tlvs) in &headers {
            let mut client = connect(balancer.address());
            client.write_all(header).unwrap();
            let told = line(&mut client);
            let (carried, tlvs) = match (carried, version) {
                (Carried::Proxy(_), "v1") => (*carried, &[][..]),
                (Carried::Proxy(_), _) => (*carried, *tlvs),
                (_, "v1") => (Carried::Unknown, &[][..]),
                _ => (Carried::Local, &[][..]),
            };
            let with_tlvs = format!("{tlvs:?}");
            assert!(told.starts_with(&format!("Told {{ carried: {carried:?}")), "{told}");
            assert!(told.contains(with_tlvs.trim_end_matches(']')), "{told}");
        }
    }
}

#[test]
fn the_carried_client_is_the_one_that_is_hashed() {
    let backends: Vec<Backend> =
        ["a", "b", "c", "d"].into_iter().map(|name| Backend::start(answer_with(name))).collect();
    let list: Vec<String> = backends.iter().map(|backend| format!("'{}'", backend.address)).collect();
    let balancer = Balancer::start(&format!(
        "workers: 2\nlisteners: {{ door: {{ bind: '127.0.0.1:80', accept_proxy: 127.0.0.1, timeouts: {{ header: 1m }}, balance: source_hash, backends: [{}], health: {{ check: off }} }} }}",
        list.join(", ")
    ));
    let answer = |client: u8| {
        let mut stream = connect(balancer.address());
        let both = addresses(&format!("192.0.2.{client}:1"), "198.51.100.1:443");
        stream.write_all(&[&encode_v2(Some(&both), Transport::Stream, &[])[..], b"?"].concat()).unwrap();
        String::from_utf8(read_to_end(&mut stream).0).unwrap()
    };
    let first: Vec<String> = (0..40).map(answer).collect();
    assert!(first.iter().any(|name| *name != first[0]), "all clients of one peer at one backend");
    assert_eq!((0..40).map(answer).collect::<Vec<_>>(), first);
}

#[test]
fn a_retry_sends_the_header_to_the_backend_that_took_the_connection() {
    let backend = Backend::start(tell_header);
    let balancer = Balancer::start(&format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:80', send_proxy: v2, balance: first, backends: ['{}', '{}'], health: {{ check: off }} }} }}",
        closed_address(),
        backend.address
    ));
    let mut client = connect(balancer.address());
    let told = line(&mut client);
    assert!(told.contains(&client.local_addr().unwrap().to_string()), "{told}");
    assert_eq!(balancer.retries(), 1);
}

#[test]
fn talking_checks_say_that_they_are_the_balancer_itself() {
    for (version, expected) in [("v1", Carried::Unknown), ("v2", Carried::Local)] {
        // Up only for those that are what they should be; a client would be neither.
        let backend = Backend::start(move |mut stream| {
            let told = read_header(&mut stream);
            let mut asked = [0; 4];
            if stream.read_exact(&mut asked).is_ok() && told.carried == expected && &asked == b"PING" {
                let _ = stream.write_all(b"PONG");
            }
        });
        let other = Backend::start(|mut stream| {
            let mut asked = [0; 4];
            if stream.read_exact(&mut asked).is_ok() && &asked == b"PING" {
                let _ = stream.write_all(b"PONG");
            }
        });
        let balancer = Balancer::start(&format!(
            "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:80', pool: a }} }}\npools:\n  \
             a: {{ send_proxy: {version}, backends: ['{0}'], health: {{ check: {{ tcp: {{ send: PING, expect: PONG }} }}, timeout: 30s, interval: 100ms }} }}\n  \
             b: {{ send_proxy: {version}, backends: ['{0}'], health: {{ check: {{ tcp: {{ send: PING, expect: PONG }} }}, timeout: 30s, port: {1}, interval: 100ms }} }}",
            backend.address,
            other.address.port()
        ));
        let good = |pool: usize| {
            let backend = &balancer.server().snapshots().load().pools[pool].backends[0];
            (backend.checks.good.value(), backend.checks.bad.value())
        };
        eventually("both are asked", || good(0).0 >= 2 && good(1).0 >= 2);
        assert_eq!((good(0).1, good(1).1), (0, 0), "{version}");
    }
}

#[test]
fn the_log_line_has_client_and_peer_and_says_what_was_wrong() {
    let backend = Backend::start(echo);
    let start = |header: &str| {
        Program::start(&format!(
            "workers: 1\nlog: {{ format: json, sessions: all }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', accept_proxy: 127.0.0.1, timeouts: {{ header: {header} }}, backends: ['{}'], health: {{ check: off }} }} }}",
            backend.address
        ))
    };
    let (patient, hasty) = (start("1m"), start("100ms"));
    let mut client = connect(patient.address());
    let peer = client.local_addr().unwrap().to_string();
    let both = addresses("192.0.2.7:50000", "198.51.100.1:443");
    client.write_all(&encode_v1(Some(&both))).unwrap();
    exchange(&mut client, b"x");
    drop(client);
    eventually("its line", || patient.session_lines().len() == 1);
    let line = &patient.session_lines()[0];
    assert_eq!((line["client"].as_str(), line["peer"].as_str()), (Some("192.0.2.7:50000"), Some(&*peer)));
    assert_eq!(line["reason"], "client_closed");
    let mut broken = connect(patient.address());
    broken.write_all(b"PROXY TCP9 \r\n").unwrap();
    let mut late = connect(hasty.address());
    for (program, client, lines, error) in [
        (&patient, &mut broken, 2, "PROXY v1: the protocol is none of TCP4, TCP6, UNKNOWN"),
        (&hasty, &mut late, 1, "the PROXY header was not whole within timeouts.header"),
    ] {
        assert_eq!(read_to_end(client).1, Outcome::Reset);
        eventually("its line", || program.session_lines().len() == lines);
        let line = &program.session_lines()[lines - 1];
        assert_eq!(
            (line["reason"].as_str(), line["error"].as_str()),
            (Some("bad_proxy_header"), Some(error))
        );
        assert_eq!(line["client"], client.local_addr().unwrap().to_string());
        assert!(line["peer"].is_null(), "the peer is the client");
    }
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out_and_leaves_nothing_behind() {
    const CROWD: usize = 1_000;
    let backend = Backend::start(echo);
    let balancer = balancer(&backend, "    accept_proxy: 127.0.0.1\n    timeouts: { header: 10s }\n");
    let crowd: Vec<TcpStream> = (0..CROWD)
        .map(|number| {
            let mut silent = connect(balancer.address());
            silent.write_all(&b"PROXY TCP4 192.0.2.1"[..number % 20]).unwrap();
            silent
        })
        .collect();
    let mut client = connect(balancer.address());
    client.write_all(&encode_v1(None)).unwrap();
    exchange(&mut client, b"served meanwhile");
    assert_eq!(backend.accepted(), 1);
    drop(client);
    for mut silent in crowd {
        assert_eq!(read_to_end(&mut silent), (Vec::new(), Outcome::Reset));
    }
    becomes("ends", CROWD as u64, || balancer.ended(Reason::BadProxyHeader));
    balancer.settles();
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn a_new_file_turns_headers_on_and_off() {
    let backend = Backend::start(echo);
    let port = free_port();
    let file = |more: &str| {
        format!(
            "workers: 2\nlisteners: {{ door: {{ bind: '127.0.0.1:{port}', {more} backends: ['{}'], health: {{ check: off }} }} }}",
            backend.address
        )
    };
    let balancer = Balancer::start(&file(""));
    // What an echo sends back of a line of UNKNOWN and a word shows who has taken or put what.
    let seen = || {
        let mut client = connect(balancer.address());
        client.write_all(b"PROXY UNKNOWN\r\nword").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        String::from_utf8(read_to_end(&mut client).0).unwrap()
    };
    let mut living = connect(balancer.address());
    exchange(&mut living, b"before");
    for (more, expected) in [
        ("accept_proxy: 127.0.0.1, timeouts: { header: 1m },", "word"),
        ("accept_proxy: 127.0.0.1, timeouts: { header: 1m }, send_proxy: v1,", "PROXY UNKNOWN\r\nword"),
        ("", "PROXY UNKNOWN\r\nword"),
    ] {
        balancer.reload(&file(more)).unwrap();
        eventually("the new file holds on every thread", || (0..8).all(|_| seen() == expected));
    }
    exchange(&mut living, b"PROXY UNKNOWN\r\nafter");
}

#[test]
fn the_peer_is_judged_by_deny_and_the_carried_client_by_everything() {
    let backend = Backend::start(echo);
    // (what stands in the file, the client in the header, how a session ends)
    let cases = [
        ("deny: [192.0.2.0/24],", Some("192.0.2.1:1"), Reason::Denied),
        ("deny: [192.0.2.0/24],", Some("198.51.100.1:1"), Reason::ClientClosed),
        ("deny: [192.0.2.0/24],", None, Reason::ClientClosed),
        // The peer itself need not be allowed, but must not be denied.
        ("allow: [192.0.2.0/24],", Some("192.0.2.1:1"), Reason::ClientClosed),
        ("allow: [192.0.2.0/24],", Some("198.51.100.1:1"), Reason::Denied),
        ("allow: [192.0.2.0/24],", None, Reason::ClientClosed),
        ("allow: [192.0.2.0/24], deny: [127.0.0.0/8],", Some("192.0.2.1:1"), Reason::Denied),
        ("allow: [192.0.2.0/24], deny: [127.0.0.0/8],", None, Reason::Denied),
    ];
    for (lists, source, expected) in cases {
        let balancer = Balancer::start(&format!(
            "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:80', accept_proxy: 127.0.0.1, timeouts: {{ header: 1m }}, {lists} backends: ['{}'], health: {{ check: off }} }} }}",
            backend.address
        ));
        let mut client = connect(balancer.address());
        let both = source.map(|source| addresses(source, "198.51.100.9:443"));
        // A peer that is denied is reset before it has said anything.
        let _ = client.write_all(&encode_v1(both.as_ref()));
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
        balancer.ends(expected, 1);
    }
}

#[test]
fn limits_of_a_source_are_those_of_the_carried_client() {
    let backend = Backend::start(echo);
    let balancer = Balancer::start(&format!(
        "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:80', accept_proxy: 127.0.0.1, timeouts: {{ header: 1m }}, limits: {{ sessions_per_source: 1 }}, backends: ['{}'], health: {{ check: off }} }} }}",
        backend.address
    ));
    let come = |number: u8| {
        let mut client = connect(balancer.address());
        client
            .write_all(&encode_v1(Some(&addresses(&format!("192.0.2.{number}:1"), "198.51.100.9:443"))))
            .unwrap();
        client
    };
    let mut served: Vec<TcpStream> = (0..10).map(come).collect();
    served.iter_mut().for_each(|client| exchange(client, b"x"));
    let mut second = come(3);
    assert_eq!(read_to_end(&mut second), (Vec::new(), Outcome::Reset));
    assert_eq!(balancer.ended(Reason::LimitSessionsPerSource), 1);
    drop(served);
    becomes("places", 0, || balancer.active());
    exchange(&mut come(3), b"x");
}

/// Patient, so that no slow machine is late.
const ACCEPTING: &str = "    accept_proxy: 127.0.0.1\n    timeouts: { header: 1m }\n";
