//! Host names among the `backends`, the `discovery` of a pool, and the `dns` section: who is asked for addresses, and how what
//! comes back is taken.
//!
//! Pure. Nobody is asked here.

use std::net::{IpAddr, SocketAddr};

use super::address::{AddressError, parse_address, parse_ports};
use super::cidr::cidrs;
use super::hosts::is_host_name;
use super::section::Fields;
use super::values::{is_word, scalar};
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::{Addresses, Discovery, Dns, Family, HostName, Source, SourceKind};

/// The source that a text names, if it is a host name or NAME:PORT; its numbers are for the caller.
pub(super) fn source(text: &str, place: Place, fields: &Fields<'_>, report: &mut Report) -> Option<Source> {
    let (host, ports) = match text.split_once(':') {
        Some((host, ports)) => (host, Some(ports)),
        None => (text, None),
    };
    let bare = host.strip_suffix('.').unwrap_or(host);
    let is_name = bare.chars().any(char::is_alphabetic)
        && is_host_name(bare)
        && matches!(parse_address(text), Err(AddressError::HostName(_)));
    if !is_name {
        return None;
    }
    let port = match ports.map(parse_ports) {
        None => None,
        Some(Ok(ports)) if ports.start() == ports.end() => Some(*ports.start()),
        Some(Ok(_)) => {
            let message = "a backend has one port; without one, it is the port the client came to";
            report.tell(place, format!("{}: {message}", quoted(text)));
            None
        }
        Some(Err(error)) => {
            report.tell(place, error.to_string());
            None
        }
    };
    let from = SourceKind::Name(HostName {
        host: host.to_ascii_lowercase(),
        port,
        addresses: fields.word_of("addresses", report),
        family: fields.word_of("family", report),
        name: None,
    });
    Some(Source {
        text: text.to_owned(),
        from,
        ignore: Vec::new(),
        weight: fields.whole("weight", report),
        tier: fields.whole("tier", report),
        max_sessions: fields.whole_or("max_sessions", report),
    })
}

/// The keys that mean something for a host name alone.
pub(super) fn tell_of_an_address(fields: &Fields<'_>, report: &mut Report) {
    let says = [
        ("addresses", fields.word_of::<Addresses>("addresses", report) != Addresses::All),
        ("family", fields.word_of::<Family>("family", report) != Family::Any),
    ];
    let says = says.into_iter().filter(|(_, something)| *something);
    for entry in says.filter_map(|(key, _)| fields.get(key)) {
        report.tell(entry.place, format!("`{}` is for host names; this backend is an address", entry.key));
    }
}

/// The `discovery` of a pool.
pub(super) fn discovery(fields: &Fields<'_>, report: &mut Report) -> Discovery {
    let kind = fields.kind("networks");
    let networks = fields.get("networks").map_or_else(Vec::new, |entry| cidrs(&kind, entry, report));
    Discovery {
        on_empty: fields.word_of("on_empty", report),
        keep_for: fields.duration_or("keep_for", report),
        max_removed_percent: fields.percent("max_removed", report),
        max_backends: fields.whole("max_backends", report),
        networks,
        remembers: fields.switch("remember", report),
    }
}

/// The `dns` section.
pub(super) fn dns(fields: &Fields<'_>, report: &mut Report) -> Dns {
    let refresh = fields.section("refresh", report);
    let (refresh_min, refresh_max) = (refresh.duration("min", report), refresh.duration("max", report));
    if let Some(entry) = refresh.get("min").or(refresh.get("max")).filter(|_| refresh_min > refresh_max) {
        report.tell(entry.value.place, "`min` is above `max`");
    }
    let kind = fields.kind("hosts");
    let hosts = fields.read("hosts", report, |entry, report| {
        if is_word(&entry.value, "off") {
            return Some(None);
        }
        let path = scalar(&entry.key, &entry.value, kind.expected(), report)?;
        if !path.starts_with('/') || path.len() > kind.most() {
            let message = format!("`hosts` must be {}, not {}", kind.expected(), quoted(path));
            report.tell(entry.value.place, message);
        }
        Some(Some(path.to_owned()))
    });
    Dns {
        servers: list(fields, "servers", report, server),
        hosts: hosts.flatten(),
        search: list(fields, "search", report, domain),
        timeout: fields.duration("timeout", report),
        attempts: fields.whole("attempts", report),
        refresh_min,
        refresh_max,
    }
}

/// A list, or `auto`.
fn list<T>(
    fields: &Fields<'_>,
    key: &str,
    report: &mut Report,
    read: impl Fn(&str, &Node, &mut Report) -> Option<T>,
) -> Option<Vec<T>> {
    let kind = fields.kind(key);
    let read = |entry: &Entry, report: &mut Report| {
        if is_word(&entry.value, "auto") {
            return Some(None);
        }
        let items = match &entry.value.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(&entry.value),
        };
        if items.is_empty() && key == "servers" || items.len() > kind.most() {
            report.tell(entry.value.place, format!("`{key}` has 1 to {} entries, or is `auto`", kind.most()));
            return None;
        }
        let texts = items.iter().filter_map(|item| {
            let text = scalar(key, item, kind.expected(), report)?;
            read(text, item, report)
        });
        Some(Some(texts.collect()))
    };
    fields.read(key, report, read).flatten()
}

fn server(text: &str, node: &Node, report: &mut Report) -> Option<SocketAddr> {
    // Without a port there is nothing to be taken for one.
    let parsed = match text.parse::<IpAddr>() {
        Ok(ip) => Ok((ip, None)),
        Err(_) => parse_address(text),
    };
    match parsed {
        Ok((ip, ports)) if ports.as_ref().is_none_or(|ports| ports.start() == ports.end()) && is_host(ip) => {
            Some(SocketAddr::new(ip, ports.map_or(DNS_PORT, |ports| *ports.start())))
        }
        Ok(_) => {
            report.tell(node.place, format!("{} is no server that could be asked", quoted(text)));
            None
        }
        Err(error) => {
            let expected = "ADDRESS or ADDRESS:PORT of a server, or `auto`";
            report.tell(node.place, format!("`servers` must be {expected}; {error}"));
            None
        }
    }
}

fn is_host(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

fn domain(text: &str, node: &Node, report: &mut Report) -> Option<String> {
    let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if is_host_name(&domain) {
        return Some(domain);
    }
    report.tell(node.place, format!("`search` must be a domain, or `auto`, not {}", quoted(text)));
    None
}

const DNS_PORT: u16 = 53;
