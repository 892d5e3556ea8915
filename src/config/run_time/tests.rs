//! Commands one after the other, and what is served then; and what the file makes of them.

use super::*;
use crate::config::mistake::Reads;
use crate::config::settings::Settings;
use crate::config::{Configuration, Text, read_files};

const BASE: &str = "
listeners:
  web: { bind: 80, backends: [10.0.0.1:1, { address: 10.0.0.2:1, name: b, weight: 1 }] }
  pg: { bind: 81, pool: pg }
pools:
  pg: { backends: [10.0.1.1:5432, 10.0.1.2:5432] }
";
const READS: Reads = Reads { secret: |_| Ok(Vec::new()), variable: |_| None, networks: |_| Ok(Vec::new()) };

fn keys(text: &str) -> Vec<(String, String)> {
    let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.split_whitespace().filter_map(pair).collect()
}

/// A command as it is typed.
fn command(line: &str) -> RunTimeCommand {
    let words: Vec<&str> = line.split(' ').collect();
    let named = words[1].split_once('/');
    let of = |backend: Option<(&str, &str)>| backend.map(|(_, backend)| backend.to_owned());
    let wish = match words[0] {
        "add" => RunTimeWish::Add {
            addresses: words[2..]
                .iter()
                .filter(|word| !word.contains('='))
                .map(|one| (*one).to_owned())
                .collect(),
            keys: keys(line),
        },
        "remove" => RunTimeWish::Remove { backend: of(named).unwrap() },
        "set" => RunTimeWish::Set { backend: of(named).unwrap(), keys: keys(line) },
        _ => RunTimeWish::Reset { backend: of(named) },
    };
    let pool = named.map_or(words[1], |(pool, _)| pool).to_owned();
    RunTimeCommand { pool, wish, by: "eve".into(), now_s: 7 }
}

fn after(lines: &[&str]) -> Result<Vec<RunTimeChange>, RunTimeError> {
    lines.iter().try_fold(Vec::new(), |changes, line| edited(&changes, &command(line), BASE))
}

fn read(text: &str, changes: &[RunTimeChange]) -> Result<Configuration, String> {
    let text = Text { name: "f", bytes: text.as_bytes() };
    read_files(&[text], changes, READS).map_err(|mistakes| mistakes.to_string())
}

fn backends(settings: &Settings, pool: &str) -> Vec<String> {
    let pool = settings.pools.iter().find(|one| one.name == pool).unwrap();
    let mut all: Vec<String> =
        pool.backends.iter().map(|one| format!("{}@{} {}", one.name, one.ip, one.weight)).collect();
    all.extend(pool.sources.iter().map(|source| source.text.clone()));
    all
}

fn served(lines: &[&str], pool: &str) -> Vec<String> {
    let changes = after(lines).unwrap_or_else(|why| panic!("{lines:?}: {why}"));
    let read = read(BASE, &changes).unwrap_or_else(|why| panic!("{lines:?}: {why}"));
    assert_eq!((read.changes.clone(), &read.over[..]), (changes, &[][..]), "{lines:?}");
    // What is handed over means the same without the changes.
    let again = self::read(&read.text, &[]).unwrap();
    assert_eq!(again.settings, read.settings, "{}", read.text);
    assert_eq!(read.base, BASE);
    backends(&read.settings, pool)
}

#[test]
fn commands_change_what_is_served_and_the_last_word_counts() {
    let cases: [(&[&str], &str, &[&str]); 14] = [
        (&[], "web", &["10.0.0.1:1@10.0.0.1 1", "b@10.0.0.2 1"]),
        (&["add web 10.0.0.3:1"], "web", &["10.0.0.1:1@10.0.0.1 1", "b@10.0.0.2 1", "10.0.0.3:1@10.0.0.3 1"]),
        (
            &["add pg 10.0.1.3:1 10.0.1.4:1 weight=5", "remove pg/10.0.1.3:1", "remove pg/10.0.1.1:5432"],
            "pg",
            &["10.0.1.2:5432@10.0.1.2 1", "10.0.1.4:1@10.0.1.4 5"],
        ),
        (
            &["add pg db.example.org:5432"],
            "pg",
            &["10.0.1.1:5432@10.0.1.1 1", "10.0.1.2:5432@10.0.1.2 1", "db.example.org:5432"],
        ),
        (&["remove web/b"], "web", &["10.0.0.1:1@10.0.0.1 1"]),
        (
            &["set web/b weight=9", "set web/b weight=8 tier=1"],
            "web",
            &["10.0.0.1:1@10.0.0.1 1", "b@10.0.0.2 8"],
        ),
        (&["set web/10.0.0.1:1 weight=9"], "web", &["10.0.0.1:1@10.0.0.1 9", "b@10.0.0.2 1"]),
        // The same backend at another address.
        (&["set web/10.0.0.1:1 address=10.0.0.7:1"], "web", &["10.0.0.1:1@10.0.0.7 1", "b@10.0.0.2 1"]),
        (
            &["add web 10.0.0.3:1", "set web/10.0.0.3:1 address=10.0.0.4:1 weight=2", "remove web/b"],
            "web",
            &["10.0.0.1:1@10.0.0.1 1", "10.0.0.3:1@10.0.0.4 2"],
        ),
        (&["set web/b weight=9", "remove web/b"], "web", &["10.0.0.1:1@10.0.0.1 1"]),
        (&["remove web/b", "add web 10.0.0.9:1 name=b"], "web", &["10.0.0.1:1@10.0.0.1 1", "b@10.0.0.9 1"]),
        (&["remove web/b", "add web b"], "web", &["10.0.0.1:1@10.0.0.1 1", "b@10.0.0.2 1"]),
        (&["remove web/b", "reset web/b"], "web", &["10.0.0.1:1@10.0.0.1 1", "b@10.0.0.2 1"]),
        (
            &["add web 10.0.0.3:1", "set web/b tier=1", "reset web"],
            "web",
            &["10.0.0.1:1@10.0.0.1 1", "b@10.0.0.2 1"],
        ),
    ];
    for (lines, pool, expected) in cases {
        assert_eq!(served(lines, pool), expected, "{lines:?}");
    }
}

#[test]
fn what_cannot_be_is_told_and_changes_nothing() {
    let cases: [(&[&str], &str); 13] = [
        (&["remove web/b", "add web 10.0.0.2:1"], "removed at run time as web/b; `evenkeel reset web/b`"),
        (&["add web 10.0.0.2:1"], "`10.0.0.2:1` is there already, as web/b"),
        (&["add nobody 10.0.0.1:1"], "no pool `nobody`"),
        (&["remove web/x"], "neither the file nor a command has a backend `x`"),
        (&["remove web/b", "remove web/b"], "removed already; `evenkeel reset web/b`"),
        (&["remove web/b", "set web/b weight=1"], "`evenkeel reset web/b` brings it back"),
        (&["remove web/b", "remove web/10.0.0.1:1"], "the last of pool `web`"),
        (&["add web 10.0.0.1:1"], "web/10.0.0.1:1 is there already; `evenkeel set web/10.0.0.1:1 KEY=VALUE`"),
        (&["add web 10.0.0.3:1", "add web 10.0.0.3:1"], "there already"),
        (&["add web 10.0.0.3:1 10.0.0.4:1 name=x"], "`name` is of one backend"),
        (&["set web/b name=c"], "known by its name"),
        (&["reset web/x"], "neither the file nor"),
        // Otherwise nobody would be left.
        (
            &["add web 10.0.0.3:1", "remove web/b", "remove web/10.0.0.1:1", "reset web/10.0.0.3:1"],
            "without a backend",
        ),
    ];
    for (lines, expected) in cases {
        let why = after(lines).expect_err(expected).to_string();
        assert!(why.contains(expected), "{lines:?}: {why}");
    }
}

#[test]
fn what_the_rules_of_the_file_refuse_is_told_at_the_word_of_the_command() {
    let cases = [
        ("add web 10.0.0.300:1", "at run time:1:9"),
        ("add web 10.0.0.3:1 weight=500", "at run time:1:27"),
        ("add web 10.0.0.3:1 wieght=5", "unknown key `wieght`"),
        ("set web/b max_sessions=none", "at run time:1:24"),
    ];
    for (line, expected) in cases {
        let changes = after(&[line]).unwrap();
        let told = read(BASE, &changes).unwrap_err();
        assert!(told.contains(expected) && told.contains("at run time:1:"), "{line}: {told}");
        assert!(told.contains("\nf: 1 mistake; the file was not used"), "{told}");
    }
}

#[test]
fn the_file_has_the_last_word() {
    let lines = [
        "add web 10.0.0.3:1",
        "add web 10.0.0.4:1 name=d",
        "remove web/b",
        "set web/10.0.0.1:1 weight=9",
        "add pg 10.0.1.3:1",
    ];
    let changes = after(&lines).unwrap();
    let stays = |text: &str| {
        let read = read(text, &changes).unwrap_or_else(|why| panic!("{why}"));
        let stays: Vec<String> = read.changes.iter().map(|one| one.backend.clone()).collect();
        assert_eq!(stays.len() + read.over.len(), changes.len());
        (stays.join(" "), read.over.join("; "))
    };
    let all = "10.0.0.3:1 d b 10.0.0.1:1 10.0.1.3:1";
    assert_eq!(stays(&BASE.replace("bind: 80", "bind: 8080")), (all.to_owned(), String::new()));
    // However it is written, it is the same backend.
    let (left, over) = stays(&BASE.replace("[10.0.0.1:1", "[10.0.0.3:1, 10.0.0.1:1"));
    assert_eq!((&*left, &*over), ("d b 10.0.0.1:1 10.0.1.3:1", "web/10.0.0.3:1: the file has it now"));
    let (_, over) = stays(&BASE.replace("[10.0.0.1:1", "[{ address: 10.0.0.4:1, name: other }, 10.0.0.1:1"));
    assert_eq!(over, "web/d: the file has its address now");
    let (_, over) = stays(&BASE.replace("name: b, weight: 1", "name: b, weight: 2"));
    assert_eq!(over, "web/b: the file says something else of it now");
    let (_, over) = stays(&BASE.replace(", { address: 10.0.0.2:1, name: b, weight: 1 }", ""));
    assert_eq!(over, "web/b: the file has removed it too");
    let (_, over) = stays(&BASE.replace("[10.0.0.1:1, ", "["));
    assert_eq!(over, "web/10.0.0.1:1: the file has removed it");
    let renamed =
        BASE.replace("pool: pg }", "pool: other }").replace("  pg: { backends", "  other: { backends");
    assert_eq!(stays(&renamed).1, "pg/10.0.1.3:1: the file has no such pool any more");
}

#[test]
fn changes_are_told_as_they_were_made() {
    let changes =
        after(&["add web 10.0.0.3:1 weight=5 tier=1", "remove web/b", "set web/10.0.0.1:1 weight=9"])
            .unwrap();
    let told: Vec<String> = changes.iter().map(RunTimeChange::told).collect();
    let expected = [
        "+ web/10.0.0.3:1  added with weight: 5, tier: 1",
        "- web/b  removed",
        "~ web/10.0.0.1:1  weight: 9",
    ];
    assert_eq!(told, expected);
    let commands: Vec<String> = changes.iter().map(RunTimeChange::command).collect();
    assert_eq!(
        commands,
        ["add web 10.0.0.3:1 weight=5 tier=1", "remove web/b", "set web/10.0.0.1:1 weight=9"]
    );
}

#[test]
fn a_thousand_are_enough() {
    let mut changes = Vec::new();
    for at in 0..1_000 {
        let line = format!("add web 10.1.{}.{}:1", at / 250, at % 250 + 1);
        changes = edited(&changes, &command(&line), BASE).unwrap();
    }
    assert!(
        edited(&changes, &command("add web 10.0.0.9:1"), BASE)
            .unwrap_err()
            .to_string()
            .contains("1000 backends")
    );
    assert_eq!(read(BASE, &changes).unwrap().settings.pools[0].backends.len(), 1_002);
}
