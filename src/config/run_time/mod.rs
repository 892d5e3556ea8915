//! Changes at run time: backends that a command added, removed or set, kept beside the file and laid over it.
//!
//! Pure. The file has the last word: a change holds as long as the file says of that backend what it said when the change was made
//! (`laid`). A new command is first worked into those that there are (`edit`): of each backend there is one change.

mod edit;
mod laid;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::check::parse_address;
use super::document::{Entry, Node, Value};

pub use edit::{RunTimeCommand, RunTimeError, RunTimeWish, edited};
pub(super) use laid::{Laid, laid_over};

/// What a command changed of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTimeChange {
    /// The name of its pool.
    pub pool: String,
    /// Its own; where it was added without a name, its address as it was written.
    pub backend: String,
    /// How it differs from the file.
    pub how: RunTimeHow,
    /// Who wanted it, for people.
    pub by: Arc<str>,
    /// When, in seconds since 1970.
    pub since_s: u64,
}

/// How a backend differs from the file. Keys and values are words of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunTimeHow {
    /// The file does not have it.
    Added {
        /// As it was written.
        address: String,
        /// What was said besides.
        keys: Vec<(String, String)>,
    },
    /// The file has it, and nobody gets to it.
    Removed {
        /// What the file said of it.
        was: String,
    },
    /// Some of its keys are others than in the file.
    Set {
        /// Which, and what they are.
        keys: Vec<(String, String)>,
        /// What the file said of it.
        was: String,
    },
}

impl RunTimeChange {
    /// The command that would make it, without the name of the program.
    pub fn command(&self) -> String {
        let with = |keys: &[(String, String)]| {
            keys.iter().map(|(key, value)| format!(" {key}={value}")).collect::<String>()
        };
        match &self.how {
            RunTimeHow::Added { address, keys } => format!("add {} {address}{}", self.pool, with(keys)),
            RunTimeHow::Removed { .. } => format!("remove {}/{}", self.pool, self.backend),
            RunTimeHow::Set { keys, .. } => format!("set {}/{}{}", self.pool, self.backend, with(keys)),
        }
    }

    /// What is different by it, for people; `+ - ~` and whom.
    pub fn told(&self) -> String {
        let keys = |keys: &[(String, String)]| {
            keys.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
        };
        let (mark, what) = match &self.how {
            RunTimeHow::Added { keys: with, .. } if with.is_empty() => ('+', "added".to_owned()),
            RunTimeHow::Added { keys: with, .. } => ('+', format!("added with {}", keys(with))),
            RunTimeHow::Removed { .. } => ('-', "removed".to_owned()),
            RunTimeHow::Set { keys: with, .. } => ('~', keys(with)),
        };
        format!("{mark} {}/{}  {what}", self.pool, self.backend)
    }
}

/// The list of backends of a pool, wherever the file has it.
fn backends_of<'a>(tree: &'a Node, pool: &str) -> Option<&'a Node> {
    WAYS.into_iter().find_map(|way| under(under(under(tree, way)?, pool)?, "backends"))
}

/// Where backends stand: below a pool, or below the listener whose own pool it is.
const WAYS: [&str; 2] = ["pools", "listeners"];

fn under<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    entries(node).iter().find(|entry| &*entry.key == key).map(|entry| &entry.value)
}

fn entries(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => &[],
    }
}

/// The address of a backend as it is written; `None`: a source that has none.
fn address_of(item: &Node) -> Option<&str> {
    let node = under(item, "address").unwrap_or(item);
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// What a backend is called.
fn name_of(item: &Node) -> Option<&str> {
    match under(item, "name").map(|node| &node.value) {
        Some(Value::Text(name)) => Some(name),
        _ => address_of(item),
    }
}

/// Both are one address.
fn same(one: &str, other: &str) -> bool {
    match (parse_address(one), parse_address(other)) {
        (Ok((ip, ports)), Ok((other_ip, other_ports))) => {
            (ip.to_canonical(), ports) == (other_ip.to_canonical(), other_ports)
        }
        _ => one == other,
    }
}
