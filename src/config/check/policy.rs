//! What a pool does when a backend is failing rather than dead, or full: `passive`, `sticky`, `queue`; and what `slow_start` and
//! `queue` need beside them.
//!
//! Pure. Looks at one pool alone.

use super::section::Fields;
use crate::config::mistake::Report;
use crate::config::settings::{Balance, Passive, Pool, Queue, Roles, Sticky, WhenNone};

/// What `passive` says; written or not.
pub(super) fn passive(fields: &Fields<'_>, report: &mut Report) -> Option<Passive> {
    fields.section_or_off("passive", report, |fields, report| Passive {
        failures: fields.whole("failures", report),
        empty: fields.whole_or("empty", report),
        silent: fields.duration_or("silent", report),
        slow: fields.factor_or("slow", report),
        eject: fields.duration("eject", report),
        max_ejected_percent: fields.percent("max_ejected", report),
    })
}

/// What `sticky` says.
pub(super) fn sticky(fields: &Fields<'_>, report: &mut Report) -> Option<Sticky> {
    fields.section_or_off("sticky", report, |fields, report| Sticky {
        lasts: fields.duration("for", report),
        entries: fields.whole("entries", report),
    })
}

/// What `queue` says.
pub(super) fn queue(fields: &Fields<'_>, report: &mut Report) -> Option<Queue> {
    fields.section_or_off("queue", report, |fields, report| Queue {
        sessions: fields.whole("sessions", report),
        timeout: fields.duration("timeout", report),
    })
}

/// What `roles` says.
pub(super) fn roles(fields: &Fields<'_>, report: &mut Report) -> Roles {
    Roles {
        contested: fields.word_of("contested", report),
        majority: fields.switch("majority", report),
        writers: fields.word_of("writers", report),
        leave: fields.word_of("leave", report),
        max_lag: fields.duration_or("max_lag", report),
        max_lag_bytes: fields.size_or("max_lag_bytes", report),
    }
}

/// What these keys and the rest of the pool do not do for each other.
pub(super) fn check_sense(fields: &Fields<'_>, pool: &Pool, report: &mut Report) {
    let why_not = match pool.balance {
        Balance::First => Some("`balance: first` does not look at weights"),
        Balance::SourceHash(_) => {
            Some("the table of `source_hash` does not change with time, so that balancers agree")
        }
        _ => None,
    };
    // What stands in `defaults` is for those it is for.
    let written = |key| fields.get(key).filter(|entry| !entry.is_default);
    if let (Some(why_not), Some(entry), Some(_)) = (why_not, written("slow_start"), pool.slow_start) {
        report.tell(entry.place, format!("`slow_start` does nothing here: {why_not}"));
    }
    let asks_nothing = pool.health.check.tells_roles() || pool.roles == Roles::DEFAULT;
    if let (Some(entry), false) = (written("roles"), asks_nothing) {
        report.tell_with_hint(
            entry.place,
            "`roles` does nothing here: the check of this pool tells no roles",
            ROLES_HINT,
        );
    }
    let limit = match (pool.roles.max_lag, pool.roles.max_lag_bytes) {
        (Some(_), _) => Some("max_lag"),
        (None, Some(_)) => Some("max_lag_bytes"),
        (None, None) => None,
    };
    if let (Some(entry), Some(key)) = (written("roles"), limit)
        && !pool.health.check.tells_positions()
    {
        report.tell_with_hint(
            entry.place,
            format!(
                "`{key}` does nothing here: the check of this pool does not tell how far its servers are"
            ),
            "`check: patroni` does, and `check: { postgres: ... }`",
        );
    }
    let counts = pool.health.check.tells_positions() && !pool.health.check.tells_bytes();
    if let (Some(entry), Some(_), true) = (written("roles"), pool.roles.max_lag_bytes, counts) {
        report.tell_with_hint(
            entry.place,
            "`max_lag_bytes` does nothing here: the check of this pool tells no bytes",
            "`max_lag` is a limit in time",
        );
    }
    if let (Some(entry), WhenNone::Wait, None) = (written("when_none"), pool.when_none, pool.queue) {
        report.tell_with_hint(
            entry.place,
            "`when_none: wait` needs `queue`: the line to wait in",
            "`queue: { sessions: 1000, timeout: 15s }`",
        );
    }
    let nobody_fills = pool.when_none != WhenNone::Wait
        && fields.get("max_sessions").is_none()
        && pool.backends.iter().all(|backend| backend.max_sessions.is_none())
        && pool.sources.iter().all(|source| source.max_sessions.is_none());
    if let (true, Some(entry), Some(_)) = (nobody_fills, written("queue"), pool.queue) {
        report.tell_with_hint(
            entry.place,
            "`queue` does nothing here: no backend of this pool can be full",
            "give the pool or its backends `max_sessions`, or the pool `when_none: wait`",
        );
    }
}

/// How to ask for roles.
pub(super) const ROLES_HINT: &str = "e.g. `check: { tcp: { send: 'PING\\r\\nROLE\\r\\n', expect: { primary: 'master', replica: 'slave' } } }`";
