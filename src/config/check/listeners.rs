//! One listener: where it listens, which pool it uses, its timeouts and keepalive.
//!
//! Pure. Looks at one listener alone; what two of them may not do together is `across`'s business.

use std::time::Duration;

use super::cidr::cidrs;
use super::defaults::Defaults;
use super::keys::{KEEPALIVE, LISTENER_LIMITS, POOL, TIMEOUTS, UDP};
use super::section::{Fields, is_word, scalar};
use super::{DAY, DraftListener, DraftPool, PoolChoice, SESSIONS_MAX, binds, pools};
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::{
    Keepalive, Listener, ListenerLimits, LogSessions, Protocol, ShareLimit, Timeouts, Udp,
};

/// The listener, and its own pool if it has one.
pub(super) fn read(
    name: &str,
    place: Place,
    fields: &Fields<'_>,
    defaults: &Defaults,
    report: &mut Report,
) -> (DraftListener, Option<DraftPool>) {
    let binds = match fields.get("bind") {
        Some(entry) => binds::read(entry, report),
        None => {
            report
                .tell(place, format!("the listener {} needs `bind`: the port clients come to", quoted(name)));
            Vec::new()
        }
    };
    let protocol = fields.word("protocol", Protocol::Tcp, &PROTOCOLS, report);
    let (pool, own_pool) = pool_choice(name, place, fields, defaults, report);
    let (bind, bind_places) = binds.into_iter().unzip();
    let settings = Listener { bind, ..settings(name, protocol, fields, report) };
    (DraftListener { settings, place, bind_places, pool }, own_pool)
}

/// What a listener says besides where it listens and which pool it uses.
pub(super) fn settings(name: &str, protocol: Protocol, fields: &Fields<'_>, report: &mut Report) -> Listener {
    let strangers: &[&str] = match protocol {
        Protocol::Tcp => &["udp"],
        Protocol::Udp => &["keepalive", "backlog"],
    };
    refuse_strangers(protocol, fields, strangers, report);
    let networks = |key, report: &mut Report| {
        fields.get(key).map_or(Vec::new(), |entry| cidrs(entry, NETWORKS_MAX, report))
    };
    Listener {
        name: name.to_owned(),
        bind: Vec::new(),
        protocol,
        pool: 0,
        timeouts: timeouts(protocol, &fields.section("timeouts", &TIMEOUTS, report), report),
        keepalive: fields.read("keepalive", Some(KEEPALIVE_DEFAULT), report, keepalive),
        allow: networks("allow", report),
        deny: networks("deny", report),
        limits: limits(protocol, &fields.section("limits", &LISTENER_LIMITS, report), report),
        backlog: fields.whole_or("backlog", "auto", 1..=BACKLOG_MAX, report),
        freebind: fields.switch("freebind", false, report),
        log_sessions: fields.word("log_sessions", None, &LOG_SESSIONS, report),
        udp: udp(&fields.section("udp", &UDP, report), report),
        accept_proxy: fields
            .get("accept_proxy")
            .map_or(Vec::new(), |entry| cidrs(entry, PROXIES_MAX, report)),
    }
}

/// Tells the keys that cannot apply to this protocol.
fn refuse_strangers(protocol: Protocol, fields: &Fields<'_>, strangers: &[&str], report: &mut Report) {
    // What stands in `defaults` is for those it is for.
    for entry in strangers.iter().filter_map(|key| fields.get(key)).filter(|entry| !entry.is_default) {
        let (is, other) = match protocol {
            Protocol::Tcp => ("tcp", "udp"),
            Protocol::Udp => ("udp", "tcp"),
        };
        let message = format!("{} is for {other} listeners; this one is {is}", quoted(&entry.key));
        report.tell(entry.place, message);
    }
}

fn pool_choice(
    name: &str,
    place: Place,
    fields: &Fields<'_>,
    defaults: &Defaults,
    report: &mut Report,
) -> (PoolChoice, Option<DraftPool>) {
    let own_key = fields.any_of(&POOL);
    let Some(entry) = fields.get("pool") else {
        if own_key.is_some() {
            let entries = defaults.below_own_pool(fields.entries());
            return (PoolChoice::Own, Some(pools::read(name, place, &Fields::over(&entries), true, report)));
        }
        let message = format!("the listener {} needs `pool: NAME`, or `backends` of its own", quoted(name));
        report.tell(place, message);
        return (PoolChoice::Unknown, None);
    };
    if let Some(own_key) = own_key {
        let message =
            format!("{} cannot stand beside `pool`: it belongs into that pool", quoted(&own_key.key));
        report.tell(own_key.place, message);
    }
    if matches!(entry.value.value, Value::Map(_)) {
        let message = "`pool` is the name of a pool; the keys of an own pool stand in the listener itself";
        report.tell(entry.value.place, message);
        return (PoolChoice::Unknown, None);
    }
    match scalar("pool", &entry.value, "the name of a pool", report) {
        Some(pool) => (PoolChoice::Named(pool.to_owned(), entry.value.place), None),
        None => (PoolChoice::Unknown, None),
    }
}

fn timeouts(protocol: Protocol, fields: &Fields<'_>, report: &mut Report) -> Timeouts {
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let idle = match protocol {
        Protocol::Tcp => fields.duration_or_off("idle", None, QUIET_MIN..=QUIET_MAX, report),
        // Silence is the only end every flow has: it cannot be off.
        Protocol::Udp if fields.get("idle").is_some_and(|entry| entry.is_default) => {
            let idle = fields.duration_or_off("idle", None, QUIET_MIN..=QUIET_MAX, report);
            Some(idle.unwrap_or(FLOW_IDLE))
        }
        Protocol::Udp => Some(fields.duration("idle", FLOW_IDLE, QUIET_MIN..=QUIET_MAX, report)),
    };
    if protocol == Protocol::Udp {
        refuse_strangers(protocol, fields, &["header", "half_closed", "unacknowledged"], report);
    }
    Timeouts {
        header: fields.duration("header", HEADER, QUIET_MIN..=HEADER_MAX, report),
        idle,
        half_closed: fields.duration_or_off("half_closed", minutes(5), QUIET_MIN..=QUIET_MAX, report),
        lifetime: fields.duration_or_off("lifetime", None, SECOND..=LIFETIME_MAX, report),
        unacknowledged: fields.duration_or_off("unacknowledged", None, SECOND..=DAY, report),
    }
}

fn limits(protocol: Protocol, fields: &Fields<'_>, report: &mut Report) -> ListenerLimits {
    // Connections are limited for the process; flows cost a client nothing, so one listener or source gets a share.
    let auto = match protocol {
        Protocol::Tcp => ShareLimit::Off,
        Protocol::Udp => ShareLimit::Auto,
    };
    let mut share = |key| {
        fields.read(key, auto, report, |entry, report| {
            if is_word(&entry.value, "off") {
                return Some(ShareLimit::Off);
            }
            let count = Fields::of(entry).whole_or(key, "auto off", 1..=SESSIONS_MAX, report);
            Some(count.map_or(auto, ShareLimit::Count))
        })
    };
    let limits = ListenerLimits {
        sessions: share("sessions"),
        sessions_per_source: share("sessions_per_source"),
        rate: fields.rate_or_off("rate", report),
        rate_per_source: fields.rate_or_off("rate_per_source", report),
    };
    tell_contradictions(&limits, fields, report);
    limits
}

/// A source that may have more than all of them together: one of the two is not what was meant.
fn tell_contradictions(limits: &ListenerLimits, fields: &Fields<'_>, report: &mut Report) {
    let mut tell = |all: &str, one: &str| {
        let (Some(all), Some(one)) = (fields.get(all), fields.get(one)) else { return };
        // A listener may well be smaller than what suits most of them.
        if all.is_default == one.is_default {
            let (all, one) = (quoted(&all.key), (quoted(&one.key), one.value.place));
            report.tell(one.1, format!("{} is above {all}: no source could ever reach it", one.0));
        }
    };
    if let (ShareLimit::Count(all), ShareLimit::Count(one)) = (limits.sessions, limits.sessions_per_source)
        && one > all
    {
        tell("sessions", "sessions_per_source");
    }
    if let (Some(all), Some(one)) = (limits.rate, limits.rate_per_source)
        && one.interval() < all.interval()
    {
        tell("rate", "rate_per_source");
    }
}

fn udp(fields: &Fields<'_>, report: &mut Report) -> Udp {
    let mut count = |key| fields.whole_or(key, "off", 1..=DATAGRAMS_MAX, report);
    let (responses, requests) = (count("responses"), count("requests"));
    let receive_buffer =
        fields.size("receive_buffer", 4 << 20, RECEIVE_BUFFER_MIN..=RECEIVE_BUFFER_MAX, report);
    Udp { responses, requests, receive_buffer }
}

#[allow(clippy::option_option)] // None: told to be wrong. Some(None): off.
fn keepalive(entry: &Entry, report: &mut Report) -> Option<Option<Keepalive>> {
    if is_word(&entry.value, "off") {
        return Some(None);
    }
    if is_word(&entry.value, "on") {
        return Some(Some(KEEPALIVE_DEFAULT));
    }
    let fields = Fields::open(&entry.value, &KEEPALIVE, report)?;
    let mut seconds = |key, default| {
        let duration = fields.duration(key, default, SECOND..=KEEPALIVE_MAX, report);
        if duration.subsec_millis() != 0 {
            let place = fields.get(key).map_or(entry.place, |entry| entry.value.place);
            report.tell(
                place,
                format!("`{key}` of `keepalive` must be whole seconds; the kernel counts in them"),
            );
        }
        duration
    };
    let idle = seconds("idle", KEEPALIVE_DEFAULT.idle);
    let interval = seconds("interval", KEEPALIVE_DEFAULT.interval);
    let count = fields.whole("count", KEEPALIVE_DEFAULT.count, 1..=127, report);
    Some(Some(Keepalive { idle, interval, count }))
}

const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const NETWORKS_MAX: usize = 100_000;
/// Proxies are few; each connection is held against each of them.
const PROXIES_MAX: usize = 256;
const HEADER: Duration = Duration::from_secs(5);
const HEADER_MAX: Duration = Duration::from_secs(60);
const FLOW_IDLE: Duration = Duration::from_secs(60);
const LOG_SESSIONS: [(&str, Option<LogSessions>); 4] = [
    ("inherit", None),
    ("all", Some(LogSessions::All)),
    ("failed", Some(LogSessions::Failed)),
    ("off", Some(LogSessions::Off)),
];
const BACKLOG_MAX: u64 = 65_535;
/// The kernel's own least (SOCK_MIN_RCVBUF is smaller still) would not hold a burst of one client.
const RECEIVE_BUFFER_MIN: u32 = 64 << 10;
/// The kernel counts in an int, and doubles what it is asked for.
const RECEIVE_BUFFER_MAX: u32 = 512 << 20;
const DATAGRAMS_MAX: u64 = 1_000_000;

const KEEPALIVE_DEFAULT: Keepalive =
    Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(15), count: 4 };
/// The kernel's own limit (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL).
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
const SECOND: Duration = Duration::from_secs(1);
const QUIET_MIN: Duration = Duration::from_millis(100);
/// Thirty days.
const QUIET_MAX: Duration = Duration::from_secs(720 * 3600);
/// A year.
const LIFETIME_MAX: Duration = Duration::from_secs(8760 * 3600);
