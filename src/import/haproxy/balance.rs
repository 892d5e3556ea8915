//! `balance`, `stick` and `hash-type` of HAProxy.

use super::super::notes::Notes;
use super::super::plan::Part;
use super::super::units::milliseconds;
use super::super::yaml::Yaml;
use super::sections::Section;

/// How the pool chooses.
pub(super) fn read(section: &Section, pool: &mut Part, notes: &mut Notes) {
    let line = section.last(&["balance"]);
    let at = notes.at(line.map_or(section.number, |line| line.number));
    let words: Vec<&str> =
        line.map_or_else(Vec::new, |line| line.words.iter().skip(1).map(String::as_str).collect());
    let first = words.first().copied().unwrap_or("roundrobin");
    let balance = match first {
        "roundrobin" | "static-rr" => "round_robin",
        "leastconn" => "least_connections",
        "first" => "first",
        "random(1)" => "random",
        other if other.starts_with("random") => "two_choices",
        "source" => source(section, &at, notes),
        "hash" if matches!(&words[1..], ["src" | "src,ipmask(32,64)", ..]) => source(section, &at, notes),
        other => {
            let whole = words.join(" ");
            notes.lost(
                &at,
                format!(
                    "`balance {whole}`: nothing of what `{other}` looks at is read here; backends take turns"
                ),
            );
            "round_robin"
        }
    };
    pool.word(&["balance"], balance);
    sticky(section, pool, notes);
}

fn source(section: &Section, at: &super::super::notes::At, notes: &mut Notes) -> &'static str {
    notes.different(
        at,
        "`balance source` is `source_hash`: a client stays with its backend, which is another one than HAProxy's hash gives; when a backend goes, only its own clients move",
    );
    if let Some(line) = section.last(&["hash-balance-factor"]) {
        let at = notes.at(line.number);
        notes.unknown(&at, "hash-balance-factor", &line.words.join(" "));
    }
    "source_hash"
}

/// `stick on src` with a table of addresses.
fn sticky(section: &Section, pool: &mut Part, notes: &mut Notes) {
    let sticks: Vec<_> = section.lines.iter().filter(|line| line.words[0] == "stick").collect();
    for line in &sticks {
        let at = notes.at(line.number);
        let words: Vec<&str> = line.words.iter().skip(1).map(String::as_str).collect();
        match &*words {
            ["on", "src"] => {}
            ["on", "src", ..] => {
                notes.different(&at, format!("`stick {}`: every client sticks here", words.join(" ")));
            }
            _ => {
                notes.lost(&at, format!("`stick {}`: a client sticks by its address alone", words.join(" ")));
                return;
            }
        }
        pool.set(&["sticky"], Yaml::Map(Vec::new()));
    }
    let Some(table) = section.last(&["stick-table"]) else {
        // `sticky` without keys of its own has those of the table below.
        if pool.has(&["sticky"]) {
            pool.word(&["sticky", "for"], "30m");
        }
        return;
    };
    let at = notes.at(table.number);
    if sticks.is_empty() {
        notes.lost(&at, "`stick-table` that counts: `limits: { rate_per_source, sessions_per_source }` of the listener are what a client may");
        return;
    }
    let value = |key: &str| {
        let place = table.words.iter().position(|word| word == key)?;
        table.words.get(place + 1).map(String::as_str)
    };
    if let Some(ms) = value("expire").and_then(|text| milliseconds(text, 1)) {
        pool.word(&["sticky", "for"], super::super::units::duration(ms, (1_000, 2_592_000_000)));
    }
    if let Some(entries) = value("size").and_then(entries) {
        pool.word(&["sticky", "entries"], entries.to_string());
    }
    if value("peers").is_some() {
        notes.lost(&at, "`peers`: each balancer remembers for itself; `source_hash` needs no memory, and agrees on all of them");
    }
    if matches!(pool.body.get(&["sticky"]), Some(Yaml::Map(keys)) if keys.is_empty()) {
        pool.word(&["sticky", "for"], "30m");
    }
}

/// `100k`, `1m`.
fn entries(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|one: char| one.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let factor = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1_024,
        "m" | "M" => 1_048_576,
        _ => return None,
    };
    number.checked_mul(factor)
}
