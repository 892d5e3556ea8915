//! `defaults`: what listeners and pools say that do not say otherwise.
//!
//! Pure. Each key is read once by itself, for tcp and for udp: what is wrong with it is told at its own place, and then it
//! stands nowhere else. The good ones are laid below every listener and pool; a section that both have is joined key by
//! key, a choice (`balance`, `check`) is taken as a whole.

use std::rc::Rc;

use super::section::Fields;
use super::{listeners, pools};
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::Protocol;
use crate::config::spec::{DEFAULTS_LISTENER, DEFAULTS_POOL, Kind, LISTENER, POOL, Section};
use crate::config::units::show_whole;

/// The good keys of both sections.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    listener: Vec<Entry>,
    pool: Vec<Entry>,
}

impl Defaults {
    /// Those of the file, for so many listeners.
    pub(super) fn read(top: &Fields<'_>, listeners: usize, report: &mut Report) -> Self {
        let fields = top.section("defaults", report);
        let section = |key, own: &[(&str, &str)], known: &'static Section, report: &mut Report| {
            let entry = fields.get(key)?;
            let Value::Map(entries) = &entry.value.value else {
                Fields::open(&entry.value, known, report);
                return None;
            };
            let (own, others): (Vec<Entry>, Vec<Entry>) =
                entries.iter().cloned().partition(|entry| own.iter().any(|(key, _)| *key == &*entry.key));
            tell_own(key, &own, report);
            let others = Node { place: entry.value.place, value: Value::Map(others.into()) };
            Fields::open(&others, known, report)?;
            let Value::Map(others) = others.value else { return None };
            Some(
                others
                    .iter()
                    .filter(|entry| known.all_keys().any(|key| key == &*entry.key))
                    .map(marked)
                    .collect(),
            )
        };
        let listener: Vec<Entry> =
            section("listener", &OWN_LISTENER, &DEFAULTS_LISTENER, report).unwrap_or_default();
        let pool: Vec<Entry> = section("pool", &OWN_POOL, &DEFAULTS_POOL, report).unwrap_or_default();
        Self {
            listener: listener
                .into_iter()
                .filter(|entry| {
                    is_affordable(entry, listeners, report) && is_good_for_listeners(entry, report)
                })
                .collect(),
            pool: pool.into_iter().filter(|entry| is_good_for_pools(entry, report)).collect(),
        }
    }

    /// A listener with what it leaves out.
    pub(super) fn below_listener(&self, node: &Node) -> Node {
        below(node, &self.listener, &LISTENER)
    }

    /// A pool with what it leaves out.
    pub(super) fn below_pool(&self, node: &Node) -> Node {
        below(node, &self.pool, &POOL)
    }

    /// The keys of a pool that stand in a listener, with what they leave out.
    pub(super) fn below_own_pool(&self, entries: &[Entry]) -> Vec<Entry> {
        joined(entries, &self.pool, &POOL)
    }
}

/// What each listener and pool must say itself, and why.
fn tell_own(section: &str, own: &[Entry], report: &mut Report) {
    for entry in own {
        let reasons = if section == "listener" { &OWN_LISTENER[..] } else { &OWN_POOL[..] };
        let reason = reasons.iter().find(|(key, _)| *key == &*entry.key).map_or("", |(_, reason)| reason);
        report.tell(entry.place, format!("{} cannot be a default: {reason}", quoted(&entry.key)));
    }
}

/// A list of networks is worked out for each listener: many of both would be too many.
fn is_affordable(entry: &Entry, listeners: usize, report: &mut Report) -> bool {
    let Value::List(items) = &entry.value.value else { return true };
    let fits = items.len().saturating_mul(listeners) <= ITEMS_MAX;
    if !fits {
        let (most, key) = (show_whole(ITEMS_MAX as u64), quoted(&entry.key));
        let told = format!(
            "{} entries of {key} for each of {listeners} listeners; the most is {most} in all",
            items.len()
        );
        report.tell(entry.place, told);
    }
    fits
}

fn is_good_for_listeners(entry: &Entry, report: &mut Report) -> bool {
    is_good(report, |trial| {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            if trial.is_empty() {
                listeners::settings("", protocol, &Fields::of(entry, &LISTENER), trial);
            }
        }
    })
}

fn is_good_for_pools(entry: &Entry, report: &mut Report) -> bool {
    is_good(report, |trial| {
        pools::settings("", &Fields::of(entry, &POOL), trial);
    })
}

fn is_good(report: &mut Report, read: impl FnOnce(&mut Report)) -> bool {
    let mut trial = Report::default();
    read(&mut trial);
    let good = trial.is_empty();
    report.absorb(trial);
    good
}

fn below(node: &Node, defaults: &[Entry], section: &Section) -> Node {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Empty => &Rc::from([]),
        _ => return node.clone(),
    };
    Node { place: node.place, value: Value::Map(joined(entries, defaults, section).into()) }
}

fn joined(entries: &[Entry], defaults: &[Entry], section: &Section) -> Vec<Entry> {
    let default_of = |key: &str| defaults.iter().find(|default| &*default.key == key);
    let with_default = |entry: &Entry| {
        let sections = default_of(&entry.key).map(|default| (&entry.value.value, &default.value.value));
        // The keys of a choice exclude each other: it is taken as a whole.
        let inner = match section.row(&entry.key, None).map(|row| row.kind) {
            Some(Kind::Section(inner) | Kind::SectionOr(inner, _)) => Some(inner),
            _ => None,
        };
        let value = match (sections, inner) {
            (Some((Value::Map(own), Value::Map(more))), Some(inner)) => {
                Value::Map(joined(own, more, inner).into())
            }
            _ => return entry.clone(),
        };
        Entry { value: Node { place: entry.value.place, value }, ..entry.clone() }
    };
    let is_missing = |default: &&Entry| !entries.iter().any(|entry| entry.key == default.key);
    entries.iter().map(with_default).chain(defaults.iter().filter(is_missing).cloned()).collect()
}

/// The entry, and those of its section, as defaults.
fn marked(entry: &Entry) -> Entry {
    let value = match &entry.value.value {
        Value::Map(entries) => {
            let marked = entries.iter().map(|entry| Entry { is_default: true, ..entry.clone() });
            Value::Map(marked.collect())
        }
        other => other.clone(),
    };
    Entry { is_default: true, value: Node { place: entry.value.place, value }, ..entry.clone() }
}

const OWN_LISTENER: [(&str, &str); 6] = [
    ("name", "a name belongs to one listener"),
    ("bind", "two listeners cannot have the same port"),
    ("backends", "name the pool in each listener, or write its backends there"),
    ("speaks", "it is what the clients of one listener speak"),
    ("routes", "each listener has its own clients to tell apart"),
    ("pool", "each listener names its own; what all pools have in common stands in the `pool` of `defaults`"),
];
const OWN_POOL: [(&str, &str); 2] =
    [("name", "a name belongs to one pool"), ("backends", "pools with the same backends are one pool")];
/// As many as a file could hold without defaults.
const ITEMS_MAX: usize = 200_000;
