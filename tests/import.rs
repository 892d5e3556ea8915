//! Configurations of HAProxy and nginx beside what `evenkeel import` makes of them: both programs run, the same clients come to
//! both, and get the same.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod ports;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use ports::free_port;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A child that is killed when dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that says its letter and what it heard first, to everybody.
fn server(letter: char) -> u16 {
    // Held until it listens: nobody else may have the port.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn(move || {
        for stream in listener.incoming() {
            spawn(move || {
                let Ok(mut stream) = stream else { return };
                let mut heard = [0; 256];
                while let Ok(count @ 1..) = stream.read(&mut heard) {
                    let first = String::from_utf8_lossy(&heard[..count]);
                    let first = first.split(' ').next().unwrap_or_default().trim_end();
                    if stream.write_all(format!("{letter}:{first}\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// What a client from this address is told, and its connection.
fn ask(port: u16, from: [u8; 4]) -> (String, Option<Socket>) {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    if client.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).is_err() {
        return ("refused".to_owned(), None);
    }
    let mut stream = &client;
    let mut answer = [0; 64];
    let told = stream.write_all(b"hello there\r\n").and_then(|()| stream.read(&mut answer));
    match told {
        Ok(count @ 1..) => (String::from_utf8_lossy(&answer[..count]).trim_end().to_owned(), Some(client)),
        _ => ("refused".to_owned(), None),
    }
}

/// Both programs with one configuration, and where each is asked.
struct Pair {
    _folder: TempDir,
    _running: [Guard; 2],
    there: Vec<u16>,
    here: Vec<u16>,
}

/// `DOOR1`, `DOOR2` in the text are doors, `A`, `B`, `C` servers, `DEAD` is a port where nobody is.
fn pair(program: &str, text: &str) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let (there, here) = ([free_port(), free_port()], [free_port(), free_port()]);
    let mut text = text.replace("DEAD", &format!("127.0.0.1:{}", free_port()));
    for letter in ['A', 'B', 'C'] {
        text = text.replace(&format!("@{letter}@"), &format!("127.0.0.1:{}", server(letter)));
    }
    let with_doors =
        |doors: &[u16]| text.replace("DOOR1", &doors[0].to_string()).replace("DOOR2", &doors[1].to_string());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let theirs = file("theirs.conf", &with_doors(&there));
    let ours = file("ours.conf", &with_doors(&here));
    let evenkeel = env!("CARGO_BIN_EXE_evenkeel");
    let made = Command::new(evenkeel).arg("import").arg(&ours).output().unwrap();
    let (yaml, told) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    assert!(made.status.success(), "{told}");
    let yaml = file("evenkeel.yaml", &format!("admin: {{ socket: off }}\n{yaml}"));
    let log = |name: &str| fs::File::create(folder.path().join(name)).unwrap();
    let start = |binary: &Path, arguments: &[&str], file: &Path, name: &str| {
        let mut command = Command::new(binary);
        command
            .args(arguments)
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log(name))
            .stderr(log(&format!("{name}.err")));
        Guard(command.spawn().unwrap())
    };
    let running = match program {
        "haproxy" => start(&found("haproxy"), &["-db", "-f"], &theirs, "theirs"),
        _ => start(
            &found("nginx"),
            &["-g", "daemon off; pid /dev/null; error_log stderr;", "-c"],
            &theirs,
            "theirs",
        ),
    };
    let own = start(Path::new(evenkeel), &["run", "--config"], &yaml, "ours");
    for port in [there[0], here[0]] {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let logs =
                ["theirs.err", "ours.err"].map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
            assert!(began.elapsed() < DEADLINE, "nobody listens: {logs:?}\n{told}");
            sleep(Duration::from_millis(20));
        }
    }
    Pair { _folder: folder, _running: [running, own], there: there.into(), here: here.into() }
}

fn found(program: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let places = folders.map(|folder| Path::new(folder).join(program));
    places.into_iter().find(|place| place.exists()).unwrap_or_else(|| panic!("{program} is not installed"))
}

/// Who answers so many clients of each of these addresses, in turn, sorted: how chance falls is each one's own.
fn letters(port: u16, from: &[[u8; 4]], times: usize) -> Vec<(IpAddr, String)> {
    let mut all = Vec::new();
    for _ in 0..times {
        all.extend(from.iter().map(|from| (IpAddr::from(Ipv4Addr::from(*from)), ask(port, *from).0)));
    }
    all.sort();
    all
}

/// The same clients get the same of both, once both have found out who is there.
#[track_caller]
fn same(pair: &Pair, door: usize, times: usize) -> Vec<(IpAddr, String)> {
    same_from(pair, door, &[[127, 0, 0, 1], [127, 0, 0, 2]], times)
}

#[track_caller]
fn same_from(pair: &Pair, door: usize, from: &[[u8; 4]], times: usize) -> Vec<(IpAddr, String)> {
    let began = Instant::now();
    loop {
        let there = letters(pair.there[door], from, times);
        let here = letters(pair.here[door], from, times);
        if there == here {
            return here;
        }
        assert!(began.elapsed() < DEADLINE, "there: {there:?}\nhere: {here:?}");
        sleep(Duration::from_millis(100));
    }
}

fn count(all: &[(IpAddr, String)], letter: &str) -> usize {
    all.iter().filter(|(_, told)| told.starts_with(letter)).count()
}

const HAPROXY: &str = "global\n maxconn 100\ndefaults\n mode tcp\n timeout connect 2s\n timeout client 20s\n timeout server 20s\n";

#[test]
#[ignore = "needs haproxy"]
fn turns_and_weights_are_as_they_were() {
    let even =
        pair("haproxy", &format!("{HAPROXY}listen x\n bind 127.0.0.1:DOOR1\n server a @A@\n server b @B@\n"));
    assert_eq!(count(&same_from(&even, 0, &[[127, 0, 0, 1]], 20), "A"), 10);
    let weighed = "listen x\n bind 127.0.0.1:DOOR1\n balance static-rr\n server a @A@ weight 3\n server b @B@ weight 1\n";
    let weighed = pair("haproxy", &format!("{HAPROXY}{weighed}"));
    assert_eq!(count(&same_from(&weighed, 0, &[[127, 0, 0, 1]], 20), "A"), 15);
}

#[test]
#[ignore = "needs haproxy"]
fn the_fewest_and_the_first_are_as_they_were() {
    for (balance, expected) in [("leastconn", [2, 2]), ("first", [3, 1])] {
        let text = format!(
            "{HAPROXY}listen x\n bind 127.0.0.1:DOOR1\n balance {balance}\n server a @A@ maxconn 3\n server b @B@ maxconn 3\n"
        );
        let pair = pair("haproxy", &text);
        for port in [pair.there[0], pair.here[0]] {
            // What asked whether somebody listens may still be there.
            let began = Instant::now();
            loop {
                let held: Vec<_> = (0..4).map(|_| ask(port, [127, 0, 0, 1])).collect();
                let of = |letter: char| held.iter().filter(|(told, _)| told.starts_with(letter)).count();
                if [of('A'), of('B')] == expected {
                    break;
                }
                assert!(began.elapsed() < DEADLINE, "{balance} at {port}: {:?}", [of('A'), of('B')]);
                drop(held);
                sleep(Duration::from_millis(100));
            }
        }
    }
}

#[test]
#[ignore = "needs haproxy"]
fn backups_serve_when_they_did() {
    let text = "listen x\n bind 127.0.0.1:DOOR1\n server dead DEAD check inter 200ms fall 1\n server b @B@ backup\n server c @C@ backup\n";
    let pair = pair("haproxy", &format!("{HAPROXY}{text}"));
    // The first of them alone.
    assert_eq!(count(&same(&pair, 0, 4), "B"), 8);
}

#[test]
#[ignore = "needs haproxy"]
fn the_same_are_let_in() {
    let text = "listen x\n bind 127.0.0.1:DOOR1\n acl second src 127.0.0.2 192.0.2.0/24\n tcp-request connection reject if second\n server a @A@\n\
                listen y\n bind 127.0.0.1:DOOR2\n tcp-request connection accept if { src 127.0.0.2 }\n tcp-request connection reject\n server b @B@\n";
    let pair = pair("haproxy", &format!("{HAPROXY}{text}"));
    assert_eq!((count(&same(&pair, 0, 2), "A"), count(&same(&pair, 1, 2), "B")), (2, 2));
}

#[test]
#[ignore = "needs haproxy"]
fn clients_go_where_they_went() {
    let text = "frontend x\n bind 127.0.0.1:DOOR1\n bind 127.0.0.1:DOOR2\n use_backend b if { src 127.0.0.2 }\n use_backend c if { dst_port DOOR2 }\n default_backend a\n\
                backend a\n server a @A@\nbackend b\n server b @B@\nbackend c\n server c @C@\n";
    let pair = pair("haproxy", &format!("{HAPROXY}{text}"));
    let (first, second) = (same(&pair, 0, 1), same(&pair, 1, 1));
    assert_eq!([count(&first, "A"), count(&first, "B"), count(&second, "C")], [1, 1, 1]);
}

#[test]
#[ignore = "needs haproxy"]
fn a_proxy_header_goes_where_it_went() {
    let text = "listen x\n bind 127.0.0.1:DOOR1\n server a @A@ send-proxy\n";
    let pair = pair("haproxy", &format!("{HAPROXY}{text}"));
    assert_eq!(same(&pair, 0, 1)[0].1, "A:PROXY");
}

#[test]
#[ignore = "needs haproxy"]
fn a_client_stays_where_it_is() {
    let text = "listen x\n bind 127.0.0.1:DOOR1\n balance source\n hash-type consistent\n server a @A@\n server b @B@\n server c @C@\n";
    let pair = pair("haproxy", &format!("{HAPROXY}{text}"));
    for port in [pair.there[0], pair.here[0]] {
        for last in 1..20 {
            let told: Vec<String> = (0..3).map(|_| ask(port, [127, 0, 1, last]).0).collect();
            assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
        }
    }
}

#[test]
#[ignore = "needs nginx"]
fn a_stream_of_nginx_gives_what_it_gave() {
    let stream = |inner: &str| {
        format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nevents {{}}\nstream {{ {inner} }}\n"
        )
    };
    let text = "upstream x { server @A@ weight=3; server @B@; } server { listen 127.0.0.1:DOOR1; proxy_pass x; deny 127.0.0.2; allow all; }\
                upstream y { server DEAD; server @C@ backup; } server { listen 127.0.0.1:DOOR2; proxy_pass y; }";
    let pair = pair("nginx", &stream(text));
    let first = same(&pair, 0, 4);
    assert_eq!([count(&first, "A"), count(&first, "B"), count(&first, "refused")], [3, 1, 4]);
    assert_eq!(count(&same(&pair, 1, 2), "C"), 4);
    let text = "upstream x { least_conn; server @A@; server @B@; } server { listen 127.0.0.1:DOOR1; proxy_pass x; }\
                server { listen 127.0.0.1:DOOR2; proxy_pass @C@; proxy_protocol on; }";
    let pair = self::pair("nginx", &stream(text));
    assert_eq!(count(&same(&pair, 0, 4), "A"), 4);
    assert_eq!(same(&pair, 1, 1)[0].1, "C:PROXY");
}
