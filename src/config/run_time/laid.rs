//! Changes laid over the tree of the file, and which of them the file has ended.

use std::rc::Rc;

use super::super::document::{Entry, Node, Value};
use super::super::mistake::Place;
use super::super::written::node_text;
use super::{RunTimeChange, RunTimeHow, WAYS, address_of, backends_of, entries, items, name_of, same, under};

/// What becomes of a tree and of the changes.
pub(in crate::config) struct Laid {
    /// The tree with the changes that stay.
    pub(in crate::config) tree: Node,
    /// Those.
    pub(in crate::config) stay: Vec<RunTimeChange>,
    /// Those that the file has ended, and how, for people.
    pub(in crate::config) over: Vec<String>,
}

/// Lays the changes over a tree. What they say stands in files of their own, one each, from this number on.
pub(in crate::config) fn laid_over(tree: &Node, changes: &[RunTimeChange], first_file: usize) -> Laid {
    let mut laid = Laid { tree: tree.clone(), stay: Vec::new(), over: Vec::new() };
    for (at, change) in changes.iter().enumerate() {
        // What the file says, not what the changes before made of it.
        match end_of(tree, change) {
            Some(why) => laid.over.push(format!("{}/{}: {why}", change.pool, change.backend)),
            None => {
                let place = Words { file: first_file + at, command: change.command() };
                laid.tree = with(&laid.tree, change, &place);
                laid.stay.push(change.clone());
            }
        }
    }
    laid
}

/// How the file has ended a change.
fn end_of(tree: &Node, change: &RunTimeChange) -> Option<&'static str> {
    let Some(list) = backends_of(tree, &change.pool) else {
        return Some("the file has no such pool any more");
    };
    let there = items(list).iter().find(|item| name_of(item) == Some(&change.backend));
    match (&change.how, there) {
        (RunTimeHow::Added { .. }, Some(_)) => Some("the file has it now"),
        (RunTimeHow::Added { address, .. }, None) => {
            let has = items(list).iter().any(|item| address_of(item).is_some_and(|one| same(one, address)));
            has.then_some("the file has its address now")
        }
        (RunTimeHow::Removed { .. }, None) => Some("the file has removed it too"),
        (RunTimeHow::Set { .. }, None) => Some("the file has removed it"),
        (RunTimeHow::Removed { was } | RunTimeHow::Set { was, .. }, Some(item)) => {
            (node_text(item) != *was).then_some("the file says something else of it now")
        }
    }
}

/// The words of a command, which mistakes point at.
struct Words {
    file: usize,
    command: String,
}

impl Words {
    fn place(&self, word: &str) -> Place {
        let at = self.command.rfind(word).unwrap_or(0);
        let column = self.command.get(..at).map_or(0, |before| before.chars().count()) + 1;
        Place { file: self.file, line: 1, column, width: word.chars().count().max(1) }
    }

    fn node(&self, text: &str) -> Node {
        Node { place: self.place(text), value: Value::Text(text.into()) }
    }

    fn entry(&self, key: &str, value: &str) -> Entry {
        let pair = format!("{key}={value}");
        let place = self.place(&pair);
        let value_place = Place {
            column: place.column + key.chars().count() + 1,
            width: value.chars().count().max(1),
            ..place
        };
        let value = Node { place: value_place, value: Value::Text(value.into()) };
        Entry { key: key.into(), place, value, is_default: false }
    }
}

fn with(tree: &Node, change: &RunTimeChange, words: &Words) -> Node {
    let way = WAYS.into_iter().find(|way| {
        let pool = under(tree, way).and_then(|all| under(all, &change.pool));
        pool.is_some_and(|pool| under(pool, "backends").is_some())
    });
    let Some(way) = way else { return tree.clone() };
    replaced(tree, &[way, &change.pool, "backends"], &|list| {
        let mut all = items(list).to_vec();
        let at = all.iter().position(|item| name_of(item) == Some(&change.backend));
        match (&change.how, at) {
            (RunTimeHow::Added { address, keys }, _) => {
                all.push(added(&change.backend, address, keys, words));
            }
            (RunTimeHow::Removed { .. }, Some(at)) => drop(all.remove(at)),
            (RunTimeHow::Set { keys, .. }, Some(at)) => all[at] = set(&all[at], keys, words),
            (_, None) => {}
        }
        Node { place: list.place, value: Value::List(all.into()) }
    })
}

/// The tree with another node at the end of this way.
fn replaced(node: &Node, way: &[&str], new: &dyn Fn(&Node) -> Node) -> Node {
    let [key, rest @ ..] = way else { return new(node) };
    let entry = |entry: &Entry| match &*entry.key == *key {
        true => Entry { value: replaced(&entry.value, rest, new), ..entry.clone() },
        false => entry.clone(),
    };
    Node { place: node.place, value: Value::Map(entries(node).iter().map(entry).collect()) }
}

fn added(name: &str, address: &str, keys: &[(String, String)], words: &Words) -> Node {
    let node = words.node(address);
    let place = node.place;
    // It was added at another address.
    let is_named = name == address || keys.iter().any(|(key, _)| key == "name");
    if is_named && keys.is_empty() {
        return node;
    }
    let name = Entry { key: "name".into(), place, value: words.node(name), is_default: false };
    let address = Entry { key: "address".into(), place, value: node, is_default: false };
    let others = keys.iter().map(|(key, value)| words.entry(key, value));
    Node {
        place,
        value: Value::Map(
            std::iter::once(address).chain((!is_named).then_some(name)).chain(others).collect(),
        ),
    }
}

fn set(item: &Node, keys: &[(String, String)], words: &Words) -> Node {
    let mut all = match &item.value {
        Value::Map(entries) => entries.to_vec(),
        _ => vec![Entry {
            key: Rc::from("address"),
            place: item.place,
            value: item.clone(),
            is_default: false,
        }],
    };
    // With another address it is the same backend all the same.
    let name = name_of(item).filter(|_| under(item, "name").is_none());
    if let Some(name) = name.filter(|_| keys.iter().any(|(key, _)| key == "address")) {
        let value = Node { place: item.place, value: Value::Text(name.into()) };
        all.push(Entry { key: "name".into(), place: item.place, value, is_default: false });
    }
    for (key, value) in keys {
        let new = words.entry(key, value);
        match all.iter_mut().find(|entry| *entry.key == **key) {
            Some(entry) => *entry = new,
            None => all.push(new),
        }
    }
    Node { place: item.place, value: Value::Map(all.into()) }
}
