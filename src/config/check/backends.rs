//! The `backends` of a pool: short form and long form; names and addresses that stand there twice.
//!
//! Pure. A backend is known by pool and name, so names must differ; an address may stand twice only under two names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::address::{AddressError, parse_address};
use super::binds::is_broadcast;
use super::section::{Fields, check_name};
use super::values::scalar;
use super::{from, names};
use crate::config::document::{Entry, IPV6_HINT, Node, Value};
use crate::config::foreign;
use crate::config::mistake::{Place, Report, harmless, quoted};
use crate::config::settings::{Addresses, Backend, Source, SourceKind};
use crate::config::spec::BACKEND;

/// What stands there, each with its place.
#[derive(Default)]
pub(super) struct Read {
    pub(super) backends: Vec<(Backend, Place)>,
    pub(super) sources: Vec<(Source, Place)>,
}

/// The backends, and the host names among them.
pub(super) fn read(entry: &Entry, report: &mut Report) -> Read {
    let Value::List(items) = &entry.value.value else {
        if matches!(entry.value.value, Value::Told) {
            return Read::default();
        }
        let message =
            "`backends` must be a list: `[10.0.0.1:5432, 10.0.0.2:5432]`, or lines that begin with `- `";
        report.tell(entry.value.place, message);
        return Read::default();
    };
    if items.is_empty() {
        report.tell(entry.value.place, "`backends` is an empty list; a pool needs at least one");
    }
    let (mut found, mut sources) = (Vec::new(), Vec::new());
    for item in items.iter() {
        match read_one(item, report) {
            Some(Item::Backend(one)) => found.push(one),
            Some(Item::Source(source, place)) => sources.push((source, place)),
            None => {}
        }
    }
    tell_doubles(&found, report);
    tell_double_sources(&sources, report);
    Read { backends: found.into_iter().map(|found| (found.backend, found.place)).collect(), sources }
}

enum Item {
    Backend(Found),
    Source(Source, Place),
}

struct Found {
    backend: Backend,
    place: Place,
    name_place: Place,
    /// It has a `name` in the file.
    named: bool,
}

fn read_one(item: &Node, report: &mut Report) -> Option<Item> {
    if let Value::Map(entries) = &item.value
        && let [entry] = &**entries
        && let Value::Text(port) = &entry.value.value
        && parse_address(&entry.key).is_ok()
    {
        let (ip, port) = (harmless(&entry.key), quoted(port).replace('`', ""));
        let message =
            format!("`{ip}: {port}` is a key and its value in YAML; without the space it is an address");
        report.tell(item.place, message);
        return None;
    }
    let Value::Map(_) = &item.value else {
        let fields = Fields::none(&BACKEND);
        if let Some(source) = host_name(item, &fields, report) {
            return Some(Item::Source(source, item.place));
        }
        let (ip, port, text) = address("address", item, report)?;
        let (weight, tier, max_sessions) = numbers(&fields, report);
        let name = text.to_owned();
        let backend = Backend { name, ip, port, weight, tier, max_sessions, drains: None };
        return Some(Item::Backend(Found {
            backend,
            place: item.place,
            name_place: item.place,
            named: false,
        }));
    };
    let fields = Fields::open(item, &BACKEND, report)?;
    if let Some(entry) = fields.get("from") {
        return from::read(entry, &fields, report).map(|source| Item::Source(source, entry.value.place));
    }
    from::tell_without(&fields, report);
    let (weight, tier, max_sessions) = numbers(&fields, report);
    let name = fields.get("name").and_then(|entry| {
        let name = scalar("name", &entry.value, "a word", report)?;
        check_name(name, "a backend", entry.value.place, report);
        Some((name, entry.value.place))
    });
    let Some(entry) = fields.get("address") else {
        report.tell(item.place, "a backend needs `address`, or `from` with who says it");
        return None;
    };
    if let Some(source) = host_name(&entry.value, &fields, report) {
        let SourceKind::Name(mut host) = source.from else { return None };
        if let Some((_, place)) = name.filter(|_| host.addresses == Addresses::All) {
            let message = "each address of a host name is a backend of its own, named by it";
            report.tell_with_hint(
                place,
                message,
                "with `addresses: one` the name is the backend, and may have another",
            );
        }
        host.name = name.map(|(name, _)| name.to_owned());
        return Some(Item::Source(Source { from: SourceKind::Name(host), ..source }, entry.value.place));
    }
    let (ip, port, text) = address("address", &entry.value, report)?;
    names::tell_of_an_address(&fields, report);
    let (place, named) = (entry.value.place, name.is_some());
    let (name, name_place) = name.unwrap_or((text, place));
    let name = name.to_owned();
    let backend = Backend { name, ip, port, weight, tier, max_sessions, drains: None };
    Some(Item::Backend(Found { backend, place, name_place, named }))
}

/// The host name that stands where an address may stand.
fn host_name(node: &Node, fields: &Fields<'_>, report: &mut Report) -> Option<Source> {
    let Value::Text(text) = &node.value else { return None };
    names::source(text, node.place, fields, report)
}

fn tell_double_sources(sources: &[(Source, Place)], report: &mut Report) {
    let mut places: BTreeMap<(&str, Option<u16>), Place> = BTreeMap::new();
    for (source, place) in sources {
        let what = match &source.from {
            SourceKind::Name(name) => (&*name.host, name.port),
            _ => (&*source.text, None),
        };
        if let Some(first) = places.insert(what, *place) {
            let first = report.spot(first);
            report.tell(*place, format!("{} is in the pool already, on {first}", quoted(&source.text)));
        }
    }
}

/// Weight, tier and the most sessions.
fn numbers(fields: &Fields<'_>, report: &mut Report) -> (u16, u8, Option<u32>) {
    let max_sessions = fields.whole_or("max_sessions", report);
    (fields.whole("weight", report), fields.whole("tier", report), max_sessions)
}

pub(super) fn address<'a>(
    key: &str,
    node: &'a Node,
    report: &mut Report,
) -> Option<(IpAddr, Option<u16>, &'a str)> {
    if matches!(node.value, Value::List(_) | Value::Map(_)) {
        report.tell_with_hint(node.place, format!("`{key}` must be ADDRESS or ADDRESS:PORT"), IPV6_HINT);
        return None;
    }
    let text = scalar(key, node, "ADDRESS or ADDRESS:PORT", report)?;
    let (ip, ports) = match parse_address(text) {
        Ok(parsed) => parsed,
        Err(AddressError::HostName(name)) => {
            report.tell(node.place, format!("{} is neither an IP address nor a host name", quoted(&name)));
            return None;
        }
        Err(error) => {
            match foreign::server_line(text) {
                Some(item) => {
                    let message =
                        format!("{} is a line of another balancer; here it is {item}", quoted(text));
                    report.tell(node.place, message);
                }
                None => report.tell(node.place, error.to_string()),
            }
            return None;
        }
    };
    let wrong = if ports.as_ref().is_some_and(|ports| ports.start() != ports.end()) {
        "a backend has one port; without one, it is the port the client came to"
    } else if ip.is_unspecified() {
        "a backend needs an address of its own; this one means every address"
    } else if ip.is_multicast() || is_broadcast(ip) {
        "a connection goes to one host; this is a multicast or broadcast address"
    } else {
        return Some((ip, ports.map(|ports| *ports.start()), text));
    };
    report.tell(node.place, format!("{}: {wrong}", quoted(text)));
    None
}

fn tell_doubles(found: &[Found], report: &mut Report) {
    let mut names: BTreeMap<&str, Place> = BTreeMap::new();
    let mut addresses: BTreeMap<(IpAddr, Option<u16>), (Place, bool)> = BTreeMap::new();
    for Found { backend, place, name_place, named } in found {
        let address = (backend.ip.to_canonical(), backend.port);
        let same_address = addresses.get(&address).copied();
        addresses.entry(address).or_insert((*place, *named));
        if let Some(first) = names.get(&*backend.name).filter(|_| *named || same_address.is_none()) {
            let (name, first) = (quoted(&backend.name), report.spot(*first));
            let message = format!("two backends of this pool are named {name}; first on {first}");
            report.tell(*name_place, message);
        } else if let Some((first, first_named)) = same_address
            && !(*named && first_named)
        {
            let message = format!("this address is in the pool already, on {}", report.spot(first));
            report.tell_with_hint(*place, message, "if that is meant, give each of them a `name` of its own");
        }
        names.entry(&backend.name).or_insert(*name_place);
    }
}
