//! The architecture, read from `src/**`: every finding names file, line and rule. The tables at the head of each rule are
//! the plan; they change in a commit that says why. Each rule shows on a small piece of text that it can fail.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod circles;
mod crates;
mod homes;
mod imports;
mod pure;
mod shape;
mod source;
mod words;

use std::path::Path;

use source::Source;

/// What a rule looked at and what it found.
#[derive(Debug, Default)]
pub struct Findings {
    pub checked: usize,
    pub problems: Vec<String>,
}

impl Findings {
    fn add(&mut self, source: &Source, line: usize, rule: &str) {
        self.problems.push(format!("{}:{line}: {rule}", source.path));
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with every problem, and when fewer than `least` things were looked at: then the rule has gone blind.
#[track_caller]
fn hold(findings: &Findings, least: usize) {
    assert!(
        findings.checked >= least,
        "only {} things were checked, at least {least} are there",
        findings.checked
    );
    assert!(findings.problems.is_empty(), "\n{}\n", findings.problems.join("\n"));
}

#[test]
fn the_tree_is_read() {
    let sources = source::read(root());
    assert!(sources.len() >= 60, "{} files", sources.len());
    assert!(sources.iter().map(|source| source.functions().len()).sum::<usize>() >= 400);
    // balance/tests/*, and others that only tests see.
    assert!(sources.iter().filter(|source| source.live.is_empty()).count() >= 4);
}

#[test]
fn rooms_import_lower_floors() {
    hold(&imports::check(&source::read(root()), &imports::EXCEPTIONS), 80);
    hold(&imports::drawing(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap()), 18);
}

#[test]
fn what_is_pure_stays_pure() {
    hold(&pure::check(&source::read(root()), &pure::PURE), 60);
}

#[test]
fn files_of_a_room_import_each_other_one_way() {
    hold(&circles::check(&source::read(root()), &circles::REASONS), 200);
}

#[test]
fn crates_stay_in_their_rooms() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    hold(&crates::check(&source::read(root()), &manifest, &crates::HOMES), 40);
}

#[test]
fn unsafe_threads_tasks_clocks_and_statics_stay_at_home() {
    let sources = source::read(root());
    hold(&homes::check(&sources, &homes::HOMES), 25);
    hold(&homes::forbidden(&sources), 60);
}

#[test]
fn files_and_functions_keep_their_shape() {
    let sources = source::read(root());
    hold(&shape::files(&sources), 60);
    hold(&shape::functions(&sources), 400);
    hold(&shape::names(root()), 60);
}

#[test]
fn words_have_their_files_and_pages() {
    hold(&words::balance(root()), 7);
    let page = |name: &str| std::fs::read_to_string(root().join("docs").join(name)).unwrap();
    hold(&words::reasons(&page("log.md")), 16);
    hold(&words::lexicon(&source::read(root()), &page("design/lexicon.md")), 30);
    hold(&words::named_files(root(), "docs/design/architecture.md", &page("design/architecture.md")), 50);
    hold(&words::targets(&source::read(root())), 20);
    hold(&words::metrics(&source::read(root()), &page("metrics.md")), 20);
}
