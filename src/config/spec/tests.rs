//! The rules keep to the rows: made from the table, so that a new row is tested with it.

use super::find::{Found, all};
use super::{Default, Kind, Protocols};
use crate::config::read;
use crate::config::settings::{Protocol, Settings, Word};

/// A file in which the key has this value, or is left out while the maps around it are written.
fn file(path: &str, value: Option<&str>, protocol: Protocol) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    let protocol = format!("protocol: {}", protocol.word());
    let unless = |is: bool, text: &str| if is { String::new() } else { format!("{text}, ") };
    match &steps[..] {
        ["listeners", "NAME", rest @ ..] => {
            let own = [
                unless(rest[0] == "bind", "bind: 1000"),
                unless(rest[0] == "protocol", &protocol),
                unless(!matches!(rest, ["routes[]", "database" | "user"]), "speaks: postgres"),
                unless(rest != ["routes[]", "host"], "speaks: minecraft"),
                unless(rest[0] == "pool" && value.is_some(), "backends: [10.0.0.1:1]"),
                unless(rest[0] != "role", TELLS_ROLES),
            ];
            let pool = match rest[0] {
                "pool" => "pools: { p: { backends: [10.0.0.1:1] } }",
                "routes[]" => "pools: { p: { backends: [10.0.0.1:1], health: { check: patroni } } }",
                _ => "",
            };
            format!("listeners: {{ l: {{ {}{} }} }}\n{pool}", own.concat(), nested(rest, value))
        }
        ["pools", "NAME", rest @ ..] => {
            let own = [
                unless(rest == ["max_sessions"], "max_sessions: 9"),
                unless(rest[0].starts_with("backends"), "backends: [10.0.0.1:1]"),
                unless(rest[0] != "roles", "health: { check: patroni }"),
                unless(value != Some("wait"), "queue: {}"),
            ];
            let (own, inner) = (own.concat(), nested(rest, value));
            format!(
                "listeners: {{ l: {{ bind: 1000, {protocol}, pool: p }} }}\npools: {{ p: {{ {own}{inner} }} }}"
            )
        }
        rest => {
            let (key, others) =
                (nested(rest, value), "listeners: { l: { bind: 1000, backends: [10.0.0.1:1] } }");
            if rest == ["listeners"] || rest == ["pools"] {
                others.to_owned()
            } else {
                format!("{key}\n{others}")
            }
        }
    }
}

fn nested(steps: &[&str], value: Option<&str>) -> String {
    match steps {
        [] => String::new(),
        [key] => value.map_or(String::new(), |value| format!("{key}: {value}")),
        [key, rest @ ..] => {
            // What a map needs besides.
            let beside = match (*key, rest) {
                ("dns", ["type"]) => "name: example.org, ",
                (_, ["send"]) => "expect: x, ",
                (_, ["expect"]) => "send: x, ",
                ("postgres" | "mysql", ["user", ..]) => "",
                ("postgres" | "mysql", _) => "user: u, ",
                ("redis", ["user"]) => "password: p, ",
                ("redis", ["sentinels"]) if value.is_some_and(|value| value != "[]") => "name: n, ",
                ("redis", ["name"]) => "sentinels: '10.0.0.1', ",
                ("redis", ["sentinel_password", ..]) => "sentinels: '10.0.0.1', name: n, ",
                ("file", ["every"]) => "path: /l, ",
                ("srv", ["port"]) => "name: _pg._tcp.example.org, ",
                ("http", ["every" | "token_file" | "tls", ..]) => "url: 'https://h/', ",
                ("consul", ["tls", ..]) => "service: s, agent: 'https://h', ",
                ("consul", [other, ..]) if *other != "service" => "service: s, ",
                ("docker", [other, ..]) if *other != "label" => "label: l, ",
                ("kubernetes", [other, ..]) if *other != "service" => "service: s, ",
                ("tls", ["certificate"]) => "key: /k, ",
                ("tls", ["key"]) => "certificate: /c, ",
                ("expect", ["primary"]) => "replica: y, ",
                ("expect", ["replica"]) => "primary: y, ",
                _ => "",
            };
            let inner = nested(rest, value);
            match key.strip_suffix("[]") {
                Some(key @ "routes") => {
                    let beside = if rest == ["pool"] { "" } else { "pool: p, " };
                    let wants = if matches!(rest, ["pool" | "role"]) { "from: 10.0.0.1, " } else { "" };
                    format!("{key}: [{{ {beside}{wants}{inner} }}]")
                }
                Some(key) if rest == ["address"] => format!("{key}: [{{ {inner} }}]"),
                Some(key) if rest[0] == "from" => format!("{key}: [{{ {inner} }}]"),
                Some(key) if rest == ["ignore"] => format!("{key}: [{{ from: {{ file: /l }}, {inner} }}]"),
                Some(key) if matches!(rest, ["addresses" | "family"]) => {
                    format!("{key}: [{{ address: 'db.example.org:1', {inner} }}]")
                }
                Some(key) => format!("{key}: [{{ address: 10.0.0.1:1, {inner} }}]"),
                None => format!("{key}: {{ {beside}{inner} }}"),
            }
        }
    }
}

/// What a role and `roles` need besides.
const TELLS_ROLES: &str = "health: { check: { tcp: { expect: { primary: x, replica: y } } } }";

/// The protocols of a row.
fn protocols(found: &Found) -> Vec<Protocol> {
    let all = Protocol::WORDS.iter().map(|(_, protocol)| *protocol);
    all.filter(|protocol| found.protocols.holds(*protocol)).collect()
}

fn read_with(found: &Found, value: Option<&str>, protocol: Protocol) -> Result<Settings, String> {
    let text = file(&found.path, value, protocol);
    let shown: String = text.chars().take(400).collect();
    read("f", text.as_bytes()).map_err(|mistakes| format!("{shown}\n{mistakes}"))
}

#[track_caller]
fn accepted(found: &Found, value: &str) {
    let tried: Vec<_> =
        protocols(found).into_iter().map(|protocol| read_with(found, Some(value), protocol)).collect();
    // `send_proxy: v1` is for one protocol and `on_down: rehome` for the other.
    assert!(tried.iter().any(Result::is_ok), "{} {tried:?}", found.path);
}

#[track_caller]
fn refused(found: &Found, value: &str) -> String {
    let mut told = String::new();
    for protocol in protocols(found) {
        match read_with(found, Some(value), protocol) {
            Ok(_) => panic!("`{}: {value}` is taken, {}", found.path, found.key.kind.range()),
            Err(mistakes) => told = mistakes,
        }
    }
    told
}

/// Values at the bounds of a kind, and just outside of them.
fn bounds(found: &Found) -> (Vec<String>, Vec<String>) {
    let around = |min: u64, max: u64, unit: &str| {
        let below = min.checked_sub(1).map(|below| format!("{below}{unit}"));
        let outside = below.into_iter().chain([format!("{}{unit}", max + 1)]).collect();
        (vec![format!("{min}{unit}"), format!("{max}{unit}")], outside)
    };
    let ms = |duration: &std::time::Duration| u64::try_from(duration.as_millis()).unwrap();
    match &found.key.kind {
        Kind::Whole(min, max, _) => around(*min, *max, ""),
        Kind::Duration(min, max, _) => around(ms(min), ms(max), "ms"),
        Kind::Seconds(min, max) => {
            let (inside, mut outside) = around(min.as_secs(), max.as_secs(), "s");
            outside.push("1500ms".to_owned());
            (inside, outside)
        }
        Kind::Size(min, max, _) => around((*min).into(), (*max).into(), "B"),
        Kind::Percent(max) => around(0, (*max).into(), "%"),
        Kind::Rate(most, _) => (
            vec!["1/m".to_owned(), format!("{most}/s"), format!("{}/m", most * 60)],
            vec!["0/s".to_owned(), format!("{}/s", most + 1), format!("{}/m", most * 60 + 1)],
        ),
        Kind::Factor(min, max, _) => {
            (vec![format!("{min}.0"), format!("{max}")], vec![format!("{}.99", min - 1), format!("{max}.01")])
        }
        Kind::Text(text) if text.most < usize::MAX => {
            (vec![text_of(found, text.most)], vec![text_of(found, text.most + 1)])
        }
        Kind::List(_, most) | Kind::ListOr(_, most, _) => {
            (vec![list_of(found, *most)], vec![list_of(found, most + 1)])
        }
        _ => (Vec::new(), Vec::new()),
    }
}

/// A text of so many characters that is right but for its length.
fn text_of(found: &Found, length: usize) -> String {
    match found.key.name {
        "socket" | "hosts" => format!("/{}", "s".repeat(length - 1)),
        // A domain name is made of labels of at most 63.
        "name" | "srv" if found.path.contains("dns") || found.path.contains("srv") => {
            "abcdefg.".repeat(length / 8 + 1)[..length].trim_end_matches('.').to_owned()
                + if length.is_multiple_of(8) { "h" } else { "" }
        }
        "pool" => "p".to_owned(),
        "url" => format!("http://h/{}", "u".repeat(length - 9)),
        "file" | "path" | "ca" | "certificate" | "key" | "token_file" | "kubeconfig" => {
            format!("/{}", "p".repeat(length - 1))
        }
        _ => "x".repeat(length),
    }
}

fn list_of(found: &Found, length: usize) -> String {
    let items: Vec<String> = match found.key.name {
        "bind" => (0..length).map(|at| (1_000 + at).to_string()).collect(),
        // A backend of IPv4 is reached from there.
        "connect_from" => (0..length).map(|at| format!("11.0.0.{at}")).collect(),
        // A route is for ports that its listener binds.
        "port" => vec!["1000".to_owned(); length],
        "ignore" => (0..length).map(|_| "weight".to_owned()).collect(),
        "hosts" | "search" => (0..length).map(|at| format!("lb{at}.example.net")).collect(),
        _ => (0..length)
            .map(|at| format!("{}::{:x}", if at >> 16 == 0 { "a" } else { "b" }, at & 0xffff))
            .collect(),
    };
    format!("[{}]", items.join(","))
}

#[test]
fn each_bound_is_taken_and_what_is_just_outside_is_refused() {
    let mut checked = 0;
    // The name of a pool is looked up; no other text is.
    for found in all().iter().filter(|found| found.path != "listeners.NAME.pool") {
        let (inside, outside) = bounds(found);
        for value in &inside {
            accepted(found, value);
        }
        for value in &outside {
            let told = refused(found, value);
            assert!(told.contains(found.key.name) || told.contains("the name of"), "{told}");
        }
        checked += inside.len() + outside.len();
    }
    assert!(checked > 150, "only {checked} values");
}

#[test]
fn a_default_that_is_written_means_the_same_as_leaving_it_out() {
    let mut checked = 0;
    for found in &all() {
        let value = match found.key.default {
            Default::Is("") => "''",
            Default::Is(text) => text,
            Default::Parts => "{}",
            Default::Told(_) | Default::Required | Default::Absent => continue,
        };
        // Another protocol is no default.
        let protocols = protocols(found)
            .into_iter()
            .filter(|protocol| found.key.name != "protocol" || protocol.word() == value);
        for protocol in protocols {
            let left_out = read_with(found, None, protocol).unwrap_or_else(|told| panic!("{told}"));
            let written = read_with(found, Some(value), protocol).unwrap_or_else(|told| panic!("{told}"));
            assert_eq!(left_out, written, "`{}: {value}`", found.path);
            checked += 1;
        }
    }
    assert!(checked > 90, "only {checked} defaults");
}

#[test]
fn each_word_is_taken_and_another_is_refused_by_naming_them() {
    let mut checked = 0;
    for found in &all() {
        let words = found.key.kind.words();
        for word in words {
            accepted(found, word);
        }
        // Any word is a domain.
        if !words.is_empty() && found.path != "dns.search" {
            let told = refused(found, "zzzzzzzz");
            let missing = words.iter().find(|word| !told.contains(&format!("`{word}`")));
            // A path or an address is told by its form, whose end the word is.
            assert_eq!(missing, None, "{told}");
            checked += words.len();
        }
    }
    assert!(checked > 70, "only {checked} words");
}

#[test]
fn a_key_for_one_protocol_is_refused_for_the_other() {
    let all = all();
    let mut checked = 0;
    for found in &all {
        let other = match found.protocols {
            Protocols::Both => continue,
            Protocols::Tcp => Protocol::Udp,
            Protocols::Udp => Protocol::Tcp,
        };
        // A key with a row for each is no stranger to either.
        let has_row = |row: &&Found| row.path == found.path && row.protocols.holds(other);
        if all.iter().any(|row| has_row(&row)) {
            continue;
        }
        let (inside, _) = bounds(found);
        let value = match (found.key.default, inside.first()) {
            (_, Some(value)) => value.clone(),
            (Default::Is("off"), _) => "{}".to_owned(),
            (Default::Is(text), _) => text.to_owned(),
            _ => "{}".to_owned(),
        };
        let told = read_with(found, Some(&value), other).expect_err(&found.path);
        assert!(told.contains(" is for "), "{told}");
        checked += 1;
    }
    assert!(checked > 12, "only {checked} keys");
}

#[test]
fn rows_of_one_name_differ_by_protocol_and_the_first_takes_what_the_others_take() {
    let all = all();
    let mut twice = 0;
    for pair in all.windows(2).filter(|pair| pair[0].path == pair[1].path) {
        assert_eq!(
            (pair[0].protocols, pair[1].protocols),
            (Protocols::Tcp, Protocols::Udp),
            "{}",
            pair[0].path
        );
        assert_eq!(pair[0].key.kind.bounds(), pair[1].key.kind.bounds());
        let words = pair[0].key.kind.words();
        assert!(pair[1].key.kind.words().iter().all(|word| words.contains(word)), "{}", pair[0].path);
        twice += 1;
    }
    assert_eq!(twice, 4);
    let mut paths: Vec<(&str, bool)> =
        all.iter().map(|found| (&*found.path, found.protocols.holds(Protocol::Tcp))).collect();
    let rows = paths.len();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), rows, "a key has a row, for each protocol at most one");
    assert!(rows > 90, "only {rows} rows");
}
