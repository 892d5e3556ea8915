//! `bind` and `admin.http`: ports, addresses, lists and ranges.
//!
//! Pure. Ranges are written out here, within limits; whether two of them collide is `across`'s business.

use std::net::{IpAddr, SocketAddr};

use super::address::{parse_address, parse_ports};
use super::values::{is_word, scalar};
use crate::config::document::{Entry, IPV6_HINT, Node, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::Bind;
use crate::config::spec::Kind;

/// Every socket address a listener asks for, with its place.
pub(super) fn read(kind: &Kind, entry: &Entry, report: &mut Report) -> Vec<(Bind, Place)> {
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    if items.is_empty() {
        report.tell(entry.value.place, "`bind` is an empty list; a listener needs a port");
    }
    let mut binds = Vec::new();
    for item in items {
        let Some(found) = read_one(kind, item, report) else { continue };
        binds.extend(found.into_iter().map(|bind| (bind, item.place)));
        let most = kind.most();
        if binds.len() > most {
            report.tell(entry.value.place, format!("a listener binds at most {most} addresses and ports"));
            binds.truncate(most);
            break;
        }
    }
    binds
}

/// `admin.http` and `admin.ready`: one address with one port, a port of this host, or off.
#[allow(clippy::option_option)] // None: told to be wrong. Some(None): off.
pub(super) fn admin_address(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<Option<SocketAddr>> {
    if is_word(&entry.value, "off") {
        return Some(None);
    }
    let expected = kind.expected();
    let text = scalar(&entry.key, &entry.value, expected, report)?;
    // A port alone: for this host. What anybody else may reach has its address written.
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits && let Ok(ports) = parse_ports(text) {
        return Some(Some(SocketAddr::from(([127, 0, 0, 1], *ports.start()))));
    }
    match parse_address(text) {
        Ok((ip, Some(ports))) if ports.start() == ports.end() => {
            Some(Some(SocketAddr::new(ip, *ports.start())))
        }
        Ok(_) => {
            report
                .tell(entry.value.place, format!("`{}` must be {expected}, not {}", entry.key, quoted(text)));
            None
        }
        Err(error) => {
            report.tell(entry.value.place, format!("`{}` must be {expected}; {error}", entry.key));
            None
        }
    }
}

fn read_one(kind: &Kind, node: &Node, report: &mut Report) -> Option<Vec<Bind>> {
    let expected = kind.expected();
    if matches!(node.value, Value::List(_) | Value::Map(_)) {
        report.tell_with_hint(node.place, format!("`bind` must be {expected}"), IPV6_HINT);
        return None;
    }
    let text = scalar("bind", node, expected, report)?;
    // `*:5432` and `:5432` are how others write it.
    let ports = text.strip_prefix("*:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    let only_ports = !ports.is_empty() && ports.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let parsed = if only_ports {
        parse_ports(ports).map(|ports| (None, Some(ports)))
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
            report.tell(node.place, format!("{} has no port; `bind` must be {expected}", quoted(text)));
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
