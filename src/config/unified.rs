//! Unified diff of two configurations for people: what is different, each with the keys that say it, as they were written.
//!
//! Pure. Which listeners, pools and sections are different is decided by what they mean (`difference`); the keys below them are those
//! of the two texts, in which no password stands.

use super::check::joined;
use super::difference::{Change, How, changes};
use super::document::{Entry, Node, Value, parse};
use super::mistake::{Report, harmless};
use super::settings::Settings;
use super::spec::POOL;

/// The lines of the difference of two configurations, each with the text that says it: `+ - ~` and what, and below it `+ - ~` and its keys. None: both mean the same.
pub fn unified(before: (&Settings, &str), after: (&Settings, &str)) -> Vec<String> {
    let trees = (tree(before.1), tree(after.1));
    let all = changes(before.0, after.0);
    let mut lines = Vec::new();
    for same in all.chunk_by(|one, other| (one.what, &one.name) == (other.what, &other.name)) {
        let Some(first) = same.first() else { continue };
        let mark = match first.how {
            How::Added => '+',
            How::Removed => '-',
            _ => '~',
        };
        let gap = if first.name.is_empty() { "" } else { " " };
        lines.push(format!("{mark} {}{gap}{}", first.what, harmless(&first.name)));
        let (was, is) = (keys_of(trees.0.as_ref(), first), keys_of(trees.1.as_ref(), first));
        let keys = different(&was, &is);
        let has_password = same.iter().any(|change| change.how == How::Password);
        if has_password {
            lines.push(format!("{INDENT}~ another password"));
        }
        // What `defaults` say, and what a name stands for, is different for it elsewhere.
        if keys.is_empty() && mark == '~' && !has_password {
            lines.push(format!("{INDENT}~ by what it has from elsewhere, `defaults` for one"));
        }
        lines.extend(keys);
    }
    lines
}

fn tree(text: &str) -> Option<Node> {
    let mut report = Report::default();
    let tree = parse(text, 0, &mut report)?;
    Some(joined(vec![tree], &mut report))
}

/// A key with its way, and its value.
type Key = (String, String);

/// The keys of what is different.
fn keys_of(tree: Option<&Node>, change: &Change) -> Vec<Key> {
    let under =
        |node: Option<&Node>, key: &str| node.and_then(|node| entry(node, key)).map(|one| one.value.clone());
    let mut keys = Vec::new();
    let node = match change.what {
        "listener" => under(under(tree, "listeners").as_ref(), &change.name),
        // One of its own stands in the listener of its name.
        "pool" => under(under(tree, "pools").as_ref(), &change.name)
            .or_else(|| under(under(tree, "listeners").as_ref(), &change.name)),
        section => under(tree, section),
    };
    let Some(node) = node else { return keys };
    let Value::Map(entries) = &node.value else {
        flatten("", &node, &mut keys);
        return keys;
    };
    for entry in entries.iter() {
        let is_of_pool = POOL.all_keys().any(|key| key == &*entry.key);
        let belongs = match change.what {
            "listener" => !is_of_pool,
            "pool" => is_of_pool,
            _ => true,
        };
        if belongs {
            flatten(&entry.key, &entry.value, &mut keys);
        }
    }
    keys
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a Entry> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| &*entry.key == key)
}

/// Every scalar below, with its way. Backends are known by their names and routes by their numbers, other lists are one value.
fn flatten(way: &str, node: &Node, keys: &mut Vec<Key>) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|entry| {
            flatten(&format!("{way}.{}", entry.key), &entry.value, keys);
        }),
        Value::List(items) if way == "backends" => {
            for item in items.iter() {
                let name = ["name", "address"].iter().find_map(|key| entry(item, key));
                match name {
                    Some(name) => {
                        let name = text_of(&name.value);
                        keys.push((format!("{way}.{name}"), String::new()));
                        flatten(&format!("{way}.{name}"), item, keys);
                    }
                    None => keys.push((format!("{way}.{}", text_of(item)), String::new())),
                }
            }
        }
        // By their numbers: the first that fits is taken.
        Value::List(items) if way == "routes" => {
            for (at, item) in items.iter().enumerate() {
                keys.push((format!("{way}.{}", at + 1), text_of(item)));
            }
        }
        _ => keys.push((way.to_owned(), text_of(node))),
    }
}

/// In a line, cut to what is read.
fn text_of(node: &Node) -> String {
    let mut text = String::new();
    write_text(node, &mut text);
    if text.chars().count() > TEXT_MAX {
        text = text.chars().take(TEXT_MAX).chain(['…']).collect();
    }
    harmless(&text)
}

fn write_text(node: &Node, text: &mut String) {
    // The rest would be cut.
    if text.len() > 8 * TEXT_MAX {
        return;
    }
    let list = |open: char, close: char, text: &mut String, write: &mut dyn FnMut(&mut String)| {
        text.push(open);
        write(text);
        text.push(close);
    };
    match &node.value {
        Value::Empty | Value::Told => text.push('~'),
        Value::Text(scalar) => text.push_str(scalar),
        Value::List(items) => list('[', ']', text, &mut |text| {
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { ", " });
                write_text(item, text);
            }
        }),
        Value::Map(entries) => list('{', '}', text, &mut |text| {
            for (at, entry) in entries.iter().enumerate() {
                text.push_str(if at == 0 { " " } else { ", " });
                text.push_str(&entry.key);
                text.push_str(": ");
                write_text(&entry.value, text);
            }
            text.push(' ');
        }),
    }
}

/// What is in one and not in the other, or differs; a cut list whose beginning is the same is told as far as it is shown.
fn different(was: &[Key], is: &[Key]) -> Vec<String> {
    use std::collections::HashMap;
    let before: HashMap<&str, &str> = was.iter().map(|(way, value)| (&**way, &**value)).collect();
    let after: HashMap<&str, &str> = is.iter().map(|(way, value)| (&**way, &**value)).collect();
    let colon = |value: &str| if value.is_empty() { String::new() } else { format!(": {value}") };
    let gone = was.iter().filter(|(way, _)| !after.contains_key(&**way));
    let mut lines: Vec<String> =
        gone.map(|(way, value)| format!("{INDENT}- {}{}", harmless(way), colon(value))).collect();
    lines.extend(is.iter().filter_map(|(way, value)| match before.get(&**way) {
        None => Some(format!("{INDENT}+ {}{}", harmless(way), colon(value))),
        Some(old) if old != value => Some(format!("{INDENT}~ {}: {old} -> {value}", harmless(way))),
        Some(_) => None,
    }));
    lines
}

const INDENT: &str = "    ";
/// Characters of a value that are shown.
const TEXT_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read;

    fn lines(before: &str, after: &str) -> Vec<String> {
        let read = |text: &str| read("f", text.as_bytes()).unwrap_or_else(|told| panic!("{told}"));
        unified((&read(before), before), (&read(after), after))
    }

    const BEFORE: &str = "
listeners:
  web: { bind: 80, backends: [10.0.0.1:1, { address: 10.0.0.2:1, name: b, weight: 1 }], timeouts: { idle: 5m } }
  old: { bind: 81, pool: p }
  kept: { bind: 82, pool: p }
pools: { p: { backends: [10.0.0.3:1] } }
";

    #[test]
    fn what_differs_is_told_with_its_keys_as_they_were_written() {
        let after = "
log: { level: debug }
listeners:
  web: { bind: 80, backends: [{ address: 10.0.0.2:1, name: b, weight: 2 }, 10.0.0.4:1], timeouts: { idle: 1h }, deny: [10.0.0.0/8] }
  new: { bind: 83, pool: p }
  kept: { bind: 82, pool: p }
pools: { p: { backends: [10.0.0.3:1], health: { rise: 3 } } }
";
        assert_eq!(
            lines(BEFORE, after),
            [
                "~ listener web",
                "    ~ timeouts.idle: 5m -> 1h",
                "    + deny: [10.0.0.0/8]",
                "+ listener new",
                "    + bind: 83",
                "    + pool: p",
                "- listener old",
                "    - bind: 81",
                "    - pool: p",
                "~ pool web",
                "    - backends.10.0.0.1:1",
                "    ~ backends.b.weight: 1 -> 2",
                "    + backends.10.0.0.4:1",
                "~ pool p",
                "    + health.rise: 3",
                "~ log",
                "    + level: debug",
            ]
        );
    }

    #[test]
    fn what_means_the_same_is_no_difference_however_it_is_written() {
        let other = BEFORE.replace("weight: 1", "weight: '1'").replace("idle: 5m", "idle: 300s");
        assert_eq!(lines(BEFORE, &other), [""; 0]);
        let by_default = format!("defaults: {{ pool: {{ balance: first }} }}{BEFORE}");
        let told = lines(BEFORE, &by_default);
        assert_eq!(told.iter().filter(|line| line.contains("`defaults` for one")).count(), 2, "{told:#?}");
    }
}
