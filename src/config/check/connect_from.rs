//! `connect_from` of a pool: addresses of this host, or the clients' own.
//!
//! Pure. Whether this host has an address is seen when the program starts.

use std::net::IpAddr;

use super::binds::is_broadcast;
use super::section::Fields;
use super::values::{is_word, scalar};
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::{Backend, ConnectFrom};
use crate::config::spec::Kind;

/// What `connect_from` says.
pub(super) fn read(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<ConnectFrom> {
    if is_word(&entry.value, "client") {
        return Some(ConnectFrom::Client);
    }
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    let most = kind.most();
    if items.len() > most {
        report.tell(entry.value.place, format!("`connect_from` has at most {most} addresses"));
        return None;
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for item in items {
        let Some(ip) = address(kind, item, report) else { continue };
        if addresses.contains(&ip) {
            report.tell(item.place, format!("{ip} is in `connect_from` already"));
        }
        addresses.push(ip);
    }
    if addresses.is_empty() { Some(ConnectFrom::Any) } else { Some(ConnectFrom::Addresses(addresses)) }
}

/// Each backend must be reachable from one of the addresses: an IPv4 one from IPv4.
pub(super) fn check_families(
    fields: &Fields<'_>,
    from: &ConnectFrom,
    backends: &[Backend],
    report: &mut Report,
) {
    let (ConnectFrom::Addresses(addresses), Some(entry)) = (from, fields.get("connect_from")) else { return };
    let reaches = |backend: &Backend| addresses.iter().any(|ip| ip.is_ipv4() == backend.ip.is_ipv4());
    if let Some(backend) = backends.iter().find(|backend| !reaches(backend)) {
        let family = if backend.ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let name = quoted(&backend.name);
        report.tell(
            entry.value.place,
            format!("`connect_from` has no {family} address, which the backend {name} needs"),
        );
    }
}

fn address(kind: &Kind, node: &Node, report: &mut Report) -> Option<IpAddr> {
    let text = scalar("connect_from", node, kind.expected(), report)?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let Ok(ip) = bare.parse::<IpAddr>() else {
        report.tell(node.place, format!("`connect_from` must be {}, not {}", kind.expected(), quoted(text)));
        return None;
    };
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_multicast() || is_broadcast(ip) {
        report.tell(node.place, format!("{} is no address of one host", quoted(text)));
        return None;
    }
    Some(ip)
}
