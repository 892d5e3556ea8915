//! One listener: where it listens, which pool it uses, its timeouts and keepalive.
//!
//! Pure. Looks at one listener alone; what two of them may not do together is `across`'s business.

use super::cidr::with_files;
use super::draft::{DraftListener, DraftPool, PoolChoice};
use super::section::Fields;
use super::values::{found_word, is_word, scalar, whole};
use super::{binds, pools, routes};
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::{
    Keepalive, Listener, ListenerLimits, NetworkFiles, Protocol, ShareLimit, Timeouts, Udp,
};
use crate::config::spec::POOL;

/// The keys of a pool that stand in a listener, with what they leave out.
type OwnPool<'a> = dyn Fn(&[Entry]) -> Vec<Entry> + 'a;

/// The listener, and its own pool if it has one, for which `own_pool` adds what `defaults` has.
pub(super) fn read(
    name: &str,
    place: Place,
    fields: &Fields<'_>,
    own_pool: &OwnPool<'_>,
    report: &mut Report,
) -> (DraftListener, Option<DraftPool>) {
    let binds = match fields.get("bind") {
        Some(entry) => binds::read(&fields.kind("bind"), entry, report),
        None => {
            report
                .tell(place, format!("the listener {} needs `bind`: the port clients come to", quoted(name)));
            Vec::new()
        }
    };
    let protocol = fields.word_of("protocol", report);
    let (pool, own_pool) = pool_choice(name, place, fields, own_pool, report);
    let (bind, bind_places): (Vec<_>, _) = binds.into_iter().unzip();
    let settings = settings(name, protocol, fields, report);
    let of = routes::Of { protocol, role: settings.role, speaks: settings.speaks, binds: &bind };
    let (routes, drafts) = routes::read(fields, &of, report);
    let settings = Listener { bind, routes, needs_route: matches!(pool, PoolChoice::Routes), ..settings };
    let role_place = fields.get("role").filter(|entry| !entry.is_default).map(|entry| entry.value.place);
    (DraftListener { settings, place, bind_places, role_place, pool, routes: drafts }, own_pool)
}

/// What a listener says besides where it listens and which pool it uses.
pub(super) fn settings(name: &str, protocol: Protocol, fields: &Fields<'_>, report: &mut Report) -> Listener {
    let fields = fields.for_protocol(protocol);
    refuse_strangers(protocol, &fields, report);
    let networks = |key, report: &mut Report| {
        let kind = fields.kind(key);
        fields.read(key, report, |entry, report| Some(with_files(&kind, entry, report))).unwrap_or_default()
    };
    let (allow, deny) = (networks("allow", report), networks("deny", report));
    let accept_proxy = networks("accept_proxy", report);
    Listener {
        name: name.to_owned(),
        bind: Vec::new(),
        protocol,
        pool: 0,
        routes: Vec::new(),
        needs_route: false,
        speaks: fields.word_or("speaks", report),
        role: fields.word_of("role", report),
        timeouts: timeouts(protocol, &fields.section("timeouts", report), report),
        keepalive: fields.section_or_off("keepalive", report, keepalive),
        allow: allow.0,
        deny: deny.0,
        limits: limits(protocol, &fields.section("limits", report), report),
        backlog: fields.whole_or("backlog", report),
        freebind: fields.switch("freebind", report),
        log_sessions: fields.word_or("log_sessions", report),
        udp: udp(&fields.section("udp", report), report),
        accept_proxy: accept_proxy.0,
        files: NetworkFiles { allow: allow.1, deny: deny.1, accept_proxy: accept_proxy.1 },
    }
}

/// Tells the keys that cannot apply to this protocol.
fn refuse_strangers(protocol: Protocol, fields: &Fields<'_>, report: &mut Report) {
    for entry in fields.strangers(protocol) {
        let other = match protocol {
            Protocol::Tcp => Protocol::Udp,
            Protocol::Udp => Protocol::Tcp,
        };
        let (key, other, is) = (quoted(&entry.key), other.word(), protocol.word());
        report.tell(entry.place, format!("{key} is for {other} listeners; this one is {is}"));
    }
}

fn pool_choice(
    name: &str,
    place: Place,
    fields: &Fields<'_>,
    own_pool: &OwnPool<'_>,
    report: &mut Report,
) -> (PoolChoice, Option<DraftPool>) {
    let own_key = fields.any_of(&POOL);
    let Some(entry) = fields.get("pool") else {
        if own_key.is_some() {
            let entries = own_pool(fields.entries());
            return (
                PoolChoice::Own,
                Some(pools::read(name, place, &Fields::over(&entries, &POOL), true, report)),
            );
        }
        // What is wrong with them is told there.
        if fields
            .get("routes")
            .is_some_and(|entry| !matches!(&entry.value.value, Value::List(all) if all.is_empty()))
        {
            return (PoolChoice::Routes, None);
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
    refuse_strangers(protocol, fields, report);
    let is_no_end = |entry: &Entry| entry.is_default && is_word(&entry.value, "off");
    let idle = match fields.get("idle") {
        // What stands in `defaults` is for those it is for: silence is the only end every flow has.
        Some(entry) if protocol == Protocol::Udp && is_no_end(entry) => {
            fields.without_entries().duration_or("idle", report)
        }
        _ => fields.duration_or("idle", report),
    };
    Timeouts {
        header: fields.duration("header", report),
        first: fields.duration("first", report),
        idle,
        half_closed: fields.duration_or("half_closed", report),
        lifetime: fields.duration_or("lifetime", report),
        unacknowledged: fields.duration_or("unacknowledged", report),
    }
}

fn limits(protocol: Protocol, fields: &Fields<'_>, report: &mut Report) -> ListenerLimits {
    // Connections are limited for the process; flows cost a client nothing, so one listener or source gets a share.
    let auto = match protocol {
        Protocol::Tcp => ShareLimit::Off,
        Protocol::Udp => ShareLimit::Auto,
    };
    let share = |key, report: &mut Report| {
        let kind = fields.kind(key);
        let read = |entry: &Entry, report: &mut Report| match found_word(&kind, entry) {
            Some("off") => Some(ShareLimit::Off),
            Some(_) => Some(auto),
            None => whole(&kind, entry, report).map(ShareLimit::Count),
        };
        fields.read(key, report, read).unwrap_or(auto)
    };
    let limits = ListenerLimits {
        sessions: share("sessions", report),
        sessions_per_source: share("sessions_per_source", report),
        rate: fields.rate_or("rate", report),
        rate_per_source: fields.rate_or("rate_per_source", report),
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
    Udp {
        responses: fields.whole_or("responses", report),
        requests: fields.whole_or("requests", report),
        receive_buffer: fields.size("receive_buffer", report),
        send_buffer: fields.size("send_buffer", report),
    }
}

fn keepalive(fields: Fields<'_>, report: &mut Report) -> Keepalive {
    Keepalive {
        idle: fields.duration("idle", report),
        interval: fields.duration("interval", report),
        count: fields.whole("count", report),
    }
}
