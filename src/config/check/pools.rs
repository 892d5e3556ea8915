//! One pool: how it balances, dials and answers when nobody can serve.
//!
//! Pure. Looks at one pool alone.

use super::draft::DraftPool;
use super::section::Fields;
use super::values::{is_word, scalar, word};
use super::{backends, connect_from, health, names, policy};
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::{
    Balance, Connect, ConnectFrom, OnDown, Pool, Protocol, SOURCE_HASH as HASH_WORD, SendProxy, SourceHash,
    Word,
};
use crate::config::spec::{BALANCE, Kind, POOL, SOURCE_HASH};

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
            backends::Read::default()
        }
    };
    let backends::Read { backends, sources } = backends;
    let (backends, backend_places) = backends.into_iter().unzip();
    let (sources, source_places) = sources.into_iter().unzip();
    // What stands in `defaults` is for those it is for.
    let on_down = fields.get("on_down").and_then(|entry| {
        let place = Some(entry.value.place).filter(|_| !entry.is_default);
        Some((fields.word_or("on_down", &mut Report::default())?, place))
    });
    let on_removed = fields.get("on_removed").filter(|entry| !entry.is_default);
    let check_written = fields.section("health", &mut Report::default()).get("check").is_some();
    let settings = Pool { backends, sources, ..settings(name, fields, report) };
    policy::check_sense(fields, &settings, report);
    connect_from::check_families(fields, &settings.connect_from, &settings.backends, report);
    // An `off` asks for nothing that a datagram could not have.
    let asks = |entry: &&Entry| !is_word(&entry.value, "off");
    let for_tcp = fields.strangers(Protocol::Udp).filter(asks).filter_map(|entry| {
        let row = POOL.row(&entry.key, None)?;
        Some((row.name, entry.place))
    });
    let send_proxy_v1 = fields
        .get("send_proxy")
        .filter(|_| settings.send_proxy == SendProxy::V1)
        .map(|entry| Some(entry.value.place).filter(|_| !entry.is_default));
    DraftPool {
        settings,
        place,
        backend_places,
        source_places,
        own,
        check_written,
        for_tcp: for_tcp.collect(),
        send_proxy_v1,
        on_down,
        on_removed: on_removed.map(|entry| entry.value.place),
    }
}

/// What a pool says besides its backends.
pub(super) fn settings(name: &str, fields: &Fields<'_>, report: &mut Report) -> Pool {
    let connect = fields.section("connect", report);
    let health = fields.section("health", report);
    // Which word it is means something only when it is known who uses the pool.
    fields.word_or::<OnDown>("on_down", report);
    let send_proxy = fields.word_of("send_proxy", report);
    let from = fields.kind("connect_from");
    let from = fields.read("connect_from", report, |entry, report| connect_from::read(&from, entry, report));
    let kind = fields.kind("balance");
    let balance = fields.read("balance", report, |entry, report| balance(&kind, entry, report));
    Pool {
        name: name.to_owned(),
        balance: balance.unwrap_or(Balance::RoundRobin),
        backends: Vec::new(),
        sources: Vec::new(),
        discovery: names::discovery(&fields.section("discovery", report), report),
        connect: Connect {
            timeout: connect.duration("timeout", report),
            attempts: connect.whole("attempts", report),
            replay_first: connect.switch("replay_first", report),
        },
        connect_from: from.unwrap_or(ConnectFrom::Any),
        max_sessions: fields.whole_or("max_sessions", report),
        sticky: policy::sticky(fields, report),
        send_proxy,
        health: health::read(&health, send_proxy, report),
        passive: policy::passive(fields, report),
        slow_start: fields.duration_or("slow_start", report),
        // `auto`, until it is known who uses the pool.
        on_down: OnDown::Keep,
        on_removed: fields.word_of("on_removed", report),
        removed_grace: fields.duration_or("removed_grace", report),
        when_none: fields.word_of("when_none", report),
        refusal_text: refusal_text(fields, report),
        queue: policy::queue(fields, report),
        roles: policy::roles(&fields.section("roles", report), report),
    }
}

fn balance(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<Balance> {
    let Value::Map(choices) = &entry.value.value else {
        return match Balance::of_word(word(kind, entry, report)?) {
            Some(plain) => Some(plain),
            None => Some(source_hash(Fields::none(&SOURCE_HASH), report)),
        };
    };
    if let [choice] = &**choices
        && Balance::of_word(&choice.key).is_some()
    {
        let word = &choice.key;
        report.tell(choice.place, format!("`{word}` has no settings; write `balance: {word}`"));
        return None;
    }
    let fields = Fields::open(&entry.value, &BALANCE, report)?;
    if fields.is_empty() {
        report.tell(entry.value.place, "`balance` is an empty map; write one of its words");
    }
    Some(source_hash(fields.section(HASH_WORD, report), report))
}

fn source_hash(fields: Fields<'_>, report: &mut Report) -> Balance {
    Balance::SourceHash(SourceHash {
        key: fields.word_of("key", report),
        bounded_load: fields.factor_or("bounded_load", report),
        mask_v4: fields.whole("mask_v4", report),
        mask_v6: fields.whole("mask_v6", report),
    })
}

/// What players read: lines are theirs, other controls are not.
fn refusal_text(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    let (entry, kind) = (fields.get("refusal_text")?, fields.kind("refusal_text"));
    let expected = kind.expected().to_string();
    let text = scalar("refusal_text", &entry.value, &expected, report)?;
    let is_control = |c: char| c.is_control() && c != '\n';
    if text.is_empty() || text.chars().count() > kind.most() || text.contains(is_control) {
        report.tell(entry.value.place, format!("`refusal_text` must be {expected}"));
        return None;
    }
    Some(text.to_owned())
}
