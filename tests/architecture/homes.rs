//! What has few homes: `unsafe`, spawning, reading the clock, statics. And what has none.

use super::Findings;
use super::source::{Source, Token};

/// What may stand where, as beginnings of places below `src/`, and why there.
pub const HOMES: [(&str, &str, &str); 51] = [
    ("unsafe", "sys/", "the only raw system calls"),
    ("spawn", "worker/event_loop.rs", "a data thread"),
    ("spawn", "logging/mod.rs", "the writer, so that a slow disk stops nobody"),
    ("spawn", "server/", "its tasks and data threads, for which it waits, and the program that follows"),
    ("spawn", "admin/connections.rs", "one task for each connection of an admin door, at most 64 each"),
    ("spawn", "health/mod.rs", "the scheduler"),
    ("spawn", "health/scheduler.rs", "one task for each check in flight"),
    ("spawn", "health/lines.rs", "one task for each connection that is kept, for which it waits"),
    ("spawn", "health/panel.rs", "one wait for each Sentinel that is asked beside a server"),
    ("spawn", "health/line.rs", "a password is worked out, one at a time, so that other checks are not late"),
    ("spawn", "tls/", "files of certificates are read, so that other checks are not late"),
    ("spawn", "discovery/service.rs", "one task for each name that is being asked for, at most 8"),
    ("spawn", "discovery/resolver.rs", "one task for each host of a service that is asked for, at most 8"),
    (
        "spawn",
        "discovery/watches.rs",
        "one task for each source that tells the whole; it ends with its entry",
    ),
    ("spawn", "discovery/list_file.rs", "a file is looked at and read where it may wait"),
    ("spawn", "discovery/http.rs", "a long list is read where others need not wait for it"),
    ("spawn", "discovery/ask/token.rs", "the file of a token is read, so that other sources are not late"),
    ("spawn", "cli/demo/", "built-in backends and clients"),
    (
        "spawn",
        "cli/top/",
        "who asks the balancer and who reads the keys, so that neither holds up the screen",
    ),
    ("spawn", "cli/readiness/actions.rs", "what is to be run at a change of readiness, one at a time"),
    ("spawn", "cli/launch.rs", "the program that follows, which belongs to the service manager"),
    ("now", "worker/event_loop.rs", "once for each batch of events; everything below is told the time"),
    ("now", "server/start.rs", "the zero of the clock that all threads share"),
    ("now", "publisher/", "how long a backend has been up, down or ejected"),
    ("now", "server/handover/restart.rs", "how long the program on disk may take to answer"),
    ("now", "server/handover/send.rs", "how long the data threads stood still"),
    ("now", "server/control.rs", "the clock that all threads share, for what travels"),
    ("now", "server/handover/receive.rs", "where the zero of the process before lies"),
    ("now", "server/cancels.rs", "when a request to cancel came: one that waited too long is dropped"),
    ("now", "server/stop.rs", "the end of the grace"),
    ("now", "server/found_file.rs", "how old it is what was found"),
    ("now", "server/withdrawal.rs", "the day of a withdrawal, for people"),
    ("now", "cli/commands/withdraw.rs", "how long nobody has come"),
    ("now", "server/reload.rs", "when the file was read last"),
    ("now", "server/network_files.rs", "since when a file of networks is served, or refused"),
    ("now", "admin/", "how long ago something was, for people"),
    ("now", "cli/readiness/", "how long a balancer may be silent, and a command may last"),
    ("now", "cli/commands/marks.rs", "how long a wait may last"),
    ("now", "health/scheduler.rs", "when a check is due and how long it took"),
    ("now", "health/line.rs", "how long an answer took, and how long a connection has been kept"),
    ("now", "health/panel.rs", "how long the last Sentinels may take when more than half have answered"),
    ("now", "tls/", "when certificates were read last"),
    ("now", "discovery/service.rs", "when a source is to be asked"),
    ("now", "discovery/list_file.rs", "when a file that has changed is read once more"),
    ("now", "discovery/resolver.rs", "how long a server may take"),
    ("now", "discovery/docker/", "for how long a container that was told to stop is believed to"),
    ("now", "health/tcp.rs", "how long a handshake took"),
    ("now", "health/tcp_talk.rs", "how long an answer took"),
    ("now", "health/udp_talk.rs", "how long an answer took"),
    ("now", "cli/top/mod.rs", "how long nobody has answered, and when a notice goes"),
    ("now", "cli/demo/", "how fast the demo saw a backend die"),
];

/// Counts uses of such things.
pub fn check(sources: &[Source], homes: &[(&str, &str, &str)]) -> Findings {
    let mut findings = Findings::default();
    let mut used = vec![false; homes.len()];
    for source in sources {
        let inner = source.path.trim_start_matches("src/");
        for (place, token) in source.live.iter().enumerate() {
            let Some(kind) = kind(&source.live, place) else { continue };
            findings.checked += 1;
            match homes.iter().position(|(what, home, _)| *what == kind && inner.starts_with(home)) {
                Some(home) => used[home] = true,
                None => {
                    let rule = format!(
                        "`{}` ({kind}) away from its homes in tests/architecture/homes.rs",
                        token.text
                    );
                    findings.add(source, token.line, &rule);
                }
            }
        }
    }
    for ((what, home, _), used) in homes.iter().zip(used) {
        if !used {
            findings.problems.push(format!("there is no `{what}` in src/{home}: take it off the list"));
        }
    }
    findings
}

fn kind(tokens: &[Token], place: usize) -> Option<&'static str> {
    let word = |place: usize| tokens.get(place).map_or("", |token| &*token.text);
    let before = place.checked_sub(1).map_or("", word);
    let called = before != "fn" && matches!(word(place + 1), "(" | "::");
    match word(place) {
        "unsafe" => Some("unsafe"),
        // `mod::spawn` brought in by `use` is seen where it is called.
        "spawn" | "spawn_blocking" | "spawn_local" | "spawn_scoped" if called => Some("spawn"),
        "now" | "elapsed" if called => Some("now"),
        "static" | "thread_local" => Some("static"),
        _ => None,
    }
}

/// What stands nowhere: unfinished work, and `unwrap` without a proof that it cannot fail. Counts files.
pub fn forbidden(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        findings.checked += 1;
        for (number, line) in source.raw.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX"] {
                if line.contains(word) {
                    findings.add(source, number + 1, &format!("{word}: do it, or leave it out"));
                }
            }
        }
        for tokens in source.tokens.windows(2) {
            if matches!(&*tokens[0].text, "todo" | "unimplemented" | "dbg") && tokens[1].text == "!" {
                findings.add(source, tokens[0].line, &format!("`{}!` is unfinished work", tokens[0].text));
            }
        }
        for tokens in source.live.windows(3) {
            let [dot, name, open] = tokens else { continue };
            if dot.text == "." && matches!(&*name.text, "unwrap" | "expect") && open.text == "(" {
                let proven =
                    source.raw.lines().take(name.line).skip(name.line.saturating_sub(1 + PROOF_LINES));
                if !proven.into_iter().any(|line| {
                    line.contains("allow(clippy::unwrap_used") || line.contains("allow(clippy::expect_used")
                }) {
                    findings.add(
                        source,
                        name.line,
                        "no unwrap without an `#[allow]` and a proof right above",
                    );
                }
            }
        }
    }
    findings
}

/// How far above an `unwrap` its `#[allow]` may stand.
const PROOF_LINES: usize = 10;

#[test]
fn the_rules_can_fail() {
    let homes = [("spawn", "tcp/", ""), ("unsafe", "tcp/", "")];
    let problems = |path: &str, text: &str| check(&[Source::new(path, text)], &homes).problems.len();
    assert_eq!(problems("src/tcp/mod.rs", "fn spawn() { unsafe {}; tokio::spawn(a); }"), 0);
    assert_eq!(problems("src/tcp/mod.rs", "fn b() { tokio::spawn(a); }"), 1, "unsafe is not there");
    assert_eq!(problems("src/pool/mod.rs", "fn b() { unsafe {}; scope.spawn::<A>(a); }"), 4);
    for text in
        ["static A: u8 = 0;", "fn a() { Instant::now(); }", "fn a() { b.elapsed(); }", "thread_local! {}"]
    {
        assert_eq!(problems("src/tcp/mod.rs", text), 3, "{text}");
    }
    assert_eq!(
        problems(
            "src/pool/mod.rs",
            "fn a(b: &'static str) {} #[cfg(test)] mod tests { fn c() { unsafe {} } }"
        ),
        2
    );

    let problems = |text: &str| forbidden(&[Source::new("src/tcp/mod.rs", text)]).problems.len();
    assert_eq!(problems("#[cfg(test)] mod tests { fn a() { b.unwrap(); } } fn c() { d.unwrap_or(0); }"), 0);
    assert_eq!(
        problems("fn a() {\n// It was set above.\n#[allow(clippy::unwrap_used)]\nlet a = b.unwrap(); }"),
        0
    );
    for text in [
        "// TODO: more",
        "fn a() { todo!() }",
        "fn a() { dbg!(b); }",
        "fn a() { b.unwrap(); }",
        "fn a() { b.expect(\"c\"); }",
    ] {
        assert_eq!(problems(text), 1, "{text}");
    }
}
