//! A DNS server of a test's own, with one zone: `host0` to `host19` in `example.test`.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts it in a folder that is there; it listens when this returns.
pub fn start(knotd: &Path, home: &Path, port: u16) -> Child {
    let zone = home.join("zone");
    let records: String = (0..NAMES).map(|number| format!("host{number} A 192.0.2.{number}\n")).collect();
    let start =
        "$ORIGIN example.test.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n";
    fs::write(&zone, format!("{start}{records}")).unwrap();
    let file = home.join("knot.conf");
    let shown = home.display();
    let text = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {shown}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         database:\n  storage: {shown}\nzone:\n  - domain: example.test\n    file: {}\n",
        zone.display()
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(knotd);
    let child = command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while UdpSocket::bind(("127.0.0.1", port)).is_ok() {
        assert!(Instant::now() < deadline, "knot does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Questions for dnsperf: every name once.
pub fn questions() -> String {
    (0..NAMES).map(|number| format!("host{number}.example.test A\n")).collect()
}

const NAMES: usize = 20;
