//! The `routes` of a listener: which clients each is for, and what no client could ever meet.
//!
//! Pure. Looks at one listener alone; whether the pools are there is `across`'s business.

use std::collections::BTreeMap;

use super::address::parse_ports;
use super::cidr::cidrs;
use super::draft::DraftRoute;
use super::section::Fields;
use super::values::scalar;
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::{Bind, NameError, NamePattern, Protocol, Role, Route, Speaks, Word as _};
use crate::config::spec::ROUTE;

/// What of its listener a route must go with: its protocol, its role, where it listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) protocol: Protocol,
    pub(super) role: Role,
    pub(super) speaks: Option<Speaks>,
    pub(super) binds: &'a [Bind],
}

/// The routes, and where their parts stand.
pub(super) fn read(fields: &Fields<'_>, of: &Of<'_>, report: &mut Report) -> (Vec<Route>, Vec<DraftRoute>) {
    let Some(entry) = fields.get("routes") else { return Default::default() };
    let Value::List(items) = &entry.value.value else {
        if !matches!(entry.value.value, Value::Told) {
            let message = "`routes` must be a list: `[{ sni: db.example.org, pool: db }]`, or lines that begin with `- `";
            report.tell(entry.value.place, message);
        }
        return Default::default();
    };
    let most = fields.kind("routes").most();
    if items.len() > most {
        report.tell(entry.value.place, format!("`routes` has at most {most} routes"));
        return Default::default();
    }
    let mut found: Vec<(Route, DraftRoute)> = Vec::with_capacity(items.len());
    let mut first_of = BTreeMap::new();
    for item in items.iter() {
        let told = report.count();
        let Some((route, draft)) = read_one(item, of, report) else { continue };
        // What is wrong with one may be what tells them apart.
        if report.count() == told
            && let Some(first) = first_of.insert(clients_of(&route), draft.place)
        {
            let first = report.spot(first);
            let message = format!("nobody gets to this route: one for the same clients stands on {first}");
            report.tell(draft.place, message);
        }
        found.push((route, draft));
    }
    found.into_iter().unzip()
}

/// For whom a route is, and nothing else of it: the same text for the same clients.
fn clients_of(route: &Route) -> String {
    format!("{:?}", Route { pool: 0, role: Role::Any, ..route.clone() })
}

fn read_one(item: &Node, of: &Of<'_>, report: &mut Report) -> Option<(Route, DraftRoute)> {
    if !matches!(item.value, Value::Map(_)) {
        if !matches!(item.value, Value::Told) {
            report.tell(item.place, "a route is a map of keys: `{ sni: db.example.org, pool: db }`");
        }
        return None;
    }
    let fields = Fields::open(item, &ROUTE, report)?.for_protocol(of.protocol);
    for entry in fields.strangers(of.protocol) {
        report.tell(entry.place, format!("{} is for tcp listeners; this one is udp", quoted(&entry.key)));
    }
    let pool = match fields.get("pool") {
        Some(entry) => scalar("pool", &entry.value, "the name of a pool", report)
            .map(|pool| (pool.to_owned(), entry.value.place)),
        None => {
            report.tell(item.place, "a route needs `pool`: where the clients go for whom it is");
            None
        }
    };
    let kind = fields.kind("from");
    let from = fields.get("from").map(|entry| tell_if_empty(entry, cidrs(&kind, entry, report), report));
    let ports = fields.get("port").map(|entry| ports(entry, of.binds, report));
    let role_entry = fields.get("role");
    let route = Route {
        from: from.unwrap_or_default(),
        ports: ports.unwrap_or_default(),
        sni: fields.get("sni").and_then(|entry| pattern(entry, &fields, report)),
        alpn: text("alpn", &fields, report),
        database: text("database", &fields, report),
        user: text("user", &fields, report),
        host: fields.get("host").and_then(|entry| pattern(entry, &fields, report)),
        pool: 0,
        role: role_entry.and_then(|_| fields.word_or("role", report)).unwrap_or(of.role),
    };
    let conditions = ROUTE.keys.iter().filter(|key| !matches!(key.name, "pool" | "role"));
    let mut conditions = conditions.filter_map(|key| fields.get(key.name));
    if conditions.next().is_none() && !fields.is_empty() {
        let message = "this route says nothing of whom it is for";
        report.tell_with_hint(item.place, message, "where everybody else goes is the `pool` of the listener");
    }
    tell_languages(&fields, of, report);
    let role_place = role_entry.map(|entry| entry.value.place);
    Some((route, DraftRoute { place: item.place, pool, role_place }))
}

/// What clients of this listener never say, or never together.
fn tell_languages(fields: &Fields<'_>, of: &Of<'_>, report: &mut Report) {
    if of.protocol == Protocol::Udp {
        return;
    }
    let in_clear = ["database", "user"].into_iter().find_map(|key| fields.get(key));
    let in_tls = ["sni", "alpn"].into_iter().find_map(|key| fields.get(key));
    if let Some(entry) = in_clear.filter(|_| of.speaks != Some(Speaks::Postgres)) {
        let message = format!("`{}`: nobody says it to this listener", entry.key);
        report.tell_with_hint(entry.place, message, "clients of PostgreSQL do: `speaks: postgres`");
    }
    if let Some(entry) = fields.get("host").filter(|_| of.speaks != Some(Speaks::Minecraft)) {
        let message = "`host`: nobody says it to this listener";
        report.tell_with_hint(
            entry.place,
            message,
            "players of Minecraft do: `speaks: minecraft`; TLS says `sni`",
        );
    }
    if let Some((entry, speaks)) = in_tls.zip(of.speaks.filter(|speaks| *speaks != Speaks::Postgres)) {
        let told = match speaks {
            Speaks::Mysql => "the server speaks first, and TLS comes after",
            _ => "it is read as that, and not as TLS",
        };
        report.tell(entry.place, format!("`{}` with `speaks: {}`: {told}", entry.key, speaks.word()));
    }
    if let (Some(clear), Some(tls)) = (in_clear, in_tls) {
        let message = format!(
            "`{}` and `{}` in one route: what is said in TLS cannot be read, so nobody gets to it",
            clear.key, tls.key
        );
        report.tell(clear.place, message);
    }
}

fn tell_if_empty<T>(entry: &Entry, list: Vec<T>, report: &mut Report) -> Vec<T> {
    if matches!(&entry.value.value, Value::List(items) if items.is_empty()) {
        report
            .tell(entry.value.place, format!("`{}` is an empty list: nobody gets to this route", entry.key));
    }
    list
}

fn pattern(entry: &Entry, fields: &Fields<'_>, report: &mut Report) -> Option<NamePattern> {
    let expected = fields.kind(&entry.key).expected().to_string();
    let text = scalar(&entry.key, &entry.value, &expected, report)?;
    match NamePattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("`{}` must be {expected}, not {}", entry.key, quoted(text));
            match error {
                NameError::NoName => report.tell(entry.value.place, message),
                error => report.tell_with_hint(entry.value.place, message, error.to_string()),
            }
            None
        }
    }
}

/// A text as it is.
fn text(key: &str, fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    let (entry, kind) = (fields.get(key)?, fields.kind(key));
    let expected = kind.expected().to_string();
    let text = scalar(key, &entry.value, &expected, report)?;
    if text.is_empty() || text.len() > kind.most() || text.contains(char::is_control) {
        report.tell(entry.value.place, format!("`{key}` must be {expected}, not {}", quoted(text)));
        return None;
    }
    Some(text.to_owned())
}

fn ports(entry: &Entry, binds: &[Bind], report: &mut Report) -> Vec<(u16, u16)> {
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    let kind = ROUTE.row("port", None).map(|row| row.kind);
    let (expected, most) =
        kind.map_or_else(Default::default, |kind| (kind.expected().to_string(), kind.most()));
    if items.len() > most {
        report.tell(entry.value.place, format!("`port` has at most {most} ports and ranges"));
        return Vec::new();
    }
    let mut found = Vec::new();
    for item in items {
        let Some(text) = scalar("port", item, &expected, report) else { continue };
        match parse_ports(text) {
            Ok(ports) if binds.is_empty() || binds.iter().any(|bind| ports.contains(&bind.port)) => {
                found.push((*ports.start(), *ports.end()));
            }
            Ok(_) => report.tell(
                item.place,
                format!("`port`: nobody comes to {}: the listener does not bind it", quoted(text)),
            ),
            Err(error) => report.tell(item.place, format!("`port` must be {expected}; {error}")),
        }
    }
    tell_if_empty(entry, found, report)
}
