//! Where each key stands in the file, and which keys a word asks for: the answer of `evenkeel keys`.
//!
//! Pure. Must stay true: no line is wider than 100 columns.

use super::{Key, Kind, Protocols, Section, TOP};
use crate::config::foreign;
use crate::config::mistake::quoted;
use crate::config::nearest::nearest;
use crate::config::settings::{Protocol, Word};
use crate::config::table::explained;

/// A key and where it stands.
#[derive(Debug, Clone)]
pub struct Found {
    /// The whole way to it: `pools.NAME.health.interval`.
    pub path: String,
    /// The way to the map it stands in; empty for the first level.
    pub section: String,
    /// Its row.
    pub key: &'static Key,
    /// For which protocols it and all maps around it are.
    pub protocols: Protocols,
}

impl Found {
    /// The words of its protocols.
    pub fn protocols(&self) -> Vec<&'static str> {
        Protocol::WORDS.iter().filter(|(_, one)| self.protocols.holds(*one)).map(|(word, _)| *word).collect()
    }

    fn protocols_told(&self) -> String {
        self.protocols().join(" ")
    }

    /// Other places where it may stand: the keys of a pool also in a listener, and most of both in `defaults`.
    pub fn also(&self) -> Vec<String> {
        let (start, own) = match self.path.split_once(".NAME.") {
            Some(("listeners", rest)) => ("defaults.listener", rest),
            Some((_, rest)) => ("defaults.pool", rest),
            None => return Vec::new(),
        };
        let section =
            if start == "defaults.pool" { &super::DEFAULTS_POOL } else { &super::DEFAULTS_LISTENER };
        let first = own.split(['.', '[']).next().unwrap_or(own);
        let in_listener = (start == "defaults.pool").then(|| format!("listeners.NAME.{own}"));
        let as_default = section.all_keys().any(|key| key == first).then(|| format!("{start}.{own}"));
        in_listener.into_iter().chain(as_default).collect()
    }
}

/// Every key there is, in the order of the reference; those of `defaults` stand where listeners and pools have them.
pub fn all() -> Vec<Found> {
    let mut found = Vec::new();
    walk(&TOP, "", Protocols::Both, &mut found);
    found
}

/// Every section, the outer ones first; without those of `defaults`.
pub(in crate::config) fn sections() -> Vec<&'static Section> {
    fn collect(section: &'static Section, found: &mut Vec<&'static Section>) {
        found.push(section);
        for key in section.keys.iter().filter(|key| key.name != "defaults") {
            let inner = key.kind.section();
            // Two rows of a name have one map.
            if let Some(inner) = inner.filter(|inner| found.iter().all(|known| known.what != inner.what)) {
                collect(inner, found);
            }
        }
    }
    let mut found = Vec::new();
    collect(&TOP, &mut found);
    found
}

fn walk(section: &'static Section, path: &str, outer: Protocols, found: &mut Vec<Found>) {
    let dot = if path.is_empty() { "" } else { "." };
    let inside = |key: &Key| if outer == Protocols::Both { key.protocols } else { outer };
    for key in section.keys {
        let (path, section) = (format!("{path}{dot}{}", key.name), path.to_owned());
        found.push(Found { path, section, key, protocols: inside(key) });
    }
    for (at, key) in section.keys.iter().enumerate() {
        let is_name_of = |at: Option<usize>| {
            at.and_then(|at| section.keys.get(at)).is_some_and(|one| one.name == key.name)
        };
        // Two rows of a name have one map; what `defaults` may hold stands where listeners and pools have it.
        let is_seen = is_name_of(at.checked_sub(1)) || path == "defaults";
        let Some(inner) = key.kind.section().filter(|_| !is_seen) else { continue };
        let step = match key.kind {
            Kind::Named(..) => ".NAME",
            Kind::Backends(..) | Kind::Maps(..) => "[]",
            _ => "",
        };
        let protocols = if is_name_of(Some(at + 1)) { outer } else { inside(key) };
        walk(inner, &format!("{path}{dot}{}{step}", key.name), protocols, found);
    }
}

/// What a word found.
#[derive(Debug)]
pub enum Asked {
    /// Keys of this name, or whose name, way, words or line have it. The other paths mention it.
    Keys(Vec<Found>, Vec<String>),
    /// A word of another balancer: what it is here.
    Foreign(String),
    /// Nothing: this is to be told, with what may have been meant.
    Nothing(String),
}

/// The keys that a word asks for: by name or way; else by a part of one; else by what they do.
pub fn ask(word: &str) -> Asked {
    let word = word.trim().trim_end_matches(':').to_lowercase();
    let all = all();
    let some =
        |is: &dyn Fn(&Found) -> bool| -> Vec<Found> { all.iter().filter(|key| is(key)).cloned().collect() };
    let is_told = |found: &Found| !word.is_empty() && told(found, &word);
    let named = some(&|found| found.key.name == word || same_way(&found.path, &word));
    let partly = some(&|found| !word.is_empty() && found.path.to_lowercase().contains(&word));
    let by_word = some(&|found| found.key.kind.words().contains(&&*word));
    let best = [named, by_word, partly, some(&is_told)].into_iter().find(|list| !list.is_empty());
    // Its own words first, but not where they only mention it.
    let is_mentioned = best.as_ref().is_some_and(|list| {
        list.iter().all(|found| {
            found.key.name != word
                && !same_way(&found.path, &word)
                && !found.key.kind.words().contains(&&*word)
        })
    });
    if (best.is_none() || is_mentioned)
        && let Some(here) = foreign::key(&word)
    {
        return Asked::Foreign(here);
    }
    let Some(best) = best else {
        let names = all
            .iter()
            .flat_map(|found| std::iter::once(found.key.name).chain(found.key.kind.words().iter().copied()));
        let near = nearest(&word, names).map(|near| format!("did you mean `{near}`?"));
        let near = near.unwrap_or_else(|| "`evenkeel keys` lists them all".to_owned());
        return Asked::Nothing(format!(
            "no key of the file is called {}, and none mentions it; {near}",
            quoted(&word)
        ));
    };
    let is_among = |found: &Found| best.iter().any(|one| one.path == found.path);
    let others = some(&|found| is_told(found) && !is_among(found));
    let mut others: Vec<String> = others.into_iter().map(|found| found.path).collect();
    others.dedup();
    Asked::Keys(best, others)
}

/// `health.interval`, `pools.pg.health.interval`: the end of the way, or all of it with a name of one's own.
fn same_way(path: &str, word: &str) -> bool {
    if !word.contains('.') {
        return false;
    }
    let path = path.replace("[]", "").to_lowercase();
    let (steps, asked): (Vec<&str>, Vec<&str>) = (path.split('.').collect(), word.split('.').collect());
    let is_step = |(step, asked): (&&str, &&str)| step == asked || *step == "name";
    path.ends_with(&format!(".{word}"))
        || (steps.len() == asked.len() && steps.iter().zip(&asked).all(is_step))
}

/// Whether its words or its line have the word.
fn told(found: &Found, word: &str) -> bool {
    found.key.doc.to_lowercase().contains(word) || found.key.kind.words().contains(&word)
}

/// The whole table, a part for each map.
pub fn table_of_all() -> String {
    let all = all();
    let mut text = String::new();
    let mut sections: Vec<&str> = all.iter().map(|found| &*found.section).collect();
    sections.dedup();
    for section in sections {
        let head = if section.is_empty() { "the file" } else { section };
        let keys: Vec<&Found> = all.iter().filter(|found| found.section == section).collect();
        let rows = keys.iter().map(|found| {
            let key = found.key;
            [key.name.to_owned(), key.default.to_string(), found.protocols_told(), does(key)]
        });
        let heads = ["KEY", "DEFAULT", "FOR", "WHAT IT DOES [WHAT IT MAY BE]"].map(str::to_owned);
        let rows: Vec<[String; 4]> = std::iter::once(heads).chain(rows).collect();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{head}\n{}", explained(&rows, |_, _, cell| cell)));
    }
    text
}

/// What a key does, and in brackets what it may be; the keys of a section have a part of their own.
fn does(key: &Key) -> String {
    let is_section = matches!(key.kind, Kind::Section(_));
    if is_section { key.doc.to_owned() } else { format!("{} [{}]", key.doc, key.kind.range()) }
}

/// Each key with all that is known of it, a part for each.
pub fn blocks(keys: &[Found]) -> String {
    let block = |found: &Found| {
        let (key, also) = (found.key, found.also().join(", "));
        let rows = [
            ("what", key.doc.to_owned()),
            ("kind", key.kind.name().to_owned()),
            ("range", key.kind.range()),
            ("default", key.default.to_string()),
            ("protocols", found.protocols_told()),
            ("since", key.since.to_owned()),
            ("also", also),
        ];
        let told = rows.into_iter().filter(|(_, text)| !text.is_empty());
        let rows: Vec<[String; 2]> = told.map(|(name, text)| [format!("  {name}"), text]).collect();
        format!("{}\n{}", found.path, explained(&rows, |_, _, cell| cell))
    };
    keys.iter().map(block).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(word: &str) -> (Vec<String>, Vec<String>) {
        match ask(word) {
            Asked::Keys(keys, others) => (keys.into_iter().map(|key| key.path).collect(), others),
            Asked::Foreign(here) => panic!("{here}"),
            Asked::Nothing(why) => panic!("{why}"),
        }
    }

    #[test]
    fn keys_are_found_by_name_by_way_by_word_by_a_part_and_by_what_they_do() {
        let cases: [(&str, &[&str]); 9] = [
            ("weight", &["pools.NAME.backends[].weight"]),
            ("Weight:", &["pools.NAME.backends[].weight"]),
            ("health.interval", &["pools.NAME.health.interval"]),
            ("pools.pg.health.interval", &["pools.NAME.health.interval"]),
            ("backends.tier", &["pools.NAME.backends[].tier"]),
            ("rehome", &["pools.NAME.on_down", "pools.NAME.on_removed"]),
            ("grac", &["shutdown.grace", "pools.NAME.removed_grace"]),
            ("somaxconn", &["listeners.NAME.backlog"]),
            (
                "idle",
                &[
                    "listeners.NAME.timeouts.idle",
                    "listeners.NAME.timeouts.idle",
                    "listeners.NAME.keepalive.idle",
                ],
            ),
        ];
        for (word, expected) in cases {
            assert_eq!(paths(word).0, expected, "{word}");
        }
        let (_, others) = paths("weight");
        assert!(others.contains(&"pools.NAME.slow_start".to_owned()), "{others:?}");
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_may_be_meant() {
        for (word, expected) in
            [("wieght", "`weight`"), ("least_conections", "`least_connections`"), ("qqqqq", "lists them all")]
        {
            let Asked::Nothing(why) = ask(word) else { panic!("{word} is there") };
            assert!(why.contains(expected), "{why}");
        }
        for (word, expected) in
            [("least_conn", "`balance: least_connections`"), ("maxconn", "`max_sessions`")]
        {
            let Asked::Foreign(here) = ask(word) else { panic!("{word} is no word of others") };
            assert!(here.contains(expected), "{here}");
        }
        let Asked::Nothing(why) = ask("\x1b[2J") else { panic!("nothing is called so") };
        assert!(!why.contains('\x1b'), "{why:?}");
        assert!(matches!(ask(""), Asked::Nothing(_)));
        assert!(matches!(ask(&"x".repeat(100_000)), Asked::Nothing(_)));
    }

    #[test]
    fn tables_fit_the_screen_and_say_everything() {
        let (table, blocks) = (table_of_all(), blocks(&all()));
        for line in table.lines().chain(blocks.lines()) {
            assert!(line.chars().count() <= 100 && !line.contains('…'), "{line}");
        }
        for found in all() {
            assert!(table.contains(&format!("\n{} ", found.key.name)), "{}", found.path);
            assert!(blocks.contains(&format!("{}\n  what", found.path)), "{}", found.path);
        }
        assert!(table.contains("\npools.NAME.health\nKEY "), "{table}");
    }

    #[test]
    fn a_key_of_a_pool_stands_in_listeners_and_in_defaults_too() {
        let also =
            |path: &str| all().iter().find(|found| found.path == path).map(Found::also).unwrap_or_default();
        assert_eq!(
            also("pools.NAME.health.rise"),
            ["listeners.NAME.health.rise", "defaults.pool.health.rise"]
        );
        assert_eq!(also("pools.NAME.backends[].tier"), ["listeners.NAME.backends[].tier"]);
        assert_eq!(also("listeners.NAME.timeouts.idle"), ["defaults.listener.timeouts.idle"]);
        assert_eq!(also("listeners.NAME.bind"), [""; 0]);
        assert_eq!(also("workers"), [""; 0]);
    }
}
