//! `bind` and `admin.http`: ports, addresses, lists and ranges.
//!
//! Pure. Ranges are written out here, within limits; whether two of them collide is `across`'s business.

use std::net::{IpAddr, SocketAddr};

use super::address::{parse_address, parse_ports};
use super::section::{is_word, scalar};
use crate::config::document::{Entry, IPV6_HINT, Node, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::Bind;

/// Every socket address a listener asks for, with its place.
pub(super) fn read(entry: &Entry, report: &mut Report) -> Vec<(Bind, Place)> {
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    if items.is_empty() {
        report.tell(entry.value.place, "`bind` is an empty list; a listener needs a port");
    }
    let mut binds = Vec::new();
    for item in items {
        let Some(found) = read_one(item, report) else { continue };
        binds.extend(found.into_iter().map(|bind| (bind, item.place)));
        if binds.len() > BINDS_MAX {
            report
                .tell(entry.value.place, format!("a listener binds at most {BINDS_MAX} addresses and ports"));
            binds.truncate(BINDS_MAX);
            break;
        }
    }
    binds
}

/// `admin.http`: one address with one port, or off.
#[allow(clippy::option_option)] // None: told to be wrong. Some(None): off.
pub(super) fn admin_address(entry: &Entry, report: &mut Report) -> Option<Option<SocketAddr>> {
    if is_word(&entry.value, "off") {
        return Some(None);
    }
    let expected = "ADDRESS:PORT, e.g. `127.0.0.1:9900`, or `off`";
    let text = scalar(&entry.key, &entry.value, expected, report)?;
    match parse_address(text) {
        Ok((ip, Some(ports))) if ports.start() == ports.end() => {
            Some(Some(SocketAddr::new(ip, *ports.start())))
        }
        Ok(_) => {
            report.tell(entry.value.place, format!("`http` must be {expected}, not {}", quoted(text)));
            None
        }
        Err(error) => {
            report.tell(entry.value.place, format!("`http` must be {expected}; {error}"));
            None
        }
    }
}

fn read_one(node: &Node, report: &mut Report) -> Option<Vec<Bind>> {
    if matches!(node.value, Value::List(_) | Value::Map(_)) {
        report.tell_with_hint(node.place, format!("`bind` must be {EXPECTED}"), IPV6_HINT);
        return None;
    }
    let text = scalar("bind", node, EXPECTED, report)?;
    let only_ports = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let parsed = if only_ports {
        parse_ports(text).map(|ports| (None, Some(ports)))
    } else {
        parse_address(text).map(|(ip, ports)| (Some(ip), ports))
    };
    match parsed {
        Ok((Some(ip), _)) if ip.is_multicast() || is_broadcast(ip) => {
            report.tell(node.place, format!("{} is no address a TCP client can connect to", quoted(text)));
            None
        }
        Ok((ip, Some(ports))) => Some(ports.map(|port| Bind { ip, port }).collect()),
        Ok((_, None)) => {
            report.tell(node.place, format!("{} has no port; `bind` must be {EXPECTED}", quoted(text)));
            None
        }
        Err(error) => {
            report.tell(node.place, format!("`bind`: {error}"));
            None
        }
    }
}

/// 255.255.255.255, which is nobody's address.
pub(super) fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

const EXPECTED: &str = "a port, ADDRESS:PORT, a port range like 27015-27030, or a list of them";

const BINDS_MAX: usize = 1024;
