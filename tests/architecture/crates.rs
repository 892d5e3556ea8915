//! Each external crate has its rooms: what it is for is written beside it in `Cargo.toml`.

use super::Findings;
use super::source::Source;

/// Where a crate may be named, as beginnings of places below `src/`.
pub const HOMES: [(&str, &[&str]); 25] = [
    ("arc_swap", &["pool/snapshot.rs", "access/shared.rs"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("clap_mangen", &["cli/"]),
    ("granit_parser", &["config/document.rs"]),
    ("hashbrown", &["flow/"]),
    ("http_body_util", &["admin/", "discovery/ask/"]),
    ("hyper", &["admin/", "discovery/ask/"]),
    ("hyper_util", &["admin/", "discovery/ask/"]),
    ("libc", &["sys/"]),
    ("ratatui", &["cli/top/"]),
    ("ring", &["health/mysql/proofs.rs", "health/postgres/scram.rs", "health/protocols.rs"]),
    ("rustix", &["sys/"]),
    ("rustls_native_certs", &["tls/"]),
    ("sd_notify", &["systemd/notify.rs"]),
    (
        "serde_json",
        &[
            "admin/",
            "cli/",
            "config/schema.rs",
            "discovery/",
            "health/patroni.rs",
            "server/found_file.rs",
            "server/run_time.rs",
        ],
    ),
    ("siphasher", &["balance/", "flow/", "transfer/", "limits/", "sticky.rs"]),
    ("slab", &["tcp/", "worker/", "sticky.rs"]),
    ("strsim", &["config/nearest.rs"]),
    (
        "thiserror",
        &[
            "cli/",
            "config/",
            "discovery/",
            "dns/",
            "health/",
            "listener/",
            "manifest/",
            "proxy_protocol/",
            "routing/",
            "publisher/",
            "server/",
            "transfer/",
        ],
    ),
    // Never a data thread's: worker and tcp have a loop of their own.
    (
        "tokio",
        &[
            "cli/",
            "publisher/",
            "server/",
            "admin/",
            "transfer/",
            "systemd/",
            "health/",
            "discovery/",
            "tls/",
        ],
    ),
    // Of checks and sources alone: clients' own traffic is never looked into.
    ("tokio_rustls", &["health/line.rs", "tls/"]),
    ("tokio_util", &["cli/", "server/", "admin/", "health/"]),
    (
        "tracing",
        &[
            "cli/",
            "discovery/",
            "systemd/",
            "logging/",
            "publisher/",
            "server/",
            "listener/",
            "admin/",
            "worker/",
            "tcp/",
            "udp/",
        ],
    ),
    ("tracing_subscriber", &["logging/"]),
];

/// Counts places where a crate is named.
pub fn check(sources: &[Source], manifest: &str, homes: &[(&str, &[&str])]) -> Findings {
    let mut findings = Findings::default();
    let dependencies = dependencies(manifest, &mut findings);
    for (name, _) in homes {
        if !dependencies.iter().any(|dependency| dependency == name) {
            findings.problems.push(format!("tests/architecture/crates.rs: `{name}` is no dependency"));
        }
    }
    for dependency in &dependencies {
        let Some((_, homes)) = homes.iter().find(|(name, _)| name == dependency) else {
            findings
                .problems
                .push(format!("Cargo.toml: `{dependency}` has no room in tests/architecture/crates.rs"));
            continue;
        };
        let mut used = vec![false; homes.len()];
        for source in sources {
            let inner = source.path.trim_start_matches("src/");
            for named in source.named().iter().filter(|named| named.segments[0] == *dependency) {
                findings.checked += 1;
                match homes.iter().position(|home| inner.starts_with(home)) {
                    Some(home) => used[home] = true,
                    None => findings.add(source, named.line, &format!("`{dependency}` belongs in {homes:?}")),
                }
            }
        }
        for (home, used) in homes.iter().zip(used) {
            if !used {
                findings
                    .problems
                    .push(format!("`{dependency}` is not used in src/{home}: take it off the list"));
            }
        }
    }
    findings
}

/// The crates the program itself depends on; each line must say why.
fn dependencies(manifest: &str, findings: &mut Findings) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for (line, text) in manifest.lines().enumerate() {
        if text.starts_with('[') {
            inside = text == "[dependencies]";
            if text.starts_with("[dependencies.") || text.starts_with("[target.") {
                findings.problems.push(format!("Cargo.toml:{}: dependencies stand in one table", line + 1));
            }
        } else if let (true, Some((name, rest))) = (inside, text.split_once('=')) {
            if rest.split_once(" # ").is_none_or(|(_, reason)| reason.trim().len() < 10) {
                findings.problems.push(format!(
                    "Cargo.toml:{}: `{}` without its reason",
                    line + 1,
                    name.trim()
                ));
            }
            found.push(name.trim().replace('-', "_"));
        }
    }
    found
}

#[test]
fn the_rule_can_fail() {
    let manifest = "[dependencies]\na-b = \"1\" # what it is for\n[dev-dependencies]\nc = \"1\"\n";
    let problems = |manifest: &str, path: &str, text: &str| {
        check(&[Source::new(path, text)], manifest, &[("a_b", &["tcp/"])]).problems
    };
    assert_eq!(problems(manifest, "src/tcp/mod.rs", "use a_b::C;"), [""; 0]);
    assert_eq!(problems(manifest, "src/tcp/mod.rs", "fn d() { a_b::c!(); }"), [""; 0]);
    // In the wrong room, and so unused in its own.
    assert_eq!(problems(manifest, "src/pool/mod.rs", "use a_b::C;").len(), 2);
    // Unused but in a test.
    assert_eq!(problems(manifest, "src/tcp/mod.rs", "#[cfg(test)] mod tests { use a_b::C; }").len(), 1);
    let unlisted = manifest.replace("[dev", "d = \"1\" # what it is for\n[dev");
    assert_eq!(problems(&unlisted, "src/tcp/mod.rs", "use a_b::C;").len(), 1);
    let unexplained = manifest.replace(" # what it is for", "");
    assert_eq!(problems(&unexplained, "src/tcp/mod.rs", "use a_b::C;").len(), 1);
    assert_eq!(problems("[dependencies]\n", "src/tcp/mod.rs", "").len(), 1);
}
