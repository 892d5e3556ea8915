//! Files of one room import each other one way: who reads a file need not know those that use it. A circle that stays is
//! listed with its reason.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use super::source::Source;

/// Circles that are there, as places below `src/` in order, and why.
pub const REASONS: [(&[&str], &str); 5] = [
    (
        &["pool/backend.rs", "pool/lease.rs", "pool/live.rs", "pool/queue.rs", "pool/snapshot.rs"],
        "a circle of types: a lease holds a backend, a backend its pool, a pool the cell of the snapshot that a \
         waiting session is given its lease from, and a snapshot backends and pools",
    ),
    (
        &["sys/tcp.rs", "sys/udp.rs"],
        "each has socket options that the other needs too: binding and transparency here, setsockopt there",
    ),
    (
        &[
            "tcp/admission.rs",
            "tcp/cancel.rs",
            "tcp/connect_from.rs",
            "tcp/dial.rs",
            "tcp/empty_end.rs",
            "tcp/first_message.rs",
            "tcp/promised_tls.rs",
            "tcp/proxy_header.rs",
            "tcp/relay.rs",
            "tcp/session.rs",
            "tcp/terms.rs",
        ],
        "a circle of types: a session is in one of its stages, each of which steps the session into the next; its \
         terms say how it is admitted",
    ),
    (
        &["udp/close.rs", "udp/proxy_header.rs", "udp/pump.rs"],
        "a circle of types: the pump has the datagrams that came by a proxy and ends flows, and lends both its side",
    ),
    (
        &["udp/connect_from.rs", "udp/upstream.rs"],
        "an upstream asks for the address it connects from, and that there is none is why there is no upstream",
    ),
];

/// Counts imports between files of a room.
pub fn check(sources: &[Source], reasons: &[(&[&str], &str)]) -> Findings {
    let mut findings = Findings::default();
    let graph = Graph::new(sources);
    findings.checked = graph.imports.values().map(BTreeSet::len).sum();
    let mut found = graph.circles();
    for (files, _) in reasons {
        let before = found.len();
        found.retain(|circle| !circle.iter().eq(files.iter()));
        if found.len() == before {
            findings.problems.push(format!("the circle {files:?} is not there: take it off the list"));
        }
    }
    for circle in found {
        let steps: Vec<String> = graph.steps(&circle);
        findings.problems.push(format!("a circle of files without a reason: {}", steps.join(", ")));
    }
    findings
}

/// Which file imports which of its room.
struct Graph<'a> {
    imports: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Graph<'a> {
    fn new(sources: &'a [Source]) -> Self {
        let mut imports = BTreeMap::<&str, BTreeSet<&str>>::new();
        let live = || sources.iter().filter(|source| !source.live.is_empty());
        for source in live() {
            for named in source.named().iter().filter(|named| !named.passed_on) {
                let Some(path) = absolute(source, &named.segments) else { continue };
                if let Some(to) = file_of(sources, &path, 0)
                    && to.room() == source.room()
                    && to.path != source.path
                {
                    imports.entry(source.inner()).or_default().insert(to.inner());
                }
            }
        }
        Self { imports }
    }

    fn reach(&self, from: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            for to in self.imports.get(file).into_iter().flatten() {
                if reached.insert(*to) {
                    next.push(to);
                }
            }
        }
        reached
    }

    /// Files that reach each other, in order.
    fn circles(&self) -> Vec<Vec<&'a str>> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.imports.keys().map(|file| (*file, self.reach(file))).collect();
        let mut circles = Vec::new();
        let mut seen = BTreeSet::new();
        for (file, reached) in &reach {
            if !reached.contains(file) || seen.contains(file) {
                continue;
            }
            let there_and_back =
                |to: &&&str| reach.get(**to).is_some_and(|back: &BTreeSet<&str>| back.contains(file));
            let circle: Vec<&str> = reached.iter().filter(there_and_back).copied().collect();
            seen.extend(circle.iter().copied());
            circles.push(circle);
        }
        circles
    }

    /// `a -> b` for each import inside of a circle.
    fn steps(&self, circle: &[&str]) -> Vec<String> {
        let inside = |from: &&str| {
            let to = self.imports.get(*from).into_iter().flatten();
            to.filter(|to| circle.contains(to)).map(|to| format!("{from} -> {to}")).collect::<Vec<_>>()
        };
        circle.iter().flat_map(inside).collect()
    }
}

/// The path below the root of the crate. A path that begins with neither `crate`, `self` nor `super` may begin with a
/// module of the file's own.
fn absolute(source: &Source, segments: &[String]) -> Option<Vec<String>> {
    let mut module: Vec<String> = source
        .inner()
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| !matches!(*part, "mod" | "lib" | "main"))
        .map(str::to_owned)
        .collect();
    let mut rest = segments;
    match &*segments[0] {
        "crate" => return Some(segments[1..].to_vec()),
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|first| first == "super") {
                module.pop()?;
                rest = &rest[1..];
            }
        }
        _ => {}
    }
    module.extend(rest.iter().cloned());
    Some(module)
}

/// The file where what is named so is written down; what a module passes on is looked for where it comes from.
fn file_of<'a>(sources: &'a [Source], path: &[String], depth: usize) -> Option<&'a Source> {
    for length in (1..=path.len()).rev() {
        let module = path[..length].join("/");
        let places = [format!("{module}.rs"), format!("{module}/mod.rs")];
        let Some(file) = sources.iter().find(|source| places.iter().any(|place| source.inner() == place))
        else {
            continue;
        };
        if let Some(name) = path.get(length)
            && depth < DEPTH_MAX
            && let Some(passed) =
                file.named().iter().find(|named| named.passed_on && named.segments.last() == Some(name))
            && let Some(further) = absolute(file, &passed.segments)
        {
            return file_of(sources, &further, depth + 1).or(Some(file));
        }
        return Some(file);
    }
    None
}

/// How often a name may be passed on.
const DEPTH_MAX: usize = 4;

#[test]
fn the_rule_can_fail() {
    let files = |texts: &[(&str, &str)]| -> Vec<Source> {
        texts.iter().map(|(path, text)| Source::new(path, text)).collect()
    };
    let problems =
        |texts: &[(&str, &str)], reasons: &[(&[&str], &str)]| check(&files(texts), reasons).problems;
    let one_way = [
        ("src/a/mod.rs", "mod b; mod c; pub use b::B;"),
        ("src/a/b.rs", "use super::c::C;"),
        ("src/a/c.rs", "pub struct C;"),
    ];
    assert_eq!(problems(&one_way, &[]), [""; 0]);
    // What the room passes on is the file's that it comes from, not the room's.
    let passed_on =
        [one_way[0], ("src/a/b.rs", "pub struct B;"), ("src/a/c.rs", "use super::B; use crate::a::B as D;")];
    assert_eq!(problems(&passed_on, &[]), [""; 0]);
    let circle = [one_way[0], one_way[1], ("src/a/c.rs", "fn d() { super::B::new(); }")];
    let found = problems(&circle, &[]);
    assert!(found.len() == 1 && found[0].contains("a/b.rs -> a/c.rs, a/c.rs -> a/b.rs"), "{found:?}");
    assert_eq!(problems(&circle, &[(&["a/b.rs", "a/c.rs"], "two halves of one type")]), [""; 0]);
    assert_eq!(problems(&one_way, &[(&["a/b.rs", "a/c.rs"], "")]).len(), 1, "it is not there");
    // Through the room itself.
    let through = [("src/a/mod.rs", "mod b; use b::B; pub struct A(B);"), ("src/a/b.rs", "use super::A;")];
    assert_eq!(problems(&through, &[]).len(), 1);
    let only_tests =
        [one_way[0], one_way[1], ("src/a/c.rs", "#[cfg(test)] mod tests { use super::super::B; }")];
    assert_eq!(problems(&only_tests, &[]), [""; 0]);
}
