//! A room imports only rooms of lower floors, as `src/lib.rs` draws them.

use super::Findings;
use super::source::Source;

/// Rooms by floor, the highest first.
const FLOORS: [&[&str]; 9] = [
    &["main", "cli", "logging"],
    &["server"],
    &["publisher", "admin", "listener"],
    &["worker"],
    &["tcp", "udp", "health", "discovery", "transfer", "systemd"],
    &["thread_context"],
    &["pool", "metrics", "tls"],
    GROUND,
    &["sys"],
];

/// Rooms that use no other, and nothing of the machine either.
pub const GROUND: &[&str] = &[
    "config",
    "access",
    "base64",
    "dns",
    "balance",
    "flow",
    "limits",
    "proxy_protocol",
    "routing",
    "liveness",
    "backend_state",
    "roles",
    "sticky",
    "timer_wheel",
    "durations",
    "random",
    "process_phase",
    "reason",
    "session_query",
    "manifest",
    "import",
];

/// Who may use what, against the floors, and why.
pub const EXCEPTIONS: [(&str, &str, &str); 16] = [
    ("main", "cli", "the program is one call"),
    ("cli", "logging", "a command starts the log"),
    ("pool", "metrics", "what is shared is counted where it lives"),
    ("access", "config::settings", "a network is a setting"),
    ("balance", "config::settings", "the choice of algorithm is a setting"),
    ("balance", "random", "what is drawn is drawn with the one generator"),
    ("config", "base64", "a kubeconfig holds certificates so"),
    ("config", "durations", "a range is told as a file would say it"),
    ("import", "config", "what comes of another balancer's file is one of ours"),
    ("flow", "limits", "a flow holds its place in the limits"),
    ("flow", "reason", "a flow ends for one of the closed list"),
    ("backend_state", "manifest", "a backend_state travels to the next process"),
    ("routing", "config::settings", "a route is a setting"),
    ("routing", "reason", "who is refused hears why"),
    ("routing", "access", "a route may be for the clients of networks"),
    ("limits", "reason", "what is at its limit is one of the closed list"),
];

/// Counts imports between rooms.
pub fn check(sources: &[Source], exceptions: &[(&str, &str, &str)]) -> Findings {
    let mut findings = Findings::default();
    let mut used = vec![false; exceptions.len()];
    for source in sources.iter().filter(|source| source.room() != "lib") {
        let Some(from) = floor(source.room()) else {
            findings.add(
                source,
                1,
                "this room stands on no floor: give it one in tests/architecture/imports.rs",
            );
            continue;
        };
        for named in source.named() {
            let Some(target) = target(source, &named.segments) else { continue };
            if target[0] == source.room() {
                continue;
            }
            findings.checked += 1;
            let path = target.join("::");
            let exception = exceptions.iter().position(|(who, what, _)| {
                *who == source.room() && (path == *what || path.starts_with(&format!("{what}::")))
            });
            if let Some(exception) = exception {
                used[exception] = true;
            } else if let Some(to) = floor(&target[0]) {
                if to <= from {
                    let rule =
                        format!("`{}` must not use `{path}`: it is not on a lower floor", source.room());
                    findings.add(source, named.line, &rule);
                } else if GROUND.contains(&source.room()) {
                    findings.add(
                        source,
                        named.line,
                        &format!("a ground room is pure and must not use `{path}`"),
                    );
                }
            } else if target[0].starts_with(|c: char| c.is_lowercase()) {
                findings.add(source, named.line, &format!("`{path}` is no room that has a floor"));
            }
        }
    }
    for ((who, what, _), used) in exceptions.iter().zip(used) {
        if !used {
            findings
                .problems
                .push(format!("the exception for `{who}` to use `{what}` is not used: remove it"));
        }
    }
    findings
}

/// The drawing in the documentation of the crate shows the same floors. Counts rooms.
pub fn drawing(lib: &str) -> Findings {
    let mut findings = Findings::default();
    let drawn: Vec<&str> = lib.lines().skip_while(|line| !line.contains("```text")).skip(1).collect();
    for (rooms, line) in FLOORS.iter().zip(drawn) {
        for room in *rooms {
            findings.checked += 1;
            if !line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *room) {
                findings.problems.push(format!("src/lib.rs: `{room}` is not drawn in: {line}"));
            }
        }
    }
    findings
}

/// The path below the crate's root, when it begins there.
fn target<'a>(source: &Source, segments: &'a [String]) -> Option<&'a [String]> {
    let skipped = match &*segments[0] {
        "crate" | "evenkeel" => 1,
        "self" | "super" => {
            let first = usize::from(segments[0] == "self");
            let supers = segments[first..].iter().take_while(|segment| *segment == "super").count();
            if supers == 0 || supers < source.depth() {
                return None;
            }
            first + supers
        }
        _ => return None,
    };
    segments.get(skipped..).filter(|rest| !rest.is_empty())
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn problems(path: &str, text: &str) -> usize {
    check(&[Source::new(path, text)], &[("balance", "config::settings", "")]).problems.len()
        // The exception stays unused, but in the two cases that are about it.
        - usize::from(!path.contains("balance"))
}

#[test]
fn the_rules_can_fail() {
    assert_eq!(drawing("").checked, 0);
    assert_eq!(drawing("//! ```text\n//! top main cli/\n").problems.len(), 1, "logging is missing");

    assert_eq!(problems("src/tcp/dial.rs", "use crate::pool::Lease; use crate::sys;"), 0);
    assert_eq!(problems("src/tcp/dial.rs", "use crate::{pool::Lease, worker::Workers};"), 1);
    assert_eq!(problems("src/tcp/dial.rs", "use super::super::worker::Crew;"), 1);
    assert_eq!(problems("src/tcp/mod.rs", "use super::worker::Crew; fn a(b: super::health::C) {}"), 2);
    assert_eq!(problems("src/tcp/dial.rs", "use super::worker::Crew;"), 0);
    assert_eq!(problems("src/sys/mod.rs", "fn a() { crate::reason::Reason::word(); }"), 1);
    assert_eq!(problems("src/metrics/mod.rs", "use crate::pool::Backend;"), 1);
    assert_eq!(problems("src/liveness.rs", "use crate::sys::Errno;"), 1);
    assert_eq!(problems("src/liveness.rs", "use crate::reason::Reason;"), 1);
    assert_eq!(problems("src/nowhere/mod.rs", ""), 1);
    assert_eq!(problems("src/tcp/mod.rs", "use crate::nowhere::A;"), 1);
    assert_eq!(problems("src/balance/mod.rs", "use crate::config::settings::Balance;"), 0);
    assert_eq!(problems("src/balance/mod.rs", "use crate::config::{settings::Balance, units};"), 1);
    assert_eq!(problems("src/balance/mod.rs", ""), 1, "an exception that nobody uses");
}
