//! Every rule of the file, once: the tree in, settings out, or all mistakes at once.
//!
//! Pure. A wrong value is told and its default used, so that the rest is still checked; settings leave this room only
//! when nothing was told. Ranges and defaults of values stand in `spec`, which values go together stands here.

mod across;
mod address;
mod asked;
mod backends;
mod binds;
mod choice;
mod cidr;
mod connect_from;
mod databases;
mod defaults;
mod draft;
mod from;
mod health;
mod hosts;
mod keys;
mod listed;
mod listeners;
mod login;
mod names;
mod network;
mod network_files;
mod policy;
mod pools;
mod routes;
mod section;
mod several;
mod talk;
mod url;
mod values;

use std::cell::Cell;
use std::num::NonZeroU16;

use super::document::{Entry, Node, Value};
use super::mistake::{Place, Report, quoted};
use super::settings::{Admin, AdminSocket, Limits, Log, SessionLimit, Settings, Shutdown, Workers};
use super::spec::{LISTENER, POOL, TOP};
use defaults::Defaults;
use draft::{DraftListener, DraftPool};
use section::{Fields, check_name, entries_of};
use values::{is_word, scalar};

pub(super) use address::{parse_address, show_ip};
pub(super) use asked::named;
pub use listed::Listed;
pub(super) use listed::read as listed;
pub(super) use network_files::{from_bytes as networks, good_lines};
pub(super) use several::joined;
pub(super) use url::parse as parse_url;

/// The most bytes of a file of networks.
pub const NETWORKS_BYTES_MAX: usize = network_files::BYTES_MAX;

/// The settings a tree stands for, defaults filled in. Only complete when the report stayed empty.
pub(super) fn check(document: &Node, report: &mut Report) -> Option<Settings> {
    if matches!(document.value, Value::Empty) {
        report.tell_with_hint(Place::FILE, "the file is empty", SMALLEST);
        return None;
    }
    let top = Fields::open(document, &TOP, report)?;
    let (listeners, pools) = doors_and_pools(&top, report);
    let admin = admin(&top, &listeners, report);
    let (listeners, pools) = across::join(listeners, pools, report);
    Some(Settings {
        workers: match top.whole_or("workers", report).and_then(NonZeroU16::new) {
            Some(count) => Workers::Count(count),
            None => Workers::Auto,
        },
        hash_seed: hash_seed(&top, report),
        log: log(&top, report),
        admin,
        shutdown: shutdown(&top, report),
        limits: limits(&top, report),
        dns: names::dns(&top.section("dns", report), report),
        listeners,
        pools,
    })
}

fn hash_seed(top: &Fields<'_>, report: &mut Report) -> String {
    let kind = top.kind("hash_seed");
    let seed = top.read("hash_seed", report, |entry, report| {
        let expected = kind.expected();
        let text = scalar(&entry.key, &entry.value, expected, report)?;
        if text.is_empty() || text.chars().count() > kind.most() {
            report.tell(entry.value.place, format!("`hash_seed` must be {expected}"));
        }
        Some(text.to_owned())
    });
    seed.unwrap_or_default()
}

fn shutdown(top: &Fields<'_>, report: &mut Report) -> Shutdown {
    let shutdown = top.section("shutdown", report);
    Shutdown { delay: shutdown.duration("delay", report), grace: shutdown.duration("grace", report) }
}

fn limits(top: &Fields<'_>, report: &mut Report) -> Limits {
    let limits = top.section("limits", report);
    let mut sessions = |key| limits.whole_or(key, report).map_or(SessionLimit::Auto, SessionLimit::Count);
    Limits { tcp_sessions: sessions("tcp_sessions"), udp_sessions: sessions("udp_sessions") }
}

fn doors_and_pools(top: &Fields<'_>, report: &mut Report) -> (Vec<DraftListener>, Vec<DraftPool>) {
    let mut listeners = Vec::new();
    let mut pools = Vec::new();
    let entries = |key, report: &mut Report| {
        let entry = top.get(key);
        entry.and_then(|entry| entries_of(&entry.value, &format!("`{key}`"), report)).unwrap_or_default()
    };
    let doors = entries("listeners", report);
    let no_map =
        top.get("listeners").is_some_and(|entry| !matches!(entry.value.value, Value::Map(_) | Value::Empty));
    if doors.is_empty() && !no_map {
        let place = top.get("listeners").map_or(Place::FILE, |entry| entry.place);
        report.tell_with_hint(place, "`listeners` needs at least one listener", SMALLEST);
    }
    let defaults = Defaults::read(top, doors.len(), report);
    let own_pool = |entries: &[Entry]| defaults.below_own_pool(entries);
    for entry in doors {
        check_name(&entry.key, "a listener", entry.place, report);
        let whole = defaults.below_listener(&entry.value);
        if let Some(fields) = Fields::open(&whole, &LISTENER, report) {
            let (listener, own_pool) = listeners::read(&entry.key, entry.place, &fields, &own_pool, report);
            listeners.push(listener);
            pools.extend(own_pool);
        }
    }
    for entry in entries("pools", report) {
        check_name(&entry.key, "a pool", entry.place, report);
        let whole = defaults.below_pool(&entry.value);
        if let Some(fields) = Fields::open(&whole, &POOL, report) {
            pools.push(pools::read(&entry.key, entry.place, &fields, false, report));
        }
    }
    (listeners, pools)
}

fn log(top: &Fields<'_>, report: &mut Report) -> Log {
    let log = top.section("log", report);
    Log {
        level: log.word_of("level", report),
        format: log.word_of("format", report),
        sessions: log.word_of("sessions", report),
    }
}

fn admin(top: &Fields<'_>, listeners: &[DraftListener], report: &mut Report) -> Admin {
    let admin = top.section("admin", report);
    let taken = Cell::new(None);
    let address = |key: &'static str, report: &mut Report| {
        let kind = admin.kind(key);
        let read = admin.read(key, report, |entry, report| {
            let (address, place) = (binds::admin_address(&kind, entry, report)?, entry.value.place);
            if let Some(address) = address {
                across::admin_apart(key, address, place, listeners, report);
                if taken.get() == Some(address) {
                    report.tell(place, format!("`{key}` and `http` must not be the same address"));
                }
                taken.set(Some(address));
            }
            Some(address)
        });
        read.flatten()
    };
    let (http, ready) = (address("http", report), address("ready", report));
    let kind = admin.kind("socket");
    let socket = admin.read("socket", report, |entry, report| {
        if is_word(&entry.value, "off") {
            return Some(AdminSocket::Off);
        }
        let (expected, most) = (kind.expected(), kind.most());
        let path = scalar(&entry.key, &entry.value, expected, report)?;
        if !path.starts_with('/') || path.len() > most {
            let message = format!("`socket` must be {expected}, at most {most} bytes, not {}", quoted(path));
            report.tell(entry.value.place, message);
        }
        Some(AdminSocket::Path(path.to_owned()))
    });
    let kind = admin.kind("hosts");
    let hosts = admin.read("hosts", report, |entry, report| hosts::read(&kind, entry, report));
    Admin { socket: socket.unwrap_or(AdminSocket::Auto), http, ready, hosts: hosts.unwrap_or_default() }
}

const SMALLEST: &str =
    "the smallest file is `listeners: { redis: { bind: 6379, backends: [10.0.0.1:6379, 10.0.0.2:6379] } }`";
