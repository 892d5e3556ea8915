//! Plain tree of a YAML text: for who reads another program's file.

use super::document::{Node, Value, parse};
use super::mistake::Report;

/// A value with the line it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    /// Nothing.
    Empty,
    /// A scalar.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A map, each key with its line.
    Map(Vec<(String, usize, Self)>),
}

impl Plain {
    /// What stands below a key.
    pub fn get(&self, key: &str) -> &Self {
        self.entries().iter().find(|(known, _, _)| known == key).map_or(&Self::Empty, |(_, _, value)| value)
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[(String, usize, Self)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The tree of a text. `None`: it is no YAML, or not within the bounds of our own file.
pub fn plain(text: &str) -> Option<Plain> {
    parse(text, 0, &mut Report::default()).map(|node| of(&node))
}

fn of(node: &Node) -> Plain {
    match &node.value {
        Value::Empty | Value::Told => Plain::Empty,
        Value::Text(text) => Plain::Text(text.to_string()),
        Value::List(items) => Plain::List(items.iter().map(of).collect()),
        Value::Map(entries) => {
            let entry =
                |entry: &super::document::Entry| (entry.key.to_string(), entry.place.line, of(&entry.value));
            Plain::Map(entries.iter().map(entry).collect())
        }
    }
}
