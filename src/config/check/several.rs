//! Several files as one: listeners and pools are joined by name, what a configuration has once stands in one file.
//!
//! Pure. Must stay true: nothing of one file hides what another says; what two of them say is a mistake that names both places.

use std::collections::HashMap;
use std::rc::Rc;

use super::section::entries_of;
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::spec::{Kind, TOP};

/// The tree of all of them.
pub(in crate::config) fn joined(mut trees: Vec<Node>, report: &mut Report) -> Node {
    if trees.len() == 1 {
        return trees.remove(0);
    }
    let place = trees.first().map_or(Place::FILE, |tree| tree.place);
    let mut all: Vec<Entry> = Vec::new();
    let mut names: HashMap<(Rc<str>, Rc<str>), Place> = HashMap::new();
    for tree in trees {
        let Some(entries) = entries_of(&tree, "a file", report) else { continue };
        for entry in entries {
            let first = all.iter().position(|known| known.key == entry.key);
            let is_named = TOP.row(&entry.key, None).is_some_and(|row| matches!(row.kind, Kind::Named(..)));
            if is_named {
                let Some(own) = entries_of(&entry.value, &quoted(&entry.key), report) else { continue };
                let own = own.iter().filter(|one| is_first(&entry.key, one, &mut names, report)).cloned();
                match first {
                    Some(at) => append(&mut all[at], own),
                    None => {
                        let value = Node { place: entry.value.place, value: Value::Map(own.collect()) };
                        all.push(Entry { value, ..entry.clone() });
                    }
                }
            } else if let Some(first) = first.filter(|_| TOP.row(&entry.key, None).is_some()) {
                let told = format!(
                    "{} stands in two files; first on {}",
                    quoted(&entry.key),
                    report.spot(all[first].place)
                );
                report.tell_with_hint(
                    entry.place,
                    told,
                    "only `listeners` and `pools` are gathered from several files",
                );
            } else {
                all.push(entry.clone());
            }
        }
    }
    Node { place, value: Value::Map(all.into()) }
}

/// No file before has this name; or it is told.
fn is_first(
    key: &Rc<str>,
    one: &Entry,
    names: &mut HashMap<(Rc<str>, Rc<str>), Place>,
    report: &mut Report,
) -> bool {
    let name = (key.clone(), one.key.clone());
    if let Some(first) = names.get(&name) {
        let what = key.trim_end_matches('s');
        let told = format!("the {what} {} is there already, on {}", quoted(&one.key), report.spot(*first));
        report.tell(one.place, told);
        return false;
    }
    names.insert(name, one.place);
    true
}

fn append(to: &mut Entry, more: impl Iterator<Item = Entry>) {
    if let Value::Map(entries) = &to.value.value {
        to.value.value = Value::Map(entries.iter().cloned().chain(more).collect());
    }
}
