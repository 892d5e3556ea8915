//! One listener: where it listens, which pool it uses, its timeouts and keepalive.
//!
//! Pure. Looks at one listener alone; what two of them may not do together is `across`'s business.

use std::time::Duration;

use super::keys::{KEEPALIVE, POOL, TIMEOUTS};
use super::section::{Fields, is_word, scalar, word};
use super::{DAY, DraftListener, DraftPool, PoolChoice, binds, pools};
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::{Keepalive, Listener, Timeouts};

/// The listener, and its own pool if it has one.
pub(super) fn read(
    name: &str,
    place: Place,
    fields: &Fields<'_>,
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
    if let Some(entry) = fields.get("protocol") {
        protocol(entry, report);
    }
    let (pool, own_pool) = pool_choice(name, place, fields, report);
    let (bind, bind_places) = binds.into_iter().unzip();
    let settings = Listener {
        name: name.to_owned(),
        bind,
        pool: 0,
        timeouts: timeouts(&fields.section("timeouts", &TIMEOUTS, report), report),
        keepalive: fields.read("keepalive", Some(KEEPALIVE_DEFAULT), report, keepalive),
    };
    (DraftListener { settings, place, bind_places, pool }, own_pool)
}

fn protocol(entry: &Entry, report: &mut Report) {
    if is_word(&entry.value, "udp") {
        report.tell(entry.value.place, "`protocol: udp`: this version balances tcp only");
    } else {
        word(entry, &[("tcp", ())], report);
    }
}

fn pool_choice(
    name: &str,
    place: Place,
    fields: &Fields<'_>,
    report: &mut Report,
) -> (PoolChoice, Option<DraftPool>) {
    let own_key = fields.any_of(&POOL);
    let Some(entry) = fields.get("pool") else {
        if own_key.is_some() {
            return (PoolChoice::Own, Some(pools::read(name, place, fields, true, report)));
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

fn timeouts(fields: &Fields<'_>, report: &mut Report) -> Timeouts {
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    Timeouts {
        idle: fields.duration_or_off("idle", None, QUIET_MIN..=QUIET_MAX, report),
        half_closed: fields.duration_or_off("half_closed", minutes(5), QUIET_MIN..=QUIET_MAX, report),
        lifetime: fields.duration_or_off("lifetime", None, SECOND..=LIFETIME_MAX, report),
        unacknowledged: fields.duration_or_off("unacknowledged", None, SECOND..=DAY, report),
    }
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
