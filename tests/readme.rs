//! What the README says is true: its files are read, its demo runs, its links lead somewhere.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const README: &str = include_str!("../README.md");

#[test]
fn every_yaml_block_is_a_file_without_mistakes() {
    let blocks: Vec<&str> =
        README.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 2, "found {} blocks", blocks.len());
    for block in blocks {
        if let Err(mistakes) = evenkeel::config::read("README.md", block.as_bytes()) {
            panic!("{mistakes}");
        }
    }
}

#[test]
fn what_stands_on_the_page_of_sources_is_read() {
    const PAGE: &str = include_str!("../docs/discovery.md");
    let blocks = |kind: &str| {
        let parts: Vec<&str> = PAGE.split(&format!("```{kind}\n")).skip(1).collect();
        parts.into_iter().filter_map(|rest| rest.split("```").next()).collect::<Vec<_>>()
    };
    let (lists, files): (Vec<&str>, Vec<&str>) =
        blocks("yaml").into_iter().partition(|block| block.starts_with("- "));
    assert!(files.len() >= 3 && !lists.is_empty());
    for block in files {
        if let Err(mistakes) = evenkeel::config::read("discovery.md", block.as_bytes()) {
            panic!("{mistakes}");
        }
    }
    for block in lists.into_iter().chain(blocks("json")).chain(blocks("text")) {
        if let Err(mistakes) = evenkeel::config::read_listing("discovery.md", block.as_bytes()) {
            panic!("{mistakes}");
        }
    }
}

#[test]
fn every_yaml_block_of_the_page_on_sources_is_a_file_without_mistakes() {
    let page = include_str!("../docs/sources.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut sources = 0;
    for block in blocks {
        match evenkeel::config::read("docs/sources.md", block.as_bytes()) {
            Ok(settings) => sources += settings.pools.iter().map(|pool| pool.sources.len()).sum::<usize>(),
            Err(mistakes) => panic!("{mistakes}"),
        }
    }
    assert_eq!(sources, 6, "each kind has its example");
}

#[test]
fn every_link_of_every_page_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "docs", "docs/design", "docs/design/decisions"];
    let files = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let pages: Vec<PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    let mut links = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: no {target}", page.display());
            let is_there =
                || fs::read_to_string(&file).unwrap().lines().any(|line| anchor_of(line) == heading);
            assert!(heading.is_empty() || is_there(), "{}: no heading {target}", page.display());
            links += 1;
        }
    }
    assert!(links >= 30, "found {links}");
}

/// What a heading is called in a link: lower case, dashes for spaces, no other marks.
fn anchor_of(line: &str) -> String {
    if !line.starts_with('#') {
        return String::new();
    }
    let words = line.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

#[test]
fn the_shown_screen_is_the_one_that_was_captured() {
    let captured = include_str!("../docs/top.txt");
    assert!(captured.lines().count() > 20 && captured.contains("> db1"), "{captured}");
    assert!(
        README.contains(&format!("```text\n{captured}```")),
        "scripts/captures puts docs/top.txt into the README"
    );
}

#[test]
fn the_shown_mistake_is_told_as_shown() {
    let text = "listeners:\n  x:\n    bind: 1\n    balance: first\n    backends:\n      - { address: 10.0.0.1, wieght: 2 }\n";
    let told = evenkeel::config::read("evenkeel.yaml", text.as_bytes()).unwrap_err().to_string();
    let shown = README.split("```text\nerror: ").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(
        told.contains(&format!("error: {shown}").trim_end().to_owned()),
        "told:\n{told}\nshown:\n{shown}"
    );
}

#[test]
fn the_demo_loses_nothing_and_keeps_the_weights() {
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel")).arg("demo").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let row = |name: &str| -> Vec<u64> {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect()
    };
    assert_eq!((row("a")[1], row("b")[1], row("c")[1]), (100, 200, 300), "{text}");
    assert_eq!(row("failed"), [0, 0, 0], "{text}");
    assert!(row("a")[2] > 0 && row("c")[2] > 0, "{text}");
    assert!(text.contains("a 5, b 10, c 15, 0 failed"), "{text}");
    let later = text.lines().find(|line| line.contains("the same players go on")).unwrap();
    assert!(later.ends_with(", 0 failed") && !later.contains("; a 5, b 10"), "{text}");
}

#[test]
fn the_demo_that_stays_prints_a_line_that_works() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["demo", "--stay"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let line =
        lines.find_map(|line| line.unwrap().split_once("nc ").map(|(_, rest)| rest.to_owned())).unwrap();
    let address = line.trim().replace(' ', ":");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"hello\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(["a", "b", "c"].iter().any(|name| answer == format!("{name}: hello\n")), "{answer}");
    let stopped = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert!(demo.wait().unwrap().success());
}

#[test]
fn a_reader_that_leaves_early_is_no_fault() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .arg("demo")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(demo.stdout.take());
    let mut told = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(demo.wait().unwrap().success(), "{told}");
    assert_eq!(told, "");
}
