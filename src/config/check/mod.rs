//! Every rule of the file, once: the tree in, settings out, or all mistakes at once.
//!
//! Pure. A wrong value is told and its default used, so that the rest is still checked; settings leave this room only
//! when nothing was told. Limits of values stand beside their readers and in `conf/reference.yaml`.

mod across;
mod address;
mod backends;
mod binds;
mod cidr;
mod connect_from;
mod defaults;
mod health;
mod keys;
mod listeners;
mod policy;
mod pools;
mod section;
mod talk;

use std::num::NonZeroU16;
use std::time::Duration;

use super::document::{Node, Value};
use super::mistake::{Place, Report, quoted};
use super::settings::{
    Admin, AdminSocket, Level, Limits, Listener, Log, LogFormat, LogSessions, OnDown, Pool, SessionLimit,
    Settings, Shutdown, Workers,
};
use defaults::Defaults;
use section::{Fields, check_name, entries_of, is_word, scalar};

pub(super) use address::show_ip;

/// The settings a tree stands for, defaults filled in. Only complete when the report stayed empty.
pub(super) fn check(document: &Node, report: &mut Report) -> Option<Settings> {
    if matches!(document.value, Value::Empty) {
        report.tell_with_hint(Place::FILE, "the file is empty", SMALLEST);
        return None;
    }
    let top = Fields::open(document, &keys::TOP, report)?;
    let (listeners, pools) = doors_and_pools(&top, report);
    let admin = admin(&top, &listeners, report);
    let (listeners, pools) = across::join(listeners, pools, report);
    Some(Settings {
        workers: match top.whole_or("workers", "auto", 1..=WORKERS_MAX, report).and_then(NonZeroU16::new) {
            Some(count) => Workers::Count(count),
            None => Workers::Auto,
        },
        hash_seed: top.read("hash_seed", "evenkeel".to_owned(), report, |entry, report| {
            let expected = "1 to 256 characters";
            let text = scalar(&entry.key, &entry.value, expected, report)?;
            if text.is_empty() || text.chars().count() > 256 {
                report.tell(entry.value.place, format!("`hash_seed` must be {expected}"));
            }
            Some(text.to_owned())
        }),
        log: log(&top, report),
        admin,
        shutdown: Shutdown {
            grace: top.section("shutdown", &keys::SHUTDOWN, report).duration(
                "grace",
                Duration::from_secs(30),
                Duration::ZERO..=DAY,
                report,
            ),
        },
        limits: limits(&top, report),
        listeners,
        pools,
    })
}

fn limits(top: &Fields<'_>, report: &mut Report) -> Limits {
    let limits = top.section("limits", &keys::LIMITS, report);
    let mut sessions = |key| match limits.whole_or(key, "auto", 1..=SESSIONS_MAX, report) {
        Some(count) => SessionLimit::Count(count),
        None => SessionLimit::Auto,
    };
    Limits { tcp_sessions: sessions("tcp_sessions"), udp_sessions: sessions("udp_sessions") }
}

/// A listener whose pool is not looked up yet, and where its parts stand.
struct DraftListener {
    /// Its `pool` index means nothing yet.
    settings: Listener,
    place: Place,
    /// One for each bind.
    bind_places: Vec<Place>,
    pool: PoolChoice,
}

/// What a listener says about its pool.
enum PoolChoice {
    /// `pool: NAME`.
    Named(String, Place),
    /// Pool keys of its own: the pool of its name.
    Own,
    /// A mistake that was told.
    Unknown,
}

/// A pool and where its parts stand.
struct DraftPool {
    settings: Pool,
    place: Place,
    /// One for each backend.
    backend_places: Vec<Place>,
    /// It stands in the listener of its name.
    own: bool,
    /// A check is asked for by name; without one it depends on who uses the pool.
    check_written: bool,
    /// Where `connect` is written.
    connect: Option<Place>,
    /// Where a `queue` is written.
    queue: Option<Place>,
    /// `send_proxy: v1` stands there, and where; without a place it is a default.
    send_proxy_v1: Option<Option<Place>>,
    /// What is written of `on_down`, and where; without a place it is a default.
    on_down: Option<(OnDown, Option<Place>)>,
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
    for entry in doors {
        check_name(&entry.key, "a listener", entry.place, report);
        let whole = defaults.below_listener(&entry.value);
        if let Some(fields) = Fields::open(&whole, &keys::LISTENER, report) {
            let (listener, own_pool) = listeners::read(&entry.key, entry.place, &fields, &defaults, report);
            listeners.push(listener);
            pools.extend(own_pool);
        }
    }
    for entry in entries("pools", report) {
        check_name(&entry.key, "a pool", entry.place, report);
        let whole = defaults.below_pool(&entry.value);
        if let Some(fields) = Fields::open(&whole, &keys::POOL, report) {
            pools.push(pools::read(&entry.key, entry.place, &fields, false, report));
        }
    }
    (listeners, pools)
}

fn log(top: &Fields<'_>, report: &mut Report) -> Log {
    let log = top.section("log", &keys::LOG, report);
    let levels = [
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json), ("auto", LogFormat::Auto)];
    let sessions = [("all", LogSessions::All), ("failed", LogSessions::Failed), ("off", LogSessions::Off)];
    Log {
        level: log.word("level", Level::Info, &levels, report),
        format: log.word("format", LogFormat::Auto, &formats, report),
        sessions: log.word("sessions", LogSessions::Failed, &sessions, report),
    }
}

fn admin(top: &Fields<'_>, listeners: &[DraftListener], report: &mut Report) -> Admin {
    let admin = top.section("admin", &keys::ADMIN, report);
    let http = admin.read("http", None, report, |entry, report| {
        let (http, place) = (binds::admin_address(entry, report)?, entry.value.place);
        if let Some(address) = http {
            across::admin_apart(address, place, listeners, report);
        }
        Some(http)
    });
    let socket = admin.read("socket", AdminSocket::Auto, report, |entry, report| {
        if is_word(&entry.value, "off") {
            return Some(AdminSocket::Off);
        }
        let expected = "an absolute path, or `off`";
        let path = scalar(&entry.key, &entry.value, expected, report)?;
        // The kernel takes 107 bytes.
        if !path.starts_with('/') || path.len() > SOCKET_PATH_MAX {
            let message =
                format!("`socket` must be {expected}, at most {SOCKET_PATH_MAX} bytes, not {}", quoted(path));
            report.tell(entry.value.place, message);
        }
        Some(AdminSocket::Path(path.to_owned()))
    });
    Admin { socket, http }
}

const SMALLEST: &str =
    "the smallest file is `listeners: { redis: { bind: 6379, backends: [10.0.0.1:6379, 10.0.0.2:6379] } }`";

const WORKERS_MAX: u64 = 1024;
const SOCKET_PATH_MAX: usize = 107;
/// Beyond what one machine can hold open.
const SESSIONS_MAX: u64 = 10_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);
