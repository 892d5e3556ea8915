//! The shape of files and functions: a header, a bounded length, a name that says something.

use std::path::Path;

use super::Findings;
use super::source::{Source, files_below};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// At the head of a file, or right above or inside the head of a function.
const REASON: &str = "// long because: ";
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "manager", "types"];

/// Counts files.
pub fn files(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        findings.checked += 1;
        if !source.raw.starts_with("//! ") {
            findings.add(source, 1, "a file begins with `//!`: what lives here");
        }
        let lines = source.raw.lines().count();
        let head = source.raw.lines().take_while(|line| line.starts_with("//"));
        if lines > FILE_LINES_MAX && !head.into_iter().any(|line| line.starts_with(REASON)) {
            let rule =
                format!("{lines} lines, more than {FILE_LINES_MAX}, without `{REASON}...` at the head");
            findings.add(source, 1, &rule);
        }
    }
    findings
}

/// Counts functions.
pub fn functions(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        let text: Vec<&str> = source.raw.lines().collect();
        for function in source.functions() {
            findings.checked += 1;
            let lines = function.last_line - function.line + 1;
            let head = &text[function.line.saturating_sub(4)..(function.line + 2).min(text.len())];
            if lines > FUNCTION_LINES_MAX && !head.iter().any(|line| line.trim_start().starts_with(REASON)) {
                let name = &function.name;
                let rule = format!(
                    "`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}, without `{REASON}...`"
                );
                findings.add(source, function.line, &rule);
            }
        }
    }
    findings
}

/// Counts files of the source and of the tests.
pub fn names(root: &Path) -> Findings {
    let mut findings = Findings::default();
    for folder in ["src", "tests", "scripts"] {
        for path in files_below(&root.join(folder)) {
            findings.checked += 1;
            let place = path.strip_prefix(root).unwrap().to_str().unwrap();
            findings.problems.extend(empty_name(place));
        }
    }
    findings
}

fn empty_name(place: &str) -> Option<String> {
    let mut parts = place.split('/').map(|part| part.split('.').next().unwrap_or(part));
    parts.find(|part| EMPTY_NAMES.contains(part)).map(|part| format!("{place}: `{part}` names nothing"))
}

#[test]
fn the_rules_can_fail() {
    let problems = |findings: Findings| findings.problems.len();
    let long = format!("//! A.\n{}", "\n".repeat(500));
    let excused = long.replacen('\n', "\n// long because: it is a list\n", 1);
    assert_eq!(problems(files(&[Source::new("src/a.rs", "//! A.\n")])), 0);
    assert_eq!(problems(files(&[Source::new("src/a.rs", "use b::c;\n")])), 1);
    assert_eq!(problems(files(&[Source::new("src/a.rs", &long)])), 1);
    assert_eq!(problems(files(&[Source::new("src/a.rs", &excused)])), 0);

    let body =
        |lines: usize| format!("fn a(b: [u8; 3]) -> u8 where u8: Copy {{{}}}\n", "\n".repeat(lines - 1));
    assert_eq!(problems(functions(&[Source::new("src/a.rs", &body(70))])), 0);
    assert_eq!(problems(functions(&[Source::new("src/a.rs", &body(71))])), 1);
    let excused = format!("// long because: one match\n{}", body(71));
    assert_eq!(problems(functions(&[Source::new("src/a.rs", &excused)])), 0);

    assert_eq!(empty_name("src/tcp/utilities.rs"), None);
    assert!(empty_name("src/utils/mod.rs").is_some());
    assert!(empty_name("src/tcp/types.rs").is_some());
}
