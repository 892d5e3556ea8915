//! What a pool does when a backend is failing rather than dead, or full: `passive`, `slow_start`, `sticky`, `queue`.
//!
//! Pure. Looks at one pool alone.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys::{PASSIVE, QUEUE, STICKY, Section};
use super::section::{Fields, is_word, scalar};
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::{Balance, Passive, Pool, Queue, Sticky};

/// What `passive` says; written or not.
pub(super) fn passive(fields: &Fields<'_>, report: &mut Report) -> Option<Passive> {
    let fields = match fields.get("passive") {
        Some(entry) => {
            section_or_off(entry, &PASSIVE, "{ failures: 5, eject: 10s, max_ejected: 50% }", report)?
        }
        None => Fields::NONE,
    };
    Some(Passive {
        failures: fields.whole("failures", 5, 1..=1_000_000, report),
        eject: fields.duration("eject", Duration::from_secs(10), EJECT, report),
        max_ejected_percent: fields.read("max_ejected", 50, report, percent),
    })
}

/// What `sticky` says.
pub(super) fn sticky(fields: &Fields<'_>, report: &mut Report) -> Option<Sticky> {
    let entry = fields.get("sticky")?;
    let fields = section_or_off(entry, &STICKY, "{ for: 30m, entries: 100000 }", report)?;
    Some(Sticky {
        lasts: fields.duration("for", Duration::from_secs(1_800), STICKY_FOR, report),
        entries: fields.whole("entries", 100_000, 1..=10_000_000, report),
    })
}

/// What `queue` says.
pub(super) fn queue(fields: &Fields<'_>, report: &mut Report) -> Option<Queue> {
    let entry = fields.get("queue")?;
    let fields = section_or_off(entry, &QUEUE, "{ sessions: 1000, timeout: 5s }", report)?;
    Some(Queue {
        sessions: fields.whole("sessions", 1_000, 1..=1_000_000, report),
        timeout: fields.duration("timeout", Duration::from_secs(5), QUEUE_TIMEOUT, report),
    })
}

/// What `slow_start` says.
pub(super) fn slow_start(fields: &Fields<'_>, report: &mut Report) -> Option<Duration> {
    fields.duration_or_off("slow_start", None, SLOW_START, report)
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
    let nobody_fills = fields.get("max_sessions").is_none()
        && pool.backends.iter().all(|backend| backend.max_sessions.is_none());
    if let (true, Some(entry), Some(_)) = (nobody_fills, written("queue"), pool.queue) {
        report.tell_with_hint(
            entry.place,
            "`queue` does nothing here: no backend of this pool can be full",
            "give the pool or its backends `max_sessions`",
        );
    }
}

/// The map of a key that may also be `off`. `None`: it is, or was told to be wrong.
fn section_or_off<'a>(
    entry: &'a Entry,
    section: &Section,
    example: &str,
    report: &mut Report,
) -> Option<Fields<'a>> {
    if is_word(&entry.value, "off") {
        return None;
    }
    if let Value::Text(text) = &entry.value.value {
        let message =
            format!("`{}` must be `off` or a map like `{example}`, not {}", entry.key, quoted(text));
        report.tell(entry.value.place, message);
        return None;
    }
    Fields::open(&entry.value, section, report)
}

fn percent(entry: &Entry, report: &mut Report) -> Option<u8> {
    let expected = "a percentage from 0% to 100%";
    let text = scalar(&entry.key, &entry.value, expected, report)?;
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let percent = digits.and_then(|digits| digits.parse().ok()).filter(|percent| *percent <= 100);
    if percent.is_none() {
        report.tell(entry.value.place, format!("`{}` must be {expected}, not {}", entry.key, quoted(text)));
    }
    percent
}

const EJECT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
const STICKY_FOR: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
const QUEUE_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);
const SLOW_START: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
