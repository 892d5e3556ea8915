//! `conf/reference.yaml` and the table agree: every row stands there with its default and its range, and every key that
//! stands there, commented out or not, is a row.

use std::collections::BTreeMap;

use super::{Default, Key, Kind, Section, TOP, sections};
use crate::config::document::{Node, Value, parse};
use crate::config::mistake::Report;
use crate::config::settings::Protocol;

/// What the reference says of a key where it stands first.
#[derive(Debug, std::default::Default)]
struct Said {
    value: String,
    comment: String,
    /// It stands in a map within one line: there is no room for more than a value.
    in_a_line: bool,
}

/// A row: the map it stands in, its name, and whether it is the row for flows.
type Row = (&'static str, String, bool);

/// A map of the file that is open where a line stands.
struct Open {
    indent: usize,
    section: &'static Section,
    /// Its keys are names that people give.
    is_named: bool,
    protocol: Protocol,
}

#[derive(std::default::Default)]
struct Reference {
    said: BTreeMap<Row, Said>,
    problems: Vec<String>,
}

fn row_of(section: &'static Section, key: &'static Key) -> Row {
    let twins = section.keys.iter().filter(|other| other.name == key.name).count();
    (section.what, key.name.to_owned(), twins > 1 && !key.protocols.holds(Protocol::Tcp))
}

/// The map in which a key has its row: its own, or the one inlined there.
fn home(section: &'static Section, name: &str) -> &'static Section {
    let own = section.keys.iter().any(|key| key.name == name);
    section.inline.filter(|_| !own).unwrap_or(section)
}

impl Reference {
    fn read(text: &str) -> Self {
        let mut reference = Self::default();
        let mut open = vec![Open { indent: 0, section: &TOP, is_named: false, protocol: Protocol::Tcp }];
        let mut last: Option<Row> = None;
        for (number, line) in text.lines().enumerate() {
            let Some(line) = Line::of(line) else {
                // What goes on below a key is about that key.
                if let (Some(row), Some((_, more))) = (&last, line.split_once('#'))
                    && let Some(said) = reference.said.get_mut(row)
                {
                    said.comment.push_str(more);
                }
                continue;
            };
            while open.len() > 1 && open.last().is_some_and(|map| map.indent >= line.indent.max(1)) {
                open.pop();
            }
            last = reference.take(number + 1, &line, &mut open);
        }
        reference
    }

    fn take(&mut self, number: usize, line: &Line<'_>, open: &mut Vec<Open>) -> Option<Row> {
        let map = open.last()?;
        let (section, protocol) = (map.section, map.protocol);
        if map.is_named {
            let protocol = if line.key == "dns" { Protocol::Udp } else { Protocol::Tcp };
            open.push(Open { indent: line.indent.max(1), section, is_named: false, protocol });
            return None;
        }
        let Some(key) = section.row(line.key, Some(protocol)) else {
            self.problems.push(format!("line {number}: `{}` is no key of {}", line.key, section.what));
            return None;
        };
        if let Some(section) = key.kind.section() {
            let is_named = matches!(key.kind, Kind::Named(..));
            open.push(Open { indent: line.indent.max(1), section, is_named, protocol });
            if let Some(node) = parse(line.value, 0, &mut Report::default()) {
                self.in_a_line(number, &node, section);
            }
        }
        let row = row_of(home(section, key.name), key);
        if self.said.contains_key(&row) {
            return None;
        }
        let said = Said { value: line.value.to_owned(), comment: line.comment.to_owned(), in_a_line: false };
        self.said.insert(row.clone(), said);
        Some(row)
    }

    /// The keys of a map within one line.
    fn in_a_line(&mut self, number: usize, node: &Node, section: &'static Section) {
        let Value::Map(entries) = &node.value else { return };
        for entry in &**entries {
            let Some(key) = section.row(&entry.key, None) else {
                self.problems.push(format!("line {number}: `{}` is no key of {}", entry.key, section.what));
                continue;
            };
            let row = row_of(home(section, key.name), key);
            self.said.entry(row).or_insert(Said { in_a_line: true, ..Said::default() });
            if let Some(section) = key.kind.section() {
                self.in_a_line(number, &entry.value, section);
            }
        }
    }
}

/// A line with a key: `key: value  # comment`, in a list or commented out as it may be.
struct Line<'a> {
    indent: usize,
    key: &'a str,
    value: &'a str,
    comment: &'a str,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let start = line.find(|c: char| c != ' ')?;
        let text = &line[start..];
        let (start, text) = match text.strip_prefix("# ").filter(|_| start < COMMENTS_FROM) {
            Some(text) => (start, text),
            None if text.starts_with('#') => return None,
            None => (start, text),
        };
        let inner = text.find(|c: char| c != ' ')?;
        let (mut indent, mut text) = (start + inner, &text[inner..]);
        if let Some(item) = text.strip_prefix("- ") {
            (indent, text) = (indent + 2, item);
        }
        let (key, rest) = text.split_once(':')?;
        let is_key =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_key || !(rest.is_empty() || rest.starts_with(' ')) {
            return None;
        }
        let (value, comment) = rest.split_once(" #").unwrap_or((rest, ""));
        Some(Self { indent, key, value: value.trim(), comment })
    }
}

/// Comments behind what they are about begin at this column or further right.
const COMMENTS_FROM: usize = 26;

/// The text with numbers in one piece: 1,024 is 1024.
fn ungrouped(text: &str) -> String {
    let is_group = |at: usize| {
        text[..at].ends_with(|c: char| c.is_ascii_digit())
            && text[at + 1..].starts_with(|c: char| c.is_ascii_digit())
    };
    text.char_indices().filter(|(at, c)| *c != ',' || !is_group(*at)).map(|(_, c)| c).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|other| other == word)
}

/// What the reference leaves out of a row, or says otherwise.
fn differences(section: &'static Section, key: &'static Key, said: Option<&Said>) -> Vec<String> {
    let name = format!("`{}` of {}", key.name, section.what);
    let Some(said) = said else { return vec![format!("{name} is not there")] };
    if said.in_a_line {
        return Vec::new();
    }
    let comment: String = said.comment.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut problems = Vec::new();
    let default = match key.default {
        Default::Is("{}") => said.value.is_empty(),
        Default::Is(text) => said.value == text,
        Default::Told(text) => said.value == text || comment.contains(text),
        Default::Required | Default::Parts | Default::Absent => true,
    };
    if !default {
        problems.push(format!("{name} has the default {}, not {}", key.default, said.value));
    }
    let is_counted_at_the_head = matches!(key.kind, Kind::Named(..) | Kind::Backends(..));
    let has = |bounds: &String| ungrouped(&comment).contains(&ungrouped(bounds));
    if let Some(bounds) = key.kind.bounds().filter(|bounds| !is_counted_at_the_head && !has(bounds)) {
        problems.push(format!("{name} goes {bounds}: {comment}"));
    }
    for word in key.kind.words() {
        if !has_word(&comment, word) && said.value != *word {
            problems.push(format!("{name} may be {word}: {comment}"));
        }
    }
    problems
}

#[test]
fn every_row_stands_in_the_reference_and_every_key_there_is_a_row() {
    let reference = Reference::read(TEXT);
    let mut problems = reference.problems;
    let defaults = TOP.row("defaults", None).and_then(|key| key.kind.section());
    let mut rows = 0;
    for section in sections().into_iter().chain(defaults) {
        for key in section.keys {
            problems.extend(differences(section, key, reference.said.get(&row_of(section, key))));
            rows += 1;
        }
    }
    for (key, what) in [("listeners", "listeners"), ("pools", "pools")] {
        let most = TOP.row(key, None).and_then(|key| key.kind.bounds()).unwrap_or_default();
        let told = format!("{} {what}", most.trim_start_matches("at most "));
        if !ungrouped(TEXT).contains(&ungrouped(&told)) {
            problems.push(format!("the head does not say `{told}`"));
        }
    }
    assert!(problems.is_empty(), "conf/reference.yaml:\n{}", problems.join("\n"));
    assert!(rows > 90, "only {rows} rows");
}

#[test]
fn what_the_reference_lacks_is_seen() {
    let text = TEXT.replace("grace: 30s ", "grace: 40s ").replace("100ms to 1m", "100ms to 2m");
    let text = text.replace("    freebind: off", "    freebnd: off").replace("try_all", "try_some");
    let reference = Reference::read(&text);
    assert_eq!(reference.problems.len(), 1, "{:?}", reference.problems);
    let differing =
        sections().into_iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)));
    let all: Vec<String> = differing
        .flat_map(|(section, key)| differences(section, key, reference.said.get(&row_of(section, key))))
        .collect();
    let about = |word: &str| all.iter().filter(|problem| problem.starts_with(word)).count();
    let found = [about("`grace`"), about("`header`"), about("`freebind`"), about("`when_none`")];
    assert_eq!(found, [1; 4], "{all:?}");
}

const TEXT: &str = include_str!("../../../conf/reference.yaml");
