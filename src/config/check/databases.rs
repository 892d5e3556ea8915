//! Checks of databases: Redis with its Sentinels, MySQL, MongoDB. What they share with PostgreSQL's is in `login`.
//!
//! Pure.

use std::net::{IpAddr, SocketAddr};

use super::address::parse_address;
use super::login::{login, password, tls};
use super::section::Fields;
use super::values::scalar;
use crate::config::document::{Entry, Node, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::{Check, MongodbCheck, MysqlCheck, RedisCheck, Secret, Sentinels};
use crate::config::spec::{Kind, MONGODB, MYSQL, REDIS};

/// A `redis` check.
pub(super) fn redis(choice: &Entry, report: &mut Report) -> Option<Check> {
    let fields = Fields::open(&choice.value, &REDIS, report)?;
    // All are read before one is given up, so that all are told.
    let user = match fields.get("user") {
        Some(_) => login(&fields, "user", report),
        None => Some(String::new()),
    };
    let (password, tls) = (password(&fields, "password", report), tls(&fields, report));
    let sentinels = sentinels(&fields, report);
    if let (Some(entry), Some(true)) = (fields.get("user"), password.as_ref().map(Secret::is_none)) {
        report.tell(entry.place, "`user` does nothing here: nobody logs in without `password`");
    }
    Some(Check::Redis(RedisCheck { user: user?, password: password?, tls: tls?, sentinels: sentinels? }))
}

/// A `mysql` check.
pub(super) fn mysql(choice: &Entry, report: &mut Report) -> Option<Check> {
    let fields = Fields::open(&choice.value, &MYSQL, report)?;
    let (user, password) = (login(&fields, "user", report), password(&fields, "password", report));
    let tls = tls(&fields, report);
    let donors = fields.word_of("donors", report);
    if fields.get("user").is_none() {
        report.tell(choice.place, "`mysql` needs `user`: the account that the check logs in as");
    }
    Some(Check::Mysql(MysqlCheck { user: user?, password: password?, tls: tls?, donors }))
}

/// A `mongodb` check.
pub(super) fn mongodb(choice: &Entry, report: &mut Report) -> Option<Check> {
    let fields = Fields::open(&choice.value, &MONGODB, report)?;
    Some(Check::Mongodb(MongodbCheck { tls: tls(&fields, report)? }))
}

/// The outer `None`: a mistake was told.
fn sentinels(fields: &Fields<'_>, report: &mut Report) -> Option<Option<Sentinels>> {
    let password = password(fields, "sentinel_password", report);
    let kind = fields.kind("name");
    let name = fields.read("name", report, |entry, report| {
        let text = scalar("name", &entry.value, kind.expected(), report)?;
        let fits = !text.is_empty() && text.len() <= kind.most();
        if !fits {
            report.tell(entry.value.place, "`name` has 1 to 255 bytes: what the Sentinels call the set");
        }
        fits.then(|| text.to_owned())
    });
    let kind = fields.kind("sentinels");
    let listed = fields
        .get("sentinels")
        .filter(|entry| !matches!(&entry.value.value, Value::List(items) if items.is_empty()));
    match listed {
        None => {
            for key in ["name", "sentinel_password"] {
                if let Some(entry) = fields.get(key) {
                    report.tell(entry.place, format!("`{key}` does nothing here: there are no `sentinels`"));
                }
            }
            Some(None)
        }
        Some(entry) if fields.get("name").is_none() => {
            report.tell_with_hint(
                entry.place,
                "`sentinels` needs `name`: what they call the set",
                "it stands behind `sentinel monitor` in their file",
            );
            None
        }
        Some(entry) => {
            let addresses = addresses(&kind, entry, report);
            Some(Some(Sentinels { addresses: addresses?, name: name?, password: password? }))
        }
    }
}

fn addresses(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<Vec<SocketAddr>> {
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    let most = kind.most();
    if items.len() > most {
        report.tell(entry.value.place, format!("`sentinels` has at most {most} addresses"));
        return None;
    }
    let mut addresses = Vec::new();
    for item in items {
        let Some(address) = address(kind, item, report) else { continue };
        if addresses.contains(&address) {
            report.tell(item.place, format!("{address} is in `sentinels` already"));
        }
        addresses.push(address);
    }
    (addresses.len() == items.len()).then_some(addresses)
}

fn address(kind: &Kind, node: &Node, report: &mut Report) -> Option<SocketAddr> {
    let text = scalar("sentinels", node, kind.expected(), report)?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, SENTINEL_PORT));
    }
    match parse_address(text) {
        Ok((ip, None)) => Some(SocketAddr::new(ip, SENTINEL_PORT)),
        Ok((ip, Some(ports))) if ports.start() == ports.end() => Some(SocketAddr::new(ip, *ports.start())),
        Ok(_) => {
            report.tell(node.place, format!("{} is a range: a Sentinel has one port", quoted(text)));
            None
        }
        Err(error) => {
            report.tell(node.place, format!("`sentinels`: {error}"));
            None
        }
    }
}

const SENTINEL_PORT: u16 = 26_379;
