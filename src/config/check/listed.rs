//! A list of backends that a source gives: entries as in `backends`, or groups of Prometheus (`targets` with `labels`).
//!
//! Pure. What is not said is left to the entry of the configuration that names the source.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::address::parse_address;
use super::backends::address;
use super::section::{Fields, check_name};
use super::values::scalar;
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::spec::{LISTED, LISTED_MAX, TARGETS};

/// One backend of such a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Where it answers.
    pub ip: IpAddr,
    /// `None`: at the port the client came to.
    pub port: Option<u16>,
    /// 0 to 256.
    pub weight: Option<u16>,
    /// 0 to 255.
    pub tier: Option<u8>,
    /// Sessions at once. Never 0.
    pub max_sessions: Option<u32>,
}

/// The backends of a list, or of the `backends` of a map that has nothing else.
pub(in crate::config) fn read(document: &Node, report: &mut Report) -> Vec<Listed> {
    let node = match &document.value {
        Value::Map(entries) if matches!(&**entries, [only] if &*only.key == "backends") => &entries[0].value,
        _ => document,
    };
    let Value::List(items) = &node.value else {
        let message = "this must be a list: `[10.0.0.1:5432, 10.0.0.2:5432]`, or lines that begin with `- `";
        report.tell_with_hint(node.place, message, "`[]` says that there is nobody");
        return Vec::new();
    };
    let (mut listed, mut seen) = (Vec::new(), BTreeMap::new());
    for item in items.iter() {
        for (one, place) in read_item(item, report) {
            if listed.len() >= LISTED_MAX {
                report.tell(place, format!("a list has at most {LISTED_MAX} backends"));
                return Vec::new();
            }
            tell_double(&one, place, &mut seen, report);
            listed.push(one);
        }
    }
    listed
}

fn read_item(item: &Node, report: &mut Report) -> Vec<(Listed, Place)> {
    match &item.value {
        Value::Map(entries) if entries.iter().any(|entry| &*entry.key == "targets") => group(item, report),
        Value::Map(entries) => {
            if tell_of_sources(entries, report) {
                return Vec::new();
            }
            let Some(fields) = Fields::open(item, &LISTED, report) else { return Vec::new() };
            let Some(entry) = fields.get("address") else {
                // A slip in the key was told.
                if fields.entries().iter().all(|entry| LISTED.row(&entry.key, None).is_some()) {
                    report.tell(item.place, "a backend needs `address`");
                }
                return Vec::new();
            };
            let said = numbers(&fields, report);
            one(&entry.value, said, report)
        }
        _ => one(item, numbers(&Fields::none(&LISTED), report), report),
    }
}

/// Those of Prometheus: several addresses, and labels that hold for each. Labels of other tools mean nothing here.
fn group(item: &Node, report: &mut Report) -> Vec<(Listed, Place)> {
    let Some(fields) = Fields::open(item, &TARGETS, report) else { return Vec::new() };
    let labels: Rc<[Entry]> = match fields.get("labels").map(|entry| &entry.value) {
        None => Rc::new([]),
        Some(Node { value: Value::Map(labels), .. }) => {
            labels.iter().filter(|label| LABELS.contains(&&*label.key)).cloned().collect()
        }
        Some(node) => {
            report.tell(node.place, "`labels` is a map of words and texts");
            return Vec::new();
        }
    };
    let said = numbers(&Fields::over(&labels, &LISTED), report);
    let Some(targets) = fields.get("targets") else { return Vec::new() };
    let Value::List(items) = &targets.value.value else {
        report.tell(targets.value.place, "`targets` must be a list of ADDRESS:PORT");
        return Vec::new();
    };
    if let (true, Some(label)) = (items.len() > 1, labels.iter().find(|label| &*label.key == "name")) {
        report.tell(label.place, "a label `name` is for one target, and this group has several");
    }
    items.iter().flat_map(|item| one(item, said.clone(), report)).collect()
}

/// What is said besides the address.
fn numbers(fields: &Fields<'_>, report: &mut Report) -> Listed {
    let name = fields.get("name").and_then(|entry| {
        let name = scalar("name", &entry.value, "a word", report)?;
        check_name(name, "a backend", entry.value.place, report);
        Some(name.to_owned())
    });
    Listed {
        name,
        weight: fields.whole_or("weight", report),
        tier: fields.whole_or("tier", report),
        max_sessions: fields.whole_or("max_sessions", report),
        ip: NOWHERE,
        port: None,
    }
}

fn one(node: &Node, said: Listed, report: &mut Report) -> Vec<(Listed, Place)> {
    if let Value::Text(text) = &node.value
        && let Err(super::address::AddressError::HostName(name)) = parse_address(text)
    {
        let message =
            format!("{} is a host name; a list has addresses, names are not looked up in it", quoted(&name));
        report.tell_with_hint(
            node.place,
            message,
            "a host name is an entry of `backends` in the configuration",
        );
        return Vec::new();
    }
    let found =
        address("address", node, report).map(|(ip, port, _)| (Listed { ip, port, ..said }, node.place));
    found.into_iter().collect()
}

/// A list does not name other lists.
fn tell_of_sources(entries: &[Entry], report: &mut Report) -> bool {
    let told = entries.iter().filter(|entry| matches!(&*entry.key, "from" | "addresses" | "family"));
    let told: Vec<&Entry> = told.collect();
    for entry in &told {
        let message = format!("`{}` stands in the configuration alone: a list has addresses", entry.key);
        report.tell(entry.place, message);
    }
    !told.is_empty()
}

/// A name, or an address without one, that is there already.
fn tell_double(one: &Listed, place: Place, seen: &mut BTreeMap<String, Place>, report: &mut Report) {
    let name = one.name.clone().unwrap_or_else(|| match one.port {
        Some(port) => std::net::SocketAddr::new(one.ip.to_canonical(), port).to_string(),
        None => one.ip.to_canonical().to_string(),
    });
    if let Some(first) = seen.get(&name) {
        report.tell(place, format!("{} is in the list already, on {}", quoted(&name), report.spot(*first)));
        return;
    }
    seen.insert(name, place);
}

/// Until the address is read.
const NOWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
/// Labels that mean something.
const LABELS: [&str; 4] = ["name", "weight", "tier", "max_sessions"];
