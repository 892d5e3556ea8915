//! Lists of networks: those that stand there, and files of them.
//!
//! Pure. Must stay true: what is wrong is told and left out.

use super::network::{CidrError, parse_cidr};
use super::network_files;
use super::values::scalar;
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::{Cidr, NetworkFile};
use crate::config::spec::Kind;

/// The networks of a list, or the one that stands there alone, and files of them. Wrong ones are told and left out.
pub(super) fn with_files(kind: &Kind, entry: &Entry, report: &mut Report) -> (Vec<Cidr>, Vec<NetworkFile>) {
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    let (files, others): (Vec<&Node>, Vec<&Node>) =
        items.iter().partition(|item| matches!(item.value, Value::Map(_)));
    if files.is_empty() {
        return (cidrs(kind, entry, report), Vec::new());
    }
    if files.len() > FILES_MAX {
        report.tell(entry.value.place, format!("`{}` has at most {FILES_MAX} files", entry.key));
        return (Vec::new(), Vec::new());
    }
    let others = Node { place: entry.value.place, value: Value::List(others.into_iter().cloned().collect()) };
    let listed = Entry { value: others, ..entry.clone() };
    let files = files.into_iter().filter_map(|item| network_files::read(entry, item, report)).collect();
    (cidrs(kind, &listed, report), files)
}

/// The networks of a list, or the one that stands there alone. Wrong ones are told and left out.
pub(super) fn cidrs(kind: &Kind, entry: &Entry, report: &mut Report) -> Vec<Cidr> {
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    let most = kind.most();
    if items.len() > most {
        report.tell(entry.value.place, format!("`{}` has at most {most} networks", entry.key));
        return Vec::new();
    }
    items.iter().filter_map(|item| cidr(kind, &entry.key, item, report)).collect()
}

/// One network; `None`: it was told to be wrong. `name` is the key it belongs to.
fn cidr(kind: &Kind, name: &str, node: &Node, report: &mut Report) -> Option<Cidr> {
    let expected = kind.expected();
    let text = scalar(name, node, expected, report)?;
    match parse_cidr(text) {
        Ok(cidr) => Some(cidr),
        Err(CidrError::HostBits { ref network, ref address, .. }) => {
            let hint = format!("write {network} for the network, {address} for the one address");
            let told = format!("`{name}`: {} has bits set behind its prefix", quoted(text));
            report.tell_with_hint(node.place, told, &hint);
            None
        }
        Err(error) => {
            report.tell(node.place, format!("`{name}` must be {expected}; {error}"));
            None
        }
    }
}

/// Files of one list.
const FILES_MAX: usize = 64;
