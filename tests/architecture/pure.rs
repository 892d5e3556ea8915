//! Ground rooms: values in, values out. Nothing in them waits, reads a clock, asks the machine or says a word.

use super::Findings;
use super::imports::GROUND;
use super::source::Source;

/// Paths that begin so.
const PREFIXES: [&str; 12] = [
    "tokio",
    "tracing",
    "rand",
    "rustix",
    "libc",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::os",
    "std::io",
    "std::time::SystemTime",
];
/// Words anywhere: sockets, clocks, output, what outlives a call.
const WORDS: [&str; 16] = [
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "SystemTime",
    "RandomState",
    "println",
    "print",
    "eprintln",
    "eprint",
    "static",
    "thread_local",
    "async",
];

/// Counts files of ground rooms.
pub fn check(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources.iter().filter(|source| GROUND.contains(&source.room()) && !source.live.is_empty()) {
        findings.checked += 1;
        for named in source.named() {
            let path = named.segments.join("::");
            let is = |prefix: &&&str| path == ***prefix || path.starts_with(&format!("{prefix}::"));
            if let Some(prefix) = PREFIXES.iter().find(is) {
                findings.add(source, named.line, &format!("a ground room is pure: no `{prefix}`"));
            }
            if path.ends_with("Instant::now") {
                findings.add(source, named.line, "a ground room is pure: the time is an argument");
            }
        }
        for token in &source.live {
            if WORDS.contains(&&*token.text) {
                findings.add(source, token.line, &format!("a ground room is pure: no `{}`", token.text));
            }
        }
    }
    findings
}

#[test]
fn the_rule_can_fail() {
    let problems = |text: &str| check(&[Source::new("src/balance/mod.rs", text)]).problems.len();
    assert_eq!(problems("use std::net::SocketAddr; use std::time::Instant; fn a(b: &'static str) {}"), 0);
    assert_eq!(problems("#[cfg(test)] mod tests { use std::fs; }"), 0);
    assert_eq!(problems("use std::{fs, thread};"), 2);
    assert_eq!(problems("fn a() { let b = Instant::now(); let c = std::time::Instant::now(); }"), 2);
    assert_eq!(problems("static A: u8 = 0;"), 1);
    assert_eq!(problems("fn a() { tracing::info!(\"b\"); println!(); }"), 2);
    assert_eq!(problems("use std::net::TcpStream;"), 1);
    assert_eq!(problems("fn a() { std::env::var(\"B\"); }"), 1);
    assert_eq!(check(&[Source::new("src/tcp/mod.rs", "use std::fs;")]).checked, 0);
}
