//! One word everywhere: what the configuration, the log and the metrics say has its file and its page.

use std::path::Path;

use evenkeel::reason::Reason;

use super::Findings;
use super::source::Source;

const LOG_TARGETS: [&str; 4] = ["evenkeel", "health", "session", "discovery"];

/// Each algorithm lives in a file of its name. Counts the words that `balance` takes.
pub fn balance(root: &Path) -> Findings {
    let mut findings = Findings::default();
    // The mistake about a word that there is not lists those there are, in backticks.
    let text = b"listeners: { a: { bind: 1, balance: zzz, backends: [127.0.0.1:2] } }";
    let mistake = evenkeel::config::read("a", text).unwrap_err().to_string();
    let quoted = mistake.lines().next().unwrap_or_default().split('`').skip(1).step_by(2);
    for word in quoted.filter(|word| !matches!(*word, "balance" | "zzz")) {
        findings.checked += 1;
        if !root.join(format!("src/balance/{word}.rs")).is_file() {
            findings.problems.push(format!("`balance: {word}` has no src/balance/{word}.rs"));
        }
    }
    findings
}

/// Each reason is explained. Counts reasons.
pub fn reasons(page: &str) -> Findings {
    let mut findings = Findings::default();
    for reason in Reason::ALL {
        findings.checked += 1;
        // A row of its own, not a mention.
        if !page.lines().any(|line| line.starts_with(&format!("| `{}` |", reason.word()))) {
            findings.problems.push(format!("docs/log.md: the reason `{}` has no row", reason.word()));
        }
    }
    findings
}

/// Each metric is explained, and no other is. Counts metrics.
pub fn metrics(sources: &[Source], page: &str) -> Findings {
    let mut findings = Findings::default();
    let mut names: Vec<&str> = Vec::new();
    for source in sources.iter().filter(|source| source.room() == "admin") {
        let strings = source.live.iter().filter_map(|token| token.text.strip_prefix('"'));
        names.extend(strings.map(|text| text.trim_end_matches('"')).filter(|text| is_metric(text)));
    }
    names.sort_unstable();
    names.dedup();
    let explained: Vec<&str> = words_in(page).filter(|word| is_metric(word)).collect();
    // Samples and their families share a beginning; the page names samples, and histograms by their family.
    let is_form = |name: &str, word: &str| {
        word.strip_prefix(name)
            .is_some_and(|rest| ["", "_total", "_info", "_bucket", "_count", "_sum"].contains(&rest))
    };
    for name in &names {
        findings.checked += 1;
        if !explained.iter().any(|word| is_form(name, word)) {
            findings.problems.push(format!("docs/metrics.md: `{name}` is not explained"));
        }
    }
    for word in explained.iter().filter(|word| word.starts_with("evenkeel_")) {
        if !names.iter().any(|name| is_form(name, word)) {
            findings.problems.push(format!("docs/metrics.md: `{word}` is no metric of ours"));
        }
    }
    findings
}

/// Each log line names a target that users may filter by; without one it would show the layout of the modules. Counts
/// lines.
pub fn targets(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        for (place, token) in source.live.iter().enumerate() {
            let word = |ahead: usize| source.live.get(place + ahead).map_or("", |token| &*token.text);
            if token.text != "tracing" || word(1) != "::" || word(3) != "!" {
                continue;
            }
            findings.checked += 1;
            let target = word(7).trim_matches('"');
            if word(5) != "target" || !LOG_TARGETS.contains(&target) {
                findings.add(source, token.line, &format!("a log line without a target of {LOG_TARGETS:?}"));
            }
        }
    }
    findings
}

/// Each word of the lexicon is a type or a thing in the code, and each place that it names is there. Counts rows.
pub fn lexicon(sources: &[Source], page: &str) -> Findings {
    let mut findings = Findings::default();
    let types: Vec<&str> = sources
        .iter()
        .flat_map(|source| source.tokens.windows(2))
        .filter(|pair| matches!(&*pair[0].text, "struct" | "enum" | "trait" | "type"))
        .map(|pair| &*pair[1].text)
        .collect();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| here")) {
        findings.checked += 1;
        let cells: Vec<&str> = row.split('|').collect();
        let (Some(words), Some(places)) = (cells.get(1), cells.get(3)) else {
            findings.problems.push(format!("docs/design/lexicon.md: not three cells: {row}"));
            continue;
        };
        for word in quoted(words) {
            if !types.contains(&word) {
                findings.problems.push(format!("docs/design/lexicon.md: `{word}` is no type"));
            }
        }
        for place in quoted(places) {
            if !sources.iter().any(|source| source.inner().starts_with(place)) {
                findings.problems.push(format!("docs/design/lexicon.md: there is no src/{place}"));
            }
        }
    }
    findings
}

/// Files that a page names in backticks are there. Counts them.
pub fn named_files(root: &Path, page: &str, text: &str) -> Findings {
    let mut findings = Findings::default();
    let is_file = |word: &&str| word.ends_with(".rs") || word.ends_with('/');
    for word in quoted(text).filter(is_file) {
        findings.checked += 1;
        if ![root.join(word), root.join("src").join(word)].iter().any(|place| place.exists()) {
            findings.problems.push(format!("{page}: there is no `{word}`"));
        }
    }
    findings
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_metric(word: &str) -> bool {
    let rest = word.strip_prefix("evenkeel_").or_else(|| word.strip_prefix("process_"));
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

fn words_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn the_rules_can_fail() {
    assert_eq!(reasons("").problems.len(), Reason::ALL.len());
    assert_eq!(reasons("| `idle` | nobody spoke |").problems.len(), Reason::ALL.len() - 1);

    let source =
        [Source::new("src/admin/metrics.rs", "fn a() { b(\"evenkeel_c\"); d(\"evenkeel_c_total\"); }")];
    assert_eq!(metrics(&source, "`evenkeel_c_total`").problems, [""; 0]);
    assert_eq!(metrics(&source, "`evenkeel_e_total`").problems.len(), 3);
    assert_eq!(metrics(&source, "").problems.len(), 2);

    let lines = "fn a() { tracing::info!(target: \"health\", b, \"c\"); tracing::warn!(\"d\"); tracing::warn!(target: \"e\", \"f\"); }";
    let found = targets(&[Source::new("src/a.rs", lines)]);
    assert_eq!((found.checked, found.problems.len()), (3, 2));

    let sources = [Source::new("src/a/b.rs", "pub struct C; enum D {}")];
    assert_eq!(lexicon(&sources, "| `C`, `D` | c | `a/`, `a/b.rs` |").problems, [""; 0]);
    assert_eq!(lexicon(&sources, "| `E` | c | `a/f.rs` |").problems.len(), 2);
    assert_eq!(named_files(Path::new("/nowhere"), "", "`a.rs`, `b/`, `c`").problems.len(), 2);

    assert!(!balance(Path::new("/nowhere")).problems.is_empty());
}
