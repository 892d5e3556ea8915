//! One pool: how it balances, dials and answers when nobody can serve.
//!
//! Pure. Looks at one pool alone.

use std::time::Duration;

use super::keys::{BALANCE, CONNECT, HEALTH, SOURCE_HASH};
use super::section::{Fields, is_word, scalar, word};
use super::{DraftPool, backends, connect_from, health, policy};
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::{
    Balance, Connect, ConnectFrom, HashKey, OnDown, Pool, SendProxy, SourceHash, WhenNone,
};

/// The pool that these fields describe; `own` when they stand in a listener.
pub(super) fn read(
    name: &str,
    place: Place,
    fields: &Fields<'_>,
    own: bool,
    report: &mut Report,
) -> DraftPool {
    let backends = match fields.get("backends") {
        Some(entry) => backends::read(entry, report),
        None => {
            let what = if own { "listener" } else { "pool" };
            report.tell(place, format!("the {what} {} needs `backends`", quoted(name)));
            Vec::new()
        }
    };
    let (backends, backend_places) = backends.into_iter().unzip();
    // What stands in `defaults` is for those it is for.
    let connect = fields.get("connect").filter(|entry| !entry.is_default).map(|entry| entry.place);
    let on_down = fields.get("on_down").and_then(|entry| {
        let place = Some(entry.value.place).filter(|_| !entry.is_default);
        Some((word(entry, &ON_DOWN, &mut Report::default())??, place))
    });
    let check_written = fields.section("health", &HEALTH, &mut Report::default()).get("check").is_some();
    let settings = Pool { backends, ..settings(name, fields, report) };
    policy::check_sense(fields, &settings, report);
    connect_from::check_families(fields, &settings.connect_from, &settings.backends, report);
    let queue = fields.get("queue").filter(|entry| !entry.is_default && settings.queue.is_some());
    let queue = queue.map(|entry| entry.place);
    let send_proxy_v1 = fields
        .get("send_proxy")
        .filter(|_| settings.send_proxy == SendProxy::V1)
        .map(|entry| Some(entry.value.place).filter(|_| !entry.is_default));
    DraftPool { settings, place, backend_places, own, check_written, connect, queue, send_proxy_v1, on_down }
}

/// What a pool says besides its backends.
pub(super) fn settings(name: &str, fields: &Fields<'_>, report: &mut Report) -> Pool {
    let connect = fields.section("connect", &CONNECT, report);
    let health = fields.section("health", &HEALTH, report);
    if let Some(entry) = fields.get("on_down") {
        word(entry, &ON_DOWN, report);
    }
    let send_proxy = fields.word("send_proxy", SendProxy::Off, &SEND_PROXY, report);
    Pool {
        name: name.to_owned(),
        balance: fields.read("balance", Balance::RoundRobin, report, balance),
        backends: Vec::new(),
        connect: Connect {
            timeout: connect.duration("timeout", Duration::from_secs(5), CONNECT_MIN..=CONNECT_MAX, report),
            attempts: connect.whole("attempts", 3, 1..=16, report),
        },
        connect_from: fields.read("connect_from", ConnectFrom::Any, report, connect_from::read),
        max_sessions: fields.whole_or("max_sessions", "off", 1..=u64::from(u32::MAX), report),
        sticky: policy::sticky(fields, report),
        send_proxy,
        health: health::read(&health, send_proxy, report),
        passive: policy::passive(fields, report),
        slow_start: policy::slow_start(fields, report),
        // `auto`, until it is known who uses the pool.
        on_down: OnDown::Keep,
        when_none: fields.word(
            "when_none",
            WhenNone::Reject,
            &[("reject", WhenNone::Reject), ("try_all", WhenNone::TryAll)],
            report,
        ),
        queue: policy::queue(fields, report),
    }
}

fn balance(entry: &Entry, report: &mut Report) -> Option<Balance> {
    let Value::Map(choices) = &entry.value.value else { return word(entry, &BALANCES, report) };
    if let [choice] = &**choices
        && let Some((word, _)) =
            BALANCES.iter().find(|(word, _)| *word == &*choice.key && *word != "source_hash")
    {
        report.tell(choice.place, format!("`{word}` has no settings; write `balance: {word}`"));
        return None;
    }
    let fields = Fields::open(&entry.value, &BALANCE, report)?;
    if fields.is_empty() {
        report.tell(entry.value.place, "`balance` is an empty map; write one of its words");
    }
    let hash = fields.section("source_hash", &SOURCE_HASH, report);
    let keys = [("source_ip", HashKey::SourceIp), ("source_ip_port", HashKey::SourceIpPort)];
    Some(Balance::SourceHash(SourceHash {
        key: hash.word("key", HASH_DEFAULT.key, &keys, report),
        bounded_load: hash.read("bounded_load", HASH_DEFAULT.bounded_load, report, bounded_load),
        mask_v4: hash.whole("mask_v4", HASH_DEFAULT.mask_v4, 0..=32, report),
        mask_v6: hash.whole("mask_v6", HASH_DEFAULT.mask_v6, 0..=128, report),
    }))
}

#[allow(clippy::option_option)] // None: told to be wrong. Some(None): off.
fn bounded_load(entry: &Entry, report: &mut Report) -> Option<Option<f64>> {
    if is_word(&entry.value, "off") {
        return Some(None);
    }
    let expected = "a number from 1.0 to 100, e.g. 1.25, or `off`";
    let text = scalar(&entry.key, &entry.value, expected, report)?;
    // Digits and a point: Rust's own reader would also take `inf` and `1e9`.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let factor = text.parse().ok().filter(|factor| digits && (1.0..=100.0).contains(factor));
    if factor.is_none() {
        report.tell(entry.value.place, format!("`bounded_load` must be {expected}, not {}", quoted(text)));
    }
    factor.map(Some)
}

const SEND_PROXY: [(&str, SendProxy); 3] =
    [("off", SendProxy::Off), ("v1", SendProxy::V1), ("v2", SendProxy::V2)];

/// `None`: as suits the protocol.
const ON_DOWN: [(&str, Option<OnDown>); 4] = [
    ("auto", None),
    ("keep", Some(OnDown::Keep)),
    ("close", Some(OnDown::Close)),
    ("rehome", Some(OnDown::Rehome)),
];

const HASH_DEFAULT: SourceHash =
    SourceHash { key: HashKey::SourceIp, bounded_load: None, mask_v4: 32, mask_v6: 64 };

const BALANCES: [(&str, Balance); 7] = [
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
    ("random", Balance::Random),
    ("two_choices", Balance::TwoChoices),
    ("least_latency", Balance::LeastLatency),
    ("first", Balance::First),
    ("source_hash", Balance::SourceHash(HASH_DEFAULT)),
];

const CONNECT_MIN: Duration = Duration::from_millis(10);
/// The kernel itself gives a connect up after about 127 s.
const CONNECT_MAX: Duration = Duration::from_secs(120);
