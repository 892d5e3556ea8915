//! Routes of a listener: who goes where by what TLS says, by network and by port; what is refused; and that every byte of the
//! first message comes to the backend as it was sent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use evenkeel::reason::Reason;
use tokio_rustls::rustls;

use super::ports::free_port;
use super::rig::{
    Backend, Balancer, DEADLINE, Outcome, Program, becomes, connect, echo, eventually, is_turned_away,
    read_to_end,
};

/// What real programs send, by the name of each.
pub(crate) fn hellos() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/hellos");
    let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hello"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    assert!(all.len() > 9);
    all.push(("rustls".to_owned(), rustls_hello("name.example.org")));
    all
}

/// What rustls says to a server of this name.
pub(crate) fn rustls_hello(name: &str) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Says its name, and sends back what comes.
fn named(name: &'static str) -> Backend {
    Backend::start(move |mut stream| {
        let _ = stream.write_all(name.as_bytes());
        echo(stream);
    })
}

fn yaml(keys: &str, pools: &[(&str, &Backend)]) -> String {
    let pools: Vec<String> = pools
        .iter()
        .map(|(name, backend)| {
            format!("{name}: {{ backends: ['{}'], health: {{ check: off }} }}", backend.address)
        })
        .collect();
    format!(
        "workers: 2\nlisteners: {{ tls: {{ bind: '127.0.0.1:PORT', {keys} }} }}\npools: {{ {} }}",
        pools.join(", ")
    )
}

fn balancer(keys: &str, pools: &[(&str, &Backend)]) -> Balancer {
    Balancer::start(&yaml(keys, pools).replace("PORT", "80"))
}

/// One byte of the name of the backend, and that what was sent comes back.
fn reached(mut stream: TcpStream, sent: &[u8]) -> char {
    let mut name = [0];
    stream.read_exact(&mut name).unwrap();
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == sent, "the backend got other bytes than were sent");
    char::from(name[0])
}

fn goes(to: SocketAddr, first: &[u8]) -> char {
    let mut stream = connect(to);
    stream.write_all(first).unwrap();
    reached(stream, first)
}

const ROUTES: &str =
    "routes: [{ sni: name.example.org, pool: a }, { sni: '*.example.org', pool: b }], pool: c, ";

#[test]
fn hellos_of_real_programs_go_where_they_say_however_they_come() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let balancer = balancer(ROUTES, &[("a", &a), ("b", &b), ("c", &c)]);
    for (program, hello) in hellos() {
        let wanted = if program == "openssl-no-sni" { 'c' } else { 'a' };
        assert_eq!(goes(balancer.address(), &hello), wanted, "{program}");
        for each in [1, 7, 300] {
            let mut stream = connect(balancer.address());
            for piece in hello.chunks(each) {
                stream.write_all(piece).unwrap();
            }
            assert_eq!(reached(stream, &hello), wanted, "{program} in pieces of {each}");
        }
    }
    assert_eq!(goes(balancer.address(), &rustls_hello("Other.Example.Org")), 'b');
    assert_eq!(goes(balancer.address(), &rustls_hello("example.org")), 'c');
    // No TLS at all, for which there is the pool of the listener.
    assert_eq!(goes(balancer.address(), b"SSH-2.0-OpenSSH_9.2\r\n"), 'c');
}

/// A hello of so many bytes in records of so many.
fn long_hello(bytes: usize, each: usize) -> Vec<u8> {
    let short = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let sni = b"\x00\x00\x00\x15\x00\x13\x00\x00\x10name.example.org";
    let padding = bytes - 4 - 43 - 4 - 2 - sni.len();
    let extensions = [&[0, 21][..], &short(padding), &vec![0; padding], sni].concat();
    let body =
        [&[3, 3][..], &[7; 32], &[0, 0, 4, 0x13, 1, 0x13, 2, 1, 0], &short(extensions.len()), &extensions]
            .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    message.chunks(each).flat_map(|piece| [&[22, 3, 1][..], &short(piece.len()), piece].concat()).collect()
}

#[test]
fn a_hello_may_be_as_long_as_64_kib() {
    let (a, b) = (named("a"), named("b"));
    let balancer = balancer(
        "routes: [{ sni: name.example.org, pool: a }], pool: b, timeouts: { first: 20s }, ",
        &[("a", &a), ("b", &b)],
    );
    for (bytes, each) in [(40_000, 16_384), (65_000, 16_384), (50_000, 100), (8_000, 1)] {
        let hello = long_hello(bytes, each);
        let mut stream = connect(balancer.address());
        let mut writer = stream.try_clone().unwrap();
        let sent = hello.clone();
        let writing =
            std::thread::spawn(move || sent.chunks(1_400).for_each(|piece| writer.write_all(piece).unwrap()));
        let mut name = [0];
        stream.read_exact(&mut name).unwrap();
        assert_eq!(name, *b"a", "{bytes} in records of {each}");
        let mut back = vec![0; hello.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == hello);
        writing.join().unwrap();
    }
    // Longer ones, and those that would be.
    for hello in [long_hello(65_400, 1_000), long_hello(20_000, 1)] {
        let mut stream = connect(balancer.address());
        let _ = stream.write_all(&hello);
        assert!(matches!(read_to_end(&mut stream).1, Outcome::Reset));
    }
    becomes("both are counted", 2, || balancer.ended(Reason::BadFirstMessage));
    assert_eq!(b.accepted(), 0);
}

#[test]
fn who_says_nothing_or_nonsense_is_refused_and_reaches_nobody() {
    let a = named("a");
    let balancer =
        balancer("routes: [{ sni: name.example.org, pool: a }], timeouts: { first: 300ms }, ", &[("a", &a)]);
    let refused = |what: &str, first: &[u8], finishes: bool| {
        let mut stream = connect(balancer.address());
        stream.write_all(first).unwrap();
        if finishes {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        assert!(matches!(read_to_end(&mut stream).1, Outcome::Reset), "{what}");
    };
    let hello = rustls_hello("name.example.org");
    refused("another name", &rustls_hello("other.example.org"), false);
    refused("no TLS", b"GET / HTTP/1.1\r\n\r\n", false);
    becomes("no route", 2, || balancer.ended(Reason::NoRoute));
    refused("nothing", &[], false);
    refused("half", &hello[..hello.len() - 1], false);
    refused("half and an end", &hello[..50], true);
    refused("an end", &[], true);
    becomes("no first message", 4, || balancer.ended(Reason::NoFirstMessage));
    refused("SSLv2", &[0x80, 0x2e, 1, 3, 1, 0, 21, 0, 0, 0, 16], false);
    refused("an empty record", &[22, 3, 1, 0, 0], false);
    refused("another message", &[22, 3, 1, 0, 5, 2, 0, 0, 1, 0], false);
    becomes("broken", 3, || balancer.ended(Reason::BadFirstMessage));
    becomes("all are gone", 0, || balancer.active());
    assert_eq!(a.accepted(), 0);
    // One byte at a time, for longer than there is.
    let mut slow = connect(balancer.address());
    let began = std::time::Instant::now();
    for byte in hello.iter().cycle() {
        if slow.write_all(&[*byte]).is_err() || began.elapsed() > DEADLINE {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() < DEADLINE / 2);
    becomes("it was late", 5, || balancer.ended(Reason::NoFirstMessage));
}

#[test]
fn network_and_port_decide_without_a_word() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let (first, second) = (free_port(), free_port());
    let yaml = yaml(
        &format!(
            "routes: [{{ port: {second}, from: [127.0.0.2], pool: a }}, {{ port: {second}, pool: b }}], pool: c, "
        ),
        &[("a", &a), ("b", &b), ("c", &c)],
    );
    let yaml = yaml.replace("'127.0.0.1:PORT'", &format!("['127.0.0.1:{first}', '127.0.0.1:{second}']"));
    let balancer = Balancer::start(&yaml);
    let name = |from: &str, port: u16| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&format!("{from}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        reached(socket.into(), b"")
    };
    assert_eq!(
        [name("127.0.0.2", second), name("127.0.0.1", second), name("127.0.0.2", first)],
        ['a', 'b', 'c']
    );
    drop(balancer);
}

/// What a UDP client hears.
fn told(to: SocketAddr, from: &str) -> Option<u8> {
    let socket = UdpSocket::bind(format!("{from}:0")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.connect(to).unwrap();
    let mut answer = [0; 9];
    (0..10).find_map(|_| {
        socket.send(b"x").unwrap();
        socket.recv(&mut answer).ok().map(|_| answer[0])
    })
}

#[test]
fn flows_go_by_network_and_port_too() {
    let answering = |name: u8| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 99];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&[name], from);
            }
        });
        address
    };
    let (a, b) = (answering(b'a'), answering(b'b'));
    let balancer = Balancer::start(&format!(
        "listeners: {{ games: {{ bind: '127.0.0.1:80', protocol: udp, routes: [{{ from: 127.0.0.2, pool: a }}, {{ from: 127.0.0.3/32, pool: b }}] }} }}
pools: {{ a: {{ backends: ['{a}'] }}, b: {{ backends: ['{b}'] }} }}"
    ));
    let heard = ["127.0.0.2", "127.0.0.3"].map(|from| told(balancer.address(), from));
    assert_eq!(heard, [Some(b'a'), Some(b'b')]);
    let lost = UdpSocket::bind("127.0.0.4:0").unwrap();
    lost.send_to(b"x", balancer.address()).unwrap();
    becomes("nobody is for it", 1, || balancer.ended(Reason::NoRoute));
    becomes("and it is counted", 1, || {
        balancer.counters().shards.sum(|shard| shard.dropped(evenkeel::metrics::Drop::NoRoute).value())
    });
}

#[test]
fn half_a_hello_and_a_route_outlive_the_process_and_a_reload_concerns_the_next() {
    let (a, b) = (named("a"), named("b"));
    let keys = "log_sessions: all, routes: [{ sni: name.example.org, pool: a }, { sni: '*', pool: b }], timeouts: { first: 60s }, ";
    let program = Program::start(&yaml(keys, &[("a", &a), ("b", &b)]));
    let hello = rustls_hello("name.example.org");
    let mut half = connect(program.address());
    half.write_all(&hello[..100]).unwrap();
    let mut open = connect(program.address());
    let other = rustls_hello("other.example.org");
    open.write_all(&other).unwrap();
    let mut back = vec![0; 1 + other.len()];
    open.read_exact(&mut back).unwrap();
    assert_eq!(back[0], b'b');
    eventually("one waits for the rest", || program.say(&["sessions", "--json"]).contains("\"first\""));
    assert_eq!(program.upgrade(), 2);
    let text = program.file();
    program.write_file(
        &text.replace("{ sni: name.example.org, pool: a }", "{ sni: name.example.org, pool: b }"),
    );
    program.say(&["reload"]);
    // It was born with the routes of before.
    half.write_all(&hello[100..]).unwrap();
    assert_eq!(reached(half, &hello), 'a');
    assert_eq!(goes(program.address(), &hello), 'b');
    drop(open);
    eventually("all have ended", || program.session_lines().len() == 3);
    for line in program.session_lines() {
        let expected = if line["name"] == "name.example.org" { ["a", "b"] } else { ["b", "b"] };
        assert!(expected.iter().any(|pool| line["pool"] == *pool), "{line}");
        assert_eq!(line["reason"], "client_closed", "{line}");
    }
    let explained = program.say(&["explain", "tls", "192.0.2.7", "--sni", "x.example.org"]);
    assert!(explained.contains("pool b by route 2"), "{explained}");
    let asked = program.command(&["explain", "tls", "192.0.2.7"]);
    assert!(!asked.status.success() && String::from_utf8_lossy(&asked.stderr).contains("--sni NAME"));
    let status = program.status();
    assert_eq!(
        (&status["listeners"][0]["pool"], status["listeners"][0]["routes"].as_array().unwrap().len()),
        (&serde_json::Value::Null, 1)
    );
}

#[test]
fn the_backend_is_told_the_name_by_a_proxy_header() {
    use evenkeel::proxy_protocol::{AUTHORITY, Decoded, decode};
    let told = Backend::start(|mut stream| {
        let mut bytes = vec![0; 16];
        stream.read_exact(&mut bytes).unwrap();
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        bytes.resize(16 + length, 0);
        stream.read_exact(&mut bytes[16..]).unwrap();
        let Decoded::Header(header) = decode(&bytes) else { panic!("no header") };
        let _ = stream.write_all(header.tlvs);
    });
    let balancer = Balancer::start(&format!(
        "listeners: {{ tls: {{ bind: '127.0.0.1:80', routes: [{{ sni: '*', pool: a }}] }} }}\npools: {{ a: {{ send_proxy: v2, backends: ['{}'], health: {{ check: off }} }} }}",
        told.address
    ));
    let mut client = connect(balancer.address());
    client.write_all(&rustls_hello("name.example.org")).unwrap();
    let (tlvs, _) = read_to_end(&mut client);
    let wanted = [&[AUTHORITY, 0, 16][..], b"name.example.org"].concat();
    assert!(tlvs.starts_with(&wanted), "{tlvs:?}");
}

#[test]
fn limits_lists_and_roles_count_as_for_every_listener() {
    let a = named("a");
    let balancer = balancer("routes: [{ sni: '*', pool: a }], limits: { sessions: 2 }, ", &[("a", &a)]);
    let waiting = [connect(balancer.address()), connect(balancer.address())];
    becomes("both are in", 2, || balancer.active());
    assert!(is_turned_away(balancer.address()));
    drop(waiting);
    becomes("both are gone", 0, || balancer.active());
    assert_eq!(balancer.ended(Reason::LimitSessions), 1);
    let hello = rustls_hello("name.example.org");
    assert_eq!(goes(balancer.address(), &hello), 'a');
}

#[test]
fn players_go_by_the_host_that_they_typed() {
    let (a, b) = (named("a"), named("b"));
    let balancer = balancer(
        "speaks: minecraft, routes: [{ host: creative.example.org, pool: a }, { host: '*', pool: b }], ",
        &[("a", &a), ("b", &b)],
    );
    let handshake = |host: &str| {
        let mut packet = vec![0, 0xfd, 5, u8::try_from(host.len()).unwrap()];
        packet.extend_from_slice(host.as_bytes());
        packet.extend_from_slice(&[0x63, 0xdd, 2]);
        [&[u8::try_from(packet.len()).unwrap()][..], &packet].concat()
    };
    for (host, name) in [
        ("creative.example.org", 'a'),
        ("Creative.Example.org.\0FML3\0", 'a'),
        ("creative.example.org///192.0.2.7:1///2", 'a'),
        ("other.example.org", 'b'),
    ] {
        assert_eq!(goes(balancer.address(), &handshake(host)), name, "{host}");
    }
    assert_eq!(goes(balancer.address(), &[0xfe, 1]), 'b', "an old ping");
}
