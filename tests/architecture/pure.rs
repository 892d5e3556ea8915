//! What is pure: values in, values out. Nothing in it waits, reads a clock, asks the machine or says a word: every ground
//! room, and files of other rooms that are kept so.

use super::Findings;
use super::imports::GROUND;
use super::source::Source;

/// Pure files and folders of rooms that are not, as beginnings of places below `src/`.
pub const PURE: [&str; 36] = [
    "admin/history.rs",
    "admin/openmetrics.rs",
    "cli/readiness/judgement.rs",
    "cli/top/picture.rs",
    "cli/top/reading.rs",
    "cli/top/table.rs",
    "cli/top/view.rs",
    "discovery/absent.rs",
    "discovery/before.rs",
    "discovery/choice.rs",
    "discovery/consul/instances.rs",
    "discovery/docker/containers.rs",
    "discovery/kubernetes/slices.rs",
    "discovery/ledger.rs",
    "discovery/listing.rs",
    "discovery/names.rs",
    "discovery/services.rs",
    "discovery/source.rs",
    "discovery/standing.rs",
    "discovery/whole.rs",
    "health/bson.rs",
    "health/dialogue.rs",
    "health/mongodb.rs",
    "health/mysql/",
    "health/outcome.rs",
    "health/patroni.rs",
    "health/plan.rs",
    "health/postgres/",
    "health/redis.rs",
    "health/resp.rs",
    "health/sentinel.rs",
    "metrics/counter.rs",
    "server/fd_budget.rs",
    "systemd/dbus.rs",
    "udp/batch_size.rs",
    "udp/local_ports.rs",
];
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

/// Counts files of ground rooms and those of `pure`.
pub fn check(sources: &[Source], pure: &[&str]) -> Findings {
    let mut findings = Findings::default();
    for prefix in pure {
        if !sources.iter().any(|source| source.inner().starts_with(prefix)) {
            findings.problems.push(format!("there is no src/{prefix}: take it off the list of what is pure"));
        }
    }
    let is_pure = |source: &&Source| {
        GROUND.contains(&source.room()) || pure.iter().any(|prefix| source.inner().starts_with(prefix))
    };
    for source in sources.iter().filter(|source| is_pure(source) && !source.live.is_empty()) {
        findings.checked += 1;
        for named in source.named() {
            let path = named.segments.join("::");
            let is = |prefix: &&&str| path == ***prefix || path.starts_with(&format!("{prefix}::"));
            if let Some(prefix) = PREFIXES.iter().find(is) {
                findings.add(source, named.line, &format!("what is pure names no `{prefix}`"));
            }
            if path.ends_with("Instant::now") {
                findings.add(source, named.line, "what is pure is told the time");
            }
        }
        for token in &source.live {
            if WORDS.contains(&&*token.text) {
                findings.add(source, token.line, &format!("what is pure has no `{}`", token.text));
            }
        }
    }
    findings
}

#[test]
fn the_rule_can_fail() {
    let problems = |text: &str| check(&[Source::new("src/balance/mod.rs", text)], &[]).problems.len();
    assert_eq!(problems("use std::net::SocketAddr; use std::time::Instant; fn a(b: &'static str) {}"), 0);
    assert_eq!(problems("#[cfg(test)] mod tests { use std::fs; }"), 0);
    assert_eq!(problems("use std::{fs, thread};"), 2);
    assert_eq!(problems("fn a() { let b = Instant::now(); let c = std::time::Instant::now(); }"), 2);
    assert_eq!(problems("static A: u8 = 0;"), 1);
    assert_eq!(problems("fn a() { tracing::info!(\"b\"); println!(); }"), 2);
    assert_eq!(problems("use std::net::TcpStream;"), 1);
    assert_eq!(problems("fn a() { std::env::var(\"B\"); }"), 1);
    let tcp = [Source::new("src/tcp/mod.rs", "use std::fs;"), Source::new("src/tcp/a.rs", "use std::fs;")];
    assert_eq!(check(&tcp, &[]).checked, 0);
    let found = check(&tcp, &["tcp/a"]);
    assert_eq!((found.checked, found.problems.len()), (1, 1));
    assert_eq!(check(&tcp, &["tcp/a", "tcp/b"]).problems.len(), 2, "one that is not there");
}
