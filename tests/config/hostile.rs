//! Files that mean harm, and files that are broken anyhow: each is answered, soon and briefly.
//!
//! The times allowed are a hundred times what an idle machine needs; without the limits they guard, each case would
//! take minutes or all memory.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use evenkeel::config::read;
use evenkeel::config::settings::Settings;
use proptest::prelude::*;

/// Reads it, holds the answer to its bounds, and returns the text of the mistakes.
fn refused(name: &str, bytes: &[u8]) -> String {
    let start = Instant::now();
    let text = match read(name, bytes) {
        Ok(_) => panic!("{name} was taken for a good file"),
        Err(mistakes) => mistakes.to_string(),
    };
    assert!(start.elapsed() < SOON, "{name} took {:?}", start.elapsed());
    assert!(text.len() < 64 << 10, "{name} was answered with {} bytes", text.len());
    text
}

#[test]
fn bombs_are_refused_soon() {
    let laughs = |kind: &str| {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..kind.parse::<usize>().unwrap() {
            let below = format!("*a{},", level - 1).repeat(9);
            writeln!(text, "a{level}: &a{level} [{below}]").unwrap();
        }
        text
    };
    assert!(refused("billion laughs", laughs("9").as_bytes()).contains("counting what aliases repeat"));
    assert!(refused("chain of aliases", laughs("40").as_bytes()).contains("counting what aliases repeat"));
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), "*a,".repeat(100_000));
    assert!(refused("long text repeated", long.as_bytes()).contains("counting what aliases repeat"));
    let merges = format!("a: &a {{x: 1, y: 2}}\nb: {{<<: [{}]}}", "*a,".repeat(300_000));
    assert!(refused("merges", merges.as_bytes()).contains("counting what aliases repeat"));
    let mut deeper = "a0: &a0 [x]\n".to_owned();
    for level in 1..10_000 {
        writeln!(deeper, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
    }
    assert!(refused("depth by aliases", deeper.as_bytes()).contains("nested deeper than 16 levels"));
}

#[test]
fn depth_is_refused_soon() {
    assert!(refused("brackets", &b"["[..].repeat(400_000)).contains("nested deeper than 16 levels"));
    assert!(refused("braces", &b"{a: "[..].repeat(200_000)).contains("nested deeper than 16 levels"));
    assert!(refused("dashes", &b"- "[..].repeat(500_000)).contains("nested deeper than 16 levels"));
    let indented: String = (0..1000).fold(String::new(), |text, level| text + &" ".repeat(level) + "a:\n");
    assert!(refused("indents", indented.as_bytes()).contains("nested deeper than 16 levels"));
}

#[test]
fn size_and_junk_are_refused_soon() {
    assert!(refused("10 MB", &b"a: 1\n"[..].repeat(2_000_000)).contains("the longest allowed is 8 MiB"));
    assert!(
        refused("10 MB of junk", &b"\xff"[..].repeat(10_000_000)).contains("the longest allowed is 8 MiB")
    );
    let junk: Vec<u8> =
        (0..1_000_000_u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    refused("junk", &junk);
    refused("zeros", &[0; 1_000_000]);
    refused("elf", b"\x7fELF\x02\x01\x01\0\0\0");
    assert!(refused("utf-16", b"\xff\xfea\0:\0").contains("UTF-16"));
    for (name, unit) in [
        ("quotes", "\""),
        ("anchors", "&a "),
        ("tags", "!"),
        ("keys", "? "),
        ("colons", ": "),
        ("lines", "\n-"),
        ("percent", "%a\n"),
        ("pipes", "|\n"),
        ("comments", "# a\n"),
        ("blanks", " \n"),
        ("tabs", "\t"),
    ] {
        refused(name, unit.repeat(1_000_000 / unit.len()).as_bytes());
    }
}

#[test]
fn very_many_mistakes_are_told_briefly() {
    let mut many = "listeners:\n".to_owned();
    for at in 0..20_000 {
        writeln!(many, "  l{at}: {{bind: 1, pool: n{at}}}").unwrap();
    }
    let text = refused("unknown pools", many.as_bytes());
    assert!(text.contains("(the first 50 are shown)"), "{text}");
    let keys: String = (0..60_000).fold(String::new(), |text, at| text + &format!("key{at}: 1\n"));
    assert!(refused("unknown keys", keys.as_bytes()).contains("60001 mistakes"));
    let mut doubles = "listeners: {l: {bind: 1, backends: [".to_owned();
    doubles.push_str(&"10.0.0.1:1,".repeat(60_000));
    doubles.push_str("]}}");
    refused("doubles", doubles.as_bytes());
    let mut near = "listeners:\n".to_owned();
    for at in 0..1_500 {
        writeln!(near, "  l{at}: {{bind: 1, pool: {}x{at}}}", "a".repeat(40)).unwrap();
    }
    near.push_str("pools:\n");
    for at in 0..1_500 {
        writeln!(near, "  {}y{at}: {{backends: [10.0.0.1:1]}}", "a".repeat(40)).unwrap();
    }
    refused("near names", near.as_bytes());
    let ranges =
        format!("listeners: {{l: {{bind: [{}], backends: [10.0.0.1:1]}}}}", "1-65535,".repeat(60_000));
    assert!(refused("ranges", ranges.as_bytes()).contains("at most 1024"));
}

#[test]
fn limits_of_the_whole_file_are_told() {
    let mut text = "listeners:\n".to_owned();
    for at in 1..=5 {
        writeln!(text, "  l{at}: {{bind: {at}0000-{at}1000, pool: p}}").unwrap();
    }
    text.push_str("pools:\n  p:\n    backends:\n");
    for at in 0..10_001 {
        writeln!(text, "    - 10.1.{}.{}:80", at / 256, at % 256).unwrap();
    }
    let told = refused("limits", text.as_bytes());
    assert!(told.contains("5005 addresses and ports to bind in all; the most is 4096"), "{told}");
    assert!(told.contains("10001 backends in all; the most is 10000"), "{told}");
}

#[test]
fn a_big_good_file_is_read_soon() {
    let mut text = "listeners: {l: {bind: 5432, pool: p}}\npools:\n  p:\n    backends:\n".to_owned();
    for at in 0..10_000 {
        let (high, low) = (at / 256, at % 256);
        writeln!(text, "    - {{address: 10.1.{high}.{low}:80, name: b{at}, weight: 2, tier: 1}}").unwrap();
    }
    let start = Instant::now();
    let settings = read("big", text.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(settings.pools[0].backends.len(), 10_000);
}

#[test]
fn both_lists_of_networks_have_room_for_as_many_as_they_may_have() {
    let list = |first: u8| {
        let one =
            |at: u32| format!("{first}{}.{}.{}.{}/32", at % 9, at / 65_536, at / 256 % 256, 100 + at % 100);
        (0..100_000).map(one).collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "listeners: {{ l: {{ bind: 5432, backends: [10.0.0.1:1], allow: [{}], deny: [{}] }} }}",
        list(11),
        list(20)
    );
    let start = Instant::now();
    let settings = read("networks", text.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!((settings.listeners[0].allow.len(), settings.listeners[0].deny.len()), (100_000, 100_000));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_fine() {
    let plain = read("plain", REFERENCE.as_bytes()).unwrap();
    let windows = format!("\u{feff}{}", REFERENCE.replace('\n', "\r\n"));
    assert_eq!(read("windows", windows.as_bytes()).unwrap(), plain);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read("bytes", &bytes);
    }

    #[test]
    fn any_text_is_answered(text in "(\\PC|[\\[\\]{}:,&*!|>'\"%@`# \n\t-]){0,200}") {
        if let Err(mistakes) = read("text", text.as_bytes()) {
            check_shown(&mistakes.to_string());
        }
    }

    #[test]
    fn the_reference_with_anything_changed_is_answered(
        // Mostly characters that leave it YAML, so that the checks behind the parser get their share.
        edits in proptest::collection::vec((0..REFERENCE.len(), prop_oneof![9 => 32..127_u8, 1 => any::<u8>()]), 0..4),
        words in proptest::collection::vec((0..200_usize, "[0-9a-z:.\\[\\]{}&* '\"-]{0,6}"), 0..3),
        moves in proptest::collection::vec((0..200_usize, 0..200_usize, any::<bool>()), 0..3),
        cut in proptest::option::weighted(0.2, 0..REFERENCE.len()),
    ) {
        let settings = |line: &&str| !line.trim_start().starts_with('#');
        let mut lines: Vec<String> = REFERENCE.lines().filter(settings).map(str::to_owned).collect();
        for (from, to, leave) in moves {
            let (from, to) = (from % lines.len(), to % lines.len());
            let line = if leave { lines[from].clone() } else { lines.remove(from) };
            lines.insert(to, line);
        }
        for (line, word) in words {
            let line = line % lines.len();
            let value = lines[line].find(": ").map_or(0, |colon| colon + 2);
            lines[line].insert_str(value, &word);
        }
        let mut bytes = lines.join("\n").into_bytes();
        for (at, byte) in edits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut % bytes.len());
        }
        let start = Instant::now();
        match read("changed", &bytes) {
            Ok(settings) => check_settings(&settings),
            Err(mistakes) => {
                prop_assert!(!mistakes.list().is_empty());
                check_shown(&mistakes.to_string());
            }
        }
        prop_assert!(start.elapsed() < SOON);
    }
}

/// What the rest of the program relies on, whatever the file was.
fn check_settings(settings: &Settings) {
    assert!(!settings.listeners.is_empty());
    for listener in &settings.listeners {
        assert!(!listener.bind.is_empty() && listener.bind.iter().all(|bind| bind.port != 0));
        assert!(listener.pool < settings.pools.len());
    }
    for pool in &settings.pools {
        let names: BTreeSet<&str> = pool.backends.iter().map(|backend| &*backend.name).collect();
        assert!(!names.is_empty() && names.len() == pool.backends.len());
        assert!(pool.backends.iter().all(|backend| backend.weight <= 256 && backend.port != Some(0)));
        assert!(pool.backends.iter().all(|backend| backend.max_sessions != Some(0)));
        assert!(pool.connect.attempts > 0 && pool.health.rise > 0 && pool.health.fall > 0);
    }
}

fn check_shown(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

const REFERENCE: &str = include_str!("../../conf/reference.yaml");
const SOON: Duration = Duration::from_secs(5);
