//! Who may come in, how many, and how fast: exact over all data threads, with no word to any backend about the others.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use evenkeel::metrics::Drop as Dropped;
use evenkeel::reason::Reason;
use socket2::{Domain, Socket, Type};

use crate::rig::*;

fn balancer(backend: &Backend, more: &str) -> Balancer {
    Balancer::start(&format!(
        "workers: 4\nlisteners:\n  door: {{ bind: 80, backends: ['{}'], health: {{ check: off }}, {more} }}",
        backend.address
    ))
}

/// A client from this address of loopback.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if from == Ipv4Addr::LOCALHOST {
        // So that the port is not in the way of a door that another test wants to open there.
        socket.set_reuse_address(true)?;
    } else {
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, to.port())).into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// The client, if it was let in: then its word comes back. Otherwise it must have been reset.
#[track_caller]
fn let_in(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let mut answer = [0];
    let asked = connect_from(from, to).and_then(|mut client| {
        client.write_all(b"?")?;
        client.read_exact(&mut answer).map(|()| client)
    });
    match asked {
        Ok(client) => Some(client),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => None,
        Err(error) => panic!("neither served nor reset: {error}"),
    }
}

fn source(last: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 7, u8::try_from(last).unwrap())
}

#[test]
fn a_denied_client_is_reset_before_any_backend_is_touched() {
    let backend = Backend::start(echo);
    // The door takes both families, so IPv4 comes to it as IPv6.
    let lists = "allow: [127.0.7.0/24, '::1'], deny: [127.0.7.64/26, 127.0.7.9]";
    let balancer = balancer(&backend, lists);
    let to = balancer.address();
    let (mut denied, mut served) = (0, 0);
    for (last, expected) in [(1, true), (9, false), (63, true), (64, false), (127, false), (128, true)] {
        assert_eq!(let_in(source(last), to).is_some(), expected, "127.0.7.{last}");
        served += u64::from(expected);
        denied += u64::from(!expected);
    }
    assert!(let_in(Ipv4Addr::LOCALHOST, to).is_none(), "in neither list, with `allow` given");
    exchange(&mut connect(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], to.port()))), b"IPv6");
    becomes("denied", denied + 1, || balancer.ended(Reason::Denied));
    balancer.settles();
    assert_eq!(backend.accepted() as u64, served + 1);
    assert_eq!(balancer.begun(), denied + 1 + served + 1);
}

/// Attempts from several threads; those that were let in stay.
fn attempts(
    to: SocketAddr,
    threads: usize,
    each: usize,
    from: impl Fn(usize) -> Ipv4Addr + Sync,
) -> Vec<TcpStream> {
    let attempt = |thread: usize| {
        (0..each).filter_map(|turn| let_in(from(turn * threads + thread), to)).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| (thread, &attempt)).collect();
        let threads: Vec<_> =
            threads.into_iter().map(|(thread, attempt)| scope.spawn(move || attempt(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn ten_thousand_attempts_on_four_threads_never_pass_the_limit_and_never_waste_it() {
    const LIMIT: u32 = 150;
    let backend = Backend::start(echo);
    let balancer = balancer(&backend, &format!("limits: {{ sessions: {LIMIT} }}"));
    let stop = AtomicU64::new(0);
    let living = |balancer: &Balancer| balancer.backend(0, |backend| backend.load.active());
    let held = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while stop.load(Ordering::Relaxed) == 0 {
                most = most.max(living(&balancer));
                std::thread::yield_now();
            }
            most
        });
        let mut held = attempts(balancer.address(), 8, 625, |_| Ipv4Addr::LOCALHOST);
        assert_eq!(u32::try_from(held.len()).unwrap(), LIMIT);
        // Those that leave make room for as many.
        for _ in 0..50 {
            drop(held.split_off(held.len() - 50));
            becomes("living", LIMIT - 50, || living(&balancer));
            held.extend(attempts(balancer.address(), 4, 25, |_| Ipv4Addr::LOCALHOST));
            assert_eq!(u32::try_from(held.len()).unwrap(), LIMIT);
        }
        stop.store(1, Ordering::Relaxed);
        assert!(watcher.join().unwrap() <= LIMIT);
        held
    });
    drop(held);
    balancer.settles();
    let let_in = u64::from(LIMIT) + 50 * 50;
    assert_eq!(balancer.ended(Reason::LimitSessions), 5_000 + 50 * 100 - let_in);
    assert_eq!(backend.accepted() as u64, let_in);
}

#[test]
fn each_source_has_its_own_places() {
    let backend = Backend::start(echo);
    let balancer = balancer(&backend, "limits: { sessions: 100, sessions_per_source: 12 }");
    // 8 sources of 12 are 96 of 100.
    let held = attempts(balancer.address(), 8, 100, |turn| source(turn % 8));
    assert_eq!(held.len(), 96);
    let mut each = [0; 8];
    for client in &held {
        let IpAddr::V4(ip) = client.local_addr().unwrap().ip() else { panic!("an IPv4 client") };
        each[usize::from(ip.octets()[3])] += 1;
    }
    assert_eq!(each, [12; 8]);
    assert_eq!(balancer.ended(Reason::LimitSessionsPerSource), 800 - 96);
    // The listener's own limit comes next.
    let more = attempts(balancer.address(), 1, 10, |_| source(99));
    assert_eq!(more.len(), 4);
    becomes("over the listener's limit", 6, || balancer.ended(Reason::LimitSessions));
    drop((held, more));
    balancer.settles();
}

/// Attempts without a pause for a while: how many were let in, how long it took, and the longest time without any.
fn hammer(to: SocketAddr, from: impl Fn(usize) -> Ipv4Addr + Sync) -> (usize, Duration, Duration) {
    let (began, begun) = (Instant::now(), AtomicUsize::new(0));
    let last_us = AtomicU64::new(0);
    let longest_us = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (begun, last_us, longest_us, from) = (&begun, &last_us, &longest_us, &from);
            scope.spawn(move || {
                while began.elapsed() < Duration::from_secs(4) {
                    begun.fetch_add(usize::from(let_in(from(thread), to).is_some()), Ordering::Relaxed);
                    let now_us = u64::try_from(began.elapsed().as_micros()).unwrap();
                    let before_us = last_us.swap(now_us, Ordering::Relaxed);
                    longest_us.fetch_max(now_us.saturating_sub(before_us), Ordering::Relaxed);
                }
            });
        }
    });
    let longest = Duration::from_micros(longest_us.into_inner());
    (begun.into_inner(), began.elapsed(), longest)
}

/// A rate holds from above whatever the machine does, and from below while the attempts do not falter for so long that
/// the bucket overflows.
#[track_caller]
fn keeps_to(rate: f64, name: &str, mut run: impl FnMut() -> (usize, Duration, Duration)) {
    for _ in 0..5 {
        let (begun, took, longest) = run();
        let fair = rate * took.as_secs_f64();
        eprintln!("{name}: {begun} of {:.0} in {took:?}, longest pause {longest:?}", fair + rate);
        // The second's worth that a full bucket holds comes on top.
        assert!((begun as f64) <= (fair + rate) * 1.01, "{begun} in {took:?}");
        if begun as f64 >= fair * 0.99 {
            return;
        }
        assert!(longest > Duration::from_millis(300), "only {begun} in {took:?}");
    }
    panic!("the attempts faltered each time");
}

#[test]
fn rates_hold_within_one_percent_over_four_threads() {
    let backend = Backend::start(echo);
    keeps_to(200.0, "rate", || {
        let balancer = balancer(&backend, "limits: { rate: 12000/m }");
        let outcome = hammer(balancer.address(), |_| Ipv4Addr::LOCALHOST);
        assert!(balancer.ended(Reason::LimitRate) > 0);
        outcome
    });
    keeps_to(100.0, "rate_per_source", || {
        let balancer = balancer(&backend, "limits: { rate_per_source: 50/s }");
        let outcome = hammer(balancer.address(), |thread| source(thread % 2));
        assert!(balancer.ended(Reason::LimitRatePerSource) > 0);
        // Somebody else is not slowed by them.
        assert!(let_in(source(9), balancer.address()).is_some());
        outcome
    });
}

#[test]
fn a_new_file_moves_the_limits_of_those_that_live() {
    let backend = Backend::start(echo);
    let port = crate::ports::free_port();
    let yaml = |more: &str| {
        let door =
            format!("bind: '127.0.0.1:{port}', backends: ['{}'], health: {{ check: off }}", backend.address);
        format!("workers: 2\nlisteners: {{ door: {{ {door}, {more} }} }}")
    };
    let balancer = Balancer::start(&yaml("limits: { sessions: 5, sessions_per_source: 5 }"));
    let (to, here) = (balancer.address(), |_| Ipv4Addr::LOCALHOST);
    let mut held = attempts(to, 2, 5, here);
    assert_eq!(held.len(), 5);
    for (limits, more) in [
        ("sessions: 3, sessions_per_source: 3", 0),
        ("sessions: 7, sessions_per_source: 7", 2),
        ("sessions: 9", 2),
        ("sessions_per_source: 9, sessions: 11, rate_per_source: 60000/m", 2),
        ("sessions: off, rate: 1000/s", 10),
    ] {
        balancer.reload(&yaml(&format!("limits: {{ {limits} }}"))).unwrap();
        let new = attempts(to, 2, 5, here);
        assert_eq!(new.len(), more, "{limits} with {}", held.len());
        held.extend(new);
    }
    balancer.reload(&yaml("deny: 127.0.0.0/8")).unwrap();
    assert_eq!(attempts(to, 2, 5, here).len(), 0);
    // A rate that stays is not begun anew: one in 20 s, however often the file is read.
    let slow = yaml("limits: { rate: 3/m, rate_per_source: 3/m }");
    let slowed: usize = (0..5)
        .map(|_| {
            balancer.reload(&slow).unwrap();
            attempts(to, 1, 1, here).len()
        })
        .sum();
    assert!((1..=2).contains(&slowed), "{slowed} in five reloads");
    held.iter_mut().for_each(|client| exchange(client, b"those that live stay"));
    drop(held);
    balancer.settles();
    balancer.reload(&yaml("limits: { sessions: 4, sessions_per_source: 3 }")).unwrap();
    let held = attempts(to, 2, 5, here);
    assert_eq!((held.len(), attempts(to, 1, 5, |_| source(1)).len()), (3, 1), "all places came back");
    // A table of more sources: what was counted in the smaller one counts on.
    balancer.reload(&yaml("limits: { sessions: 5000, sessions_per_source: 4 }")).unwrap();
    assert_eq!((attempts(to, 2, 5, here).len(), attempts(to, 1, 5, |_| source(1)).len()), (1, 4));
}

/// One datagram of a new flow; was it answered?
fn flow_begins(from: Ipv4Addr, to: SocketAddr) -> bool {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, to.port())).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket.send(b"?").unwrap();
    socket.recv(&mut [0; 8]).is_ok()
}

#[test]
fn datagrams_meet_the_same_rules() {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = backend.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut datagram = [0; 64];
        while let Ok((length, from)) = backend.recv_from(&mut datagram) {
            let _ = backend.send_to(&datagram[..length], from);
        }
    });
    let balancer = |more: &str| {
        Balancer::start(&format!(
            "workers: 2\nshutdown: {{ grace: 0s }}\nlisteners:\n  door: {{ bind: 53, protocol: udp, backends: ['{address}'], {more} }}"
        ))
    };
    let dropped =
        |balancer: &Balancer, why| balancer.counters().shards.sum(|shard| shard.dropped(why).value());

    let lists = balancer("allow: [127.0.0.0/8], deny: [127.0.7.0/24]");
    assert!(flow_begins(Ipv4Addr::LOCALHOST, lists.address()));
    (0..3).for_each(|last| assert!(!flow_begins(source(last), lists.address())));
    becomes("denied", 3, || dropped(&lists, Dropped::Denied));
    assert_eq!((lists.begun(), lists.ended(Reason::Denied)), (1, 0));

    let rate = balancer("limits: { rate: 5/m }");
    let begun = (0..20).filter(|_| flow_begins(Ipv4Addr::LOCALHOST, rate.address())).count();
    // 20 attempts of at most 100 ms each are shorter than the 12 s to the next one, on all but the slowest machine.
    becomes("dropped for the rate", 20 - begun as u64, || dropped(&rate, Dropped::LimitRate));
    assert!((1..=3).contains(&begun) && rate.begun() == begun as u64, "{begun}");

    let each = balancer("limits: { rate_per_source: 5/m }");
    let begun = |last| (0..5).filter(|_| flow_begins(source(last), each.address())).count();
    let (one, two) = (begun(1), begun(2));
    assert!((1..=2).contains(&one) && (1..=2).contains(&two), "{one} and {two}");
    becomes("dropped for the sources' rates", (10 - one - two) as u64, || {
        dropped(&each, Dropped::LimitRatePerSource)
    });
}

#[test]
fn each_listener_has_its_own_choice_of_session_lines() {
    let backend = Backend::start(answer_with("word"));
    for (process, listener, lines) in
        [("off", "all", 1), ("all", "off", 0), ("all", "inherit", 1), ("off", "inherit", 0)]
    {
        let mut program = Program::start(&format!(
            "workers: 1\nlog: {{ format: json, sessions: {process} }}\nlisteners: {{ door: {{ bind: '127.0.0.1:PORT', log_sessions: {listener}, backends: ['{}'], health: {{ check: off }} }} }}",
            backend.address
        ));
        short_session(program.address()).unwrap();
        program.signal(rustix::process::Signal::TERM);
        assert_eq!(program.wait().code(), Some(0));
        assert_eq!(program.session_lines().len(), lines, "log.sessions {process}, log_sessions {listener}");
    }
}

#[test]
fn checks_and_sessions_come_from_the_addresses_of_the_pool() {
    let (told, seen) = std::sync::mpsc::channel();
    // Answers both with the address they come from.
    let backend = Backend::start(move |mut stream| {
        let peer = stream.peer_addr().unwrap().ip();
        let _ = told.send(peer);
        let _ = stream.write_all(format!("{peer} ").as_bytes());
    });
    let balancer = Balancer::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:1', backends: ['{}'], connect_from: ['::1', 127.0.0.9], \
         health: {{ check: {{ tcp: {{ send: '', expect: '127.0.0.9 ' }} }}, interval: 100ms }} }} }}",
        backend.address
    ));
    assert_eq!(read_to_end(&mut connect(balancer.address())).0, b"127.0.0.9 ");
    // One of them is the session, the others are checks.
    for _ in 0..5 {
        assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), Ipv4Addr::new(127, 0, 0, 9));
    }
}
